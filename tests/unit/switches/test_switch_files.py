"""The files on disk: written as a whole, by one at a time, and with errors that say what to do."""

import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from throughway.core.errors import SettingsRejected
from throughway.switch_files import SwitchFiles, configuration_directory
from throughway.switches.position import EVERYWHERE, Place, Position

ACME = 'id = "acme"\nname = "Acme VPN"\n[recognise]\ntransport = "udp"\nports = [5555]\n'


@pytest.fixture
def files(tmp_path: Path) -> SwitchFiles:
    return SwitchFiles(tmp_path / "etc")


def test_nothing_there_is_all_defaults(files: SwitchFiles) -> None:
    assert list(files.read().board.switches) == []
    assert not files.folder.exists(), "reading makes nothing"
    assert files.signature() == ()


def test_what_is_set_is_read_by_others_and_looks_different(files: SwitchFiles) -> None:
    before = files.signature()
    loaded = files.set("gre", Position.OFF, EVERYWHERE)
    assert SwitchFiles(files.folder).read().board.switches == loaded.board.switches
    assert files.signature() != before
    assert stat.S_IMODE(files.switches.stat().st_mode) == 0o644
    files.switches.chmod(0o600)
    files.set("gre", None, EVERYWHERE)
    assert stat.S_IMODE(files.switches.stat().st_mode) == 0o600, "as the operator has it"
    assert sorted(path.name for path in files.folder.iterdir()) == [".lock", "protocols.toml"]


def test_a_refused_wish_writes_nothing(files: SwitchFiles) -> None:
    files.set("gre", Position.OFF, EVERYWHERE)
    text = files.switches.read_text()
    for name, position, place, words in (
        ("gree", Position.OFF, EVERYWHERE, "did you mean `gre`"),
        ("esp", Position.UNASSISTED, Place.of("10.0.0.2", None), "everybody only"),
    ):
        with pytest.raises(SettingsRejected, match=words):
            files.set(name, position, place)
    assert files.switches.read_text() == text


def test_a_protocol_comes_and_goes_with_its_switch(files: SwitchFiles) -> None:
    protocol, loaded = files.add(ACME, "mine.toml")
    assert protocol.id == "acme"
    assert loaded.own == {"acme": files.protocols / "acme.toml"}
    files.set("acme", Position.OFF, EVERYWHERE)
    files.set("acme", Position.ON, Place.of("10.0.0.2", None))
    files.set("gre", Position.OFF, EVERYWHERE)
    loaded = files.remove("acme")
    assert "acme" not in loaded.board.catalogue.ids
    assert [one.name for one in files.read().board.switches] == ["gre"]
    assert list(files.protocols.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ACME.replace("acme", "esp"), r"mine\.toml, line 1, id: .*comes with Throughway"),
        (ACME.replace("5555", '"x"'), r"mine\.toml, line 5, recognise\.ports"),
        (ACME.replace('"Acme VPN"', '"Acme VPN"\nfamily = "esp"'), "family `esp`"),
    ],
)
def test_a_protocol_that_cannot_be_is_refused(files: SwitchFiles, text: str, words: str) -> None:
    with pytest.raises(SettingsRejected, match=words):
        files.add(text, "mine.toml")
    assert not files.protocols.exists() or list(files.protocols.iterdir()) == []


def test_no_protocol_is_added_twice_and_none_of_ours_is_removed(files: SwitchFiles) -> None:
    files.add(ACME, "mine.toml")
    with pytest.raises(SettingsRejected, match="protocols remove acme"):
        files.add(ACME, "mine.toml")
    with pytest.raises(SettingsRejected, match="protocols disable esp"):
        files.remove("esp")
    with pytest.raises(SettingsRejected, match="did you mean `acme`"):
        files.remove("acne")


def test_a_file_that_cannot_be_read_says_why(files: SwitchFiles) -> None:
    files.folder.mkdir()
    files.switches.write_bytes(b"\xff")
    with pytest.raises(SettingsRejected, match="not UTF-8"):
        files.read()
    files.switches.write_bytes(b"#" * (1 << 19))
    with pytest.raises(SettingsRejected, match="longer than"):
        files.set("gre", Position.OFF, EVERYWHERE)


def _write_many(folder: Path, name: str, first: int) -> None:
    files = SwitchFiles(folder)
    for number in range(first, first + 4):
        files.set(name, Position.OFF, Place.of(f"10.0.0.{number}", None))


def test_two_writers_at_once_lose_nothing_of_each_other(files: SwitchFiles) -> None:
    context = multiprocessing.get_context("fork")
    writers = [
        context.Process(target=_write_many, args=(files.folder, name, first))
        for name, first in (("gre", 1), ("esp", 50))
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)
        assert writer.exitcode == 0
    assert len(files.read().board.switches.settings) == 8


def test_a_crash_before_the_end_leaves_the_old_file(files: SwitchFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    files.set("gre", Position.OFF, EVERYWHERE)
    old = files.switches.read_text()

    def crash(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(SettingsRejected, match="No space left"):
        files.set("esp", Position.OFF, EVERYWHERE)
    assert files.switches.read_text() == old
    assert sorted(path.name for path in files.folder.iterdir()) == [".lock", "protocols.toml"]


def test_the_folder_may_be_named_by_a_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("THROUGHWAY_CONFIGURATION_DIRECTORY", raising=False)
    assert configuration_directory() == Path("/etc/throughway")
    monkeypatch.setenv("THROUGHWAY_CONFIGURATION_DIRECTORY", str(tmp_path))
    assert configuration_directory() == tmp_path


def test_a_folder_that_cannot_be_read_is_told_and_looking_at_it_never_raises(files: SwitchFiles) -> None:
    """A loop of links is one that root cannot read either."""
    files.folder.mkdir()
    files.protocols.symlink_to(files.protocols)
    assert files.signature() == ()
    with pytest.raises(SettingsRejected, match=r"protocols\.d: cannot be read"):
        files.read()


def test_a_file_that_would_not_be_read_any_more_is_not_written(files: SwitchFiles) -> None:
    files.folder.mkdir()
    files.switches.write_text(text := "override = []\n")
    files.set("gre", Position.OFF, EVERYWHERE)
    files.switches.write_text(text)
    with pytest.raises(SettingsRejected, match=r"begun by `\[\[override\]\]`"):
        files.set("esp", Position.OFF, Place.of("10.0.0.2", None))
    assert files.switches.read_text() == text
