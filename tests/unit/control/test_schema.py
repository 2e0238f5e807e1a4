"""The documents of the control socket."""

import json
from dataclasses import replace

import pytest

from tests.unit.control.serving import ESP, STATUS
from throughway.control.reading import DocumentMismatch
from throughway.control.schema import (
    DownQuery,
    Session,
    SessionPage,
    SessionsQuery,
    Status,
    StatusQuery,
    Verdict,
)


def test_documents_survive_json() -> None:
    assert Session.from_json(json.loads(json.dumps(ESP.to_json()))) == ESP
    assert Status.from_json(json.loads(json.dumps(STATUS.to_json()))) == STATUS
    page = SessionPage(sessions=(ESP, replace(ESP, id="b", verdict=Verdict.WAITING)), next="b")
    assert SessionPage.from_json(json.loads(json.dumps(page.to_json()))) == page


def test_the_keys_of_a_session_are_those_of_the_contract() -> None:
    assert list(ESP.to_json()) == [
        "id", "device", "protocol", "peer", "discriminators_to_peer", "discriminators_to_inside", "verdict",
        "candidates", "packets_to_peer", "bytes_to_peer", "packets_to_inside", "bytes_to_inside", "age_s", "idle_s",
        "carried_by", "reason", "address",
    ]  # fmt: skip


def test_the_keys_of_a_status_are_those_of_the_contract() -> None:
    assert list(STATUS.to_json()) == [
        "version", "gateway", "pid", "uptime_s", "inside", "outside", "outside_address", "attached_by", "memory_bytes",
        "mappings", "pending", "sessions", "adopted", "reasons", "findings", "outside_addresses",
        "ike_port", "l2tp_port", "ports_kept", "path", "heads", "detected",
    ]  # fmt: skip


def test_a_session_of_an_older_daemon_has_no_reason() -> None:
    older = {key: value for key, value in ESP.to_json().items() if key not in ("reason", "address")}
    assert Session.from_json(older) == ESP


def test_an_older_daemon_says_nothing_of_ports() -> None:
    older = {key: value for key, value in STATUS.to_json().items() if "port" not in key}
    read = Status.from_json(older)
    assert (read.ike_port, read.l2tp_port, read.ports_kept) == ("auto", "auto", ())
    kept = replace(STATUS, ike_port="keep", ports_kept=("203.0.113.9 udp 500",))
    assert Status.from_json(kept.to_json()) == kept


def test_keys_of_a_newer_daemon_are_left_alone() -> None:
    assert Session.from_json({**ESP.to_json(), "endpoint": "later"}) == ESP


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("device", 5, "session.device must be a string"),
        ("verdict", "sure", "session.verdict must be one of certain, contested, waiting, tracked, refused"),
        ("verdict", None, "session.verdict must be a string"),
        ("packets_to_peer", 1.0, "session.packets_to_peer must be a whole number"),
        ("packets_to_peer", True, "session.packets_to_peer must be a whole number"),
        ("packets_to_peer", -1, "packets_to_peer must not be below zero"),
        ("age_s", "1", "session.age_s must be a number"),
        ("discriminators_to_peer", ["0x1", 2], "session.discriminators_to_peer must be a list of strings"),
        ("discriminators_to_peer", "0x1", "session.discriminators_to_peer must be a list"),
    ],
)
def test_a_wrong_value_is_named_by_its_path(key: str, value: object, problem: str) -> None:
    with pytest.raises(DocumentMismatch) as caught:
        Session.from_json({**ESP.to_json(), key: value})
    assert str(caught.value) == problem


def test_a_missing_key_is_named_by_its_path_in_the_page() -> None:
    row = ESP.to_json()
    del row["peer"]
    with pytest.raises(DocumentMismatch, match=r"page\.sessions\[1\]\.peer is missing"):
        SessionPage.from_json({"sessions": [ESP.to_json(), row], "next": None})


def test_params_may_be_left_out_and_not_misspelt() -> None:
    assert StatusQuery.from_json({}) == StatusQuery()
    assert SessionsQuery.from_json({}) == SessionsQuery(after=None, limit=1000)
    assert SessionsQuery.from_json({"after": "x", "limit": 2}) == SessionsQuery(after="x", limit=2)
    assert DownQuery.from_json({}) == DownQuery(keep=False)
    assert DownQuery.from_json({"keep": True}) == DownQuery(keep=True)
    with pytest.raises(DocumentMismatch, match="params takes keep, and not 'kepe'"):
        DownQuery.from_json({"kepe": True})
    with pytest.raises(DocumentMismatch, match="params takes nothing, and not 'all'"):
        StatusQuery.from_json({"all": 1})
    with pytest.raises(DocumentMismatch, match=r"params\.keep must be true or false"):
        DownQuery.from_json({"keep": 1})


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_pages_are_bounded(limit: int) -> None:
    with pytest.raises(DocumentMismatch, match=r"params\.limit must be from 1 to 1000"):
        SessionsQuery.from_json({"limit": limit})
