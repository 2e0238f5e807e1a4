"""Labs for tests. What cannot run here is skipped, with what is missing and how to install it."""

import io
import signal
from collections.abc import Iterator

import pytest
from rich.console import Console

from throughway.lab import programs
from throughway.lab.progress import Progress
from throughway.lab.scenarios import SCENARIOS
from throughway.lab.testbed import Testbed


def pytest_configure(config: pytest.Config) -> None:
    """Name the marks that say what a test of the lab needs, and let what it starts be interrupted.

    In the background of a shell SIGINT is ignored, also by what is started there.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "scenario(*names): needs the programs of these scenarios of the lab")
    config.addinivalue_line("markers", "guest: needs a user-mode-linux guest")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked with scenarios that cannot run here; unmarked ones need what every lab needs."""
    for item in items:
        if "tests/lab/" not in item.path.as_posix():
            continue
        names = [name for mark in item.iter_markers("scenario") for name in mark.args]
        needed = [program for name in names for program in SCENARIOS[name].programs]
        if item.get_closest_marker("guest"):
            needed += programs.GUEST
        missing = programs.what_is_missing(needed)
        if missing is not None:
            item.add_marker(pytest.mark.skip(reason=missing))


@pytest.fixture
def quiet() -> Progress:
    return Progress(Console(file=io.StringIO()))


@pytest.fixture
def bed() -> Iterator[Testbed]:
    with Testbed() as made:
        yield made
