"""The hashed requirement files hold what pyproject.toml names, and nothing that belongs to one machine."""

import re
import tomllib
from pathlib import Path

import pytest

from throughway.lab.programs import PACKAGES

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FILES = ("run", "build", "dev")


def locked(name: str) -> dict[str, str]:
    """Read the packages of a file with their versions."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))


def named(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=~!\[; ]", requirement)[0].lower() for requirement in requirements}


def test_every_dependency_is_locked() -> None:
    project = PROJECT["project"]
    assert named(project["dependencies"]) <= locked("run").keys()
    assert named(PROJECT["build-system"]["requires"]) <= locked("build").keys()
    assert named(project["optional-dependencies"]["dev"]) <= locked("dev").keys()


def test_a_package_has_one_version_in_all_files() -> None:
    everything = locked("dev")
    for name in ("run", "build"):
        assert locked(name).items() <= everything.items()


@pytest.mark.parametrize("name", FILES)
def test_every_package_has_hashes_and_no_address(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    blocks = re.split(r"^(?=[a-z0-9-]+==)", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(locked(name))
    assert all("--hash=sha256:" in block for block in blocks)
    assert re.findall(r"://|file:|^\s*--(?!hash)\S+|^-\S+", text, re.MULTILINE) == []


def test_the_packages_of_the_lab_are_installed_by_the_setup() -> None:
    lines = (ROOT / "requirements" / "debian.txt").read_text().splitlines()
    installed = {line.split()[1] for line in lines if line and not line.startswith("#")}
    assert set(PACKAGES.values()) <= installed
