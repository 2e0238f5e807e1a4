"""Time for the laws: a failing one is made small before it is shown, and more examples take longer."""

from pathlib import Path

import pytest
from hypothesis import settings


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each property time by its number of examples."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.timeout(600 + settings().max_examples // 5))
