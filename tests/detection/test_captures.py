"""Done over real captures: every VPN that its packets show is named, and nothing else (docs/detection.md)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.captures import captures_folder, described, needs_captures
from tests.detection.truth import LOOKED_THROUGH, ROWS, Compared, compared, flows_of
from throughway.catalogue_files import read_catalogue
from throughway.detect.engine import Detector
from throughway.identify.captures import Capture
from throughway.wire import ip
from throughway.wire.frames import ip_offset

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "detection.md"


@pytest.fixture(scope="module")
def captures() -> list[Compared]:
    folder = captures_folder()
    assert folder is not None
    return list(compared(folder, described("index.json")))


@needs_captures
def test_nothing_is_named_where_there_is_no_vpn(captures: list[Compared]) -> None:
    assert {capture.file: capture.unexpected for capture in captures if capture.unexpected} == {}


@needs_captures
def test_what_the_truth_looks_through_is_listed(captures: list[Compared]) -> None:
    """IP in IP in a capture that is said to have no VPN: the IP header names it, and the document the file."""
    text = DOCUMENT.read_text()
    files = [capture.file for capture in captures if capture.looked_through and not capture.is_vpn]
    assert files
    assert [file for file in files if f"`{file}`" not in text] == []
    assert {"ipip", "6in4"} == LOOKED_THROUGH


@needs_captures
@pytest.mark.parametrize("row", ROWS)
def test_no_protocol_is_found_less_often_than_by_ndpi(captures: list[Compared], row: str) -> None:
    assert sum(capture.ours[row] for capture in captures) >= sum(capture.ndpi[row] for capture in captures)


@needs_captures
def test_more_is_found_than_by_ndpi_in_total(captures: list[Compared]) -> None:
    assert sum(capture.ours.total() for capture in captures) > sum(capture.ndpi.total() for capture in captures)


@needs_captures
def test_each_miss_is_explained_by_name(captures: list[Compared]) -> None:
    text = DOCUMENT.read_text()
    assert [capture.file for capture in captures if capture.missed and f"`{capture.file}`" not in text] == []


@needs_captures
@pytest.mark.parametrize("port", [53, 500, 1194, 1701, 4242, 4500, 4501, 9993, 51820])
def test_nothing_of_others_is_named_on_the_ports_of_vpns(port: int) -> None:
    """Structure beats port: all that is no VPN, moved to a port whose protocol needs little else to be named."""
    folder = captures_folder()
    assert folder is not None
    catalogue = read_catalogue(None)
    named = []
    for file in described("index.json")["non_vpn"]:
        detector = Detector(catalogue)
        for data in moved_to(port, folder / file):
            detector.on_packet(0.0, data)
        named += [(file, flow.answer) for flow in detector.flows() if flow.has_ports and flow.answer]
    assert named == []


def moved_to(port: int, path: Path) -> Iterator[bytes]:
    """Yield the IP packets of a capture with the port of the server, the lower one, replaced."""
    with Capture(path) as capture:
        for frame in capture:
            offset = ip_offset(frame.link_type, frame.data)
            front = None if offset is None else ip.front(frame.data, offset)
            if front is None or front.protocol not in (6, 17) or front.end < front.payload_at + 4:
                continue
            at = front.payload_at - (offset or 0)
            data = bytearray(frame.data[offset:])
            ports = int.from_bytes(data[at : at + 2], "big"), int.from_bytes(data[at + 2 : at + 4], "big")
            where = at if ports[0] < ports[1] else at + 2
            data[where : where + 2] = port.to_bytes(2, "big")
            yield bytes(data)


@needs_captures
def test_the_flow_that_has_ike_and_esp_is_nat_ts() -> None:
    folder = captures_folder()
    assert folder is not None
    flows, outcome = flows_of(folder / "tcpdump/isakmp4500.pcap")
    assert outcome.problems == []
    answers = {flow.destination_port: flow.answer.protocol for flow in flows if flow.answer}
    assert answers == {500: "ike", 4500: "ike-natt"}


@needs_captures
def test_the_spis_are_those_that_tshark_lists() -> None:
    folder = captures_folder()
    assert folder is not None
    flows, _ = flows_of(folder / "arkime/IKEv1.pcap")
    (esp,) = (flow for flow in flows if flow.answer and flow.answer.protocol == "esp")
    assert set(esp.notes.words()) == {"SPI 0x3d71315a", "SPI 0xe8f1f49c", "SPI 0x8905e940"}
    assert esp.packets == 296
