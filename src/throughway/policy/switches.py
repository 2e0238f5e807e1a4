"""What the operator has switched off, and what the kernel is to carry as if we were not here.

    forward ── switches ── a flow that was detected, by its tuple: @blocked_udp, @blocked_tcp
                  │    └── a protocol without ports, by its number, and by device and peer where that is wanted
                  └─> switched_off    TCP is reset, all else answered by ICMP; what comes from outside is dropped

`switches` stands before all that accepts, so that it sees what BPF carries, too. BPF has no mapping for what is
blocked here, hence nothing goes around it. The chain is empty while nothing is off. Who is blocked is looked up in
maps, which cost the same however many devices they name; the most specific one decides (core/blocking.py).

Each change fills the chains anew in one transaction. The set of flows stays: its elements come and go with the flows.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final, TypeAlias

from throughway.core.blocking import PPTP_GRE_VERSION, Address, Blocking
from throughway.core.ids import IpProtocol
from throughway.policy.own import FAMILY, INSIDE, IS_IPV4, TABLE, add, chain, rule, to_inside, to_outside
from throughway.policy.rules import (
    COUNT,
    DROP,
    Command,
    Expression,
    Statement,
    behind_ip,
    goto,
    is_,
    is_not,
    jump,
    meta,
    one_of,
    payload,
    update,
)
from throughway.policy.timers import PPTP_PORT

SWITCHES: Final = "switches"
"""The chain that the forward hook begins with."""

HELPERS: Final = "helpers"
"""The chain that gives PPTP's control connections the kernel's helper."""

FLOWS: Final = {IpProtocol.UDP: "blocked_udp", IpProtocol.TCP: "blocked_tcp"}
"""The sets of flows."""

FLOWS_MAX: Final = 65_536
FLOW_S: Final = 600
"""How long a flow stays blocked after its last packet. Then it is looked at anew, as any other."""

TRIED: Final = "blocked_tries"
"""The set of devices, peers and protocols without ports of which something was blocked within TRIED_S seconds."""

TRIED_MAX: Final = 4096
TRIED_S: Final = 30

_OFF: Final = "switched_off"
_BY_FLOW: Final = "blocked_by_flow"
_HELP: Final = "help"
_RETURN: Final[Statement] = {"return": None}
_RESET: Final[Statement] = {"reject": {"type": "tcp reset"}}
_PROHIBITED: Final[Statement] = {"reject": {"type": "icmpx", "expr": "admin-prohibited"}}
_GRE_VERSION: Final = 13, 3
"""The last three of GRE's first 16 bits (RFC 2784 section 2.1, RFC 2637 section 4.1)."""

Tuple: TypeAlias = tuple[IPv4Address, IPv4Address, int, int, int]
"""A flow as the device sends it: device, peer, protocol, the device's port, the peer's port."""


def _no_call() -> Blocking:
    return Blocking(IpProtocol.GRE, is_pptp=True)


@dataclass(frozen=True, slots=True)
class SwitchRules:
    """What the switches want of the packet filter."""

    blocking: Sequence[Blocking] = ()
    has_flows: bool = False
    """Whether flows with ports may be blocked."""
    without_helper: Blocking = field(default_factory=_no_call)
    """For whom PPTP goes without the kernel's helper."""
    unassisted: frozenset[int] = frozenset()
    """Protocols without ports that the kernel tracks by itself; `policy.untracked` lets it."""


def objects() -> list[Command]:
    """Add what the rules need; done once."""
    flow = ["ipv4_addr", "ipv4_addr", "inet_service", "inet_service"]
    tried = ["ipv4_addr", "ipv4_addr", "inet_proto"]
    return [
        *(
            add("set", name=name, type=flow, flags=["timeout"], timeout=FLOW_S, size=FLOWS_MAX)
            for name in FLOWS.values()
        ),
        add("set", name=TRIED, type=tried, flags=["timeout"], timeout=TRIED_S, size=TRIED_MAX),
        *(chain(name) for name in (_OFF, _BY_FLOW, SWITCHES, _HELP, HELPERS)),
        *(
            rule(_BY_FLOW, f"{name} {word}", is_(_concat(*_flow(name, way)), f"@{known}"), *again, goto(_OFF))
            for (name, known) in (("udp", FLOWS[IpProtocol.UDP]), ("tcp", FLOWS[IpProtocol.TCP]))
            for word, way, again in (("out", 0, [update(f"@{known}", _concat(*_flow(name, 0)))]), ("in", 1, []))
        ),
        rule(_HELP, "PPTP call IDs", {"ct helper": "pptp"}),
        rule(_OFF, "connections end", is_(meta("iifname"), INSIDE), is_(meta("l4proto"), "tcp"), COUNT, _RESET),
        rule(_OFF, "", is_(meta("iifname"), INSIDE), IS_IPV4, _without_ports(), update(f"@{TRIED}", _concat(*_TRY))),
        rule(_OFF, "switched off", is_(meta("iifname"), INSIDE), COUNT, _PROHIBITED),
        rule(_OFF, "to what is switched off", COUNT, DROP),
    ]


