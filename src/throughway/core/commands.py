"""What the tracker wants done. Commands are imperatives; the daemon carries them out in the order given."""

from dataclasses import dataclass, field
from typing import TypeAlias

from throughway.core.flows import FlowKey
from throughway.core.ids import Host
from throughway.core.reasons import Reason


@dataclass(frozen=True, slots=True)
class InstallMapping:
    """Give the flow to one host (ROUTER: to the router's own stack). Replaces a fan-out of the same key."""

    key: FlowKey
    host: Host


@dataclass(frozen=True, slots=True)
class FanOut:
    """Give a copy of every packet of the flow to each of the hosts, best candidate last.

    The last host gets the original, the others get clones. Replaces what was installed for the key.
    """

    key: FlowKey
    hosts: tuple[Host, ...]


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
class WakeAt:
    """Tell the tracker TimerExpired at this monotonic time."""

    at: float


@dataclass(frozen=True, slots=True)
class Record:
    """Tell people: an event with a name (nouns, dotted) and its fields."""

    name: str
    fields: dict[str, object] = field(default_factory=dict)


Command: TypeAlias = InstallMapping | FanOut | RemoveMapping | Reinject | Refuse | Trace | Untrace | WakeAt | Record
