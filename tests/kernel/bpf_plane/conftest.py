"""Fixtures: the network, its ends, a BPF file system of one's own, and a data plane with somebody who decides."""

import contextlib
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.bpf_plane.net import ALICE, OUTSIDE, PEER, End, Network, inside, network, wait_for
from throughway.core.flows import FlowKey
from throughway.core.limits import Limits
from throughway.core.ports import IkeObserved, Interface, Punted, Report
from throughway.core.reasons import Reason
from throughway.dataplane.adopt import OBJECT
from throughway.dataplane.attach import AttachMode
from throughway.dataplane.bpf import BpfDataPlane, BpfSettings
from throughway.dataplane.pins import mount_bpffs


class Gateway:
    """A data plane in the router's namespace, and what it told."""

    def __init__(self, net: Network, bpffs: Path) -> None:
        self.net = net
        self.bpffs = bpffs
        self.told: list[Report] = []
        self.decide: Callable[[Punted], None] = lambda punted: None
        self._plane: BpfDataPlane | None = None
        self._wake = 0.0

    @property
    def plane(self) -> BpfDataPlane:
        assert self._plane is not None, "up() comes first"
        return self._plane

    @property
    def is_up(self) -> bool:
        return self._plane is not None

    def up(
        self,
        attach: AttachMode = "auto",
        outside: Interface | None = None,
        insides: tuple[Interface, ...] | None = None,
        limits: Limits | None = None,
        program: Path = OBJECT,
    ) -> BpfDataPlane:
        """Open and attach. The address is set unless an earlier run's tables know it."""
        where = outside or self.net.outside
        settings = BpfSettings(
            outside=where, attach=attach, bpffs=self.bpffs, limits=limits or Limits(), program=program
        )
        with inside(self.net.router):
            self._plane = BpfDataPlane.open(settings)
            self._plane.attach(where, insides or self.net.insides)
        return self._plane

    def step(self) -> None:
        """Do what the daemon's loop does, once."""
        plane = self.plane
        ready, _, _ = select.select(plane.filenos(), [], [], 0)
        if ready or time.monotonic() >= self._wake:
            for each in plane.read():
                self.told.append(each)
                if isinstance(each, Punted):
                    self.decide(each)
        now = time.monotonic()
        if ready or now >= self._wake:
            wake = plane.pump(now)
            assert wake is not None
            self._wake = wake

    def until(self, what: str, condition: Callable[[], bool]) -> None:
        """Run the loop until the condition holds."""
        wait_for(what, condition, self.step)

    def punted(self) -> list[FlowKey]:
        return [each.key for each in self.told if isinstance(each, Punted)]

    def count(self, reason: Reason) -> int:
        return self.plane.reasons()[reason]

    def give(self, key: FlowKey, *hosts: object) -> None:
        """Decide a flow as the daemon does."""
        self.plane.install(key, hosts)  # type: ignore[arg-type]
        self.plane.reinject(key)

    def give_all(self, to_inside: tuple[object, ...] = (ALICE,)) -> None:
        """Decide whatever comes: what is from a host is its own, what comes in is for these hosts."""

        def decide(punted: Punted) -> None:
            self.give(punted.key, *(to_inside if punted.key.direction == 0 else (punted.key.host,)))

        self.decide = decide

    def make_peer_known(self, ends: "Ends") -> None:
        """Have a host speak to the peer, without which nothing from the peer is worth a question."""
        ends.alice.send_ike(ALICE, PEER)
        self.until("IKE observed", lambda: any(isinstance(each, IkeObserved) for each in self.told))

    def close(self, keep: bool = False) -> None:
        if self._plane is not None:
            with inside(self.net.router):
                self._plane.close(keep)
            self._plane = None


class Ends:
    """The raw sockets at the ends."""

    def __init__(self, net: Network) -> None:
        self.alice = End(net.alice)
        self.bob = End(net.bob)
        self.peer = End(net.peer)
        self.router = End(net.router)

    def close(self) -> None:
        for each in (self.alice, self.bob, self.peer, self.router):
            each.close()


@pytest.fixture
def net() -> Iterator[Network]:
    with network() as built:
        yield built


@pytest.fixture
def ends(net: Network) -> Iterator[Ends]:
    made = Ends(net)
    with contextlib.closing(made):
        yield made


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[Path]:
    """A BPF file system that goes with the test, and everything pinned in it."""
    path = tmp_path / "bpf"
    mount_bpffs(path)
    yield path
    subprocess.run(["umount", path], check=True, timeout=30)


@pytest.fixture
def gateway(net: Network, bpffs: Path) -> Iterator[Gateway]:
    made = Gateway(net, bpffs)
    yield made
    made.close()


@pytest.fixture
def up(gateway: Gateway) -> Gateway:
    """A gateway that is attached and has its address."""
    gateway.up()
    gateway.plane.set_outside_addresses([OUTSIDE])
    return gateway
