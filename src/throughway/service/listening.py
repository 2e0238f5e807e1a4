"""Who is told facts of the flows: sessions, switches, and whoever comes after them."""

from typing import Protocol

from throughway.sessions.facts import Fact


class Listener(Protocol):
    """Takes every fact, in the order in which they came; facts of its own among them."""

    def on_fact(self, fact: Fact, now: float) -> None:
        """Take one fact. `now` is monotonic."""
