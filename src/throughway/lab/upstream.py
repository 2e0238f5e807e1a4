"""What providers do to VPNs: drop some of their packets, forget their flows, translate once more, take smaller ones.

All of it happens in the provider's namespace, between the router and the peers, and is undone by `mend`. What is
dropped is counted, so that a test can say that there was something to drop.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from throughway.lab import addresses
from throughway.lab.addresses import GATEWAY, ROUTER_OUTSIDE, at
from throughway.lab.namespace import Namespace
from throughway.lab.topology import CUSTOMER_INTERFACE, OUTSIDE_INTERFACE, Topology

ESP: Final = "ip protocol esp"
ESP_TO_CUSTOMER: Final = f'iifname != "{CUSTOMER_INTERFACE}" ip protocol esp'
GRE: Final = "ip protocol gre"
NATT: Final = "udp dport 4500"
LATER_FRAGMENTS: Final = "ip frag-off & 0x1fff != 0"
"""A filter that looks at ports finds none in them, and the first one alone is of no use to anybody."""

CARRIER_GRADE: Final = IPv4Network("100.64.0.0/24")
"""What the uplink is where the provider translates (RFC 6598)."""

NORMAL_BYTES: Final = 1500

_UDP_TIMERS: Final = ("net.netfilter.nf_conntrack_udp_timeout", "net.netfilter.nf_conntrack_udp_timeout_stream")
_USUAL_TIMERS_S: Final = (30, 120)
"""The kernel's own (Documentation/networking/nf_conntrack-sysctl.rst)."""

# Before reassembly (-400), so that fragments are seen as such.
_FILTER: Final = """
table ip upstream {{
    counter dropped {{ }}
    chain passing {{
        type filter hook prerouting priority -450; policy accept;
        {passing}
    }}
    chain own {{
        type filter hook output priority raw; policy accept;
        {own}
    }}
}}
"""

# A NAT gives a flow that it has forgotten another port, and answers nobody who asks for the old one.
_TRANSLATION: Final = f"""
table ip translation {{
    chain unknown {{
        type filter hook input priority filter; policy accept;
        iifname != "{CUSTOMER_INTERFACE}" ip protocol != icmp drop
    }}
    chain outgoing {{
        type nat hook postrouting priority srcnat; policy accept;
        iifname "{CUSTOMER_INTERFACE}" masquerade fully-random
    }}
}}
"""

_SWALLOWED: Final = "icmp type destination-unreachable"


def to(server: IPv4Address) -> str:
    """Match all that goes to a server, as if it were not there."""
    return f"ip daddr {server}"


@dataclass
class Upstream:
    """The provider of a lab, and what it does at the moment beside forwarding."""

    topology: Topology
    is_filtering: bool = field(default=False, init=False)
    """Whether packets are dropped at the moment."""
    _is_translating: bool = field(default=False, init=False)

    def drop(self, *matches: str) -> None:
        """Drop what matches any of these, as nft words them; it takes the place of what was dropped before."""
        self._filter(matches, ())

    def narrow(self, size_bytes: int) -> None:
        """Take no larger packets towards the peers, and tell nobody."""
        self._filter((), (_SWALLOWED,))
        self._set_size(size_bytes)

    def translate(self, *, forgets_after_s: int = 0) -> None:
        """Be a second NAT, with ports of its own choice, that forgets UDP flows after so long; 0: after the usual."""
        if not self._is_translating:
            self._provider.command("nft", "-f", "-", script=_TRANSLATION)
            self._is_translating = True
        self._set_timers((forgets_after_s, forgets_after_s) if forgets_after_s else _USUAL_TIMERS_S)

    def hide(self) -> None:
        """Give the router an address that is not public, and translate it. To be done before the gateway starts."""
        was, now = (at(network, ROUTER_OUTSIDE) for network in (addresses.UPLINK, CARRIER_GRADE))
        self._provider.command("ip", "address", "add", str(at(CARRIER_GRADE, GATEWAY)), "dev", CUSTOMER_INTERFACE)
        lines = (
            f"address del {was} dev {OUTSIDE_INTERFACE}",
            f"address add {now} dev {OUTSIDE_INTERFACE}",
            f"route add default via {at(CARRIER_GRADE, GATEWAY).ip}",
        )
        self.topology.router.command("ip", "-batch", "-", script="\n".join(lines) + "\n")
        accept = f'iifname "{CUSTOMER_INTERFACE}" ip saddr {now.ip} accept'
        self._provider.command("nft", "insert", "rule", "ip", "provider", "from_customer", *accept.split())
        self.translate()

    def mend(self) -> None:
        """Forward everything again, and remember flows for as long as usual; an address that was hidden stays so."""
        if self.is_filtering:
            self._provider.command("nft", "delete", "table", "ip", "upstream")
            self.is_filtering = False
        self._set_size(NORMAL_BYTES)
        if self._is_translating:
            self._set_timers(_USUAL_TIMERS_S)

    def dropped(self) -> int:
        """Return how many packets were dropped since `drop` or `narrow`."""
        words = self._provider.command("nft", "list", "counter", "ip", "upstream", "dropped").split()
        return int(words[words.index("packets") + 1])

    def remembers(self, server: IPv4Address) -> bool:
        """Whether the second NAT holds a UDP flow to a server."""
        flows = self._provider.command("cat", "/proc/net/nf_conntrack").splitlines()
        return any(" udp " in flow and f"dst={server} " in flow for flow in flows)

    @property
    def _provider(self) -> Namespace:
        return self.topology.provider

    def _filter(self, passing: Sequence[str], own: Sequence[str]) -> None:
        self.mend()
        rules = [[f'{match} counter name "dropped" drop' for match in matches] for matches in (passing, own)]
        script = _FILTER.format(passing="\n".join(rules[0]), own="\n".join(rules[1]))
        self._provider.command("nft", "-f", "-", script=script)
        self.is_filtering = True

    def _set_size(self, size_bytes: int) -> None:
        for index in range(len(addresses.PEERS)):
            self._provider.command("ip", "link", "set", f"br{index}", "mtu", str(size_bytes))

    def _set_timers(self, seconds: tuple[int, int]) -> None:
        self._provider.command(
            "sysctl", "-qw", *(f"{name}={value}" for name, value in zip(_UDP_TIMERS, seconds, strict=True))
        )
