"""Examine the machine for all that keeps tunnels from passing. Reads only; changes nothing."""

import asyncio
import shutil
import subprocess
from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import Final

from throughway.core.errors import KernelRefused
from throughway.core.findings import Finding
from throughway.core.marks import Marks
from throughway.dataplane import links
from throughway.dataplane.nft import Nft
from throughway.diagnose import machine, network, offload
from throughway.policy import foreign, refused
from throughway.policy.ruleset import RulesetSettings, transactions

ANY_INSIDE: Final = "inside0"
ANY_OUTSIDE: Final = "outside0"
"""Interface names for judging rules when none were given: rules that name other interfaces do not match them."""

_LEGACY_TIMEOUT_S: Final = 5.0


async def examine(insides: Sequence[str], outside: str | None, marks: Marks | None = None) -> list[Finding]:
    """Run all checks in the network namespace of this process.

    Without interfaces, what depends on them is judged for interfaces that no rule names. Raises
    SettingsRejected for names that no interface can have.
    """
    marks = marks or Marks()
    settings = RulesetSettings(insides=tuple(insides) or (ANY_INSIDE,), outside=outside or ANY_OUTSIDE, marks=marks)
    found = list(machine.findings())
    found += await network.findings(insides, outside)
    there = await links.names()
    given = [name for name in (*insides, outside) if name in there]
    found += await offload.findings([name for name in given if name])
    address = (await links.look_up(outside)).address if outside and outside in there else None
    found += await asyncio.to_thread(_firewalls, settings, address)
    return found


def _firewalls(settings: RulesetSettings, address: IPv4Address | None) -> list[Finding]:
    """Judge our own rules by the kernel, and everybody else's by the rules of policy.foreign."""
    try:
        with Nft() as nft:
            refusal = None
            try:
                for transaction in transactions(settings):
                    nft.check(transaction)
            except KernelRefused as error:
                refusal = error
            found = [machine.judge_transaction(refusal)]
            rules = nft.list_ruleset()
            found += foreign.findings_for(
                rules, settings.marks, settings.insides, settings.outside, outside_address=address
            )
            found += refused.findings_for(rules)
    except KernelRefused as error:
        # A library that is missing, or rules that may not be read: the finding is the refusal itself.
        found = [machine.judge_transaction(error)]
    names = network.legacy_table_names()
    if names:
        legacy = foreign.legacy_finding(names, settings.marks, _legacy_listing())
        found += [legacy] if legacy else []
    return found


def _legacy_listing() -> str | None:
    """Read the FORWARD chain of iptables-legacy by its own tool, the only thing that knows it; None without it."""
    tool = shutil.which("iptables-legacy")
    if tool is None:
        return None
    try:
        answer = subprocess.run(
            [tool, "--wait", "2", "--list-rules", "FORWARD"],
            capture_output=True,
            text=True,
            timeout=_LEGACY_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout
