"""The kinds of packets that passthrough carries, as samples to walk a firewall with."""

from functools import partial

from throughway.core.marks import Marks
from throughway.policy.matching import Packet
from throughway.policy.timers import PPTP_PORT

_WITHOUT_PORTS = (("ESP", "esp"), ("GRE", "gre"), ("L2TPv3", "l2tp"))
_WITH_PORTS = (("IKE", "udp", 500), ("NAT-T", "udp", 4500), ("L2TP", "udp", 1701), ("PPTP control", "tcp", PPTP_PORT))


def carried_packets(marks: Marks, inside: str, outside: str, *, are_marked: bool) -> tuple[Packet, ...]:
    """List one sample of each kind, both ways between two interfaces.

    What BPF translates has the CARRIED bit from ingress on; all else has it only from
    ruleset.MARK_PRIORITY on, which `are_marked` tells. Re-injected packets carry both bits.
    """
    late = marks.carried if are_marked else 0
    to_inside = partial(Packet, inward=outside, outward=inside)
    to_outside = partial(Packet, inward=inside, outward=outside)
    by_bpf = [
        packet
        for name, protocol in _WITHOUT_PORTS
        for packet in (
            to_inside(name=f"{name} from outside", protocol=protocol, state="untracked", mark=marks.carried),
            to_outside(name=f"{name} to outside", protocol=protocol, state="untracked", mark=late),
        )
    ]
    calls = [
        way(name=name, protocol="gre", state="related", mark=late, direction="original", is_expected=True)
        for name, way in (("PPTP calls to outside", to_outside), ("PPTP calls from outside", to_inside))
    ]
    with_ports = [
        packet
        for name, protocol, port in _WITH_PORTS
        for packet in (
            to_outside(
                name=f"{name} to outside",
                protocol=protocol,
                state="new",
                mark=late,
                direction="original",
                destination_port=port,
            ),
            to_inside(
                name=f"{name} from outside",
                protocol=protocol,
                state="established",
                mark=late,
                direction="reply",
                source_port=port,
            ),
        )
    ]
    put_back = to_inside(name="re-injected ESP from outside", protocol="esp", state="untracked", mark=marks.own)
    return (*by_bpf, put_back, *with_ports, *calls)
