"""Why a session stopped, and what to do: a table of signatures, the most telling one first.

A signature looks at what was seen and says yes or no, so that two of them can be true of one session. Then the first
of the table is told: it explains the others. None of them needs more than one packet after the fact and some seconds
of silence, because a person waits in front of the device.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from throughway.core.events import IkeExchange
from throughway.core.ids import IpProtocol
from throughway.core.reasons import Reason
from throughway.sessions.session import QUIET_S, Flow, Session, Talk
from throughway.sessions.steps import Step

SILENCE_S: Final = 5.0
"""Nothing came back for so long: far beyond the way to any peer and back."""

ANSWERED_SILENCE_S: Final = 12.0
"""The same where there were answers before: a peer that has nothing to send may take 10 seconds (KEEPALIVE-TIMEOUT,
section 6.1 of the WireGuard paper), and readings of the counters lie 2 seconds apart."""

TRIES: Final = 3
"""Messages of IKE without an answer: the first one and two retransmissions (RFC 7296 section 2.1)."""

PACKETS: Final = 3
"""Packets without an answer; one may be lost, and one may want none."""

FRAGMENTED_BYTES: Final = 1400
"""An IKE message above this is cut into fragments on most ways to a peer: PPPoE leaves 1,492 bytes for a packet, of
which 28 are headers, and IPv4 in IPv6 of some providers less."""

SECOND_CLIENT_S: Final = 20.0
"""A device that came up so shortly before another one's answers ended is what ended them."""

