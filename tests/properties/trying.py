"""One law over some histories, in a process of its own."""

from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from typing import Any, Final

from hypothesis import HealthCheck, given, seed, settings
from hypothesis.strategies import SearchStrategy

from tests.fuzz.running import Finding
from tests.properties.test_laws_can_fail import CONTROLS

Law = tuple[Callable[..., None], tuple[SearchStrategy[Any], ...]]
LAWS: Final[dict[str, Law]] = {law.__name__.removeprefix("test_"): (law, drawn) for law, drawn, _ in CONTROLS}


def try_law(name: str, of: str, count: int) -> list[Finding]:
    """Try a law on so many histories, and return the smallest that breaks it."""
    law, drawn = LAWS[name]
    body = law.hypothesis.inner_test  # type: ignore[attr-defined]
    tried = settings(
        max_examples=count,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    try:
        with redirect_stdout(StringIO()):
            tried(seed(f"{name} {of}")(given(*drawn)(body)))()
    except Exception as problem:
        notes = "\n".join(getattr(problem, "__notes__", []))
        return [Finding(name, f"seed {of}: {type(problem).__name__}: {problem}\n{notes}", b"")]
    return []
