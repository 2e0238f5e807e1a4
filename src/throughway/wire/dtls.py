"""DTLS: the first record and a ClientHello in it (RFC 6347 sections 4.1, 4.2.2; RFC 5246 section 7.4.1.2).

type 1 | version 2 | epoch 2 | sequence 6 | length 2 | handshake type 1 | length 3 | message sequence 2 |
fragment offset 3 | fragment length 3 | version 2 | random 32 | session ID | cookie | cipher suites | ...
"""

from dataclasses import dataclass
from struct import Struct
from typing import Final

RECORD_HEADER_SIZE: Final = 13
VERSION_CISCO: Final = 0x0100
"""What was on the wire of Cisco's servers before DTLS 1.0 had its number; OpenSSL calls it DTLS1_BAD_VER. Nothing
but AnyConnect has ever spoken it."""

HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_RECORD: Final = Struct("!BHHHIH")
_VERSIONS: Final = frozenset({VERSION_CISCO, 0xFEFF, 0xFEFD})
_TYPES: Final = frozenset({20, 21, 22, 23})
_HELLO_AT: Final = RECORD_HEADER_SIZE + 12
_RECORD_MAX: Final = (1 << 14) + 2048

PSK_SUITES: Final = frozenset(
    {*range(0x8A, 0x8E), *range(0xA8, 0xAA), *range(0xAE, 0xB2), 0xCCAB, *range(0xC0A4, 0xC0A6)}
)
"""Cipher suites whose only key is a shared one (RFC 4279, 5487, 6655, 7905), without those with a tag of 8 bytes: these
are for small devices, whose CoAP resumes sessions too (RFC 7252 section 9.1.3.1)."""

PSK_GCM: Final = frozenset({0x00A8, 0x00A9})
"""AES-GCM with a shared key alone (RFC 5487 section 2)."""

_SIGNALLING: Final = frozenset({0x00FF, 0x5600})
"""Values in the list of suites that are none (RFC 5746 section 3.3, RFC 7507 section 3)."""


@dataclass(frozen=True, slots=True)
class DtlsRecord:
    """The header of the first record in a datagram. `sequence` is that within the epoch."""

    type: int
    version: int
    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True)
class ClientHello:
    """The first flight of a client. `suites` is without signalling values."""

    session_id: bytes
    cookie_size: int
    suites: tuple[int, ...]
    extensions: tuple[int, ...]


def parse_record(data: bytes, size: int) -> DtlsRecord | None:
    """Read the header of the first record of a datagram of `size` bytes, or None where it is none."""
    if len(data) < RECORD_HEADER_SIZE or data[0] not in _TYPES:
        return None
    kind, version, epoch, high, low, length = _RECORD.unpack_from(data)
    if version not in _VERSIONS or not 0 < length <= _RECORD_MAX or RECORD_HEADER_SIZE + length > size:
        return None
    return DtlsRecord(kind, version, epoch, high << 32 | low)


def parse_client_hello(data: bytes) -> ClientHello | None:
    """Read the ClientHello in the first record, whole; None where there is none or it goes on elsewhere."""
    if len(data) < _HELLO_AT + 35 or data[0] != HANDSHAKE or data[RECORD_HEADER_SIZE] != _CLIENT_HELLO:
        return None
    at = _HELLO_AT + 34
    session_id, at = _vector(data, at, 1)
    cookie, at = _vector(data, at, 1)
    suites, at = _vector(data, at, 2)
    compression, at = _vector(data, at, 1)
    if session_id is None or cookie is None or not suites or len(suites) % 2 or not compression:
        return None
    extensions, _ = _vector(data, at, 2)
    numbers = (int.from_bytes(suites[n : n + 2], "big") for n in range(0, len(suites), 2))
    return ClientHello(
        session_id,
        len(cookie),
        tuple(number for number in numbers if number not in _SIGNALLING),
        tuple(_extension_types(extensions or b"")),
    )


def _vector(data: bytes, at: int, length_size: int) -> tuple[bytes | None, int]:
    """Read a vector with its length before it; None where it does not fit, and then for all that follow."""
    begin = at + length_size
    end = begin + int.from_bytes(data[at:begin], "big")
    return (data[begin:end], end) if begin <= len(data) and end <= len(data) else (None, len(data) + 1)


def _extension_types(data: bytes) -> list[int]:
    types, at = [], 0
    while at + 4 <= len(data):
        types.append(int.from_bytes(data[at : at + 2], "big"))
        at += 4 + int.from_bytes(data[at + 2 : at + 4], "big")
    return types
