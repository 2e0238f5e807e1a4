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
        (94, 42, ""),
    ],
)
def test_words(protocol: int, discriminator: int, words: str) -> None:
    assert discriminators.words_of(protocol, discriminator) == words


@pytest.mark.parametrize(
    ("port", "discriminator", "words"),
    [
        (500, 0x0123456789ABCDEF, "0x0123456789abcdef"),
        (500, 0xA, "0x000000000000000a"),
        (1701, discriminators.of_l2tpv2(0), "tunnel 0"),
        (1701, discriminators.of_l2tpv2(0xFFFF), "tunnel 65535"),
        (1701, discriminators.of_l2tpv3_control(42), "control 0x0000002a"),
        (1701, discriminators.of_l2tpv3_session(0xFFFFFFFF), "0xffffffff"),
    ],
)
def test_words_of_udp(port: int, discriminator: int, words: str) -> None:
    assert discriminators.words_of(17, discriminator, port) == words


def test_what_names_nothing_yet_is_known_as_that() -> None:
    of_nobody = {discriminators.of_l2tpv2(0), discriminators.of_l2tpv3_control(0)}
    assert of_nobody == discriminators.L2TP_UNASSIGNED
    assert discriminators.of_l2tpv3_control(0) == discriminators.L2TPV3_UNASSIGNED
    assert discriminators.is_l2tpv3_control(discriminators.of_l2tpv2(0))


def test_names() -> None:
    names = [discriminators.name_of(protocol) for protocol in (GRE, ESP, 51, L2TPV3, 94)]
    assert names == ["gre", "esp", "ah", "l2tpv3", "ip-94"]
    assert [discriminators.name_of(17, port) for port in (500, 1701, 53)] == ["ike", "l2tp", "ip-17"]


@pytest.mark.parametrize("protocol", [1, 2, 6, 17, 33, 51, 132, 136])
def test_protocols_with_ports_and_those_of_the_network_itself_are_not_ours(protocol: int) -> None:
    assert not discriminators.is_ours(protocol)


@pytest.mark.parametrize(
    ("protocol", "port", "is_ours"), [(17, 500, True), (17, 1701, True), (17, 53, False), (6, 500, False)]
)
def test_of_protocols_with_ports_those_that_may_be_kept_are_ours(protocol: int, port: int, is_ours: bool) -> None:
    assert discriminators.is_ours(protocol, port) is is_ours


@pytest.mark.parametrize("protocol", [4, 41, GRE, ESP, 94, 112, L2TPV3, 255])
def test_all_others_are(protocol: int) -> None:
    assert discriminators.is_ours(protocol)
