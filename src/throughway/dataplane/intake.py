"""What comes out of the rings: packets are held, and what the tracker has to know is told, with questions in turn.

Packets are taken out of their ring much faster than they are decided about, so that the ring has room and nobody's
packet lies behind a flood. From then on they wait by flow (`held`), and the question about each flow by its sender
(`turns`).
"""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Final

from throughway.core.flows import FlowKey
from throughway.core.limits import Limits
from throughway.core.ports import Punted, Report
from throughway.core.reasons import Reason
from throughway.dataplane import abi
from throughway.dataplane.fragments import EarlyFragments
from throughway.dataplane.held import HeldPackets
from throughway.dataplane.libbpf_maps import BpfMap
from throughway.dataplane.records import ObservedRecord, PuntRecord
from throughway.dataplane.reports import report_of, with_checksum
from throughway.dataplane.ring import Ring
from throughway.dataplane.tables import Tables
from throughway.dataplane.turns import Turns

_OBSERVED_MAX: Final = 64
"""Records of what was observed that one call of `read` tells of: some milliseconds of the tracker's work."""

_PUNTS_MAX: Final = 256
"""Packets that one call of `read` takes out of the ring: some milliseconds."""

_QUESTIONS_MAX: Final = 8
"""Questions that one call of `read` tells: some 10 ms of the tracker's work, in which others wait."""

_SENDERS_SHARE: Final = 4
"""No sender has more than this part of the questions: the kernel gives none more (`SHARE_OF_FREE` in bpf/share.h)."""

_STALE_NS: Final = 1_000_000_000
"""A packet that waited longer than this in the ring, while no daemon ran, is not worth delivering."""


class Intake:
    """Reads both rings. What it drops is counted in `dropped`."""

    def __init__(
        self,
        maps: Mapping[str, BpfMap],
        tables: Tables,
        held: HeldPackets,
        early: EarlyFragments,
        dropped: Counter[Reason],
        limits: Limits,
    ) -> None:
        self._punts: Final = Ring(maps["punts"].fd, maps["punts"].max_entries)
        self._observed: Final = Ring(maps["observed"].fd, maps["observed"].max_entries)
        self._tables: Final = tables
        self._held: Final = held
        self._early: Final = early
        self._dropped: Final = dropped
        self._limits: Final = limits
        self._questions: Final = Turns(max(1, limits.pending_max // _SENDERS_SHARE))
        self._refused: dict[FlowKey, float] = {}
        self._refusals_end_at = 0.0
        self._stale_before_ns: Final = time.monotonic_ns() - _STALE_NS
        self.stale_records = 0
        """Ring entries of an earlier run that were discarded for their age."""

    def filenos(self) -> tuple[int, int]:
        """Give the descriptors that become readable when a ring has something."""
        return self._punts.fileno(), self._observed.fileno()

    def has_no_packets(self) -> bool:
        """Tell whether the kernel has handed over nothing that was not taken out of the ring."""
        return self._punts.is_empty()

    @property
    def has_questions(self) -> bool:
        """Whether `read` would tell more, though the rings may be empty."""
        return bool(self._questions)

    def read(self) -> list[Report]:
        """Take a bounded batch from the rings, and return what the tracker has to know, what was observed first."""
        now = time.monotonic()
        told: list[Report] = []
        for data in self._observed.read(_OBSERVED_MAX):
            seen = ObservedRecord.unpack(data)
            if seen.at_ns >= self._stale_before_ns:
                told.append(report_of(seen))
            else:
                self.stale_records += 1
        for data in self._punts.read(_PUNTS_MAX):
            punt = with_checksum(PuntRecord.unpack(data))
            if punt.at_ns < self._stale_before_ns:
                self.stale_records += 1
                self._dropped[Reason.HELD_TOO_LONG] += punt.kind in (abi.PuntKind.HELD, abi.PuntKind.FRAGMENT)
            elif punt.fragment is not None:
                self._take_fragment(punt, now)
            elif punt.kind is abi.PuntKind.COPY or self._is_news(punt, now):
                self._ask_in_turn(punt)
        return told + self._questions_due()

    def refuse(self, key: FlowKey, until: float) -> None:
        """Drop what still comes out of the ring of this flow, until a monotonic time."""
        self._refused[key] = until

    def refuse_no_more(self, key: FlowKey) -> None:
        """Forget that the flow was refused. Unknown keys are no error."""
        self._refused.pop(key, None)

    def forget_refusals(self, now: float) -> None:
        """Forget what is not refused any more, now and then."""
        if now >= self._refusals_end_at:
            self._refused = {key: until for key, until in self._refused.items() if until > now}
            self._refusals_end_at = now + self._limits.refused_s

    def close(self) -> None:
        """Give the rings back."""
        self._punts.close()
        self._observed.close()

    def _take_fragment(self, punt: PuntRecord, now: float) -> None:
        """Let a later fragment wait, or put back those whose first one has come."""
        if punt.fragment is None:
            return
        if punt.kind is abi.PuntKind.FRAGMENT:
            self._early.hold(punt.fragment, punt.frame, now)
        else:
            self._early.release(punt.fragment)

    def _is_news(self, punt: PuntRecord, now: float) -> bool:
        """Hold a packet, and tell whether its flow has to be asked about."""
        key = punt.key
        if key not in self._held:
            if self._refused.get(key, 0.0) > now:
                self._dropped[Reason.REFUSED] += 1
                return False
            if self._tables.is_installed(key):
                # Decided before its packet was read, or drained halfway by an earlier run: it goes on by itself.
                self._held.release(key, now)
            else:
                dropped = self._held.hold(key, punt.sequence, punt.frame, now)
                self._dropped[Reason.HOLD_FULL if key in self._held else Reason.PENDING_FULL] += dropped
                return key in self._held
        self._dropped[Reason.HOLD_FULL] += self._held.hold(key, punt.sequence, punt.frame, now)
        return False

    def _ask_in_turn(self, punt: PuntRecord) -> None:
        """Let the question about a flow wait for its sender's turn."""
        is_copy = punt.kind is abi.PuntKind.COPY
        is_waiting = self._questions.add(Punted(punt.key, punt.frame[punt.link_header_size :], is_copy, punt.slot))
        if not is_waiting and not is_copy:
            self._dropped[Reason.SHARE_FULL] += self._held.forget(punt.key)

    def _questions_due(self) -> list[Report]:
        """Take the next questions in turn, but those whose packets do not wait any more."""
        due: list[Report] = []
        while self._questions and len(due) < _QUESTIONS_MAX:
            question = self._questions.take()
            if question.is_copy or self._held.is_undecided(question.key):
                due.append(question)
        return due
