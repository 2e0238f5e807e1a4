"""Switches in a running gateway: Off stops a protocol at once and says so to the device, and touches nothing else."""

import contextlib
import itertools
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.kernel.bpf_plane.net import Ear, Network, inside, ip_packet
from tests.kernel.daemon.conftest import MakeDaemon
from tests.kernel.daemon.net import ALICE, BOB, OUTSIDE, PEER, Ends, wait_for
from tests.kernel.daemon.process import BOTH, Daemon
from throughway.control.client import ControlClient
from throughway.control.errors import RequestRefused
from throughway.control.protocols_schema import Changed, Protocols
from throughway.core.ids import IpProtocol
from throughway.core.tracked import TrackedFlow
from throughway.dataplane.conntrack import Interest, tracked_flows
from throughway.protocols.cli import app

ICMP, GRE, IPIP = 1, 47, 4
UNREACHABLE, ADMIN_PROHIBITED = 3, 13
"""ICMP destination unreachable, and its code for what a filter forbids (RFC 1812 section 5.2.7.1)."""

ACME = """\
id = "acme"
name = "Acme VPN"

[recognise]
transport = "udp"
ports = [5555]

[[recognise.pattern]]
offset = 2
bytes = "cafebabe"
size_min_bytes = 20
side = "initiator"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "etc"


@pytest.fixture
def up(daemon: Daemon, folder: Path) -> Daemon:
    return daemon.up(*BOTH, "--configuration", str(folder))


def ask(method: str, **params: object) -> object:
    with ControlClient.of_gateway("default") as client:
        return client.request(method, params)


def switch(name: str, position: str | None, device: object = None, peer: object = None) -> Changed:
    params = {"device": device and str(device), "peer": peer and str(peer)}
    return Changed.from_json(ask("switch", name=name, position=position, **params))


def row(name: str) -> tuple[str, int | None, int | None]:
    """What a list of the protocols says of one: its position, its flows, and how many of them are blocked."""
    rows = Protocols.from_json(ask("protocols")).protocols
    return next((one.position.value, one.flows, one.blocked) for one in rows if one.id == name)


def prohibited(ear: Ear, protocol: int) -> int:
    """Count what a host was told: this protocol to the peer is administratively prohibited."""
    return sum(
        packet[20:22] == bytes([UNREACHABLE, ADMIN_PROHIBITED]) and packet[28 + 9] == protocol
        for packet in ear.collect()
    )


def tracked(net: Network, port: int) -> list[TrackedFlow]:
    """Read what the router's connection tracking has of UDP to this port."""
    with inside(net.router):
        return list(tracked_flows([Interest(IpProtocol.UDP, port)]))


@contextlib.contextmanager
def ear(namespace: str, protocol: int) -> Iterator[Ear]:
    with contextlib.closing(Ear(namespace, protocol)) as made:
        yield made


class Talk:
    """A UDP conversation of a host with the peer, each packet answered by its echo."""

    def __init__(self, stack: contextlib.ExitStack, net: Network, namespace: str, port: int) -> None:
        with inside(net.peer):
            self.there = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        with inside(namespace):
            self.here = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.there.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.there.bind((str(PEER), port))
        self.here.connect((str(PEER), port))
        self.here.settimeout(1)
        self.there.settimeout(1)

    def passes(self, payload: bytes) -> bool:
        """Send a packet, and tell whether its echo comes back. What was told of an earlier one counts as no."""
        try:
            self.here.send(payload)
            got, source = self.there.recvfrom(4096)
            self.there.sendto(got, source)
            return self.here.recv(4096) == payload
        except OSError:
            return False

    def refusal(self) -> int | None:
        """Send until the network says no, and return the errno; ICMP is limited to some a second."""
        found: int | None = None

        def is_told() -> bool:
            nonlocal found
            try:
                self.here.send(b"x" * 40)
                self.here.settimeout(0.05)
                self.here.recv(4096)
            except TimeoutError:
                return False
            except OSError as error:
                found = error.errno
                return True
            return False

        wait_for("the device is told", is_told)
        self.here.settimeout(1)
        return found


