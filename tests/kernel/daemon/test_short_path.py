"""The daemon allows the short path while nobody else's rules look at forwarded packets."""

from tests.kernel.bpf_plane.net import Network, run
from tests.kernel.daemon.net import ALICE, OUTSIDE, PEER, Ends, wait_for
from tests.kernel.daemon.process import Daemon


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
