"""Errors say who is to blame and what to do."""


class ThroughwayError(Exception):
    """The base of all our errors."""


class SettingsRejected(ThroughwayError):
    """The operator asked for what cannot be. `key` is the path of the setting or the name of the option."""

    def __init__(self, key: str, remedy: str) -> None:
        super().__init__(f"{key}: {remedy}")
        self.key = key
        self.remedy = remedy


class KernelRefused(ThroughwayError):
    """The kernel refused an operation. `what` is the object, `answer` the kernel's words, `errno` its number."""

    def __init__(self, what: str, errno: int, answer: str, remedy: str = "") -> None:
        super().__init__(f"{what}: {answer}" + (f". {remedy}" if remedy else ""))
        self.what = what
        self.errno = errno
        self.remedy = remedy


class InvariantBroken(ThroughwayError):
    """The fault is ours. The session goes, the state is dumped."""
