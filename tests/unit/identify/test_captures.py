"""Capture files of both kinds, in both byte orders, whole and damaged."""

import gzip
from pathlib import Path
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import PcapNgWriter, PcapWriter

from throughway.identify.captures import Capture, Damaged, Frame

PACKETS = [Ether() / IP() / UDP(sport=number) / Raw(bytes(30 + number)) for number in range(1, 6)]
FRAMES = [bytes(packet) for packet in PACKETS]


def read_one_by_one(path: Path) -> tuple[list[Frame], str]:
    found: list[Frame] = []
    try:
        with Capture(path) as capture:
            for frame in capture:
                found.append(frame)  # noqa: PERF402 - extend() would lose what came before the damage.
    except Damaged as damage:
        return found, str(damage)
    return found, ""


@pytest.fixture(params=["<", ">"])
def pcap(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "a.pcap"
    writer = PcapWriter(str(path), endianness=request.param, linktype=1)
    for number, packet in enumerate(PACKETS):
        packet.time = 1_600_000_000 + number / 4
        writer.write(packet)
    writer.close()
    return path


def test_pcap_in_both_byte_orders(pcap: Path) -> None:
    found, damage = read_one_by_one(pcap)
    assert damage == ""
    assert [frame.data for frame in found] == FRAMES
    assert [frame.at for frame in found[:3]] == [1_600_000_000, 1_600_000_000.25, 1_600_000_000.5]
    assert {frame.link_type for frame in found} == {1}


def test_a_file_that_gzip_compressed_is_read_as_it_is(pcap: Path, tmp_path: Path) -> None:
    packed = tmp_path / "a.pcap.gz"
    packed.write_bytes(gzip.compress(pcap.read_bytes()))
    assert read_one_by_one(packed) == read_one_by_one(pcap)


@pytest.mark.parametrize(("begin", "end"), [(0, -12), (0, 60), (0, 11), (5, None)])
def test_damaged_compression_is_told(pcap: Path, tmp_path: Path, begin: int, end: int | None) -> None:
    packed = tmp_path / "a.pcap.gz"
    data = gzip.compress(pcap.read_bytes())
    packed.write_bytes(data[:2] + b"\x77" * begin + data[2 + begin : end])
    found, damage = read_one_by_one(packed)
    assert len(found) <= len(FRAMES)
    assert "its compression is damaged" in damage


def test_pcapng_as_scapy_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    writer = PcapNgWriter(str(path))
    for packet in PACKETS:
        writer.write(packet)
    writer.close()
    found, damage = read_one_by_one(path)
    assert damage == ""
    assert [frame.data for frame in found] == FRAMES


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    size = 12 + len(body)
    return pack(f"{order}II", kind, size) + body + pack(f"{order}I", size)


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(link_type: int, options: bytes = b"", order: str = "<") -> bytes:
    return block(1, pack(f"{order}HHI", link_type, 0, 0) + options, order)


def enhanced(number: int, at: int, data: bytes, order: str = "<") -> bytes:
    padded = data + bytes(-len(data) % 4)
    return block(6, pack(f"{order}IIIII", number, at >> 32, at & 0xFFFFFFFF, len(data), len(data)) + padded, order)


@pytest.mark.parametrize("order", ["<", ">"])
def test_each_interface_of_pcapng_has_its_link_type_and_its_time(tmp_path: Path, order: str) -> None:
    nanoseconds = pack(f"{order}HH", 9, 1) + b"\x09\0\0\0" + pack(f"{order}HH", 0, 0)
    path = tmp_path / "a.pcapng"
    path.write_bytes(
        section(order)
        + interface(1, order=order)
        + interface(101, nanoseconds, order)
        + enhanced(0, 5_000_000, b"first", order)
        + enhanced(1, 5_000_000_000, b"second", order)
        + block(3, pack(f"{order}I", 5) + b"third", order)
        + block(0x0BAD, b"a block of nobody", order)
        + section("<")
        + interface(113)
        + enhanced(0, 7_000_000, b"fourth")
    )
    found, damage = read_one_by_one(path)
    assert damage == ""
    assert found == [
        Frame(5.0, 1, b"first"),
        Frame(5.0, 101, b"second"),
        Frame(0.0, 1, b"third"),
        Frame(7.0, 113, b"fourth"),
    ]


def test_a_file_that_was_cut_off_yields_what_is_whole(pcap: Path) -> None:
    data = pcap.read_bytes()
    for cut in (1, 20, len(FRAMES[-1]) + 5):
        pcap.write_bytes(data[:-cut])
        found, damage = read_one_by_one(pcap)
        assert [frame.data for frame in found] == FRAMES[:-1]
        assert "ends in the middle" in damage


def test_a_length_that_cannot_be_is_damage_and_no_wish(pcap: Path) -> None:
    data = bytearray(pcap.read_bytes())
    at = 24 + 16 + len(FRAMES[0]) + 8
    data[at : at + 4] = b"\xf0\xff\xff\xf0"
    pcap.write_bytes(bytes(data))
    found, damage = read_one_by_one(pcap)
    assert [frame.data for frame in found] == FRAMES[:1]
    assert "impossible" in damage


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"ab", "too short"),
        (b"this is a text and no capture", "no capture file"),
        (section()[:-4], "ends in the middle"),
        (section() + enhanced(0, 0, b"x"), "does not describe"),
        (section() + interface(1) + pack("<II", 6, 7), "impossible"),
        (section() + interface(1) + pack("<II", 6, 0), "impossible"),
        (section()[:8] + bytes(20), "byte order"),
    ],
)
def test_what_is_no_capture_is_told(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    found, damage = read_one_by_one(path)
    assert found == []
    assert words in damage


@given(st.integers(0, 400), st.binary(min_size=1, max_size=12), st.booleans())
def test_every_damage_is_told_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, at: int, junk: bytes, ng: bool
) -> None:
    whole = section() + interface(1) + b"".join(enhanced(0, number, data) for number, data in enumerate(FRAMES))
    if not ng:
        records = (pack("<IIII", 1, 2, len(data), len(data)) + data for data in FRAMES)
        whole = pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + b"".join(records)
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(whole[:at] + junk + whole[at + len(junk) :])
    read_one_by_one(path)
