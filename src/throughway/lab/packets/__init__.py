"""Scenarios at the level of packets: what no VPN program can be made to send at will.

`builder` writes the packets, `stations` send and see them, `crossing` has the devices, the peer and the gateway. Each
other file has the scenarios about one thing; a new one is a function that yields checks, and an entry here.
"""

from typing import Final

from throughway.lab import programs
from throughway.lab.checked import CheckedScenario
from throughway.lab.packets import (
    address,
    adoption,
    errors,
    flood,
    fragments,
    ipv6,
    names,
    path_mtu,
    rekeying,
    returns,
    routers,
    two_addresses,
)

PACKET_SCENARIOS: Final[tuple[CheckedScenario, ...]] = (
    CheckedScenario(
        name="inbound-first",
        shows="a tunnel whose first ESP packet comes from the peer; plain masquerade drops it",
        checks=names.inbound_first,
        masquerade_fails=True,
    ),
    CheckedScenario(
        name="equal-ids",
        shows="two devices with equal SPIs both get their packets; with equal GRE keys the second is refused and shown",
        checks=names.equal_ids,
        masquerade_fails=True,
    ),
    CheckedScenario(
        name="every-protocol",
        shows="each IP protocol without ports, for one device at a time to each peer",
        checks=names.every_protocol,
        masquerade_fails=True,
    ),
    CheckedScenario(
        name="fragments",
        shows="packets in four fragments in all 24 orders, both ways: ESP, GRE with a key, L2TPv3, a large IKE message",
        checks=fragments.fragments,
        masquerade_fails=True,
    ),
    CheckedScenario(
        name="icmp",
        shows="ICMP errors of every type about every portless protocol, both ways, with right checksums inside and out",
        checks=errors.icmp,
        masquerade_fails=True,
        programs=errors.PROGRAMS,
    ),
    CheckedScenario(
        name="path-mtu",
        shows="a narrow link of the provider, and one inside: whoever sends too large a packet is told the right size",
        checks=path_mtu.path_mtu,
        masquerade_fails=True,
    ),
    CheckedScenario(
        name="ipv6",
        shows="IPv6 untranslated: answers come in, and IPsec that nobody asked for (RFC 6092), and nothing else",
        checks=ipv6.ipv6,
        masquerade_fails=True,
    ),
    CheckedScenario(
        name="ipv6-closed",
        shows="IPv6 with IPsec from outside switched off: only answers come in",
        checks=ipv6.ipv6_closed,
        masquerade_fails=True,
    ),
    CheckedScenario(
        name="tun-outside",
        shows="tunnels through an outside interface without a link header: a TUN, as PPPoE and modems are",
        checks=routers.tun_outside,
        masquerade_fails=True,
    ),
    CheckedScenario(
        name="outside-returns",
        shows="tunnels that live on when the outside is removed and made anew: with another index, the same, as a TUN",
        checks=returns.outside_returns,
        masquerade_fails=True,
    ),
    CheckedScenario(
        name="router-own-vpn",
        shows="a tunnel of the router itself beside those of two devices to the same peer",
        checks=routers.router_own_vpn,
        masquerade_fails=True,
    ),
    CheckedScenario(
        name="esp-rekey",
        shows="three tunnels, each rekeyed ten times under 50 packets a second each way; both ends count every packet",
        checks=rekeying.esp_rekey,
        masquerade_fails=True,
        programs=programs.GUEST,
    ),
    CheckedScenario(
        name="adoption",
        shows="three tunnels that were in use before the gateway started carry again within two seconds",
        checks=adoption.adoption,
        masquerade_fails=True,
        programs=programs.GUEST,
    ),
    CheckedScenario(
        name="flood",
        shows="100,000 packets with random SPIs, from a device and from outside; no tunnel loses a packet",
        checks=flood.flood,
        masquerade_fails=True,
    ),
    CheckedScenario(
        name="address-change",
        shows="tunnels of WireGuard, OpenVPN and vpnc that live on when the outside address changes, and how soon",
        checks=address.address_change,
        masquerade_fails=True,
        programs=address.PROGRAMS,
    ),
    CheckedScenario(
        name="two-addresses",
        shows="two outside addresses: each of two devices has its own to a peer, and equal names clash in nothing",
        checks=two_addresses.two_addresses,
        masquerade_fails=True,
        programs=two_addresses.PROGRAMS,
    ),
)
"""All of them, in the order in which they are listed after those with real peers."""