def test_off_stops_esp_at_once_and_tells_the_device_and_nobody_else_notices(
    up: Daemon, ends: Ends, net: Network
) -> None:
    """Both known tunnels and new ones; GRE beside them goes on; On brings the tunnels back as they were."""
    ends.begin(ALICE, 0xA1)
    ends.agree(ALICE, 0xA1)
    ends.both_ways(ALICE, 0x1001, 0x2001, range(1, 9))
    gre = [ip_packet(ALICE, PEER, GRE, b"\0\0\x08\0" + bytes([number]) * 40, number) for number in range(1, 200)]
    with ear(net.alice, ICMP) as told, ear(net.peer, GRE) as heard:
        for packet in gre[:50]:
            ends.alice.send(packet)
        wait_for("GRE passes", lambda: len(heard.collect()) == 50)
        switch("esp", "off")
        assert up.lines("switch.changed")
        assert up.status().mappings == 2, "those of GRE are left"
        for packet in gre[50:]:
            ends.alice.send(packet)
        ends.alice.send_esp(ALICE, PEER, 0x1001, range(9, 20))
        ends.alice.send_esp(ALICE, PEER, 0x1099, range(1, 5))
        ends.peer.send_esp(PEER, OUTSIDE, 0x2001, range(9, 20))
        wait_for("the device is told", lambda: prohibited(told, 50) > 0)
        wait_for("all of GRE passes", lambda: len(heard.collect()) == len(gre))
        assert ends.peer.sequences(0x1001) == list(range(1, 9))
        assert ends.peer.sequences(0x1099) == []
        assert ends.alice.sequences(0x2001) == list(range(1, 9))
        assert prohibited(told, GRE) == 0
        wait_for("the try is seen", lambda: row("esp") == ("off", 1, 1))
        assert "switch=esp" in up.lines("flow.blocked")[0]
    switch("esp", "on")
    # What came from the peer meanwhile was refused, which lasts for a second.
    sequences = itertools.count(1000)

    def come_back() -> bool:
        number = next(sequences)
        ends.alice.send_esp(ALICE, PEER, 0x1001, range(number, number + 1))
        ends.peer.send_esp(PEER, OUTSIDE, 0x2001, range(number, number + 1))
        return len(ends.alice.sequences(0x2001)) > 8

    wait_for("the tunnel is back", come_back)
    assert row("esp")[0] == "on"


def test_switch_of_one_device_leaves_the_other_alone(up: Daemon, ends: Ends, net: Network) -> None:
    for host, spi in ((ALICE, 1), (BOB, 2)):
        ends.begin(host, spi)
        ends.agree(host, spi)
        ends.both_ways(host, 0x1000 + spi, 0x2000 + spi, range(1, 9))
    switch("ipsec", "off", BOB)
    with ear(net.bob, ICMP) as told:
        ends.bob.send_esp(BOB, PEER, 0x1002, range(9, 12))
        wait_for("bob is told", lambda: prohibited(told, 50) > 0)
    ends.both_ways(ALICE, 0x1001, 0x2001, range(9, 30))
    assert ends.peer.sequences(0x1002) == list(range(1, 9))
    switch("ipsec", "on", BOB, PEER)
    ends.both_ways(BOB, 0x1002, 0x2002, range(12, 20))


def test_an_operators_protocol_is_added_detected_and_switched_without_a_restart(
    up: Daemon, net: Network, folder: Path
) -> None:
    payload = b"\1\2\xca\xfe\xba\xbe" + bytes(30)
    with contextlib.ExitStack() as stack:
        acme, other = Talk(stack, net, net.alice, 5555), Talk(stack, net, net.alice, 5556)
        assert acme.passes(b"before it is known")
        assert ask("protocol-add", text=ACME, file="acme.toml") == {"name": "acme", "blocked": 0, "lifted": 0}
        assert (folder / "protocols.d" / "acme.toml").read_text() == ACME
        fresh = Talk(stack, net, net.bob, 5555)
        acme.there.close()
        assert fresh.passes(payload)
        wait_for("it is detected", lambda: row("acme") == ("on", 1, 0))
        assert other.passes(b"other")

        assert {flow.original.source for flow in tracked(net, 5555)} == {ALICE, BOB}
        assert switch("acme", "off").blocked == 1
        assert {flow.original.source for flow in tracked(net, 5555)} == {ALICE}, "what is blocked is forgotten"
        assert not fresh.passes(payload)
        assert fresh.refusal() == 113, "no route to host, as Linux words ICMP administratively prohibited"
        assert other.passes(b"other")
        assert row("acme") == ("off", 1, 1)

        assert switch("acme", "on").lifted == 1
        wait_for("it passes again", lambda: fresh.passes(b"in the middle of its conversation"))

        assert switch("acme", "off").blocked == 1, "it is known, though nothing in its packets tells any more"
        assert not fresh.passes(b"in the middle of its conversation")
        assert ask("protocol-remove", id="acme") == {"name": "acme", "blocked": 0, "lifted": 1}
        wait_for("it is no VPN any more", lambda: fresh.passes(payload))
        assert "acme" not in (folder / "protocols.toml").read_text()
    with pytest.raises(RequestRefused, match="comes with Throughway"):
        ask("protocol-remove", id="esp")


