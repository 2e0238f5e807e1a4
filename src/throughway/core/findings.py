"""What a check found out about the machine, in words for the person who runs it."""

from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """How bad it is: an error keeps tunnels from working, a warning may."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact, and what to do about it.

    `code` is a stable name for programs, dotted. `what` and `remedy` are sentences; `commands` are
    shell lines that carry out the remedy as they stand. Both are empty where nothing is to be done.
    """

    code: str
    level: Level
    what: str
    remedy: str = ""
    commands: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        """Give the finding as a JSON object."""
        return {
            "code": self.code,
            "level": self.level.value,
            "what": self.what,
            "remedy": self.remedy,
            "commands": list(self.commands),
        }
