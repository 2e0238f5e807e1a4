"""What can go wrong in the lab itself, apart from a tunnel that stays down."""

from pathlib import Path

from throughway.core.errors import ThroughwayError


class LabFailed(ThroughwayError):
    """The lab could not do its part: no tunnel was tested. `log` is the file that says more."""

    def __init__(self, what: str, log: Path | None = None) -> None:
        super().__init__(f"{what} (see {log})" if log else what)
        self.log = log


class GaveUp(LabFailed):
    """What was waited for did not come within its limit."""

    def __init__(self, what: str, limit_s: float, log: Path | None = None) -> None:
        super().__init__(f"gave up after {limit_s:g} s waiting for {what}", log)
        self.limit_s = limit_s
