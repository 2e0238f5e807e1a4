"""Send ESP packets with random SPIs, as fast as they go, from any source address.

    flood.py SOURCE DESTINATION COUNT SEED

Each is a whole packet with a sequence number of 1 and some ciphertext, so that nothing but its SPI is wrong. The SPIs
follow from the seed. The program writes "began" when it has sent some, and "sent COUNT" at its end, which counts those
that the socket took.
"""

import ipaddress
import random
import socket
import struct
import sys

PROTOCOL = 50
SPI_LEAST = 256
BEGAN = 5000
"""Packets after which it is well under way."""

BODY = bytes(range(64))


def flood(source: str, destination: str, count: int, seed: int) -> int:
    """Send them, and return how many the socket took."""
    dice = random.Random(seed)  # noqa: S311 - the same every time
    head = struct.pack("!BBHHHBBH", 0x45, 0, 28 + len(BODY), 1, 0, 64, PROTOCOL, 0)
    head += ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    taken = 0
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for number in range(count):
            if number == BEGAN:
                print("began", flush=True)  # noqa: T201 - that is how it speaks
            spi = dice.randrange(SPI_LEAST, 1 << 32)
            try:
                raw.sendto(head + struct.pack("!II", spi, 1) + BODY, (destination, 0))
                taken += 1
            except OSError:  # no room in the queue of the interface
                continue
    return taken


if __name__ == "__main__":
    sent = flood(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    print("sent", sent, flush=True)  # noqa: T201 - that is how it speaks
