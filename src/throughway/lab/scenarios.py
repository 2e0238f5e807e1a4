"""The scenarios by name.

Another one with real peers is a class in `vpns`, which starts them, and an entry here; another one with packets of our
own is a function and an entry in `packets`, and one in which a VPN fails is an entry in `diagnoses`.
"""

from difflib import get_close_matches
from functools import partial
from typing import Final

from throughway.core.errors import SettingsRejected
from throughway.lab import programs, switching
from throughway.lab.checked import CheckedScenario
from throughway.lab.diagnoses import DIAGNOSIS_SCENARIOS
from throughway.lab.packets import PACKET_SCENARIOS
from throughway.lab.peers import anyconnect, l2tp, libipsec, libreswan, openvpn, pptp, strongswan, vpnc, wireguard
from throughway.lab.vpn import VpnScenario
from throughway.lab.vpns import manual
from throughway.lab.vpns.ipsec import EspNative, Ikev2Native, Ikev2Natt
from throughway.lab.vpns.manual import InGuests, L2tpv3
from throughway.lab.vpns.ports import AnyConnect, OpenVpn, WireGuard
from throughway.lab.vpns.ppp import L2tp, Pptp

Scenario = VpnScenario | CheckedScenario
"""What every scenario has: name, shows, clients, clients_max, programs, masquerade_fails, what_is_missing()."""

_VPNS: Final = (
    VpnScenario(
        "esp-native",
        "clients with native ESP (IP protocol 50) to one server; plain masquerade carries one of them",
        3,
        8,
        (*programs.GUEST, *strongswan.PROGRAMS, *vpnc.PROGRAMS),
        EspNative,
        ("ike", "esp"),
        masquerade_fails=True,
    ),
    VpnScenario(
        "pptp",
        "clients with PPTP and MPPE-128 to one server; plain masquerade carries none of them",
        2,
        8,
        (*programs.GUEST, *pptp.PROGRAMS),
        Pptp,
        ("pptp", "pptp-gre"),
        masquerade_fails=True,
    ),
    VpnScenario(
        "openvpn-udp", "clients with OpenVPN over UDP to one server", 2, 8, openvpn.PROGRAMS, OpenVpn, ("openvpn",)
    ),
    VpnScenario(
        "wireguard", "clients with WireGuard to one server", 2, 8, wireguard.PROGRAMS, WireGuard, ("wireguard",)
    ),
    VpnScenario(
        "openvpn-tcp",
        "clients with OpenVPN over TCP to one server",
        2,
        8,
        openvpn.PROGRAMS,
        partial(OpenVpn, wire=openvpn.Wire("tcp")),
        ("openvpn",),
    ),
    VpnScenario(
        "l2tp",
        "clients with L2TP (RFC 2661) on UDP 1701 to one server",
        2,
        8,
        (*programs.GUEST, "unshare", *l2tp.PROGRAMS),
        L2tp,
        ("l2tpv2",),
    ),
    VpnScenario(
        "l2tp-ipsec",
        "a client with L2TP within IPsec; one, since a server cannot have two behind one address: both SAs, in "
        "transport mode, select UDP 1701 at that address, and the newer one gets what is sent to either",
        1,
        1,
        (*programs.GUEST, "unshare", *strongswan.PROGRAMS, *l2tp.PROGRAMS),
        partial(L2tp, with_ipsec=True),
        ("ike", "ike-natt"),
    ),
    VpnScenario(
        "anyconnect",
        "clients with openconnect to one ocserv: TLS on TCP 443 and DTLS on UDP 443",
        2,
        8,
        anyconnect.PROGRAMS,
        AnyConnect,
        ("anyconnect",),
    ),
    VpnScenario(
        "ikev2-natt",
        "clients with IKEv2, and ESP in UDP on port 4500, to one server",
        2,
        8,
        libipsec.PROGRAMS,
        Ikev2Natt,
        ("ike", "ike-natt"),
    ),
    VpnScenario(
        "ikev2-native",
        "clients with IKEv2 and native ESP, which they were told to use behind a NAT too, to one server",
        2,
        4,
        (*programs.GUEST, "unshare", *libreswan.PROGRAMS),
        Ikev2Native,
        ("ike", "esp"),
        masquerade_fails=True,
    ),
    VpnScenario(
        "same-account",
        "clients with native ESP and one account between them; their translated IKE ports tell them apart",
        2,
        8,
        (*programs.GUEST, *strongswan.PROGRAMS, *vpnc.PROGRAMS),
        partial(EspNative, accounts=1),
        ("ike", "esp"),
        masquerade_fails=True,
    ),
    VpnScenario(
        "router-vpnc",
        "a client with native ESP on the router itself, beside those of devices, to one server",
        3,
        8,
        (*programs.GUEST, *strongswan.PROGRAMS, *vpnc.PROGRAMS),
        partial(EspNative, on_router=True),
        ("ike", "esp"),
        masquerade_fails=True,
    ),
    VpnScenario(
        "keeps-500",
        "clients with native ESP to a server that takes IKE from port 500 alone, which plain masquerade gives to one",
        2,
        8,
        (*programs.GUEST, *strongswan.PROGRAMS, *vpnc.PROGRAMS),
        partial(EspNative, keeps_port=True),
        ("ike", "esp"),
        masquerade_fails=True,
    ),
    VpnScenario(
        "esp-manual",
        "clients with native ESP and keys set by hand, no IKE at all, to one server",
        2,
        8,
        programs.GUEST,
        partial(InGuests, kind=manual.ESP),
        ("esp",),
        masquerade_fails=True,
    ),
    VpnScenario(
        "gre-key",
        "clients with GRE, each with a key of its own, to one server",
        2,
        8,
        programs.GUEST,
        partial(InGuests, kind=manual.GRE),
        ("gre",),
        masquerade_fails=True,
    ),
    VpnScenario(
        "l2tpv3",
        "clients with L2TPv3 over IP (protocol 115), sessions set by hand, to one server",
        2,
        8,
        (),
        L2tpv3,
        ("l2tpv3",),
        masquerade_fails=True,
    ),
    VpnScenario(
        "ipip",
        "a client with IPv4 in IPv4 to a server; one, since nothing in a packet tells two apart",
        1,
        1,
        programs.GUEST,
        partial(InGuests, kind=manual.IPIP),
        ("ipip",),
    ),
    VpnScenario(
        "6in4",
        "a client with IPv6 in IPv4 to a server; one, since nothing in a packet tells two apart",
        1,
        1,
        programs.GUEST,
        partial(InGuests, kind=manual.SIX_IN_FOUR),
        ("6in4",),
    ),
)


