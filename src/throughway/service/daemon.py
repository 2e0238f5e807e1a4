"""The daemon: joins the core, the kernel and the control socket, in one thread.

Start-up goes from what is refused most easily to what carries packets: the name is claimed, the
interfaces are looked up, the tables are loaded or adopted, the rules are laid, and last the programs
are attached. A stop undoes it in the opposite order, unless everything is to stay at work.
"""

import asyncio
import gc
import math
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Final

import structlog

from throughway.catalogue.catalogue import Catalogue
from throughway.control.schema import DownQuery, Status, StatusQuery
from throughway.control.server import ControlServer, Params
from throughway.core import discriminators
from throughway.core.commands import (
    Command,
    FanOut,
    ForgetPath,
    InstallMapping,
    KeepPort,
    Record,
    Refuse,
    Reinject,
    RememberPort,
    RemoveMapping,
    Trace,
    TranslatePort,
    Untrace,
    WakeAt,
)
from throughway.core.errors import KernelRefused
from throughway.core.events import (
    CountersRead,
    Event,
    MappingsAdopted,
    OutsideAddressesChanged,
    PathChosen,
    PortsRemembered,
    SwitchesSet,
    TimerExpired,
    TracesRead,
)
from throughway.core.limits import Limits
from throughway.core.ports import InstalledFlow
from throughway.core.reasons import Reason
from throughway.core.tracker import Tracker
from throughway.dataplane.adopt import Outcome
from throughway.service import hearing, pacing, state, telling
from throughway.service.asked import Asked
from throughway.service.book import Book
from throughway.service.gateway import Gateway
from throughway.service.listening import FactTeller, Listener
from throughway.service.live import Live
from throughway.service.options import Options
from throughway.service.own_tunnels import OwnTunnels
from throughway.service.remembered import RememberedPorts
from throughway.service.switching import Switching
from throughway.service.telling import Teller
from throughway.sessions.facts import Fact, FlowGone

log = structlog.get_logger()

FLOWS_SLICE: Final = 250
"""Mappings that are read at a time: about 3 ms."""


