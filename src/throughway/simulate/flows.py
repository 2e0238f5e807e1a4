"""What the ends have, and what the router has of it: security associations, flows and packets."""

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from throughway.core.flows import FlowKey

if TYPE_CHECKING:
    from throughway.simulate.tunnel import Tunnel


@dataclass(eq=False, slots=True)
class Flow:
    """One direction of one tunnel in the data plane.

    `is_settled`: what becomes of a packet is known and stays so, until this changes; then its packets may be
    counted. `hosts` get one each, by their numbers; nobody does while it is empty.
    """

    key: FlowKey
    hosts: tuple[int, ...] = ()
    is_settled: bool = False
    users: list["Sa"] = field(default_factory=list)
    """SAs that are in use. Two hosts with an equal SPI share a flow."""
    packets: int = 0
    last_at: float = 0.0
    held: "list[Packet] | None" = None
    """Packets that wait for a verdict; None while none is asked for."""
    refused_until: float = -1.0
    refusals: int = 0
    """In a row."""
    times: deque[float] | None = None
    """When packets came, while the flow is traced: those that came `gap_s` after the one before at the soonest."""
    gap_s: float = 0.0

    def count(self, at: float) -> None:
        """Note one packet that passes."""
        self.packets += 1
        if self.times is not None and (not self.times or at - self.last_at >= self.gap_s):
            self.times.append(at)
        self.last_at = max(self.last_at, at)

    def trace(self, most: int, gap_s: float) -> None:
        """Keep the times of the latest packets from now on. A traced flow is never counted in bulk."""
        if self.times is None:
            self.times, self.gap_s = deque(maxlen=most), gap_s

    def untrace(self) -> None:
        """Forget the times, and keep none any more."""
        self.times = None


@dataclass(eq=False, slots=True)
class Sa:
    """One pair of security associations, with the truth about it and what a policy made of that."""

    tunnel: "Tunnel"
    inward: Flow
    outward: Flow
    life: int
    """Of the tunnel, when it was made."""
    sequence_in: int = 0
    sequence_out: int = 0
    is_over: bool = False
    first_host: int | None = None
    """Who was the first to get it alone."""
    contested_since: float | None = None
    contested_s: float = 0.0
    is_asked: bool = False
    """Whether a packet of it came from the peer."""


@dataclass(slots=True)
class Packet:
    """One ESP packet at the router."""

    sa: Sa
    at: float
    sequence: int
    wants_answer: bool