def _openvpn(name: str, wire: openvpn.Wire) -> VpnScenario:
    shows = f"clients with OpenVPN over {wire.transport.upper()} port {wire.port}, {wire.protection}, to one server"
    return VpnScenario(name, shows, 2, 8, openvpn.PROGRAMS, partial(OpenVpn, wire=wire), ("openvpn",))


_ELSEWHERE: Final = (
    _openvpn("openvpn-tls-auth", openvpn.Wire("udp", 443, "tls-auth")),
    _openvpn("openvpn-tls-crypt", openvpn.Wire("udp", 53, "tls-crypt")),
    _openvpn("openvpn-tls-crypt-v2", openvpn.Wire("udp", 4500, "tls-crypt-v2")),
    _openvpn("openvpn-tcp-443", openvpn.Wire("tcp", 443, "tls-crypt")),
    _openvpn("openvpn-tcp-tls-auth", openvpn.Wire("tcp", 8443, "tls-auth")),
    VpnScenario(
        "wireguard-53",
        "clients with WireGuard on UDP 53 to one server",
        2,
        8,
        wireguard.PROGRAMS,
        partial(WireGuard, port=53),
        ("wireguard",),
    ),
    VpnScenario(
        "anyconnect-8443",
        "clients with openconnect to one ocserv on TCP and UDP 8443",
        2,
        8,
        anyconnect.PROGRAMS,
        partial(AnyConnect, port=8443),
        ("anyconnect",),
    ),
    VpnScenario(
        "ikev2-6500",
        "clients with IKEv2 and ESP in UDP on port 6500, from any port, to one server",
        2,
        8,
        libipsec.PROGRAMS,
        partial(Ikev2Natt, port=6500),
        ("ike-natt",),
    ),
    VpnScenario(
        "l2tp-6701",
        "clients with L2TP (RFC 2661) on UDP 6701 to one server",
        2,
        8,
        (*programs.GUEST, "unshare", *l2tp.PROGRAMS),
        partial(L2tp, port=6701),
        ("l2tpv2",),
    ),
)
"""The VPNs that have ports, on others than their own, and OpenVPN's ways to wrap its control channel."""

VPNS: Final = {scenario.name: scenario for scenario in (*_VPNS, *_ELSEWHERE)}
"""The scenarios with real peers, by name."""

SWITCHES: Final = CheckedScenario(
    name="switches",
    shows="IPsec, PPTP, L2TP, OpenVPN and WireGuard at once: each is switched off, its device is told, the others lose "
    "nothing, and it comes back",
    checks=switching.switches,
    masquerade_fails=True,
    programs=tuple(
        dict.fromkeys(
            program
            for name in ("esp-native", "pptp", "l2tp", "openvpn-udp", "wireguard")
            for program in VPNS[name].programs
        )
    ),
)

SCENARIOS: Final[dict[str, Scenario]] = {
    **VPNS,
    **{scenario.name: scenario for scenario in (*PACKET_SCENARIOS, SWITCHES, *DIAGNOSIS_SCENARIOS)},
}
"""Every scenario by its name, in the order in which they are listed."""

LIVE: Final = ("esp-native", "openvpn-udp", "wireguard", "pptp")
"""What `lab up` keeps running, each with its default number of clients."""


def named(name: str, clients: int | None = None) -> tuple[Scenario, int]:
    """Return a scenario and how many clients it is to have.

    Raises SettingsRejected for a name that is none, and for a number that the scenario cannot have.
    """
    scenario = SCENARIOS.get(name)
    if scenario is None:
        near = get_close_matches(name, SCENARIOS, 1)
        hint = f"did you mean {near[0]}?" if near else "`throughway lab list` names all"
        raise SettingsRejected("SCENARIO", f"there is none with the name {name}; {hint}")
    number = scenario.clients if clients is None else clients
    if not 1 <= number <= scenario.clients_max:
        raise SettingsRejected("--clients", f"{name} can have {_up_to(scenario.clients_max)}, not {number}")
    return scenario, number


def _up_to(most: int) -> str:
    return f"1 to {most} clients" if most > 1 else "1 client"
