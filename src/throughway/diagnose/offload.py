"""Findings about network cards that carry flows past the kernel, read by ethtool netlink."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from pyroute2.netlink import NLM_F_REQUEST, genlmsg
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic.ethtool import AsyncNlEthtool, ethtoolbitset, ethtoolheader

from throughway.core.findings import Finding, Level

_FEATURES_GET: Final = 11
_VERSION: Final = 1

TC_OFFLOAD: Final = "hw-tc-offload"
STEERING: Final = "rx-ntuple-filter"
"""ethtool calls it ntuple: rules in the card steer packets to queues; harmless by themselves."""


class _Features(genlmsg):  # type: ignore[misc]
    """ETHTOOL_MSG_FEATURES_GET and its answer (linux/ethtool_netlink.h)."""

    nla_map = (
        ("ETHTOOL_A_FEATURES_UNSPEC", "none"),
        ("ETHTOOL_A_FEATURES_HEADER", "ethtoolheader"),
        ("ETHTOOL_A_FEATURES_HW", "ethtoolbitset"),
        ("ETHTOOL_A_FEATURES_WANTED", "ethtoolbitset"),
        ("ETHTOOL_A_FEATURES_ACTIVE", "ethtoolbitset"),
        ("ETHTOOL_A_FEATURES_NOCHANGE", "ethtoolbitset"),
    )
    ethtoolheader = ethtoolheader
    ethtoolbitset = ethtoolbitset


async def findings(interfaces: Sequence[str]) -> list[Finding]:
    """Examine the interfaces that exist. A kernel without ethtool netlink gives no findings."""
    found: list[Finding] = []
    for name in interfaces:
        try:
            found += judge_features(name, await active_features(name))
        except NetlinkError:
            continue
    return found


def judge_features(name: str, active: frozenset[str]) -> Iterator[Finding]:
    """Judge the features that are on, by the kernel's names."""
    if TC_OFFLOAD not in active:
        yield Finding("offload.tc", Level.OK, f"{name} does not carry flows in hardware.")
        return
    more = " and steers flows (ntuple)" if STEERING in active else ""
    yield Finding(
        "offload.tc",
        Level.WARNING,
        f"{name} may carry flows in hardware{more}, where neither nftables nor Throughway sees them.",
        "Turn it off if tunnels look dead although they work.",
        (f"ethtool -K {name} hw-tc-offload off",),
    )


async def active_features(name: str) -> frozenset[str]:
    """Read the names of the features that are on."""
    async with AsyncNlEthtool() as ethtool:
        await ethtool.bind("ethtool", _Features)
        message = _Features()
        message["cmd"] = _FEATURES_GET
        message["version"] = _VERSION
        header = {"attrs": [("ETHTOOL_A_HEADER_DEV_NAME", name)]}
        message["attrs"].append(("ETHTOOL_A_FEATURES_HEADER", header))
        answers = await ethtool.nlm_request(message, msg_type=ethtool.prid, msg_flags=NLM_F_REQUEST)
        return frozenset([bit async for answer in answers for bit in _bits(answer)])


def _bits(answer: Any) -> Iterator[str]:
    """Yield the names of the bits in the set of active features; each bit that is listed is on."""
    active = answer.get_attr("ETHTOOL_A_FEATURES_ACTIVE")
    listed = active.get_attr("ETHTOOL_A_BITSET_BITS") if active else None
    for _, bit in listed["attrs"] if listed else ():
        yield bit.get_attr("ETHTOOL_A_BITSET_BIT_NAME")
