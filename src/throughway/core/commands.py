"""What the tracker wants done. Commands are imperatives; the daemon carries them out in the order given."""

from dataclasses import dataclass, field
from typing import TypeAlias

from throughway.core.flows import FlowKey
from throughway.core.ids import Host, Path, Peer, UdpPort
from throughway.core.reasons import Reason


@dataclass(frozen=True, slots=True)
class InstallMapping:
    """Give the flow to one host (ROUTER: to the router's own stack). Replaces a fan-out of the same key.

    `slot` is that of the address which a flow to the peer is sent from.
    """

    key: FlowKey
    host: Host
    slot: int = 0


@dataclass(frozen=True, slots=True)
class FanOut:
    """Give a copy of every packet of the flow to each of the hosts, best candidate last.

    The last host gets the original, the others get clones. Replaces what was installed for the key.
    """

    key: FlowKey
    hosts: tuple[Host, ...]


def give(key: FlowKey, hosts: tuple[Host, ...]) -> InstallMapping | FanOut:
    """Give the flow to its one host, or copies to all of them."""
    return FanOut(key, hosts) if len(hosts) > 1 else InstallMapping(key, hosts[0])


@dataclass(frozen=True, slots=True)
class RemoveMapping:
    """Forget the flow: its next packet is unknown again."""

    key: FlowKey


@dataclass(frozen=True, slots=True)
class Reinject:
    """Put the held packets of the flow back, in order, before what follows."""

    key: FlowKey


@dataclass(frozen=True, slots=True)
class Refuse:
    """Drop what is held of the flow and what comes of it, until it is asked about again."""

    key: FlowKey
    reason: Reason
    cause: str = ""
    """What was missing or too much, for people: nouns, dotted."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Note when packets of an installed flow come, until it is removed or Untrace. Told twice, it is the same."""

    key: FlowKey


@dataclass(frozen=True, slots=True)
class Untrace:
    """Note the times of a flow's packets no more, and forget those that were."""

    key: FlowKey


@dataclass(frozen=True, slots=True)
class ForgetPath:
    """Let the kernel's own translation forget which address the host has with the peer."""

    host: Host
    path: Path


@dataclass(frozen=True, slots=True)
class KeepPort:
    """Have hosts keep a UDP port with the peer: what they send from it to it has flows, and is not translated.

    What the kernel tracks of it is to be forgotten, so that it goes on this way at once.
    """

    peer: Peer
    port: UdpPort


@dataclass(frozen=True, slots=True)
class TranslatePort:
    """Have the kernel translate this port of hosts again, for all that they begin; the opposite of KeepPort."""

    peer: Peer
    port: UdpPort


@dataclass(frozen=True, slots=True)
class RememberPort:
    """Note for later runs that this port has to be kept with the peer. TranslatePort ends that too."""

    peer: Peer
    port: UdpPort


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Tell the tracker TimerExpired at this monotonic time."""

    at: float


@dataclass(frozen=True, slots=True)
class Record:
    """Tell people: an event with a name (nouns, dotted) and its fields."""

    name: str
    fields: dict[str, object] = field(default_factory=dict)


Command: TypeAlias = (
    InstallMapping
    | FanOut
    | RemoveMapping
    | Reinject
    | Refuse
    | Trace
    | Untrace
    | ForgetPath
    | KeepPort
    | TranslatePort
    | RememberPort
    | WakeAt
    | Record
)
