"""Our one nftables table: its name, and the commands that fill it."""

from typing import Final

from throughway.policy.rules import Command, Expression, Statement, conntrack, has, is_, meta

FAMILY: Final = "inet"
TABLE: Final = "throughway"

INSIDE: Final = "@inside"
"""The table's set of the inside interfaces' names."""

IS_IPV4: Final = is_(meta("nfproto"), "ipv4")
IS_IPV6: Final = is_(meta("nfproto"), "ipv6")
IS_UNTRACKED: Final = has(conntrack("state"), "untracked")


def fib_type(*flags: str) -> Expression:
    """Name the kind that the routing tables know an address as: local, unicast, multicast, broadcast."""
    return {"fib": {"result": "type", "flags": list(flags)}}


def to_outside(outside: str) -> tuple[Statement, Statement]:
    """Match what is forwarded from an inside interface to the outside one."""
    return is_(meta("iifname"), INSIDE), is_(meta("oifname"), outside)


def to_inside(outside: str) -> tuple[Statement, Statement]:
    """Match what is forwarded from the outside interface to an inside one."""
    return is_(meta("iifname"), outside), is_(meta("oifname"), INSIDE)


def add(kind: str, **attributes: object) -> Command:
    """Add an object to the table, or the table itself."""
    place = {"family": FAMILY, "name": TABLE} if kind == "table" else {"family": FAMILY, "table": TABLE}
    return {"add": {kind: {**place, **attributes}}}


def chain(name: str) -> Command:
    """Add a chain that others jump to."""
    return add("chain", name=name)


def base_chain(name: str, kind: str, hook: str, priority: int) -> Command:
    """Add a chain at a hook. What none of its rules decides goes on."""
    return add("chain", name=name, type=kind, hook=hook, prio=priority, policy="accept")


def rule(chain: str, comment: str, *statements: Statement) -> Command:
    """Add a rule at the end of a chain."""
    extra = {"comment": comment} if comment else {}
    return add("rule", chain=chain, expr=list(statements), **extra)
