"""Another table drops what is forwarded: the start and `status` name it, with the rule that helps."""

from tests.kernel.bpf_plane.net import Network, run
from tests.kernel.daemon.net import ALICE, PEER, Ends, nft, wait_for
from tests.kernel.daemon.process import Daemon
from throughway.control.schema import Finding, Level

HOUSE = "table inet house { chain forward { type filter hook forward priority 0; policy drop; }; }"
RULE = "nft insert rule inet house forward meta mark and 0x10000000 == 0x10000000 accept"


def errors(daemon: Daemon) -> list[Finding]:
    return [finding for finding in daemon.status().findings if finding.level is not Level.OK]


def test_table_that_drops_is_named_with_the_command_that_helps(daemon: Daemon, net: Network, ends: Ends) -> None:
    nft(net, HOUSE)
    daemon.up()
    wait_for("it says so", lambda: daemon.says(RULE))
    assert "inet house" in daemon.lines("firewall.finding")[0]
    [finding] = errors(daemon)
    assert (finding.level, "inet house" in finding.what) == (Level.ERROR, True)
    assert finding.commands == (RULE,)
    run("nsenter", f"--net=/run/netns/{net.router}", *RULE.split())
    assert errors(daemon) == []
    ends.begin(ALICE, 0xA1)
    ends.agree(ALICE, 0xA1)
    ends.both_ways(ALICE, 0x1001, 0x2001, range(1, 4))


def test_table_that_comes_later_is_named_by_status(daemon: Daemon, net: Network, ends: Ends) -> None:
    """And while it is there, what it drops is no reason for the tunnel to hang afterwards."""
    daemon.up()
    assert errors(daemon) == []
    nft(net, HOUSE)
    ends.alice.send_esp(ALICE, PEER, 0x1001, range(1, 4))
    [finding] = errors(daemon)
    assert (finding.level, finding.commands) == (Level.ERROR, (RULE,))
    nft(net, "delete table inet house")
    assert errors(daemon) == []
    ends.begin(ALICE, 0xA1)
    ends.agree(ALICE, 0xA1)
    got = len(ends.peer.sequences(0x1001))
    ends.alice.send_esp(ALICE, PEER, 0x1001, range(4, 8))
    wait_for("the tunnel passes", lambda: len(ends.peer.sequences(0x1001)) == got + 4)
