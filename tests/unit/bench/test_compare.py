"""What counts as a wrong answer, and that the frames are what a right one is compared with."""

from ipaddress import IPv4Address
from itertools import pairwise

import pytest

from throughway.bench.compare import WrongAnswer, compare, count
from throughway.bench.frames import FRAME_SIZE, STAMP, Flag, Plan
from throughway.wire import esp, ipv4

PLAN = Plan(
    link_source=bytes(6),
    link_destination=bytes(range(6)),
    source=IPv4Address("10.77.1.0"),
    destination=IPv4Address("198.18.0.1"),
    first_spi=0x10000,
    spis=1000,
    pairs=7,
    flags=Flag.VARY_SOURCE | Flag.VARY_DESTINATION,
)
NUMBERS = range(5, 50)


def arrived() -> list[bytes]:
    return [PLAN.frame(number) for number in NUMBERS]


def test_a_right_sample_passes() -> None:
    compare("here", arrived(), PLAN, NUMBERS)


@pytest.mark.parametrize("at", [at for at in range(FRAME_SIZE) if at not in range(STAMP.start, STAMP.stop)])
def test_one_wrong_bit_anywhere_is_a_wrong_answer(at: int) -> None:
    frames = arrived()
    frames[3] = bytes((*frames[3][:at], frames[3][at] ^ 1, *frames[3][at + 1 :]))
    with pytest.raises(WrongAnswer, match="here"):
        compare("here", frames, PLAN, NUMBERS)


def test_the_stamp_alone_may_be_anything() -> None:
    frames = [frame[: STAMP.start] + b"\xff" * 8 + frame[STAMP.stop :] for frame in arrived()]
    compare("here", frames, PLAN, NUMBERS)


def test_a_frame_of_an_earlier_burst_is_a_wrong_answer() -> None:
    with pytest.raises(WrongAnswer, match="not sent"):
        compare("here", [PLAN.frame(4)], PLAN, NUMBERS)


def test_no_frame_is_a_wrong_answer() -> None:
    with pytest.raises(WrongAnswer, match="no frame"):
        compare("here", [], PLAN, NUMBERS)


def test_frames_that_are_lost_or_doubled_are_a_wrong_answer() -> None:
    count("here", 1000, 1000)
    count("here", 1000, 990)
    for received in (1001, 970, 0):
        with pytest.raises(WrongAnswer, match=f"{received} arrived"):
            count("here", 1000, received)


def test_a_frame_is_esp_with_a_right_checksum() -> None:
    packet = ipv4.parse(PLAN.frame(11)[14:])
    assert packet is not None and packet.total_size == FRAME_SIZE - 14
    assert ipv4.checksum(PLAN.frame(11)[14:34]) == 0
    header = esp.parse(packet.payload)
    assert header is not None and (header.spi, header.sequence) == (0x10000 + PLAN.spi_number(11), 11)


def test_tunnels_are_scattered_over_all_of_them() -> None:
    met = [PLAN.spi_number(sequence) for sequence in range(20 * PLAN.spis)]
    assert set(met) == set(range(PLAN.spis))
    assert sum(abs(one - next_) == 1 for one, next_ in pairwise(met)) < len(met) / 100


def test_pairs_take_turns() -> None:
    in_order = Plan(**{name: getattr(PLAN, name) for name in PLAN.__slots__} | {"flags": Flag.IN_ORDER})
    assert [in_order.spi_number(sequence) for sequence in (0, 1, 999, 1000)] == [0, 1, 999, 0]
