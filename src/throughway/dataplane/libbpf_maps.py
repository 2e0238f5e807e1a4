"""BPF maps from user space: look up, update, delete, walk, in single calls and in batches."""

import ctypes
import errno
import os
from collections.abc import Iterator, Mapping
from ctypes import byref, c_uint32
from typing import Final

from throughway.dataplane.libbpf_calls import MapInfo, checked, library, possible_cpus

ANY: Final = 0
NOEXIST: Final = 1
EXIST: Final = 2
LOCK: Final = 4
"""Flags of look-ups and updates, from <linux/bpf.h>."""

_PER_CPU_TYPES: Final = frozenset({5, 6, 10, 21})
"""BPF_MAP_TYPE_PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH, PERCPU_CGROUP_STORAGE: a value for each CPU."""


class BpfMap:
    """One map by its file descriptor, which it owns unless the map came out of a BpfObject.

    Keys and values are bytes of exactly the sizes of the map; a wrong size is a ValueError, since the
    kernel would read past the end. Values of per-CPU maps are those of all possible CPUs in a row, each
    padded to 8 bytes.
    """

    def __init__(self, fd: int) -> None:
        self._lib = library()
        info = MapInfo()
        size = c_uint32(ctypes.sizeof(info))
        checked(f"map fd {fd}", self._lib.bpf_obj_get_info_by_fd(fd, byref(info), byref(size)))
        self.fd = fd
        self.name = info.name.decode()
        self.map_type = int(info.type)
        self.key_size = int(info.key_size)
        self.max_entries = int(info.max_entries)
        self.value_size = int(info.value_size)
        if self.map_type in _PER_CPU_TYPES:
            self.value_size = (self.value_size + 7 & ~7) * possible_cpus()

    def lookup(self, key: bytes, flags: int = ANY) -> bytes | None:
        """Return the value under the key, or None. With LOCK it is read under the value's spin lock."""
        value = ctypes.create_string_buffer(self.value_size)
        answer = self._lib.bpf_map_lookup_elem_flags(self.fd, self._key(key), value, flags)
        if answer == -errno.ENOENT:
            return None
        checked(f"look-up in map {self.name}", answer)
        return value.raw

    def update(self, key: bytes, value: bytes, flags: int = ANY) -> None:
        """Write the value under the key. KernelRefused carries EEXIST for NOEXIST, E2BIG when the map is full."""
        answer = self._lib.bpf_map_update_elem(self.fd, self._key(key), self._value(value), flags)
        checked(f"update of map {self.name}", answer)

    def delete(self, key: bytes) -> bool:
        """Remove the key and say whether it was there."""
        answer = self._lib.bpf_map_delete_elem(self.fd, self._key(key))
        if answer == -errno.ENOENT:
            return False
        checked(f"deletion from map {self.name}", answer)
        return True

    def keys(self) -> Iterator[bytes]:
        """Walk the keys. Where others write meanwhile, keys may come twice or not at all."""
        key: bytes | None = None
        following = ctypes.create_string_buffer(self.key_size)
        while True:
            answer = self._lib.bpf_map_get_next_key(self.fd, key, following)
            if answer == -errno.ENOENT:
                return
            checked(f"walk of map {self.name}", answer)
            key = following.raw
            yield key

    def items(self, batch: int = 4096) -> Iterator[tuple[bytes, bytes]]:
        """Read all entries in batches of about this many, in no order (hash and array maps)."""
        for keys, values, count in self._batches(batch):
            yield from zip(_cut(keys, self.key_size, count), _cut(values, self.value_size, count), strict=True)

    def batches_where(self, offset: int, least: int, batch: int) -> Iterator[list[tuple[bytes, bytes]]]:
        """Read those entries whose 64-bit number at this offset of the value is no less than `least`.

        One list for each batch that the kernel gave, an empty one too, so that somebody else may have a turn between
        them. Values and offset are multiples of 8 bytes; what is left out costs some ten nanoseconds.
        """
        for keys, values, count in self._batches(batch):
            numbers = memoryview(values).cast("Q")[offset // 8 : count * self.value_size // 8 : self.value_size // 8]
            yield [
                (
                    keys[at * self.key_size : (at + 1) * self.key_size],
                    values[at * self.value_size : (at + 1) * self.value_size],
                )
                for at, number in enumerate(numbers)
                if number >= least
            ]

    def _batches(self, batch: int) -> Iterator[tuple[bytes, bytes, int]]:
        """Read all keys and values, each batch of them in a row, and how many they are."""
        size = max(batch, 1)
        cursor: ctypes.Array[ctypes.c_char] | None = None
        following = ctypes.create_string_buffer(max(4, self.key_size))
        finished = False
        while not finished:
            keys = ctypes.create_string_buffer(self.key_size * size)
            values = ctypes.create_string_buffer(self.value_size * size)
            count = c_uint32(size)
            answer = self._lib.bpf_map_lookup_batch(self.fd, cursor, following, keys, values, byref(count), None)
            if answer == -errno.ENOSPC:
                size *= 2  # One hash bucket alone holds more than the batch: ask again with more room.
                continue
            finished = answer == -errno.ENOENT
            if not finished:
                checked(f"batch of map {self.name}", answer)
            yield keys.raw, values.raw, count.value
            cursor = ctypes.create_string_buffer(following.raw, len(following))

    def update_batch(self, entries: Mapping[bytes, bytes]) -> None:
        """Write many entries with one call. On KernelRefused some of them may have been written."""
        keys = b"".join(self._key(key) for key in entries)
        values = b"".join(self._value(value) for value in entries.values())
        if entries:
            count = c_uint32(len(entries))
            checked(
                f"batch to map {self.name}", self._lib.bpf_map_update_batch(self.fd, keys, values, byref(count), None)
            )

    def close(self) -> None:
        """Give the descriptor back; only for maps from `map_get`."""
        os.close(self.fd)

    def _key(self, key: bytes) -> bytes:
        if len(key) != self.key_size:
            raise ValueError(f"map {self.name} has keys of {self.key_size} bytes, not {len(key)}")
        return key

    def _value(self, value: bytes) -> bytes:
        if len(value) != self.value_size:
            raise ValueError(f"map {self.name} has values of {self.value_size} bytes, not {len(value)}")
        return value


def _cut(data: bytes, size: int, count: int) -> Iterator[bytes]:
    return (data[index * size : (index + 1) * size] for index in range(count))
