"""An end of an Ethernet pseudowire in L2TPv3 over IP (RFC 3931), with sessions set by hand on both ends.

    l2tpv3.py OWN OTHER DEVICE RECEIVED SENT [DEVICE RECEIVED SENT]...

Each session has a TAP interface DEVICE, the session ID of the messages that come (RECEIVED), and of those that go
(SENT). A data message over IP is protocol 115, the session ID (32 bits, not 0), and here no cookie and no sublayer
(section 4.1.1.1). The program writes "ready" when its interfaces are there, and runs until it is ended.
"""

import fcntl
import os
import selectors
import socket
import struct
import sys

PROTOCOL = 115
TUNSETIFF = 0x400454CA
IFF_TAP = 0x0002
IFF_NO_PI = 0x1000
MESSAGE_MAX_BYTES = 65535

# From Linux's asm-generic/socket.h; Python has no name for it.
SO_RCVBUFFORCE = 33
QUEUE_BYTES = 16 << 20
"""What may wait to be read. The kernel answers a message that finds no room with "protocol unreachable", which no real
end of a tunnel says while it lives."""


def open_tap(name: str) -> int:
    """Make a TAP interface and return its file descriptor."""
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH14x", name.encode(), IFF_TAP | IFF_NO_PI))
    return tap


def to_taps(raw: socket.socket, taps: dict[int, int]) -> None:
    """Give the frame of one message to the interface of its session; other sessions' messages are let go."""
    try:
        packet = raw.recv(MESSAGE_MAX_BYTES)
    except OSError:  # an ICMP error about an earlier message; the next one may arrive
        return
    message = packet[(packet[0] & 0x0F) * 4 :]
    if len(message) > 4 and (tap := taps.get(struct.unpack_from("!I", message)[0])) is not None:
        try:
            os.write(tap, message[4:])
        except OSError:  # the interface is down, or the frame is none
            return


def from_tap(raw: socket.socket, tap: int, session: int) -> None:
    """Send one frame of an interface as a message of its session."""
    try:
        raw.send(struct.pack("!I", session) + os.read(tap, MESSAGE_MAX_BYTES))
    except OSError:  # no route at the moment, or an ICMP error of an earlier message
        return


def run(own: str, other: str, sessions: list[tuple[str, int, int]]) -> None:
    """Carry frames between the interfaces and the other end, for ever."""
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, PROTOCOL)
    raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, QUEUE_BYTES)
    raw.bind((own, 0))
    raw.connect((other, 0))
    selector = selectors.DefaultSelector()
    selector.register(raw, selectors.EVENT_READ)
    taps = {}
    for name, received, sent in sessions:
        taps[received] = open_tap(name)
        selector.register(taps[received], selectors.EVENT_READ, sent)
    print("ready", flush=True)  # noqa: T201 - that is how it speaks
    while True:
        for key, _ in selector.select():
            if key.fileobj is raw:
                to_taps(raw, taps)
            else:
                from_tap(raw, key.fd, key.data)


if __name__ == "__main__":
    words = sys.argv[3:]
    run(
        sys.argv[1],
        sys.argv[2],
        [(words[at], int(words[at + 1]), int(words[at + 2])) for at in range(0, len(words), 3)],
    )
