"""What a simulated world is like. Shares are fractions of 1, times seconds."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

FIRST_S: Final = 10.0
"""The start that is reported by itself: all hosts negotiate at once, as after a power cut."""


class Policy(Enum):
    """How a router decides who gets an SPI that comes from a peer."""

    THROUGHWAY = "throughway"
    FIFO = "fifo"
    SERIALISE = "serialise"
    ONE_PER_PEER = "one-per-peer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A population of hosts and peers, and what happens to it."""

    hosts: int = 200
    peers: int = 1
    minutes: float = 60.0
    seed: int = 1
    loss: float = 0.0
    """Of packets on the way between router and peer; a tenth of that is lost on the inside network, too."""

    between: float = 0.0
    """Hosts whose traffic goes to another host of the same hub: what one sends comes out in the SA of the other."""
    periodic: float = 0.0
    """Hosts with packets at a strict interval in place of random times."""
    equal_spi: float = 0.0
    """Tunnels with an SPI towards the inside that another host uses with the same peer."""
    vanishing: float = 0.05
    """Hosts that fall silent once without a word; half of them come back."""

    start_within_s: float = 2.0
    round_trip_s: tuple[float, float] = (0.020, 0.080)
    rate: float = 10.0
    """Packets a second of each tunnel, each way, on average."""
    peer_first: float = 0.2
    """SAs whose first packet comes from the peer."""
    quiet: float = 0.1
    """SAs in which the host sends nothing for the first `quiet_s`, while the peer does."""
    quiet_s: float = 10.0
    rekey_s: float = 600.0
    rekey_jitter: float = 0.1
    ike_rekey_s: float = 1800.0
    reordering: float = 0.01

    @property
    def end_s(self) -> float:
        """When it is over."""
        return self.minutes * 60.0
