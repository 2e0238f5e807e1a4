"""The flows that were detected, and which of them are blocked. Pure and bounded.

A flow stays known while it is blocked, whatever becomes of it in the kernel: when its switch is on again and off once
more, it may be in the middle of a conversation that nobody could recognise.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from throughway.core.ids import Host
from throughway.sessions.facts import Detected, FlowName
from throughway.switches.board import Board
from throughway.switches.position import Position

FLOWS_MAX: Final = 16_384
"""In total; the one that was detected first makes room."""

FLOWS_PER_DEVICE_MAX: Final = 4096
"""The same of one device, so that it can fill only its own share."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """The flow is to be blocked, since a switch says so: the ID of a protocol or family.

    `is_again` where it is blocked already, and no news to people.
    """

    flow: FlowName
    protocol: str
    family: str
    switch: str
    is_again: bool = False


@dataclass(frozen=True, slots=True)
class Lifted:
    """The flow is to be blocked no more."""

    flow: FlowName


Change = Blocked | Lifted


@dataclass(slots=True)
class _Known:
    protocol: str
    family: str
    blocked_by: str = ""


class KnownFlows:
    """Says what is to be blocked and what no more, whenever a flow is detected or the switches change."""

    def __init__(self, flows_max: int = FLOWS_MAX, per_device_max: int = FLOWS_PER_DEVICE_MAX) -> None:
        # A plain dict finds its first key ever more slowly when others before it were removed.
        self._flows: Final[OrderedDict[FlowName, _Known]] = OrderedDict()
        self._of_device: Final[dict[Host, dict[FlowName, None]]] = {}
        self._flows_max: Final = flows_max
        self._per_device_max: Final = per_device_max

    def names(self) -> list[FlowName]:
        """Return all flows, those that were detected first before the others."""
        return list(self._flows)

    def is_blocked(self, flow: FlowName) -> bool:
        """Whether a flow is blocked."""
        known = self._flows.get(flow)
        return known is not None and bool(known.blocked_by)

    def counts(self) -> dict[str, tuple[int, int]]:
        """Count by protocol how many flows are known, and how many of them are blocked."""
        counts: dict[str, tuple[int, int]] = {}
        for known in self._flows.values():
            seen, blocked = counts.get(known.protocol, (0, 0))
            counts[known.protocol] = seen + 1, blocked + bool(known.blocked_by)
        return counts

    def on_detected(self, fact: Detected, board: Board) -> list[Change]:
        """Take note of a flow. One that is blocked already is blocked again: its time may be over."""
        changes: list[Change] = []
        known = self._flows.get(fact.flow)
        if known is None:
            changes += self._make_room(fact.flow.device)
            known = self._flows[fact.flow] = _Known(fact.protocol, fact.family)
            self._of_device.setdefault(fact.flow.device, {})[fact.flow] = None
        known.protocol, known.family = fact.protocol, fact.family
        return [*changes, *self._rule(fact.flow, known, board, is_new=True)]

    def rule_anew(self, flows: Iterable[FlowName], board: Board) -> list[Change]:
        """Compare flows with the switches as they are now."""
        found = ((flow, self._flows.get(flow)) for flow in flows)
        return [change for flow, known in found if known for change in self._rule(flow, known, board, is_new=False)]

    def on_gone(self, flow: FlowName) -> None:
        """Forget a flow that the kernel has forgotten, unless it is blocked: then it was forgotten for that."""
        known = self._flows.get(flow)
        if known is not None and not known.blocked_by:
            self._drop(flow)

    def on_expired(self, flow: FlowName) -> Lifted | None:
        """Forget a blocked flow of which nothing came for as long as it stays blocked."""
        known = self._flows.get(flow)
        if known is None:
            return None
        self._drop(flow)
        return Lifted(flow) if known.blocked_by else None

    def _rule(self, flow: FlowName, known: _Known, board: Board, *, is_new: bool) -> Iterator[Change]:
        was = known.blocked_by
        if not board.has(known.protocol):
            known.blocked_by = ""
        else:
            ruling = board.ruling(known.protocol, flow.device, flow.peer)
            known.blocked_by = ruling.switch if ruling.position is Position.OFF else ""
        if known.blocked_by and (is_new or not was):
            yield Blocked(flow, known.protocol, known.family, known.blocked_by, is_again=bool(was))
        elif was and not known.blocked_by:
            yield Lifted(flow)

    def _make_room(self, device: Host) -> list[Change]:
        own = self._of_device.get(device, {})
        if len(own) >= self._per_device_max:
            oldest = next(iter(own))
        elif len(self._flows) >= self._flows_max:
            oldest = next(iter(self._flows))
        else:
            return []
        lifted = self.on_expired(oldest)
        return [lifted] if lifted else []

    def _drop(self, flow: FlowName) -> None:
        del self._flows[flow]
        own = self._of_device[flow.device]
        del own[flow]
        if not own:
            del self._of_device[flow.device]
