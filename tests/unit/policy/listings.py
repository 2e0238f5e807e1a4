"""Listings of other people's firewalls, as libnftables gives them, built from few words."""

from collections.abc import Sequence
from typing import Any

Statement = dict[str, Any]

ACCEPT: Statement = {"accept": None}
DROP: Statement = {"drop": None}
COUNTER: Statement = {"counter": {"packets": 0, "bytes": 0}}


def listing(*objects: dict[str, Any]) -> dict[str, Any]:
    return {"nftables": [{"metainfo": {"json_schema_version": 1}}, *objects]}


def forward(*rules: Sequence[Statement], policy: str = "drop", prio: int = 0, table: str = "inet filter") -> list[Any]:
    """A table with a base chain `forward` and these rules, with handles from 10 on."""
    return [*chain("forward", *rules, table=table, hook="forward", type="filter", policy=policy, prio=prio)]


def chain(name: str, *rules: Sequence[Statement], table: str = "inet filter", **base: object) -> list[Any]:
    family, table_name = table.split()
    place = {"family": family, "table": table_name}
    return [
        {"chain": {**place, "name": name, **base}},
        *(
            {"rule": {**place, "chain": name, "handle": 10 + number, "expr": list(rule)}}
            for number, rule in enumerate(rules)
        ),
    ]


def meta(key: str, right: object, op: str = "==") -> Statement:
    return {"match": {"op": op, "left": {"meta": {"key": key}}, "right": right}}


def masked_mark(mask: int, right: int, op: str = "==") -> Statement:
    return {"match": {"op": op, "left": {"&": [{"meta": {"key": "mark"}}, mask]}, "right": right}}


def state(*names: str) -> Statement:
    return {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": list(names)}}


def payload(protocol: str, field: str, right: object, op: str = "==") -> Statement:
    return {"match": {"op": op, "left": {"payload": {"protocol": protocol, "field": field}}, "right": right}}


def jump(target: str) -> Statement:
    return {"jump": {"target": target}}


def xt(kind: str, name: str) -> Statement:
    return {"xt": {"type": kind, "name": name}}
