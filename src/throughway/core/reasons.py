"""Why a packet was not forwarded, or not at once. The numbers and names are shared with bpf/reasons.h."""

from enum import IntEnum


class Reason(IntEnum):
    """A numbered cause. A test holds this list and bpf/reasons.h equal.

    The first group counts what was carried, so that the numbers add up; all others are drops.
    """

    TRANSLATED_TO_INSIDE = 0
    TRANSLATED_TO_PEER = 1
    PUNTED = 2
    REINJECTED = 3
    FAN_OUT_COPY = 4
    ICMP_ERROR_TRANSLATED = 5
    ROUTER_OWN = 6
    UNTRANSLATED = 7
    FRAGMENT_HELD = 8

    MALFORMED = 16
    NO_CANDIDATE = 17
    REFUSED = 18
    HOLD_FULL = 19
    PENDING_FULL = 20
    PUNT_RATE = 21
    RING_FULL = 22
    TOO_LARGE_TO_HOLD = 23
    FRAGMENT_BEFORE_FIRST = 24
    CLONE_FAILED = 25
    REWRITE_FAILED = 26
    NO_OUTSIDE_ADDRESS = 27
    RESERVED_SPI = 28
    HELD_TOO_LONG = 29
    REINJECTED_LOST = 30
    DISCRIMINATOR_TAKEN = 31
    ICMP_ERROR_UNKNOWN = 32
    AH_REFUSED = 33
    DISOWNED = 34
    SHARE_FULL = 35
    SWITCHED_OFF = 36

    @property
    def is_drop(self) -> bool:
        """Whether a packet counted here was dropped."""
        return self >= Reason.MALFORMED
