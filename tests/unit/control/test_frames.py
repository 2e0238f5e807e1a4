"""The bytes of the control protocol."""

import json
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from throughway.control import frames
from throughway.control.errors import RequestRefused

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def test_a_request_survives_its_frame() -> None:
    request = frames.Request(7, "sessions", {"limit": 3})
    frame = frames.encode(request.to_json(), frames.REQUEST_BYTES_MAX)
    size = frames.body_bytes(frame[:4], frames.REQUEST_BYTES_MAX)
    assert size == len(frame) - 4
    assert frames.Request.from_json(frames.decode(frame[4:])) == request


def test_a_frame_is_big_endian_length_and_ascii_json() -> None:
    frame = frames.encode({"v": 1, "device": "Bürgis Gerät"}, 100)
    assert struct.unpack("!I", frame[:4]) == (len(frame) - 4,)
    assert json.loads(frame[4:].decode("ascii")) == {"v": 1, "device": "Bürgis Gerät"}


def test_other_versions_are_refused_by_naming_both() -> None:
    with pytest.raises(RequestRefused, match="version 1 of the control protocol, the other 2") as caught:
        frames.Request.from_json({"v": 2, "id": 1, "method": "status"})
    assert caught.value.code == "version"


@pytest.mark.parametrize("version", [None, True, "1", 1.5, [], 10**5000], ids=type)
def test_only_the_number_one_is_version_one(version: object) -> None:
    with pytest.raises(RequestRefused) as caught:
        frames.check_version(version)
    assert caught.value.code == "version"
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "document",
    [
        {"v": 1, "method": "status"},
        {"v": 1, "id": -1, "method": "status"},
        {"v": 1, "id": True, "method": "status"},
        {"v": 1, "id": 1 << 53, "method": "status"},
        {"v": 1, "id": 1},
        {"v": 1, "id": 1, "method": 5},
        {"v": 1, "id": 1, "method": "status", "params": []},
    ],
)
def test_what_lacks_a_part_is_malformed(document: dict[str, object]) -> None:
    with pytest.raises(RequestRefused) as caught:
        frames.Request.from_json(document)
    assert caught.value.code == "malformed"


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b"\xff\xfe", b'{"v": NaN}', b'{"v":', b"[" * 60_000, b'{"id": ' + b"9" * 60_000 + b"}"],
)
def test_what_is_not_a_json_object_is_malformed(body: bytes) -> None:
    with pytest.raises(RequestRefused) as caught:
        frames.decode(body)
    assert caught.value.code == "malformed"


def test_sizes_beyond_the_limit_are_refused_before_a_byte_is_read() -> None:
    with pytest.raises(RequestRefused) as caught:
        frames.body_bytes(struct.pack("!I", frames.REQUEST_BYTES_MAX + 1), frames.REQUEST_BYTES_MAX)
    assert caught.value.code == "too-large"
    assert frames.body_bytes(struct.pack("!I", frames.REQUEST_BYTES_MAX), frames.REQUEST_BYTES_MAX) == 65536


def test_answers_beyond_the_limit_and_not_of_json_are_not_encoded() -> None:
    with pytest.raises(RequestRefused):
        frames.encode({"result": "x" * 100}, 100)
    with pytest.raises(ValueError, match="JSON"):
        frames.encode({"result": float("nan")}, 100)
    with pytest.raises(TypeError, match="object has no JSON"):
        frames.encode({"result": object()}, 100)


# The first text of a process costs the table of Unicode, which is no fault of the law under test.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@unhurried
@given(st.binary(max_size=200))
def test_decoding_any_bytes_gives_an_object_or_a_refusal(body: bytes) -> None:
    try:
        assert isinstance(frames.decode(body), dict)
    except RequestRefused as refused:
        assert refused.code == "malformed"


@unhurried
@given(st.dictionaries(st.sampled_from(["v", "id", "method", "params", "x"]), json_values))
def test_any_object_is_a_request_or_a_refusal_that_can_be_sent(document: dict[str, object]) -> None:
    try:
        request = frames.Request.from_json(document)
    except RequestRefused as refused:
        frame = frames.encode(frames.refusal(frames.id_of(document), refused), 4096)
        assert refused.code in {"version", "malformed"}
        assert frames.decode(frame[4:])["error"] == refused.to_json()
    else:
        assert request.method == document["method"]


@unhurried
@given(json_values)
def test_quoting_is_short_ascii_whatever_comes(value: object) -> None:
    assert len(frames.quoted(value)) <= 70
    assert frames.quoted(value).isascii()
    assert frames.quoted(value).isprintable()
