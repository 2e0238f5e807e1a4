"""Flows that explain each other: AnyConnect's DTLS has a TLS connection of the same ends and port beside it."""

from collections import OrderedDict
from typing import Final

from throughway.detect.answers import LIKELY, STRONG, Answer
from throughway.detect.dtls import SUSPECTED
from throughway.detect.flows import Flow

_ANYCONNECT: Final = "anyconnect"


class Companions:
    """Remembers TLS connections by their ends; the oldest is forgotten first when there are too many."""

    def __init__(self, connections_max: int) -> None:
        self._connections_max = connections_max
        self._tls: OrderedDict[tuple[bytes, bytes, int], Flow] = OrderedDict()

    def on_tls(self, flow: Flow) -> None:
        """Remember a connection that began with TLS; a later one to the same server takes its place."""
        self._tls[flow.source, flow.destination, flow.destination_port] = flow
        if len(self._tls) > self._connections_max:
            self._tls.popitem(last=False)

    def judge(self, flow: Flow, answer: Answer) -> Answer:
        """Raise what was suspected of DTLS if there is TLS beside it, and name that connection with it."""
        if answer.protocol != _ANYCONNECT or not flow.has_ports:
            return answer
        beside = self._tls.get((flow.source, flow.destination, flow.destination_port))
        if beside is None or beside is flow:
            return answer
        words = f"TLS to {flow.destination_text()} port {flow.destination_port}, to which AnyConnect's DTLS goes too"
        if beside.answer is None:
            beside.answer = Answer(_ANYCONNECT, LIKELY, words)
        if answer.confidence <= SUSPECTED:
            return Answer(_ANYCONNECT, STRONG, f"{answer.evidence}, beside a TLS connection of the same ends")
        return answer
