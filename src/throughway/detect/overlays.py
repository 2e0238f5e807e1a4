"""Mesh VPNs with packets of their own: ZeroTier, Nebula, and the NAT traversal of SoftEther."""

from typing import Final

from throughway.detect.answers import CERTAIN, LIKELY, STRONG, Answer, Datagram, Notes, looks_random
from throughway.wire import nebula, zerotier

ZEROTIER_PORT: Final = 9993
_NEBULA_PORT: Final = 4242
_PAIRS_MAX: Final = 8
_STEP_MAX: Final = 256

_INDEX_MIN: Final = 1 << 16
"""Indices of Nebula are random; what is below is a count of something else, but for one in 65,536."""

_SAMPLE: Final = 128

_SOFTETHER_COUNT: Final = bytes(3)
_SOFTETHER_NAMES: Final = (b"\0\0\0\x07opcode", b"\0\0\0\x08tran_id")
_SOFTETHER_START: Final = b"IP="
_SOFTETHER_PORT: Final = b",PORT="
_SOFTETHER_SIZE_MAX: Final = 512


class Zerotier:
    """ZeroTier by a HELLO, whose identity repeats its sender's address, or by two ends that name each other."""

    __slots__ = ("_pairs",)

    def __init__(self) -> None:
        self._pairs: set[tuple[bool, bytes, bytes]] = set()

    @staticmethod
    def begins(datagram: Datagram) -> bool:
        """Whether the sender's address is repeated where a HELLO has it, or the port is ZeroTier's."""
        data = datagram.payload
        if len(data) < zerotier.HEADER_SIZE:
            return False
        if data[41:46] == data[13:18] and data[27] & 0x1F == 1:
            return True
        return ZEROTIER_PORT in (datagram.source_port, datagram.destination_port)

    def look(self, datagram: Datagram, notes: Notes) -> Answer | None:
        """See `Recogniser.look`."""
        packet = zerotier.parse(datagram.payload)
        if packet is None:
            return None
        port = datagram.destination_port if datagram.from_initiator else datagram.source_port
        words = f"from {packet.source.hex()} to {packet.destination.hex()}, UDP {port}"
        key = (datagram.from_initiator, packet.source, packet.destination)
        if len(self._pairs) < _PAIRS_MAX:
            self._pairs.add(key)
        if packet.hello_version is not None:
            answer = Answer("zerotier", CERTAIN, f"ZeroTier HELLO, protocol {packet.hello_version}, {words}")
        elif (not datagram.from_initiator, packet.destination, packet.source) in self._pairs:
            answer = Answer("zerotier", STRONG, f"ZeroTier, two nodes that name each other, {words}")
        else:
            return None
        notes.add(f"node {packet.source.hex()}")
        return answer


class Nebula:
    """Nebula by its handshake, whose header is fixed in 16 bytes, or by counters that go on."""

    __slots__ = ("_counters",)

    def __init__(self) -> None:
        self._counters: dict[tuple[bool, int], tuple[int, int]] = {}

    @staticmethod
    def begins(datagram: Datagram) -> bool:
        """Whether version, subtype and reserved bits are Nebula's."""
        data = datagram.payload
        return len(data) >= nebula.HEADER_SIZE and data[0] >> 4 == 1 and data[1] <= 1 and data[2:4] == b"\0\0"

    def look(self, datagram: Datagram, notes: Notes) -> Answer | None:
        """See `Recogniser.look`."""
        header = nebula.parse(datagram.payload)
        if header is None:
            return None
        port = datagram.destination_port if datagram.from_initiator else datagram.source_port
        words = f"Nebula {nebula.NAMES[header.type]}, UDP {port}"
        if header.type == nebula.HANDSHAKE:
            return self._handshake(datagram, header, words, notes)
        if header.remote_index < _INDEX_MIN or not looks_random(datagram.payload[nebula.HEADER_SIZE :][:_SAMPLE]):
            return None
        key = (datagram.from_initiator, header.remote_index)
        before, run = self._counters.get(key, (None, 0))
        if before is None and len(self._counters) >= _PAIRS_MAX:
            return None
        run = run + 1 if before is not None and 0 < header.counter - before <= _STEP_MAX else 0
        self._counters[key] = (header.counter, run)
        # Counters of a handshake are 1 and 2, so data begins above; two steps show that it is a counter.
        if run < 2:
            return None
        notes.add(f"index {header.remote_index:#010x}")
        return Answer("nebula", STRONG, f"{words}, index {header.remote_index:#010x}, counters up to {header.counter}")

    def _handshake(self, datagram: Datagram, header: nebula.NebulaHeader, words: str, notes: Notes) -> Answer | None:
        """Judge a handshake: the first message has no index yet and counter 1, the second an index and counter 2."""
        is_first = header.counter == 1 and not header.remote_index
        is_second = header.counter == 2 and header.remote_index >= _INDEX_MIN
        key = datagram.payload[nebula.HEADER_SIZE : nebula.HEADER_SIZE + 256]
        if datagram.size < nebula.HANDSHAKE_SIZE_MIN or not (is_first or is_second):
            return None
        has_key = _has_key(key)
        if not has_key and not datagram.has_port(_NEBULA_PORT):
            return None
        if header.remote_index:
            notes.add(f"index {header.remote_index:#010x}")
        return Answer("nebula", STRONG if has_key else LIKELY, f"{words}, message {header.counter}")


def _has_key(data: bytes) -> bool:
    """Whether a public key of 32 bytes may begin here, or behind a few bytes that frame it."""
    return len(data) >= 48 and looks_random(data[8:40])


class Softether:
    """SoftEther's NAT traversal: requests with an opcode and a transaction ID, and a server's word of how it is seen.

    The requests are in the form that all of its messages have: names, each behind its length plus one (Pack.c and
    Network.c of its source).
    """

    __slots__ = ()

    @staticmethod
    def begins(datagram: Datagram) -> bool:
        """Whether such an answer begins, or a small number of names."""
        return datagram.payload[:3] in (_SOFTETHER_START, _SOFTETHER_COUNT)

    def look(self, datagram: Datagram, notes: Notes) -> Answer | None:
        """See `Recogniser.look`."""
        data = datagram.payload[:_SOFTETHER_SIZE_MAX]
        if data.startswith(_SOFTETHER_COUNT):
            is_request = all(name in data for name in _SOFTETHER_NAMES)
            return Answer("softether", CERTAIN, "SoftEther NAT traversal, a request") if is_request else None
        address, separator, rest = data[len(_SOFTETHER_START) :].partition(_SOFTETHER_PORT)
        digits = rest.partition(b"#")[0].rstrip(b"\0\r\n")
        if not separator or not _is_address(address) or not digits.isdigit() or len(digits) > 5:
            return None
        text = f"{address.decode('ascii')} port {digits.decode('ascii')}"
        return Answer("softether", CERTAIN, f"SoftEther NAT traversal, the client is seen as {text}")


def _is_address(data: bytes) -> bool:
    return 2 <= len(data) <= 45 and all(byte in b"0123456789abcdefABCDEF.:" for byte in data)
