"""Who is told the facts about VPN flows."""

from typing import Protocol

from throughway.sessions.facts import Fact


class Listener(Protocol):
    """Takes facts, in the order in which they come."""

    def on_fact(self, fact: Fact, now: float) -> None:
        """Take note of a fact. Must return at once and raise nothing."""
