"""Whether a session took its six steps, as the daemon tells it."""

from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import Final

from throughway.control.session_schema import Session

STEPS: Final = ("started", "detected", "translated", "forwarded", "established", "carrying data")

ROUTER: Final = "router"
"""What the daemon calls the device where the VPN is the router's own."""


def fault_of(session: Session) -> str:
    """Say what is missing until a session carries data, step by step with evidence, and undisturbed.

    Empty when nothing is.
    """
    names = tuple(taken.step for taken in session.steps)
    if names != STEPS:
        return f"took the steps {', '.join(names) or 'none'}"
    bare = [taken.step for taken in session.steps if not taken.evidence]
    if bare:
        return f"has no evidence of: {', '.join(bare)}"
    ages = [taken.ago_s for taken in session.steps]
    if ages != sorted(ages, reverse=True):
        return f"took the steps in another order: {ages} s ago"
    if session.diagnosis is not None:
        return f"is diagnosed with {session.diagnosis.code}: {session.diagnosis.fact}"
    return ""


def fault_among(sessions: Iterable[Session], device: str, server: IPv4Address) -> str:
    """Say what is missing until a device carries data to a server: the fault of its latest session there."""
    ends = (device, str(server))
    own = [session for session in sessions if (session.device, session.peer) == ends and not session.ended]
    if not own:
        return "has no session"
    faults = [fault_of(session) for session in sorted(own, key=lambda session: session.age_s)]
    # A device that came back on another port leaves a session behind that nothing follows.
    return "" if "" in faults else faults[0]
