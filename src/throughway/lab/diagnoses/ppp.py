"""How PPTP fails, and L2TP within IPsec behind one address."""

from typing import Final

from throughway.lab import programs
from throughway.lab.diagnoses.evidence import Evidence
from throughway.lab.diagnoses.plight import Plight
from throughway.lab.peers import pptp
from throughway.lab.upstream import GRE
from throughway.lab.vpns.ppp import Pptp

_GRE: Final = 47

PLIGHTS: Final = (
    Plight(
        name="gre-dropped",
        shows="the control connection of PPTP comes up, and GRE is dropped at the provider",
        code="pptp.gre-missing",
        peers=Pptp,
        programs=(*programs.GUEST, *pptp.PROGRAMS),
        strike=lambda upstream: upstream.drop(GRE),
        revives=True,
        evidence=Evidence(1, _GRE),
    ),
)
