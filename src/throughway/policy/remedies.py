"""The exact command that lets what passthrough carries through somebody else's firewall.

We never run these ourselves: the tables are not ours. Each command works at once as it stands; the
remedy says how it is kept, since most firewalls load their rules anew from files.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from throughway.core.marks import Marks
from throughway.policy.ruleset import MARK_PRIORITY
from throughway.policy.tables import Chain, Table
from throughway.policy.timers import CARRIED_UDP_PORTS, PPTP_PORT


@dataclass(frozen=True, slots=True)
class Remedy:
    """Sentences for people, and shell lines to run as they stand."""

    text: str
    commands: tuple[str, ...]


def let_carried_through(
    table: Table, chain: Chain, marks: Marks, insides: Sequence[str], outside: str, *, is_legacy: bool = False
) -> Remedy:
    """Word the one rule for the firewall that keeps this chain."""
    bit = f"{marks.carried:#x}"
    match_mark = f"-m mark --mark {bit}/{bit} -j ACCEPT"
    if is_legacy:
        return Remedy(
            "Add this rule, and keep it where your iptables rules are kept (often iptables-legacy-save).",
            (f"iptables-legacy -I FORWARD 1 {match_mark}",),
        )
    if _is_iptables(table, chain):
        return _for_iptables(table, match_mark)
    if table.name == "firewalld":
        return _for_firewalld(bit, insides, outside)
    rule = f"nft insert rule {table.family} {table.name} {chain.name}"
    by_mark = f"{rule} meta mark and {bit} == {bit} accept"
    if chain.priority > MARK_PRIORITY:
        return Remedy(
            "Add this one rule at the top of the chain, and write it into the file that the table is loaded "
            "from (often /etc/nftables.conf), so that it stays.",
            (by_mark,),
        )
    return _for_early_chain(chain, rule, by_mark, insides, outside)


def _is_iptables(table: Table, chain: Chain) -> bool:
    """Tell whether iptables keeps the chain; its base chains have names in capitals that nft users do not give."""
    return table.family == "ip" and table.name == "filter" and chain.name == "FORWARD"


def _for_iptables(table: Table, match_mark: str) -> Remedy:
    """Word the rule for Docker, ufw, or iptables alone: Docker's chain for users comes before all others."""
    if "DOCKER-USER" in table.chains:
        return Remedy(
            "Docker keeps the chain DOCKER-USER for rules of yours. Add this one, and have it added at boot "
            "after Docker starts.",
            (f"iptables -I DOCKER-USER 1 {match_mark}",),
        )
    if "ufw-before-forward" in table.chains:
        line = f"-A ufw-before-forward {match_mark}"
        return Remedy(
            "This writes the rule into ufw's file, where it stays, and loads it.",
            (f"sed -i '/^# End required lines/a {line}' /etc/ufw/before.rules && ufw reload",),
        )
    return Remedy(
        "Add this one rule, and keep it where your iptables rules are kept (with iptables-persistent: "
        "netfilter-persistent save).",
        (f"iptables -I FORWARD 1 {match_mark}",),
    )


def _for_firewalld(bit: str, insides: Sequence[str], outside: str) -> Remedy:
    """Word a policy. firewalld has no match on marks, and what its direct rules accept it drops again.

    It accepts answers and what goes from inside to outside by itself; ESP from outside is what it
    does not know. Our own table lets in no ESP but what a host is known to own.
    """
    policy = "firewall-cmd --permanent --policy throughway"
    ingress = f'"$(firewall-cmd --get-zone-of-interface={outside})"'
    zones = " ".join(f'--add-egress-zone "$(firewall-cmd --get-zone-of-interface={inside})"' for inside in insides)
    lasting = " && ".join(
        (
            "firewall-cmd --permanent --new-policy throughway",
            f"{policy} --add-ingress-zone {ingress} {zones}",
            f'{policy} --add-rich-rule \'rule family="ipv4" protocol value="esp" accept\'',
            "firewall-cmd --reload",
        )
    )
    return Remedy(
        "The first command works at once, until firewalld is reloaded; the second makes a policy that stays.",
        (f"nft insert rule inet firewalld filter_FORWARD meta mark and {bit} == {bit} accept", lasting),
    )


def _for_early_chain(chain: Chain, rule: str, by_mark: str, insides: Sequence[str], outside: str) -> Remedy:
    """Word the rules for a chain that runs before our mark is set on what the kernel tracks."""
    inside = "{ " + ", ".join(insides) + " }"
    ports = ", ".join(str(port) for port in CARRIED_UDP_PORTS)
    way = f"iifname {inside} oifname {outside}"
    return Remedy(
        f"The chain runs at priority {chain.priority}, before Throughway marks packets at {MARK_PRIORITY}. Give it a "
        f"priority above {MARK_PRIORITY} and add the first rule alone; or add all of these.",
        (
            by_mark,
            f"{rule} ct state established,related accept",
            f"{rule} '{way} udp dport {{ {ports} }} accept'",
            f"{rule} '{way} tcp dport {PPTP_PORT} accept'",
        ),
    )
