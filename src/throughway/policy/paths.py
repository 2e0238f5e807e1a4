"""Which outside address the kernel's own translation gives to what belongs to one tunnel: IKE, NAT-T, L2TP and PPTP.

A peer wants all of a host's tunnel from one address, and BPF translates the part without ports. So there is one
map, of hosts and peers, that both sides go by. The first packet of a host passes before the daemon could say
anything: where the map has nothing, the rules choose an address that no other host uses with this peer, and note it.
`create element` fails where they came first; whoever is first decides.

    map path      host . peer : address
    set taken_N   the peers that some host speaks to from the address in slot N

What the rules note ends after `path_remembered_s`; what the daemon confirms stays until it says otherwise. All else is
masqueraded as ever. This is text, and a transaction of its own: libnftables 1.0.6 cannot read maps that rules write
from JSON. The chain is in front of that of masquerade, and only there while there is something to choose.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, Final

from throughway.core.ids import Host, Peer
from throughway.core.limits import Limits
from throughway.policy.own import FAMILY, TABLE
from throughway.policy.timers import CARRIED_UDP_PORTS, PPTP_PORT

PATH: Final = "path"
_FIRST, _CHOOSE = "paths", "choose_path"


@dataclass(frozen=True, slots=True)
class Chosen:
    """One element of the map. `is_confirmed`: the daemon knows of it, and it stays."""

    host: Host
    peer: Peer
    address: IPv4Address
    is_confirmed: bool


def lay(
    insides: Sequence[str],
    outside: str,
    slots: Mapping[int, IPv4Address],
    chosen: Iterable[Chosen],
    limits: Limits,
) -> str:
    """Write the transaction that begins to choose among these addresses, by slot, best first.

    The map has room for as many pairs as the tracker has relations; above, all is masqueraded as ever.
    """
    kept = [one for one in chosen if one.address in slots.values()]
    names = ", ".join(f'"{name}"' for name in sorted(insides))
    match = f'iifname {{ {names} }} oifname "{outside}" meta nfproto ipv4'
    ports = ", ".join(str(port) for port in CARRIED_UDP_PORTS)
    taken = "".join(
        f"set {_taken(slot)} {{ type ipv4_addr; flags dynamic,timeout; size {limits.relations_max}; }}\n"
        for slot in slots
    )
    uses = "".join(f"chain {_use(slot)} {{\n{_note(slot, address, limits)}\n}}\n" for slot, address in slots.items())
    free = "".join(f"ip daddr != @{_taken(slot)} goto {_use(slot)}\n" for slot in slots)
    turns = ", ".join(f"{at} : goto {_use(slot)}" for at, slot in enumerate(slots))
    table = f"""
table {FAMILY} {TABLE} {{
map {PATH} {{ type ipv4_addr . ipv4_addr : ipv4_addr; flags dynamic,timeout; size {limits.relations_max}; }}
{taken}{uses}chain {_CHOOSE} {{
snat ip to ip saddr . ip daddr map @{PATH} comment "as before"
{free}numgen inc mod {len(slots)} vmap {{ {turns} }} comment "all are taken"
}}
chain {_FIRST} {{
type nat hook postrouting priority srcnat - 1; policy accept;
{match} udp dport {{ {ports} }} jump {_CHOOSE} comment "IKE, NAT-T, L2TP"
{match} tcp dport {PPTP_PORT} jump {_CHOOSE} comment "PPTP"
}}
}}
"""
    return table + _elements(kept, {address: slot for slot, address in slots.items()}, limits)


def take_away(slots: Iterable[int]) -> str:
    """Write what removes all that `lay` has laid for these slots."""
    slots = list(slots)
    chains = [_FIRST, _CHOOSE, *(_use(slot) for slot in slots)]
    lines = [f"flush chain {FAMILY} {TABLE} {name}" for name in chains]
    lines += [f"delete chain {FAMILY} {TABLE} {name}" for name in chains]
    lines += [f"delete set {FAMILY} {TABLE} {_taken(slot)}" for slot in slots]
    return "\n".join([*lines, f"delete map {FAMILY} {TABLE} {PATH}"]) + "\n"


def create(host: Host, peer: Peer, slot: int, address: IPv4Address) -> str:
    """Write the transaction that notes a choice. The kernel refuses it with EEXIST where there is one already."""
    return f"create {_element(host, peer)} : {address} }}\n{_take(slot, peer)}"


def confirm(host: Host, peer: Peer, slot: int, address: IPv4Address) -> str:
    """Write the transaction that makes a choice stay, whatever it was before."""
    element = _element(host, peer)
    first = f"add {element} : {address} }}\ndelete {element} }}\nadd {element} : {address} }}\n"
    return first + _take(slot, peer)


def read(host: Host, peer: Peer) -> str:
    """Write the command that asks for a choice."""
    return f"get {_element(host, peer)} }}"


def forget(host: Host, peer: Peer) -> str:
    """Write what removes a choice."""
    return f"delete {_element(host, peer)} }}"


def release(slot: int, peer: Peer) -> str:
    """Write what says that nobody uses a slot's address with a peer."""
    return f"delete {_taken_element(slot, peer)}"


def elements_of(entries: Iterable[Any]) -> list[Chosen]:
    """Read the elements of the map as nft lists them. Of each the time that it has left begins anew."""
    found = []
    for key, address in entries:
        host, peer = key.get("elem", {}).get("val", key)["concat"]
        found.append(Chosen(Host(IPv4Address(host)), Peer(IPv4Address(peer)), IPv4Address(address), False))
    return found


def _note(slot: int, address: IPv4Address, limits: Limits) -> str:
    lasting = _lasting(limits.path_remembered_s)
    peer, pair = f"{{ ip daddr{lasting} }}", f"ip saddr . ip daddr{lasting}"
    return f"update @{_taken(slot)} {peer} update @{PATH} {{ {pair} : {address} }} snat ip to {address}"


def _elements(chosen: Sequence[Chosen], slot_of: Mapping[IPv4Address, int], limits: Limits) -> str:
    """Write elements, those of which the peer is confirmed for one host and not for another one once."""
    taken = {(one.address, one.peer): one.is_confirmed for one in sorted(chosen, key=lambda one: one.is_confirmed)}
    lasting = {True: "", False: _lasting(limits.path_remembered_s)}
    lines = [
        f"add element {FAMILY} {TABLE} {PATH} {{ {one.host} . {one.peer}{lasting[one.is_confirmed]} : {one.address} }}"
        for one in chosen
    ]
    lines += [
        f"add element {FAMILY} {TABLE} {_taken(slot_of[address])} {{ {peer}{lasting[is_confirmed]} }}"
        for (address, peer), is_confirmed in taken.items()
    ]
    return "\n".join(lines) + "\n"


def _lasting(time_s: int) -> str:
    return f" timeout {time_s}s"


def _take(slot: int, peer: Peer) -> str:
    element = _taken_element(slot, peer)
    return f"add {element}\ndelete {element}\nadd {element}\n"


def _element(host: Host, peer: Peer) -> str:
    return f"element {FAMILY} {TABLE} {PATH} {{ {host} . {peer}"


def _taken_element(slot: int, peer: Peer) -> str:
    return f"element {FAMILY} {TABLE} {_taken(slot)} {{ {peer} }}"


def _taken(slot: int) -> str:
    return f"taken_{slot}"


def _use(slot: int) -> str:
    return f"use_{slot}"
