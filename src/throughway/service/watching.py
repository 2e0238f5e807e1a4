"""The flows of VPNs that the kernel's connection tracking carries, from one reading to the next."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from ipaddress import IPv4Address

from throughway.core.tracked import TrackedFlow


class Watched:
    """A tracked flow, and when its counters were last seen to move: conntrack does not tell."""

    __slots__ = ("first_at", "flow", "moved_at")

    def __init__(self, flow: TrackedFlow, now: float) -> None:
        self.flow = flow
        self.moved_at = now
        self.first_at = now - (flow.age_s or 0.0)

    def look_again(self, flow: TrackedFlow, now: float) -> None:
        """Take the newer reading of the same flow."""
        if (flow.sent, flow.answered) != (self.flow.sent, self.flow.answered):
            self.moved_at = now
        self.flow = flow


class Watch:
    """Joins successive readings of conntrack's table. Holds what the last reading had, and no more."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], Watched] = {}

    def update(self, flows: Iterable[TrackedFlow], outside: Collection[IPv4Address], now: float) -> list[Watched]:
        """Take a reading, and return the flows that hosts began through an outside address."""
        seen: dict[tuple[object, ...], Watched] = {}
        for reading in flows:
            flow = _as_host_sees_it(reading, outside)
            if flow is None:
                continue
            key = (flow.protocol, flow.original)
            known = self._known.get(key)
            if known is None:
                known = Watched(flow, now)
            else:
                known.look_again(flow, now)
            seen[key] = known
        self._known = seen
        return list(seen.values())


def _as_host_sees_it(flow: TrackedFlow, outside: Collection[IPv4Address]) -> TrackedFlow | None:
    """Turn a flow so that `original` is what a host sends; None for what is not between a host and a peer.

    The GRE of a PPTP call is expected both ways, and often the server speaks first.
    """
    if flow.reply.destination in outside and flow.original.source not in outside:
        return flow
    if flow.is_expected and flow.original.destination in outside and flow.reply.source not in outside:
        return replace(
            flow, original=flow.reply, reply=flow.original, sent=flow.answered, answered=flow.sent, is_answered=True
        )
    return None
