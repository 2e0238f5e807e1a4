"""Packet captures of other projects as test data, never part of the repository: tests skip where they are absent."""

import json
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP
from scapy.packet import Packet
from scapy.utils import PcapReader

_CHECKOUT = Path(__file__).resolve().parent.parent


@cache
def captures_folder() -> Path | None:
    """Return the folder with the captures: THROUGHWAY_CAPTURES, else ../shared/captures beside the checkout."""
    folder = Path(os.environ.get("THROUGHWAY_CAPTURES", _CHECKOUT.parent / "shared" / "captures"))
    return folder if (folder / "index.json").is_file() else None


needs_captures = pytest.mark.skipif(
    captures_folder() is None,
    reason="no captures: set THROUGHWAY_CAPTURES to a folder with index.json and the capture files",
)


def described(name: str) -> dict[str, Any]:
    """Read one of the JSON files which say what is in the captures; empty where they are absent."""
    folder = captures_folder()
    return json.loads((folder / name).read_text()) if folder else {}


def packets(file: str) -> Iterator[tuple[int, Packet]]:
    """Read a capture as (frame number from 1, packet). Frames that the oracle cannot read end the capture."""
    folder = captures_folder()
    assert folder is not None
    with PcapReader(str(folder / file)) as reader:
        yield from enumerate(reader, start=1)


def ipv4_bytes(packet: Packet) -> bytes | None:
    """Return a frame from its outermost IPv4 header on, as it was captured, or None where it has none."""
    layer = packet.getlayer(IP)
    return None if layer is None else bytes(layer.original)
