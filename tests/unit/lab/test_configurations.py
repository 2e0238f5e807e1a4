"""What the peers are told: the parts on which a scenario depends."""

from ipaddress import IPv4Address
from pathlib import Path

from throughway.lab.namespace import Namespace
from throughway.lab.peers import gre, l2tp, l2tpv3, libipsec, libreswan, openvpn, strongswan, vpnc, wireguard, xfrm
from throughway.lab.peers.openvpn import Identity

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
        server = openvpn.server_configuration(own, [other], openvpn.Wire(transport)).splitlines()  # type: ignore[arg-type]
        client = openvpn.client_configuration(other, own, SERVER, openvpn.Wire(transport)).splitlines()  # type: ignore[arg-type]
        assert f"proto {at_server}" in server
        assert f"proto {at_client}" in client
        assert "CC:DD" in server
        assert "AA:BB" in client


def test_openvpn_ends_meet_on_a_port_of_their_own_with_what_wraps_the_control_channel() -> None:
    own = openvpn.Identity(Path("a.crt"), Path("a.key"), "AA:BB")
    wire = openvpn.Wire("tcp", 8443, "tls-auth")
    assert "port 8443" in openvpn.server_configuration(own, [own], wire, ["tls-auth k 0"]).splitlines()
    client = openvpn.client_configuration(own, own, SERVER, wire, ["tls-auth k 1"]).splitlines()
    assert f"remote {SERVER} 8443" in client
    assert "tls-auth k 1" in client


def test_ike_on_another_port_leaves_none_of_its_own_at_either_end() -> None:
    assert "remote_port = 6500" in libipsec.client_connections(SERVER, 1, libipsec.Manner(port=6500))
    assert "port = 0\n  port_nat_t = 6500\n" in libipsec.daemon(Path("/lab"), (0, 6500))


def test_wireguard_interfaces_of_two_labs_have_names_of_their_own() -> None:
    names = [wireguard.interface_name(Namespace(f"tw{lab}-wgserver", Path("/lab"))) for lab in ("00aa", "00bb")]
    assert names == ["wg00aa-wgserver", "wg00bb-wgserver"]
    assert all(len(name) <= 15 for name in names)


HOST = IPv4Address("10.77.0.11")
SHARED = IPv4Address("192.0.2.2")


def test_libreswan_stays_native_at_both_ends() -> None:
    for written in (libreswan.server_settings(SERVER, 2), libreswan.client_settings(HOST, SERVER, 2)):
        assert "encapsulation=no\n" in written
        assert "conn client2\n" in written
    assert libreswan.server_settings(SERVER, 4).count("rightsubnet=172.25.1.") == 4


def test_strongswans_ends_agree_on_their_identities() -> None:
    server, client = libipsec.server_connections(SERVER), libipsec.client_connections(SERVER, 2)
    assert "id = server" in server
    assert "id = client2" in client
    assert "start_action = none" in server
    assert "start_action = start" in client
    assert all(written.count("{") == written.count("}") for written in (server, client, l2tp.connections(HOST, SERVER)))


def test_l2tp_within_ipsec_is_transport_mode_at_both_ends() -> None:
    server, client = l2tp.connections(SERVER, None), l2tp.connections(HOST, SERVER)
    assert "mode = transport" in server
    assert "mode = transport" in client
    assert "remote_addrs" not in server
    assert f"remote_addrs = {SERVER}\n" in client


def test_tunnels_set_by_hand_differ_by_what_names_them() -> None:
    for names in (xfrm.spis, l2tpv3.session_ids):
        assert len({name for number in range(1, 9) for name in names(number)}) == 16
    assert len({gre.key(number) for number in range(1, 9)}) == 8


def test_the_two_ends_of_esp_by_hand_mirror_each_other() -> None:
    at_client = xfrm.pair((HOST, "172.22.1.1", 0x101), (SERVER, "172.22.0.1", 0x201), 1)
    at_server = xfrm.pair((SERVER, "172.22.0.1", 0x201), (SHARED, "172.22.1.1", 0x101), 1)
    assert f"src {HOST} dst {SERVER} proto esp spi 0x101" in at_client[0]
    assert f"src {SHARED} dst {SERVER} proto esp spi 0x101" in at_server[2]
    assert f"src {SERVER} dst {SHARED} proto esp spi 0x201" in at_server[0]
    assert "src 172.22.1.1/32 dst 172.22.0.1/32 dir out" in at_client[1]
    assert "src 172.22.1.1/32 dst 172.22.0.1/32 dir in" in at_server[3]


def test_ah_by_hand_has_no_encryption() -> None:
    commands = xfrm.pair((HOST, "172.22.1.1", 0x101), (SERVER, "172.22.0.1", 0x201), 1, "ah")
    assert all("proto ah" in command and "enc " not in command for command in commands)


def test_strongswan_repeats_and_proves_itself_as_it_is_told(tmp_path: Path) -> None:
    assert "retransmit" not in libipsec.daemon(tmp_path)
    assert "retransmit_timeout = 2\n" in libipsec.daemon(tmp_path, repeat_s=2.0)
    server, client = (Identity(tmp_path / f"{name}.crt", tmp_path, "") for name in ("server", "client"))
    by_secret = libipsec.client_connections(SERVER, 1)
    by_certificate = libipsec.client_connections(SERVER, 1, libipsec.Manner(repeat_s=2.0, server=server, client=client))
    assert "auth = psk" in by_secret
    assert "fragmentation = yes" in by_secret
    assert by_certificate.count("auth = pubkey") == 2
    assert f"certs = {server.certificate}" in by_certificate
    assert "fragmentation = no" in by_certificate
