"""protocols.toml: what is written is read again, comments stay, and what is wrong is told with its line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.switches.boards import ALICE, BOB, CATALOGUE, PEER
from throughway.switches.position import OVERRIDES_MAX, Place, Position, Setting, Switches
from throughway.switches.reading import SwitchesRejected, read
from throughway.switches.writing import with_setting, without

OWN = """\
# What the boss said.
[switch]
openvpn = "off" # until March

[[override]]
# Her notebook.
protocol = "openvpn"
device = "10.0.0.2"
position = "on"
# The end.
"""

places = st.builds(Place.of, st.sampled_from([None, ALICE, BOB, "2001:db8::2"]), st.just(None)) | st.builds(
    Place.of, st.sampled_from([None, ALICE, BOB]), st.sampled_from([None, PEER])
)
changes = st.lists(
    st.tuples(st.sampled_from(["openvpn", "ipsec", "gre"]), places, st.sampled_from([None, Position.ON, Position.OFF])),
    max_size=12,
)


@given(changes, st.sampled_from(["", OWN]))
def test_what_is_written_is_read_again(wanted: list[tuple[str, Place, Position | None]], text: str) -> None:
    expected = {(one.name, one.place): one.position for one in read(text, "f", CATALOGUE)}
    for name, place, position in wanted:
        text = with_setting(text, name, position, place)
        expected.pop((name, place), None)
        if position is not None:
            expected[name, place] = position
        assert {(one.name, one.place): one.position for one in read(text, "f", CATALOGUE)} == expected
    for comment in ("# What the boss said.", "# until March"):
        is_own = "# What the boss said." in text
        assert not is_own or comment in text or ("openvpn", Place()) not in expected


def test_changing_one_line_leaves_the_others_as_they_are() -> None:
    changed = with_setting(OWN, "openvpn", Position.ON, Place())
    assert changed == OWN.replace('openvpn = "off" #', 'openvpn = "on" #')
    changed = with_setting(OWN, "openvpn", Position.OFF, Place.of(ALICE, None))
    assert changed == OWN.replace('position = "on"', 'position = "off"')


def test_a_name_goes_with_all_that_was_set_of_it() -> None:
    assert list(read(without(OWN, "openvpn"), "f", CATALOGUE)) == []


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('[switch]\nopnvpn = "off"', 2, "did you mean `openvpn`"),
        ("[switch]\nopenvpn = off", 2, "this is not TOML"),
        ('[switch]\nopenvpn = "of"', 2, "`unassisted`"),
        ("[switch]\n\nopenvpn = 1", 3, "quotation marks"),
        ('switch = "off"', 1, r"\[switch\]"),
        ('[switches]\nopenvpn = "off"', 1, "switch, override"),
        ('[override]\nprotocol = "gre"', 1, r"\[\[override\]\]"),
        ('override = [{ protocol = "gre", device = "10.0.0.2", position = "off" }]', 1, r"\[\[override\]\]"),
        ('[[override]]\ndevice = "10.0.0.2"\nposition = "off"', 1, "of which protocol"),
        ('[[override]]\nprotocol = "gre"\nposition = "off"', 1, "name a `device`"),
        ('[[override]]\nprotocol = "gre"\ndevice = "10.0.0"\nposition = "off"', 3, "no address"),
        ('[[override]]\nprotocol = "gre"\ndevice = 5\nposition = "off"', 3, "quotation marks"),
        ('[[override]]\nprotocol = "gre"\ndevice = "10.0.0.2"', 1, "use one of"),
        ('[[override]]\nprotocol = "gre"\ndevise = "10.0.0.2"\nposition = "off"', 3, "spelling"),
        ((OWN + '[[override]]\nprotocol = "openvpn"\ndevice = "10.0.0.2"\nposition = "off"\n'), 12, "set twice"),
        ('[[override]]\nprotocol = "esp"\npeer = "203.0.113.9"\nposition = "unassisted"', 2, "everybody only"),
    ],
)
def test_what_is_wrong_is_told_with_line_and_remedy(text: str, line: int, words: str) -> None:
    with pytest.raises(SwitchesRejected, match=words) as raised:
        read(text, "/etc/throughway/protocols.toml", CATALOGUE)
    assert raised.value.line == line
    assert str(raised.value).startswith(f"/etc/throughway/protocols.toml, line {line}")


def test_overrides_are_bounded() -> None:
    rows = "".join(
        f'[[override]]\nprotocol = "gre"\ndevice = "10.1.{n >> 8}.{n & 255}"\nposition = "off"\n'
        for n in range(OVERRIDES_MAX + 1)
    )
    with pytest.raises(SwitchesRejected, match=f"room for {OVERRIDES_MAX}"):
        read(rows, "f", CATALOGUE)


def test_one_place_holds_one_position() -> None:
    setting = Setting("gre", Position.OFF)
    with pytest.raises(ValueError, match="twice"):
        Switches((setting, Setting("gre", Position.ON)))
    assert Switches((setting,)).with_("gre", Position.ON).get("gre") is Position.ON
    assert Switches((setting,)).with_("gre", None).get("gre") is None
