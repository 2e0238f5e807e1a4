"""The gateway under test, in the router's namespace: Throughway, or what a plain Linux router does."""

import sys
from enum import StrEnum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, Protocol

from throughway.control.client import ControlClient
from throughway.control.errors import ControlError
from throughway.control.event_schema import EventPage
from throughway.control.paths import runtime_directory, state_directory
from throughway.control.protocols_schema import Position, SwitchQuery
from throughway.control.schema import Session, Status
from throughway.lab.errors import LabFailed
from throughway.lab.namespace import HostTask, Namespace
from throughway.lab.topology import INSIDE_INTERFACE, OUTSIDE_INTERFACE
from throughway.lab.waiting import wait_until

PINS: Final = Path("/sys/fs/bpf/throughway")
START_LIMIT_S: Final = 20.0

MASQUERADE: Final = f"""
table inet plain {{
    chain forward {{
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname "{INSIDE_INTERFACE}" oifname "{OUTSIDE_INTERFACE}" accept
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        oifname "{OUTSIDE_INTERFACE}" masquerade
    }}
}}
"""


class GatewayKind(StrEnum):
    """What may stand between the devices and their servers."""

    THROUGHWAY = "throughway"
    MASQUERADE = "masquerade"


class Gateway(Protocol):
    """A gateway that can be started in the router's namespace."""

    @property
    def kind(self) -> GatewayKind:
        """Which one it is."""
        ...

    @property
    def give_up_s(self) -> float:
        """How long tunnels may take to come up behind it, from the start of the clients."""
        ...

    def start(self) -> None:
        """Start it, and return when it carries packets."""
        ...

    def stop(self) -> None:
        """Stop it; nothing happens when it does not run."""
        ...


class Masquerade:
    """One nftables table as every guide for a home router shows it. It ends with its namespace."""

    kind = GatewayKind.MASQUERADE
    give_up_s = 10.0
    """The first clients are up within 4 s; those that are not by then stay down."""

    def __init__(self, router: Namespace) -> None:
        self._router = router

    def start(self) -> None:
        """Load the table."""
        self._router.command("nft", "-f", "-", script=MASQUERADE)

    def stop(self) -> None:
        """Do nothing: the table ends with the namespace."""


class Throughway:
    """The daemon in the router's namespace, and what it says of itself."""

    kind = GatewayKind.THROUGHWAY
    give_up_s = 30.0

    def __init__(self, router: Namespace, name: str, *options: str) -> None:
        self.name = name
        self._router = router
        self._options = options
        self._task: HostTask | None = None

    @property
    def pid(self) -> int:
        """The daemon's process. Raises LabFailed when it was not started."""
        if self._task is None:
            raise LabFailed(f"gateway {self.name} was not started")
        return self._task.pid

    def start(self, limit_s: float = START_LIMIT_S) -> None:
        """Start the daemon and return when it answers.

        Raises LabFailed with its last words when it ends, GaveUp when it does not answer in time.
        """
        task = self._router.start(
            *(sys.executable, "-m", "throughway.service", "--gateway", self.name),
            *("--inside", INSIDE_INTERFACE, "--outside", OUTSIDE_INTERFACE),
            *self._options,
        )
        self._task = task

        def answers() -> bool:
            if task.status() is not None:
                raise LabFailed(f"the daemon ended with status {task.status()}: {task.output().strip()}", task.log)
            try:
                # A socket that an earlier daemon left must not pass for this one.
                return self.status().pid == task.pid
            except ControlError:
                return False

        wait_until(answers, limit_s, f"gateway {self.name} to answer", task.log)

    @property
    def has_ended(self) -> bool:
        """Whether the daemon is not running, for whatever cause."""
        return self._task is None or self._task.status() is not None

    def stop(self) -> None:
        """End the daemon with SIGTERM, as a system would, and return when it has ended."""
        if self._task is not None:
            self._task.stop()

    def kill(self) -> None:
        """End the daemon with SIGKILL, so that it can undo nothing."""
        if self._task is not None:
            self._task.kill()

    def status(self) -> Status:
        """Ask the daemon how the gateway is."""
        with ControlClient.of_gateway(self.name) as client:
            return client.status()

    def sessions(self) -> list[Session]:
        """Ask the daemon for all of its sessions."""
        with ControlClient.of_gateway(self.name) as client:
            return list(client.sessions())

    def events(self, after: str | None = None) -> EventPage:
        """Ask the daemon for what has happened after a cursor, or at all."""
        with ControlClient.of_gateway(self.name) as client:
            return client.events(after)

    def switch(self, name: str, to: Position) -> None:
        """Have the daemon switch a protocol or a family."""
        with ControlClient.of_gateway(self.name) as client:
            client.request("switch", SwitchQuery(name=name, position=to).to_json())

    def log(self) -> str:
        """Read what the daemon has logged so far."""
        return self._task.output() if self._task is not None else ""

    def sessions_of(self, device: IPv4Address) -> list[Session]:
        """Ask the daemon for the sessions of one device."""
        return [session for session in self.sessions() if session.device == str(device)]


def make(kind: GatewayKind, router: Namespace, name: str, *options: str) -> Gateway:
    """Return a gateway of this kind; `options` are further ones for the daemon."""
    return Throughway(router, name, *options) if kind is GatewayKind.THROUGHWAY else Masquerade(router)


def forget(name: str, router_inode: int | None) -> None:
    """Remove what a daemon leaves: pins of its namespace, files below /run/throughway, and what it has learned."""
    if router_inode is not None:
        for folder in PINS.glob(f"{router_inode}-*"):
            for pin in folder.iterdir():
                if pin.is_dir():  # a note
                    pin.rmdir()
                else:
                    pin.unlink()
            folder.rmdir()
    for folder in (runtime_directory(), state_directory()):
        for file in folder.glob(f"{name}.*"):
            file.unlink()
