"""IKE: the header, which is never encrypted (RFC 2408 section 3.1, RFC 7296 section 3.1).

    0                   1                   2                   3
    0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
   +---------------------------------------------------------------+
   |                     IKE SA Initiator's SPI                    |
   |                       (64 bits; IKEv1: cookie)                |
   +---------------------------------------------------------------+
   |                     IKE SA Responder's SPI                    |
   |                       (64 bits; IKEv1: cookie)                |
   +---------------+-------+-------+---------------+---------------+
   |  Next Payload | Major | Minor | Exchange Type |     Flags     |
   +---------------+-------+-------+---------------+---------------+
   |                          Message ID                           |
   +---------------------------------------------------------------+
   |                            Length                             |
   +---------------------------------------------------------------+

Flags of IKEv2: 0x08 Initiator (the sender began the IKE SA), 0x10 Version, 0x20 Response.
Flags of IKEv1: 0x01 Encryption, 0x02 Commit, 0x04 Authentication only; they do not say who sends.
"""

from dataclasses import dataclass
from struct import Struct
from typing import Final

from throughway.core.events import IkeExchange

HEADER_SIZE: Final = 28

FLAG_INITIATOR: Final = 0x08
FLAG_RESPONSE: Final = 0x20

_HEADER: Final = Struct("!QQBBBBII")

_RESPONDER_BEGAN: Final = 1 << 32
"""Set in the exchange_id of what the responder of an IKEv2 SA asks: above the 32 bits of the message ID."""

_EXCHANGES: Final[dict[int, dict[int, IkeExchange]]] = {
    # RFC 2408 section 3.1; Main and Aggressive Mode are its Identity Protection and Aggressive
    # exchanges (RFC 2409 section 5), Quick Mode is added by RFC 2409 appendix A.
    1: {
        1: IkeExchange.INITIAL,
        2: IkeExchange.INITIAL,
        3: IkeExchange.INITIAL,
        4: IkeExchange.INITIAL,
        5: IkeExchange.INFORMATIONAL,
        32: IkeExchange.CHILD,
    },
    # RFC 7296 section 3.1. IKE_SESSION_RESUME (38) stands for IKE_SA_INIT (RFC 5723 section 4.3.1) and
    # IKE_INTERMEDIATE (43) between that and IKE_AUTH (RFC 9242 section 3.2).
    2: {
        34: IkeExchange.INITIAL,
        35: IkeExchange.FIRST_CHILD,
        36: IkeExchange.CHILD,
        37: IkeExchange.INFORMATIONAL,
        38: IkeExchange.INITIAL,
        43: IkeExchange.INITIAL,
    },
}


@dataclass(frozen=True, slots=True)
class IkeHeader:
    """The header of one IKE message. `size` is the Length field: bytes, header and all payloads."""

    initiator_spi: int
    responder_spi: int
    next_payload: int
    major_version: int
    minor_version: int
    exchange_type: int
    flags: int
    message_id: int
    size: int

    @property
    def exchange(self) -> IkeExchange:
        """Say what the message belongs to; OTHER for what brings no child SA and ends none.

        Among those are Transaction exchanges and New Group Mode of IKEv1, and IKE_FOLLOWUP_KE, whose
        child SA its CREATE_CHILD_SA has announced (RFC 9370 section 2.2.4).
        """
        return _EXCHANGES[self.major_version].get(self.exchange_type, IkeExchange.OTHER)

    @property
    def exchange_id(self) -> int:
        """Tell apart the exchanges of one IKE SA; equal for all messages of one exchange and their retransmissions.

        IKEv1: the message ID, which who begins draws at random (RFC 2408 section 3.1). IKEv2: both ends
        number their own requests from 0 (RFC 7296 section 2.2), so the end that asked belongs to it:
        the original initiator sends its requests, and gets its responses, with exactly one of the
        flags Initiator and Response set.
        """
        if self.major_version == 1:
            return self.message_id
        initiator_asked = bool(self.flags & FLAG_INITIATOR) != bool(self.flags & FLAG_RESPONSE)
        return self.message_id if initiator_asked else self.message_id | _RESPONDER_BEGAN


def parse(data: bytes, message_size: int | None = None) -> IkeHeader | None:
    """Read the header that begins an IKE message, without a non-ESP marker; None where it is not plausible.

    The header alone is enough. `message_size` is the size in bytes of the whole message as UDP tells
    it, where known; a header that claims more is refused. What is behind the claimed size is
    tolerated, as receivers do. Refused as well: an initiator SPI of 0 (RFC 7296 section 3.1, RFC 2408
    section 2.5.3), a length below the header's own, and major versions other than 1 and 2, which must
    not be processed (RFC 7296 section 2.5). The minor version is ignored (RFC 7296 section 3.1).
    """
    if len(data) < HEADER_SIZE:
        return None
    initiator_spi, responder_spi, next_payload, version, exchange_type, flags, message_id, size = _HEADER.unpack_from(
        data
    )
    if initiator_spi == 0 or version >> 4 not in _EXCHANGES or size < HEADER_SIZE:
        return None
    if message_size is not None and size > message_size:
        return None
    return IkeHeader(
        initiator_spi=initiator_spi,
        responder_spi=responder_spi,
        next_payload=next_payload,
        major_version=version >> 4,
        minor_version=version & 0xF,
        exchange_type=exchange_type,
        flags=flags,
        message_id=message_id,
        size=size,
    )
