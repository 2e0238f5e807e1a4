"""The wheel and the source archive hold what the gateway and the lab need where there is no checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OBJECT = "throughway/dataplane/objects/throughway.bpf.o"
BENCH_OBJECT = "throughway/bench/objects/bench.bpf.o"
NEVER_COPIED = (".git", ".venv", "build", "dist", "__pycache__", ".*_cache", ".hypothesis")

pytestmark = pytest.mark.full


def build(source: Path, target: str, folder: Path, *, path: str | None = None) -> Path:
    """Build one distribution from a folder; with `path`, programs are looked for there alone."""
    environment = dict(os.environ) if path is None else {**os.environ, "PATH": path}
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stdout + done.stderr)
    (built,) = folder.iterdir()
    return built


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the checkout as git has it: without a compiled object."""
    copy = tmp_path / "source"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*NEVER_COPIED, "*.bpf.o"))
    return copy


def unpacked(archive: Path, folder: Path) -> Path:
    folder.mkdir()
    subprocess.run(["tar", "--extract", "--file", archive, "--directory", folder], check=True)
    (top,) = folder.iterdir()
    return top


def test_the_wheel_holds_the_object_and_the_guests_files(source: Path, tmp_path: Path) -> None:
    names = zipfile.ZipFile(build(source, "wheel", tmp_path / "wheel")).namelist()
    assert {OBJECT, BENCH_OBJECT} <= set(names)
    shipped = {f"throughway/lab/guest/{file.name}" for file in (ROOT / "src/throughway/lab/guest").glob("*.sh")}
    assert shipped
    assert shipped <= set(names)


def test_the_source_archive_builds_the_same_wheel_without_a_compiler(source: Path, tmp_path: Path) -> None:
    top = unpacked(build(source, "sdist", tmp_path / "sdist"), tmp_path / "unpacked")
    wheel = build(top, "wheel", tmp_path / "wheel", path="/nonexistent")
    compiled = source / "src" / OBJECT
    assert zipfile.ZipFile(wheel).read(OBJECT) == compiled.read_bytes()


def test_a_checkout_without_object_and_compiler_says_what_is_missing(source: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="apt-get install clang llvm libbpf-dev"):
        build(source, "wheel", tmp_path / "wheel", path="/nonexistent")
