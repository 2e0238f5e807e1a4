"""What names a tunnel where no translated port does: the discriminator of a flow.

A discriminator is a number of 64 bits in host order. bpf/keys.h has the same table.

    protocol            discriminator                             where it is
    ESP           50    SPI                                       RFC 4303 section 2.1
    GRE           47    version 0 with a key: 1 << 32 | key       RFC 2890 section 2.1
                        version 0 without a key: 0                RFC 2784 section 2.1
    L2TPv3       115    data: session ID                          RFC 3931 section 4.1.1.1
                        control: 1 << 32 | connection ID          RFC 3931 sections 3.2.1, 4.1.1.2
    UDP, 500      17    initiator SPI, 64 bits                    RFC 7296 section 3.1, RFC 2408 section 3.1
    UDP, 1701     17    L2TPv2: 3 << 32 | tunnel ID               RFC 2661 section 3.1
                        L2TPv3: as above                          RFC 3931 section 4.1.2
    any other           0                                         there is none to be found

A key of 0 is a valid one and differs from no key, so it has bit 32. The session ID 0 marks a control message
and names no session. Version 1 of GRE is PPTP's (RFC 2637 section 4.1) and is never ours: the kernel's
helper follows its call IDs. Protocols with ports are the kernel's as well, and so are those in `NOT_OURS`; of
UDP only those flows are ours whose port is kept (`core.kept_ports`).
"""

from typing import Final

from throughway.core.ids import IpProtocol, UdpPort

NOT_OURS: Final = frozenset({IpProtocol.ICMP, 2, IpProtocol.TCP, IpProtocol.UDP, 33, IpProtocol.AH, 132, 136})
"""IP protocols that always pass the data plane: ICMP, IGMP, TCP, UDP, DCCP, AH, SCTP and UDP-Lite. AH is refused
by the packet filter."""

NONE: Final = 0
"""The discriminator where the packet has no field for it: then there is one host for each peer."""

_WIDE: Final = 1 << 32
"""Above the 32 bits of a key or an ID: a GRE key is there, or an ID is a control connection's."""

_TUNNEL: Final = 3 << 32
"""Above the 16 bits of a tunnel ID of L2TPv2. It has the bit of a control connection, since it names one."""

_LOW_MASK: Final = _WIDE - 1

_NAMES: Final[dict[int, str]] = {
    IpProtocol.GRE: "gre",
    IpProtocol.ESP: "esp",
    IpProtocol.AH: "ah",
    IpProtocol.L2TPV3: "l2tpv3",
}
_PORT_NAMES: Final[dict[int, str]] = {UdpPort.IKE: "ike", UdpPort.L2TP: "l2tp"}


def is_ours(protocol: int, port: int = 0) -> bool:
    """Whether the data plane may have flows of an IP protocol; of UDP, those of a port that is kept."""
    return protocol not in NOT_OURS or (protocol == IpProtocol.UDP and port in _PORT_NAMES)


def of_gre(key: int | None) -> int:
    """Return the discriminator of GRE version 0, with or without a key."""
    return NONE if key is None else _WIDE | key


def of_l2tpv3_session(session_id: int) -> int:
    """Return the discriminator of L2TPv3 data over IP."""
    return session_id


def of_l2tpv3_control(connection_id: int) -> int:
    """Return the discriminator of L2TPv3 control messages over IP; the connection ID is 0 until one is assigned."""
    return _WIDE | connection_id


def of_l2tpv2(tunnel_id: int) -> int:
    """Return the discriminator of L2TPv2, control and data; the tunnel ID is 0 until one is assigned."""
    return _TUNNEL | tunnel_id


L2TPV3_UNASSIGNED: Final = _WIDE
"""The discriminator of control messages to an end that has assigned no connection ID yet (RFC 3931 section 3.2.1)."""

L2TP_UNASSIGNED: Final = frozenset({L2TPV3_UNASSIGNED, _TUNNEL})
"""The same, of both versions (RFC 2661 section 3.1)."""


def is_l2tpv3_control(discriminator: int) -> bool:
    """Whether a discriminator of L2TP names a control connection and not a session of L2TPv3 alone."""
    return bool(discriminator & _WIDE)


def name_of(protocol: int, port: int = 0) -> str:
    """Name a protocol for people: `gre`, or `ip-94` where there is no short name; of UDP by its port."""
    return _PORT_NAMES[port] if port in _PORT_NAMES else _NAMES.get(protocol, f"ip-{protocol}")


def words_of(protocol: int, discriminator: int, port: int = 0) -> str:
    """Write a discriminator for people; empty where the protocol has none."""
    number = discriminator & _LOW_MASK
    match protocol:
        case IpProtocol.UDP if port == UdpPort.IKE:
            return f"{discriminator:#018x}"
        case IpProtocol.UDP if discriminator & _TUNNEL == _TUNNEL:
            return f"tunnel {number}"
        case IpProtocol.UDP:
            return f"control {number:#010x}" if discriminator & _WIDE else f"{number:#010x}"
        case IpProtocol.GRE:
            return f"key {number:#x}" if discriminator & _WIDE else "no key"
        case IpProtocol.L2TPV3 if is_l2tpv3_control(discriminator):
            return f"control {number:#010x}"
        case IpProtocol.ESP | IpProtocol.L2TPV3:
            return f"{number:#010x}"
        case _:
            return ""
