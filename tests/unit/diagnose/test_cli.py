"""How findings are shown."""

import io

from rich.console import Console

from throughway.core.findings import Finding, Level
from throughway.diagnose.cli import show

FINDINGS = [
    Finding("a.b", Level.ERROR, "Chain [x] drops.", "Add this.", ("nft insert rule " + "very long " * 20,)),
    Finding("c.d", Level.OK, "All is well."),
    Finding("e.f", Level.WARNING, "It may be slow."),
]


def test_the_worst_comes_last_and_commands_are_never_wrapped() -> None:
    out = io.StringIO()
    show(FINDINGS, Console(file=out, width=60))
    text = out.getvalue()
    assert (
        text.index("All is well")
        < text.index("It may be slow")
        < text.index("Chain [x] drops.")
        < text.index("Add this.")
    )
    assert FINDINGS[0].commands[0].strip() in text
    assert "Checks: 3. Errors: 1. Warnings: 1." in text


def test_levels_are_words_and_not_color_alone() -> None:
    out = io.StringIO()
    show(FINDINGS, Console(file=out, width=60, no_color=True))
    assert [line.split()[0] for line in out.getvalue().splitlines() if not line.startswith(" ")][:3] == [
        "ok",
        "warning",
        "error",
    ]


def test_a_finding_as_json_has_all_its_parts() -> None:
    assert FINDINGS[1].as_json() == {"code": "c.d", "level": "ok", "what": "All is well.", "remedy": "", "commands": []}
