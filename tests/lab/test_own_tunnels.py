"""What a kernel with all of IPsec says of its associations: a guest's, since this machine's kernel may lack ESP."""

import sys
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from throughway.lab.peers import strongswan
from throughway.lab.place import must
from throughway.lab.testbed import Testbed
from throughway.lab.waiting import wait_until

pytestmark = pytest.mark.guest

SERVER = IPv4Address("203.0.113.20")
SOURCE = Path(__file__).parents[2] / "src"
WATCH = """
import asyncio
from throughway.dataplane import xfrm
async def main():
    print("read", len(xfrm.read()), flush=True)
    async for found in xfrm.watch():
        print("has", *sorted(f"{one.source}>{one.destination}:{one.spi:#x}" for one in found), flush=True)
asyncio.run(main())
"""
KEYS = "enc cbc(aes) 0x00112233445566778899aabbccddeeff auth hmac(sha1) 0x000102030405060708090a0b0c0d0e0f10111213"


def test_finished_associations_are_told_as_they_come_and_go(bed: Testbed) -> None:
    guest = bed.guest(
        "router",
        [bed.topology.peer_tap(SERVER)],
        modules=strongswan.MODULES,
        check=strongswan.CHECK,
        memory_mib=160,
    )
    bed.boot()
    peer = "198.51.100.7"
    inward, outward = f"src {peer} dst {SERVER}", f"src {SERVER} dst {peer}"

    def add(way: str, spi: int, *more: str) -> None:
        state = f"ip xfrm state add {way} proto esp spi {spi:#x} mode tunnel {KEYS}"
        must(guest, *state.split(), *more)

    add(inward, 0x1001)
    watch = guest.start(sys.executable, "-c", WATCH, environment={"PYTHONPATH": str(SOURCE)})

    def tells(*wanted: str) -> None:
        line = " ".join(("has", *wanted))
        is_said = f"the watch to tell {line} after {watch.output()}"
        wait_until(lambda: watch.output().splitlines()[-1:] == [line], 20.0, is_said)

    first, second, back = f"{peer}>{SERVER}:0x1001", f"{peer}>{SERVER}:0x1002", f"{SERVER}>{peer}:0x2001"
    tells(first)
    assert "read 1" in watch.output()
    add(outward, 0x2001)
    tells(first, back)
    add(inward, 0x1003, "encap", "espinudp", "4500", "4500", peer)
    add(inward, 0x1002, "limit", "time-hard", "2")
    tells(first, second, back)
    tells(first, back)
    must(guest, "ip", "xfrm", "state", "delete", *inward.split(), "proto", "esp", "spi", "0x1001")
    tells(back)
    must(guest, "ip", "xfrm", "state", "flush")
    tells()
    assert "0x1003" not in watch.output()
    assert watch.status() is None
