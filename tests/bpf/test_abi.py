"""What C and Python share is equal: structs by the BTF of the built object, constants and enums by the headers."""

import json
import re
import struct
import subprocess
from enum import IntEnum, IntFlag
from typing import Any

import pytest

from throughway.core.flows import Direction
from throughway.core.limits import Limits
from throughway.core.reasons import Reason
from throughway.dataplane import abi, head_abi
from throughway.dataplane.libbpf import BpfObject
from throughway.detect import streams
from throughway.detect.prefilters import PREFILTERS_MAX

from .gateway import CHECKOUT, OBJECT

pytestmark = pytest.mark.usefixtures("built_object")

_TYPES_THAT_ARE_NOT_SHARED = {"packet", "quote", "icmp_header", "iphdr", "__sk_buff", "bpf_spin_lock", "head_copy"}


@pytest.fixture(scope="module")
def btf(built_object: None) -> list[dict[str, Any]]:
    dump = subprocess.run(["bpftool", "btf", "dump", "-j", "file", OBJECT], check=True, capture_output=True)
    types: list[dict[str, Any]] = json.loads(dump.stdout)["types"]
    return types


def _named(btf: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in btf if each["kind"] == kind and each["name"] != "(anon)"}


def _offsets(layout: abi.Layout) -> list[tuple[str, int]]:
    """Say where each field begins: at the size of the format up to it."""
    codes = re.findall(r"\d*[a-zA-Z]", layout.format.format)
    assert len(codes) == len(layout.fields)
    sizes = [struct.calcsize("=" + code) for code in codes]
    return [(name, sum(sizes[:at])) for at, name in enumerate(layout.fields)]


