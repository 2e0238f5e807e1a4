"""For how long connection tracking remembers the flows of VPNs: `ct timeout` objects and the rules that give them.

They are one transaction of their own, as text, which follows that of the table: libnftables 1.0.6
(Debian 12) reads a timeout's values from JSON into nothing. A flow gets its timer by its first packet,
while it is new to connection tracking; later packets only start it again. PPTP's calls are not here, since
the GRE tracker takes its timers before any rule could speak: dataplane/sysctls.py sets those.
"""

from typing import Final

from throughway.core.limits import Limits
from throughway.policy.own import FAMILY, TABLE

TIMERS: Final = "timers"
"""The chain of the rules."""

PPTP_PORT: Final = 1723
"""The control connection (RFC 2637 section 3)."""

CARRIED_UDP_PORTS: Final = (500, 1701, 4500)
"""IKE (RFC 7296 section 2), L2TP (RFC 2661 section 8.1), and IKE and ESP in UDP (RFC 3948 section 2)."""

VPN_UDP_PORTS: Final = (*CARRIED_UDP_PORTS, 1194, 51820)
"""And OpenVPN (IANA), and WireGuard (by its tools' custom)."""

_WELL_KNOWN_MAX: Final = 1023
"""Flows of these ports may be forgotten earlier (RFC 6092 REC-15): questions of one packet and one answer."""


def timers(limits: Limits) -> str:
    """Write the transaction. The table is there, and in it the empty chain that new flows to the outside pass."""
    vpn_ports = ", ".join(str(port) for port in sorted(VPN_UDP_PORTS))
    udp, control, any_udp6 = "vpn_udp", "pptp_control", "any_udp6"
    return f"""
table {FAMILY} {TABLE} {{
    ct timeout {udp} {{
        protocol udp; l3proto ip;
        policy = {{ unreplied : {limits.udp_idle_s}, replied : {limits.udp_idle_s} }};
    }}
    ct timeout {any_udp6} {{
        protocol udp; l3proto ip6;
        policy = {{ unreplied : {limits.udp_idle_s}, replied : {limits.udp_idle_s} }};
    }}
    ct timeout {control} {{
        protocol tcp; l3proto ip;
        policy = {{ established : {limits.pptp_control_idle_s} }};
    }}
    chain {TIMERS} {{
        meta nfproto ipv4 udp dport {{ {vpn_ports} }} ct timeout set "{udp}" comment "RFC 4787 REQ-5"
        meta nfproto ipv4 tcp dport {PPTP_PORT} ct timeout set "{control}" comment "RFC 5382 REQ-5"
        meta nfproto ipv6 udp sport > {_WELL_KNOWN_MAX} udp dport > {_WELL_KNOWN_MAX} \
ct timeout set "{any_udp6}" comment "RFC 6092 REC-14"
        meta nfproto ipv6 udp dport {CARRIED_UDP_PORTS[0]} ct timeout set "{any_udp6}" comment "IKE"
    }}
}}
"""
