"""A model world: hosts, peers and their security associations, with the truth of who owns what.

Packets go through the fake data plane, its questions to the tracker, the tracker's commands back. The
world knows the truth and lets the laws look on; it decides nothing by what the tracker believes.

    hosts --ESP, IKE--> FakeDataPlane --questions--> Tracker --commands--> FakeDataPlane --copies--> hosts
"""

import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from tests.properties import packets
from throughway.core.commands import (
    Command,
    FanOut,
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
from throughway.core.events import (
    AdoptedFlow,
    CountersRead,
    EspUnclaimed,
    Event,
    HostDisowned,
    IkeMessageSeen,
    MappingsAdopted,
    OutsideAddressesChanged,
    RefusalKind,
    TimerExpired,
    TracesRead,
)
from throughway.core.flows import FlowKey
from throughway.core.ids import Host, IpProtocol, Path, Peer, Spi, UdpPort
from throughway.core.kept_ports import PortSetting
from throughway.core.limits import Limits
from throughway.core.ports import Report
from throughway.core.tracker import Tracker
from throughway.dataplane.fake import FakeDataPlane
from throughway.service import hearing
from throughway.wire import ipv4

HOSTS = tuple(Host(IPv4Address(f"192.168.1.{n}")) for n in range(10, 14))
PEERS = tuple(Peer(IPv4Address(f"203.0.113.{n}")) for n in (9, 10))
OUTSIDE = IPv4Address("198.51.100.1")

Between = tuple[Host, Peer]
Tunnel = tuple[Host, Peer, Spi]
"""One SPI as it comes to one host."""


@dataclass(eq=False, slots=True)
class Sa:
    """One pair of security associations of a host. `sequence` is of what comes in; `is_gone` ends its use."""

    host: Host
    peer: Peer
    spi_to_peer: Spi
    spi_to_inside: Spi
    sequence: int = 0
    has_come_in: bool = False
    is_gone: bool = False

    @property
    def between(self) -> Between:
        """Who has it with whom."""
        return self.host, self.peer


class World:
    """Everything that happens, one step after another. `now` is monotonic seconds."""

    def __init__(self, limits: Limits | None = None, ports: Mapping[UdpPort, PortSetting] | None = None) -> None:
        self.limits = limits or Limits()
        self.ports = ports or {}
        self.now = 10_000.0
        self.tracker = Tracker(self.limits, self.ports)
        kept = [port for port, setting in self.ports.items() if setting is PortSetting.KEEP]
        self.plane = FakeDataPlane(self.limits, lambda: self.now, [OUTSIDE], kept)
        self.sas: list[Sa] = []
        self.talkative: set[Host] = set()
        """Hosts that answer what is not their own with ICMP; the others stay silent (RFC 4303 section 3.4.2)."""

        self.exchanged: set[Between] = set()
        """Who ever said anything to whom: what law 3 goes by."""
        self.expected: defaultdict[Tunnel, list[int]] = defaultdict(list)
        """The marks of what peers sent for a host, in order."""
        self.received: defaultdict[Tunnel, list[int]] = defaultdict(list)
        """The marks of what came to a host, whoever it was for, in order."""
        self.on_event: list[Callable[[Event], None]] = []
        self.on_command: list[Callable[[Command], None]] = []
        self.on_delivery: list[Callable[[Host, Peer, Spi], None]] = []
        self.on_clear_text: list[Callable[[Host, bytes], None]] = []
        """Told what is delivered of protocols that may carry clear text: all but ESP and IKE."""
        self.on_ike: list[Callable[[Host, bytes], None]] = []
        """Told what IKE is delivered, where its port is kept."""
        self.on_sent: list[Callable[[bytes], None]] = []
        """Told what leaves to the outside; may let more happen."""
        self.times_told = 1
        """How often each event is told. More than once is for law 6: IKE messages come again a little later, too."""

        self._told_ike: deque[tuple[float, Event]] = deque(maxlen=4)
        self._answers: list[Event] = []
        self._wakes: list[float] = []
        self._ike_sas: dict[Between, int] = {}
        self._numbers = Counter[str]()

    def number(self, of: str) -> int:
        """Count up from 1."""
        self._numbers[of] += 1
        return self._numbers[of]

    def add_sa(self, between: Between, spi_to_inside: int | None = None) -> Sa:
        """Let a host and a peer agree on an SA pair, without a word on the wire."""
        number = self.number("sa")
        inside = Spi(0x20000 + number if spi_to_inside is None else spi_to_inside)
        sa = Sa(*between, spi_to_peer=Spi(0x10000 + number), spi_to_inside=inside)
        self.sas.append(sa)
        return sa

    def say_ike(
        self,
        between: Between,
        exchange: tuple[int, int],
        message_id: int,
        directions: str,
        *,
        floated: bool = False,
        asked: str = "",
    ) -> None:
        """Let IKE messages pass: ">" from the host and "<" from the peer.

        The exchange was begun by the first one's sender, or by `asked`.
        """
        host, peer = between
        self.exchanged.add(between)
        for way in directions:
            from_host, is_response = way == ">", way != (asked or directions[0])
            flags = {"from_initiator": from_host, "is_response": is_response, "floated": floated}
            spi = self._ike_sas[between]
            if from_host:
                self.plane.from_inside(packets.ike(host, peer, spi, exchange, message_id, **flags))
            else:
                self.plane.from_kernel_nat(packets.ike(peer, host, spi, exchange, message_id, **flags))
        self.settle()

    def begin_ike_sa(self, between: Between, version: int = 2) -> None:
        """Begin a new IKE SA between them."""
        self._ike_sas[between] = 0x1CE00000000 + self.number("ike")
        self.say_ike(between, packets.V2_INIT if version == 2 else packets.V1_MAIN, 0, "><")

    def has_ike_sa(self, between: Between) -> bool:
        """Tell whether they have begun one."""
        return between in self._ike_sas

    def send_out(self, sa: Sa, sequence: int = 1) -> None:
        """Let the host send one packet."""
        self.exchanged.add(sa.between)
        self.plane.from_inside(packets.esp(sa.host, sa.peer, sa.spi_to_peer, sequence, self.number("packet")))
        self.settle()

    def come_in(self, sa: Sa, count: int = 1, *, is_asked: bool = True) -> None:
        """Let the peer send packets for the host; with `is_asked` false the daemon has not looked yet."""
        sa.has_come_in = True
        for _ in range(count):
            sa.sequence += 1
            mark = self.number("packet")
            self.expected[sa.host, sa.peer, sa.spi_to_inside].append(mark)
            self.plane.from_outside(packets.esp(sa.peer, OUTSIDE, sa.spi_to_inside, sa.sequence, mark))
        if is_asked:
            self.settle()

    def converse(self, sa: Sa, packets_in: int) -> None:
        """Let the peer send packets at uneven intervals, each of which the host answers 2 ms later, if it gets it."""
        for number in range(packets_in):
            self.now += 0.06 + 0.011 * (7 * number % 13)
            self.come_in(sa)
            if self.received[sa.host, sa.peer, sa.spi_to_inside][-1:] == [self._numbers["packet"]]:
                self.now += 0.002
                self.send_out(sa)
            if number % 4 == 3:
                self.read_traces()
        self.read_counters()
        self.settle()

    def send_portless(self, host: Host, peer: Peer, protocol: int, discriminator: int) -> None:
        """Let a host send one packet of a protocol without ports that is not ESP."""
        self.exchanged.add((host, peer))
        mark = self.number("packet")
        self.plane.from_inside(packets.portless(host, peer, protocol, discriminator, mark))
        self.settle()

    def come_portless(self, peer: Peer, protocol: int, discriminator: int) -> int:
        """Let a peer send one; return its mark."""
        mark = self.number("packet")
        self.plane.from_outside(packets.portless(peer, OUTSIDE, protocol, discriminator, mark))
        self.settle()
        return mark

    def say_l2tp(self, host: Host, peer: Peer, connection_id: int, message_type: int, ids: dict[int, int]) -> None:
        """Let a host send an L2TPv3 control message."""
        self.exchanged.add((host, peer))
        self.plane.from_inside(packets.l2tp_control(host, peer, connection_id, message_type, ids))
        self.settle()

    def hear_l2tp(self, peer: Peer, connection_id: int, message_type: int, ids: dict[int, int]) -> None:
        """Let a peer send an L2TPv3 control message to whoever has the connection ID."""
        self.plane.from_outside(packets.l2tp_control(peer, OUTSIDE, connection_id, message_type, ids))
        self.settle()

    def forge(self, peer: Peer, spi: Spi) -> None:
        """Let a packet come that belongs to nobody, past what the data plane would have stopped."""
        self.tell(EspUnclaimed(Path(peer), spi, 1))
        self.plane.from_outside(packets.esp(peer, OUTSIDE, spi, 1, self.number("packet")))
        self.settle()

    @property
    def next_wake_at(self) -> float:
        """When the tracker wants to be woken next."""
        return min(self._wakes, default=math.inf)

    def wait(self, seconds: float) -> None:
        """Let time pass, with counters read before every moment at which the tracker wants to be woken."""
        until = self.now + seconds
        while self._wakes and min(self._wakes) <= until:
            self.now = max(self.now, min(self._wakes))
            self._wakes = [wake for wake in self._wakes if wake > self.now]
            self.read_counters()
            self.tell(TimerExpired())
            self.settle()
        self.now = until
        self.read_traces()
        self.read_counters()
        self.settle()

    def read_counters(self) -> None:
        """Tell the counters of all mappings."""
        self.tell(CountersRead(tuple(flow.count for flow in self.plane.flows())))

    def read_traces(self) -> None:
        """Tell when packets of traced flows came, if there are any."""
        if traces := tuple(self.plane.traces()):
            self.tell(TracesRead(traces))

    def change_address(self) -> None:
        """Let the outside address go and come back."""
        self.tell(OutsideAddressesChanged((OUTSIDE,), (), ()))
        self.tell(OutsideAddressesChanged((), (OUTSIDE,), (0,)))

    def restart(self) -> None:
        """Kill the daemon and start it again over the tables that it left."""
        self.plane.forget_held()
        self.tracker = Tracker(self.limits, self.ports)
        self._wakes.clear()
        self._told_ike.clear()
        self.tell(MappingsAdopted(tuple(AdoptedFlow(f.count.key, f.hosts, f.count) for f in self.plane.flows())))
        self.settle()

    def settle(self) -> None:
        """Let the daemon catch up: IKE before questions, in order, until nothing is left to say."""
        self._deliver()
        while True:
            if self.plane.observed:
                self._hear(self.plane.observed.popleft())
            elif self.plane.punted:
                self._hear(self.plane.punted.popleft())
            elif self._answers:
                self.tell(self._answers.pop(0))
            elif self.plane.sent:
                packet = self.plane.sent.popleft()
                for observer in self.on_sent:
                    observer(packet)
            else:
                return

    def tell(self, event: Event) -> None:
        """Tell the tracker an event, and have its commands carried out."""
        for observer in self.on_event:
            observer(event)
        self._carry_out(self.tracker.handle(event, self.now))
        for _ in range(1, self.times_told):
            self._carry_out(self.tracker.handle(event, self.now))
            for _, again in [told for told in self._told_ike if told[0] == self.now]:
                self._carry_out(self.tracker.handle(again, self.now))
        if isinstance(event, IkeMessageSeen):
            self._told_ike.append((self.now, event))

    def mappings(self) -> dict[FlowKey, frozenset[Host]]:
        """Return what is installed."""
        return {flow.count.key: frozenset(flow.hosts) for flow in self.plane.flows()}

    def _carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            for observer in self.on_command:
                observer(command)
            match command:
                case InstallMapping(key, host):
                    self.plane.install(key, (host,))
                case FanOut(key, hosts):
                    self.plane.install(key, hosts)
                case RemoveMapping(key):
                    self.plane.remove(key)
                case Reinject(key):
                    self.plane.reinject(key)
                case Refuse(key, reason):
                    self.plane.refuse(key, reason)
                case WakeAt(at):
                    self._wakes.append(at)
                case Trace(key):
                    self.plane.trace(key)
                case Untrace(key):
                    self.plane.untrace(key)
                case Record() | KeepPort() | TranslatePort() | RememberPort():
                    pass
        self._deliver()

    def _deliver(self) -> None:
        while self.plane.delivered:
            delivery = self.plane.delivered.popleft()
            packet = ipv4.parse(delivery.packet)
            if packet is not None and packet.protocol not in (IpProtocol.ESP, IpProtocol.UDP):
                for watcher in self.on_clear_text:
                    watcher(delivery.host, delivery.packet)
            if packet is not None and packet.protocol == IpProtocol.UDP:
                for watcher in self.on_ike:
                    watcher(delivery.host, delivery.packet)
            if packet is None or packet.protocol != IpProtocol.ESP:
                continue
            spi, mark = packets.esp_mark(delivery.packet)
            peer = Peer(packet.source)
            for observer in self.on_delivery:
                observer(delivery.host, peer, Spi(spi))
            self.received[delivery.host, peer, Spi(spi)].append(mark)
            if delivery.host in self.talkative and not self._owns(delivery.host, peer, Spi(spi)):
                self._answers.append(HostDisowned(delivery.host, peer, Spi(spi), RefusalKind.INVALID_SPI))

    def _owns(self, host: Host, peer: Peer, spi: Spi) -> bool:
        return any(sa.between == (host, peer) and sa.spi_to_inside == spi and not sa.is_gone for sa in self.sas)

    def _hear(self, report: Report) -> None:
        event = hearing.event_of(report)
        assert event is not None, "everything here is what its protocol says"
        self.tell(event)
