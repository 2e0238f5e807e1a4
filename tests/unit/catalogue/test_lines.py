"""Keys of a TOML file are found at their lines."""

import pytest

from throughway.catalogue.lines import line_of, lines_of, words_of

TEXT = '''\
id = "acme"
"name" = "Acme"
tell = """
ports = [1]
"""

[recognise]   # how
transport = "udp"

[[recognise.pattern]]
bytes = "00"

[[recognise.pattern]]
offset = 1
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("id",), 1),
        (("name",), 2),
        (("tell",), 3),
        (("recognise",), 7),
        (("recognise", "transport"), 8),
        (("recognise", "pattern", 0), 10),
        (("recognise", "pattern", 0, "bytes"), 11),
        (("recognise", "pattern", 1), 13),
        (("recognise", "pattern", 1, "offset"), 14),
    ],
)
def test_each_key_has_its_line(path: tuple[str | int, ...], line: int) -> None:
    assert lines_of(TEXT)[path] == line


def test_what_looks_like_a_key_in_a_text_is_none() -> None:
    assert ("ports",) not in lines_of(TEXT)


def test_a_key_that_is_not_there_has_the_line_of_its_table() -> None:
    lines = lines_of(TEXT)
    assert line_of(lines, ("recognise", "ports")) == 7
    assert line_of(lines, ("nat", "needs")) == 1


def test_paths_are_written_as_people_count() -> None:
    assert words_of(("recognise", "pattern", 1, "bytes")) == "recognise.pattern[2].bytes"
