"""Several outside addresses: while there are no more hosts than addresses, nothing is contested or refused.

Hosts choose equal SPIs, keys and IDs, of IKE and L2TP on kept ports too, in any order, and some of their paths the
kernel has chosen before the tracker was asked.
"""

from ipaddress import IPv4Address
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from throughway.core import discriminators
from throughway.core.commands import Command, FanOut, InstallMapping, Refuse
from throughway.core.events import (
    EspFromInside,
    EspUnclaimed,
    Event,
    IkeExchange,
    IkeMessageSeen,
    L2tpControl,
    L2tpControlSeen,
    OutsideAddressesChanged,
    PathChosen,
    PortlessFromInside,
    PortlessUnclaimed,
)
from throughway.core.flows import Direction
from throughway.core.ids import Host, Path, Peer, Spi, UdpPort
from throughway.core.kept_ports import PortSetting
from throughway.core.tracker import Tracker

ADDRESSES: Final = tuple(IPv4Address(f"192.0.2.{n}") for n in range(2, 6))
HOSTS: Final = tuple(Host(IPv4Address(f"10.77.0.{n}")) for n in range(11, 15))
PEERS: Final = tuple(Peer(IPv4Address(f"203.0.113.{n}")) for n in (9, 10))
GRE: Final = 47
UDP: Final = 17

steps = st.lists(
    st.tuples(
        st.sampled_from(HOSTS),
        st.sampled_from(PEERS),
        st.sampled_from(["ike", "kept ike", "esp", "gre", "other", "l2tpv3", "kept l2tp", "answer", "kept answer"]),
        st.integers(0, 2),
        st.booleans(),
    ),
    max_size=40,
)


def event_of(host: Host, peer: Peer, what: str, name: int) -> Event:
    match what:
        case "ike":
            return IkeMessageSeen(host, peer, name, IkeExchange.FIRST_CHILD, 1, from_host=True, floated=False)
        case "kept ike":
            return PortlessFromInside(host, peer, UDP, name + 1, port=UdpPort.IKE)
        case "esp":
            return EspFromInside(host, peer, Spi(0x1000 + name), 5000)
        case "gre":
            return PortlessFromInside(host, peer, GRE, discriminators.of_gre(name))
        case "other":
            return PortlessFromInside(host, peer, 94, discriminators.NONE)
        case "kept l2tp":
            message = L2tpControl(0, 1, assigned_connection_id=name + 1, version=2)
            return L2tpControlSeen(host, peer, True, message, port=UdpPort.L2TP, host_port=UdpPort.L2TP)
        case _:
            return L2tpControlSeen(host, peer, True, L2tpControl(0, 1, assigned_connection_id=name + 1))


def answer_to(path: Path, what: str, name: int) -> Event:
    """Make what comes from a peer without being asked for."""
    if what == "answer":
        return EspUnclaimed(path, Spi(0xAAAA + name), 5000)
    return PortlessUnclaimed(path, UDP, name + 1, UdpPort.IKE)


@given(st.integers(1, 4), steps)
def test_as_many_addresses_as_hosts_leave_nothing_contested(
    count: int, history: list[tuple[Host, Peer, str, int, bool]]
) -> None:
    tracker = Tracker(ports=dict.fromkeys(UdpPort, PortSetting.KEEP))
    usable = tuple(range(count))
    tracker.handle(OutsideAddressesChanged((), ADDRESSES[:count], usable), 0.0)
    path_of: dict[tuple[Host, Peer], Path] = {}
    for at, (host, peer, what, name, is_first) in enumerate(history):
        if host not in HOSTS[:count]:
            continue
        now = 1.0 + at / 100
        if what in ("answer", "kept answer"):
            if (host, peer) in path_of:
                check(tracker.handle(answer_to(path_of[host, peer], what, name), now), path_of)
            continue
        event = event_of(host, peer, what, name)
        taken = {path.slot for (_, to), path in path_of.items() if to == peer}
        if is_first and (host, peer) not in path_of and count > 1:
            # The kernel came first, and took any address that no host has with this peer.
            free = [slot for slot in usable if slot not in taken]
            tracker.handle(PathChosen(host, Path(peer, free[-1])), now)
        commands = tracker.handle(event, now)
        path_of[host, peer] = tracker.addresses.paths(host, peer)[0]
        check(commands, path_of)
    assert len(set(path_of.values())) == len(path_of), "no two hosts have one path"


def check(commands: list[Command], path_of: dict[tuple[Host, Peer], Path]) -> None:
    """What comes by a path is its host's, and what a host sends leaves by it."""
    for command in commands:
        assert not isinstance(command, FanOut)
        if isinstance(command, Refuse):
            assert command.key.direction is Direction.TO_INSIDE, "what a host sends is never refused"
        if isinstance(command, InstallMapping):
            key, path = command.key, path_of[command.host, command.key.peer]
            assert (key.slot if key.direction is Direction.TO_INSIDE else command.slot) == path.slot
