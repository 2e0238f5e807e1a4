"""The control protocol in bytes. No I/O.

A frame is a length and a JSON object:

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |           size of the object in bytes, network order          |
    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
    |              JSON object, UTF-8 (RFC 8259) ...                |

The client speaks first and the daemon answers in order:

    {"v": 1, "id": 7, "method": "status", "params": {}}
    {"v": 1, "id": 7, "result": {...}}                      one answer, or
    {"v": 1, "id": 7, "error": {"code", "message", "remedy"}}   a refusal, or
    {"v": 1, "id": 7, "item": ...} ... {"v": 1, "id": 7, "end": true}   a stream

A refusal of what could not be read as a request has the id null.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn, Protocol, runtime_checkable

from throughway.control.errors import ErrorCode, RequestRefused

VERSION: Final = 1

HEADER_BYTES: Final = 4

REQUEST_BYTES_MAX: Final = 64 << 10
"""Requests are names and numbers; a longer one is not ours."""

ANSWER_BYTES_MAX: Final = 4 << 20
"""Longer lists are walked in pages."""

ID_MAX: Final = (1 << 53) - 1
"""The largest integer that every JSON reader keeps exact (RFC 8259 section 6)."""

_QUOTED_CHARACTERS_MAX: Final = 64


@runtime_checkable
class Document(Protocol):
    """A value that knows its JSON."""

    def to_json(self) -> dict[str, object]:
        """Return the value as a JSON object."""


@dataclass(frozen=True, slots=True)
class Request:
    """One well-formed request. Whether its method exists and its params fit is not known yet."""

    id: int
    method: str
    params: dict[str, object]

    def to_json(self) -> dict[str, object]:
        """Return the request as it is sent."""
        return {"v": VERSION, "id": self.id, "method": self.method, "params": self.params}

    @classmethod
    def from_json(cls, document: Mapping[str, object]) -> "Request":
        """Check a received object; unknown keys are left alone. Raises RequestRefused, which blames the client."""
        check_version(document.get("v"))
        request_id = id_of(document)
        if request_id is None:
            raise malformed(f"id must be a whole number from 0 to {ID_MAX}")
        method = document.get("method")
        if not isinstance(method, str):
            raise malformed("method must be a string")
        params = document.get("params", {})
        if not isinstance(params, dict):
            raise malformed("params must be an object")
        return cls(request_id, method, params)


def encode(document: Mapping[str, object], limit_bytes: int) -> bytes:
    """Return the object as one frame. Values may be anything of JSON, and Documents.

    Raises RequestRefused (too-large) beyond the limit, and TypeError or ValueError for what JSON
    does not know, NaN and infinity included: then the fault is the caller's.
    """
    body = json.dumps(document, separators=(",", ":"), allow_nan=False, default=_document_to_json).encode("ascii")
    if len(body) > limit_bytes:
        raise too_large(len(body), limit_bytes)
    return struct.pack("!I", len(body)) + body


def body_bytes(header: bytes, limit_bytes: int) -> int:
    """Return how many bytes follow the header. Raises RequestRefused (too-large) beyond the limit."""
    (size,) = struct.unpack("!I", header)
    if size > limit_bytes:
        raise too_large(size, limit_bytes)
    return int(size)


def decode(body: bytes) -> dict[str, object]:
    """Read the object of a frame. Raises RequestRefused (malformed) for everything else, whatever the bytes are."""
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as problem:
        raise malformed("the frame does not hold JSON in UTF-8") from problem
    if not isinstance(document, dict):
        raise malformed("the frame holds JSON that is not an object")
    return document


def check_version(version: object) -> None:
    """Raise RequestRefused (version), which names both versions, unless the other end speaks ours."""
    if version == VERSION and isinstance(version, int) and not isinstance(version, bool):
        return
    raise RequestRefused(
        ErrorCode.VERSION,
        f"one end speaks version {VERSION} of the control protocol, the other {quoted(version)}",
        "use the throughway command and the daemon of one release, and restart the daemon after an upgrade",
    )


def id_of(document: Mapping[str, object]) -> int | None:
    """Return the id of a request or answer, or None where it has none that is usable."""
    value = document.get("id")
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= ID_MAX:
        return value
    return None


def answer(request_id: int, result: object) -> dict[str, object]:
    """Return the one answer to a request."""
    return {"v": VERSION, "id": request_id, "result": result}


def stream_item(request_id: int, item: object) -> dict[str, object]:
    """Return one of many answers to a request."""
    return {"v": VERSION, "id": request_id, "item": item}


def stream_end(request_id: int) -> dict[str, object]:
    """Return what closes a stream."""
    return {"v": VERSION, "id": request_id, "end": True}


def refusal(request_id: int | None, refused: RequestRefused) -> dict[str, object]:
    """Return the refusal of a request, or of bytes that are none (id None)."""
    return {"v": VERSION, "id": request_id, "error": refused.to_json()}


def malformed(problem: str) -> RequestRefused:
    """Return the refusal of what is not a request."""
    return RequestRefused(
        ErrorCode.MALFORMED, problem, 'send {"v": 1, "id": 1, "method": "status", "params": {}} behind its length'
    )


def too_large(size_bytes: int, limit_bytes: int) -> RequestRefused:
    """Return the refusal of a frame beyond its limit."""
    return RequestRefused(
        ErrorCode.TOO_LARGE,
        f"the frame has {size_bytes} bytes and the limit is {limit_bytes}",
        "ask for less at a time; long lists are read in pages",
    )


def quoted(value: object) -> str:
    """Return foreign text fit for a message: escaped, and short whatever came."""
    match value:
        case None:
            return "none"
        case str():
            text = ascii(value[:_QUOTED_CHARACTERS_MAX])
        case int() | float():
            text = _number(value)
        case _:
            text = f"a {type(value).__name__}"
    return text if len(text) <= _QUOTED_CHARACTERS_MAX else text[:_QUOTED_CHARACTERS_MAX] + "..."


def _number(value: float) -> str:
    # Python refuses to print an integer of thousands of digits.
    return str(value) if abs(value) <= ID_MAX else "a large number"


def _document_to_json(value: object) -> object:
    if isinstance(value, Document):
        return value.to_json()
    raise TypeError(f"{type(value).__name__} has no JSON")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
