"""Live detection: told once, by what the packets show, and within bounds."""

from collections.abc import Iterable
from errno import EBUSY, ENOMEM
from struct import pack

from tests.heads import TO_INSIDE, TO_PEER, Kernel, Seen
from tests.unit.detect.test_dtls import hello
from tests.unit.detect.test_ipsec import SA_INIT
from tests.unit.detect.test_wireguard import DISCO, INITIATION, RESPONSE
from tests.unit.detect.traffic import CLIENT, SERVER, SHIPPED, ipv4, noise, tcp, udp
from throughway.catalogue.catalogue import Catalogue
from throughway.catalogue.protocol import Pattern, Protocol, Recognise, Transport
from throughway.core.errors import KernelRefused
from throughway.core.ids import IpProtocol
from throughway.core.limits import Limits
from throughway.detect.structures import prefilters
from throughway.service.live import Live
from throughway.sessions.facts import Answered, Detected, Fact, FlowName
from throughway.wire.tcp import ACK, SYN

PPTP = pack("!HHIHH", 156, 1, 0x1A2B3C4D, 1, 0).ljust(156, b"\0")
CONNECTED = pack("!HHIHHHHB", 32, 1, 0x1A2B3C4D, 8, 0, 9, 5, 1).ljust(32, b"\0")
REFUSED = pack("!HHIHHHHB", 32, 1, 0x1A2B3C4D, 8, 0, 0, 5, 4).ljust(32, b"\0")
OWN = Protocol("own", "Own", "house", Recognise(Transport.UDP, (), (5555,), (), (Pattern(0, b"OWN!", b"\xff" * 4),)))


class Play:
    """A device and a peer that speak through a gateway, and what is told of it."""

    def __init__(self, limits: Limits | None = None, catalogue: Catalogue = SHIPPED) -> None:
        self.kernel = Kernel()
        self.live = Live(self.kernel, catalogue, limits or Limits())
        self.facts: list[Fact] = []

    def up(self, payload: bytes, port: int = 4444, source: int = 40000) -> "Play":
        return self._passes(Seen(1.0, ipv4(17, udp(source, port, payload)), TO_PEER))

    def down(self, payload: bytes, port: int = 4444, source: int = 40000) -> "Play":
        return self._passes(Seen(1.0, ipv4(17, udp(port, source, payload), SERVER, CLIENT), TO_INSIDE))

    def connects(self, port: int = 1723, source: int = 40000) -> "Play":
        self._passes(Seen(1.0, ipv4(6, tcp(source, port, 99, SYN, b"")), TO_PEER))
        return self._passes(Seen(1.0, ipv4(6, tcp(port, source, 499, SYN | ACK, b""), SERVER, CLIENT), TO_INSIDE))

    def says(self, payload: bytes, at: int = 0, port: int = 1723, source: int = 40000) -> "Play":
        return self._passes(Seen(1.0, ipv4(6, tcp(source, port, 100 + at, ACK, payload)), TO_PEER))

    def replies(self, payload: bytes, at: int = 0, port: int = 1723, source: int = 40000) -> "Play":
        segment = ipv4(6, tcp(port, source, 500 + at, ACK, payload), SERVER, CLIENT)
        return self._passes(Seen(1.0, segment, TO_INSIDE))

    def _passes(self, seen: Seen) -> "Play":
        self.kernel.passes(seen)
        self.live.read(self.facts.append)
        return self

    def told(self) -> list[Fact]:
        facts, self.facts = self.facts, []
        return facts

    def detected(self) -> list[str]:
        return [fact.protocol for fact in self.told() if isinstance(fact, Detected)]

    def flow(self, port: int = 4444, source: int = 40000, protocol: int = IpProtocol.UDP) -> FlowName:
        (fact,) = Play().up(INITIATION, port, source).told()
        assert isinstance(fact, Detected)
        return fact.flow._replace(protocol=protocol)


def test_a_handshake_is_told_with_its_flow_family_and_evidence() -> None:
    play = Play().up(INITIATION, 53)
    (fact,) = play.told()
    assert isinstance(fact, Detected)
    flow = fact.flow
    assert (flow.device.packed, flow.peer.packed, flow.protocol) == (CLIENT, SERVER, IpProtocol.UDP)
    assert (flow.source, flow.destination) == (40000, 53)
    assert (fact.protocol, fact.family, fact.confidence) == ("wireguard", "wireguard", 0.9)
    assert fact.evidence.startswith("WireGuard handshake initiation, 148 bytes")
    assert play.live.is_looked_at(flow)
    (answered,) = play.down(RESPONSE, 53).told()
    assert answered == Answered(flow, "handshake response")
    assert not play.live.is_looked_at(flow), "it is certain now"
    assert play.kernel.finished == {flow}
    assert play.up(INITIATION, 53).told() == []


