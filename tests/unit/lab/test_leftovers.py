import os
from pathlib import Path

from throughway.lab import leftovers
from throughway.lab.testbed import identity, is_alive


def test_a_process_is_known_by_its_number_and_its_start() -> None:
    own = identity(os.getpid())
    assert is_alive(own)
    number, _, started = own.partition(" ")
    assert not is_alive(f"{number} {int(started) + 1}")
    assert not is_alive("")


def test_folders_of_failed_runs_are_kept_until_asked_for(tmp_path: Path) -> None:
    failed, other = tmp_path / "tw00ff", tmp_path / "somebody-else's"
    for folder in (failed, other):
        folder.mkdir()
        (folder / "outside.pcap").touch()
    assert leftovers.PREFIX.match("tw00ff-router")
    assert not leftovers.PREFIX.match("twist-router")
    assert leftovers._folders(tmp_path) == [failed]
    assert leftovers._owned(tmp_path) == set()


def test_only_an_owner_that_lives_makes_a_lab_a_running_one(tmp_path: Path) -> None:
    for prefix, owner in (("tw0001", identity(os.getpid())), ("tw0002", "4194304 1")):
        (tmp_path / prefix).mkdir()
        (tmp_path / prefix / "owner").write_text(owner)
    assert leftovers._is_running(tmp_path / "tw0001")
    assert not leftovers._is_running(tmp_path / "tw0002")
    assert not leftovers._is_running(tmp_path / "tw0003")
    assert leftovers._owned(tmp_path) == {"tw0001", "tw0002"}
