"""Credits that nobody will use: those of exchanges that replaced an IKE SA and brought no child SA.

CREATE_CHILD_SA looks the same for both (RFC 7296 sections 1.3.1, 1.3.2). A credit that is left for good makes its host
a candidate for every new SPI of the others. So it is taken back where what follows tells that it was of an IKE SA:

- a new IKE SA is met, from its first message on, that began without IKE_SA_INIT (`HostAtPeer.take_back_rekey`); or
- the same end's next request is the last one on the old IKE SA, as its delete has to be, while the child SA goes
  on as before, which would be replaced and deleted otherwise (RFC 7296 section 2.8).

An additional child SA that nobody uses yet has no such delete, and keeps its credit. Should it be taken back all the
same, the host is a candidate again with the first packet that it sends.
"""

from itertools import pairwise

from throughway.core import deciding
from throughway.core.bindings import Binding, PeerState
from throughway.core.commands import Command
from throughway.core.credits import REKEYED_S, Ending, HostAtPeer
from throughway.core.events import IkeExchange, IkeMessageSeen
from throughway.core.limits import Limits


def note(host: HostAtPeer, event: IkeMessageSeen, now: float) -> None:
    """Note what may be the delete of a replaced IKE SA, and that it was none where something follows on that IKE SA."""
    ending = host.ending
    if ending is not None and ending.ike_sa == event.initiator_spi:
        if event.exchange is IkeExchange.INFORMATIONAL and event.exchange_id == ending.exchange_id:
            ending.at = now
            ending.is_answered = ending.is_answered or event.from_host != ending.began_inside
        elif event.exchange_id != ending.exchange_id - 1:
            host.ending = None
    elif event.exchange is IkeExchange.INFORMATIONAL:
        before = host.exchanges.get((event.initiator_spi, IkeExchange.CHILD, event.exchange_id - 1))
        if before is not None and before.is_answered and now - before.began_at < REKEYED_S:
            host.ending = Ending(event.initiator_spi, event.exchange_id, before.began_at, event.from_host, now)


def take_back(state: PeerState, now: float, limits: Limits) -> list[Command]:
    """Take back the credits of replaced IKE SAs, where that is clear by now."""
    spent = [host.host for host in state.creditors.values() if _take_back(state, host, now)]
    return deciding.reconsider(state, now, limits, spent) if spent else []


def _take_back(state: PeerState, host: HostAtPeer, now: float) -> bool:
    ending = host.ending
    if ending is None or not ending.is_answered or now - ending.at < REKEYED_S or now < host.unseen_until:
        return False
    if host.began_at >= ending.exchange_at:
        host.ending = None
        return False
    if not _goes_on(state, host, ending) or any(
        host.host in binding.candidates and binding.first_at >= ending.exchange_at for binding in state.open.values()
    ):
        return False
    host.ending = None
    if not host.take_back_unused():
        return False
    host.is_replaced = True
    if replaced := host.exchanges.get((ending.ike_sa, IkeExchange.CHILD, ending.exchange_id - 1)):
        replaced.is_accounted = True
    return True


def _goes_on(state: PeerState, host: HostAtPeer, ending: Ending) -> bool:
    """Whether the host's one tunnel from before is in use both ways, long after a delete would have ended it."""
    until = ending.at + REKEYED_S
    if not any(sa.first_at < ending.exchange_at and sa.last_packet_at >= until for sa in host.outgoing.values()):
        return False
    own = [one for one in state.bindings.values() if one.is_paid and one.offered == (host.host,)]
    own += [state.dormant[spi] for spi in host.dormant]
    own.sort(key=lambda one: one.first_at)
    return _is_one_line(own) and own[-1].first_at < ending.exchange_at and own[-1].last_packet_at >= until


def _is_one_line(own: list[Binding]) -> bool:
    """Whether each SPI replaced the one before. Else the exchange may have replaced one that is idle."""
    return bool(own) and all(abs(new.first_at - old.last_packet_at) < REKEYED_S for old, new in pairwise(own))
