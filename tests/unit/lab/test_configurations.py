"""What the peers are told: the parts on which a scenario depends."""

from ipaddress import IPv4Address
from pathlib import Path

from throughway.lab.namespace import Namespace
from throughway.lab.peers import openvpn, strongswan, vpnc, wireguard

SERVER = IPv4Address("203.0.113.20")


def test_the_server_knows_as_many_users_as_there_are_clients() -> None:
    written = strongswan.connections(SERVER, 8)
    assert written.count("xauth-") == 8
    assert "id = user8\n secret = password8" in written
    assert written.count("{") == written.count("}")


def test_vpnc_stays_native_and_has_the_user_of_its_number() -> None:
    written = vpnc.configuration(SERVER, *strongswan.user(3), Path("/lab/script"))
    assert "IPSec gateway 203.0.113.20\n" in written
    assert "NAT Traversal Mode none\n" in written
    assert "Xauth username user3\nXauth password password3\n" in written


def test_openvpn_ends_agree_on_the_transport() -> None:
    own = openvpn.Identity(Path("a.crt"), Path("a.key"), "AA:BB")
    other = openvpn.Identity(Path("b.crt"), Path("b.key"), "CC:DD")
    for transport, at_server, at_client in (("udp", "udp", "udp"), ("tcp", "tcp-server", "tcp-client")):
        server = openvpn.server_configuration(own, [other], transport).splitlines()  # type: ignore[arg-type]
        client = openvpn.client_configuration(other, own, SERVER, transport).splitlines()  # type: ignore[arg-type]
        assert f"proto {at_server}" in server
        assert f"proto {at_client}" in client
        assert "CC:DD" in server
        assert "AA:BB" in client


def test_wireguard_interfaces_of_two_labs_have_names_of_their_own() -> None:
    names = [wireguard.interface_name(Namespace(f"tw{lab}-wgserver", Path("/lab"))) for lab in ("00aa", "00bb")]
    assert names == ["wg00aa-wgserver", "wg00bb-wgserver"]
    assert all(len(name) <= 15 for name in names)
