"""Protocols that a file describes: patterns, ports, IP protocols, and how sure each makes."""

import pytest

from tests.unit.detect.test_wireguard import INITIATION
from tests.unit.detect.traffic import Conversation, ipv4, noise
from throughway.catalogue.catalogue import Catalogue
from throughway.catalogue.reading import read
from throughway.catalogue_files import shipped
from throughway.detect.engine import Detector


def with_own(recognise: str) -> Catalogue:
    text = f'id = "acme"\nname = "Acme VPN"\n[recognise]\n{recognise}\n'
    return Catalogue.of([*shipped(), read(text, "acme.toml", ())])


MAGIC = """
transport = "udp"
ports = [5555]
[[recognise.pattern]]
offset = 2
bytes = "cafebabe"
size_min_bytes = 20
size_max_bytes = 100
side = "initiator"
"""


def test_a_pattern_of_32_bits_is_strong_on_any_port() -> None:
    for port in (5555, 6666):
        talk = Conversation(port, catalogue=with_own(MAGIC)).up(b"xx\xca\xfe\xba\xbe" + noise(30))
        assert talk.answer is not None
        assert (talk.answer.protocol, talk.answer.confidence) == ("acme", 0.9)
        assert talk.answer.evidence == f"Acme VPN, pattern cafebabe, udp {port}"


def test_a_pattern_is_looked_for_at_its_place_size_and_side() -> None:
    catalogue, magic = with_own(MAGIC), b"\xca\xfe\xba\xbe"
    assert Conversation(5555, catalogue=catalogue).up(b"xxx" + magic + noise(30)).protocol is None
    assert Conversation(5555, catalogue=catalogue).up(b"xx" + magic).protocol is None
    assert Conversation(5555, catalogue=catalogue).up(b"xx" + magic + noise(200)).protocol is None
    assert Conversation(5555, catalogue=catalogue).up(b"x").down(b"xx" + magic + noise(30)).protocol is None


def test_a_short_pattern_needs_its_port() -> None:
    catalogue = with_own('transport = "udp"\nports = [5555]\n[[recognise.pattern]]\nbytes = "a0"\nmask = "f0"')
    talk = Conversation(5555, catalogue=catalogue).up(b"\xab" + noise(30))
    assert talk.answer is not None
    assert talk.answer.confidence == 0.7
    assert Conversation(5556, catalogue=catalogue).up(b"\xab" + noise(30)).protocol is None
    assert Conversation(5555, catalogue=catalogue).up(b"\xbb" + noise(30)).protocol is None


def test_a_port_alone_is_what_the_operator_says_and_no_more() -> None:
    talk = Conversation(5555, catalogue=with_own('transport = "udp"\nports = [5555]')).up(noise(30))
    assert talk.answer is not None
    assert (talk.answer.protocol, talk.answer.confidence) == ("acme", 0.5)
    assert Conversation(5556, catalogue=with_own('transport = "udp"\nports = [5555]')).up(noise(30)).protocol is None


def test_structure_beats_a_declared_port() -> None:
    catalogue = with_own('transport = "udp"\nports = [5555]')
    assert Conversation(5555, catalogue=catalogue).up(INITIATION).protocol == "wireguard"


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_pattern_on_tcp_is_looked_for_in_the_stream(transport: str) -> None:
    catalogue = with_own(f'transport = "{transport}"\n[[recognise.pattern]]\nbytes = "cafebabe"')
    talk = Conversation(5555, catalogue=catalogue).says(b"\xca\xfe").says(b"\xba\xbe" + noise(30))
    assert talk.protocol == ("acme" if transport == "tcp" else None)


def test_an_ip_protocol_of_its_own() -> None:
    detector = Detector(with_own('transport = "ip"\nip_protocols = [99]'))
    flow = detector.on_packet(0.0, ipv4(99, noise(30)))
    assert flow is not None
    assert flow.answer is not None
    assert (flow.answer.protocol, flow.answer.evidence) == ("acme", "Acme VPN, by IP protocol 99 alone")
