"""Carry packets between two TUN interfaces in two network namespaces: a wire without Ethernet, as PPPoE or a modem is.

    python -m throughway.lab.packets.carrier INTERFACE OTHER-NAMESPACE OTHER-INTERFACE

The first interface is in the namespace where the process is started. Both have to exist. It runs until it is ended.
"""

import ctypes
import fcntl
import os
import selectors
import struct
import sys
from pathlib import Path
from typing import Final

_TUNSETIFF: Final = 0x400454CA
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000
_CLONE_NEWNET: Final = 0x40000000
_PACKET_MAX: Final = 65536

READY: Final = "carrying"


def open_tun(interface: str) -> int:
    """Open a TUN interface of the namespace that the process is in, and return its descriptor."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", interface.encode(), _IFF_TUN | _IFF_NO_PI))
    return descriptor


def enter(namespace: Path) -> None:
    """Move the process to another network namespace; descriptors stay where they were opened."""
    descriptor = os.open(namespace, os.O_RDONLY)
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), f"{namespace} cannot be entered")
    os.close(descriptor)


def carry(one: int, other: int) -> None:
    """Copy every packet from each descriptor to the other, for ever."""
    with selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in selector.select():
                try:
                    os.write(key.data, os.read(key.fd, _PACKET_MAX))
                except OSError as problem:  # an interface that is down takes nothing
                    sys.stderr.write(f"{problem}\n")


def main() -> None:
    """Run as a program."""
    interface, other_namespace, other_interface = sys.argv[1:]
    one = open_tun(interface)
    enter(Path(other_namespace))
    other = open_tun(other_interface)
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    carry(one, other)


if __name__ == "__main__":
    main()
