"""Loads the programs, on the tables of an earlier run where they fit, on fresh ones else."""

import struct
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from throughway.core.errors import KernelRefused
from throughway.core.limits import Limits
from throughway.dataplane import abi, heads
from throughway.dataplane.libbpf import BpfObject
from throughway.dataplane.libbpf_maps import BpfMap
from throughway.dataplane.pins import GatewayFolder

OBJECT: Final = Path(__file__).with_name("objects") / "throughway.bpf.o"
_PREFIX: Final = "map-"
_NEVER_KEPT: Final = frozenset(heads.TABLES)
"""Tables that are made anew at each start: what they know is known again from a flow's next packets."""


class Outcome(Enum):
    """What was found at the start."""

    FRESH = "fresh"
    """No tables of an earlier run."""
    ADOPTED = "adopted"
    """The tables of an earlier run, and they are in use now: known tunnels never stopped."""
    DISCARDED = "discarded"
    """Tables of an earlier run that this version cannot read. They are gone, and all tunnels are asked about again."""


@dataclass(frozen=True, slots=True)
class Adoption:
    """What became of an earlier run's tables; `detail` says why they were discarded."""

    outcome: Outcome
    detail: str = ""


def load(folder: GatewayFolder, limits: Limits, path: Path = OBJECT) -> tuple[BpfObject, Adoption]:
    """Load the object file, and pin its tables. Adopted tables keep the size that they were made with."""
    adoption, tables = _find(folder)
    try:
        if adoption.outcome is Outcome.DISCARDED:
            _unpin_all(folder)
        try:
            loaded = _load(folder, limits, path, {name: table.fd for name, table in tables.items()})
        except KernelRefused as refused:
            if not tables:
                raise
            _unpin_all(folder)
            loaded = _load(folder, limits, path, {})
            adoption = Adoption(Outcome.DISCARDED, f"the programs do not load on them: {refused}")
    finally:
        for table in tables.values():
            table.close()
    return loaded, adoption


def _find(folder: GatewayFolder) -> tuple[Adoption, dict[str, BpfMap]]:
    """Open what an earlier run has pinned, if its layout is ours."""
    tables: dict[str, BpfMap] = {}
    for name in folder.names():
        descriptor = folder.get(name) if name.startswith(_PREFIX) else None
        if descriptor is not None:
            tables[name.removeprefix(_PREFIX)] = BpfMap(descriptor)
    if not tables:
        return Adoption(Outcome.FRESH), {}
    detail = _mismatch(tables)
    if not detail:
        return Adoption(Outcome.ADOPTED), tables
    for table in tables.values():
        table.close()
    return Adoption(Outcome.DISCARDED, detail), {}


def _mismatch(tables: dict[str, BpfMap]) -> str:
    """Say what keeps us from using these tables, or nothing."""
    config = tables.get("config")
    value = config.lookup(struct.pack("=I", 0)) if config is not None else None
    if value is None:
        return "they have no configuration"
    version = struct.unpack_from("=I", value)[0]
    if version != abi.LAYOUT_VERSION:
        return f"they have layout version {version}, this program reads version {abi.LAYOUT_VERSION}"
    for name, value_layout in (("mappings", "mapping"), ("fan_outs", "fan_out"), ("pending", "pending")):
        table = tables.get(name)
        if table is None:
            return f"the table {name} is missing"
        if (table.key_size, table.value_size) != (abi.LAYOUTS["flow_key"].size, abi.LAYOUTS[value_layout].size):
            return f"the table {name} has entries of other sizes"
    return ""


def _load(folder: GatewayFolder, limits: Limits, path: Path, reuse: dict[str, int]) -> BpfObject:
    sizes = {
        "mappings": limits.mappings_max,
        "senders": limits.mappings_max,
        "pending": limits.pending_max,
        "traces": limits.traces_max,
        "kept_ports": limits.kept_ports_max,
        "head_flows": limits.heads_flows_max,
    }
    loaded = BpfObject.load(path, sizes=sizes, reuse=reuse)
    try:
        for name, table in loaded.maps.items():
            if name not in reuse and name not in _NEVER_KEPT:
                folder.pin(table.fd, _PREFIX + name)
    except BaseException:
        loaded.close()
        raise
    return loaded


def _unpin_all(folder: GatewayFolder) -> None:
    for name in folder.names():
        if name.startswith(_PREFIX):
            folder.unpin(name)
