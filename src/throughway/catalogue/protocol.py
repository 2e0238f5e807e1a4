"""One VPN protocol, as its file describes it (docs/protocols.md)."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SIZE_MAX_BYTES: Final = 65_535


class Transport(StrEnum):
    """What carries a protocol: an IP protocol of its own, UDP, or TCP."""

    IP = "ip"
    UDP = "udp"
    TCP = "tcp"


class Side(StrEnum):
    """Whose packets a pattern is looked for in: those of who began the flow, of who answers, or of both."""

    INITIATOR = "initiator"
    RESPONDER = "responder"
    EITHER = "either"


class Carrier(StrEnum):
    """What brings a protocol through the NAT."""

    MASQUERADE = "masquerade"
    """Connection tracking, by ports."""

    HELPER = "helper"
    """The kernel's helper, which follows the control channel."""

    TRACKER = "tracker"
    """Throughway's own NAT by discriminator."""

    NOTHING = "nothing"
    """No NAT can carry it; it is refused."""


class Default(StrEnum):
    """The position of a switch that nobody has touched."""

    ON = "on"
    UNASSISTED = "unassisted"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Pattern:
    """Bytes at a place in the payload. `wanted` has no bit set that `mask` does not have, and both are as long."""

    offset: int
    wanted: bytes
    mask: bytes
    size_min_bytes: int = 0
    size_max_bytes: int = SIZE_MAX_BYTES
    side: Side = Side.EITHER

    @property
    def bits(self) -> int:
        """How many bits it fixes."""
        return int.from_bytes(self.mask, "big").bit_count()


@dataclass(frozen=True, slots=True)
class Recognise:
    """How a protocol is recognised. `structures` are names of code in `throughway.detect`; a file without them is
    *declared*: its protocol is known by ports, IP protocols and patterns alone."""

    transport: Transport
    ip_protocols: tuple[int, ...] = ()
    ports: tuple[int, ...] = ()
    structures: tuple[str, ...] = ()
    patterns: tuple[Pattern, ...] = ()

    @property
    def is_declared(self) -> bool:
        """Whether no code is behind it."""
        return not self.structures


@dataclass(frozen=True, slots=True)
class Nat:
    """What NAT has to do with a protocol, and what it needs."""

    carried_by: Carrier = Carrier.MASQUERADE
    needs: str = ""


@dataclass(frozen=True, slots=True)
class Timers:
    """Seconds. `idle_s` is how long a mapping must outlive silence; `keepalive_s` how often peers break it."""

    idle_s: int | None = None
    keepalive_s: int | None = None


@dataclass(frozen=True, slots=True)
class Switch:
    """The protocol's switch, which has its ID as its name."""

    default: Default = Default.ON
    off_blocks: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the establishment: a short name, and what is seen."""

    name: str
    seen: str


@dataclass(frozen=True, slots=True)
class Protocol:
    """All that is known of one VPN protocol. `discriminator` is the field's name, empty where ports do its work."""

    id: str
    name: str
    family: str
    recognise: Recognise
    summary: str = ""
    sources: tuple[str, ...] = ()
    discriminator: str = ""
    nat: Nat = Nat()
    timers: Timers = Timers()
    switch: Switch = Switch()
    establishment: tuple[Step, ...] = ()
    quirks: tuple[str, ...] = ()
    tell: str = ""
