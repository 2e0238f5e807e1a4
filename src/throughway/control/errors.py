"""What can go wrong on the control socket, and what to do about it.

Every error has a message that states the fact and a remedy that says what helps. The faces print
both; neither holds a traceback or a secret.
"""

from enum import StrEnum


class ErrorCode(StrEnum):
    """The word by which a program tells refusals apart. New ones may come; the message is for people."""

    VERSION = "version"
    MALFORMED = "malformed"
    TOO_LARGE = "too-large"
    METHOD = "method"
    PARAMS = "params"
    BUSY = "busy"
    FORBIDDEN = "forbidden"
    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


class ControlError(Exception):
    """The base of the errors of this package: a fact and its remedy."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message if not remedy else f"{message}: {remedy}")
        self.message = message
        self.remedy = remedy


class RequestRefused(ControlError):
    """The daemon does not do what the request asks.

    The daemon's methods raise it, it travels as the `error` of the answer, and the client raises
    it again. `code` is one of ErrorCode, or a word that a newer daemon knows.
    """

    def __init__(self, code: str, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.code = str(code)

    def to_json(self) -> dict[str, object]:
        """Return the `error` object of an answer."""
        return {"code": self.code, "message": self.message, "remedy": self.remedy}


class DaemonAbsent(ControlError):
    """Nobody listens on the socket of this gateway, or several gateways do and none was named."""


class AccessDenied(ControlError):
    """The socket is there, and this user may not speak on it."""


class DaemonSilent(ControlError):
    """The daemon took the request and gave no answer in time, or hung up over it."""


class DaemonMisbehaved(ControlError):
    """What the daemon sent is not an answer: another program, or another version of ours."""
