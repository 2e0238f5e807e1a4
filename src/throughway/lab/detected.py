"""What detection makes of the flows between each client and its server.

Here it is asked about the captures of a run, taken at the gateway. Whoever detects elsewhere, as the daemon does live,
gives a Detected for each client too: what a scenario expects is one list for all, `VpnScenario.detected`.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from throughway.catalogue_files import read_catalogue
from throughway.core.ids import IpProtocol
from throughway.detect.flows import Flow
from throughway.identify.reading import identify
from throughway.lab.peers.client import Client


@dataclass(frozen=True, slots=True)
class Detected:
    """What the flows of one client are: IDs of the catalogue, sorted; flows that carried something and have no name."""

    protocols: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()

    def is_just(self, expected: Collection[str]) -> bool:
        """Whether every protocol that is expected was found, no other, and no flow was left without a name."""
        return set(self.protocols) == set(expected) and not self.unnamed

    def words(self) -> str:
        """Say what was found."""
        return ", ".join((*self.protocols, *self.unnamed)) or "nothing"


def in_captures(
    clients: Iterable[Client], router_outside: IPv4Address, inside: Path, outside: Path
) -> dict[str, Detected]:
    """Return what each client's flows are, by its name.

    A device's flows are those on the inside. A client on the router itself has them on the outside alone, where those
    of the devices have its address too.
    """
    on_inside, on_outside = _flows(inside), _flows(outside)
    return {
        client.name: _between(client, on_outside if client.address == router_outside else on_inside)
        for client in clients
    }


def named(capture: Path) -> set[str]:
    """Return the protocols of all flows in a capture."""
    return {flow.answer.protocol for flow in _flows(capture) if flow.answer}


def _flows(capture: Path) -> list[Flow]:
    flows: list[Flow] = []
    # What tcpdump has not finished to write is left out.
    identify(capture, read_catalogue(None), flows.append)
    return flows


def _between(client: Client, flows: Iterable[Flow]) -> Detected:
    ends = {str(client.address), str(client.server)}
    own = [
        flow
        for flow in flows
        if {flow.source_text(), flow.destination_text()} == ends and flow.protocol != IpProtocol.ICMP and flow.looked_at
    ]
    protocols = {flow.answer.protocol for flow in own if flow.answer}
    unnamed = [
        f"IP protocol {flow.protocol} to {flow.destination_text()} port {flow.destination_port}"
        for flow in own
        if not flow.answer
    ]
    return Detected(tuple(sorted(protocols)), tuple(unnamed))
