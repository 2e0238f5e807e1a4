"""Compile the BPF programs into the package when a wheel or a source archive is built."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

OBJECTS = (
    Path("src/throughway/dataplane/objects/throughway.bpf.o"),
    Path("src/throughway/bench/objects/bench.bpf.o"),
)
COMPILER = "clang"


class BpfBuildHook(BuildHookInterface[Any]):
    """Put the BPF objects in place before the files of the package are collected."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the object, or take the one that the source archive brought.

        An editable installation compiles nothing: there the objects belong to the checkout, and
        script/setup builds them whenever bpf/ changes. A compiler that is there and refuses our
        code is an error even if an older object lies about.
        """
        if version == "editable":
            return
        root = Path(self.root)
        if shutil.which(COMPILER):
            subprocess.run([root / "script" / "build-bpf"], cwd=root, check=True)
            return
        for path in OBJECTS:
            if not (root / path).is_file():
                raise FileNotFoundError(
                    f"{path} has to be compiled and {COMPILER} is missing: apt-get install clang llvm libbpf-dev"
                )
