r"""The networks of a lab.

       inside: 10.77.0.0/24                                  uplink: 192.0.2.0/24
       2001:db8:77::/64                                      2001:db8::/64

     device .11 ──┐                                                               ┌── 198.51.100.0/24  br0
     device .12 ──┤                   ┌────────┐              ┌──────────┐        │   2001:db8:51::/64
          ...     ├── lan: br0 ───────┤ router ├──────────────┤ provider ├────────┤
     guest  .13 ──┘   (a switch)  lan0└────────┘wan0     cust0└──────────┘        └── 203.0.113.0/24   br1
          (tap)                     .1          .2            .1                      2001:db8:113::/64
                                                                                   peers: namespaces, guests

Each box is a network namespace; so is each device and each peer that is not a guest. Nothing can leave them: no
interface leads to the namespace of the machine. The provider knows no way to the inside network, and drops and counts
what comes from the router with a private source, so that a leak shows. IPv6 is routed: the provider knows the way to
2001:db8:77::/64.
"""

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from pathlib import Path

from throughway.lab import addresses
from throughway.lab.addresses import GATEWAY, ROUTER_OUTSIDE, at, at_6
from throughway.lab.namespace import Namespace, command, delete, end_processes, named

INSIDE_INTERFACE = "lan0"
OUTSIDE_INTERFACE = "wan0"
CUSTOMER_INTERFACE = "cust0"

PROVIDER_FILTER = f"""
table ip provider {{
    counter leaked {{ }}
    chain from_customer {{
        type filter hook prerouting priority raw; policy accept;
        iifname "{CUSTOMER_INTERFACE}" ip saddr {{ {", ".join(addresses.PRIVATE)} }} counter name "leaked" drop
    }}
}}
"""


@dataclass(frozen=True)
class Tap:
    """The lab's end of a guest's interface: where it is, and the address that the guest has on it."""

    namespace: Namespace
    name: str
    address: IPv4Interface
    gateway: IPv4Address


