"""What `throughway up` looks at before it becomes the daemon."""

import os
import subprocess
import sys

import pytest

from tests.unit.control.serving import LIMIT_S, serving
from throughway.cli.start import (
    CAPABILITIES,
    Attach,
    CannotStart,
    PortChoice,
    check_addresses,
    check_interfaces,
    check_privileges,
    daemon_arguments,
    daemon_command,
)
from throughway.control.paths import socket_path
from throughway.core.kept_ports import PortSetting

HERE = ["lan0", "wan0", "lo"]
ALL_CAPABILITIES = (1 << 41) - 1


def test_the_daemon_gets_the_options_and_imports_nothing_from_the_working_directory() -> None:
    arguments = daemon_arguments(["lan0", "lan1"], "wan0", "office", Attach.CLSACT, True, False)
    assert daemon_command(arguments) == [
        sys.executable, "-P", "-m", "throughway.service", "--inside", "lan0", "--inside", "lan1", "--outside", "wan0",
        "--gateway", "office", "--attach", "clsact", "--no-ipv6-ipsec", "--keep",
    ]  # fmt: skip


def test_the_daemon_gets_the_wishes_about_ports() -> None:
    chosen = daemon_arguments(["lan0"], "wan0", "x", Attach.AUTO, False, True, PortChoice.KEEP, PortChoice.TRANSLATE)
    assert chosen[-4:] == ["--ike-port", "keep", "--l2tp-port", "translate"]
    assert [choice.value for choice in PortChoice] == [setting.value for setting in PortSetting]


@pytest.mark.parametrize(
    ("inside", "outside", "words"),
    [
        ([], "wan0", "no inside interface is named"),
        (["lan0"], None, "no outside interface is named"),
        (["lan0"], "eth7", "there is no interface 'eth7'"),
        (["eth8"], "wan0", "there is no interface 'eth8'"),
        (["lan0"], "lan0", "lan0 is named as inside and outside"),
    ],
)
def test_interfaces_that_cannot_be_are_refused(inside: list[str], outside: str | None, words: str) -> None:
    with pytest.raises(CannotStart) as caught:
        check_interfaces(inside, outside, HERE)
    assert caught.value.message == words
    assert outside == "lan0" or "interfaces here: lan0, lo, wan0" in caught.value.remedy


def test_interfaces_that_are_here_are_taken() -> None:
    check_interfaces(["lan0"], "wan0", HERE)


def test_the_short_path_is_switched_off_in_the_daemon() -> None:
    arguments = daemon_arguments(["lan0"], "wan0", "office", Attach.AUTO, False, True, short_path=False)
    assert "--no-short-path" in arguments


def test_the_daemon_gets_the_outside_addresses() -> None:
    given = ["192.0.2.2", "192.0.2.3"]
    arguments = daemon_arguments(["lan0"], "wan0", "office", Attach.AUTO, False, True, outside_addresses=given)
    assert [arguments[at + 1] for at, word in enumerate(arguments) if word == "--outside-address"] == given


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["192.0.2.300"], "'192.0.2.300' is no IPv4 address"),
        (["2001:db8::1"], "'2001:db8::1' is no IPv4 address"),
        (["192.0.2.2", "192.0.2.2"], "an outside address is named twice"),
    ],
)
def test_addresses_that_cannot_be_are_refused(given: list[str], words: str) -> None:
    with pytest.raises(CannotStart) as caught:
        check_addresses(given)
    assert caught.value.message == words
    check_addresses(["192.0.2.2", "192.0.2.3"])


def test_who_is_not_root_gets_the_command_that_works() -> None:
    with pytest.raises(CannotStart, match="only root may") as caught:
        check_privileges(1000, 0, ["--inside", "lan0", "--outside", "wan 0"])
    assert caught.value.remedy == "run `sudo throughway up --inside lan0 --outside 'wan 0'`"


def test_root_in_a_container_is_told_which_capabilities_it_lacks() -> None:
    without_bpf = ALL_CAPABILITIES & ~(1 << CAPABILITIES["CAP_BPF"])
    with pytest.raises(CannotStart, match="this root lacks CAP_BPF:"):
        check_privileges(0, without_bpf, [])
    check_privileges(0, ALL_CAPABILITIES, [])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a network namespace of its own")
def test_up_becomes_the_daemon_which_speaks_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("THROUGHWAY_RUNTIME_DIRECTORY")
    gateway = f"test-{os.getpid()}"
    command = (
        "ip link add wan0 type veth peer name far0 && "
        f"exec {sys.executable} -m throughway up --inside lo --outside wan0 --gateway {gateway}"
    )
    with serving(socket_path(gateway)):
        ended = subprocess.run(
            ["unshare", "--net", "sh", "-c", command], check=False, capture_output=True, text=True, timeout=3 * LIMIT_S
        )
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"throughwayd: --gateway: a daemon already runs for gateway {gateway}: stop it with")
