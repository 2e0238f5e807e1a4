"""What the daemon refuses to start with, and that it says why."""

from ipaddress import IPv4Address

import pytest

from throughway.core.errors import SettingsRejected
from throughway.core.ids import UdpPort
from throughway.core.kept_ports import PortSetting
from throughway.service.options import Options, parse


def test_command_line_is_read() -> None:
    options = parse(["--inside", "lan0", "--inside", "lan1", "--outside", "wan0", "--gateway", "office", "--keep"])
    assert options == Options(inside=("lan0", "lan1"), outside="wan0", gateway="office", keep=True)
    assert options.socket.name == "office.sock"
    assert not parse(["--inside", "lan0", "--outside", "wan0", "--no-ipv6-ipsec"]).ipv6_ipsec
    assert options.outside_addresses == ()
    named = parse(["--inside", "lan0", "--outside", "wan0", "--outside-address", "192.0.2.2"])
    assert named.outside_addresses == (IPv4Address("192.0.2.2"),)


def test_ports_are_learned_unless_the_operator_has_settled_them() -> None:
    usual = parse(["--inside", "lan0", "--outside", "wan0"])
    assert set(usual.ports.values()) == {PortSetting.AUTO}
    settled = parse(["--inside", "lan0", "--outside", "wan0", "--ike-port", "keep", "--l2tp-port", "translate"])
    assert settled.ports == {UdpPort.IKE: PortSetting.KEEP, UdpPort.L2TP: PortSetting.TRANSLATE}


@pytest.mark.parametrize(
    ("arguments", "key", "words"),
    [
        ({"inside": ("lan0",), "outside": "lan0"}, "--outside", "lan0"),
        ({"inside": (), "outside": "wan0"}, "--inside", "at least one"),
        ({"inside": ("lan0", "lan0"), "outside": "wan0"}, "--inside", "twice"),
        (
            {"inside": ("lan0",), "outside": "wan0", "outside_addresses": (IPv4Address(1), IPv4Address(1))},
            "--outside-address",
            "twice",
        ),
        ({"inside": ("lan0",), "outside": "wan0", "gateway": "../x"}, "--gateway", "letters"),
        ({"inside": ("lan0",), "outside": "wan0", "gateway": ""}, "--gateway", "letters"),
    ],
)
def test_nonsense_is_refused_with_the_option_and_the_remedy(arguments: dict[str, object], key: str, words: str) -> None:
    with pytest.raises(SettingsRejected) as refused:
        Options(**arguments)  # type: ignore[arg-type]
    assert refused.value.key == key
    assert words in refused.value.remedy
