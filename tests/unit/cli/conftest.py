"""A folder of sockets for each test, and the command line as people start it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.control.serving import LIMIT_S

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def runtime_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the tests away from gateways that run here."""
    monkeypatch.setenv("THROUGHWAY_RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.delenv("THROUGHWAY_GATEWAY", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)
    return tmp_path


@pytest.fixture
def throughway() -> Run:
    """Run the real command line to its end."""

    def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "throughway", *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=3 * LIMIT_S,
            env={**os.environ, **environment},
        )

    return run
