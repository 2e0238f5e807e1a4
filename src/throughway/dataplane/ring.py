"""Reads a BPF ring buffer through its shared memory; its file descriptor can be polled.

The kernel lays the map out as three areas, each beginning on a page:

    page 0        consumer position, written here        read and write
    page 1        producer position, written by BPF      read only
    page 2...     the data, mapped twice in a row        read only

The double mapping makes a record that wraps around the end contiguous. A record is an 8-byte header and its data,
padded to 8 bytes; the first 4 bytes of the header are the length, with two flags on top.
"""

import mmap
from typing import Final

_BUSY: Final = 1 << 31
"""The record is reserved and not committed yet; nothing behind it may be read."""
_DISCARDED: Final = 1 << 30
_HEADER_SIZE: Final = 8


class Ring:
    """Consumes the records of one BPF_MAP_TYPE_RINGBUF. There may be one consumer at a time.

    Positions and lengths are read and written by memory views of native 8 and 4-byte items: one aligned access
    each. Packing them bytewise (`struct` with "=Q") lets the kernel see half a position, and it then believes the
    ring to be full.
    """

    def __init__(self, fd: int, size_bytes: int) -> None:
        page = mmap.PAGESIZE
        self._fd = fd
        self._mask = size_bytes - 1
        self._consumer_map = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._producer_map = mmap.mmap(fd, page + 2 * size_bytes, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._consumer = memoryview(self._consumer_map).cast("Q")
        self._producer = memoryview(self._producer_map)
        self._produced = self._producer.cast("Q")
        self._lengths = self._producer.cast("I")
        self._position = self._consumer[0]

    def fileno(self) -> int:
        """Give the descriptor that becomes readable when there is a record."""
        return self._fd

    def is_empty(self) -> bool:
        """Tell whether nothing is in the ring, not even a record that is being written."""
        return self._position >= self._produced[0]

    def read(self, limit: int) -> list[bytes]:
        """Take out at most `limit` records, oldest first. Fewer when one is still being written."""
        records: list[bytes] = []
        while len(records) < limit and self._position < self._produced[0]:
            offset = mmap.PAGESIZE + (self._position & self._mask)
            header = self._lengths[offset >> 2]
            if header & _BUSY:
                break
            length = header & ~(_BUSY | _DISCARDED)
            if not header & _DISCARDED:
                records.append(bytes(self._producer[offset + _HEADER_SIZE : offset + _HEADER_SIZE + length]))
            self._position += (length + _HEADER_SIZE + 7) & ~7
            self._consumer[0] = self._position
        return records

    def close(self) -> None:
        """Unmap the memory. The descriptor belongs to the map and stays open."""
        for view in (self._consumer, self._produced, self._lengths, self._producer):
            view.release()
        self._consumer_map.close()
        self._producer_map.close()
