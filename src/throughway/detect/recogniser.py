"""The contract of a recogniser, the code behind a `structure` of the catalogue.

A recogniser is made for one flow when `begins` says that a datagram may be its protocol's; from then on it sees each
further datagram of the flow, within the engine's bound, and keeps what it has to compare. `begins` is asked for every
datagram of every flow that nobody has named yet, so it reads a few bytes and makes nothing.
"""

from typing import Protocol

from throughway.detect.answers import Answer, Datagram, Notes


class Recogniser(Protocol):
    """Looks at one flow for one protocol, or for a few that share their packets."""

    @staticmethod
    def begins(datagram: Datagram) -> bool:
        """Whether the datagram may belong to the protocol. Cheap; a false yes only costs time."""
        ...

    def __init__(self) -> None: ...

    def look(self, datagram: Datagram, notes: Notes) -> Answer | None:
        """Take one datagram in; answer when there is one, or a better one than before. Notes discriminators.

        An answer of confidence TAKEN_BACK says that what this recogniser said before is refuted.

        Bytes from the network never make it raise.
        """
        ...