def test_files_that_somebody_writes_are_followed_and_wrong_ones_change_nothing(
    up: Daemon, ends: Ends, net: Network, folder: Path
) -> None:
    folder.mkdir(exist_ok=True)
    file = folder / "protocols.toml"
    file.write_text('[switch]\ngre = "off"\n')
    wait_for("it is read", lambda: row("gre")[0] == "off")
    file.write_text('[switch]\ngree = "off"\n')
    wait_for("it is refused", lambda: bool(up.lines("switches.rejected")))
    assert "line 2" in up.lines("switches.rejected")[0]
    assert "did you mean `gre`" in up.lines("switches.rejected")[0]
    assert row("gre")[0] == "off"
    with pytest.raises(RequestRefused, match="line 2"):
        switch("gre", "on")


def test_what_is_off_is_so_from_the_start_and_after_a_crash(
    make_daemon: MakeDaemon, ends: Ends, net: Network, folder: Path
) -> None:
    """Mappings of a run before the switch was set are not taken over."""
    first = make_daemon().up(*BOTH, "--configuration", str(folder))
    ends.begin(ALICE, 0xA1)
    ends.agree(ALICE, 0xA1)
    ends.both_ways(ALICE, 0x1001, 0x2001, range(1, 9))
    first.kill()
    folder.mkdir(exist_ok=True)
    (folder / "protocols.toml").write_text('[switch]\nesp = "off"\n')
    second = make_daemon().up(*BOTH, "--configuration", str(folder))
    assert second.status().mappings == 0
    with ear(net.alice, ICMP) as told:
        ends.alice.send_esp(ALICE, PEER, 0x1001, range(9, 12))
        wait_for("the device is told", lambda: prohibited(told, 50) > 0)
    assert ends.peer.sequences(0x1001) == list(range(1, 9))
    second.kill()
    with ear(net.alice, ICMP) as told:
        ends.alice.send_esp(ALICE, PEER, 0x1001, range(12, 15))
        wait_for("it is told without a daemon, too", lambda: prohibited(told, 50) > 0)


def test_a_blocked_flow_stays_so_when_the_daemon_was_killed_and_comes_back(
    make_daemon: MakeDaemon, net: Network, folder: Path
) -> None:
    """It is in the middle of its conversation, and nothing in its packets tells what it is."""
    (folder / "protocols.d").mkdir(parents=True)
    (folder / "protocols.d" / "acme.toml").write_text(ACME)
    options = (*BOTH, "--configuration", str(folder))
    first = make_daemon().up(*options)
    with contextlib.ExitStack() as stack:
        acme = Talk(stack, net, net.alice, 5555)
        assert acme.passes(b"\1\2\xca\xfe\xba\xbe" + bytes(30))
        wait_for("it is detected", lambda: row("acme") == ("on", 1, 0))
        assert switch("acme", "off").blocked == 1
        first.kill()
        assert not acme.passes(b"x")
        make_daemon().up(*options)
        assert not acme.passes(b"x")
        assert row("acme") == ("off", 1, 1)
        assert switch("acme", "on").lifted == 1
        wait_for("it passes again", lambda: acme.passes(b"x"))


