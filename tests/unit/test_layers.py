"""The pure layers import nothing that could do I/O, read a clock or throw dice.

import-linter (pyproject.toml) holds the rules between our packages and against packages of others; this is what it
does not see: the standard library.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"

CORE = {
    "bisect",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "heapq",
    "ipaddress",
    "itertools",
    "math",
    "types",
    "typing",
}

MAY_IMPORT = {
    "throughway.core": CORE,
    "throughway.catalogue": CORE | {"re", "tomllib"},
    "throughway.detect": CORE,
    "throughway.wire": CORE | {"struct"},
    "throughway.simulate": CORE | {"random"},
    "throughway.switches": CORE | {"difflib", "re", "tomlkit", "tomllib"},
}
"""The standard library that a layer may use; `throughway` itself is import-linter's business."""


FACES = {"cli.py"}
"""The file of a pure package that speaks to people."""


def files_of(package: str) -> list[Path]:
    return sorted(file for file in (SOURCE / package.replace(".", "/")).rglob("*.py") if file.name not in FACES)


def imported_by(source: str) -> Iterator[str]:
    """Name the top-level package of every import, wherever it stands in the file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "throughway" if node.level else (node.module or "").partition(".")[0]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_pure_layer_imports_only_what_is_pure(package: str) -> None:
    files = files_of(package)
    assert files, f"{package} has no files"
    foreign = {
        f"{file.relative_to(SOURCE)}: {name}"
        for file in files
        for name in imported_by(file.read_text())
        if name != "throughway" and name not in MAY_IMPORT[package]
    }
    assert foreign == set()


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_pure_layer_opens_nothing_by_a_builtin(package: str) -> None:
    """`open`, `print` and `input` are I/O that needs no import; `__import__` and `eval` go around the rule above."""
    forbidden = {"open", "print", "input", "__import__", "eval", "exec"}
    called = {
        f"{file.relative_to(SOURCE)}:{node.lineno}: {node.func.id}"
        for file in files_of(package)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in forbidden
    }
    assert called == set()


def test_an_import_inside_a_function_is_seen() -> None:
    assert set(imported_by("def f():\n    import os.path\n    from time import sleep\n")) == {"os", "time"}
