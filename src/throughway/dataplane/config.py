"""What the programs go by: the one entry of the table `config`."""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from throughway.dataplane.abi import LAYOUT_VERSION, LAYOUTS, PROTOCOL_WORDS, SHORT_INSIDES_MAX, SLOTS_MAX, KeptFlag


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigRecord:
    """The one entry of `config`. `addresses` are ours outside by slot; with none nothing is translated.

    `insides` are the indexes of the interfaces that the short path leads to, 16 at most.
    """

    addresses: tuple[IPv4Address | None, ...]
    outside_ifindex: int
    link_header_size: int
    mark_mask: int
    mark_carried: int
    mark_reinjected: int
    punts_per_peer: int
    punts_per_host: int
    ike_per_address: int
    fragments_per_address: int
    pending_max: int
    ports_kept: KeptFlag = KeptFlag.NONE
    check_source: bool = True
    short_until_ns: int = 0
    insides: tuple[int, ...] = ()
    unassisted: frozenset[int] = frozenset()
    """IP protocols that the kernel carries as it would without us."""

    def __post_init__(self) -> None:
        """Refuse more addresses than there is room for."""
        if len(self.addresses) > SLOTS_MAX:
            raise ValueError(f"there are {SLOTS_MAX} slots, not {len(self.addresses)}")

    def pack(self) -> bytes:
        """Write a `struct config`."""
        return LAYOUTS["config"].format.pack(
            LAYOUT_VERSION,
            len(self.addresses) if any(self.addresses) else 0,
            b"".join(address.packed if address else bytes(4) for address in self.addresses).ljust(4 * SLOTS_MAX, b"\0"),
            self.outside_ifindex,
            self.link_header_size,
            self.mark_mask,
            self.mark_carried,
            self.mark_reinjected,
            self.punts_per_peer,
            self.punts_per_host,
            self.ike_per_address,
            self.fragments_per_address,
            self.ports_kept,
            self.check_source,
            self.pending_max,
            self.short_until_ns,
            struct.pack(f"={SHORT_INSIDES_MAX}I", *self.insides, *(0,) * (SHORT_INSIDES_MAX - len(self.insides))),
            struct.pack(f"={PROTOCOL_WORDS}I", *protocol_bits(self.unassisted)),
        )


def protocol_bits(protocols: frozenset[int]) -> list[int]:
    """Write a set of 8-bit numbers as words of 32 bits."""
    return [sum(1 << number % 32 for number in protocols if number // 32 == word) for word in range(PROTOCOL_WORDS)]
