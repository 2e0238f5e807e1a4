"""Sessions told as stories: facts with the seconds at which they came."""

from ipaddress import IPv4Address

from throughway.core.events import IkeExchange
from throughway.core.ids import Host, IpProtocol, Peer
from throughway.sessions.diagnoses import Diagnosis
from throughway.sessions.facts import Counted, Detected, Fact, FlowName, Negotiated, OutsideAddresses, Traffic
from throughway.sessions.register import Entry, Register, Told

ALICE, BOB = (Host(IPv4Address(f"192.168.1.{n}")) for n in (10, 11))
PEER = Peer(IPv4Address("198.51.100.9"))
PUBLIC, PRIVATE = IPv4Address("203.0.113.7"), IPv4Address("10.4.0.2")


def udp(device: Host, port: int, source: int = 0) -> FlowName:
    return FlowName(device, PEER, IpProtocol.UDP, source or port, port)


def esp(device: Host) -> FlowName:
    return FlowName(device, PEER, IpProtocol.ESP)


class Story:
    """A register, and the clock that its facts move."""

    def __init__(self, outside: IPv4Address = PUBLIC) -> None:
        self.register = Register()
        self.now = 1000.0
        self.told: list[Told] = []
        self.tell(OutsideAddresses((outside,)))

    def tell(self, fact: Fact, after_s: float = 0.0) -> None:
        self.now += after_s
        self.told += self.register.handle(fact, self.now)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.told += self.register.judge(self.now)

    def detect(self, flow: FlowName, protocol: str, family: str) -> None:
        self.tell(Detected(flow, protocol, family, 0.9, f"{protocol} seen"))

    def count(self, flow: FlowName, out: int, back: int, size: int = 100) -> None:
        """Read counters: packets each way, each direction that has any having moved just now."""
        self.tell(
            Counted(
                flow,
                Traffic(out, out * size, self.now if out else None),
                Traffic(back, back * size, self.now if back else None),
                str(PUBLIC),
            )
        )

    def count_at(self, flow: FlowName, out: Traffic, back: Traffic) -> None:
        self.tell(Counted(flow, out, back, str(PUBLIC)))

    def ike(self, device: Host, exchange: IkeExchange, *, out: bool, size: int = 300, number: int = 0) -> None:
        self.tell(Negotiated(device, PEER, 0xA11CE, exchange, number, out, size))

    def entry(self, session_id: str) -> Entry:
        found = self.register.find(session_id)
        assert found is not None, [entry.session.id for entry in self.register.entries()]
        return found

    def diagnosis(self, session_id: str) -> Diagnosis | None:
        return self.entry(session_id).diagnosis

    def code(self, session_id: str) -> str:
        found = self.diagnosis(session_id)
        return found.code if found else ""