def test_who_began_does_not_change_whose_flow_it_is() -> None:
    play = Play().down(INITIATION).up(RESPONSE)
    first, _ = play.told()
    assert isinstance(first, Detected)
    assert (first.flow.device.packed, first.flow.source, first.flow.destination) == (CLIENT, 40000, 4444)


def test_a_better_answer_is_told_and_a_weaker_one_is_not() -> None:
    assert Play().up(INITIATION).up(DISCO).detected() == ["wireguard", "tailscale"]
    assert Play().up(DISCO).up(INITIATION).detected() == ["tailscale"]


def test_a_connection_to_pptps_port_is_nothing_before_it_speaks() -> None:
    play = Play().connects()
    assert play.told() == []
    play.says(PPTP)
    assert play.detected() == ["pptp"]
    flow = play.flow(1723, protocol=IpProtocol.TCP)
    assert play.live.is_looked_at(flow), "what grants the call comes later"
    assert play.replies(REFUSED).told() == []
    assert play.replies(CONNECTED, len(REFUSED)).told() == [Answered(flow, "Outgoing-Call-Reply: connected")]
    assert play.replies(CONNECTED, len(REFUSED) + len(CONNECTED)).told() == []


def test_a_new_connection_of_the_same_ends_is_told_anew() -> None:
    play = Play().connects().says(PPTP).connects().says(PPTP)
    assert play.detected() == ["pptp", "pptp"]
    assert play.connects().says(b"GET / HTTP/1.1\r\nHost: example\r\n\r\n").told() == []


def test_dtls_beside_tls_names_both() -> None:
    play = Play().connects(443).says(b"\x16\x03\x01\x02\x00\x01" + noise(300), port=443)
    assert play.told() == []
    play.up(hello(noise(32), (0x002F,)), 443, 50000)
    names = {
        (fact.flow.protocol, fact.flow.source): fact.protocol for fact in play.told() if isinstance(fact, Detected)
    }
    assert names == {(IpProtocol.UDP, 50000): "anyconnect", (IpProtocol.TCP, 40000): "anyconnect"}
    assert Play().up(hello(noise(32), (0x002F,)), 443, 50000).told() == []


def test_what_was_forgotten_is_decided_anew() -> None:
    play = Play().up(INITIATION)
    assert play.detected() == ["wireguard"]
    play.live.forget(play.flow())
    assert not play.live.is_looked_at(play.flow())
    assert play.up(INITIATION).detected() == ["wireguard"]


def test_a_flow_that_the_kernel_has_forgotten_is_not_told_again() -> None:
    play = Play().up(SA_INIT, 500)
    assert play.detected() == ["ike"]
    play.kernel.use(prefilters(SHIPPED))
    assert play.up(SA_INIT, 500).told() == []


def test_another_catalogue_takes_over_while_flows_go_on() -> None:
    play = Play().up(b"OWN! and more", 5555).up(INITIATION, 53)
    assert play.detected() == ["wireguard"]
    play.live.use(Catalogue((*SHIPPED, OWN)))
    play.up(b"OWN! again", 5555)
    (fact,) = play.told()
    assert isinstance(fact, Detected)
    assert (fact.protocol, fact.family) == ("own", "house")
    assert play.up(INITIATION, 53).told() == [], "its name stands"
    play.live.use(SHIPPED)
    assert play.up(b"OWN! again", 5555).told() == []
    play.live.use(Catalogue((*SHIPPED, OWN)))
    assert play.up(b"OWN! again", 5555).detected() == ["own"]


def test_what_is_kept_is_bounded() -> None:
    play = Play(Limits(heads_looked_at_max=8, heads_named_max=16))
    for source in range(1, 100):
        play.up(INITIATION, source=source)
    assert len(play.detected()) == 99
    assert len(play.live._flows) == 8
    assert len(play.live._named) == 16
    assert not play.live.is_looked_at(play.flow(source=1))
    assert play.live.is_looked_at(play.flow(source=99))


def test_a_batch_is_bounded() -> None:
    play = Play(Limits(heads_per_read_max=3))
    for source in range(1, 6):
        play.kernel.passes(Seen(1.0, ipv4(17, udp(source, 53, INITIATION)), TO_PEER))
    assert [play.live.read(play.facts.append) for _ in range(3)] == [3, 2, 0]
    assert len(play.facts) == 5


def test_a_kernel_that_has_no_room_to_note_what_is_decided_ends_nothing() -> None:
    """Its table gives no entry where all processors want one at once; the flow's next packets are then copied too."""

    class Full(Kernel):
        def finish(self, keys: Iterable[bytes]) -> None:
            raise KernelRefused("batch to map head_flows", ENOMEM, "no entry")

        def forget(self, key: bytes) -> None:
            raise KernelRefused("deletion from map head_flows", EBUSY, "locked")

    play = Play()
    play.kernel = Full()
    play.live = Live(play.kernel, SHIPPED, Limits())
    play.up(INITIATION).down(RESPONSE).up(noise(200))
    (detected,) = (fact for fact in play.told() if isinstance(fact, Detected))
    play.live.forget(detected.flow)