@dataclass
class Topology:
    """The namespaces of one lab, all of whose names begin with its prefix."""

    prefix: str
    logs: Path
    devices: int = field(default=0, init=False)
    taps: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.lan = self._namespace("lan")
        self.router = self._namespace("router")
        self.provider = self._namespace("provider")
        self.stations: list[Namespace] = []

    @property
    def router_outside(self) -> IPv4Address:
        """The one public address that all devices share."""
        return at(addresses.UPLINK, ROUTER_OUTSIDE).ip

    def up(self) -> None:
        """Make the namespaces of the inside network, the router and the provider, and the links between them."""
        for namespace in (self.lan, self.router, self.provider):
            self._make(namespace)
        _link(self.lan, "router", self.router, INSIDE_INTERFACE)
        _link(self.provider, CUSTOMER_INTERFACE, self.router, OUTSIDE_INTERFACE)
        _ip(self.lan, *_switch("br0"), "link set router master br0")
        _ip(
            self.router,
            f"address add {at(addresses.INSIDE, GATEWAY)} dev {INSIDE_INTERFACE}",
            f"address add {at_6(addresses.INSIDE_6, GATEWAY)} dev {INSIDE_INTERFACE}",
            f"address add {at(addresses.UPLINK, ROUTER_OUTSIDE)} dev {OUTSIDE_INTERFACE}",
            f"address add {at_6(addresses.UPLINK_6, ROUTER_OUTSIDE)} dev {OUTSIDE_INTERFACE}",
            f"route add default via {at(addresses.UPLINK, GATEWAY).ip}",
            f"route add default via {at_6(addresses.UPLINK_6, GATEWAY).ip}",
        )
        _ip(
            self.provider,
            f"address add {at(addresses.UPLINK, GATEWAY)} dev {CUSTOMER_INTERFACE}",
            f"address add {at_6(addresses.UPLINK_6, GATEWAY)} dev {CUSTOMER_INTERFACE}",
            f"route add {addresses.INSIDE_6} via {at_6(addresses.UPLINK_6, ROUTER_OUTSIDE).ip}",
        )
        for index, (network, network_6) in enumerate(zip(addresses.PEERS, addresses.PEERS_6, strict=True)):
            _ip(
                self.provider,
                *_switch(f"br{index}"),
                f"address add {at(network, GATEWAY)} dev br{index}",
                f"address add {at_6(network_6, GATEWAY)} dev br{index}",
            )
        for namespace in (self.router, self.provider):
            namespace.command("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self.provider.command("nft", "-f", "-", script=PROVIDER_FILTER)

    def device(self, name: str) -> tuple[Namespace, IPv4Address]:
        """Add an inside device in a namespace of its own, and return it with its address."""
        address = self._next_device()
        number = int(address.ip) - int(addresses.INSIDE.network_address)
        namespace = self._station(
            name, self.lan, "br0", address, at_6(addresses.INSIDE_6, number), addresses.INSIDE, addresses.INSIDE_6
        )
        return namespace, address.ip

    def device_tap(self) -> Tap:
        """Add an interface of a guest to the inside network, with an inside address."""
        return self._tap(self.lan, "br0", self._next_device(), at(addresses.INSIDE, GATEWAY).ip)

    def peer(self, name: str, address: IPv4Address) -> Namespace:
        """Add a peer in a namespace of its own."""
        index = addresses.peer_network(address)
        network, network_6 = addresses.PEERS[index], addresses.PEERS_6[index]
        own = IPv4Interface((address, network.prefixlen))
        number = int(address) - int(network.network_address)
        return self._station(name, self.provider, f"br{index}", own, at_6(network_6, number), network, network_6)

    def peer_tap(self, address: IPv4Address) -> Tap:
        """Add an interface of a guest to the network of the peers that holds this address."""
        index = addresses.peer_network(address)
        network = addresses.PEERS[index]
        own = IPv4Interface((address, network.prefixlen))
        return self._tap(self.provider, f"br{index}", own, at(network, GATEWAY).ip)

    def leaked(self) -> int:
        """Return how many packets with a private source have left the router towards the provider."""
        words = self.provider.command("nft", "list", "counter", "ip", "provider", "leaked").split()
        return int(words[words.index("packets") + 1])

    def down(self) -> None:
        """End what still runs in the namespaces, and delete them with all of their interfaces."""
        names = named(f"{self.prefix}-")
        end_processes(names)
        delete(names)

    def _namespace(self, name: str) -> Namespace:
        return Namespace(f"{self.prefix}-{name}", self.logs)

    def _make(self, namespace: Namespace) -> None:
        command("ip", "netns", "add", namespace.name)
        # Without duplicate address detection IPv6 addresses, link-local ones too, can be used at once.
        quiet = ("accept_dad=0", "accept_ra=0", "router_solicitations=0")
        namespace.command("sysctl", "-qw", *(f"net.ipv6.conf.default.{setting}" for setting in quiet))
        _ip(namespace, "link set lo up")

    def _next_device(self) -> IPv4Interface:
        self.devices += 1
        return at(addresses.INSIDE, addresses.FIRST_DEVICE + self.devices - 1)

    def _station(
        self,
        name: str,
        switch: Namespace,
        bridge: str,
        address: IPv4Interface,
        address_6: IPv6Interface,
        network: IPv4Network,
        network_6: IPv6Network,
    ) -> Namespace:
        namespace = self._namespace(name)
        self._make(namespace)
        _link(switch, name, namespace, "eth0")
        _ip(switch, f"link set {name} master {bridge}")
        _ip(
            namespace,
            f"address add {address} dev eth0",
            f"address add {address_6} dev eth0",
            f"route add default via {at(network, GATEWAY).ip}",
            f"route add default via {at_6(network_6, GATEWAY).ip}",
        )
        self.stations.append(namespace)
        return namespace

    def _tap(self, namespace: Namespace, bridge: str, address: IPv4Interface, gateway: IPv4Address) -> Tap:
        self.taps += 1
        name = f"tap{self.taps}"
        _ip(namespace, f"tuntap add {name} mode tap", f"link set {name} master {bridge}", f"link set {name} up")
        return Tap(namespace, name, address, gateway)


def _ip(namespace: Namespace, *lines: str) -> None:
    command("ip", "-n", namespace.name, "-batch", "-", script="\n".join(lines) + "\n")


def _link(here: Namespace, near: str, there: Namespace, far: str) -> None:
    command("ip", "link", "add", near, "netns", here.name, "type", "veth", "peer", far, "netns", there.name)
    _ip(here, f"link set {near} up")
    _ip(there, f"link set {far} up")


def _switch(name: str) -> tuple[str, str]:
    return f"link add {name} type bridge mcast_snooping 0", f"link set {name} up"
