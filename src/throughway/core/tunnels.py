"""What people are told of: tunnels, and what was refused."""

from dataclasses import dataclass
from typing import Final

from throughway.core.ids import Host, Peer
from throughway.core.limits import Limits
from throughway.core.reasons import Reason


@dataclass(frozen=True, slots=True)
class Tunnels:
    """All that one host and one peer exchange by one protocol without ports. The tuples have discriminators."""

    host: Host
    peer: Peer
    protocol: int
    to_peer: tuple[int, ...]
    to_inside: tuple[int, ...]
    contested: tuple[int, ...]
    """Those to the inside of which the host gets a copy and that may be another one's."""
    rivals: int
    """Hosts that contest the most contested of them, this one included."""
    first_at: float
    slot: int = 0
    """Of our address that the peer sees."""
    port: int = 0
    """Of UDP; 0 for protocols without ports."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a host may not have. `owner` is who has it instead, where somebody has."""

    host: Host
    peer: Peer
    protocol: int
    discriminator: int
    reason: Reason
    owner: Host | None
    first_at: float
    last_at: float
    port: int = 0


_Name = tuple[Peer, int, int, int]
"""Of one host: peer, protocol, port, discriminator."""


class Refusals:
    """Remembers refusals for as long as people want to see them, within bounds for each host and in total."""

    def __init__(self, limits: Limits) -> None:
        self._limits: Final = limits
        self._of_host: Final[dict[Host, dict[_Name, Refusal]]] = {}
        self._count = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing is remembered."""
        return not self._count

    def note(
        self,
        host: Host,
        peer: Peer,
        protocol: int,
        discriminator: int,
        reason: Reason,
        now: float,
        *,
        owner: Host | None = None,
        port: int = 0,
    ) -> bool:
        """Note a refusal. Return whether it is a new one."""
        own = self._of_host.setdefault(host, {})
        name = (peer, protocol, port, discriminator)
        known = own.pop(name, None)
        first_at = known.first_at if known else now
        own[name] = Refusal(host, peer, protocol, discriminator, reason, owner, first_at, now, port)
        if known is None:
            self._count += 1
            if len(own) > self._limits.refusals_per_host_max:
                self._drop(host, next(iter(own)))
            elif self._count > self._limits.refusals_max:
                oldest = min(
                    (next(iter(names.values())) for names in self._of_host.values()), key=lambda one: one.last_at
                )
                self._drop(oldest.host, _name(oldest))
        return known is None

    def forget(self, host: Host, peer: Peer, protocol: int, discriminator: int, port: int) -> None:
        """Forget a refusal, because the host has now what it asked for. An unknown one is no error."""
        if (peer, protocol, port, discriminator) in self._of_host.get(host, {}):
            self._drop(host, (peer, protocol, port, discriminator))

    def sweep(self, now: float) -> None:
        """Forget what nobody has asked about for long."""
        before = now - self._limits.refusal_shown_s
        for refusal in [one for one in self.all() if one.last_at < before]:
            self._drop(refusal.host, _name(refusal))

    def all(self) -> list[Refusal]:
        """Return all refusals that are remembered."""
        return [refusal for own in self._of_host.values() for refusal in own.values()]

    def _drop(self, host: Host, name: _Name) -> None:
        own = self._of_host[host]
        del own[name]
        if not own:
            del self._of_host[host]
        self._count -= 1


def _name(refusal: Refusal) -> _Name:
    return refusal.peer, refusal.protocol, refusal.port, refusal.discriminator
