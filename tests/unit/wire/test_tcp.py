"""The front of TCP segments."""

from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import TCP
from scapy.packet import Raw

from throughway.wire import tcp


def test_what_scapy_writes_is_read() -> None:
    data = bytes(TCP(sport=1723, dport=40000, seq=7, flags="SA", options=[("MSS", 1460)]) / Raw(b"abc"))
    front = tcp.front(b"xx" + data, 2)
    assert front == tcp.TcpFront(1723, 40000, 7, tcp.SYN | tcp.ACK, 26)


def test_a_header_shorter_than_the_shortest_is_none() -> None:
    assert tcp.front(bytes(12) + b"\x40" + bytes(30)) is None


@given(st.binary(max_size=60))
def test_no_bytes_raise(data: bytes) -> None:
    front = tcp.front(data)
    assert front is None or front.payload_at >= 20
