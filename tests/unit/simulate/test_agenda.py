"""Everything happens once, in order."""

from throughway.simulate.agenda import Agenda


def test_what_is_due_happens_in_order_of_time_and_then_of_asking() -> None:
    agenda, happened = Agenda(), list[tuple[str, float]]()

    def note(what: str) -> None:
        happened.append((what, agenda.now))

    agenda.at(2.0, note, "later")
    agenda.at(1.0, note, "first")
    agenda.at(1.0, note, "second")
    agenda.at(3.0, note, "too late")
    agenda.run(2.0)
    assert happened == [("first", 1.0), ("second", 1.0), ("later", 2.0)]
    assert agenda.now == 2.0


def test_what_is_asked_for_while_it_runs_happens_too_and_the_clock_never_goes_back() -> None:
    agenda, happened = Agenda(), list[float]()
    agenda.at(5.0, lambda: agenda.at(1.0, lambda: happened.append(agenda.now)))
    agenda.run(10.0)
    assert happened == [5.0]
    assert agenda.now == 10.0
