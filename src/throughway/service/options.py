"""What the daemon is started with."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from throughway.control.paths import GatewayNameRejected, socket_path, state_directory
from throughway.core.errors import SettingsRejected
from throughway.core.ids import UdpPort
from throughway.core.kept_ports import PortSetting
from throughway.switch_files import configuration_directory

AttachWay: TypeAlias = Literal["auto", "tcx", "clsact"]
ATTACH_WAYS: Final = get_args(AttachWay)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One gateway: its interfaces, its name, and how it works with the kernel."""

    inside: tuple[str, ...]
    outside: str
    gateway: str = "default"
    attach: AttachWay = "auto"
    ipv6_ipsec: bool = True
    """Let IPsec over IPv6 in to the devices unasked (RFC 6092 section 3.2.4)."""
    ike_port: PortSetting = PortSetting.AUTO
    l2tp_port: PortSetting = PortSetting.AUTO
    """Whether hosts keep these UDP ports, or have them translated."""
    keep: bool = False
    """Leave rules, programs and mappings at work when the daemon stops."""
    short_path: bool = True
    """Let known flows go around netfilter while nobody else looks at forwarded packets."""
    configuration: Path = field(default_factory=configuration_directory)
    """The folder of the switches (protocols.toml) and of the operator's protocols (protocols.d)."""
    outside_addresses: tuple[IPv4Address, ...] = ()
    """Of the outside interface's addresses, those that devices are given; all of them where none is named."""

    def __post_init__(self) -> None:
        """Refuse what cannot work, before anything is touched."""
        try:
            socket_path(self.gateway)
        except GatewayNameRejected as refused:
            raise SettingsRejected("--gateway", f"{refused.message}; {refused.remedy}") from None
        if not self.inside:
            raise SettingsRejected("--inside", "name at least one interface towards the devices")
        if self.outside in self.inside:
            raise SettingsRejected("--outside", f"{self.outside} is named as an inside interface too")
        if len(set(self.inside)) != len(self.inside):
            raise SettingsRejected("--inside", "an interface is named twice")
        if len(set(self.outside_addresses)) != len(self.outside_addresses):
            raise SettingsRejected("--outside-address", "an address is named twice")

    @property
    def ports(self) -> dict[UdpPort, PortSetting]:
        """What is wanted of the UDP ports that may be kept."""
        return {UdpPort.IKE: self.ike_port, UdpPort.L2TP: self.l2tp_port}

    @property
    def ports_file(self) -> Path:
        """Where it is remembered with which peers a port has to be kept."""
        return state_directory() / f"{self.gateway}.ports.json"

    @property
    def socket(self) -> Path:
        """Where the daemon listens for the CLI and all other faces."""
        return socket_path(self.gateway)

    @property
    def restore_file(self) -> Path:
        """Where the kernel settings that we changed are noted, so that a stop after a crash restores them too."""
        return self.socket.with_name(f"{self.gateway}.restore.json")


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line of `throughwayd`. Exits with a usage message where it makes no sense."""
    parser = argparse.ArgumentParser(prog="throughwayd", description="Carry VPN protocols through this router's NAT.")
    parser.add_argument(
        "--inside", action="append", metavar="IF", required=True, help="towards the devices; repeatable"
    )
    parser.add_argument("--outside", metavar="IF", required=True, help="towards the internet")
    parser.add_argument(
        "--outside-address",
        action="append",
        metavar="ADDR",
        type=IPv4Address,
        default=[],
        help="give devices this address of the outside interface; repeatable; all of them if left out",
    )
    parser.add_argument(
        "--gateway",
        metavar="NAME",
        default=os.environ.get("THROUGHWAY_GATEWAY", "default"),
        help="the name of this gateway where several run on one machine",
    )
    parser.add_argument("--attach", choices=ATTACH_WAYS, default="auto", help="how BPF programs are attached")
    parser.add_argument(
        "--ipv6-ipsec",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="let IPsec over IPv6 in to the devices unasked (RFC 6092)",
    )
    for option, protocol in (("--ike-port", "IKE (UDP 500)"), ("--l2tp-port", "L2TP (UDP 1701)")):
        parser.add_argument(
            option,
            choices=[setting.value for setting in PortSetting],
            default=PortSetting.AUTO.value,
            help=f"whether devices keep the port of {protocol}; auto keeps it with peers that need it",
        )
    parser.add_argument(
        "--short-path",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="let known flows go around netfilter while nobody else's rules look at forwarded packets",
    )
    parser.add_argument(
        "--configuration",
        metavar="DIR",
        type=Path,
        default=configuration_directory(),
        help="the folder of protocols.toml and protocols.d",
    )
    parser.add_argument("--keep", action="store_true", help="leave everything at work when stopped")
    chosen = parser.parse_args(arguments)
    return Options(
        inside=tuple(chosen.inside),
        outside=chosen.outside,
        gateway=chosen.gateway,
        attach=chosen.attach,
        ipv6_ipsec=chosen.ipv6_ipsec,
        ike_port=PortSetting(chosen.ike_port),
        l2tp_port=PortSetting(chosen.l2tp_port),
        keep=chosen.keep,
        short_path=chosen.short_path,
        configuration=chosen.configuration,
        outside_addresses=tuple(chosen.outside_address),
    )
