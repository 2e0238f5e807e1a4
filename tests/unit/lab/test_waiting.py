import pytest

from throughway.lab.errors import GaveUp
from throughway.lab.waiting import holds_within, wait_until


def test_what_holds_is_not_waited_for() -> None:
    assert holds_within(lambda: True, 0)


def test_a_condition_is_asked_until_it_holds() -> None:
    answers = iter([False, False, True])
    assert holds_within(lambda: next(answers), 10)
    assert list(answers) == []


def test_giving_up_names_what_was_waited_for() -> None:
    with pytest.raises(GaveUp, match=r"gave up after 0\.01 s waiting for a bus"):
        wait_until(lambda: False, 0.01, "a bus")
