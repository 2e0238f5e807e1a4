"""The daemon as a process of its own, and what it says."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from tests.kernel.bpf_plane.net import Network
from tests.kernel.daemon.net import LIMIT_S, wait_for
from throughway.control.client import ControlClient
from throughway.control.schema import Status
from throughway.control.session_schema import Session, SessionFlow

SOURCE = Path(__file__).parents[3] / "src"
SHARED = {each.name for each in fields(Session)} & {each.name for each in fields(SessionFlow)}
INSIDES = ("--inside", "in0", "--inside", "in1")
BOTH = (*INSIDES, "--outside", "out0")

WITH_LIMITS = """
import asyncio, json, sys
from throughway.core.limits import Limits
from throughway.service.daemon import Daemon
from throughway.service.options import parse
limits = Limits(**json.loads(sys.argv[1]))
sys.exit(not asyncio.run(Daemon(parse(sys.argv[2:]), limits).run()))
"""
"""The daemon as `python -m throughway.service` runs it, but with limits of the test's."""


@dataclass
class Daemon:
    """One `python -m throughway.service` in the router's namespace, started at most once."""

    net: Network
    log: Path
    gateway: str = "default"
    source: Path = SOURCE
    process: subprocess.Popen[bytes] | None = None
    limits: Mapping[str, float] = field(default_factory=dict)

    def run(self, *options: str, before: tuple[str, ...] = (), user: int | None = None) -> None:
        """Start it. `before` is a command that it is started by, such as one that changes its mounts."""
        command = ["nsenter", f"--net=/run/netns/{self.net.router}", *before]
        if user is not None:
            command += ["setpriv", f"--reuid={user}", "--clear-groups", "--no-new-privs"]
        program = ("-c", WITH_LIMITS, json.dumps(dict(self.limits))) if self.limits else ("-m", "throughway.service")
        command += [sys.executable, "-P", *program, "--gateway", self.gateway, *options]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(self.source), "PYTHONDONTWRITEBYTECODE": "1"},
            )

    def up(self, *options: str) -> "Daemon":
        """Start it, and wait until it says that it carries packets."""
        self.run(*(options or BOTH))
        assert self.process is not None
        process = self.process
        wait_for("the daemon starts", lambda: self.says("gateway.started") or process.poll() is not None)
        assert process.poll() is None, self.said()
        return self

    def said(self) -> str:
        return self.log.read_text()

    def says(self, words: str) -> bool:
        return words in self.said()

    def lines(self, name: str) -> list[str]:
        """Return the lines of one event."""
        return [line for line in self.said().splitlines() if f"] {name} " in f"{line} "]

    def status(self) -> Status:
        with ControlClient.of_gateway(self.gateway) as client:
            return client.status()

    def sessions(self, protocol: str = "esp") -> dict[str, Session]:
        """Return the sessions with flows of one protocol, by device, each with what is said of that flow."""
        with ControlClient.of_gateway(self.gateway) as client:
            return {
                row.device: replace(row, **{name: getattr(flow, name) for name in SHARED})
                for row in client.sessions()
                for flow in row.flows
                if flow.protocol == protocol
            }

    def down(self, *, keep: bool = False) -> int:
        """Stop it over its socket, and return its exit code."""
        with ControlClient.of_gateway(self.gateway) as client:
            client.down(keep=keep)
        return self.wait()

    def terminate(self, number: int = signal.SIGTERM) -> int:
        """Stop it as a system would, or a terminal, and return its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.wait()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Have it see nothing for as long as the block takes, as on a machine that is busy elsewhere."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it so that it can undo nothing. It does not harm when it has ended."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(LIMIT_S)

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(LIMIT_S)
