"""The ring's consumer, against its memory layout in a plain file."""

import mmap
import os
import struct
from collections.abc import Iterator

import pytest

from throughway.dataplane.ring import Ring

PAGE = mmap.PAGESIZE
SIZE = PAGE
BUSY = 1 << 31
DISCARDED = 1 << 30


class Producer:
    """Writes what the kernel writes. The two mappings of the data are two places here, so each record goes to both."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * PAGE + 2 * SIZE)
        self.position = 0

    def begin_at(self, position: int) -> None:
        """Have both ends stand somewhere in the middle of a long life."""
        self.position = position
        os.pwrite(self.fd, struct.pack("=Q", position), 0)
        os.pwrite(self.fd, struct.pack("=Q", position), PAGE)

    def put(self, data: bytes, flags: int = 0) -> int:
        """Write one record, and return where it is."""
        at = self.position
        record = struct.pack("=II", len(data) | flags, 0) + data
        offset = at % SIZE
        os.pwrite(self.fd, record, 2 * PAGE + offset)
        if offset + len(record) > SIZE:
            os.pwrite(self.fd, record[SIZE - offset :], 2 * PAGE)
        self.position += (len(record) + 7) & ~7
        os.pwrite(self.fd, struct.pack("=Q", self.position), PAGE)
        return at

    def commit(self, at: int, size: int) -> None:
        os.pwrite(self.fd, struct.pack("=I", size), 2 * PAGE + at % SIZE)

    def consumed(self) -> int:
        return int(struct.unpack("=Q", os.pread(self.fd, 8, 0))[0])


@pytest.fixture
def producer() -> Iterator[Producer]:
    made = Producer()
    yield made
    os.close(made.fd)


def test_records_come_out_in_order_and_make_room(producer: Producer) -> None:
    producer.put(b"one")
    producer.put(b"twotwotwo")
    ring = Ring(producer.fd, SIZE)
    assert not ring.is_empty()
    assert ring.read(10) == [b"one", b"twotwotwo"]
    assert producer.consumed() == producer.position
    assert ring.is_empty()
    assert ring.read(10) == []
    ring.close()


def test_no_more_than_the_limit_is_taken(producer: Producer) -> None:
    ring = Ring(producer.fd, SIZE)
    for number in range(5):
        producer.put(bytes([number]))
    assert ring.read(3) == [b"\0", b"\1", b"\2"]
    assert ring.read(3) == [b"\3", b"\4"]
    ring.close()


def test_a_record_that_is_being_written_holds_back_what_is_behind_it(producer: Producer) -> None:
    ring = Ring(producer.fd, SIZE)
    producer.put(b"first")
    at = producer.put(b"busy!", BUSY)
    producer.put(b"behind")
    assert ring.read(10) == [b"first"]
    assert not ring.is_empty()
    producer.commit(at, 5)
    assert ring.read(10) == [b"busy!", b"behind"]
    ring.close()


def test_a_discarded_record_is_skipped(producer: Producer) -> None:
    ring = Ring(producer.fd, SIZE)
    producer.put(b"gone", DISCARDED)
    producer.put(b"kept")
    assert ring.read(10) == [b"kept"]
    assert ring.is_empty()
    ring.close()


def test_a_record_over_the_end_is_read_in_one_piece(producer: Producer) -> None:
    """The second mapping follows the first, so a record that wraps is contiguous."""
    producer.begin_at(7 * SIZE - 16)
    ring = Ring(producer.fd, SIZE)
    data = bytes(range(100))
    # The place behind the end is the beginning of the ring, mapped a second time.
    os.pwrite(producer.fd, data, 2 * PAGE + SIZE - 8)
    producer.put(data)
    assert ring.read(10) == [data]
    assert producer.consumed() == 7 * SIZE - 16 + 112
    ring.close()


def test_a_new_consumer_goes_on_where_the_last_one_stopped(producer: Producer) -> None:
    first = Ring(producer.fd, SIZE)
    producer.put(b"one")
    producer.put(b"two")
    assert first.read(1) == [b"one"]
    first.close()
    second = Ring(producer.fd, SIZE)
    assert second.read(10) == [b"two"]
    second.close()
