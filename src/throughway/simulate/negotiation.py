"""The times of IKE exchanges as a router sees them, with losses and retransmissions.

Nothing of this depends on what the router does with ESP, so an exchange is worked out in one go when it begins.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Final

from throughway.simulate.chances import between

TIMEOUTS_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Between the attempts of an end that gets no answer (RFC 7296 section 2.4 leaves them to the end)."""

_THINKING_S: Final = (0.001, 0.030)
"""An end's work for one message: key exchange, signatures."""


@dataclass(frozen=True, slots=True)
class Way:
    """From a host to its peer: round trips of both halves in seconds, with the share that each loses."""

    lan_s: float
    path_s: float
    lan_loss: float
    path_loss: float


@dataclass(slots=True)
class Timeline:
    """What the router sees, and when the ends are done. None where an end gave up."""

    seen: list[tuple[float, bool]] = field(default_factory=list)
    """Time at the router, and whether the message came from the host."""
    responder_at: float = 0.0
    """When who was asked had the last message of the other end."""
    initiator_at: float | None = None
    """When who asked had the last answer."""


class Negotiator:
    """Plays exchanges between one host and its peer."""

    def __init__(self, way: Way, chance: Random) -> None:
        self._way: Final = way
        self._chance: Final = chance

    def ask(self, at: float, from_host: bool) -> Timeline:
        """Play a request and its answer; the request is repeated until the answer is there."""
        timeline = Timeline()
        responder_at: float | None = None
        for timeout_s in TIMEOUTS_S:
            arrived = self._send(at, from_host, timeline)
            if arrived is not None:
                answered = arrived + between(self._chance, *_THINKING_S)
                responder_at = responder_at or answered
                back = self._send(answered, not from_host, timeline)
                if back is not None:
                    timeline.responder_at, timeline.initiator_at = responder_at, back
                    return timeline
            at += timeout_s
        timeline.responder_at = responder_at or at
        return timeline

    def confirm(self, timeline: Timeline, at: float, from_host: bool) -> None:
        """Add the last message of an IKEv1 Quick Mode (RFC 2409 section 5.5), sent at a time.

        Without it the responder repeats the answer before, and the initiator this one.
        """
        for timeout_s in TIMEOUTS_S:
            arrived = self._send(at, from_host, timeline)
            if arrived is not None:
                timeline.responder_at = arrived
                return
            repeated: float | None = None
            while repeated is None:
                at += timeout_s
                repeated = self._send(at, not from_host, timeline)
            at = repeated
        timeline.responder_at = at

    def tell(self, at: float, from_host: bool, times: int) -> Timeline:
        """Play a request that nobody answers any more, a number of times."""
        timeline = Timeline()
        for timeout_s in TIMEOUTS_S[:times]:
            self._send(at, from_host, timeline)
            at += timeout_s
        timeline.responder_at = at
        return timeline

    def _send(self, at: float, from_host: bool, timeline: Timeline) -> float | None:
        """Send one message; return when it arrives, None where it is lost. The router sees it if it comes so far."""
        way, chance = self._way, self._chance
        halves = [(way.lan_s / 2, way.lan_loss), (way.path_s / 2, way.path_loss)]
        (near_s, near_loss), (far_s, far_loss) = halves if from_host else reversed(halves)
        if chance.random() < near_loss:
            return None
        timeline.seen.append((at + near_s, from_host))
        if chance.random() < far_loss:
            return None
        return at + near_s + far_s
