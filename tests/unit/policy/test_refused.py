"""What our own table has refused is explained."""

from typing import Any

from throughway.core.findings import Level
from throughway.policy import refused


def listing(packets: int, table: str = "throughway") -> dict[str, Any]:
    counter = {"family": "inet", "table": table, "name": "ah_refused", "handle": 2, "packets": packets, "bytes": 0}
    return {"nftables": [{"metainfo": {}}, {"counter": counter}]}


def test_refused_ah_is_told_with_the_reason_and_what_to_use_instead() -> None:
    (finding,) = refused.findings_for(listing(3))
    assert (finding.code, finding.level) == (refused.AH, Level.WARNING)
    assert finding.what.startswith("Devices sent 3 packets of AH")
    assert "ESP" in finding.remedy


def test_nothing_is_told_when_nothing_was_refused_or_it_was_not_by_us() -> None:
    assert refused.findings_for(listing(0)) == []
    assert refused.findings_for(listing(3, table="other")) == []
    assert refused.findings_for({"nftables": []}) == []
