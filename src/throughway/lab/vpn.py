"""Scenarios with real peers: several VPN clients on the inside to one server outside."""

from collections.abc import Callable
from dataclasses import dataclass

from throughway.lab import programs
from throughway.lab.peers.client import Peers
from throughway.lab.testbed import Testbed


@dataclass(frozen=True, slots=True)
class VpnScenario:
    """A VPN with several clients on the inside to one server outside. `peers` adds them to a testbed.

    `detected` are the catalogue's IDs of all that each client and its server exchange. `masquerade_fails` says that a
    plain Linux router cannot carry them all.
    """

    name: str
    shows: str
    clients: int
    clients_max: int
    programs: tuple[str, ...]
    peers: Callable[[Testbed, int], Peers]
    detected: tuple[str, ...]
    masquerade_fails: bool = False

    def what_is_missing(self) -> str | None:
        """Say what keeps this scenario from running here, with the remedy; None when nothing does."""
        return programs.what_is_missing(self.programs)
