"""Packets that are nearly right, which get further into a parser than random bytes do."""

import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

_EDGES: Final = (0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 27, 28, 63, 64, 127, 128, 254, 255)
_SIZES: Final = (0, 1, 4, 7, 8, 12, 19, 20, 21, 27, 28, 36, 60, 64, 576, 1480)
_LONGEST: Final = 1500


def _flip(packet: bytearray, dice: Random) -> None:
    packet[dice.randrange(len(packet))] ^= 1 << dice.randrange(8)


def _set_byte(packet: bytearray, dice: Random) -> None:
    packet[dice.randrange(len(packet))] = dice.choice(_EDGES)


def _set_early_byte(packet: bytearray, dice: Random) -> None:
    packet[dice.randrange(min(len(packet), 48))] = dice.randrange(256)


def _set_word(packet: bytearray, dice: Random) -> None:
    at = dice.randrange(len(packet))
    packet[at : at + 2] = struct.pack(
        "!H", dice.choice((0, 1, 0x7FFF, 0x8000, 0xFFFF, len(packet), dice.getrandbits(16)))
    )


def _cut(packet: bytearray, dice: Random) -> None:
    del packet[dice.randrange(len(packet)) :]


def _cut_to_edge(packet: bytearray, dice: Random) -> None:
    del packet[dice.choice(_SIZES) :]


def _insert(packet: bytearray, dice: Random) -> None:
    at = dice.randrange(len(packet))
    packet[at:at] = dice.randbytes(dice.choice((1, 2, 4, 8, 20)))


def _remove(packet: bytearray, dice: Random) -> None:
    at = dice.randrange(len(packet))
    del packet[at : at + dice.choice((1, 2, 4, 8, 20))]


def _repeat(packet: bytearray, dice: Random) -> None:
    at = dice.randrange(len(packet))
    packet[at:at] = packet[at : at + dice.choice((4, 8, 16))]


def _extend(packet: bytearray, dice: Random) -> None:
    packet += dice.randbytes(dice.randrange(1, 40))


_MUTATIONS: Final[Sequence[Callable[[bytearray, Random], None]]] = (
    *(_flip, _set_byte, _set_early_byte, _set_early_byte, _set_word),
    *(_cut, _cut_to_edge, _insert, _remove, _repeat, _extend),
)


def mutated(packet: bytes, dice: Random) -> bytes:
    """Return the packet as it is one time in eight, else with one to four things wrong with it."""
    if dice.random() < 0.125:
        return packet
    wrong = bytearray(packet)
    for _ in range(dice.choice((1, 1, 1, 2, 3, 4))):
        if wrong:
            dice.choice(_MUTATIONS)(wrong, dice)
    return bytes(wrong[:_LONGEST])


def random_bytes(dice: Random) -> bytes:
    """Return bytes without any sense, of a length at which something may end."""
    return dice.randbytes(dice.choice(_SIZES[:-2]) + dice.choice((0, 0, 1)))