LAYOUTS = abi.LAYOUTS | head_abi.LAYOUTS


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_is_that_of_the_object(btf: list[dict[str, Any]], name: str) -> None:
    theirs = _named(btf, "STRUCT")[name]
    layout = LAYOUTS[name]
    assert layout.size == theirs["size"]
    assert _offsets(layout) == [(member["name"], member["bits_offset"] // 8) for member in theirs["members"]]


def test_every_struct_of_the_object_has_a_layout(btf: list[dict[str, Any]]) -> None:
    assert set(_named(btf, "STRUCT")) - _TYPES_THAT_ARE_NOT_SHARED == set(LAYOUTS)


@pytest.mark.parametrize(
    ("name", "prefix", "values"),
    [
        ("reason", "REASON_", Reason),
        ("direction", "", Direction),
        ("pending_state", "PENDING_", abi.PendingState),
        ("punt_kind", "PUNT_", abi.PuntKind),
        ("control_op", "CONTROL_", abi.ControlOp),
        ("fragment_state", "FRAGMENT_", abi.FragmentState),
        ("observed_kind", "OBSERVED_", abi.ObservedKind),
    ],
)
def test_enum_is_that_of_the_object(btf: list[dict[str, Any]], name: str, prefix: str, values: type[IntEnum]) -> None:
    theirs = {each["name"].removeprefix(prefix): each["val"] for each in _named(btf, "ENUM")[name]["values"]}
    size_of_the_table = theirs.pop("MAX", None)
    assert theirs == {each.name: each.value for each in values}
    if size_of_the_table is not None:
        assert size_of_the_table > max(theirs.values())


@pytest.mark.parametrize(
    "name",
    [
        "LAYOUT_VERSION", "SLOTS_MAX", "SHORT_INSIDES_MAX", "FAN_OUT_MAX", "HELD_PER_FLOW_MAX", "FRAME_SMALL",
        "FRAME_LARGE", "IKE_HEADER_SIZE", "TRACE_TIMES", "TRACE_GAP_NS", "FRAGMENT_FRESH_NS", "FRAGMENT_REUSED_NS",
        "REPORT_AGAIN_NS",
        "CONTROL_MESSAGE_MAX",
        "PROTOCOL_WORDS",
    ],
)  # fmt: skip
def test_constant_is_that_of_the_header(name: str) -> None:
    match = re.search(rf"^#define {name} (\d+)(?:u|ull)?\b", (CHECKOUT / "bpf/keys.h").read_text(), re.MULTILINE)
    assert match is not None
    assert int(match[1]) == getattr(abi, name)


@pytest.mark.parametrize(
    "name", ["HEAD_PACKETS_MAX", "HEAD_SIZE_MAX", "HEAD_STREAM_MAX", "HEAD_FILTERS_MAX", "HEAD_WORDS", "HEAD_ASIDE_S"]
)
def test_constant_is_that_of_the_header_of_heads(name: str) -> None:
    match = re.search(rf"^#define {name} (\d+)\b", (CHECKOUT / "bpf/head_keys.h").read_text(), re.MULTILINE)
    assert match is not None
    assert int(match[1]) == getattr(head_abi, name)


@pytest.mark.parametrize("values", [head_abi.HeadState, head_abi.HeadCount])
def test_enum_that_btf_does_not_have_is_that_of_the_header(values: type[IntEnum]) -> None:
    """Where a value is kept in a byte, or is an argument, the type of it is not in the object."""
    name = re.sub(r"(?<!^)([A-Z])", r"_\1", values.__name__).lower()
    body = re.search(rf"^enum {name} {{(.*?)}};", (CHECKOUT / "bpf/head_keys.h").read_text(), re.MULTILINE | re.DOTALL)
    assert body is not None
    theirs = {key: int(value) for key, value in re.findall(r"HEAD_(\w+) = (\d+)", body[1])}
    assert theirs.pop("COUNT_MAX", len(values)) >= len(values)
    assert theirs == {each.name: each.value for each in values}


@pytest.mark.parametrize("flag", head_abi.FilterFlag)
def test_filter_flag_is_that_of_the_header(flag: IntFlag) -> None:
    header = (CHECKOUT / "bpf/head_keys.h").read_text()
    assert re.search(rf"^#define HEAD_{flag.name} {flag.value}u\b", header, re.MULTILINE)


@pytest.mark.parametrize("flag", abi.MappingFlag)
def test_mapping_flag_is_that_of_the_header(flag: IntFlag) -> None:
    assert f"#define MAPPING_{flag.name} {flag.value}u" in (CHECKOUT / "bpf/keys.h").read_text()


@pytest.mark.parametrize("flag", list(abi.KeptFlag))
def test_kept_flag_is_that_of_the_header(flag: IntFlag) -> None:
    assert f"#define KEPT_{flag.name} {flag.value}u" in (CHECKOUT / "bpf/keys.h").read_text()


def test_limits_are_those_of_the_core(loaded: BpfObject) -> None:
    limits = Limits()
    assert loaded.maps["kept_ports"].max_entries == limits.kept_ports_max
    assert limits.fan_out_late_max == abi.FAN_OUT_MAX
    assert limits.held_per_flow_max == abi.HELD_PER_FLOW_MAX
    assert limits.outside_addresses_max == abi.SLOTS_MAX
    assert loaded.maps["traces"].max_entries == limits.traces_max
    assert loaded.maps["head_flows"].max_entries == limits.heads_flows_max
    assert head_abi.HEAD_FILTERS_MAX == PREFILTERS_MAX
    assert head_abi.HEAD_STREAM_MAX == streams.HEAD_SIZE_MAX
    assert limits.trace_times_max == abi.TRACE_TIMES
    assert round(limits.trace_gap_s * 1e9) == abi.TRACE_GAP_NS


def test_the_object_names_no_place_of_this_machine() -> None:
    data = OBJECT.read_bytes()
    assert str(CHECKOUT).encode() not in data
    assert re.search(rb"/(home|root|tmp|work|usr|build)/", data) is None


def test_two_builds_in_two_places_are_equal(tmp_path: Any) -> None:
    for folder in ("bpf", "script"):
        subprocess.run(["cp", "-r", CHECKOUT / folder, tmp_path / folder], check=True)
    subprocess.run([tmp_path / "script/build-bpf"], check=True)
    assert (tmp_path / OBJECT.relative_to(CHECKOUT)).read_bytes() == OBJECT.read_bytes()
