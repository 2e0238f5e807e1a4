"""The packet mark bits that are ours. All other bits belong to the operator and are never touched."""

from dataclasses import dataclass

from throughway.core.errors import SettingsRejected


@dataclass(frozen=True, slots=True)
class Marks:
    """Two bits of the packet mark, under a mask.

    `carried` is on what passthrough carries, from the forward hook at priority -10 on (what BPF
    translated has it from the ingress of the outside interface on). `reinjected` is on held packets
    that are put back. The mask is written into nftables and BPF alike, so both must get the same.
    """

    mask: int = 0x30000000
    carried: int = 0x10000000
    reinjected: int = 0x20000000

    def __post_init__(self) -> None:
        """Refuse bits that overlap or lie outside the mask; the operator chose them."""
        if not 0 < self.mask < 1 << 32:
            raise SettingsRejected("mark.mask", f"{self.mask:#x} is not a 32-bit mask; the default is 0x30000000")
        for name, bit in (("carried", self.carried), ("reinjected", self.reinjected)):
            if bit.bit_count() != 1 or bit & ~self.mask:
                raise SettingsRejected(f"mark.{name}", f"{bit:#x} must be one single bit of the mask {self.mask:#x}")
        if self.carried == self.reinjected:
            raise SettingsRejected("mark.reinjected", f"{self.reinjected:#x} is taken by mark.carried; use another bit")

    @property
    def own(self) -> int:
        """Both bits: a packet with either of them was translated by the data plane, at prerouting."""
        return self.carried | self.reinjected