class Daemon:
    """One gateway, from `run` until it is stopped."""

    def __init__(self, options: Options, limits: Limits | None = None) -> None:
        self._options: Final = options
        self._limits: Final = limits or Limits()
        self._tracker: Final = Tracker(self._limits, options.ports)
        self._remembered: Final = RememberedPorts(options.ports_file, self._limits.kept_ports_max)
        self._stopping: Final = asyncio.Event()
        self._teller: Final = Teller()
        self._own_tunnels: Final = OwnTunnels(lambda event: self._handle(event, time.monotonic()))
        self._switching: Final = Switching(
            options.configuration,
            teller=self._teller,
            emit=self._tell_fact,
            withhold=lambda withheld: self._handle(SwitchesSet(withheld), time.monotonic()),
            name_by=self._name_by,
        )
        self._book: Final = Book(self._switching.board.catalogue, self._teller, self._tell_fact)
        self._listeners: Final[list[Listener]] = [
            FactTeller(self._teller, self._book.register),
            self._book,
            self._switching,
        ]
        self._started_at: Final = time.monotonic()
        self._keep = options.keep
        self._has_failed = False
        self._wake_timer: asyncio.TimerHandle | None = None
        self._pump_timer: asyncio.TimerHandle | None = None
        self._adopted = 0

    async def run(self) -> bool:
        """Carry packets until a signal (TERM, INT, HUP) or `down`; return whether one of them was the cause.

        False says that something failed which nobody foresaw: the log has it, and tunnels stay at work.
        Raises ThroughwayError when it cannot start.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stopping.set)
        asked = Asked(self._book, self._tracker, self._teller.happenings, self._read_all, lambda: self._gateway.slots)
        control = ControlServer(
            self._options.socket,
            {
                "status": self._answer_status,
                "down": self._answer_down,
                **asked.methods,
                **self._switching.methods,
            },
        )
        with control.claimed():
            async with Gateway.open(self._options, self._limits) as gateway:
                self._gateway = gateway
                self._live = Live(gateway.plane.heads, self._switching.board.catalogue, self._limits)
                self._recall()
                self._adopt()
                self._switching.begin(gateway, self._live)
                self._own_tunnels.begin(gateway.translated)
                gateway.carry(self._tracker.addresses.chosen())
                self._switching.block_again()
                telling.tell_started(self._options, gateway)
                try:
                    await self._serve(control)
                finally:
                    self._book.close()
                gateway.keep = kept = self._keep or self._has_failed
        log.info("gateway.stopped", kept=kept)
        return not self._has_failed

    async def _serve(self, control: ControlServer) -> None:
        try:
            with self._listening():
                async with asyncio.TaskGroup() as tasks:
                    running = [
                        tasks.create_task(control.serve(), name="control"),
                        tasks.create_task(self._gateway.follow(self._on_addresses), name="interfaces"),
                        tasks.create_task(self._gateway.flush_untranslated(), name="flows from before"),
                        tasks.create_task(self._own_tunnels.follow(), name="own tunnels"),
                        tasks.create_task(self._gateway.watch_rules(), name="rules"),
                        tasks.create_task(self._read_counters(), name="counters"),
                        tasks.create_task(self._read_traces(), name="traces"),
                        tasks.create_task(self._live.run(self._tell_fact), name="heads"),
                        tasks.create_task(self._gateway.flush_ports(), name="ports"),
                        tasks.create_task(self._book.judge(self._tracker.refusals), name="sessions"),
                        tasks.create_task(
                            self._book.follow(lambda: self._gateway.outside_addresses, self._on_reports),
                            name="tracked",
                        ),
                        tasks.create_task(self._switching.run(), name="switches"),
                    ]
                    await self._stopping.wait()
                    for task in running:
                        task.cancel()
        except* Exception as problems:
            self._fail("a task ended", problems)

    def _name_by(self, catalogue: Catalogue) -> None:
        self._live.use(catalogue)
        self._book.use(catalogue)

    # Packets and time

    @contextmanager
    def _listening(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._on_loop_failure)
        for descriptor in self._gateway.plane.filenos():
            loop.add_reader(descriptor, self._on_reports)
        try:
            yield
        finally:
            loop.set_exception_handler(None)
            self._stop_listening()

    def _stop_listening(self) -> None:
        """Let nothing more come in; after this the data plane may be closed."""
        loop = asyncio.get_running_loop()
        for descriptor in self._gateway.plane.filenos():
            loop.remove_reader(descriptor)
        for timer in (self._pump_timer, self._wake_timer):
            if timer is not None:
                timer.cancel()

    def _on_loop_failure(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        problem = context.get("exception")
        self._fail(str(context.get("message")), problem if isinstance(problem, Exception) else None)

    def _fail(self, what: str, problem: Exception | None) -> None:
        """Stop on what nobody caught: a daemon that goes on half alive is worse than one that is restarted."""
        log.error("daemon.failed", what=what, exc_info=problem)
        if not self._has_failed:
            self._has_failed = True
            self._stop_listening()
            self._stopping.set()

    def _on_reports(self) -> None:
        now = time.monotonic()
        for report in self._gateway.plane.read():
            self._book.on_report(report)
            event = hearing.event_of(report)
            if event is not None:
                self._handle(event, now)
        self._pump()

    def _pump(self) -> None:
        """Go on with what takes several steps in the data plane, and come back when it wants."""
        now = time.monotonic()
        wanted = self._gateway.plane.pump(now)
        if self._pump_timer is not None:
            self._pump_timer.cancel()
            self._pump_timer = None
        if wanted is not None and not self._has_failed:
            delay = max(0.0, wanted - now)
            self._pump_timer = asyncio.get_running_loop().call_later(delay, self._on_reports)

    def _handle(self, event: Event, now: float) -> None:
        if wanted := self._tracker.wanted_path(event):
            host, path = wanted
            chosen = PathChosen(host, self._gateway.settle_path(host, path))
            self._carry_out(self._tracker.handle(chosen, now))
        self._carry_out(self._tracker.handle(event, now))

    def _tell_fact(self, fact: Fact) -> None:
        now = time.monotonic()
        for listener in self._listeners:
            listener.on_fact(fact, now)
        if isinstance(fact, FlowGone):
            # What begins anew under its name may be something else.
            self._live.forget(fact.flow)

    def _carry_out(self, commands: Iterable[Command]) -> None:
        for command in commands:
            try:
                self._carry_out_one(command)
                self._book.on_command(command)
            except KernelRefused as problem:
                # One tunnel that the kernel has no room for must not end all others.
                self._teller.tell("command.failed", command=type(command).__name__, problem=str(problem))
                if isinstance(command, InstallMapping | FanOut):
                    self._carry_out([Refuse(command.key, Reason.REFUSED, "kernel.refused")])

    def _carry_out_one(self, command: Command) -> None:
        plane = self._gateway.plane
        match command:
            case InstallMapping(key, host, slot):
                plane.install(key, (host,), slot)
            case FanOut(key, hosts):
                plane.install(key, hosts)
            case Reinject(key):
                plane.reinject(key)
            case Refuse(key, reason, cause):
                plane.refuse(key, reason)
                protocol = discriminators.name_of(key.protocol, key.port)
                self._teller.tell("tunnel.refused", protocol=protocol, peer=str(key.peer), cause=cause)
            case RemoveMapping(key):
                plane.remove(key)
            case Trace(key):
                plane.trace(key)
            case Untrace(key):
                plane.untrace(key)
            case ForgetPath(host, path):
                is_last = not self._tracker.addresses.hosts_at(path)
                self._gateway.forget_path(host, path, is_last=is_last)
            case KeepPort(peer, port):
                self._gateway.keep_port(peer, port)
            case TranslatePort(peer, port):
                self._remembered.discard(peer, port)
                self._gateway.translate_port(peer, port)
            case RememberPort(peer, port):
                self._remembered.add(peer, port)
            case WakeAt(at):
                self._wake_timer = asyncio.get_running_loop().call_at(at, self._wake)
            case Record(name, fields):
                self._teller.tell(name, **fields)

    def _wake(self) -> None:
        self._handle_now(TimerExpired())

    async def _read_counters(self) -> None:
        """Read the counters of what was used since the last time, in slices, so that packets do not wait for them.

        What an earlier run left was read at the start.
        """
        since = self._started_at
        while True:
            began = time.monotonic()
            owed_s = await pacing.paced(self._gateway.plane.used_flows(since), self._read_piece)
            owed_s += await pacing.paced(self._tracker.ends_of_reading(), self._handle_now, burst_s=math.inf)
            owed_s += await pacing.paced(self._book.moved(self._gateway.slots), self._book.tell, burst_s=math.inf)
            since = began
            self._teller.tell_kept_back()
            left = self._limits.counters_every_s - (time.monotonic() - began)
            await asyncio.sleep(max(left, owed_s))

    def _read_piece(self, flows: tuple[InstalledFlow, ...]) -> None:
        if flows:
            self._handle(CountersRead(tuple(flow.count for flow in flows), is_last=False), time.monotonic())
            self._book.on_flows(flows)
            self._pump()

    def _handle_now(self, event: Event) -> None:
        self._handle(event, time.monotonic())
        self._pump()

    async def _read_traces(self) -> None:
        """Read when packets of contested flows came, while there are any."""
        while True:
            await asyncio.sleep(self._limits.traces_every_s)
            if traces := tuple(self._gateway.plane.traces()):
                self._handle_now(TracesRead(traces))

    # Restart, and the world changing

    def _recall(self) -> None:
        if entries := self._remembered.entries:
            self._handle(PortsRemembered(entries), time.monotonic())

    def _adopt(self) -> None:
        """Take over what an earlier run left.

        A million mappings are millions of objects, none of which is garbage. Looking for some among them doubled the
        time that this takes, and would keep packets waiting later.
        """
        gc.disable()
        try:
            self._take_over()
        finally:
            gc.enable()

    def _take_over(self) -> None:
        adoption = self._gateway.plane.adoption
        if adoption.outcome is Outcome.DISCARDED:
            log.warning("mappings.discarded", why=adoption.detail)
        flows = self._gateway.plane.adopted_flows()
        self._adopted = len(flows)
        if flows:
            log.info("mappings.adopted", count=len(flows))
            self._handle(MappingsAdopted(flows), time.monotonic())
            self._book.on_adopted(flows)
            gc.freeze()
        self._handle(self._gateway.addresses, time.monotonic())
        self._book.on_addresses(self._gateway.outside_addresses)

    def _on_addresses(self, change: OutsideAddressesChanged) -> None:
        self._handle(change, time.monotonic())
        self._book.on_addresses(change.new)
        self._own_tunnels.on_addresses(self._gateway.translated)
        try:
            self._gateway.lay_paths(self._tracker.addresses.chosen())
        except KernelRefused as problem:
            log.warning("paths.not_laid", problem=str(problem))

    # What is asked over the control socket

    async def _answer_status(self, params: Params) -> Status:
        StatusQuery.from_json(params)
        await self._gateway.judge_foreign_rules()
        return state.status(
            self._options,
            self._gateway,
            uptime_s=time.monotonic() - self._started_at,
            mappings=self._tracker.mapping_count,
            session_count=self._book.register.open_count,
            adopted=self._adopted,
            learned=self._tracker.ports_learned(),
            detected=self._live.detected,
        )

    async def _read_all(self) -> None:
        """Have the book of sessions as new as it can be, which costs as much as there are mappings."""
        flows = self._gateway.plane.flows()
        while piece := tuple(islice(flows, FLOWS_SLICE)):
            self._book.on_flows(piece)
            await asyncio.sleep(0)
        for facts in self._book.moved(self._gateway.slots):
            self._book.tell(facts)
            await asyncio.sleep(0)
        await self._book.read_tracked(self._gateway.outside_addresses, self._on_reports)
        self._book.on_refusals(self._tracker.refusals())

    async def _answer_down(self, params: Params) -> dict[str, object]:
        query = DownQuery.from_json(params)
        self._keep = query.keep
        self._stopping.set()
        return {}
