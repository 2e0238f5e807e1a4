"""How IPsec fails."""

from functools import partial
from typing import Final

from throughway.lab import programs
from throughway.lab.diagnoses.evidence import Evidence
from throughway.lab.diagnoses.plight import Plight
from throughway.lab.peers import libipsec, strongswan, vpnc
from throughway.lab.upstream import ESP, ESP_TO_CUSTOMER, LATER_FRAGMENTS, NATT, to
from throughway.lab.vpns.ipsec import EspNative, Ikev2Natt

REPEAT_S: Final = 2.0
"""Some clients ask again so soon; strongSwan by itself waits for 4 s, 7 s and 13 s."""

QUIET_S: Final = 14.0
"""Longer than what the register of sessions calls quiet, by more than one reading of the counters."""

FORGETS_AFTER_S: Final = 5

_NATIVE: Final = (*programs.GUEST, *strongswan.PROGRAMS, *vpnc.PROGRAMS)
_UDP, _ESP = 17, 50

_natt = partial(Ikev2Natt, repeat_s=REPEAT_S)


PLIGHTS: Final = (
    Plight(
        name="esp-dropped",
        shows="IKE is answered and ESP is dropped at the provider",
        code="ipsec.one-way",
        peers=EspNative,
        programs=_NATIVE,
        strike=lambda upstream: upstream.drop(ESP),
        evidence=Evidence(3, _ESP),
    ),
    Plight(
        name="esp-one-way",
        shows="ESP reaches the server, and the provider drops what comes back",
        code="ipsec.one-way",
        peers=EspNative,
        programs=_NATIVE,
        strike=lambda upstream: upstream.drop(ESP_TO_CUSTOMER),
        evidence=Evidence(3, _ESP),
    ),
    Plight(
        name="second-nat",
        shows="the gateway's own address is one of 100.64.0.0/10, and what translates it passes no ESP",
        code="nat.double",
        peers=EspNative,
        programs=_NATIVE,
        before=lambda upstream: upstream.hide(),
        strike=lambda upstream: upstream.drop(ESP),
        evidence=Evidence(3, _ESP),
    ),
    Plight(
        name="ike-unanswered",
        shows="IKE to a server that is not there",
        code="ike.unanswered",
        peers=_natt,
        programs=libipsec.PROGRAMS,
        strike=lambda upstream: upstream.drop(to(Ikev2Natt.SERVER)),
        evidence=Evidence(2, _UDP, 500),
    ),
    Plight(
        name="ike-refused",
        shows="IKE to a server where no IKE daemon runs, which says so by ICMP port unreachable",
        code="ike.unanswered",
        peers=_natt,
        programs=libipsec.PROGRAMS,
        is_dead=True,
        evidence=Evidence(2, _UDP, 500),
    ),
    Plight(
        name="natt-blocked",
        shows="the first messages of IKE are answered on UDP 500, and the provider drops UDP 4500",
        code="ike.stopped",
        peers=_natt,
        programs=libipsec.PROGRAMS,
        strike=lambda upstream: upstream.drop(NATT),
        evidence=Evidence(2, _UDP, 4500),
    ),
    Plight(
        name="ike-fragments",
        shows="IKE_AUTH with certificates travels in fragments, which the provider drops",
        code="ike.fragments-lost",
        peers=partial(Ikev2Natt, repeat_s=REPEAT_S, large_messages=True),
        programs=(*libipsec.PROGRAMS, "openssl"),
        strike=lambda upstream: upstream.drop(LATER_FRAGMENTS),
        evidence=Evidence(2, _UDP, 4500),
    ),
    Plight(
        name="short-timer",
        shows=f"a NAT upstream forgets a tunnel that was quiet for {FORGETS_AFTER_S} s",
        code="timer.upstream",
        peers=_natt,
        programs=libipsec.PROGRAMS,
        before=lambda upstream: upstream.translate(),
        strike=lambda upstream: upstream.translate(forgets_after_s=FORGETS_AFTER_S),
        in_use=True,
        quiet_s=QUIET_S,
        revives=True,
        evidence=Evidence(3, _UDP, 4500),
    ),
)
