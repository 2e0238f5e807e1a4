"""Who wants to know what happens to flows, and one of them: the log."""

from typing import Final, Protocol

from throughway.core.ids import IpProtocol
from throughway.service.telling import Teller
from throughway.sessions.facts import Detected, Fact, address_name
from throughway.sessions.register import Register

_TRANSPORTS: Final[dict[int, str]] = {IpProtocol.TCP: "tcp", IpProtocol.UDP: "udp"}


class Listener(Protocol):
    """Is told every fact, in order."""

    def on_fact(self, fact: Fact, now: float) -> None:
        """Take one fact; `now` is monotonic."""
        ...


class FactTeller:
    """Tells people of flows that were recognised, once each, though several may find them.

    It is to be told a fact before the register is, which knows what was told of a flow.
    """

    def __init__(self, teller: Teller, register: Register) -> None:
        self._teller: Final = teller
        self._register: Final = register

    def on_fact(self, fact: Fact, now: float) -> None:
        """See `Listener`."""
        if not isinstance(fact, Detected) or self._register.protocol_of(fact.flow) == fact.protocol:
            return
        flow = fact.flow
        transport = _TRANSPORTS.get(flow.protocol)
        self._teller.tell(
            "flow.detected",
            protocol=fact.protocol,
            host=address_name(flow.device),
            peer=address_name(flow.peer),
            port=f"{transport} {flow.destination}" if transport else "",
            evidence=fact.evidence,
        )
