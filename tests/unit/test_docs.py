"""The documents say what is there: commands, reasons, limits, log events, decision records, links."""

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import cast

import pytest
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

import throughway.__main__  # noqa: F401 - mounts the commands of the lab and the doctor
from throughway.cli.app import app
from throughway.core.limits import Limits
from throughway.core.reasons import Reason
from throughway.sessions.diagnoses import TABLE

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])

COMMAND = re.compile(r"(?:^|[ `/])throughway((?: [a-z]+)+)((?: (?:--?[a-z-]+|[A-Za-z0-9._-]+))*)")
"""`throughway`, the words of the command, and what follows up to the end of the code."""


def code_in(page: Path) -> Iterator[str]:
    """Yield the lines of shell blocks and the code in sentences, without shell comments. Drawings are no code."""
    for number, part in enumerate(page.read_text().split("```")):
        language, _, lines = part.partition("\n")
        if number % 2 == 0:
            yield from re.findall(r"`([^`\n]+)`", part)
        elif language == "sh":
            yield from (line.partition(" #")[0] for line in lines.splitlines())


def commands_in_docs() -> list[str]:
    found = (match for page in PAGES for code in code_in(page) if (match := COMMAND.search(code)))
    return sorted({f"{match[1].strip()}{match[2]}" for match in found})


def command_line() -> TyperGroup | TyperCommand:
    return cast("TyperGroup | TyperCommand", get_command(app))


def children_of(command: TyperGroup | TyperCommand) -> dict[str, TyperGroup | TyperCommand]:
    return cast("dict[str, TyperGroup | TyperCommand]", getattr(command, "commands", {}))


def resolve(words: list[str]) -> tuple[TyperGroup | TyperCommand, list[str]]:
    """Walk from the command line to the command that the words name; return it and the words that are left."""
    command = command_line()
    while words and (children := children_of(command)):
        assert words[0] in children, f"there is no command {words[0]!r}"
        command, words = children[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("line", commands_in_docs())
def test_every_command_in_the_documents_exists(line: str) -> None:
    command, rest = resolve(line.split())
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in rest if word.startswith("-")} <= known | {"--help"}


def test_every_command_is_documented() -> None:
    text = (DOCS / "commands.md").read_text()

    def names(command: TyperGroup | TyperCommand, path: str) -> Iterator[str]:
        children = children_of(command)
        if not children and not command.hidden:
            yield path
        for name, child in children.items():
            yield from names(child, f"{path} {name}")

    assert [name for name in names(command_line(), "throughway") if f"`{name}" not in text] == []


def first_cells(page: str) -> set[str]:
    """Return the names that begin the rows of a page's tables."""
    return set(re.findall(r"^\| `([^`]+)` \|", (DOCS / page).read_text(), re.MULTILINE))


def test_every_reason_is_explained() -> None:
    assert first_cells("reasons.md") == {reason.name.lower().replace("_", "-") for reason in Reason}


def test_every_diagnosis_is_explained_in_the_order_in_which_they_are_asked() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$", (DOCS / "diagnoses.md").read_text(), re.MULTILINE)
    assert [code for code, *_ in rows] == [entry.code for entry in TABLE]
    remedies = {code: remedy for code, _, remedy in rows}
    told = {entry.code: entry.remedy.replace("`", "") for entry in TABLE if entry.remedy}
    assert {code: remedies[code] for code in told} == told


def test_drops_are_listed_as_drops() -> None:
    carried, _, dropped = (DOCS / "reasons.md").read_text().partition("## Dropped")
    for reason in Reason:
        name = f"| `{reason.name.lower().replace('_', '-')}` |"
        assert name in (dropped if reason.is_drop else carried)


def test_every_limit_is_listed_with_its_default() -> None:
    assert first_cells("limits.md") == {field.name for field in fields(Limits)}
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", (DOCS / "limits.md").read_text(), re.MULTILINE))
    for name, text in rows.items():
        number, _, unit = text.replace(",", "").partition(" ")
        assert float(number) * {"": 1, "MiB": 1 << 20}[unit] == getattr(Limits(), name), name


def test_every_decision_record_is_linked_and_numbered_once() -> None:
    records = sorted(path.name for path in (DOCS / "adr").glob("[0-9]*.md"))
    assert len({name[:4] for name in records}) == len(records)
    assert re.findall(r"\]\((\d{4}-[^)]+)\)", (DOCS / "adr" / "README.md").read_text()) == records


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    broken = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_script_named_in_the_documents_exists(page: Path) -> None:
    named = {word for code in code_in(page) for word in re.findall(r"(?:^| )(script/[a-z-]+)", code)}
    assert {name for name in named if not (ROOT / name).is_file()} == set()
