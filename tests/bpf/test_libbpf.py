"""The binding itself: what it loads, finds, pins, and how it says that the kernel refused."""

import errno
import os
import struct
import subprocess
from pathlib import Path

import pytest

from throughway.core.errors import KernelRefused
from throughway.dataplane.libbpf import BpfObject, link_create, obj_get, test_run
from throughway.dataplane.libbpf_maps import EXIST, NOEXIST, BpfMap

from .gateway import OBJECT, Gateway

_REFUSED_BY_THE_VERIFIER = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("tc") int reads_behind_the_end(struct __sk_buff *skb) { return *(__u8 *)(long)skb->data; }
char LICENSE[] SEC("license") = "GPL";
"""


def _budget(tokens: int) -> bytes:
    return struct.pack("=IIQ", tokens, 0, 0)


def _key(number: int) -> bytes:
    return number.to_bytes(4)


@pytest.fixture
def table(gateway: Gateway) -> BpfMap:
    return gateway.loaded.maps["ike_budgets"]


def test_entries_come_and_go(table: BpfMap) -> None:
    assert table.lookup(_key(1)) is None
    table.update(_key(1), _budget(5))
    assert table.lookup(_key(1)) == _budget(5)
    assert table.delete(_key(1)) is True
    assert table.delete(_key(1)) is False


def test_flags_of_updates(table: BpfMap) -> None:
    with pytest.raises(KernelRefused) as absent:
        table.update(_key(1), _budget(5), EXIST)
    assert absent.value.errno == errno.ENOENT
    table.update(_key(1), _budget(5), NOEXIST)
    with pytest.raises(KernelRefused, match="ike_budgets") as present:
        table.update(_key(1), _budget(6), NOEXIST)
    assert present.value.errno == errno.EEXIST
    assert table.lookup(_key(1)) == _budget(5)


@pytest.mark.parametrize("batch", [1, 7, 4096])
def test_batches_read_all_that_was_written(gateway: Gateway, batch: int) -> None:
    table = gateway.loaded.maps["senders"]
    entries = {struct.pack("=IIQII", n, 50, n * n, 0, 0): n.to_bytes(4) for n in range(1000)}
    table.update_batch(entries)
    assert dict(table.items(batch)) == entries
    assert set(table.keys()) == set(entries)


def test_an_empty_map_has_no_entries(table: BpfMap) -> None:
    table.update_batch({})
    assert list(table.items()) == []
    assert list(table.keys()) == []


@pytest.mark.parametrize("size", [0, 3, 5])
def test_wrong_sizes_never_reach_the_kernel(table: BpfMap, size: int) -> None:
    with pytest.raises(ValueError, match="keys of 4 bytes"):
        table.lookup(bytes(size))
    with pytest.raises(ValueError, match="values of 16 bytes"):
        table.update(_key(1), bytes(size))


def test_sizes_are_set_and_maps_reused(gateway: Gateway) -> None:
    shared = gateway.loaded.maps["mappings"]
    with BpfObject.load(OBJECT, sizes={"senders": 77}, reuse={"mappings": shared.fd}) as second:
        assert second.maps["senders"].max_entries == 77
        key = bytes(24)
        shared.update(key, bytes(48))
        assert second.maps["mappings"].lookup(key) == bytes(48)
    assert shared.lookup(key) == bytes(48)


def test_names_that_are_not_there_are_the_callers_mistake(wan: int) -> None:
    with pytest.raises(ValueError, match="nowhere"):
        BpfObject.load(OBJECT, sizes={"nowhere": 1})


def test_a_missing_object_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(KernelRefused, match=r"script/build-bpf") as missing:
        BpfObject.load(tmp_path / "no.bpf.o")
    assert missing.value.errno == errno.ENOENT


def test_a_refused_program_brings_the_end_of_the_verifiers_log(tmp_path: Path) -> None:
    source = tmp_path / "bad.bpf.c"
    source.write_text(_REFUSED_BY_THE_VERIFIER)
    headers = f"/usr/include/{os.uname().machine}-linux-gnu"
    flags = ["-target", "bpf", "-O2", "-g", "-idirafter", headers]
    subprocess.run(["clang", *flags, "-c", source, "-o", tmp_path / "bad.bpf.o"], check=True)
    with pytest.raises(KernelRefused, match="invalid access to packet") as refused:
        BpfObject.load(tmp_path / "bad.bpf.o")
    assert refused.value.errno == errno.EACCES


def test_a_link_to_no_interface_is_refused(gateway: Gateway) -> None:
    with pytest.raises(KernelRefused):
        link_create(gateway.loaded.programs["inside_ingress"], 999_999, 46)


def test_a_pin_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KernelRefused, match="pin") as missing:
        obj_get(tmp_path / "nothing")
    assert missing.value.errno in (errno.ENOENT, errno.EPERM)


def test_a_packet_that_is_no_frame_is_refused(gateway: Gateway) -> None:
    with pytest.raises(KernelRefused) as refused:
        test_run(gateway.loaded.programs["control"], bytes(13))
    assert refused.value.errno == errno.EINVAL


def test_descriptors_go_with_the_object(wan: int) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = count()
    for _ in range(3):
        BpfObject.load(OBJECT, sizes={"mappings": 16, "senders": 16}).close()
    assert count() == before
