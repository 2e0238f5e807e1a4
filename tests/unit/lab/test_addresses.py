from ipaddress import IPv4Address, IPv4Interface

import pytest

from throughway.lab import addresses


def test_the_outside_has_documentation_addresses_and_the_inside_private_ones() -> None:
    assert addresses.INSIDE.is_private
    documentation = ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")
    assert tuple(map(str, (addresses.UPLINK, *addresses.PEERS))) == documentation


def test_a_host_number_has_the_length_of_its_network() -> None:
    assert addresses.at(addresses.INSIDE, 11) == IPv4Interface("10.77.0.11/24")
    assert str(addresses.at_6(addresses.INSIDE_6, 11)) == "2001:db8:77::b/64"


def test_a_peer_belongs_to_one_of_the_peers_networks() -> None:
    assert addresses.peer_network(IPv4Address("198.51.100.10")) == 0
    assert addresses.peer_network(IPv4Address("203.0.113.20")) == 1
    with pytest.raises(ValueError, match=r"192\.0\.2\.9 is in none of the peers' networks"):
        addresses.peer_network(IPv4Address("192.0.2.9"))
