"""Questions wait by their sender, and senders take turns: who asks a thousand delays nobody else by more than one."""

from ipaddress import IPv4Address
from typing import Final

from throughway.core.flows import Direction, FlowKey
from throughway.core.ports import Punted


def sender_of(key: FlowKey) -> IPv4Address:
    """Name who sends a flow, and so answers for what it fills: the peer if it comes from outside, else the host."""
    return key.peer if key.direction is Direction.TO_INSIDE else key.host


class Turns:
    """Holds questions until their sender's turn. Each sender's own keep their order."""

    def __init__(self, per_sender_max: int) -> None:
        self._per_sender_max: Final = per_sender_max
        self._waiting: Final[dict[IPv4Address, dict[FlowKey, Punted]]] = {}
        """Whose turn it is comes first."""

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, question: Punted) -> bool:
        """Let a question wait, in the place of an earlier one about the same flow. False where its sender has too many.

        A question that is turned away is as if it had never been asked.
        """
        own = self._waiting.setdefault(sender_of(question.key), {})
        if len(own) >= self._per_sender_max and question.key not in own:
            return False
        own[question.key] = question
        return True

    def take(self) -> Punted:
        """Take out the question of the sender whose turn it is. There must be one."""
        sender = next(iter(self._waiting))
        own = self._waiting.pop(sender)
        question = own.pop(next(iter(own)))
        if own:
            self._waiting[sender] = own
        return question
