"""Our own mappings in the kernel, swept by the daemon with shortened limits: forgotten at their limit, not before."""

import time

import pytest

from tests.kernel.bpf_plane.net import ip_packet
from tests.kernel.daemon.net import ALICE, PEER, Ends, wait_for
from tests.kernel.daemon.process import Daemon

ESP, GRE, L2TPV3, IPIP = 50, 47, 115, 4
IDLE_S = 1.0
LOOKED_FOR_S = 0.05
SLACK_S = 0.5
"""The kernel notes the time of a packet by its tick, and two busy cores have other things to do."""


@pytest.mark.parametrize(
    ("protocol", "limit", "body"),
    [
        (ESP, "esp_idle_s", bytes.fromhex("00001001 00000001") + bytes(32)),
        (GRE, "gre_idle_s", bytes.fromhex("2000 0800 0000002a") + bytes(32)),
        (L2TPV3, "l2tpv3_idle_s", bytes.fromhex("00001001") + bytes(32)),
        (IPIP, "portless_idle_s", bytes(40)),
    ],
    ids=["ESP", "GRE", "L2TPv3", "other"],
)
def test_a_mapping_is_forgotten_at_its_limit_and_not_before(
    daemon: Daemon, ends: Ends, protocol: int, limit: str, body: bytes
) -> None:
    """All other limits are as they are, and far away."""
    daemon.limits = {limit: IDLE_S, "sweep_every_s": LOOKED_FOR_S, "counters_every_s": LOOKED_FOR_S}
    daemon.up()
    ends.alice.send(ip_packet(ALICE, PEER, protocol, body))
    wait_for("a mapping", lambda: daemon.status().mappings > 0)
    began = time.monotonic()
    ends.alice.send(ip_packet(ALICE, PEER, protocol, body))
    wait_for("it is forgotten", lambda: daemon.status().mappings == 0)
    assert IDLE_S - SLACK_S / 10 < time.monotonic() - began < IDLE_S + 2 * LOOKED_FOR_S + SLACK_S
