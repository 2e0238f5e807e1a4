"""A file becomes a protocol, or an error that names the line and says what to do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from throughway.catalogue.protocol import Carrier, Default, Pattern, Side, Transport
from throughway.catalogue.reading import ProtocolRejected, read

GOOD = """\
id = "acme"
name = "Acme VPN"
family = "acme"
sources = ["https://example.net/acme"]
quirks = ["One.", "Two."]

[recognise]
transport = "udp"
ports = [5555, 5556]

[[recognise.pattern]]
offset = 4
bytes = "1a20"
mask = "fff0"
size_min_bytes = 20
side = "initiator"

[nat]
carried_by = "masquerade"
needs = "A port mapping."

[timers]
idle_s = 300

[switch]
default = "off"

[[establishment]]
name = "hello"
seen = "the magic"
"""


def test_a_whole_file_is_read() -> None:
    protocol = read(GOOD, "acme.toml", ())
    assert (protocol.id, protocol.name, protocol.family) == ("acme", "Acme VPN", "acme")
    assert protocol.recognise.transport is Transport.UDP
    assert protocol.recognise.ports == (5555, 5556)
    assert protocol.recognise.patterns == (Pattern(4, b"\x1a\x20", b"\xff\xf0", 20, side=Side.INITIATOR),)
    assert protocol.recognise.patterns[0].bits == 12
    assert protocol.recognise.is_declared
    assert (protocol.nat.carried_by, protocol.timers.idle_s) == (Carrier.MASQUERADE, 300)
    assert protocol.switch.default is Default.OFF
    assert [step.name for step in protocol.establishment] == ["hello"]


def test_three_keys_and_a_table_are_enough() -> None:
    protocol = read('id = "acme"\nname = "Acme"\n[recognise]\ntransport = "ip"\nip_protocols = [99]\n', "a.toml", ())
    assert (protocol.family, protocol.switch.default) == ("acme", Default.ON)


@pytest.mark.parametrize(
    ("old", "new", "line", "remedy"),
    [
        ('id = "acme"', 'id = "Acme VPN"', 1, "small letters"),
        ('family = "acme"', 'family = "Acme VPNs"', 3, "small letters"),
        ('name = "Acme VPN"', "", 1, "give a text"),
        ('name = "Acme VPN"', "name = 5", 2, "give a text"),
        ('quirks = ["One.", "Two."]', 'quirks = "One."', 5, "list of texts"),
        ('transport = "udp"', 'transport = "sctp"', 8, "`ip`, `tcp`, `udp`"),
        ("ports = [5555, 5556]", "ports = [0]", 9, "from 1 to 65535"),
        ("ports = [5555, 5556]", "port = [5555]", 9, "mend its spelling"),
        ("ports = [5555, 5556]", "ip_protocols = [99]", 9, "remove it"),
        ("offset = 4", "offset = -1", 12, "from 0 to 1400"),
        ("offset = 4", "offset = true", 12, "whole number"),
        ('bytes = "1a20"', 'bytes = "1a2"', 13, "hexadecimal"),
        ('bytes = "1a20"', 'bytes = "1a2f"', 13, "`mask`"),
        ('bytes = "1a20"', "", 11, "bytes to look for"),
        ('mask = "fff0"', 'mask = "ff"', 14, "2 bytes"),
        ("size_min_bytes = 20", "size_max_bytes = 5", 15, "raise it"),
        ('side = "initiator"', 'side = "client"', 16, "`initiator`"),
        ('carried_by = "masquerade"', 'carried_by = "magic"', 19, "`tracker`"),
        ("idle_s = 300", "idle_s = 99999999", 23, "from 1 to"),
        ('default = "off"', "default = false", 26, "`unassisted`"),
        ('seen = "the magic"', "", 28, "give a text"),
        ("[timers]", "[timer]", 22, "mend its spelling"),
        ("offset = 4", "offset = ", 12, "not TOML"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_a_remedy(old: str, new: str, line: int, remedy: str) -> None:
    assert old in GOOD
    with pytest.raises(ProtocolRejected) as rejected:
        read(GOOD.replace(old, new), "acme.toml", ())
    assert rejected.value.line == line
    assert str(rejected.value).startswith(f"acme.toml, line {line}")
    assert remedy in rejected.value.remedy


@pytest.mark.parametrize(
    ("recognise", "remedy"),
    [
        ('transport = "udp"', "nothing to recognise it by"),
        ('transport = "ip"', "which IP protocols"),
        ('transport = "ip"\nip_protocols = [6]', "everything else"),
        ('transport = "ip"\nip_protocols = [99]\nports = [5]', "no ports"),
        ('transport = "udp"\nports = [5]\nstructures = ["acme"]', "those that are: `known`"),
    ],
)
def test_a_protocol_must_be_recognisable(recognise: str, remedy: str) -> None:
    with pytest.raises(ProtocolRejected) as rejected:
        read(f'id = "acme"\nname = "Acme"\n[recognise]\n{recognise}\n', "acme.toml", ("known",))
    assert remedy in rejected.value.remedy


@given(st.text(max_size=80), st.integers(0, 20))
def test_every_text_is_read_or_rejected(text: str, at: int) -> None:
    lines = GOOD.splitlines()
    broken = "\n".join([*lines[:at], text, *lines[at:]])
    try:
        read(broken, "acme.toml", ())
    except ProtocolRejected as rejected:
        assert 1 <= rejected.line <= broken.count("\n") + 2
