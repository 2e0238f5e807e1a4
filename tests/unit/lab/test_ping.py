from throughway.lab.ping import tally

RUNNING = """\
PING 172.16.0.1 (172.16.0.1) from 172.16.1.1 tun0: 56(84) bytes of data.
64 bytes from 172.16.0.1: icmp_seq=1 ttl=64 time=0.655 ms
no answer yet for icmp_seq=2
64 bytes from 172.16.0.1: icmp_seq=3 ttl=64 time=0.175 ms
64 bytes from 172.16.0.1: icmp_seq=3 ttl=64 time=0.180 ms (DUP!)
no answer yet for icmp_seq=4
"""
SUMMARY = """
--- 172.16.0.1 ping statistics ---
5 packets transmitted, 2 received, +1 duplicates, 60% packet loss, time 108ms
"""


def test_answers_are_counted_once_by_sequence_number() -> None:
    assert tally(RUNNING).answered == {1, 3}


def test_before_the_summary_what_was_seen_counts_as_sent() -> None:
    assert tally(RUNNING).sent == 4


def test_the_summary_knows_of_pings_without_any_line() -> None:
    assert tally(RUNNING + SUMMARY).sent == 5


def test_lost_is_what_has_no_answer_before_the_last_answered_one() -> None:
    assert tally(RUNNING + SUMMARY).lost == [2]


def test_a_ping_that_could_not_be_sent_counts_nothing() -> None:
    counted = tally("ping: SO_BINDTODEVICE tun0: No such device\n")
    assert (counted.sent, counted.answered, counted.lost) == (0, frozenset(), [])


def test_an_answer_that_comes_late_is_no_loss() -> None:
    counted = tally("no answer yet for icmp_seq=1\n64 bytes from 10.0.0.1: icmp_seq=1 ttl=64 time=300 ms\n")
    assert (counted.sent, counted.lost) == (1, [])
