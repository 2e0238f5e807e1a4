"""The ground truth of a folder of captures (index.json), flow by flow, and what we and nDPI make of it.

Truth is tshark's: `vpn_flows_tshark` where it is given, else the number of flows of each label. Some captures hold what
tshark does not know by default, such as OpenVPN on a port of its own; the index says that their names tell what is in
them, and `BY_NAME` repeats it.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from throughway.catalogue_files import read_catalogue
from throughway.detect.flows import Flow
from throughway.identify.reading import Outcome, identify

ROWS: Final = ("IPsec", "PPTP", "GRE", "L2TP", "OpenVPN", "WireGuard")

OF_TSHARK: Final = {
    **dict.fromkeys(("IKEv1", "IKEv2", "IKEv1-4500", "IKEv2-4500", "IKE?", "UDP-ESP", "ESP", "AH", "AH+ESP"), "IPsec"),
    "PPTP-ctrl": "PPTP",
    **dict.fromkeys(("PPTP-GRE", "GRE", "GRE-in-UDP"), "GRE"),
    **dict.fromkeys(("L2TPv2-ctrl", "L2TPv3-ip-data"), "L2TP"),
    **dict.fromkeys(("OpenVPN-udp", "OpenVPN-tcp"), "OpenVPN"),
    "WireGuard": "WireGuard",
}

OF_OURS: Final = {
    **dict.fromkeys(("ike", "ike-natt", "ike-tcp", "esp", "esp-udp", "ah"), "IPsec"),
    "pptp": "PPTP",
    **dict.fromkeys(("gre", "pptp-gre"), "GRE"),
    **dict.fromkeys(("l2tpv2", "l2tpv3", "l2tpv3-udp"), "L2TP"),
    "openvpn": "OpenVPN",
    **dict.fromkeys(("wireguard", "tailscale"), "WireGuard"),
}

BY_NAME: Final = {
    "arkime/openvpn_synthetic.pcap": {"OpenVPN": 4},
    "zeek-spicy-openvpn/openvpn.pcap": {"OpenVPN": 1},
    "ipfixprobe/ovpn.pcap": {"OpenVPN": 3},
    "zeek-spicy-ipsec/ipsec-ikev1-zero-length.pcap": {"IPsec": 1},
    "tcpdump/isakmp-pointer-loop.pcap": {"IPsec": 1},
}

LOOKED_THROUGH: Final = frozenset({"ipip", "6in4"})
"""What tshark and nDPI look through: the truth has the flows inside. The IP header says what they are."""

_TRANSPORTS: Final = {6: "TCP", 17: "UDP", 47: "GRE", 50: "ESP", 51: "AH"}


@dataclass(frozen=True, slots=True)
class Compared:
    """One capture: flows of each row by truth, by us and by nDPI; by name what was missed and what nobody expects."""

    file: str
    is_vpn: bool
    truth: Counter[str]
    ours: Counter[str]
    ndpi: Counter[str]
    missed: list[str]
    unexpected: list[str]
    looked_through: list[str]


def compared(folder: Path, index: dict[str, Any]) -> Iterator[Compared]:
    """Go through all captures of an index."""
    without = set(index["non_vpn"])
    for capture in index["captures"]:
        if (folder / capture["file"]).is_file():
            yield _compare(folder, capture, capture["file"] not in without)


@cache
def flows_of(path: Path) -> tuple[tuple[Flow, ...], Outcome]:
    """Detect the flows of a capture, with the protocols that come with Throughway."""
    flows: list[Flow] = []
    outcome = identify(path, read_catalogue(None), flows.append)
    return tuple(flows), outcome


def _compare(folder: Path, capture: dict[str, Any], is_vpn: bool) -> Compared:
    file = capture["file"]
    named = [flow for flow in flows_of(folder / file)[0] if flow.answer]
    expected = capture.get("vpn_flows_tshark") or {}
    truth = _rows(capture, is_vpn)
    ndpi = Counter({row: capture["ndpireader_4_2"].get(row, {}).get("flows", 0) for row in ROWS})
    ours: Counter[str] = Counter()
    found: set[str] = set()
    unexpected, looked_through = [], []
    for flow in named:
        assert flow.answer
        names = set(_names(flow))
        found |= names
        words = f"{flow.answer.protocol} {min(names)}: {flow.answer.evidence}"
        row = OF_OURS.get(flow.answer.protocol)
        if flow.answer.protocol in LOOKED_THROUGH:
            looked_through.append(words)
        elif row is None or not is_vpn or (expected and not names & expected.keys()):
            unexpected.append(words)
        else:
            ours[row] += 1
    missed = [name for name in expected if name not in found]
    if not expected:
        missed = [f"{count} of {row}" for row in ROWS if (count := truth[row] - ours[row]) > 0]
    return Compared(file, is_vpn, truth, ours, ndpi & truth, missed, unexpected, looked_through)


def _rows(capture: dict[str, Any], is_vpn: bool) -> Counter[str]:
    rows: Counter[str] = Counter()
    if not is_vpn:
        return rows
    expected = capture.get("vpn_flows_tshark")
    if expected:
        for labels in expected.values():
            rows[next(row for label, row in OF_TSHARK.items() if label in labels)] += 1
        return rows
    for label, seen in capture["protocols_tshark"].items():
        if label in OF_TSHARK:
            rows[OF_TSHARK[label]] += seen["flows"]
    rows.update(BY_NAME.get(capture["file"], {}))
    return rows


def _names(flow: Flow) -> Iterator[str]:
    """Name a flow as the index does, from either end."""
    ends = [
        (f"[{text}]" if ":" in text else text) + f":{port}"
        for text, port in ((flow.source_text(), flow.source_port), (flow.destination_text(), flow.destination_port))
    ]
    transport = _TRANSPORTS.get(flow.protocol, f"IP-{flow.protocol}")
    yield f"{transport}|{ends[0]}|{ends[1]}"
    yield f"{transport}|{ends[1]}|{ends[0]}"
