"""A listing of nftables, as libnftables gives it in JSON, sorted into tables that can be looked things up in."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Statement: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """Statements from left to right. An empty handle is one that the listing did not tell."""

    handle: int
    statements: tuple[Statement, ...]


@dataclass(slots=True)
class Chain:
    """A chain; `hook`, `kind`, `priority` and `policy` are set for base chains only."""

    name: str
    hook: str = ""
    kind: str = ""
    priority: int = 0
    policy: str = "accept"
    rules: list[Rule] = field(default_factory=list)


@dataclass(slots=True)
class Table:
    """A table with all that its rules refer to. `elements` holds sets and maps by name."""

    family: str
    name: str
    chains: dict[str, Chain] = field(default_factory=dict)
    elements: dict[str, list[Any]] = field(default_factory=dict)
    helpers: list[str] = field(default_factory=list)
    """The types of its ct helper objects."""
    flowtables: list[Mapping[str, Any]] = field(default_factory=list)

    def base_chains(self, hook: str) -> Iterator[Chain]:
        """Yield the chains at a hook, in the order of their priority."""
        yield from sorted((c for c in self.chains.values() if c.hook == hook), key=lambda c: c.priority)


def read_tables(document: Mapping[str, Any]) -> list[Table]:
    """Sort a ruleset listing. Objects of kinds that are not known are left out."""
    tables: dict[tuple[str, str], Table] = {}
    for entry in document["nftables"]:
        for kind, thing in entry.items():
            if kind == "metainfo":
                continue
            key = thing["family"], thing["name" if kind == "table" else "table"]
            _read(tables.setdefault(key, Table(*key)), kind, thing)
    return list(tables.values())


def _read(table: Table, kind: str, thing: Mapping[str, Any]) -> None:
    match kind:
        case "chain":
            chain = table.chains.setdefault(thing["name"], Chain(thing["name"]))
            chain.hook = thing.get("hook", "")
            chain.kind = thing.get("type", "")
            chain.priority = thing.get("prio", 0)
            chain.policy = thing.get("policy", "accept")
        case "rule":
            chain = table.chains.setdefault(thing["chain"], Chain(thing["chain"]))
            chain.rules.append(Rule(thing.get("handle", 0), tuple(thing.get("expr", ()))))
        case "set" | "map":
            table.elements[thing["name"]] = list(thing.get("elem", ()))
        case "element":
            table.elements.setdefault(thing["name"], []).extend(thing.get("elem", ()))
        case "ct helper":
            table.helpers.append(thing.get("type", ""))
        case "flowtable":
            table.flowtables.append(thing)
