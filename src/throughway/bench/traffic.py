"""Send frames through a router of the bench, and believe no figure before what arrived was compared."""

from throughway.bench import compare
from throughway.bench.ends import Burst, within
from throughway.bench.frames import Flag, Plan
from throughway.bench.routers import Bed, Router
from throughway.core.flows import Direction
from throughway.lab.errors import GaveUp
from throughway.lab.waiting import wait_until

FIRST_SPI = 0x10000
ARRIVES_WITHIN_S = 5.0


def burst(bed: Bed, router: Router, direction: Direction, frames: int, tunnels: int = 1) -> Burst:
    """Send frames of that many known tunnels of one host and one peer, and compare a sample of what arrived.

    Raises WrongAnswer.
    """
    plan = router.plan(direction, FIRST_SPI, tunnels)
    bed.ends.forget_samples()
    done, numbers = send(bed, router, direction, plan, frames)
    where = f"{router.kind}, {_word(direction)}"
    compare.count(where, done.sent, done.received)
    compare.compare(where, bed.ends.samples(), router.arriving(plan, direction), numbers)
    return done


def send(
    bed: Bed, router: Router, direction: Direction, plan: Plan, frames: int, *, batch: int = 64
) -> tuple[Burst, range]:
    """Send frames from the end that this direction begins at, and look at nothing."""
    is_out = direction is Direction.TO_PEER
    end, ifindex = (bed.inside, router.inside_index) if is_out else (bed.outside, router.outside_index)
    with within(end.path):
        return bed.ends.send(plan, ifindex, frames, batch=batch)


def open_tunnel(bed: Bed, router: Router) -> None:
    """Have the first frame pass both ways, so that the router knows the tunnel. Raises WrongAnswer when it does not."""
    for direction in (Direction.TO_PEER, Direction.TO_INSIDE):
        before = bed.ends.received()
        bed.ends.forget_samples()
        plan = router.plan(direction, FIRST_SPI, 1, flags=Flag.IN_ORDER)
        _, numbers = send(bed, router, direction, plan, 1)
        where = f"{router.kind}, first frame {_word(direction)}"
        try:
            wait_until(lambda before=before: bed.ends.received() > before, ARRIVES_WITHIN_S, where)  # type: ignore[misc]
        except GaveUp as lost:
            raise compare.WrongAnswer(str(lost)) from None
        compare.compare(where, bed.ends.samples(), router.arriving(plan, direction), numbers)


def _word(direction: Direction) -> str:
    return "to the peer" if direction is Direction.TO_PEER else "to the inside"
