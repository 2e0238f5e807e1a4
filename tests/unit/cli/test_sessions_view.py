"""The table of sessions at the widths that terminals have."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from tests.unit.control.serving import ESP, STOPPED
from throughway.cli.sessions_view import SessionsView
from throughway.control.schema import CarriedBy, Session, Verdict

CONTESTED = replace(
    ESP,
    id="contested",
    device="10.77.0.9",
    discriminators_to_peer=("0xdeadbeef", "0x11", "0x22"),
    verdict=Verdict.CONTESTED,
    candidates=3,
)
WAITING = replace(ESP, id="waiting", device="10.77.0.100", discriminators_to_inside=(), verdict=Verdict.WAITING)
TRACKED = replace(
    ESP,
    id="tracked",
    device="10.77.0.31",
    protocol="wireguard",
    discriminators_to_peer=("udp 51820",),
    discriminators_to_inside=("udp 51820",),
    verdict=Verdict.TRACKED,
    carried_by=CarriedBy.CONNTRACK,
)
REFUSED = replace(
    ESP,
    id="refused",
    device="10.77.0.12",
    protocol="gre",
    discriminators_to_peer=("no key",),
    discriminators_to_inside=(),
    verdict=Verdict.REFUSED,
    reason="The device 10.77.0.11 has GRE without a key with this peer. Give each tunnel a key of its own.",
)
ROUTER = replace(ESP, id="router", device="router")
ALL = (ESP, CONTESTED, WAITING, TRACKED, REFUSED, ROUTER)

WORST = replace(
    ESP,
    device="255.255.255.255",
    peer="255.255.255.255",
    packets_to_peer=999_900_000,
    packets_to_inside=999_900_000,
    bytes_to_peer=999 << 30,
    bytes_to_inside=999 << 30,
)


def shown(*sessions: Session, width: int, height: int | None = None, note: str = "", encoding: str = "utf-8") -> str:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Console(file=out, width=width, highlight=False).print(SessionsView("default", sessions, height, note))
    out.flush()
    buffer = out.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode(encoding)


def test_the_wide_table_has_one_line_a_session() -> None:
    assert shown(ESP, width=120) == (
        "Gateway default - 1 session of 1 device - 1 carrying data\n"
        "Device      Protocol  Peer          To peer     Packets  To inside   Packets  Step           State      Idle\n"
        + "─"
        * 108
        + "\n10.77.0.11  esp       203.0.113.20  0x1234abcd    1,204  0x9f00aa11    1,190  carrying data"
        "  ✓ certain    0s\n"
    )


def test_the_narrow_table_has_two_lines_a_session() -> None:
    lines = [line.rstrip() for line in shown(CONTESTED, width=80).splitlines()]
    assert lines[0] == "Gateway default - 1 session of 1 device - 1 contested"
    assert lines[-2:] == [
        "10.77.0.9       esp            0xdeadbeef +2   0x9f00aa11      ? contested (3)",
        "→ 203.0.113.20  carrying data  1,204, 1.2 MiB  1,190, 1.1 MiB  0s",
    ]


@pytest.mark.parametrize("width", [80, 100, 120, 140, 200])
@pytest.mark.parametrize("sessions", [ALL, (WORST,)], ids=["all", "worst"])
def test_no_line_is_wider_than_the_screen_and_no_value_is_cut(width: int, sessions: tuple[Session, ...]) -> None:
    text = shown(*sessions, width=width)
    assert max(map(len, text.splitlines())) <= width
    for session in sessions:
        assert session.device in text
        assert session.peer in text
        assert session.protocol in text
        assert f" {session.verdict}" in text


def test_verdicts_are_told_by_sign_and_word() -> None:
    text = shown(*ALL, width=140)
    for words in ("✓ certain", "? contested (3)", "… waiting", "= tracked", "✗ refused"):
        assert words in text


@pytest.mark.parametrize("width", [80, 140])
def test_below_the_table_is_why_a_session_was_refused_and_what_to_do(width: int) -> None:
    lines = shown(ESP, REFUSED, width=width).splitlines()
    assert " ".join(lines[-(200 // width) :]).endswith(f"10.77.0.12 gre 203.0.113.20: {REFUSED.reason}")


def test_reasons_leave_room_for_the_sessions_on_a_screen() -> None:
    many = [replace(REFUSED, id=str(number), device=f"10.77.1.{number}") for number in range(100)]
    lines = shown(*many, width=80, height=24).splitlines()
    assert len(lines) <= 23
    assert len([line for line in lines if "✗ refused" in line]) >= 6


def test_the_router_comes_first_and_addresses_are_in_their_order() -> None:
    lines = shown(*ALL, width=140).splitlines()[3:]
    devices = ["router", "10.77.0.9", "10.77.0.11", "10.77.0.12", "10.77.0.31", "10.77.0.100"]
    assert [line.split()[0] for line in lines[: len(devices)]] == devices


@pytest.mark.parametrize("width", [80, 140])
def test_a_terminal_of_ascii_gets_ascii(width: int) -> None:
    text = shown(*ALL, width=width, encoding="ascii")
    assert "+ certain" in text
    assert ". waiting" in text


@pytest.mark.parametrize("width", [80, 140])
def test_what_does_not_fit_on_the_screen_is_counted(width: int) -> None:
    many = [replace(ESP, id=str(number), device=f"10.77.1.{number}") for number in range(100)]
    text = shown(*many, width=width, height=24, note="Ctrl-C ends")
    lines = text.splitlines()
    assert len(lines) <= 23
    left_out = 100 - sum("10.77.1." in line for line in lines)
    assert lines[-1] == f"and {left_out} more: `throughway sessions` lists all"
    assert lines[0] == "Gateway default - 100 sessions of 100 devices - 100 carrying data - Ctrl-C ends"


@pytest.mark.parametrize("width", [80, 120])
def test_what_stopped_a_session_is_told_with_its_remedy(width: int) -> None:
    text = shown(ESP, STOPPED, width=width)
    assert "1 carrying data, 1 stopped" in text
    assert ("✗ ipsec.one-way" if width == 120 else "✗ stopped") in text
    assert "10.77.0.11 esp 203.0.113.20: 4 packets of ESP went" in text
    assert " ".join(text.split()).endswith("none came back. Switch on NAT traversal.")
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("width", [80, 120])
def test_session_that_ended_says_so_and_needs_no_remedy(width: int) -> None:
    text = shown(replace(STOPPED, ended="idle for 900 s"), width=width)
    assert "- ended" in text
    assert "Switch on" not in text


def test_without_sessions_the_summary_says_so() -> None:
    assert shown(width=80, note="Ctrl-C ends") == "Gateway default - no VPN passes at the moment - Ctrl-C ends\n"


@pytest.mark.parametrize("width", [80, 140])
def test_foreign_text_neither_steers_the_terminal_nor_is_markup(width: int) -> None:
    text = shown(replace(ESP, device="a\x1b[2J", protocol="[red]x[/]"), width=width)
    assert "\x1b" not in text
    assert "a?[2J" in text
    assert "[red]x[/]" in text


def test_the_address_that_the_peer_sees_is_shown_where_there_are_several() -> None:
    first, second = (replace(ESP, id=address, address=address) for address in ("192.0.2.2", "192.0.2.4"))
    assert " by " not in shown(first, first, width=160)
    both = shown(first, second, width=160)
    for one in (first, second):
        assert f"{one.peer} by {one.address}" in both
    narrow = shown(first, second, width=80)
    assert all(len(line) <= 80 for line in narrow.splitlines())
    assert " by " in narrow.replace("\n", " ")
    assert "192.0.2.4" in narrow
