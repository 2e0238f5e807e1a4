"""What the tests of the core share."""

from collections.abc import Iterator

import pytest

from tests.unit.core.playbook import Playbook


@pytest.fixture
def play() -> Iterator[Playbook]:
    """A conversation with a new tracker, whose last answer must be explained too."""
    playbook = Playbook()
    yield playbook
    playbook.finish()
