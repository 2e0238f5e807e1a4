"""The bench itself: all figures are there, and a gateway that answers wrongly has none."""

import dataclasses
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from throughway.bench import beginnings, ends, filling, talks, traffic
from throughway.bench.compare import WrongAnswer
from throughway.bench.routers import FIRST_HOST, Bed, Kind
from throughway.bench.run import QUICK, ROUNDS_MIN, Extent, run
from throughway.catalogue_files import read_catalogue
from throughway.core.flows import Direction
from throughway.detect.engine import Detector
from throughway.lab.namespace import named

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces and BPF"),
    pytest.mark.skipif(not ends.OBJECT.exists(), reason="needs the BPF objects: run script/build-bpf"),
    pytest.mark.timeout(300),
]

WRONG = """
table ip wrong {{
    chain c {{
        type filter hook forward priority 0
        {}
    }}
}}
"""

SMALL = Extent(
    rounds=ROUNDS_MIN,
    frames=500,
    tunnels=(1, 50),
    singles=3,
    newcomers=300,
    flows_per_second=2000,
    flows_s=1.0,
    idle_s=0.1,
)


def ours() -> set[str]:
    """Name the namespaces that only a bench makes."""
    return {name for name in named("tw") if name.endswith("-forwarding")}


def test_a_small_run_has_every_figure_and_leaves_nothing() -> None:
    before = ours()
    steps: list[str] = []
    found = json.loads(json.dumps(run(SMALL, steps.append).to_json()))
    for name in ("ratio_to_masquerade", "ratio_to_forwarding"):
        assert 0 < found[name]["low"] <= found[name]["median"] <= found[name]["high"]
    assert [each["mappings"] for each in found["by_mappings"]] == [2, 100]
    assert found["tables"][1]["kernel_bytes_per_mapping"] >= 0
    assert found["latency_us"]["to_inside"]["first_of_a_tunnel"]["count"] == 3
    assert found["new_tunnels_per_second"] > 0
    assert set(found["by_mappings"][0]["packets_per_second"]) == {"forwarding", "masquerade", "throughway"}
    assert any("round 2 of 2" in step for step in steps)
    begun = found["new_flows"]
    assert begun["flows"] == 2000 and begun["vpn_flows_detected"] == begun["vpn_flows"] == 200
    assert begun["questions_answered"] >= 0.99 and begun["daemon_cpu_share"] > 0
    assert begun["heads"]["copied"] >= 200 and not begun["heads"]["ring-full"] and not begun["heads"]["over-budget"]
    assert ours() <= before


@pytest.fixture(scope="module")
def bed() -> Iterator[Bed]:
    with Bed() as made:
        for router in made.routers.values():
            traffic.open_tunnel(made, router)
        yield made


@pytest.mark.parametrize("way", list(Direction))
def test_a_router_that_changes_one_byte_is_found_out(bed: Bed, way: Direction) -> None:
    router = bed.routers[Kind.FORWARDING]
    traffic.burst(bed, router, way, 1000)
    router.namespace.command("nft", "-f", "-", script=WRONG.format("ip dscp set 1"))
    try:
        with pytest.raises(WrongAnswer, match="byte 15 is wrong"):
            traffic.burst(bed, router, way, 1000)
    finally:
        router.namespace.command("nft", "delete", "table", "ip", "wrong")
    traffic.burst(bed, router, way, 1000)


def test_a_router_that_drops_is_found_out(bed: Bed) -> None:
    router = bed.routers[Kind.MASQUERADE]
    router.namespace.command("nft", "-f", "-", script=WRONG.format("@th,32,32 & 7 == 0 drop"))
    try:
        with pytest.raises(WrongAnswer, match="of 1000 frames"):
            traffic.burst(bed, router, Direction.TO_PEER, 1000)
    finally:
        router.namespace.command("nft", "delete", "table", "ip", "wrong")


def test_the_generator_writes_what_python_expects(bed: Bed) -> None:
    """Many tunnels of many pairs, to a router that only forwards: each kept frame is compared byte by byte."""
    router = bed.routers[Kind.FORWARDING]
    plan = router.plan(Direction.TO_PEER, 0x1000, 5000, 256)
    bed.ends.forget_samples()
    sent, numbers = traffic.send(bed, router, Direction.TO_PEER, plan, 5000)
    arriving = router.arriving(plan, Direction.TO_PEER)
    samples = bed.ends.samples()
    assert sent.received == 5000 and len(samples) > 100
    assert all(frame == arriving.frame(int.from_bytes(frame[38:42], "big")) for frame in samples)
    assert len({frame[26:34] for frame in samples}) > 50
    assert numbers.stop == bed.ends.next_sequence


def test_the_table_is_filled_and_every_tunnel_in_it_works(bed: Bed) -> None:
    filled = filling.fill(bed, 300)
    assert (filled.mappings, filled.added) == (600, 598)
    assert bed.mapping_count() == 600
    for way in Direction:
        assert traffic.burst(bed, bed.routers[Kind.THROUGHWAY], way, 2000, tunnels=300).received == 2000


def test_a_vpn_that_is_not_recognised_is_found_out(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bench counts: a flow that it takes for a VPN's, and that is none, ends it."""
    wrong = (*talks.VPNS[:-1], dataclasses.replace(talks.OTHERS[2], protocol="wireguard"))
    monkeypatch.setattr(beginnings, "VPNS", wrong)
    monkeypatch.setattr(beginnings, "_SETTLES_WITHIN_S", 0.5)
    with pytest.raises(WrongAnswer, match="were recognised"):
        beginnings.begin(bed, 1200, 0.2)


@pytest.mark.parametrize("kind", range(len(talks.VPNS) + len(talks.OTHERS)))
def test_what_flows_say_is_what_detection_makes_of_it(kind: int) -> None:
    """Without a router: the engine names each kind as the bench expects."""
    said = talks.pack_talks((*talks.VPNS, *talks.OTHERS))
    detector = Detector(read_catalogue(None))
    for step in range(2):
        entry = said[struct.pack("=I", 2 * kind + step)]
        for at in (0, len(entry) // 2):
            size = struct.unpack_from("=H", entry, at)[0]
            packet = entry[at + 8 : at + 8 + size]
            swapped = packet[:12] + FIRST_HOST.packed + packet[16:]
            back = packet[:16] + FIRST_HOST.packed + packet[20:]
            detector.on_packet(1.0, back if at else swapped)
    (flow,) = detector.flows()
    assert (flow.answer.protocol if flow.answer else None) == (*talks.VPNS, *talks.OTHERS)[kind].protocol


@pytest.mark.full
def test_the_command_prints_one_document_and_ends_well() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "throughway", "bench", "--quick", "--json"],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["rounds"] == QUICK.rounds
    assert "round 3 of 3" in done.stderr
