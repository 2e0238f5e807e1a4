"""Whether the router itself has IPsec policies that forwarded packets are held against (ip-xfrm(8))."""

import errno
import socket
import struct
from typing import Final

_NETLINK_XFRM: Final = 6
_NLM_F_REQUEST: Final = 1
_NLMSG_ERROR: Final = 2
_GET_SPD_INFO: Final = 0x25
_GET_DEFAULT: Final = 0x28
_SPD_INFO: Final = 1
"""XFRM_MSG_GETSPDINFO, XFRM_MSG_GETDEFAULT (Linux 5.15) and the attribute XFRMA_SPD_INFO of linux/xfrm.h."""
_BLOCK: Final = 1
_TIMEOUT_S: Final = 2.0
_NOT_THERE: Final = (errno.EPROTONOSUPPORT, errno.EINVAL, errno.EOPNOTSUPP)


def has_forward_policies() -> bool:
    """Tell whether policies may encrypt, discard or want decrypted what is forwarded. Raises OSError.

    Those of single sockets, as IKE daemons have them, are not counted.
    """
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_XFRM) as netlink:
            netlink.settimeout(_TIMEOUT_S)
            return _has_policies(netlink) or _blocks_by_default(netlink)
    except OSError as problem:
        if problem.errno == errno.EPROTONOSUPPORT:
            return False
        raise


def _has_policies(netlink: socket.socket) -> bool:
    answer = _ask(netlink, _GET_SPD_INFO, struct.pack("=I", 0))
    if answer is None:
        return False
    at = 4
    while at + 4 <= len(answer):
        length, kind = struct.unpack_from("=HH", answer, at)
        if kind == _SPD_INFO:
            _, outward, forward = struct.unpack_from("=3I", answer, at + 4)
            return bool(outward or forward)
        at += max(4, (length + 3) & ~3)
    return True  # An answer that nobody understands is not a no.


def _blocks_by_default(netlink: socket.socket) -> bool:
    answer = _ask(netlink, _GET_DEFAULT, bytes(3))
    if answer is None:
        return False
    _, forward, outward = struct.unpack_from("=3B", answer)
    return _BLOCK in (forward, outward)


def _ask(netlink: socket.socket, kind: int, body: bytes) -> bytes | None:
    """Ask one question; None where the kernel does not know it."""
    netlink.send(struct.pack("=IHHII", 16 + len(body), kind, _NLM_F_REQUEST, 1, 0) + body)
    data = netlink.recv(1 << 14)
    length, answered = struct.unpack_from("=IH", data)
    if answered == _NLMSG_ERROR:
        number = -struct.unpack_from("=i", data, 16)[0]
        if number in _NOT_THERE:
            return None
        raise OSError(number, "IPsec policies cannot be read")
    return data[16:length]
