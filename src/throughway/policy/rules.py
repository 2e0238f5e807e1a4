"""The words of the libnftables JSON grammar that our table is written in (man libnftables-json(5))."""

from collections.abc import Sequence
from typing import Any, TypeAlias

Expression: TypeAlias = dict[str, Any]
Statement: TypeAlias = dict[str, Any]
Command: TypeAlias = dict[str, Any]

ACCEPT: Statement = {"accept": None}
COUNT: Statement = {"counter": None}
DROP: Statement = {"drop": None}
MASQUERADE: Statement = {"masquerade": None}
NOTRACK: Statement = {"notrack": None}


def is_(left: Expression, right: object) -> Statement:
    """Match where the value equals the right side, or is one of its set."""
    return {"match": {"op": "==", "left": left, "right": right}}


def is_not(left: Expression, right: object) -> Statement:
    """Match where the value differs from the right side."""
    return {"match": {"op": "!=", "left": left, "right": right}}


def has(left: Expression, right: object) -> Statement:
    """Match where a bit field has any of the named bits (connection states and the like)."""
    return {"match": {"op": "in", "left": left, "right": right}}


def one_of(values: Sequence[int | str]) -> Expression:
    """Build an anonymous set."""
    return {"set": list(values)}


def meta(key: str) -> Expression:
    """Name what the kernel knows about the packet: iifname, mark, l4proto."""
    return {"meta": {"key": key}}


def conntrack(key: str, direction: str | None = None) -> Expression:
    """Name what connection tracking knows about the packet's flow; `direction` is original or reply."""
    return {"ct": {"key": key} if direction is None else {"key": key, "dir": direction}}


def payload(protocol: str, field: str) -> Expression:
    """Name a header field. nft adds the match on the protocol by itself."""
    return {"payload": {"protocol": protocol, "field": field}}


def bits(value: Expression, mask: object) -> Expression:
    """Keep only the bits of the mask; a list of names is or-ed by nft."""
    return {"&": [value, mask]}


def jump(chain: str) -> Statement:
    """Go on in another chain of the table, and come back."""
    return {"jump": {"target": chain}}


def goto(chain: str) -> Statement:
    """Go on in another chain of the table, and not come back."""
    return {"goto": {"target": chain}}


def replace(key: Expression, value: object) -> Statement:
    """Write a value into the packet or its mark."""
    return {"mangle": {"key": key, "value": value}}


def behind_ip(offset: int, length: int) -> Expression:
    """Name so many bits at so many bits behind the IP header. Later fragments have none of them, and never match."""
    return {"payload": {"base": "th", "offset": offset, "len": length}}


def count_as(name: str) -> Statement:
    """Count in a counter that has a name of its own."""
    return {"counter": name}


def reject(code: str) -> Statement:
    """Drop, and tell the sender by ICMP destination unreachable with this code."""
    return {"reject": {"type": "icmp", "expr": code}}


def source_nat(address: Expression) -> Statement:
    """Give the flow this IPv4 address as its source."""
    return {"snat": {"family": "ip", "addr": address}}


def update(name: str, element: Expression) -> Statement:
    """Put an element into a set, or start its time anew."""
    return {"set": {"op": "update", "elem": element, "set": name}}
