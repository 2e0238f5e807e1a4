"""Packets for the model world: real bytes, so that the data plane and the parsers have their say."""

from ipaddress import IPv4Address
from struct import Struct, pack, unpack

from throughway.core.ids import IpProtocol
from throughway.wire import udp
from throughway.wire.ike import FLAG_INITIATOR, FLAG_RESPONSE

_IPV4 = Struct("!BBHHHBBH4s4s")
_ESP = Struct("!III")
_UDP = Struct("!HHHH")
_IKE = Struct("!QQBBBBII")

V1_MAIN, V1_QUICK = (1, 2), (1, 32)
V2_INIT, V2_AUTH, V2_CHILD, V2_INFORMATIONAL = (2, 34), (2, 35), (2, 36), (2, 37)
"""IKE exchanges as (major version, exchange type)."""


def esp(source: IPv4Address, destination: IPv4Address, spi: int, sequence: int, mark: int) -> bytes:
    """Build an ESP packet whose ciphertext is `mark`, by which the world knows it again."""
    return _ipv4(source, destination, IpProtocol.ESP, _ESP.pack(spi, sequence, mark))


def esp_mark(packet: bytes) -> tuple[int, int]:
    """Return (SPI, mark) of a packet that `esp` built."""
    spi, _, mark = _ESP.unpack_from(packet, _IPV4.size)
    return spi, mark


def ike(
    source: IPv4Address,
    destination: IPv4Address,
    initiator_spi: int,
    exchange: tuple[int, int],
    message_id: int,
    *,
    from_initiator: bool,
    is_response: bool,
    floated: bool = False,
    responder_spi: int = 1,
) -> bytes:
    """Build an IKE message that is only a header, on port 4500 behind the marker where it floated."""
    version, exchange_type = exchange
    flags = (FLAG_INITIATOR if from_initiator else 0) | (FLAG_RESPONSE if is_response else 0) if version == 2 else 0
    message = _IKE.pack(initiator_spi, responder_spi, 0, version << 4, exchange_type, flags, message_id, _IKE.size)
    port = udp.NAT_T_PORT if floated else udp.IKE_PORT
    payload = (udp.NON_ESP_MARKER if floated else b"") + message
    return _ipv4(
        source, destination, IpProtocol.UDP, _UDP.pack(port, port, udp.HEADER_SIZE + len(payload), 0) + payload
    )


def portless(source: IPv4Address, destination: IPv4Address, protocol: int, discriminator: int, mark: int) -> bytes:
    """Build a packet of GRE, L2TPv3 data or any other protocol without ports but ESP, whose content is `mark`."""
    number = discriminator & 0xFFFFFFFF
    match protocol:
        case IpProtocol.GRE if discriminator:
            front = pack("!HHI", 0x2000, 0x0800, number)
        case IpProtocol.GRE:
            front = pack("!HH", 0, 0x0800)
        case IpProtocol.L2TPV3:
            front = pack("!I", number)
        case _:
            front = b""
    return _ipv4(source, destination, protocol, front + pack("!I", mark))


def portless_mark(packet: bytes) -> int:
    """Return the mark of a packet that `portless` built."""
    mark: int = unpack("!I", packet[-4:])[0]
    return mark


def l2tp_control(
    source: IPv4Address, destination: IPv4Address, connection_id: int, message_type: int, ids: dict[int, int]
) -> bytes:
    """Build a control message of L2TPv3 over IP; `ids` are the values of attributes of four bytes, by their type."""
    avps = pack("!HHHH", 0x8008, 0, 0, message_type)
    avps += b"".join(pack("!HHHI", 0x800A, 0, attribute, value) for attribute, value in ids.items())
    header = pack("!IHHIHH", 0, 0xC803, 12 + len(avps), connection_id, 0, 0)
    return _ipv4(source, destination, IpProtocol.L2TPV3, header + avps)


def _ipv4(source: IPv4Address, destination: IPv4Address, protocol: int, payload: bytes) -> bytes:
    header = _IPV4.pack(0x45, 0, _IPV4.size + len(payload), 0, 0, 64, protocol, 0, source.packed, destination.packed)
    return header + payload