PRIVATE: Final = tuple(IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"))
"""RFC 1918 section 3, and what providers translate from (RFC 6598 section 7)."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known beside a session: our addresses outside, and the sessions of others with the same peer."""

    outside: tuple[IPv4Address, ...] = ()
    rivals: Sequence[Session] = ()

    @property
    def is_behind_nat(self) -> bool:
        """Whether our own address is one that somebody upstream translates again."""
        return any(address in network for address in self.outside for network in PRIVATE)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why a session stopped. `code` is a stable name for programs, `fact` and `remedy` are sentences for people."""

    code: str
    fact: str
    remedy: str


_Signature = Callable[[Session, Surroundings, float], str]
"""Says the fact where it is so, and nothing where it is not."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the table."""

    code: str
    signature: _Signature
    remedy: str


def diagnose(session: Session, around: Surroundings, now: float) -> Diagnosis | None:
    """Say why the session stopped; None while nothing is known to be wrong with it."""
    for entry in TABLE:
        if fact := entry.signature(session, around, now):
            return Diagnosis(entry.code, fact, entry.remedy or (session.refused.why if session.refused else ""))
    return None


# Signatures


def _switched_off(session: Session, around: Surroundings, now: float) -> str:
    off = session.switched_off
    return f"The switch {off.switch} is off, so the gateway blocks it." if off else ""


def _ah(session: Session, around: Surroundings, now: float) -> str:
    if session.refused is None or session.refused.reason is not Reason.AH_REFUSED:
        return ""
    return "The device uses AH, which protects the addresses too, so no NAT can carry it."


def _taken(session: Session, around: Surroundings, now: float) -> str:
    if session.refused is None or session.refused.reason is not Reason.DISCRIMINATOR_TAKEN:
        return ""
    return "Another device has a tunnel to this server with the same ID, and nothing else tells them apart."


def _refused(session: Session, around: Surroundings, now: float) -> str:
    return "The gateway does not carry it." if session.refused else ""


def _double_nat(session: Session, around: Surroundings, now: float) -> str:
    """Native ESP behind a second NAT: that one has no passthrough, or it is not ours to know."""
    if not around.is_behind_nat or not (_one_way(session, around, now) or _no_gre(session, around, now)):
        return ""
    ours = ", ".join(str(address) for address in around.outside)
    return f"The gateway is behind another NAT itself (its address is {ours}), and the packets of the tunnel end there."


def _second_client(session: Session, around: Surroundings, now: float) -> str:
    """A server that knows its clients by their address gives all to the one that came last."""
    silent = _silent_since(session, now)
    if session.family not in ("ipsec", "l2tp") or silent is None or not session.walk.has(Step.ESTABLISHED):
        return ""
    for rival in around.rivals:
        came_up = rival.walk.taken[Step.ESTABLISHED - 1].at if rival.walk.has(Step.ESTABLISHED) else None
        if came_up is not None and abs(silent - came_up) <= SECOND_CLIENT_S and _is_heard(rival, silent):
            return f"The server stopped answering this device when {rival.device} connected to it."
    return ""


def _fragments(session: Session, around: Surroundings, now: float) -> str:
    talk = _unanswered_talk(session, now)
    if talk is None or talk.largest < FRAGMENTED_BYTES or not _has_answered_ike(session):
        return ""
    return (
        f"The server answered the first messages of IKE, and not the one of {talk.largest} bytes, which travels in "
        "fragments: somebody on the way drops them."
    )


def _ike_dead(session: Session, around: Surroundings, now: float) -> str:
    talk = _unanswered_talk(session, now)
    if talk is None or _has_answered_ike(session):
        return ""
    return f"{session.peer} does not answer IKE: {talk.asked} messages in {now - talk.began_at:.0f} s."


def _ike_stopped(session: Session, around: Surroundings, now: float) -> str:
    talk = _unanswered_talk(session, now)
    if talk is None or session.walk.has(Step.CARRYING_DATA):
        return ""
    if any(not flow.to_inside.packets for flow in _of(session, "ike-natt")):
        return f"{session.peer} answered IKE on UDP 500, but on UDP 4500 it does not."
    return f"{session.peer} answered the first messages of IKE and then no more."


def _one_way(session: Session, around: Surroundings, now: float) -> str:
    """ESP goes out and none comes in, though IKE said that there is a tunnel."""
    esp = _of(session, "esp")
    sent, came = sum(flow.to_peer.packets for flow in esp), sum(flow.to_inside.packets for flow in esp)
    first_at = min((flow.first_at for flow in esp), default=now)
    if came or sent < PACKETS or now - first_at < SILENCE_S:
        return ""
    agreed = "IKE agreed on a tunnel, but " if session.child_agreed_at is not None else ""
    return f"{agreed}{sent} packets of ESP went to {session.peer} and none came back."


def _no_gre(session: Session, around: Surroundings, now: float) -> str:
    """The control connection of PPTP is up, and its calls are not heard."""
    control, calls = _of(session, "pptp"), _of(session, "pptp-gre")
    if session.family != "pptp" or any(flow.to_inside.packets for flow in calls):
        return ""
    answers = sum(flow.to_inside.packets for flow in control)
    up_at = min((flow.heard_at for flow in control if flow.heard_at is not None), default=now)
    if session.walk.has(Step.ESTABLISHED):
        up_at = session.walk.taken[Step.ESTABLISHED - 1].at
    if answers < PACKETS or now - up_at < SILENCE_S:
        return ""
    sent = sum(flow.to_peer.packets for flow in calls)
    return f"The control connection of PPTP is up, but none of its GRE comes back ({sent} packets went out)."


def _short_timer(session: Session, around: Surroundings, now: float) -> str:
    flow = _unheard(session, now)
    if flow is None or flow.name.protocol != IpProtocol.UDP or flow.quiet_before_s < QUIET_S:
        return ""
    return f"The tunnel was quiet for {flow.quiet_before_s:.0f} s, and since then {session.peer} answers no more."


def _black_hole(session: Session, around: Surroundings, now: float) -> str:
    flow = _unheard(session, now)
    if flow is None or not flow.to_inside.packets or flow.quiet_before_s >= QUIET_S:
        return ""
    size = flow.unanswered.bytes // flow.unanswered.packets
    if not flow.lacks_large or flow.to_peer.bytes // flow.to_peer.packets >= size:
        return ""
    return f"Small packets pass both ways, but those of {size} bytes are lost on the way, and nobody says so."


def _silent_peer(session: Session, around: Surroundings, now: float) -> str:
    flow = _unheard(session, now)
    if flow is None or flow.to_inside.packets:
        return ""
    return f"{session.peer} does not answer: {flow.unanswered.packets} packets in {_for(flow, now):.0f} s."


def _silent_since_then(session: Session, around: Surroundings, now: float) -> str:
    flow = _unheard(session, now)
    return f"{session.peer} answered before, and for {_for(flow, now):.0f} s no more." if flow else ""


TABLE: Final = (
    Entry(
        "switch.off",
        _switched_off,
        "Switch it on again: `throughway protocols enable`, with `--device` for this device alone.",
    ),
    Entry("ah.refused", _ah, "Set the VPN to ESP, which protects what is inside as well."),
    Entry("discriminator.taken", _taken, ""),
    Entry("refused", _refused, ""),
    Entry(
        "server.second-client",
        _second_client,
        "The server tells its clients apart by their address alone, as L2TP/IPsec in transport mode does behind one "
        "NAT. Use IKEv2, or another VPN, or one device at a time: no gateway can mend that.",
    ),
    Entry(
        "nat.double",
        _double_nat,
        "Give this gateway the public address (bridge mode of the modem), or switch on NAT traversal or another VPN "
        "that uses UDP; behind a provider's NAT only that helps.",
    ),
    Entry(
        "ike.fragments-lost",
        _fragments,
        "Switch on IKE fragmentation at both ends (RFC 7383), or use smaller certificates or a shared key.",
    ),
    Entry(
        "ike.unanswered",
        _ike_dead,
        "See whether the server's name and address are right and it is up; some networks block UDP 500.",
    ),
    Entry(
        "ipsec.one-way",
        _one_way,
        "The provider or the server's firewall drops ESP (IP protocol 50). Switch on NAT traversal (UDP 4500) at "
        "both ends, or ask them to let it pass.",
    ),
    Entry(
        "pptp.gre-missing",
        _no_gre,
        "Somebody on the way drops GRE (IP protocol 47). Ask the provider, or use a VPN that uses UDP or TCP.",
    ),
    Entry(
        "timer.upstream",
        _short_timer,
        "A NAT upstream forgets quiet tunnels. Set the VPN's keepalive to less than that, 20 s for example.",
    ),
    Entry(
        "path-mtu.black-hole",
        _black_hole,
        "Lower the MTU of the tunnel at the device, to 1,280 for a start; somebody on the way filters ICMP.",
    ),
    Entry(
        "ike.stopped",
        _ike_stopped,
        "The server may refuse the device's credentials or settings, which its log says; or UDP 4500 is blocked.",
    ),
    Entry(
        "peer.silent",
        _silent_peer,
        "See whether the server's address and port are right and it is up; the network may block it.",
    ),
    Entry("peer.silent-since", _silent_since_then, "See whether the server and the way to it are up."),
)


# What signatures look at


def _of(session: Session, protocol: str) -> list[Flow]:
    return [flow for flow in session.flows.values() if flow.protocol == protocol]


def _has_answered_ike(session: Session) -> bool:
    return any(talk.answers for talk in session.talks.values())


def _unanswered_talk(session: Session, now: float) -> Talk | None:
    """The latest exchange that the device goes on asking in vain."""
    latest = next(reversed(session.talks.values()), None)
    if latest is None or latest.exchange is IkeExchange.INFORMATIONAL:
        return None
    is_vain = latest.asked >= TRIES or (latest.asked >= TRIES - 1 and now - latest.last_at >= SILENCE_S)
    return latest if is_vain else None


def _for(flow: Flow, now: float) -> float:
    return now - flow.unanswered_since if flow.unanswered_since is not None else 0.0


def _unheard(session: Session, now: float) -> Flow | None:
    """The flow of data on which the device speaks in vain, if nothing of the session is heard."""
    flows = session.data_flows() or list(session.flows.values())
    unheard = [flow for flow in flows if flow.unanswered.packets >= PACKETS and _for(flow, now) >= _patience_s(flow)]
    others = [flow for flow in flows if not flow.unanswered.packets and flow.to_inside.last_at is not None]
    heard = [flow for flow in others if now - (flow.to_inside.last_at or 0.0) < SILENCE_S]
    return max(unheard, key=lambda flow: flow.unanswered.packets) if unheard and not heard else None


def _patience_s(flow: Flow) -> float:
    return ANSWERED_SILENCE_S if flow.to_inside.packets else SILENCE_S


def _silent_since(session: Session, now: float) -> float | None:
    """Since when the device speaks in vain in a tunnel that was up."""
    flow = _unheard(session, now)
    return flow.unanswered_since if flow else None


def _is_heard(rival: Session, since: float) -> bool:
    last: Iterable[float | None] = (flow.to_inside.last_at for flow in rival.data_flows())
    return any(at is not None and at >= since for at in last)
