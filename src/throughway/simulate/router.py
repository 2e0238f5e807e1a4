"""Throughway in the model: the daemon's tracker, with a data plane that does what the BPF programs do.

    (absent) --first packet--> waiting --verdict--> open
                                  \\--refusal--> refused --Limits.refused_s--> asked about again

Matching is exact: a flow is found once, when its SA is made. What the tracker is told reaches it `VERDICT_S` later,
and its commands take effect at once then.
"""

from typing import Final

from throughway.core.commands import (
    Command,
    FanOut,
    InstallMapping,
    Record,
    Refuse,
    Reinject,
    RemoveMapping,
    Trace,
    Untrace,
    WakeAt,
)
from throughway.core.events import (
    CountersRead,
    EspFromInside,
    EspUnclaimed,
    Event,
    FlowCount,
    FlowTrace,
    IkeMessageSeen,
    TimerExpired,
    TracesRead,
)
from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import Host, IpProtocol, Path, Peer, Spi
from throughway.core.limits import Limits
from throughway.core.tracker import Tracker
from throughway.simulate.flows import Flow, Packet, Sa
from throughway.simulate.tunnel import number_of
from throughway.simulate.wire import Wire

VERDICT_S: Final = 0.0005
"""From a packet at the router to the daemon's verdict about it."""

_PACKET_BYTES: Final = 150
"""The size that the counters tell; nothing depends on it."""

CALM_READS: Final = 10
"""The counters of a conversation that is counted, and goes to nobody but its owner, are told only at every tenth
reading: in between they would say that it goes on as before."""

REFUSED_IN_A_ROW: Final = 5
SELDOM_S: Final = 30.0
"""A flow that was refused so often in a row is asked about only so often, and its packets are counted as refused."""


