"""Security associations of a kernel that may lack ESP itself.

It can have those whose SPI alone is chosen yet, as an IKE daemon has them while it negotiates; of them it says nothing
until they are finished. What it would say then is said in its place, in the bytes that it uses. A guest with all of
IPsec confirms those (tests/lab/test_own_tunnels.py).
"""

import socket
import struct
from ipaddress import IPv4Address

NEW, EXPIRE, UPDATE = 0x10, 0x18, 0x1A
GROUP_EXPIRE, GROUP_ASSOCIATIONS = 1 << 1, 1 << 2
ENCAPSULATION = struct.pack("=HHHHH2x", 28, 4, 2, 4500, 4500) + bytes(16)
"""XFRMA_ENCAP with a `struct xfrm_encap_tmpl`: ESP in UDP on port 4500."""
_NETLINK_XFRM = 6


def allocation(source: object, destination: object, spi: int, protocol: str = "esp") -> str:
    """Write the command of `ip` that has the kernel choose this SPI."""
    return f"xfrm state allocspi src {source} dst {destination} proto {protocol} min {spi:#x} max {spi:#x}"


def information(source: object, destination: object, spi: int) -> bytes:
    """Write `struct xfrm_usersa_info` of ESP between IPv4 addresses (linux/xfrm.h)."""
    near, far = (IPv4Address(str(address)).packed + bytes(12) for address in (destination, source))
    return bytes(56) + near + struct.pack("!IB3x", spi, 50) + far + bytes(116) + struct.pack("=H10x", socket.AF_INET)


def announce(group: int, kind: int, content: bytes) -> None:
    """Say to all who listen in this thread's namespace what the kernel would say."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_XFRM) as kernel:
        kernel.bind((0, 0))
        message = struct.pack("=IHHII", 16 + len(content), kind, 0, 0, 0) + content
        kernel.sendto(message, (kernel.getsockname()[0], group))
