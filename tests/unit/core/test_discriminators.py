"""What names a tunnel, and how it is written for people."""

import pytest

from throughway.core import discriminators

GRE, ESP, L2TPV3 = 47, 50, 115


def test_a_key_of_zero_is_not_no_key() -> None:
    assert discriminators.of_gre(0) != discriminators.of_gre(None) == discriminators.NONE


def test_a_session_and_a_control_connection_with_one_number_are_two_flows() -> None:
    session, connection = discriminators.of_l2tpv3_session(7), discriminators.of_l2tpv3_control(7)
    assert session != connection
    assert not discriminators.is_l2tpv3_control(session)
    assert discriminators.is_l2tpv3_control(connection)


@pytest.mark.parametrize(
    ("protocol", "discriminator", "words"),
    [
        (ESP, 0x1234ABCD, "0x1234abcd"),
        (GRE, 0, "no key"),
        (GRE, discriminators.of_gre(0), "key 0x0"),
        (GRE, discriminators.of_gre(42), "key 0x2a"),
        (L2TPV3, 42, "0x0000002a"),
        (L2TPV3, discriminators.of_l2tpv3_control(42), "control 0x0000002a"),
        (94, 0, ""),
    ],
)
def test_words(protocol: int, discriminator: int, words: str) -> None:
    assert discriminators.words_of(protocol, discriminator) == words


def test_names() -> None:
    names = [discriminators.name_of(protocol) for protocol in (GRE, ESP, 51, L2TPV3, 94)]
    assert names == ["gre", "esp", "ah", "l2tpv3", "ip-94"]


@pytest.mark.parametrize("protocol", [1, 2, 6, 17, 33, 51, 132, 136])
def test_protocols_with_ports_and_those_of_the_network_itself_are_not_ours(protocol: int) -> None:
    assert not discriminators.is_ours(protocol)


@pytest.mark.parametrize("protocol", [4, 41, GRE, ESP, 94, 112, L2TPV3, 255])
def test_all_others_are(protocol: int) -> None:
    assert discriminators.is_ours(protocol)
