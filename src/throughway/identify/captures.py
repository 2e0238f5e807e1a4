"""Capture files, frame by frame: pcap and pcapng, in any byte order, gzip's too, as far as they are sound.

dpkt reads pcap, and the blocks of pcapng; the walk over blocks is ours, since dpkt's own takes the first interface's
link type and time for all (record 0016). No frame is kept, and no length in a file makes us ask for more than a frame
may have.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from gzip import BadGzipFile, GzipFile
from io import BufferedReader
from pathlib import Path
from struct import Struct
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from dpkt import Error as DpktError
from dpkt import pcap, pcapng

FRAME_SIZE_MAX: Final = 1 << 18
"""libpcap's greatest snapshot length; a record that claims more is damage."""

_BLOCK_SIZE_MAX: Final = FRAME_SIZE_MAX + (1 << 16)
_SECTION: Final = 0x0A0D0D0A
_INTERFACE, _PACKET, _SIMPLE, _ENHANCED = 1, 2, 3, 6
_BLOCK_HEADER: Final = {True: Struct("<II"), False: Struct(">II")}
_WORD: Final = {True: Struct("<I"), False: Struct(">I")}
_BYTE_ORDERS: Final = {b"\x4d\x3c\x2b\x1a": True, b"\x1a\x2b\x3c\x4d": False}
_BLOCK_SIZE_MIN: Final = 12
_OPTION_RESOLUTION, _OPTION_OFFSET = 9, 14
_ENHANCED_SIZE_MIN: Final = 32
_INTERFACES_MAX: Final = 4096
_RESOLUTION_DEFAULT: Final = 1e6
_GZIP: Final = b"\x1f\x8b"
"""RFC 1952 section 2.3.1."""


class Damaged(Exception):
    """The file cannot be read, or not further. Says where and why; what was read before is sound."""


class Frame(NamedTuple):
    """One captured frame. `at` is in seconds since 1970, as the file tells them."""

    at: float
    link_type: int
    data: bytes


@dataclass(frozen=True, slots=True)
class _Interface:
    """What an interface of a pcapng section says of its packets. Times count in `divisor` parts of a second."""

    link_type: int
    divisor: float
    offset_s: int


