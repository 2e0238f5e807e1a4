"""Protocols that a file describes without code: by IP protocol or port, and by patterns of bytes."""

from throughway.catalogue.catalogue import Catalogue
from throughway.catalogue.protocol import Pattern, Protocol, Side, Transport
from throughway.core.ids import IpProtocol
from throughway.detect.answers import DECLARED, LIKELY, STRONG, Answer, Datagram

STRONG_BITS = 32
"""Bits of a pattern from which it is strong evidence; chance makes them once in 2^32."""


class Declared:
    """The declared protocols of a catalogue, in the order of their files."""

    def __init__(self, catalogue: Catalogue) -> None:
        own = [protocol for protocol in catalogue.protocols if protocol.recognise.is_declared]
        self._by_protocol: dict[int, list[Protocol]] = {}
        for protocol in own:
            for number in _numbers(protocol):
                self._by_protocol.setdefault(number, []).append(protocol)

    @property
    def wants_tcp(self) -> bool:
        """Whether any of them is on TCP, so that streams must be looked at further."""
        return IpProtocol.TCP in self._by_protocol

    def judge(self, number: int, datagram: Datagram) -> Answer | None:
        """Say which declared protocol a datagram of an IP protocol is, the surest one."""
        protocols = self._by_protocol.get(number)
        if not protocols:
            return None
        answers = [answer for protocol in protocols if (answer := _judge(protocol, datagram))]
        return max(answers, key=lambda answer: answer.confidence, default=None)


def _numbers(protocol: Protocol) -> tuple[int, ...]:
    if protocol.recognise.transport is Transport.IP:
        return protocol.recognise.ip_protocols
    return (int(IpProtocol.TCP if protocol.recognise.transport is Transport.TCP else IpProtocol.UDP),)


def _judge(protocol: Protocol, datagram: Datagram) -> Answer | None:
    how = protocol.recognise
    server_port = datagram.destination_port if datagram.from_initiator else datagram.source_port
    on_port = server_port in how.ports
    where = f"IP protocol {how.ip_protocols[0]}" if how.transport is Transport.IP else f"{how.transport} {server_port}"
    if how.patterns:
        pattern = next((one for one in how.patterns if _matches(one, datagram)), None)
        # A pattern tells a protocol on any port; a short one only where the file's ports are.
        if pattern is None or (how.ports and not on_port and pattern.bits < STRONG_BITS):
            return None
        confidence = STRONG if pattern.bits >= STRONG_BITS else LIKELY
        return Answer(protocol.id, confidence, f"{protocol.name}, pattern {pattern.wanted.hex()}, {where}")
    if how.ports and not on_port:
        return None
    return Answer(protocol.id, DECLARED, f"{protocol.name}, by {where} alone")


def _matches(pattern: Pattern, datagram: Datagram) -> bool:
    if pattern.side is not Side.EITHER and (pattern.side is Side.INITIATOR) != datagram.from_initiator:
        return False
    if not pattern.size_min_bytes <= datagram.size <= pattern.size_max_bytes:
        return False
    found = datagram.payload[pattern.offset : pattern.offset + len(pattern.wanted)]
    if len(found) < len(pattern.wanted):
        return False
    return all(byte & mask == wanted for byte, mask, wanted in zip(found, pattern.mask, pattern.wanted, strict=True))
