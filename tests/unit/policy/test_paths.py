"""The text that lays the map of paths. What nftables makes of it is in tests/kernel/firewall/test_paths.py."""

from ipaddress import IPv4Address

from throughway.core.ids import Host, Peer
from throughway.core.limits import Limits
from throughway.policy import paths
from throughway.policy.paths import Chosen

ALICE, BOB = (Host(IPv4Address(f"10.1.0.{n}")) for n in (2, 3))
SERVER = Peer(IPv4Address("203.0.113.9"))
FIRST, SECOND, GONE = (IPv4Address(f"192.0.2.{n}") for n in (2, 3, 4))


def test_what_is_known_stays_and_the_rest_has_its_time() -> None:
    chosen = [Chosen(ALICE, SERVER, FIRST, True), Chosen(BOB, SERVER, FIRST, False), Chosen(BOB, SERVER, GONE, False)]
    text = paths.lay(["lan0"], "wan0", {0: FIRST, 3: SECOND}, chosen, Limits())
    assert "path { 10.1.0.2 . 203.0.113.9 : 192.0.2.2 }" in text
    assert "path { 10.1.0.3 . 203.0.113.9 timeout 3600s : 192.0.2.2 }" in text
    assert "taken_0 { 203.0.113.9 }" in text, "one host that stays is enough"
    assert "taken_3 { 203.0.113.9" not in text
    assert str(GONE) not in text


def test_all_that_is_laid_is_taken_away() -> None:
    text = paths.lay(["lan0"], "wan0", {0: FIRST, 3: SECOND}, [], Limits())
    away = paths.take_away([0, 3])
    for kind in ("chain", "set", "map"):
        laid = {line.split()[1] for line in text.splitlines() if line.startswith(f"{kind} ")}
        assert laid
        assert laid == {line.split()[-1] for line in away.splitlines() if line.startswith(f"delete {kind} ")}


def test_elements_are_read_with_and_without_their_time() -> None:
    listed = [
        [{"concat": ["10.1.0.2", "203.0.113.9"]}, "192.0.2.2"],
        [{"elem": {"val": {"concat": ["10.1.0.3", "203.0.113.9"]}, "timeout": 3600, "expires": 12}}, "192.0.2.3"],
    ]
    assert paths.elements_of(listed) == [
        Chosen(ALICE, SERVER, FIRST, False),
        Chosen(BOB, SERVER, SECOND, False),
    ]
