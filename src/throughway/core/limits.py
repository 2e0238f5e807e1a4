"""Every limit in one place, each with its source."""

from dataclasses import dataclass

from throughway.core.ids import IpProtocol


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

    early_fragments_per_packet_max: int = 64
    """Later fragments of one packet that wait for its first one. The largest packet (RFC 791 section 3.1) has 45
    of 1,480 bytes."""

    early_fragments_per_address_max: int = 256
    """Later fragments of one sender that wait for their first ones."""

    early_fragments_bytes_max: int = 2 << 20
    """Bytes of waiting later fragments in the daemon, in total; one sender may have an eighth of it."""

    early_fragment_s: float = 1.0
    """For how long a later fragment waits. What was reordered on the way is milliseconds apart; its receiver
    waits for 15 s at least (RFC 791 section 3.2), and by then the rest of the packet is old."""

    early_fragments_per_address_rate: int = 1000
    """Later fragments a second that one sender may make wait; the burst is the same number."""

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
    """Hosts that get a copy of a packet of a contested tunnel."""

    fan_out_first_max: int = 24
    """The same for the first moments of a tunnel that an exchange announced, as long as nobody can have answered."""

    fan_out_late_max: int = 64
    """The same, where the first packet of the tunnel was lost or overtaken, so that its time does not tell the likely
    hosts. No list of hosts is longer. Shared with bpf/keys.h."""

    peers_per_host_max: int = 256
    """Peers that one host may be known to exchange something with; above it the least recent one is forgotten."""

    outside_addresses_max: int = 16
    """Outside addresses that are used; further ones are not. Shared with bpf/keys.h."""

    relations_max: int = 1 << 18
    """Pairs of a host and a peer that are known in total."""

    hosts_per_peer_max: int = 4096
    """Hosts that may be candidates for the tunnels of one peer."""

    spis_per_host_and_peer_max: int = 256
    """SPIs in each direction that one host may have towards one peer; and as many flows of GRE, of L2TPv3 and
    of everything else. Several tunnels of one device and the overlap of their rekeys need a few dozen; the
    rest is a flood."""

    spis_per_peer_max: int = 16384
    """Inbound SPIs of one peer; and as many flows of GRE, of L2TPv3 and of everything else."""

    esp_idle_s: float = 900.0
    """An ESP mapping without a packet in either direction is forgotten after this time. Other kernels
    use 900 s; RFC 4787 has no figure for ESP, and REQ-5 asks for no less than 300 s for UDP."""

    gre_idle_s: float = 1800.0
    """A GRE mapping without a packet in either direction is forgotten after this time. RFC 2784 has no
    keepalive, so a tunnel may be quiet for long: as quiet as the TCP connections in it may be."""

    l2tpv3_idle_s: float = 1800.0
    """The same for L2TPv3 over IP. A control connection says Hello every 60 s (RFC 3931 section 4.4);
    a session without one has nothing to say while nobody uses it."""

    portless_idle_s: float = 600.0
    """The same for every other protocol without ports: twice what RFC 4787 REQ-5 recommends for UDP."""

    l2tpv3_turn_s: float = 1.0
    """For how long a host may send with new unmanaged L2TPv3 sessions that the peer does not answer, while other hosts
    wait; it counts from the last session that began before one did."""

    l2tpv3_answer_s: float = 2.0
    """For how long an answer to what was sent in such a turn may come after it, so that no other host's new session
    goes out meanwhile. It is longer than the way to any peer and back."""

    l2tpv3_wait_s: float = 4.0
    """For how long such a session is held before it is refused. It is longer than the turn of one other host with the
    answers to it, so that who waits sees the next turn begin, and shorter than `held_s`."""

    refusals_max: int = 4096
    """Refusals that are remembered for people to see, in total; the oldest makes room."""

    refusals_per_host_max: int = 16
    """The same, of one host."""

    refusal_shown_s: float = 60.0
    """For how long a refusal is shown after the host last asked; one that goes on asks every `refused_s`."""

    candidate_idle_s: float = 3600.0
    """A host that exchanged nothing with a peer for so long is no longer a candidate for new SPIs.
    An hour covers the usual lifetime of an IPsec SA, which each end chooses (RFC 7296 section 2.8)."""

    refused_s: float = 1.0
    """For how long a refused tunnel is dropped in the kernel before it is asked about again."""

    counters_every_s: float = 2.0
    """How often the counters of the mappings are read."""

    traces_every_s: float = 0.5
    """How often the times of traced packets are read, while there are any."""

    traces_max: int = 8192
    """Flows whose packets' times are noted, in total; the size of the kernel's table."""

    trace_times_max: int = 64
    """Times that are kept of one traced flow. Shared with bpf/keys.h."""

    trace_gap_s: float = 0.01
    """A packet that follows another one of its flow more closely is part of the same burst, and is not noted."""

    compared_per_read_max: int = 1500
    """Pairs of an SPI and a host of one peer whose packets' times are compared at one reading; the rest has its turn at
    the next ones. A pair takes about 0.1 ms."""

    candidates_max: int = 256
    """Hosts that may own one SPI, as far as is remembered. With more, those whose exchanges fit least are left out."""

    one_way_s: float = 10.0
    """A host that has sent with a new SPI for so long, and had nothing from the peer, is believed to own an SPI that
    went to others."""

    contested_spis_per_peer_max: int = 1024
    """Inbound SPIs of one peer that credits may still decide. What comes above it counts as not announced."""

    uncredited_spis_per_peer_max: int = 256
    """Inbound SPIs of one peer that no evidence announced. Above it the least recently used one makes room, of
    those first that two readings of the counters have not shown to be in use. So forged packets push out each
    other, and neither what was negotiated nor what goes on. L2TPv3 sessions that no host has asked for count for
    themselves."""

    uncredited_spis_per_host: int = 4
    """The same, for each host that exchanges something with the peer, where that is more."""

    new_sa_sequence_max: int = 1024
    """The highest sequence number with which a security association may be met and still count as one that
    began before our eyes. It leaves room for what was lost or refused on the way."""

    exchange_unanswered_s: float = 60.0
    """An IKE exchange without an answer brought nothing once nobody has repeated its messages for so long.
    Implementations give up after some minutes of retransmissions, but the gaps between those are shorter (RFC 7296
    section 2.4 leaves both to them)."""

    silence_s: float = 30.0
    """A host that has sent a peer nothing for so long is believed when its stack says that an SPI is not its own.
    Before, the same answer only means that the socket of its VPN program was full (ADR 0009)."""

    unseen_s: float = 600.0
    """For how long a host that was met in the middle of its conversation may own SPIs that nothing announced:
    security associations agreed on before are in use by then."""

    sweep_every_s: float = 30.0
    """How often what is idle is looked for."""

    kept_port_idle_s: float = 3600.0
    """An IKE flow whose port is kept is forgotten after this time without a packet in either direction. IKE may
    say nothing between two rekeys, and an hour covers the usual lifetime of an IPsec SA. What comes later is
    offered to all hosts with an IKE SA."""

    kept_ports_max: int = 1024
    """Peers with which a port is kept because that was learned; the oldest makes room. Shared with bpf/maps.h."""

    port_repetitions: int = 2
    """A peer that leaves a host's first message and so many repetitions of it unanswered, while it answers another
    host, may not answer to translated ports. Clients give up after three repetitions or more (measured: vpnc
    sends them after 1, 3 and 7 s and no more), and the last one is to go the other way."""

    port_unanswered_s: float = 2.0
    """The time from a first message to the last of these repetitions is so long at least: answers may be slow."""

    port_trial_s: float = 300.0
    """For how long a port is kept on trial until the host that it is for was answered."""

    port_pause_s: float = 3600.0
    """After a trial without an answer none is begun with this peer for so long."""

    heads_flows_max: int = 1 << 16
    """Flows of TCP and UDP of which the kernel knows how much was looked at; the size of its table. One that makes room
    and goes on is looked at again, which costs a few copies."""

    heads_per_host_rate: int = 1000
    """First packets a second that one host sends and that are copied to be recognised; the burst is the same number.
    A device begins with hundreds of flows at once, of which few look like a VPN's."""

    heads_per_peer_rate: int = 1000
    """The same of what comes from one peer, which may be a server of many hosts."""

    heads_per_read_max: int = 64
    """Copied packets that are looked at in one go, before others have their turn: about a millisecond of work."""

    heads_looked_at_max: int = 4096
    """Flows that are being recognised at the same time; the oldest makes room."""

    heads_named_max: int = 1 << 14
    """Recognised flows that are remembered, so that none is told twice; the oldest makes room."""

    def idle_s(self, protocol: int) -> float:
        """Return for how long a mapping lives without a packet, of a protocol that has no part of its own."""
        match protocol:
            case IpProtocol.GRE:
                return self.gre_idle_s
            case IpProtocol.UDP:
                return self.kept_port_idle_s
            case _:
                return self.portless_idle_s

    udp_idle_s: int = 300
    """A UDP flow of a VPN that the kernel tracks is forgotten after this time, from its first packet on. RFC 4787
    REQ-5 recommends five minutes, and RFC 6092 REC-14 has them as the default for IPv6."""

    path_remembered_s: int = 3600
    """How long a choice of the outside address lasts that nftables made by itself and that no IKE and nothing without
    ports confirms: that of PPTP or L2TP alone. Only the first packet of such a tunnel asks, so the next one
    may go by another address."""

    pptp_control_idle_s: int = 7440
    """The same for PPTP's control connection: no less than two hours and four minutes (RFC 5382 REQ-5), which is
    longer than TCP's keepalive probes are apart (RFC 1122 section 4.2.3.6)."""

    pptp_call_idle_s: int = 1800
    """The same for the GRE of a PPTP call that was answered; as long as other GRE. The kernel's own is 180 s, and a
    call forgotten while its control connection lives is not known again."""
