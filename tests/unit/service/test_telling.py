"""A flood of one event does not drown the log, and what was kept back is counted."""

from structlog.testing import capture_logs

from throughway.service.telling import BURST, PERIOD_S, Teller


def test_flood_is_kept_back_counted_and_told_later() -> None:
    now = 0.0
    teller = Teller(clock=lambda: now)
    with capture_logs() as lines:
        for _ in range(BURST + 5):
            teller.tell("tunnel.refused", peer="203.0.113.9")
        teller.tell("mapping.installed")
        now = PERIOD_S
        teller.tell("tunnel.refused", peer="203.0.113.9")
    names = [line["event"] for line in lines]
    assert names.count("tunnel.refused") == BURST + 1
    assert names.count("mapping.installed") == 1
    (kept_back,) = [line for line in lines if line["event"] == "events.kept_back"]
    assert (kept_back["name"], kept_back["count"]) == ("tunnel.refused", 5)


def test_what_was_kept_back_is_told_when_the_flood_is_over_and_quiet_follows() -> None:
    now = 0.0
    teller = Teller(clock=lambda: now)
    with capture_logs() as lines:
        for _ in range(BURST + 3):
            teller.tell("tunnel.refused")
        teller.tell_kept_back()
        assert len(lines) == BURST
        now = PERIOD_S
        teller.tell_kept_back()
        teller.tell_kept_back()
    assert [line["count"] for line in lines[BURST:]] == [3]
