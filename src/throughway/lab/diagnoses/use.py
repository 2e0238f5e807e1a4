"""One client of a VPN in use: pings that go on whatever becomes of the tunnel, and what the daemon says of it.

When a diagnosis was told is read from the daemon's events. To ask for sessions has the counters read at once, which
would find out sooner than the daemon does by itself.
"""

import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from throughway.control.event_schema import HappenedEvent
from throughway.control.session_schema import Session
from throughway.lab.captured import read
from throughway.lab.checked import Check
from throughway.lab.diagnoses.evidence import Evidence
from throughway.lab.gateway import Throughway
from throughway.lab.peers.client import Client, Peers
from throughway.lab.ping import RETRY_S, USUAL_BYTES, Pinging
from throughway.lab.testbed import Testbed
from throughway.lab.waiting import holds_within, wait_until
from throughway.lab.walked import fault_among

STOPPED: Final = "session.stopped"

NAMED_WITHIN_S: Final = 15.0
"""From the last packet that is needed as evidence."""

WATCHED_S: Final = 40.0
"""How long a diagnosis is waited for in all: the evidence takes its time too."""

WELL_FOR_S: Final = 20.0
"""How long a tunnel without trouble is watched for a diagnosis that is none."""

END_LIMIT_S: Final = 10.0
CARRIES_WITHIN_S: Final = 30.0
PING_EVERY_S: Final = 0.2


@dataclass
class Use:
    """A client that somebody uses: it is pinged through, and one that `revives` is started again when it ends."""

    bed: Testbed
    gateway: Throughway
    peers: Peers
    number: int = 1
    revives: bool = False
    ping_bytes: int = USUAL_BYTES
    stops: list[HappenedEvent] = field(default_factory=list, init=False)
    """What the daemon has told of the trouble of the device with the server, the first first."""

    def __post_init__(self) -> None:
        self.client: Client = self.peers.client(self.number)
        self._pinging: Pinging | None = None
        self._retry_at = 0.0
        self._is_quiet = False
        self._restarts = 0
        self._cursor: str | None = None

    def poll(self) -> None:
        """Start again what has ended."""
        now = time.monotonic()
        if now < self._retry_at:
            return
        self._retry_at = now + RETRY_S
        if self._has_ended():
            self.start_again()
        if self._pinging is not None and self._pinging.has_ended():
            self._pinging = None
        if self._pinging is None and not self._is_quiet and self.client.may_ping():
            client = self.client
            self._pinging = Pinging(
                client.place, client.device, client.target, interval_s=PING_EVERY_S, size_bytes=self.ping_bytes
            )

    def start_again(self) -> None:
        """End the client, start it anew, and ping through what that makes."""
        self._restarts += 1
        self.be_quiet()
        task = self.client.task
        if task.status() is None:
            task.interrupt()
            wait_until(lambda: task.status() is not None, END_LIMIT_S, f"{task.label} to end")
        self._is_quiet = False
        self.client = self.peers.client(self.number)

    def be_quiet(self) -> None:
        """Send nothing more."""
        self._is_quiet = True
        if self._pinging is not None:
            self._pinging.stop()
            self._pinging = None

    def answers(self) -> int:
        """How many of the present pings were answered."""
        self.poll()
        return len(self._pinging.tally().answered) if self._pinging is not None else 0

    def is_quiet_for(self, quiet_s: float) -> bool:
        """Whether the device has sent nothing to the server for so long."""
        sent = (
            captured.at_s
            for captured in read(self.bed.captures[0])
            if captured.packet[12:20] == self.client.address.packed + self.client.server.packed
        )
        return time.time() - max(sent, default=0.0) >= quiet_s

    def speak(self, size_bytes: int = USUAL_BYTES) -> float:
        """Send pings of this size from now on, and return what the wall clock says."""
        self.be_quiet()
        self.ping_bytes = size_bytes
        self._is_quiet = False
        self._retry_at = 0.0
        began_s = time.time()
        self.poll()
        return began_s

    def sessions(self) -> list[Session]:
        """What the daemon says of the device and the server."""
        ends = (str(self.client.address), str(self.client.server))
        return [one for one in self.gateway.sessions() if (one.device, one.peer) == ends]

    def is_in_trouble(self) -> bool:
        """Whether the daemon has told of trouble since the client was started."""
        self.poll()
        page = self.gateway.events(self._cursor)
        self._cursor = page.next
        self.stops += [event for event in page.events if event.name == STOPPED and self._is_ours(event)]
        return bool(self.stops)

    def carries(self, when: str) -> Check:
        """Check that pings are answered, all six steps were taken, and nothing is said to be wrong."""
        fault = "was not looked at"

        def is_well() -> bool:
            nonlocal fault
            fault = fault_among(self.sessions(), str(self.client.address), self.client.server)
            if not self.answers():
                fault = f"no ping is answered; it {fault}"
            return not fault

        began = time.monotonic()
        is_well_in_time = holds_within(is_well, CARRIES_WITHIN_S)
        after = f"after {time.monotonic() - began:.1f} s"
        again = f", started again {self._restarts} times" if self._restarts else ""
        return Check(f"{self.client.name} {when}", is_well_in_time, (fault or after) + again)

    def is_named(self, code: str, evidence: Evidence | None, since_s: float, *, limit_s: float) -> Check:
        """Check that a diagnosis is the first that is told, and soon after the last packet that shows it.

        What needs no packet as evidence is to be named soon after `since_s`, by the wall clock.
        """
        what = f"{code} is named within {NAMED_WITHIN_S:g} s of {evidence.words if evidence else 'its cause'}"
        if not holds_within(self.is_in_trouble, limit_s):
            return Check(what, False, f"nothing is, for {limit_s:g} s; {self._states()}")
        told, fact = str(self.stops[0].fields["code"]), self.stops[0].fields["fact"]
        capture, device = self.bed.captures[0], self.client.address
        shown_s = evidence.complete_at(capture, device, since_s) if evidence else since_s
        if shown_s is None:
            return Check(what, False, f"{told} is named before that: {fact}")
        took_s = datetime.fromisoformat(self.stops[0].at).timestamp() - shown_s
        said = [one.diagnosis.code for one in self.sessions() if one.diagnosis is not None]
        passed = told == code and said == [code] and took_s <= NAMED_WITHIN_S
        return Check(what, passed, f"{told} after {took_s:.1f} s: {fact}")

    def _is_ours(self, event: HappenedEvent) -> bool:
        """Whether it is of a session of the device with the server, whose ID is FAMILY-DEVICE-PEER and what follows."""
        _, found, behind = str(event.fields["session"]).partition(f"-{self.client.address}-{self.client.server}")
        return bool(found) and behind[:1] in ("", "-", ".")

    def _has_ended(self) -> bool:
        return self.revives and self.client.task.status() is not None

    def _states(self) -> str:
        said = [f"{one.id}: {one.step or 'no step'}{', ended' if one.ended else ''}" for one in self.sessions()]
        return "; ".join(said) or "no session"