class _Bucket:
    """New flows a second; the burst is the same number."""

    def __init__(self, rate: int) -> None:
        self._rate: Final = rate
        self._tokens = float(rate)
        self._at = 0.0

    def takes(self, now: float) -> bool:
        self._tokens = min(float(self._rate), self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class ThroughwayRouter:
    """Holds, asks, and does what the tracker says."""

    def __init__(self, wire: Wire, limits: Limits | None = None) -> None:
        self.limits: Final = limits or Limits()
        self.tracker: Final = Tracker(self.limits)
        self._wire: Final = wire
        self._agenda: Final = wire.agenda
        self._flows: Final[dict[FlowKey, Flow]] = {}
        self._open: Final[tuple[dict[Flow, None], ...]] = tuple({} for _ in range(CALM_READS))
        self._traced: Final[dict[Flow, None]] = {}
        self._are_traces_due = False
        self._buckets: Final[dict[Host | Peer, _Bucket]] = {}
        self._reads = 0
        self._agenda.at(self.limits.counters_every_s, self._read_counters)

    def flow_to_inside(self, peer: Peer, spi: Spi) -> Flow:
        """Find or make the flow of an SPI that comes from a peer."""
        return self._flow(FlowKey.to_inside(IpProtocol.ESP, Path(peer), spi))

    def flow_to_peer(self, host: Host, peer: Peer, spi: Spi) -> Flow:
        """Find or make the flow of an SPI that a host sends to a peer."""
        return self._flow(FlowKey.to_peer(IpProtocol.ESP, host, peer, spi))

    def _flow(self, key: FlowKey) -> Flow:
        flow = self._flows.get(key)
        if flow is None:
            flow = self._flows[key] = Flow(key)
        return flow

    # Packets

    def from_peer(self, packet: Packet) -> None:
        """Deliver a packet of a known flow to its hosts; hold one of an unknown flow and ask about it."""
        flow = packet.sa.inward
        if flow.hosts and flow.held is None:
            flow.count(packet.at)
            self._wire.delivered(packet, flow.hosts)
        else:
            peer = flow.key.peer
            self._miss(flow, packet, peer, EspUnclaimed(Path(peer), Spi(flow.key.discriminator), packet.sequence))

    def from_host(self, packet: Packet) -> None:
        """Send on a packet of a known flow; hold one of an unknown flow and ask about it."""
        flow = packet.sa.outward
        if flow.hosts and flow.held is None:
            flow.count(packet.at)
            self._wire.sent(packet)
        else:
            host = flow.key.host
            self._miss(
                flow, packet, host, EspFromInside(host, flow.key.peer, Spi(flow.key.discriminator), packet.sequence)
            )

    def _miss(self, flow: Flow, packet: Packet, asker: Host | Peer, question: Event) -> None:
        if flow.held is not None and len(flow.held) < self.limits.held_per_flow_max:
            flow.held.append(packet)
        elif flow.held is not None or packet.at < flow.refused_until or not self._may_ask(asker, flow):
            self._wire.dropped()
        else:
            flow.held = [packet]
            self._agenda.at(self._agenda.now + VERDICT_S, self._tell, question)

    def _may_ask(self, asker: Host | Peer, flow: Flow) -> bool:
        bucket = self._buckets.get(asker)
        if bucket is None:
            is_inward = flow.key.direction is Direction.TO_INSIDE
            rate = self.limits.punts_per_peer_rate if is_inward else self.limits.punts_per_host_rate
            bucket = self._buckets[asker] = _Bucket(rate)
        return bucket.takes(self._agenda.now)

    def saw_ike(self, message: IkeMessageSeen) -> None:
        """Hand a copy of an IKE header to the tracker."""
        self._agenda.at(self._agenda.now + VERDICT_S, self._tell, message)

    def over(self, sa: Sa) -> None:
        """Forget flows that no end uses any more, unless the tracker still has them."""
        for flow in (sa.inward, sa.outward):
            if not flow.users and not flow.hosts and flow.held is None:
                self._flows.pop(flow.key, None)

    # The tracker

    def _tell(self, event: Event) -> None:
        for command in self.tracker.handle(event, self._agenda.now):
            self._do(command)

    def _do(self, command: Command) -> None:
        match command:
            case InstallMapping(key, host):
                self._install(self._flow(key), (host,))
            case FanOut(key, hosts):
                self._install(self._flow(key), hosts)
            case Reinject(key):
                self._release(self._flow(key))
            case Refuse(key):
                self._refuse(self._flow(key))
            case RemoveMapping(key):
                self._remove(self._flow(key))
            case Trace(key):
                self._trace(self._flow(key))
            case Untrace(key):
                self._untrace(self._flow(key))
            case WakeAt(at):
                self._agenda.at(at, self._tell, TimerExpired())
            case Record():
                pass

    def _install(self, flow: Flow, hosts: tuple[Host, ...]) -> None:
        self._wire.before_change(flow)
        flow.hosts = tuple(number_of(host) for host in hosts)
        flow.is_settled, flow.refusals = flow.held is None, 0
        self._shelf(flow)[flow] = None
        if flow.key.direction is Direction.TO_INSIDE:
            self._wire.decided(flow)
        self._wire.after_change(flow)

    def _release(self, flow: Flow) -> None:
        held, flow.held = flow.held or [], None
        flow.is_settled = bool(flow.hosts)
        for packet in held:
            if not flow.hosts:
                self._wire.dropped()
                continue
            flow.count(packet.at)
            if flow.key.direction is Direction.TO_INSIDE:
                self._wire.delivered(packet, flow.hosts)
            else:
                self._wire.sent(packet)
        self._wire.after_change(flow)

    def _refuse(self, flow: Flow) -> None:
        self._wire.before_change(flow)
        self._wire.dropped(len(flow.held or ()))
        flow.held, flow.hosts = None, ()
        self._shelf(flow).pop(flow, None)
        flow.refusals += 1
        is_seldom = flow.refusals >= REFUSED_IN_A_ROW
        flow.refused_until = self._agenda.now + (SELDOM_S if is_seldom else self.limits.refused_s)
        flow.is_settled = is_seldom
        if is_seldom:
            self._agenda.at(flow.refused_until, self._ask_again, flow)
        self._wire.after_change(flow)

    def _ask_again(self, flow: Flow) -> None:
        self._wire.before_change(flow)
        flow.is_settled = bool(flow.hosts)
        self._wire.after_change(flow)

    def _remove(self, flow: Flow) -> None:
        self._wire.before_change(flow)
        flow.hosts, flow.is_settled = (), False
        self._shelf(flow).pop(flow, None)
        self._untrace(flow)
        if not flow.users and flow.held is None:
            self._flows.pop(flow.key, None)
        self._wire.after_change(flow)

    # Traces

    def _trace(self, flow: Flow) -> None:
        self._wire.before_change(flow)
        flow.trace(self.limits.trace_times_max, self.limits.trace_gap_s)
        self._traced[flow] = None
        self._appoint_traces()
        self._wire.after_change(flow)

    def _untrace(self, flow: Flow) -> None:
        if flow in self._traced:
            self._wire.before_change(flow)
            del self._traced[flow]
            flow.untrace()
            self._wire.after_change(flow)

    def _appoint_traces(self) -> None:
        if self._traced and not self._are_traces_due:
            self._are_traces_due = True
            self._agenda.at(self._agenda.now + self.limits.traces_every_s, self._read_traces)

    def _read_traces(self) -> None:
        self._are_traces_due = False
        self._appoint_traces()
        if self._traced:
            self._tell(TracesRead(tuple(FlowTrace(flow.key, tuple(flow.times or ())) for flow in self._traced)))

    # Counters

    def _read_counters(self) -> None:
        """Tell the counters: of flows in use by restless conversations always, of the others when it is their turn."""
        read = dict(self._open[self._reads % CALM_READS])
        self._reads += 1
        for talk in self._wire.restless:
            for tunnel in talk.tunnels:
                for sa in tunnel.sas:
                    read[sa.inward] = read[sa.outward] = None
        counts: list[FlowCount] = []
        for flow in read:
            if flow.hosts:
                self._wire.before_change(flow)
                counts.append(FlowCount(flow.key, flow.packets, flow.packets * _PACKET_BYTES, flow.last_at))
        self._agenda.at(self._agenda.now + self.limits.counters_every_s, self._read_counters)
        self._tell(CountersRead(tuple(counts)))

    def _shelf(self, flow: Flow) -> dict[Flow, None]:
        return self._open[flow.key.discriminator % CALM_READS]
