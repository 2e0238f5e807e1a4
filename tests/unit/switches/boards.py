"""Boards of the shipped catalogue, for tests."""

from throughway.catalogue_files import read_catalogue
from throughway.switches.board import Board
from throughway.switches.position import Place, Position, Setting, Switches

CATALOGUE = read_catalogue(None)
ALICE, BOB, PEER, OTHER = "10.0.0.2", "10.0.0.3", "203.0.113.9", "203.0.113.10"


def board(*settings: tuple[str, str] | tuple[str, str, str | None, str | None]) -> Board:
    """Make a board of settings: name, position, and device and peer where they are not for everybody."""
    made = []
    for name, position, *place in settings:
        device, peer = place or (None, None)
        made.append(Setting(name, Position(position), Place.of(device, peer)))
    return Board(CATALOGUE, Switches(tuple(made)))