def fill(outside: str, wanted: SwitchRules) -> list[Command]:
    """Fill the chains."""
    flows = [rule(SWITCHES, "", jump(_BY_FLOW))] if wanted.has_flows else []
    portless = [command for blocking in wanted.blocking for command in _portless(outside, blocking)]
    return [*flows, *portless, *_helpers(wanted.without_helper)]


def empty() -> list[Command]:
    """Empty the chains, in the transaction that fills them anew."""
    return [{"flush": {"chain": {"family": FAMILY, "table": TABLE, "name": name}}} for name in (SWITCHES, HELPERS)]


def use_helper(at: str) -> Command:
    """Give new control connections of PPTP that are to have it the kernel's helper, at this place."""
    return rule(at, "PPTP control", IS_IPV4, is_(payload("tcp", "dport"), PPTP_PORT), jump(HELPERS))


def block(flows: Mapping[Tuple, str]) -> list[Command]:
    """Block flows from now on, each with the ID of its protocol for a later run. Those that are blocked stay so."""
    return [{"add": element} for element in _elements(flows)]


def unblock(flows: Collection[Tuple]) -> list[Command]:
    """Block them no more. They are added first: nft deletes only what is there, and the time of some may be over."""
    named = dict.fromkeys(flows, "")
    return [*block(named), *({"delete": element} for element in _elements(named))]


def _elements(flows: Mapping[Tuple, str]) -> Iterator[Command]:
    for protocol, name in FLOWS.items():
        rows = [
            _element({"concat": [str(device), str(peer), *ports]}, comment)
            for (device, peer, number, *ports), comment in flows.items()
            if number == protocol
        ]
        if rows:
            yield {"element": {"family": FAMILY, "table": TABLE, "name": name, "elem": rows}}


def _element(value: Expression, comment: str) -> Expression:
    return {"elem": {"val": value, "comment": comment}} if comment else value


# Rules

_TRY: Final = payload("ip", "saddr"), payload("ip", "daddr"), meta("l4proto")


def _without_ports() -> Statement:
    return is_not(meta("l4proto"), one_of(["tcp", "udp"]))


def _concat(*parts: Expression) -> Expression:
    return {"concat": list(parts)}


def _flow(protocol: str, way: int) -> tuple[Expression, ...]:
    """Name the flow of a packet as its device sends it; `way` is 1 for packets to the device."""
    ends, ports = ("saddr", "daddr"), ("sport", "dport")
    return (  # What the device sends begins its time anew. A peer that goes on alone does not keep a flow blocked.
        payload("ip", ends[way]),
        payload("ip", ends[1 - way]),
        payload(protocol, ports[way]),
        payload(protocol, ports[1 - way]),
    )


def _portless(outside: str, blocking: Blocking) -> Iterator[Command]:
    number = int(blocking.protocol)
    meant = [is_(meta("l4proto"), number)]
    if number == IpProtocol.GRE:
        # In this order: nft 1.0.6 cannot list a rule in which the version follows the protocol.
        version = behind_ip(*_GRE_VERSION)
        meant.insert(0, is_(version, PPTP_GRE_VERSION) if blocking.is_pptp else is_not(version, PPTP_GRE_VERSION))
    for way, between in enumerate((to_outside(outside), to_inside(outside))):
        yield from _decide(SWITCHES, blocking, [*meant, *between], way, goto(_OFF), _RETURN)


def _helpers(without: Blocking) -> Iterator[Command]:
    yield from _decide(HELPERS, without, [], 0, _RETURN, goto(_HELP))
    if not without.is_everywhere:
        yield rule(HELPERS, "", goto(_HELP))


def _decide(
    at: str, blocking: Blocking, meant: Sequence[Statement], way: int, yes: Statement, no: Statement
) -> Iterator[Command]:
    """Write the rules that go by the most specific place; `way` is 1 for packets to the device."""
    for version, name in ((4, "ip"), (6, "ip6")):
        device, peer = (payload(name, end) for end in (("saddr", "daddr"), ("daddr", "saddr"))[way])
        for key, elements in (
            (_concat(device, peer), _pairs(blocking, version)),
            (device, [(str(one), value) for (one, other), value in _at(blocking, version) if one and not other]),
            (peer, [(str(other), value) for (one, other), value in _at(blocking, version) if other and not one]),
        ):
            if elements:
                rows = [[element, yes if value else no] for element, value in elements]
                yield rule(at, "", *meant, {"vmap": {"key": key, "data": {"set": rows}}})
    if blocking.is_everywhere:
        yield rule(at, "", *meant, yes)


def _pairs(blocking: Blocking, version: int) -> list[tuple[Expression, bool]]:
    return [
        (_concat_of(str(one), str(other)), value) for (one, other), value in _at(blocking, version) if one and other
    ]


def _concat_of(*values: str) -> Expression:
    return {"concat": list(values)}


def _at(blocking: Blocking, version: int) -> Iterator[tuple[tuple[Address | None, Address | None], bool]]:
    """Return the exceptions of one version of IP, in an order that does not change."""

    def order(place: tuple[Address | None, Address | None]) -> tuple[int, int]:
        one, other = place
        return int(one or IPv4Address(0)), int(other or IPv4Address(0))

    for place in sorted((place for place in blocking.at if _version(place) == version), key=order):
        yield place, blocking.at[place]


def _version(place: tuple[Address | None, Address | None]) -> int:
    return next(one.version for one in place if one is not None)
