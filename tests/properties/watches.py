"""Watches over what a world delivers: each fails as soon as a packet comes to who must not have it."""

from math import inf

from tests.properties.world import World
from throughway.core.commands import Command, FanOut, RemoveMapping
from throughway.core.events import CountersRead, EspFromInside, Event, HostDisowned, IkeMessageSeen, RefusalKind
from throughway.core.flows import Direction, FlowKey
from throughway.core.ids import Host, IpProtocol, Path, Peer, Spi
from throughway.core.verdicts import Basis, Certain

ON_ITS_WAY_S = 2.0
"""For so long what comes with an older SPI of a host says nothing of its latest one."""


class CertainWatch:
    """Remembers each Certain verdict until there is evidence against it, and fails when another host gets the SPI.

    Evidence against a verdict: its host disowns the SPI; one that disowned it by an ICMP error sends after all; another
    host only sends, for so long that this may be its own;
    where it rested on there being no other host (`Basis.ONLY_HOST`), one turns up or negotiates; where it rested on
    answers (`Basis.ANSWERS`), its host says nothing any more. An idle mapping that is removed ends the matter.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._certain: dict[tuple[Peer, Spi], Certain] = {}
        self._sends_since: dict[tuple[Host, Peer], float] = {}
        """Since when a host has sent with its latest SPI and had nothing but copies of contested ones, and what was on
        its way with one from before."""
        self._came_at: dict[tuple[Peer, Spi], float] = {}
        """When each SPI came first."""
        self._sent_at: dict[tuple[Host, Peer], float] = {}
        """When a host sent last, as the counters tell it."""
        self._disowned_at: dict[tuple[Host, Peer, Spi], float] = {}
        """When a host's kernel said by ICMP that an SPI is not its own."""
        world.on_event.append(self._before_event)
        world.on_command.append(self._on_command)
        world.on_delivery.append(self._on_delivery)

    def look(self) -> None:
        """Take note of the verdicts as they are now. One that was certain stays so without evidence."""
        self._certain |= {
            (path.peer, spi): verdict
            for path, spi, verdict in self._world.tracker.bindings()
            if isinstance(verdict, Certain)
        }

    def _before_event(self, event: Event) -> None:
        match event:
            case CountersRead(counts):
                to_peer = [count for count in counts if count.key.direction is Direction.TO_PEER]
                self._sent_at |= {(count.key.host, count.key.peer): count.last_packet_at for count in to_peer}
            case HostDisowned(host, peer, spi, how):
                if how is not RefusalKind.INVALID_SPI:
                    self._disowned_at[host, peer, spi] = self._world.now
                verdict = self._certain.get((peer, spi))
                if verdict is not None and verdict.host == host:
                    del self._certain[peer, spi]
            case EspFromInside(peer=peer) | IkeMessageSeen(peer=peer):
                if isinstance(event, EspFromInside):
                    self._sends_since[event.host, peer] = self._world.now
                self._certain = {
                    tunnel: verdict
                    for tunnel, verdict in self._certain.items()
                    if tunnel[0] != peer or verdict.basis.is_firm
                }

    def _on_command(self, command: Command) -> None:
        match command:
            case RemoveMapping(FlowKey(direction=Direction.TO_INSIDE) as key):
                self._certain.pop((key.peer, Spi(key.discriminator)), None)
            case FanOut(key, hosts):
                long_ago = self._world.now - self._world.limits.one_way_s
                is_one_way = any(self._sends_since.get((host, key.peer), self._world.now) <= long_ago for host in hosts)
                tunnel = key.peer, Spi(key.discriminator)
                is_back = any(
                    self._disowned_at.get((host, *tunnel), inf) < self._sent_at.get((host, key.peer), -inf)
                    for host in hosts
                )
                if is_one_way or is_back or self._is_silent(*tunnel):
                    self._certain.pop(tunnel, None)

    def _is_silent(self, peer: Peer, spi: Spi) -> bool:
        """Tell whether the answers that a verdict rests on have ended."""
        verdict = self._certain.get((peer, spi))
        if verdict is None or verdict.basis is not Basis.ANSWERS:
            return False
        sent_at = self._sent_at.get((verdict.host, peer), self._world.now)
        return self._world.now - sent_at >= self._world.limits.silence_s

    def _on_delivery(self, host: Host, peer: Peer, spi: Spi) -> None:
        now = self._world.now
        came_at = self._came_at.setdefault((peer, spi), now)
        since = self._sends_since.get((host, peer), now)
        is_late = came_at < since and now < since + ON_ITS_WAY_S
        if isinstance(self._world.tracker.verdict(Path(peer), spi), Certain) and not is_late:
            self._sends_since.pop((host, peer), None)
        verdict = self._certain.get((peer, spi))
        assert verdict is None or host == verdict.host, f"{spi:#x} of {verdict} came to {host}"


class AdoptedWatch:
    """Fails when what was one host's before a restart comes to another one, until it is idle or disowned."""

    def __init__(self, world: World) -> None:
        self._known = {key: hosts for key, hosts in world.mappings().items() if len(hosts) == 1}
        world.on_event.append(self._on_event)
        world.on_command.append(self._on_command)
        world.on_delivery.append(self._on_delivery)
        assert world.mappings().items() >= self._known.items()

    def _on_event(self, event: Event) -> None:
        if isinstance(event, HostDisowned):
            key = FlowKey.to_inside(IpProtocol.ESP, Path(event.peer), event.spi_to_inside)
            if event.host in self._known.get(key, ()):
                del self._known[key]

    def _on_command(self, command: Command) -> None:
        if isinstance(command, RemoveMapping):
            self._known.pop(command.key, None)

    def _on_delivery(self, host: Host, peer: Peer, spi: Spi) -> None:
        known = self._known.get(FlowKey.to_inside(IpProtocol.ESP, Path(peer), spi))
        assert known is None or host in known, f"{spi:#x} of {known} came to {host}"
