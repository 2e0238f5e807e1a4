"""Where the programs are: put there, replaced, taken away, and nothing of others touched."""

import contextlib
import os
from collections.abc import Iterator

import pytest

from tests.kernel.bpf_plane.conftest import Ends, Gateway
from tests.kernel.bpf_plane.net import ALICE, OUTSIDE, PEER, esp_packet, inside, run, wait_for
from tests.kernel.bpf_plane.watch import SPI, TO_INSIDE, TO_PEER, both_ways, filters, pins, tcx_programs
from throughway.core.errors import KernelRefused
from throughway.core.ports import Interface
from throughway.dataplane.attach import AttachMode
from throughway.dataplane.clsact import ClsactHooks
from throughway.dataplane.libbpf import TCX_INGRESS, link_create
from throughway.dataplane.pins import GatewayFolder


def test_close_leaves_nothing(gateway: Gateway, ends: Ends, mode: AttachMode) -> None:
    """No link, filter, qdisc of ours, pin or folder; and the traffic is the kernel's again."""
    before = filters(gateway.net)
    gateway.up(attach=mode)
    gateway.plane.set_outside_addresses([OUTSIDE])
    gateway.give_all()
    both_ways(gateway, ends, range(1, 4))
    if mode == "tcx":
        assert tcx_programs(gateway.net) == 6
    else:
        assert filters(gateway.net).count("direct-action") == 6
    gateway.close(keep=False)
    assert pins(gateway.bpffs) == []
    assert filters(gateway.net) == before
    assert tcx_programs(gateway.net) == 0


@contextlib.contextmanager
def traffic(ends: Ends) -> Iterator[None]:
    """Have packets cross the gateway both ways all the while, from number 4 on."""
    stop_r, stop_w = os.pipe()
    child = os.fork()
    if child == 0:
        # Only system calls from here on: a sender beside the one thread that does the replacing.
        _send_until_closed(ends, stop_r, stop_w)
    os.close(stop_r)
    try:
        wait_for("traffic", lambda: len(ends.peer.sequences(SPI)) > 20)
        yield
    finally:
        os.close(stop_w)
        os.waitpid(child, 0)


def opened_and_left(gateway: Gateway, ends: Ends, attach: AttachMode) -> None:
    """Have an earlier run with a tunnel that is known."""
    gateway.up(attach=attach)
    gateway.plane.set_outside_addresses([OUTSIDE])
    gateway.give_all()
    both_ways(gateway, ends, range(1, 4))
    gateway.until("open", lambda: gateway.plane.pending_count() == 0)
    gateway.close(keep=True)


def test_programs_are_replaced_without_a_gap(gateway: Gateway, ends: Ends, mode: AttachMode) -> None:
    """Packets that cross the gateway while new processes take over all arrive, translated and in order."""
    opened_and_left(gateway, ends, mode)
    with traffic(ends):
        for _ in range(5):
            gateway.up(attach=mode)
            assert gateway.plane.attach_mode == mode
            gateway.close(keep=True)
    gateway.up(attach=mode)
    seen_out, seen_in = ends.peer.sequences(SPI), ends.alice.sequences(SPI)
    assert seen_out == list(range(1, len(seen_out) + 1))
    assert seen_in == list(range(1, len(seen_in) + 1))
    assert {each.source for each in ends.peer.received} == {OUTSIDE}
    packets = {flow.count.key: flow.count.packets for flow in gateway.plane.flows()}
    assert packets == {TO_PEER: len(seen_out), TO_INSIDE: len(seen_in)}


@pytest.mark.parametrize(("first", "then"), [("tcx", "clsact"), ("clsact", "tcx")])
def test_a_change_of_the_way_of_attaching_lets_no_inside_address_out(
    gateway: Gateway, ends: Ends, first: AttachMode, then: AttachMode
) -> None:
    """The kernel may lose packets while it adds or removes the qdisc, but what arrives is translated and in order."""
    opened_and_left(gateway, ends, first)
    with traffic(ends):
        gateway.up(attach=then)
    assert gateway.plane.attach_mode == then
    seen_out = ends.peer.sequences(SPI)
    assert seen_out == sorted(seen_out)
    assert {each.source for each in ends.peer.received} == {OUTSIDE}
    assert tcx_programs(gateway.net) == (6 if then == "tcx" else 0)
    assert filters(gateway.net).count("direct-action") == (0 if then == "tcx" else 6)
    ends.alice.send_esp(ALICE, PEER, SPI, range(1 << 20, (1 << 20) + 1))
    gateway.until("still open", lambda: ends.peer.sequences(SPI)[-1] == 1 << 20)


def _send_until_closed(ends: Ends, stop_r: int, stop_w: int) -> None:
    os.close(stop_w)
    os.set_blocking(stop_r, False)
    sequence = 4
    while True:
        with contextlib.suppress(BlockingIOError):
            if os.read(stop_r, 1) == b"":
                os._exit(0)
        ends.alice.send(esp_packet(ALICE, PEER, SPI, sequence))
        ends.peer.send(esp_packet(PEER, OUTSIDE, SPI, sequence))
        sequence += 1


