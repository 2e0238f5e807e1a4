"""Whether a responder grants what was asked for, as far as the head of a flow shows it in clear.

Most protocols agree on that behind encryption. WireGuard's handshake ends with its response, and PPTP says in a reply
that the call is connected.
"""

from typing import Final

from throughway.detect.answers import CERTAIN, Datagram
from throughway.detect.flows import Flow
from throughway.wire import pptp, wireguard

_WIREGUARD: Final = frozenset({"wireguard", "tailscale"})


def by_datagram(flow: Flow, datagram: Datagram) -> str | None:
    """Say by which message of UDP a flow's responder grants it, or None; after the flow was judged by it."""
    if flow.answer is None or flow.answer.protocol not in _WIREGUARD or datagram.from_initiator:
        return None
    message = wireguard.parse(datagram.payload, datagram.size)
    # The answer is certain only where the response is to the index of an initiation.
    is_response = message is not None and message.type == wireguard.RESPONSE and flow.answer.confidence >= CERTAIN
    return "handshake response" if is_response else None


def by_stream(flow: Flow) -> str | None:
    """Say by which message of TCP a flow's responder grants it, or None, from what is kept of its stream."""
    if flow.answer is None or flow.answer.protocol != "pptp" or flow.stream is None:
        return None
    data, at = bytes(flow.stream.to_initiator.data), 0
    while message := pptp.parse(data[at:]):
        if pptp.is_connected(data[at:]):
            return f"{message.name}: connected"
        at += message.size
    return None
