"""Scenarios in which a VPN fails, each in one way, and the daemon has to say why.

`plight` is the course of most: a client, and trouble that the provider makes (`lab.upstream`), from the start or
in use. `use` watches what the daemon says, `evidence` when it could have known. Another one is an entry in `ipsec`,
`ports` or `ppp`, or a function in `others`.
"""

from typing import Final

from throughway.lab.checked import CheckedScenario
from throughway.lab.diagnoses import ipsec, others, ports, ppp
from throughway.lab.diagnoses.plight import Plight

PLIGHTS: Final[tuple[Plight, ...]] = (*ipsec.PLIGHTS, *ports.PLIGHTS, *ppp.PLIGHTS)

DIAGNOSIS_SCENARIOS: Final[tuple[CheckedScenario, ...]] = (
    *(plight.scenario for plight in PLIGHTS),
    *others.SCENARIOS,
)
"""All of them, in the order in which they are listed after those with packets of our own."""
