"""The operator's switches at work: what was set, what that blocks of what was detected, and what people ask and change.

on_fact      a flow was detected: blocked at once where its switch is off
change       a switch was set, a file came or went, by the socket or by hand: rules, mappings, flows and the
             catalogue of detection follow, in this order
run          looks each second whether somebody else has written the files, and what was tried in vain
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from throughway.catalogue.catalogue import Catalogue
from throughway.control.errors import ErrorCode, RequestRefused
from throughway.control.protocols_schema import AddQuery, Changed, Protocols, ProtocolsQuery, RemoveQuery, SwitchQuery
from throughway.control.server import Params, Query
from throughway.core.blocking import Withheld
from throughway.core.errors import KernelRefused, SettingsRejected
from throughway.core.ids import ROUTER
from throughway.policy.switches import SwitchRules
from throughway.service.gateway import Gateway
from throughway.service.live import Live
from throughway.service.telling import Teller
from throughway.sessions.facts import Admitted, Detected, Fact, FlowGone, FlowName, SwitchedOff
from throughway.switch_files import Loaded, SwitchFiles
from throughway.switch_rows import rows
from throughway.switches.board import Board
from throughway.switches.flows import Blocked, Change, KnownFlows, Lifted
from throughway.switches.position import Place, Position

log = structlog.get_logger()

LOOK_EVERY_S: Final = 1.0
SLICE: Final = 500
"""Flows that are compared with changed switches at a time: a few milliseconds."""

EXPIRED_EVERY_S: Final = 30.0

_T = TypeVar("_T")


class Switching:
    """One listener among others. `emit` is where its own facts go, `withhold` tells the tracker,
    `name_by` whoever names flows by the catalogue."""

    def __init__(
        self,
        folder: Path,
        *,
        teller: Teller,
        emit: Callable[[Fact], None],
        withhold: Callable[[Withheld], None],
        name_by: Callable[[Catalogue], None],
    ) -> None:
        self._files: Final = SwitchFiles(folder)
        self._teller: Final = teller
        self._emit: Final = emit
        self._withhold: Final = withhold
        self._name_by: Final = name_by
        self._known: Final = KnownFlows()
        self._tried: set[FlowName] = set()
        self._early: dict[FlowName, Detected] = {}
        """What was detected before the rules were laid, which is when it can be blocked."""
        self._is_laid = False
        self._is_behind = False
        """Whether rules or flows do not follow the switches yet, since the kernel refused or nobody waited for it."""
        self._problem = ""
        self._seen = self._files.signature()
        self._loaded = self._files.read()
        self._changing: Final = asyncio.Lock()
        self._gateway: Gateway | None = None
        self._live: Live | None = None

    @property
    def board(self) -> Board:
        """All switches as they are now."""
        return self._loaded.board

    @property
    def rules(self) -> SwitchRules:
        """What the packet filter is to have."""
        board = self.board
        return SwitchRules(
            board.blocking(), board.has_off_with_ports, board.without_helper(), board.withheld().unassisted
        )

    def begin(self, gateway: Gateway, live: Live) -> None:
        """Follow the switches from now on; the rules are laid with all others."""
        self._gateway, self._live = gateway, live
        gateway.lay_switches(self.rules)
        self._withhold(self.board.withheld())
        for flow, protocol in gateway.barrier.blocked().items():
            if known := self.board.catalogue.get(protocol):
                self._early[flow] = Detected(flow, known.id, known.family, 1.0, "an earlier run")

    def block_again(self) -> None:
        """Block what an earlier run has left, now that the rules are laid: what it had blocked, which may be in the
        middle of a conversation that nobody could recognise, and what it carried and is off by now.
        """
        self._is_laid = True
        early = iter(self._early.values())
        while piece := list(islice(early, SLICE)):
            self._act([change for fact in piece for change in self._known.on_detected(fact, self.board)])
        self._early = {}

    @property
    def methods(self) -> dict[str, Query]:
        """What answers on the control socket."""
        return {
            "protocols": self._answer_protocols,
            "switch": self._answer_switch,
            "protocol-add": self._answer_add,
            "protocol-remove": self._answer_remove,
        }

    # Facts

    def on_fact(self, fact: Fact, now: float) -> None:
        """Block what was detected and is off; forget what is gone."""
        match fact:
            case Detected(flow=flow) if flow.device == ROUTER:
                return
            case Detected(flow=flow) if not self._is_laid:
                self._early[flow] = fact
            case Detected():
                self._act(self._known.on_detected(fact, self.board))
            case FlowGone(flow=flow):
                self._known.on_gone(flow)

    def _act(self, changes: Iterable[Change]) -> tuple[int, int]:
        """Carry out changes, those of the packet filter first; return how many flows are blocked, and no more."""
        changes = list(changes)
        if not changes:
            return 0, 0
        blocked = [change for change in changes if isinstance(change, Blocked)]
        lifted = [change for change in changes if isinstance(change, Lifted)]
        if self._gateway is not None:
            self._gateway.barrier.block({change.flow: change.protocol for change in blocked})
            self._gateway.barrier.unblock([change.flow for change in lifted])
        for change in changes:
            if self._live is not None:
                self._live.forget(change.flow)
        for change in blocked:
            self._emit(SwitchedOff(change.flow, change.family, change.switch))
            if not change.is_again:
                self._teller.tell(
                    "flow.blocked",
                    protocol=change.protocol,
                    device=str(change.flow.device),
                    peer=str(change.flow.peer),
                    switch=change.switch,
                )
        for ended in lifted:
            self._emit(Admitted(ended.flow))
        return len(blocked), len(lifted)

    # Changes

    async def _change(self, loaded: Loaded) -> tuple[int, int]:
        """Have everything follow. Rules come first, so that nothing gets through while mappings are removed."""
        before, was = self._loaded.board, self._loaded
        self._loaded = loaded
        is_same = (before.catalogue, before.switches) == (self.board.catalogue, self.board.switches)
        if is_same and not self._is_behind:
            return 0, 0
        self._is_behind = True
        if self._gateway is not None:
            try:
                self._gateway.lay_switches(self.rules)
            except KernelRefused as problem:
                self._loaded = was
                if str(problem) != self._problem:
                    log.warning("switches.not_laid", problem=str(problem))
                self._problem = str(problem)
                raise RequestRefused(
                    ErrorCode.UNAVAILABLE, "the packet filter did not take the switches", str(problem)
                ) from None
        self._problem = ""
        self._withhold(self.board.withheld())
        if before.catalogue != self.board.catalogue:
            self._name_by(self.board.catalogue)
        self._tell_changes(before)
        blocked = lifted = 0
        names = iter(self._known.names())
        while piece := list(islice(names, SLICE)):
            more = self._act(self._known.rule_anew(piece, self.board))
            blocked, lifted = blocked + more[0], lifted + more[1]
            await asyncio.sleep(0)
        self._is_behind = False
        return blocked, lifted

    def _tell_changes(self, before: Board) -> None:
        """Tell people of each setting that differs; `default` where one was taken back."""
        was = {(one.name, one.place): one.position.value for one in before.switches}
        now = {(one.name, one.place): one.position.value for one in self.board.switches}
        for name, place in {**was, **now}:
            position = now.get((name, place), "default")
            if position != was.get((name, place), "default"):
                device, peer = str(place.device or "any"), str(place.peer or "any")
                self._teller.tell("switch.changed", switch=name, position=position, device=device, peer=peer)
        ids, known = self.board.catalogue.ids, before.catalogue.ids
        for identity in sorted(ids - known):
            self._teller.tell("protocol.added", protocol=identity)
        for identity in sorted(known - ids):
            self._teller.tell("protocol.removed", protocol=identity)

    # What is asked over the control socket

    async def _answer_protocols(self, params: Params) -> Protocols:
        ProtocolsQuery.from_json(params)
        return rows(self._loaded, self._files.folder, self._known.counts())

    async def _answer_switch(self, params: Params) -> Changed:
        query = SwitchQuery.from_json(params)
        position = Position(query.position.value) if query.position else None

        def write() -> Loaded:
            return self._files.set(query.name, position, Place.of(query.device, query.peer))

        return Changed(name=query.name, **await self._written(write, lambda loaded: loaded))

    async def _answer_add(self, params: Params) -> Changed:
        query = AddQuery.from_json(params)
        identity = ""

        def loaded_of(added: tuple[Any, Loaded]) -> Loaded:
            nonlocal identity
            identity = added[0].id
            return added[1]

        counts = await self._written(partial(self._files.add, query.text, query.file), loaded_of)
        return Changed(name=identity, **counts)

    async def _answer_remove(self, params: Params) -> Changed:
        query = RemoveQuery.from_json(params)
        return Changed(
            name=query.id, **await self._written(partial(self._files.remove, query.id), lambda loaded: loaded)
        )

    async def _written(self, write: Callable[[], _T], loaded_of: Callable[[_T], Loaded]) -> dict[str, int]:
        """Write, in a thread since disks may be slow, and have everything follow."""
        async with self._changing:
            try:
                loaded = loaded_of(await asyncio.to_thread(write))
            except SettingsRejected as problem:
                raise RequestRefused(ErrorCode.PARAMS, problem.key, problem.remedy) from None
            blocked, lifted = await self._change(loaded)
        return {"blocked": blocked, "lifted": lifted}

    # Time

    async def run(self) -> None:
        """Look at the files and at what was tried, until cancelled."""
        expired_at = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self._follow_files()
            if self.board.blocking():
                await self._look_for_tries()
            else:
                self._tried.clear()
            if time.monotonic() - expired_at >= EXPIRED_EVERY_S:
                expired_at = time.monotonic()
                await self._look_for_expired()

    async def _follow_files(self) -> None:
        """Read the files again where somebody has written them, or where not everything follows them yet.

        What cannot be taken is told, and nothing changes.
        """
        async with self._changing:
            seen = await asyncio.to_thread(self._files.signature)
            if seen == self._seen and not self._is_behind:
                return
            self._seen = seen
            try:
                await self._change(await asyncio.to_thread(self._files.read))
            except SettingsRejected as problem:
                log.warning("switches.rejected", file=problem.key, remedy=problem.remedy)
            except RequestRefused:
                return  # That the packet filter refuses is told already; it is asked again each second.

    async def _look_for_tries(self) -> None:
        """Tell of what has no ports and was blocked: it never came so far that it could be detected."""
        if self._gateway is None:
            return
        try:
            tried = await asyncio.to_thread(self._gateway.barrier.tried)
        except KernelRefused as problem:
            log.warning("switches.unreadable", problem=str(problem))
            return
        facts = [fact for flow in tried - self._tried if (fact := self._detected(flow))]
        self._act([change for fact in facts for change in self._known.on_detected(fact, self.board)])
        self._tried = tried

    def _detected(self, flow: FlowName) -> Detected | None:
        """Say what a blocked flow without ports is; where several protocols have its number, one that is off."""
        for protocol in self.board.catalogue:
            is_meant = flow.protocol in protocol.recognise.ip_protocols
            if is_meant and self.board.is_off(protocol.id, flow.device, flow.peer):
                return Detected(flow, protocol.id, protocol.family, 1.0, f"IP protocol {flow.protocol}")
        return None

    async def _look_for_expired(self) -> None:
        """Forget blocked flows that their devices have given up, so that they are looked at anew."""
        if self._gateway is None:
            return
        known = [flow for flow in self._known.names() if flow.source and self._known.is_blocked(flow)]
        try:
            blocked = await asyncio.to_thread(self._gateway.barrier.blocked) if known else {}
        except KernelRefused as problem:
            log.warning("switches.unreadable", problem=str(problem))
            return
        lifted = [self._known.on_expired(flow) for flow in known if flow not in blocked]
        self._act([change for change in lifted if change])
