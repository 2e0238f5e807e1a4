"""A short run of what `script/fuzz` does by the million: nothing fails, and nothing goes where no verdict sends it."""

from tests.fuzz.bpf import Run, is_same, prepare
from tests.fuzz.oracle import ALICE, BOB, replaced

from .gateway import BOB as BOB_ADDRESS
from .gateway import OUTSIDE, PEER, Gateway, esp, readdressed, to_inside

PACKETS = 20_000


def test_mutated_packets_become_what_they_may(gateway: Gateway) -> None:
    prepare(gateway)
    run = Run(gateway)
    run.play("tests", PACKETS)
    assert run.findings == []
    run.assert_nothing_was_learnt()


def test_packets_that_go_to_another_host_are_found(gateway: Gateway) -> None:
    prepare(gateway)
    gateway.remove(to_inside(0x1000))
    gateway.decide(to_inside(0x1000), BOB_ADDRESS)
    run = Run(gateway)
    run.play("tests", 1000)
    assert {finding.what for finding in run.findings} == {"outside_ingress"}


def test_every_changed_byte_and_a_wrong_checksum_are_found() -> None:
    before = bytes(esp(PEER, OUTSIDE, size=20))
    wanted = replaced(before, (16, ALICE))
    after = readdressed(before, dst="10.77.0.11")
    assert is_same(wanted, after, before, (10,))
    assert not is_same(wanted, wanted, before, (10,)), "the checksum has not followed"
    assert not is_same(wanted, after[:-1], before, (10,))
    assert not is_same(wanted, replaced(after, (16, BOB)), before, (10,))
    for at in range(len(after)):
        assert not is_same(wanted, replaced(after, (at, bytes([after[at] ^ 1]))), before, (10,)), f"byte {at}"
