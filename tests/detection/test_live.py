"""Live detection over real captures names what the engine names that sees every packet, and copies few of them."""

from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from tests.captures import captures_folder, described, needs_captures
from tests.heads import TO_INSIDE, TO_PEER, Kernel, Seen, front_of
from throughway.catalogue_files import read_catalogue
from throughway.core.ids import Host, IpProtocol, Peer
from throughway.core.limits import Limits
from throughway.detect.engine import Detector
from throughway.detect.flows import Flow
from throughway.identify.captures import Capture
from throughway.service.live import Live
from throughway.sessions.facts import Detected, Fact, FlowName
from throughway.wire import ip
from throughway.wire.frames import ip_offset
from throughway.wire.tcp import ACK, SYN

SHIPPED = read_catalogue(None)


class Both:
    """The engine and live detection on the packets of one capture. Either end of a conversation may be the device."""

    def __init__(self, path: Path, *, is_flipped: bool) -> None:
        self._engine = Detector(SHIPPED)
        self._hosts: dict[frozenset[bytes], bytes] = {}
        self._begun: set[FlowName] = set()
        self.named: dict[FlowName, str] = {}
        self.packets = self.copied = 0
        kernel = Kernel()
        live = Live(kernel, SHIPPED, Limits())
        for seen in self._seen(path, is_flipped=is_flipped):
            self._engine.on_packet(seen.at, seen.data)
            self.packets += 1
            self.copied += kernel.passes(seen)
            live.read(self._take)

    def _seen(self, path: Path, *, is_flipped: bool) -> Iterator[Seen]:
        with Capture(path) as capture:
            for frame in capture:
                offset = ip_offset(frame.link_type, frame.data)
                data = b"" if offset is None else bytes(frame.data[offset:])
                found = ip.front(data)
                if found is None or len(found.source) != 4 or found.protocol not in (IpProtocol.TCP, IpProtocol.UDP):
                    continue
                first = found.destination if is_flipped else found.source
                host = self._hosts.setdefault(frozenset((found.source, found.destination)), first)
                seen = Seen(frame.at, data, TO_PEER if found.source == host else TO_INSIDE)
                front = front_of(seen)
                if front and front.flags & (SYN | ACK) == SYN:
                    self._begun.add(front.name)
                yield seen

    def _take(self, fact: Fact) -> None:
        if isinstance(fact, Detected):
            self.named[fact.flow] = fact.protocol

    def expected(self) -> dict[FlowName, str]:
        """Return what the engine named: datagrams, and connections whose SYN is there."""
        flows = [flow for flow in self._engine.flows() if flow.answer and flow.has_ports and len(flow.source) == 4]
        named = {self._name(flow): flow.answer.protocol for flow in flows if flow.answer}
        return {flow: it for flow, it in named.items() if flow.protocol == IpProtocol.UDP or flow in self._begun}

    def _name(self, flow: Flow) -> FlowName:
        ends = [(flow.source, flow.source_port), (flow.destination, flow.destination_port)]
        if flow.source != self._hosts[frozenset((flow.source, flow.destination))]:
            ends.reverse()
        (device, source), (peer, port) = ends
        return FlowName(Host(IPv4Address(device)), Peer(IPv4Address(peer)), flow.protocol, source, port)


@needs_captures
@pytest.mark.parametrize("is_flipped", [False, True])
def test_live_names_what_the_engine_names(is_flipped: bool) -> None:
    folder = captures_folder()
    assert folder is not None
    packets = copied = flows = 0
    for capture in described("index.json")["captures"]:
        if (folder / capture["file"]).is_file():
            both = Both(folder / capture["file"], is_flipped=is_flipped)
            assert both.named == both.expected(), capture["file"]
            packets, copied, flows = packets + both.packets, copied + both.copied, flows + len(both.named)
    assert flows > 40
    assert copied < packets / 20, "of captures of which most are of VPNs"