def test_what_the_packet_filter_refused_is_told_and_follows_as_soon_as_it_can(up: Daemon, net: Network) -> None:
    def nft(*words: str, text: str = "") -> str:
        command = ["ip", "netns", "exec", net.router, "nft", *words]
        return subprocess.run(command, input=text, check=True, capture_output=True, text=True).stdout

    table = nft("list", "table", "inet", "throughway")
    nft("delete", "table", "inet", "throughway")
    for _ in range(2):
        with pytest.raises(RequestRefused, match="did not take the switches"):
            switch("esp", "off")
        assert row("esp")[0] == "on", "what holds is shown, and not what was wished"
    nft("-f", "-", text=table)
    wait_for("it follows", lambda: row("esp")[0] == "off")
    assert "admin-prohibited" in nft("list", "chain", "inet", "throughway", "switched_off")
    assert "esp" in nft("list", "chain", "inet", "throughway", "switches")


def test_unassisted_esp_is_the_plain_kernels_and_comes_back_to_us(up: Daemon, ends: Ends, net: Network) -> None:
    """Connection tracking masquerades it by its addresses alone; nothing leaves with an inside address."""
    ends.begin(ALICE, 0xA1)
    ends.agree(ALICE, 0xA1)
    ends.both_ways(ALICE, 0x1001, 0x2001, range(1, 9))
    switch("esp", "unassisted")
    assert up.status().mappings == 0
    ends.both_ways(ALICE, 0x1001, 0x2001, range(9, 30))
    assert up.status().mappings == 0, "it is not ours"
    switch("esp", "on")
    ends.both_ways(ALICE, 0x1001, 0x2001, range(30, 50))
    assert up.status().mappings == 2
    assert {each.source for each in ends.peer.collect()} == {OUTSIDE}


def test_a_connection_is_reset(up: Daemon, net: Network) -> None:
    """PPTP's control connection, known by its magic cookie on another port than its own (RFC 2637 section 2.1)."""
    request = (
        struct.pack("!HHIHH", 156, 1, 0x1A2B3C4D, 1, 0) + struct.pack("!HHIIHH", 0x100, 0, 1, 1, 0, 0) + bytes(128)
    )
    with contextlib.ExitStack() as stack:
        with inside(net.peer):
            server = stack.enter_context(socket.create_server((str(PEER), 1999)))
        with inside(net.alice):
            pptp = stack.enter_context(socket.create_connection((str(PEER), 1999), timeout=5))
            web = stack.enter_context(socket.create_connection((str(PEER), 1999), timeout=5))
        accepted = [stack.enter_context(server.accept()[0]) for _ in range(2)]
        pptp.send(request)
        web.send(b"GET / HTTP/1.1\r\n\r\n")
        assert [len(one.recv(4096)) for one in accepted] == [156, 18]
        wait_for("it is detected", lambda: row("pptp") == ("on", 1, 0))
        assert switch("pptp", "off").blocked == 1

        def is_reset() -> bool:
            try:
                pptp.send(b"x")
            except ConnectionError:
                return True
            return False

        wait_for("it is reset", is_reset)
        web.send(b"more")
        assert accepted[1].recv(4096) == b"more"


def test_the_command_line_speaks_to_the_daemon_that_runs(
    up: Daemon, net: Network, folder: Path, tmp_path: Path
) -> None:
    """It writes the daemon's files, wherever these are, and says what became of running flows."""

    def run(*words: str) -> str:
        return CliRunner().invoke(app, list(words)).output

    (tmp_path / "acme.toml").write_text(ACME)
    assert run("add", str(tmp_path / "acme.toml")) == "acme is added, and on unless its file says otherwise.\n"
    with contextlib.ExitStack() as stack:
        acme = Talk(stack, net, net.alice, 5555)
        assert acme.passes(b"\1\2\xca\xfe\xba\xbe" + bytes(30))
        wait_for("it is detected", lambda: row("acme") == ("on", 1, 0))
        assert run("disable", "acme") == "acme is off. 1 running flow is blocked.\n"
        assert [line.split()[:5] for line in run("list").splitlines() if "acme" in line] == [
            ["acme", "acme", "off", "1", "1"]
        ]
        assert "1 flow known, 1 blocked" in run("show", "acme")
        assert run("reset", "acme") == "What was set of acme is taken back. 1 running flow is blocked no more.\n"
        assert run("unassisted", "gre") == "gre is unassisted.\n"
    assert (folder / "protocols.toml").exists()
    assert "did you mean `gre`" in run("disable", "gree")