def test_others_filters_stay(gateway: Gateway, ends: Ends) -> None:
    """A filter and a qdisc of somebody else survive us."""
    net = gateway.net
    run("tc", "-n", net.router, "qdisc", "add", "dev", "out0", "clsact")
    run(*f"tc -n {net.router} filter add dev out0 ingress prio 100 protocol ip u32 match u32 0 0".split())
    gateway.up(attach="clsact")
    gateway.plane.set_outside_addresses([OUTSIDE])
    gateway.give_all()
    both_ways(gateway, ends, range(1, 4))
    gateway.close(keep=False)
    said = filters(net)
    assert "u32" in said
    assert said.count("clsact") == 1
    assert "direct-action" not in said


def test_a_qdisc_of_ours_in_which_others_have_filters_stays(gateway: Gateway) -> None:
    """We made it, but it is not ours alone any more."""
    net = gateway.net
    gateway.up(attach="clsact")
    run(*f"tc -n {net.router} filter add dev out0 egress prio 100 protocol ip u32 match u32 0 0".split())
    gateway.close(keep=False)
    said = filters(net)
    assert "u32" in said
    assert said.count("clsact") == 1


def test_a_filter_of_somebody_else_under_our_handle_is_left_alone(gateway: Gateway) -> None:
    """We say whose place it is, and take nothing."""
    net = gateway.net
    with inside(net.router):
        folder = GatewayFolder.open(gateway.bpffs, "out0")
    handle = ClsactHooks(folder)._handle
    folder.close()
    run("tc", "-n", net.router, "qdisc", "add", "dev", "in0", "clsact")
    where = ["dev", "in0", "ingress", "prio", "7", "handle", hex(handle), "protocol", "all"]
    run("tc", "-n", net.router, "filter", "add", *where, "bpf", "bytecode", "1,6 0 0 0")
    with pytest.raises(KernelRefused, match="belongs to"):
        gateway.up(attach="clsact")
    gateway.close(keep=False)
    assert "bytecode" in filters(net)


def test_an_interface_that_was_made_anew_is_attached_anew(gateway: Gateway, ends: Ends, mode: AttachMode) -> None:
    """The outside interface goes and comes back under another index; the mappings stay."""
    net = gateway.net
    gateway.up(attach=mode)
    gateway.plane.set_outside_addresses([OUTSIDE])
    gateway.give_all()
    both_ways(gateway, ends, range(1, 4))
    old = net.outside
    run("ip", "-n", net.router, "link", "delete", "out0")
    run("ip", "-n", net.router, "link", "add", "out0", "type", "veth", "peer", "name", "eth0", "netns", net.peer)
    run("ip", "-n", net.peer, "address", "add", f"{PEER}/24", "dev", "eth0")
    run("ip", "-n", net.peer, "link", "set", "eth0", "up")
    run("ip", "-n", net.router, "address", "add", f"{OUTSIDE}/24", "dev", "out0")
    run("ip", "-n", net.router, "link", "set", "out0", "up")
    new = net.outside
    assert new.index != old.index
    with inside(net.router):
        gateway.plane.attach(new, net.insides)
    both_ways(gateway, ends, range(4, 9))
    assert not any(f"-{old.index}" in each.partition("/")[2] for each in pins(gateway.bpffs) if "link-" in each)


def test_an_inside_interface_that_is_no_longer_wanted_is_left(gateway: Gateway, mode: AttachMode) -> None:
    """Its programs go, the others stay."""
    gateway.up(attach=mode)
    first, second = gateway.net.insides
    with inside(gateway.net.router):
        gateway.plane.attach(gateway.net.outside, [first])
    if mode == "tcx":
        assert tcx_programs(gateway.net) == 4
        assert not any(each.endswith(f"-{second.index}") for each in pins(gateway.bpffs))
    else:
        assert filters(gateway.net).count("direct-action") == 4


def test_an_absent_interface_is_refused_and_close_leaves_nothing(gateway: Gateway, mode: AttachMode) -> None:
    """What was attached by then is taken away by the end."""
    absent = Interface("in7", 9999, 14)
    with pytest.raises(KernelRefused):
        gateway.up(attach=mode, insides=(*gateway.net.insides, absent))
    gateway.close(keep=False)
    assert pins(gateway.bpffs) == []
    assert tcx_programs(gateway.net) == 0
    assert "direct-action" not in filters(gateway.net)


def test_others_that_look_at_what_comes_in_are_seen(gateway: Gateway, mode: AttachMode) -> None:
    """Our own programs are not others, however they are attached; a filter and a program of somebody else are."""
    plane = gateway.up(mode)
    net = gateway.net
    with inside(net.router):
        assert plane.others_at_ingress() is None
        if mode == "tcx":
            theirs = link_create(plane._object.programs["inside_egress"], net.outside.index, TCX_INGRESS)
            assert plane.others_at_ingress() == "out0"
            os.close(theirs)
            run("tc", "qdisc", "add", "dev", "in1", "clsact")
        run("tc", "filter", "add", "dev", "in1", "ingress", "pref", "9", "bpf", "bytecode", "1,6 0 0 0")
        assert plane.others_at_ingress() == "in1"
        run("tc", "filter", "del", "dev", "in1", "ingress", "pref", "9")
        gateway.until("nobody is there", lambda: plane.others_at_ingress() is None)
