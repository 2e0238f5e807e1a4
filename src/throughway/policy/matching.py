"""Whether a match of an nftables rule holds for a packet of ours: yes, no, or not to be known from here.

An answer of None is "not known": the rule asks for what a packet of ours may or may not be, such as
its addresses, or for something that this module does not understand. It is never guessed.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

Known: TypeAlias = bool | None

PROTOCOL_NAMES: Final = {1: "icmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 51: "ah", 58: "ipv6-icmp", 115: "l2tp"}

_TRANSPORTS: Final = frozenset({"tcp", "udp", "esp", "ah", "comp", "udplite", "dccp", "sctp", "icmp", "icmpv6", "igmp"})
_ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Packet:
    """An IPv4 packet that passthrough forwards, as a rule in a forward chain sees it.

    `mark` is None when a rule has written something into it that is not known. `state` and
    `direction` are words of nft; an untracked packet has no direction.
    """

    name: str
    inward: str
    outward: str
    protocol: str
    state: str
    mark: int | None
    direction: str = ""
    source_port: int | None = None
    destination_port: int | None = None
    is_expected: bool = False


class _Unknown:
    """The value of an expression that cannot be told."""


UNKNOWN: Final = _Unknown()
_NO_VALUE: Final = _Unknown()
"""The value of an expression that the packet does not have: the kernel ends the rule there."""


def holds(match: Mapping[str, Any], packet: Packet, elements: Mapping[str, list[Any]]) -> Known:
    """Judge one match statement; `elements` are the table's named sets."""
    value = evaluate(match["left"], packet)
    if value is _NO_VALUE:
        return False
    if value is UNKNOWN:
        return None
    if _is_conntrack_status(match["left"]):
        return _status_holds(match, packet)
    order = _ORDERS.get(match["op"])
    if order is not None:
        right = match["right"]
        return order(value, right) if isinstance(value, int) and isinstance(right, int) else None
    found = among(value, match["right"], elements)
    return (None if found is None else not found) if match["op"] == "!=" else found


def among(value: object, right: object, elements: Mapping[str, list[Any]]) -> Known:
    """Tell whether a value equals the right side of a match, or is one of its set."""
    match right:
        case str() if right.startswith("@"):
            return _any([among(value, e, elements) for e in elements[right[1:]]]) if right[1:] in elements else None
        case {"set": list(members)}:
            return _any([among(value, m, elements) for m in members])
        case {"set": member}:
            return among(value, member, elements)
        case {"elem": {"val": member}}:
            return among(value, member, elements)
        case list():
            return _any([among(value, member, elements) for member in right])
        case {"range": [low, high]}:
            return low <= value <= high if all(isinstance(x, int) for x in (value, low, high)) else None
        case {"concat": list(parts)} if isinstance(value, tuple) and len(parts) == len(value):
            return _all([among(v, p, elements) for v, p in zip(value, parts, strict=True)])
        case str() if right.endswith("*") and isinstance(value, str):
            return value.startswith(right[:-1])
        case str() | int():
            return None if value is UNKNOWN else _name(value) == _name(right)
        case _:
            return None


def evaluate(expression: object, packet: Packet) -> object:
    """Compute the left side of a match for the packet: a number, a word, a tuple, or UNKNOWN."""
    match expression:
        case int() | str():
            return expression
        case {"meta": {"key": key}}:
            return _meta(key, packet)
        case {"ct": {"key": key}}:
            return _conntrack(key, packet)
        case {"payload": {"protocol": protocol, "field": header_field}}:
            return _payload(protocol, header_field, packet)
        case {"concat": list(parts)}:
            values = tuple(evaluate(part, packet) for part in parts)
            return _NO_VALUE if _NO_VALUE in values else values
        case {"&": [left, right]}:
            return _arithmetic(operator.and_, left, right, packet)
        case {"|": [left, right]}:
            return _arithmetic(operator.or_, left, right, packet)
        case {"^": [left, right]}:
            return _arithmetic(operator.xor, left, right, packet)
        case _:
            return UNKNOWN


def _arithmetic(how: Callable[[int, int], int], left: object, right: object, packet: Packet) -> object:
    a, b = evaluate(left, packet), evaluate(right, packet)
    return how(a, b) if isinstance(a, int) and isinstance(b, int) else UNKNOWN


def _meta(key: str, packet: Packet) -> object:
    values: dict[str, object] = {
        "iifname": packet.inward,
        "iif": packet.inward,
        "oifname": packet.outward,
        "oif": packet.outward,
        "nfproto": "ipv4",
        "protocol": "ip",
        "l4proto": packet.protocol,
        "mark": UNKNOWN if packet.mark is None else packet.mark,
    }
    return values.get(key, UNKNOWN)


def _conntrack(key: str, packet: Packet) -> object:
    if key == "state":
        return packet.state
    if packet.state == "untracked":
        return _NO_VALUE
    values: dict[str, object] = {
        "direction": packet.direction,
        "protocol": packet.protocol,
        "l3proto": "ipv4",
        "status": "",
    }
    return values.get(key, UNKNOWN)


def _payload(protocol: str, header_field: str, packet: Packet) -> object:
    """Read a header field. nft leaves out of its listing that a field needs its protocol."""
    if protocol == "ip":
        return {"protocol": packet.protocol, "version": 4}.get(header_field, UNKNOWN)
    if protocol in ("ip6", "arp"):
        return _NO_VALUE
    if protocol in _TRANSPORTS and protocol != packet.protocol:
        return _NO_VALUE
    ports = {"sport": packet.source_port, "dport": packet.destination_port}
    if header_field in ports and protocol in ("tcp", "udp", "th"):
        return UNKNOWN if ports[header_field] is None else ports[header_field]
    return UNKNOWN


def _is_conntrack_status(left: object) -> bool:
    return isinstance(left, Mapping) and isinstance(left.get("ct"), Mapping) and left["ct"].get("key") == "status"


def _status_holds(match: Mapping[str, Any], packet: Packet) -> Known:
    """Judge the status bits that are known of our packets: expected by a helper, and never destination NAT."""
    wanted = match["right"] if isinstance(match["right"], list) else [match["right"]]
    known: dict[object, bool] = {"expected": packet.is_expected, "dnat": False}
    found = _any([known.get(bit) if isinstance(bit, str) else None for bit in wanted])
    return (None if found is None else not found) if match["op"] == "!=" else found


def _name(value: object) -> object:
    """Bring protocol numbers and names together; numbers stay what they are elsewhere."""
    if isinstance(value, str):
        return next((number for number, name in PROTOCOL_NAMES.items() if name == value), value)
    return value


def _any(answers: Sequence[Known]) -> Known:
    return True if True in answers else None if None in answers else False


def _all(answers: Sequence[Known]) -> Known:
    return False if False in answers else None if None in answers else True
