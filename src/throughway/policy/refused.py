"""Findings about what our own table has refused to hosts, read from its counters."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from throughway.core.findings import Finding, Level
from throughway.policy.guard import AH_REFUSED
from throughway.policy.own import FAMILY, TABLE

AH: Final = "refused.ah"


def findings_for(ruleset: Mapping[str, Any]) -> list[Finding]:
    """Explain what was refused since our table was laid; nothing where it was not, or the table is not there."""
    count = sum(_packets_of(ruleset, AH_REFUSED))
    if not count:
        return []
    return [
        Finding(
            AH,
            Level.WARNING,
            f"Devices sent {count} packets of AH (IP protocol 51), and were told that it cannot pass. AH protects the "
            "addresses of a packet too (RFC 4302 section 3.3.3.1.1.1), so no NAT can carry it.",
            "Set the VPN to ESP, which protects what is inside as well; or use IPv6, where nothing is translated.",
        )
    ]


def _packets_of(ruleset: Mapping[str, Any], name: str) -> Iterator[int]:
    for entry in ruleset["nftables"]:
        counter = entry.get("counter", {})
        if (counter.get("family"), counter.get("table"), counter.get("name")) == (FAMILY, TABLE, name):
            yield int(counter["packets"])
