"""Walk a packet of ours through somebody else's forward chain, and tell where it ends.

The walk follows jumps and verdict maps. A rule that may or may not match is taken for what it could
do in our favour only to say that the end is not certain: an accept that may apply makes a later drop
uncertain, and a drop that may apply (a block list, a rate limit) is the operator's own wish.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

from throughway.policy.matching import Known, Packet, among, evaluate, holds
from throughway.policy.tables import Chain, Rule, Table

DEPTH_MAX: Final = 16
"""The kernel's own bound of nested jumps (NFT_JUMP_STACK_SIZE of nf_tables.h)."""

_XT_DROPS: Final = frozenset({"DROP", "REJECT"})
_XT_CONNTRACK: Final = frozenset({"conntrack", "state"})


class End(Enum):
    """How the walk ended in one chain."""

    ACCEPTED = "accepted"
    DROPPED = "dropped"
    FELL_THROUGH = "fell through"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a packet, and by which chain and rule; rule handle 0 is the chain's policy.

    `is_certain` is false for a drop when an earlier rule that cannot be judged may have accepted.
    """

    end: End
    chain: str = ""
    handle: int = 0
    is_certain: bool = True


class _Walk:
    """One packet on its way through one table."""

    def __init__(self, table: Table, packet: Packet) -> None:
        self.table = table
        self.packet = packet
        self.may_have_been_accepted = False

    def through(self, chain: Chain, depth: int = 0) -> Verdict:
        for rule in chain.rules:
            verdict = self._apply(chain, rule, depth)
            if verdict is not None:
                return verdict
        return Verdict(End.FELL_THROUGH)

    def _apply(self, chain: Chain, rule: Rule, depth: int) -> Verdict | None:
        """Apply a rule; None when the walk goes on behind it."""
        sure = True
        for statement in rule.statements:
            ((kind, body),) = statement.items()
            answer = self._matches(kind, body)
            if answer is False:
                return None
            sure = sure and answer is True
            verdict = self._ends(kind, body, chain, rule, depth, sure=sure)
            if verdict is not None:
                return verdict
        return None

    def _matches(self, kind: str, body: Any) -> Known:
        """Judge what narrows a rule; anything else leaves it as it is."""
        if kind == "match":
            return holds(body, self.packet, self.table.elements)
        if kind in ("limit", "quota", "ct count", "synproxy", "meter"):
            return None
        if kind == "xt":
            return self._xt_matches(body)
        return True

    def _xt_matches(self, body: Any) -> Known:
        """Judge an iptables extension, of which nft tells the name alone."""
        kind, name = (body.get("type"), body.get("name")) if isinstance(body, Mapping) else (None, None)
        if kind != "match":
            return True if kind == "target" else None
        if name == "comment":
            return True
        # Rules on connection states ask for states that an untracked packet does not have.
        return False if name in _XT_CONNTRACK and self.packet.state == "untracked" else None

    def _ends(self, kind: str, body: Any, chain: Chain, rule: Rule, depth: int, *, sure: bool) -> Verdict | None:
        """Carry out a statement; the verdict where it ends the walk through this chain."""
        match kind:
            case "accept":
                return self._decide(End.ACCEPTED, chain, rule, sure=sure)
            case "drop" | "reject":
                return self._decide(End.DROPPED, chain, rule, sure=sure)
            case "xt" if isinstance(body, Mapping) and body.get("type") == "target":
                if body.get("name") in _XT_DROPS:
                    return self._decide(End.DROPPED, chain, rule, sure=sure)
                if body.get("name") in ("MARK", "CONNMARK"):
                    self.packet = replace(self.packet, mark=None)
            case "queue":
                self.may_have_been_accepted = True
            case "return":
                if sure:
                    return Verdict(End.FELL_THROUGH)
                self.may_have_been_accepted = True
            case "jump" | "goto":
                return self._enter(kind, body["target"], depth, sure=sure)
            case "vmap":
                return self._map(body, chain, rule, depth, sure=sure)
            case "mangle" if body.get("key") == {"meta": {"key": "mark"}}:
                value = evaluate(body["value"], self.packet)
                self.packet = replace(self.packet, mark=value if sure and isinstance(value, int) else None)
        return None

    def _decide(self, end: End, chain: Chain, rule: Rule, *, sure: bool) -> Verdict | None:
        if sure:
            return Verdict(end, chain.name, rule.handle)
        self.may_have_been_accepted |= end is End.ACCEPTED
        return None

    def _enter(self, kind: str, target: str, depth: int, *, sure: bool) -> Verdict | None:
        chain = self.table.chains.get(target)
        if chain is None or depth >= DEPTH_MAX:
            return None
        verdict = self.through(chain, depth + 1)
        if not sure:
            self.may_have_been_accepted |= verdict.end is End.ACCEPTED
            return None
        if verdict.end is End.FELL_THROUGH:
            return verdict if kind == "goto" else None
        return verdict

    def _map(self, body: Mapping[str, Any], chain: Chain, rule: Rule, depth: int, *, sure: bool) -> Verdict | None:
        """Look the packet up in a verdict map, an anonymous one or one of the table's."""
        data = body["data"]
        pairs = data["set"] if isinstance(data, Mapping) else self.table.elements.get(str(data).removeprefix("@"), [])
        value = evaluate(body["key"], self.packet)
        for key, verdict in pairs:
            found = among(value, key, self.table.elements)
            if found is False:
                continue
            ((kind, target),) = verdict.items()
            ended = self._ends(kind, target, chain, rule, depth, sure=sure and found is True)
            if ended is not None or found is True:
                return ended
        return None


def judge(table: Table, chain: Chain, packet: Packet) -> Verdict:
    """Tell what a base chain makes of a packet."""
    walk = _Walk(table, packet)
    verdict = walk.through(chain)
    if verdict.end is End.FELL_THROUGH:
        verdict = Verdict(End.DROPPED if chain.policy == "drop" else End.ACCEPTED, chain.name)
    return replace(verdict, is_certain=verdict.end is End.ACCEPTED or not walk.may_have_been_accepted)
