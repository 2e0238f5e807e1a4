"""A lab leaves nothing behind: not when it ends, not when it is told to, and after a crash not for long."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from throughway.lab import leftovers
from throughway.lab.gateway import PINS, GatewayKind
from throughway.lab.namespace import named, processes_in
from throughway.lab.testbed import ROOT, Testbed
from throughway.lab.waiting import holds_within

LIVING = """
import sys
from throughway.lab.signals import ended_by_signals
from throughway.lab.testbed import Testbed
from throughway.lab.waiting import holds_within
with ended_by_signals(), Testbed() as bed:
    device, _ = bed.topology.device("device")
    device.start("ping", "127.0.0.1")
    bed.capture()
    print(bed.prefix, flush=True)
    holds_within(lambda: False, 100)
"""


def remains(prefix: str) -> list[object]:
    return [*named(f"{prefix}-"), *ROOT.glob(prefix), *Path("/run/throughway").glob(f"{prefix}.*")]


def living() -> tuple[subprocess.Popen[str], str]:
    """Start a lab in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", LIVING], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_a_lab_that_ends_leaves_nothing() -> None:
    with Testbed() as bed:
        device, _ = bed.topology.device("device")
        task = device.start("ping", "127.0.0.1")
        bed.capture()
        pids = processes_in(named(f"{bed.prefix}-"))
        assert task.pid in pids
        assert len(pids) == 3
    assert remains(bed.prefix) == []
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_an_error_keeps_the_folder_and_names_it_and_nothing_else() -> None:
    bed = Testbed()
    with pytest.raises(RuntimeError) as raised, bed:
        bed.capture()
        raise RuntimeError("a fault of the test")
    assert raised.value.__notes__ == [f"captures and logs are in {bed.folder}"]
    assert remains(bed.prefix) == [bed.folder]
    assert (bed.folder / "inside.pcap").exists()
    assert not (bed.folder / "owner").exists()
    leftovers.end(bed.prefix)
    assert remains(bed.prefix) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_lab_with_everything_cleaned_up(number: signal.Signals) -> None:
    process, prefix = living()
    with process:
        assert named(f"{prefix}-")
        process.send_signal(number)
        process.wait(20)
    assert remains(prefix) == []


def test_what_a_crashed_lab_left_is_cleaned_and_a_running_one_is_left_alone(bed: Testbed) -> None:
    process, prefix = living()
    with process:
        process.kill()
    pids = processes_in(named(f"{prefix}-"))
    assert len(pids) == 3
    cleaned = leftovers.down()
    assert prefix in cleaned.ended
    assert bed.prefix in cleaned.running
    assert remains(prefix) == []
    assert holds_within(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 5)
    assert named(f"{bed.prefix}-") != []


def test_a_gateway_ends_with_its_lab_pins_and_socket_included() -> None:
    with Testbed() as bed:
        bed.start_gateway(GatewayKind.THROUGHWAY)
        inode = bed.router.inode
        assert list(PINS.glob(f"{inode}-*")) != []
        assert Path(f"/run/throughway/{bed.prefix}.sock").exists()
    assert remains(bed.prefix) == []
    assert list(PINS.glob(f"{inode}-*")) == []