class Capture:
    """An open capture file. `size_bytes` is that of the file, and `position_bytes` how much of it has been read."""

    def __init__(self, path: Path) -> None:
        """Open a file. Raises OSError where it cannot be opened."""
        self.size_bytes = path.stat().st_size
        self._on_disk = path.open("rb")
        is_compressed = self._on_disk.peek(2)[:2] == _GZIP
        self._file = _Whole(GzipFile(fileobj=self._on_disk) if is_compressed else self._on_disk)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on_disk.close()

    @property
    def position_bytes(self) -> int:
        """How far the file has been read; of a compressed one, before it is unpacked."""
        return self._on_disk.tell()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames. Raises Damaged where the file is no capture, or not sound any further."""
        try:
            first = self._file.peek()
            if len(first) < 4:
                raise Damaged("it is empty" if not first else "it is too short for a capture file")
            yield from _pcapng(self._file) if first[:4] == b"\x0a\x0d\x0d\x0a" else _pcap(self._file)
        except (DpktError, ValueError, OverflowError, ArithmeticError) as error:
            raise Damaged(
                f"it is no capture file that can be read, from byte {self._file.read_bytes} on: {error}"
            ) from error
        except (EOFError, zlib.error, BadGzipFile) as error:
            raise Damaged(f"its compression is damaged, before byte {self.position_bytes}: {error}") from error
        except OSError as error:
            raise Damaged(f"reading failed at byte {self.position_bytes}: {error.strerror}") from error


class _Whole:
    """A file for dpkt to read from: what is asked for comes in full, or nothing at the end of the file, or Damaged.

    dpkt takes a short read for a short packet, and a length of gigabytes for a wish.
    """

    def __init__(self, file: BufferedReader | GzipFile) -> None:
        self._file = file
        self.read_bytes = 0
        self.name = "capture"
        self.may_end = False

    def peek(self) -> bytes:
        """Return the first four bytes, without reading them; fewer where there are not so many."""
        return self._file.peek(4)[:4]

    def read(self, size: int) -> bytes:
        """Return so many bytes, or none where the file ends and `may_end` says that it may. Raises Damaged else."""
        if not 0 <= size <= _BLOCK_SIZE_MAX:
            raise Damaged(f"at byte {self.read_bytes} a length of {size} bytes is impossible")
        data = self._file.read(size)
        if len(data) < size and (data or not self.may_end):
            raise Damaged(f"it ends in the middle of a record, at byte {self.read_bytes + len(data)}")
        self.read_bytes += len(data)
        self.may_end = False
        return data


def _pcap(file: _Whole) -> Iterator[Frame]:
    reader = pcap.Reader(file)
    link_type = reader.datalink() & 0xFFFF  # The upper bits tell the length of a frame check sequence.
    records = iter(reader)
    while True:
        file.may_end = True
        record = next(records, None)
        if record is None:
            return
        yield Frame(float(record[0]), link_type, record[1])


def _pcapng(file: _Whole) -> Iterator[Frame]:
    """Walk the blocks of all sections (draft-ietf-opsawg-pcapng sections 3.1, 4)."""
    little = True
    interfaces: list[_Interface] = []
    while header := _next_header(file):
        if header[:4] == b"\x0a\x0d\x0d\x0a":
            magic = file.read(4)
            if magic not in _BYTE_ORDERS:
                raise Damaged(f"the section at byte {file.read_bytes - 12} has no byte order")
            little, interfaces = _BYTE_ORDERS[magic], []
            file.read(_body_size(file, header, little) - 4)
            continue
        kind = _BLOCK_HEADER[little].unpack(header)[0]
        block = header + file.read(_body_size(file, header, little))
        if kind == _INTERFACE and len(interfaces) < _INTERFACES_MAX:
            interfaces.append(_interface(block, little))
        elif kind in (_ENHANCED, _PACKET, _SIMPLE):
            yield _frame(file, kind, block, little, interfaces)


def _next_header(file: _Whole) -> bytes:
    file.may_end = True
    return file.read(8)


def _body_size(file: _Whole, header: bytes, little: bool) -> int:
    size: int = _BLOCK_HEADER[little].unpack(header)[1]
    if size < _BLOCK_SIZE_MIN or size % 4:
        raise Damaged(f"at byte {file.read_bytes - 8} a block's length of {size} bytes is impossible")
    return size - 8


def _interface(block: bytes, little: bool) -> _Interface:
    read = pcapng.InterfaceDescriptionBlockLE if little else pcapng.InterfaceDescriptionBlock
    found: Any = read(block)
    divisor, offset_s = _RESOLUTION_DEFAULT, 0
    for option in found.opts:
        if option.code == _OPTION_RESOLUTION and option.data:
            base, exponent = (2, option.data[0] & 0x7F) if option.data[0] & 0x80 else (10, option.data[0])
            divisor = float(base**exponent)
        elif option.code == _OPTION_OFFSET and len(option.data) == 8:
            offset_s = int.from_bytes(option.data, "little" if little else "big", signed=True)
    return _Interface(found.linktype, divisor, offset_s)


def _frame(file: _Whole, kind: int, block: bytes, little: bool, interfaces: list[_Interface]) -> Frame:
    """Read a block with a packet: enhanced, obsolete, or simple, which belongs to the first interface, without time."""
    if kind == _SIMPLE:
        number, at_units, size = 0, 0, _WORD[little].unpack_from(block, 8)[0]
        data = block[12 : min(12 + size, len(block) - 4)]
    else:
        enhanced, obsolete = (
            (pcapng.EnhancedPacketBlockLE, pcapng.PacketBlockLE)
            if little
            else (pcapng.EnhancedPacketBlock, pcapng.PacketBlock)
        )
        found: Any = (enhanced if kind == _ENHANCED else obsolete)(block)
        number, at_units, data = found.iface_id, found.ts_high << 32 | found.ts_low, found.pkt_data
        if len(data) != found.caplen or found.caplen > len(block) - _ENHANCED_SIZE_MIN:
            raise Damaged(f"before byte {file.read_bytes} a packet is longer than its block")
    if number >= len(interfaces):
        raise Damaged(f"before byte {file.read_bytes} a packet belongs to an interface that the file does not describe")
    interface = interfaces[number]
    return Frame(at_units / interface.divisor + interface.offset_s, interface.link_type, data)
