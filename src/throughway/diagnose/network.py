"""Findings about the network around the gateway. Functions named judge_ are pure."""

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

from throughway.core.findings import Finding, Level
from throughway.dataplane import links, sysctls
from throughway.dataplane.links import Link

SHARED_ADDRESSES: Final = IPv4Network("100.64.0.0/10")
"""Carrier-grade NAT (RFC 6598 section 7)."""

PRIVATE_ADDRESSES: Final = tuple(
    IPv4Network(n) for n in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "192.0.0.0/29", "169.254.0.0/16")
)
"""RFC 1918 section 3; DS-Lite (RFC 6333 section 10); link-local (RFC 3927)."""

MTU_TUNNEL_MIN: Final = 1280
"""Below it there is no IPv6 on the line (RFC 8200 section 5), and clients do not expect it."""

CONNTRACK_FULL_WARNING: Final = 0.8
CONNTRACK_FULL_ERROR: Final = 0.98
"""Shares of the connection table; the kernel drops new flows when it is full."""

STRICT: Final = 1
"""rp_filter: only what would go back the same way (RFC 3704 section 2.2)."""


async def findings(insides: Sequence[str], outside: str | None) -> list[Finding]:
    """Examine the network namespace of this process; nothing is changed."""
    found = [judge_forwarding(sysctls.read(sysctls.IP_FORWARD))]
    table = _number("net.netfilter.nf_conntrack_count"), _number("net.netfilter.nf_conntrack_max")
    found.append(judge_conntrack(*table))
    states = {name: await _read(name) for name in (*insides, *([outside] if outside else []))}
    for name, link in states.items():
        if link is None:
            there = ", ".join(await links.names())
            found.append(
                Finding("links.exists", Level.ERROR, f"{name} does not exist.", f"Name one of these instead: {there}.")
            )
            continue
        found += judge_link(link, is_outside=name == outside)
    if outside and (link := states[outside]) is not None:
        defaults = await links.default_route_interfaces()
        found += judge_reverse_path(outside, _reverse_path_filter(outside), is_default=link.interface.index in defaults)
    return found


def judge_forwarding(value: str | None) -> Finding:
    """Judge net.ipv4.ip_forward. The daemon turns it on, so being off now is no error."""
    if value == "1":
        return Finding("network.ip-forward", Level.OK, "The kernel forwards IPv4 packets.")
    return Finding(
        "network.ip-forward",
        Level.WARNING,
        "The kernel does not forward IPv4 packets now; `throughway up` turns that on while it runs.",
        "To have it on without Throughway too:",
        ("sysctl -w net.ipv4.ip_forward=1",),
    )


def judge_conntrack(count: int | None, most: int | None) -> Finding:
    """Judge how full the connection table is; None where the kernel has none yet."""
    if count is None or not most:
        return Finding("network.conntrack", Level.OK, "Connection tracking is not in use yet.")
    share = count / most
    what = f"The connection table holds {count} of {most} entries."
    if share < CONNTRACK_FULL_WARNING:
        return Finding("network.conntrack", Level.OK, what)
    return Finding(
        "network.conntrack",
        Level.ERROR if share >= CONNTRACK_FULL_ERROR else Level.WARNING,
        f"{what} When it is full, new flows are dropped.",
        "Make it larger; an entry takes some 300 bytes.",
        (f"sysctl -w net.netfilter.nf_conntrack_max={2 * most}",),
    )


def judge_link(link: Link, *, is_outside: bool) -> Iterator[Finding]:
    """Judge an interface: whether it is up, its MTU, and for the outside its address."""
    name = link.interface.name
    if not link.is_up:
        yield Finding("links.up", Level.ERROR, f"{name} is down.", "Set it up.", (f"ip link set {name} up",))
    elif not link.has_carrier:
        yield Finding("links.up", Level.ERROR, f"{name} has no carrier.", "Check the cable or the modem.")
    if link.mtu < MTU_TUNNEL_MIN:
        yield Finding(
            "links.mtu",
            Level.WARNING,
            f"{name} has an MTU of {link.mtu} bytes: tunnels through it carry little and fragment much.",
            f"Raise it to {MTU_TUNNEL_MIN} or more if the line allows it.",
            (f"ip link set {name} mtu {MTU_TUNNEL_MIN}",),
        )
    else:
        yield Finding("links.mtu", Level.OK, f"{name} has an MTU of {link.mtu} bytes.")
    if is_outside:
        yield judge_outside_address(name, link.address)


def judge_outside_address(name: str, address: IPv4Address | None) -> Finding:
    """Judge the address that everything leaves with: is there another NAT behind it?"""
    if address is None:
        return Finding(
            "outside.address",
            Level.ERROR,
            f"{name} has no IPv4 address, so nothing can be translated.",
            "Connect it; the daemon takes the address as soon as there is one.",
        )
    behind = None
    if address in SHARED_ADDRESSES:
        behind = "the provider's carrier-grade NAT"
    elif any(address in network for network in PRIVATE_ADDRESSES):
        behind = "another router with NAT"
    if behind is None:
        return Finding("outside.address", Level.OK, f"The outside address is {address}, a public one.")
    return Finding(
        "outside.address",
        Level.WARNING,
        f"The outside address {address} is private: behind {name} there is {behind} (double NAT), and what it does "
        "to native ESP and PPTP is not in our hands.",
        "Put the device before this one into bridge mode, or ask the provider for a public address; "
        "otherwise let clients use NAT-T (UDP 4500).",
    )


def judge_reverse_path(outside: str, mode: int, *, is_default: bool) -> Iterator[Finding]:
    """Judge rp_filter on the outside: strict drops what peers send when the route to them is another one."""
    if mode != STRICT or is_default:
        yield Finding("network.rp-filter", Level.OK, f"Reverse path filtering lets packets from {outside} in.")
        return
    yield Finding(
        "network.rp-filter",
        Level.ERROR,
        f"Reverse path filtering is strict on {outside}, but no default route leaves by it: packets from peers are "
        "dropped.",
        "Make it loose, or give the interface a default route.",
        (f"sysctl -w net/ipv4/conf/{outside}/rp_filter=2",),
    )


def _reverse_path_filter(interface: str) -> int:
    """Read the mode in effect: the larger one of the interface's and of all (ip-sysctl.rst)."""
    return max(_number(f"net/ipv4/conf/{name}/rp_filter") or 0 for name in ("all", interface))


def _number(name: str) -> int | None:
    value = sysctls.read(name)
    return int(value) if value and value.isdecimal() else None


async def _read(name: str) -> Link | None:
    return await links.look_up(name) if name in await links.names() else None


def legacy_table_names() -> tuple[str, ...]:
    """Read which iptables-legacy tables this network namespace has; none where the kernel has no such thing."""
    try:
        return tuple(Path("/proc/thread-self/net/ip_tables_names").read_text().split())
    except OSError:
        return ()
