"""Every limit in one place, each with its source."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of state and time. Times are in seconds, rates in events a second."""

    mappings_max: int = 1 << 20
    """Installed mappings in total, both directions; the size of the kernel's table."""

    pending_max: int = 4096
    """Tunnels that wait for a decision, in total."""

    held_per_flow_max: int = 64
    """Packets held in order for one undecided tunnel."""

    held_bytes_max: int = 8 << 20
    """Bytes of held packets in the daemon, in total."""

    held_s: float = 5.0
    """Held packets that got no decision in this time are dropped, and the tunnel is asked about again. A
    verdict takes milliseconds; this bounds what a lost one costs."""

    punts_per_peer_rate: int = 1000
    """New tunnels a second that one peer may ask for; the burst is the same number."""

    punts_per_host_rate: int = 200
    """New tunnels a second that one host may ask for; the burst is the same number."""

    ike_per_host_rate: int = 200
    """IKE messages a second that are copied to the daemon, for one host and for one peer."""

    fan_out_max: int = 16
    """Hosts that get a copy of a packet of a contested tunnel. Shared with bpf/keys.h."""

    peers_per_host_max: int = 256
    """Peers that one host may be known to exchange something with; above it the least recent one is forgotten."""

    relations_max: int = 1 << 18
    """Pairs of a host and a peer that are known in total."""

    hosts_per_peer_max: int = 4096
    """Hosts that may be candidates for the tunnels of one peer."""

    spis_per_host_and_peer_max: int = 256
    """SPIs in each direction that one host may have towards one peer. Several tunnels of one device
    and the overlap of their rekeys need a few dozen; the rest is a flood."""

    spis_per_peer_max: int = 16384
    """Inbound SPIs of one peer."""

    esp_idle_s: float = 900.0
    """An ESP mapping without a packet in either direction is forgotten after this time. Other kernels
    use 900 s; RFC 4787 has no figure for ESP, and REQ-5 asks for no less than 300 s for UDP."""

    candidate_idle_s: float = 3600.0
    """A host that exchanged nothing with a peer for so long is no longer a candidate for new SPIs.
    An hour covers the usual lifetime of an IPsec SA."""

    refused_s: float = 1.0
    """For how long a refused tunnel is dropped in the kernel before it is asked about again."""

    counters_every_s: float = 2.0
    """How often the counters of the mappings are read."""

    uncredited_spis_per_peer_max: int = 256
    """Inbound SPIs of one peer that no evidence announced. Above it the least recently used one makes room,
    so that forged packets push out each other and not the tunnels that were negotiated."""

    uncredited_spis_per_host: int = 4
    """The same, for each host that exchanges something with the peer, where that is more."""

    new_sa_sequence_max: int = 1024
    """The highest sequence number with which a security association may be met and still count as one that
    began before our eyes. It leaves room for what was lost or refused on the way."""

    exchange_unanswered_s: float = 60.0
    """An IKE exchange without an answer for so long brought nothing. Implementations give up after some minutes of
    retransmissions, but the gaps between those are shorter (RFC 7296 section 2.4 leaves both to them)."""

    unseen_s: float = 600.0
    """For how long a host that was met in the middle of its conversation may own SPIs that nothing announced:
    security associations agreed on before are in use by then."""

    sweep_every_s: float = 30.0
    """How often what is idle is looked for."""
