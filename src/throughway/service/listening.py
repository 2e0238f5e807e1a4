"""Who wants to know what happens to flows, and one of them: the log."""

from typing import Final, Protocol

from throughway.core.ids import IpProtocol
from throughway.service.telling import Teller
from throughway.sessions.facts import Detected, Fact

_TRANSPORTS: Final[dict[int, str]] = {IpProtocol.TCP: "tcp", IpProtocol.UDP: "udp"}


class Listener(Protocol):
    """Is told every fact, in order."""

    def on_fact(self, fact: Fact, now: float) -> None:
        """Take one fact; `now` is monotonic."""
        ...


class FactTeller:
    """Tells people of flows that were recognised."""

    def __init__(self, teller: Teller) -> None:
        self._teller: Final = teller

    def on_fact(self, fact: Fact, now: float) -> None:
        """See `Listener`."""
        if not isinstance(fact, Detected):
            return
        flow = fact.flow
        transport = _TRANSPORTS.get(flow.protocol)
        self._teller.tell(
            "flow.detected",
            protocol=fact.protocol,
            host=str(flow.device),
            peer=str(flow.peer),
            port=f"{transport} {flow.destination}" if transport else "",
            evidence=fact.evidence,
        )
