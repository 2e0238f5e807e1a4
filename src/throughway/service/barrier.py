"""What blocks, in the kernel: the chains and sets of `policy.switches`, the programs, and connection tracking."""

import socket
from collections.abc import Collection, Iterator, Mapping
from ipaddress import IPv4Address
from typing import Any, Final

import structlog

from throughway.core.errors import KernelRefused
from throughway.core.ids import Host, Peer
from throughway.dataplane import ctflush
from throughway.dataplane.bpf import BpfDataPlane
from throughway.dataplane.nft import Nft
from throughway.policy import ruleset, switches
from throughway.policy.own import FAMILY, TABLE
from throughway.policy.ruleset import RulesetSettings
from throughway.policy.switches import SwitchRules
from throughway.sessions.facts import FlowName

log = structlog.get_logger()


class Barrier:
    """Carries out what the switches say. Each call is a transaction, and short; reading is as long as the sets are."""

    def __init__(self, nft: Nft, plane: BpfDataPlane) -> None:
        self._nft: Final = nft
        self._plane: Final = plane
        self.rules = SwitchRules()
        """What the rules say now, or will when they are laid."""

    def lay(self, settings: RulesetSettings) -> None:
        """Have rules and programs follow the switches of the settings. Raises KernelRefused.

        What becomes the kernel's does so in its rules before it does in the programs, and the other way round: while
        both leave it alone, it would leave with an inside address.
        """
        wanted = settings.switches
        self._plane.leave(self.rules.unassisted & wanted.unassisted)
        try:
            self._nft.apply(ruleset.switch(settings).to_json())
        except KernelRefused:
            self._plane.leave(self.rules.unassisted)
            raise
        self.rules = wanted
        self._plane.leave(wanted.unassisted)

    def open_with(self, rules: SwitchRules) -> None:
        """Note the rules for when they are laid for the first time, with all others."""
        self.rules = rules
        self._plane.leave(rules.unassisted)

    def block(self, flows: Mapping[FlowName, str]) -> None:
        """Block flows from now on, by ID of their protocol, and have the kernel forget them: On begins them anew."""
        named = {_tuple(flow): protocol for flow, protocol in flows.items() if flow.protocol in switches.FLOWS}
        if not named:
            return
        try:
            self._nft.apply(ruleset.update(*switches.block(named)).to_json())
        except KernelRefused as problem:
            log.warning("flows.not_blocked", count=len(named), problem=str(problem))
            return
        try:
            ctflush.forget(named)
        except (KernelRefused, OSError) as problem:
            log.warning("flows.not_flushed", of=f"{len(named)} flows that are switched off", problem=str(problem))

    def unblock(self, flows: Collection[FlowName]) -> None:
        """Block flows no more."""
        named = [_tuple(flow) for flow in flows if flow.protocol in switches.FLOWS]
        if not named:
            return
        try:
            self._nft.apply(ruleset.update(*switches.unblock(named)).to_json())
        except KernelRefused as problem:
            log.warning("flows.not_blocked", count=len(named), problem=str(problem))

    def blocked(self) -> dict[FlowName, str]:
        """Read which flows with ports are blocked now, by this run or the one before it, with the IDs of their
        protocols as they were noted. Raises KernelRefused.
        """
        return {
            FlowName(Host(IPv4Address(device)), Peer(IPv4Address(peer)), int(protocol), source, destination): comment
            for protocol, name in switches.FLOWS.items()
            for (device, peer, source, destination), comment in self._elements(name)
        }

    def tried(self) -> set[FlowName]:
        """Read which devices lately sent what is blocked and has no ports. Raises KernelRefused."""
        return {
            FlowName(Host(IPv4Address(device)), Peer(IPv4Address(peer)), _number(protocol))
            for (device, peer, protocol), _ in self._elements(switches.TRIED)
        }

    def _elements(self, name: str) -> Iterator[tuple[list[Any], str]]:
        """Yield the concatenations in a set, with their comments."""
        listed = self._nft.list_set(FAMILY, TABLE, name) or {"nftables": []}
        for entry in listed["nftables"]:
            for element in entry.get("set", {}).get("elem", ()):
                inner = element.get("elem", {"val": element})
                yield inner["val"]["concat"], str(inner.get("comment", ""))


def _tuple(flow: FlowName) -> tuple[IPv4Address, IPv4Address, int, int, int]:
    return flow.device, flow.peer, flow.protocol, flow.source, flow.destination


def _number(protocol: str | int) -> int:
    """Read a protocol as nft lists it: by the name that protocols(5) has for it, or by number."""
    return protocol if isinstance(protocol, int) else socket.getprotobyname(protocol)
