"""A network namespace for the packets, a veth pair in it, and a fresh gateway for each test."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from throughway.dataplane.libbpf import BpfObject

from .gateway import CHECKOUT, OBJECT, OUTSIDE, SMALL_MAPS, Gateway

_CLONE_NEWNET = 0x40000000


@pytest.fixture(scope="session")
def built_object() -> None:
    """Build the object from what is in bpf/ now."""
    subprocess.run([CHECKOUT / "script" / "build-bpf"], check=True)


@pytest.fixture(scope="package")
def wan(built_object: None) -> Iterator[int]:
    """Enter a network namespace for these tests, and return the index of `wan0` in it; its other end is `far0`."""
    if os.geteuid() != 0:
        pytest.skip("loading BPF programs needs root")
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open(Path("/proc/self/ns/net"), os.O_RDONLY)
    if libc.unshare(_CLONE_NEWNET):
        pytest.fail(f"no network namespace: {os.strerror(ctypes.get_errno())}")
    try:
        with IPRoute() as route:
            route.link("add", ifname="wan0", kind="veth", peer="far0")
            for name in ("lo", "wan0", "far0"):
                (index,) = route.link_lookup(ifname=name)
                route.link("set", index=index, state="up")
            (wan0,) = route.link_lookup(ifname="wan0")
            route.addr("add", index=wan0, address=OUTSIDE, prefixlen=24)
        yield wan0
    finally:
        if libc.setns(home, _CLONE_NEWNET):
            pytest.exit("the way back to the first network namespace is lost")
        os.close(home)


@pytest.fixture(scope="package")
def loaded(wan: int) -> Iterator[BpfObject]:
    """Load the programs once."""
    with BpfObject.load(OBJECT, sizes=SMALL_MAPS) as programs:
        yield programs


@pytest.fixture
def gateway(loaded: BpfObject, wan: int) -> Iterator[Gateway]:
    """A gateway that knows nothing but its configuration and one peer."""
    fresh = Gateway(loaded, wan)
    yield fresh
    fresh.close()
