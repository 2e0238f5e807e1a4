"""A guest is booted again when its crypto fails, and that is counted apart."""

from ipaddress import IPv4Address

import pytest

from throughway.lab.boot import boot
from throughway.lab.errors import LabFailed
from throughway.lab.place import must, run
from throughway.lab.testbed import Testbed
from throughway.lab.uml import BOOTS_MAX
from throughway.lab.waiting import holds_within

pytestmark = pytest.mark.guest

SERVER = IPv4Address("203.0.113.20")
FAILS_ONCE = "[ -e /run/guest/seen ] || { touch /run/guest/seen; echo no sha1 in this boot; exit 1; }"


def test_a_guest_whose_crypto_fails_is_booted_again_and_named(bed: Testbed) -> None:
    guest = bed.guest("server", [bed.topology.peer_tap(SERVER)], check=FAILS_ONCE)
    bed.boot()
    assert guest.is_booted
    assert bed.reboots() == ["server: crypto: no sha1 in this boot"]
    assert must(guest, "hostname").strip() == "server"


@pytest.mark.full
def test_a_guest_that_fails_every_boot_is_given_up_with_its_cause(bed: Testbed) -> None:
    guest = bed.guest("server", [bed.topology.peer_tap(SERVER)], check="echo no sha1 ever; exit 1")
    with pytest.raises(LabFailed, match=f"server failed {BOOTS_MAX} boots: crypto: no sha1 ever"):
        boot([guest])
    assert len(guest.reboots) == BOOTS_MAX - 1


def test_devices_in_one_guest_have_addresses_of_their_own(bed: Testbed) -> None:
    taps = [bed.topology.device_tap(), bed.topology.device_tap()]
    guest = bed.guest("clients", taps, apart=True)
    bed.boot()
    for place, tap in zip(guest.places(), taps, strict=True):
        assert str(tap.address) in must(place, "ip", "-4", "address", "show")
        assert run(place, "ping", "-c", "1", "-W", "2", "10.77.0.1").status == 0


def test_a_guest_ends_with_the_input_of_its_console(bed: Testbed) -> None:
    guest = bed.guest("server", [bed.topology.peer_tap(SERVER)])
    bed.boot()
    task = guest.start("ping", "-i", "0.1", "127.0.0.1")
    assert holds_within(lambda: "icmp_seq=2" in task.output(), 10)
    task.interrupt()
    assert holds_within(lambda: task.status() == 0, 10)
    guest.stop()
    assert not guest.is_running
    with pytest.raises(LabFailed, match="guest server does not run"):
        guest.start("true")
