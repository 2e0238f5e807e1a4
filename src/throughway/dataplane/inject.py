"""Puts held packets back where they were taken from: onto the outside interface, under our mark.

A frame sent by AF_PACKET passes the egress program of the interface. That program knows it by the mark: what is
addressed to the outside address turns around to ingress, what comes from a host goes on to the peer. With the mark
of held packets it is one of those; with both bits it is a fragment that comes as if for the first time.
"""

import errno
import socket
from enum import Enum
from typing import Final

from throughway.core.errors import KernelRefused
from throughway.core.ports import Interface

_ETH_P_IP: Final = 0x0800


class Sent(Enum):
    """What became of a frame that was given to the kernel."""

    ACCEPTED = "accepted"
    BUSY = "busy"
    """The socket is full; the same frame may be tried again later."""
    DROPPED = "dropped"
    """The interface's queue was full, or the program on it dropped the frame. The two look alike."""
    LOST = "lost"
    """The frame can never be sent: the interface is down or gone, or the frame is larger than its MTU."""


class Injector:
    """Sends frames as they were captured. With a link header of 0 bytes the frame is the IP packet."""

    def __init__(self, outside: Interface, mark: int) -> None:
        # A cooked socket leaves the place of the network header to the kernel. A raw one would take the
        # first bytes of the packet for a link header on PPP, which has a size for it but shows none.
        kind = socket.SOCK_RAW if outside.link_header_size else socket.SOCK_DGRAM
        self._address = (outside.name, _ETH_P_IP, 0, 0, b"")
        try:
            # Protocol 0 receives nothing.
            self._socket = socket.socket(socket.AF_PACKET, kind | socket.SOCK_NONBLOCK, 0)
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            except OSError:
                self._socket.close()
                raise
        except OSError as refused:
            raise KernelRefused(
                f"packet socket on {outside.name}",
                refused.errno or errno.EIO,
                refused.strerror or str(refused),
                "CAP_NET_RAW and CAP_NET_ADMIN are needed to put held packets back",
            ) from refused

    def send(self, frame: bytes) -> Sent:
        """Give one frame to the kernel, and return at once."""
        try:
            self._socket.sendto(frame, self._address)
        except OSError as refused:
            if refused.errno == errno.ENOBUFS:
                return Sent.DROPPED
            return Sent.BUSY if refused.errno in (errno.EAGAIN, errno.EINTR) else Sent.LOST
        return Sent.ACCEPTED

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
