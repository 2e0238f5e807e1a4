from collections.abc import Iterable
from io import StringIO

import pytest
from rich.console import Console

from throughway.control.schema import CarriedBy, Session, Verdict
from throughway.lab.tunnel_table import Tunnel, table

DEVICE, OTHER_DEVICE = "10.77.0.101", "10.77.0.102"
SERVER = "198.51.100.101"

TUNNELS = [
    Tunnel("esp-native", DEVICE, SERVER, "up", "1234 of 1235"),
    Tunnel("pptp", OTHER_DEVICE, SERVER, "down", ""),
]


def session(
    protocol: str,
    device: str = DEVICE,
    *,
    to_peer: tuple[str, ...] = (),
    to_inside: tuple[str, ...] = (),
    verdict: Verdict = Verdict.TRACKED,
    packets: int = 0,
) -> Session:
    return Session(
        id=f"{protocol}-{device}-{packets}",
        device=device,
        protocol=protocol,
        peer=SERVER,
        discriminators_to_peer=to_peer,
        discriminators_to_inside=to_inside,
        verdict=verdict,
        candidates=3,
        packets_to_peer=packets,
        bytes_to_peer=0,
        packets_to_inside=0,
        bytes_to_inside=0,
        age_s=1.0,
        idle_s=0.0,
        carried_by=CarriedBy.BPF,
    )


TO_PEER = ("0xc1000001", "0xc1000002")
TO_INSIDE = ("0xd1000001", "0xd1000002")

SESSIONS = [
    session("ike", to_peer=("udp 500",), to_inside=("udp 500",), packets=9),
    session("esp", to_peer=TO_PEER, to_inside=TO_INSIDE, verdict=Verdict.CONTESTED),
    session("pptp-gre", OTHER_DEVICE, to_peer=("call 65408",), to_inside=("call 65409",)),
    session("pptp", OTHER_DEVICE, to_peer=("tcp 1723",), to_inside=("tcp 40001",), packets=9),
]


def lines_at(width: int, sessions: Iterable[Session] = SESSIONS) -> list[str]:
    text = StringIO()
    console = Console(file=text, width=width)
    console.print(table(TUNNELS, sessions, console))
    return text.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 100, 110, 120, 140, 200])
def test_each_tunnel_has_one_line_and_no_word_is_cut(width: int) -> None:
    lines = lines_at(width)
    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines)
    (heading,) = [line for line in lines if "device" in line]
    assert {"device", "peer", "protocol", "tunnel", "pings", "verdict"} <= set(heading.split())
    first, second = (line.split("  ") for line in lines if "10.77.0." in line)
    assert {word.strip() for word in first} >= {DEVICE, SERVER, "esp", "up", "1234 of 1235", "contested (3)"}
    assert {word.strip() for word in second} >= {OTHER_DEVICE, SERVER, "pptp-gre", "down", "tracked"}


def test_what_names_a_tunnel_is_shown_as_there_is_room() -> None:
    narrow, wide, full = ("\n".join(lines_at(width)) for width in (80, 110, 140))
    assert "0x" not in narrow
    assert "to inside" not in narrow
    assert " 0xc1000001 +1 " in wide
    assert " 0xd1000001 +1 " in wide
    assert " 0xc1000001, 0xc1000002 " in full
    assert " 0xd1000001, 0xd1000002 " in full


def test_a_tunnel_of_which_the_daemon_says_nothing_goes_by_its_scenario() -> None:
    (line,) = [line for line in lines_at(80, []) if DEVICE in line]
    assert " esp-native " in line
    assert line.split()[-1] == "-"


def test_where_several_sessions_carry_the_busiest_is_shown() -> None:
    (line,) = [
        line
        for line in lines_at(80, [session("openvpn", packets=1), session("wireguard", packets=5)])
        if DEVICE in line
    ]
    assert " wireguard " in line
