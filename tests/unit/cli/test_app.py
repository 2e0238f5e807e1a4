"""The commands, run as people run them, against a real control server with fixed answers."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Run
from tests.unit.control.serving import ESP, LIMIT_S, STATUS, STOPPED, Gateway, serving
from throughway import __version__
from throughway.service.happenings import EVENTS_MAX


@pytest.fixture
def path(runtime_directory: Path) -> Path:
    return runtime_directory / "default.sock"


AT = datetime(2026, 11, 22, 17, 9, 28, 456000, UTC)


def test_version(throughway: Run) -> None:
    assert throughway("--version").stdout == f"throughway {__version__}\n"


def test_help_lists_all_commands_and_imports_none_of_them() -> None:
    script = (
        "import sys\nfrom throughway.__main__ import app\n"
        "try:\n    app(['--help'], prog_name='throughway')\n"
        "except SystemExit:\n    pass\n"
        "heavy = ('rich', 'pydantic', 'asyncio', 'structlog', 'throughway.lab', 'throughway.diagnose')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=LIMIT_S)
    words = done.stdout.split()
    assert [name for name in ("up", "status", "sessions", "down", "doctor", "lab") if name not in words] == []
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", ["lab", "doctor"])
def test_commands_of_other_packages_have_their_own_help(throughway: Run, command: str) -> None:
    done = throughway(command, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: throughway {command} ")


def test_completion_knows_commands_gateways_and_those_of_the_lab(throughway: Run, path: Path) -> None:
    def completions(line: str) -> list[str]:
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - (not line.endswith(" ")))}
        done = throughway(_THROUGHWAY_COMPLETE="complete_bash", _TYPER_COMPLETE_ARGS=line, **words)
        return done.stdout.split()

    with serving(path):
        assert completions("throughway se") == ["sessions"]
        assert completions("throughway status --gateway ") == ["default"]
    assert "run" in completions("throughway lab ")


def test_status_for_people(throughway: Run, path: Path) -> None:
    with serving(path):
        done = throughway("status")
    assert done.returncode == 0
    for words in (
        "Gateway default is up, for 1d 2h now",
        "wan0, 192.0.2.2",
        "44.0 MiB",
        "1,190  TRANSLATED_TO_INSIDE",
        "19 flows (wireguard 17, ike 2) by 1,234 first packets",
        "5 lost because a sender began too many flows",
        "warning: table ip filter drops what is forwarded",
        "  nft insert rule ip filter FORWARD meta mark & 0x10000000 != 0 accept",
        "restart the daemon to bring them together",
    ):
        assert words in done.stdout
    assert "MALFORMED" not in done.stdout


def test_status_without_address_and_packets_says_what_that_means(throughway: Run, path: Path) -> None:
    status = replace(STATUS, version=__version__, outside_address=None, reasons={}, findings=(), adopted=4)
    with serving(path, gateway=Gateway(status=status)):
        done = throughway("status")
    assert "wan0, no IPv4 address; nothing is translated until it has one" in done.stdout
    assert "No packet of a VPN has come by yet." in done.stdout
    assert "4 taken over from an earlier run" in done.stdout
    assert "restart" not in done.stdout


def test_json_is_the_document_of_the_contract(throughway: Run, path: Path) -> None:
    with serving(path):
        assert json.loads(throughway("status", "--json").stdout) == replace(STATUS, sessions=1).to_json()
        assert json.loads(throughway("sessions", "--json").stdout) == {"sessions": [ESP.to_json()]}


def test_sessions_in_a_pipe_have_one_line_each(throughway: Run, path: Path) -> None:
    with serving(path):
        done = throughway("sessions")
    assert "10.77.0.11  esp       203.0.113.20  0x1234abcd    1,204  0x9f00aa11    1,190  carrying data" in done.stdout


def test_a_session_is_found_by_its_device_where_that_has_one_alone(throughway: Run, path: Path) -> None:
    other = replace(ESP, id="gre-10.77.0.11-203.0.113.30", protocol="gre")
    with serving(path, gateway=Gateway((STOPPED,))):
        assert throughway("sessions", "show", STOPPED.device).stdout.startswith(STOPPED.id)
    with serving(path, gateway=Gateway((STOPPED, other))):
        several = throughway("sessions", "show", STOPPED.device)
    assert several.returncode == 1
    assert several.stderr.splitlines() == [
        "throughway: 10.77.0.11 has 2 sessions",
        f"  name one of them: {STOPPED.id}, {other.id}",
    ]


def test_one_session_in_full(throughway: Run, path: Path) -> None:
    with serving(path, gateway=Gateway((STOPPED,))):
        done = throughway("sessions", "show", STOPPED.id)
        assert json.loads(throughway("sessions", "show", STOPPED.id, "--json").stdout) == STOPPED.to_json()
        gone = throughway("sessions", "show", "nobody")
    assert [line.rstrip() for line in done.stdout.splitlines()] == [
        "ipsec-10.77.0.11-203.0.113.20",
        "10.77.0.11 with 203.0.113.20, which sees 192.0.2.2",
        "ipsec (ike, esp); 3m 2s old, idle for 0s",
        "",
        "Timeline, UTC",
        "17:09:28.456  started  first packet to 203.0.113.20, UDP 500",
        "17:09:41.001  stopped  ipsec.one-way",
        "Flows",
        "esp: waiting, carried by bpf",
        "  to peer    4 packets, 400 B  0x1234abcd",
        "  to inside  0 packets, 0 B    -",
        "  ESP, SPI 0x1234abcd, IP protocol 50",
        "",
        "4 packets of ESP went to 203.0.113.20 and none came back.",
        "Switch on NAT traversal.",
    ]
    assert (gone.returncode, gone.stderr) == (1, "throughway: there is no session 'nobody'\n  list them\n")


def test_events_are_printed_and_followed_until_interrupted(throughway: Run, path: Path) -> None:
    gateway = Gateway()
    gateway.happenings.add("session.ended", {"session": ESP.id, "cause": "idle for 900 s"}, AT)
    with serving(path, gateway=gateway):
        assert throughway("events").stdout == (
            f'2026-11-22T17:09:28.456Z  session.ended          session={ESP.id} cause="idle for 900 s"\n'
        )
        (line,) = throughway("events", "--json").stdout.splitlines()
        assert json.loads(line)["fields"] == {"session": ESP.id, "cause": "idle for 900 s"}
        assert throughway("events", "--after", json.loads(line)["cursor"]).stdout == ""
        following = subprocess.Popen(
            [sys.executable, "-m", "throughway", "events", "--follow", "--json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert following.stdout is not None
        assert following.stdout.readline() == f"{line}\n"
        gateway.happenings.add("session.started", {"session": ESP.id}, AT)
        assert json.loads(following.stdout.readline())["name"] == "session.started"
        following.send_signal(signal.SIGINT)
        rest, errors = following.communicate(timeout=LIMIT_S)
    assert (following.returncode, rest, errors) == (0, "", "")


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ("0a1b2c3d-1", "(4 events were missed: they came faster than they were read)"),
        ("ffffffff-1", "(the daemon was started anew; what it told before that is gone)"),
    ],
)
def test_reader_is_told_what_it_missed(throughway: Run, path: Path, after: str, words: str) -> None:
    gateway = Gateway()
    for number in range(EVENTS_MAX + 5):
        gateway.happenings.add("thing.happened", {"number": number}, AT)
    with serving(path, gateway=gateway):
        lines = throughway("events", "--after", after).stdout.splitlines()
        first = json.loads(throughway("events", "--after", after, "--json").stdout.splitlines()[0])
    assert lines[0] == words
    assert lines[1].endswith("number=5")
    assert len(lines) == EVENTS_MAX + 1
    assert first == {"name": "events.missed", "fields": {"count": 4 if "missed" in words else None}}


def test_no_session_says_the_fact_and_what_to_do(throughway: Run, path: Path) -> None:
    with serving(path, gateway=Gateway(())):
        done = throughway("sessions")
        assert json.loads(throughway("sessions", "--json").stdout) == {"sessions": []}
    assert done.returncode == 0
    assert done.stdout.startswith("No VPN passes gateway default at the moment.\nStart one on a device behind lan0")


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["status", "--json"],
        ["sessions"],
        ["sessions", "--watch"],
        ["sessions", "--watch", "--json"],
        ["sessions", "show", "ID"],
        ["events"],
    ],
)
def test_no_daemon_names_the_remedy(throughway: Run, command: list[str]) -> None:
    done = throughway(*command)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "throughway: no daemon runs for gateway default\n  start it with `throughway up --inside IF --outside IF`\n"
    )


def test_several_gateways_have_to_be_told_apart(throughway: Run, runtime_directory: Path) -> None:
    with serving(runtime_directory / "attic.sock"), serving(runtime_directory / "office.sock"):
        done = throughway("status")
        assert done.returncode == 1
        assert done.stderr.startswith("throughway: 2 gateways run here: attic, office\n")
        assert throughway("status", "--gateway", "office").returncode == 0
        assert throughway("status", THROUGHWAY_GATEWAY="attic").returncode == 0


@pytest.mark.parametrize("keep", [True, False])
def test_down_returns_when_the_daemon_is_gone(throughway: Run, path: Path, keep: bool) -> None:
    with serving(path) as gateway:
        done = throughway("down", *(["--keep"] if keep else []))
        assert done.returncode == 0
        assert not path.exists()
        assert gateway.asked_to_keep is keep
    assert done.stdout.startswith("Gateway default is stopped." if keep else "Gateway default is down.")


def test_down_without_a_daemon_says_so(throughway: Run) -> None:
    done = throughway("down")
    assert done.returncode == 1
    assert done.stderr == "throughway: no daemon runs for gateway default\n  there is nothing to stop\n"


def test_a_reader_that_leaves_early_is_no_failure_of_ours(path: Path) -> None:
    many = tuple(replace(ESP, id=str(number), device=f"10.77.1.{number}") for number in range(250))
    with serving(path, gateway=Gateway(many * 4)):
        done = subprocess.run(
            ["sh", "-c", f"{sys.executable} -m throughway sessions | head -n 1"],
            check=False,
            capture_output=True,
            text=True,
            timeout=3 * LIMIT_S,
        )
    assert done.stdout.startswith("Gateway default - 1,000 sessions")
    assert done.stderr == ""


def test_watch_prints_documents_until_interrupted(path: Path) -> None:
    with serving(path):
        watching = subprocess.Popen(
            [sys.executable, "-m", "throughway", "sessions", "--watch", "--json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert watching.stdout is not None
        lines = [watching.stdout.readline() for _ in range(2)]
        watching.send_signal(signal.SIGINT)
        rest, errors = watching.communicate(timeout=LIMIT_S)
    assert [json.loads(line) for line in lines] == [{"sessions": [ESP.to_json()]}] * 2
    assert (watching.returncode, rest, errors) == (0, "", "")


def test_watch_redraws_in_place_and_outlives_a_restart_of_the_daemon(path: Path) -> None:
    with _on_a_terminal("sessions", "--watch") as (watching, terminal):
        with serving(path):
            watching.start()
            assert _reads(terminal, "10.77.0.11")
        assert _reads(terminal, "the daemon is gone, waiting for it")
        with serving(path, gateway=Gateway((replace(ESP, device="10.77.0.77"),))):
            assert _reads(terminal, "10.77.0.77")
            watching.interrupt()
            assert watching.exit_status() == 0
        assert "Traceback" not in terminal.seen
        assert "\x1b[2K" in terminal.seen


class _Terminal:
    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.seen = ""


class _Watching:
    def __init__(self, arguments: tuple[str, ...], slave: int) -> None:
        self._arguments, self._slave = arguments, slave
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "throughway", *self._arguments],
            stdin=self._slave, stdout=self._slave, stderr=self._slave,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "160", "LINES": "24"},
        )  # fmt: skip

    def interrupt(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)

    def exit_status(self) -> int:
        assert self._process is not None
        return self._process.wait(LIMIT_S)

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(LIMIT_S)


@contextmanager
def _on_a_terminal(*arguments: str) -> Iterator[tuple[_Watching, _Terminal]]:
    master, slave = pty.openpty()
    watching = _Watching(arguments, slave)
    try:
        yield watching, _Terminal(master)
    finally:
        watching.end()
        os.close(master)
        os.close(slave)


def _reads(terminal: _Terminal, words: str) -> bool:
    """Read what the terminal shows until the words appear; whether they did within the limit."""
    os.set_blocking(terminal.descriptor, False)
    deadline = time.monotonic() + LIMIT_S
    fresh = ""
    while words not in fresh and time.monotonic() < deadline:
        try:
            text = os.read(terminal.descriptor, 1 << 16).decode()
        except BlockingIOError:
            time.sleep(0.02)
            continue
        fresh += text
        terminal.seen += text
    return words in fresh
