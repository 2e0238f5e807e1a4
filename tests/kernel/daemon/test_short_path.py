"""The daemon allows the short path while nobody else looks at forwarded packets."""

from pathlib import Path

import pytest

from tests.kernel.bpf_plane.net import Network, inside, run
from tests.kernel.daemon.net import ALICE, OUTSIDE, PEER, Ends, wait_for
from tests.kernel.daemon.process import BOTH, Daemon
from throughway.dataplane.news import chain_news


def test_somebody_elses_chain_is_respected_at_once_and_until_it_is_gone(
    daemon: Daemon, ends: Ends, net: Network
) -> None:
    """The way is short without it; with it every packet passes it; without it the way is short again."""
    daemon.up()
    wait_for("nobody looks", lambda: len(daemon.lines("path.short")) == 1)
    ends.begin(ALICE, 0xA1)
    ends.agree(ALICE, 0xA1)
    ends.both_ways(ALICE, 0x1001, 0x2001, range(1, 3))

    def nft(command: str) -> str:
        return run("ip", "netns", "exec", net.router, "nft", *command.split())

    nft("add table ip theirs")
    nft("add chain ip theirs pass { type filter hook forward priority 0 ; }")
    wait_for("it is seen", lambda: any("ip theirs pass" in line for line in daemon.lines("path.long")))
    nft("add rule ip theirs pass ip protocol esp counter drop")
    ends.peer.send_esp(PEER, OUTSIDE, 0x2001, range(3, 4))
    wait_for("it drops", lambda: "packets 1" in nft("list chain ip theirs pass"))
    assert ends.alice.sequences(0x2001) == [1, 2]
    nft("delete table ip theirs")
    wait_for("nobody looks again", lambda: len(daemon.lines("path.short")) == 2)
    ends.both_ways(ALICE, 0x1001, 0x2001, range(4, 6))


def test_ipsec_policies_of_the_router_are_respected_at_once(daemon: Daemon, ends: Ends, net: Network) -> None:
    """A policy may want what is forwarded to be encrypted, or dropped; forwarding asks it, the short path cannot."""
    daemon.up()
    wait_for("the way is short", lambda: daemon.status().path == "short")
    ends.begin(ALICE, 0xA1)
    ends.agree(ALICE, 0xA1)
    ends.both_ways(ALICE, 0x1001, 0x2001, range(1, 3))
    policy = ("ip", "-n", net.router, "xfrm", "policy")
    run(*policy, "add", "src", f"{PEER}/32", "dst", f"{ALICE}/32", "dir", "fwd", "action", "block")
    wait_for("it is seen", lambda: daemon.status().path == "long, because of IPsec policies of this router")
    ends.peer.send_esp(PEER, OUTSIDE, 0x2001, range(3, 4))
    run(*policy, "delete", "src", f"{PEER}/32", "dst", f"{ALICE}/32", "dir", "fwd")
    wait_for("the way is short again", lambda: daemon.status().path == "short")
    ends.peer.send_esp(PEER, OUTSIDE, 0x2001, range(4, 5))
    wait_for("the next one arrived", lambda: 4 in ends.alice.sequences(0x2001))
    assert ends.alice.sequences(0x2001) == [1, 2, 4]


def test_elements_that_come_and_go_change_nothing(daemon: Daemon, net: Network) -> None:
    """Sets and maps, ours too, are filled with every tunnel; only tables and chains are news."""
    daemon.up()
    wait_for("the way is short", lambda: daemon.status().path == "short")
    with inside(net.router), chain_news() as news:
        nft = ("ip", "netns", "exec", net.router, "nft")
        run(*nft, "add", "element", "inet", "throughway", "other_addresses", "{", "192.0.2.1", "}")
        assert not news.take()
        run(*nft, "add", "table", "ip", "theirs")
        assert news.take()


def test_the_operator_can_switch_it_off(daemon: Daemon) -> None:
    daemon.up(*BOTH, "--no-short-path")
    wait_for("it is said", lambda: len(daemon.lines("path.long")) == 1)
    assert daemon.status().path == "long, because of --no-short-path"


@pytest.mark.parametrize(("rp_filter", "arrives"), [("0", True), ("1", False)])
def test_reverse_path_filtering_is_as_strict_as_forwarding(
    daemon: Daemon, ends: Ends, net: Network, rp_filter: str, arrives: bool
) -> None:
    """A host's address from behind another interface: the kernel lets it pass unless the filter is on."""
    daemon.up()
    ends.begin(ALICE, 0xA1)
    ends.agree(ALICE, 0xA1)
    ends.both_ways(ALICE, 0x1001, 0x2001, range(1, 3))
    with inside(net.router):
        Path("/proc/sys/net/ipv4/conf/in1/rp_filter").write_text(rp_filter)
    daemon.status()  # So it has heard of that.
    wait_for("the way is short", lambda: daemon.status().path == "short")
    ends.bob.send_esp(ALICE, PEER, 0x1001, range(3, 4))
    ends.alice.send_esp(ALICE, PEER, 0x1001, range(4, 5))
    wait_for("the host's own arrived", lambda: 4 in ends.peer.sequences(0x1001))
    assert (3 in ends.peer.sequences(0x1001)) is arrives
