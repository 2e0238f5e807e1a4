"""The heads of TCP streams: in order, without repeats, within their bound."""

from hypothesis import given
from hypothesis import strategies as st

from throughway.detect.streams import HEAD_SIZE_MAX, Head

TEXT = bytes(range(256)) * 4


def head(*segments: tuple[int, int], start: int = 1) -> bytes:
    """Push pieces of the text, each from one offset to another."""
    one = Head()
    one.began(start - 1)
    for begin, end in segments:
        one.push((start + begin) & 0xFFFFFFFF, TEXT[begin:end])
    return bytes(one.data)


def test_segments_are_put_together_in_order() -> None:
    assert head((0, 10), (10, 30)) == TEXT[:30]


def test_a_segment_that_comes_early_waits() -> None:
    assert head((10, 20), (0, 10)) == TEXT[:20]
    assert head((20, 30), (10, 20), (0, 10)) == TEXT[:30]


def test_what_is_sent_again_counts_once() -> None:
    assert head((0, 10), (0, 10), (5, 15)) == TEXT[:15]


def test_a_gap_is_not_passed_over() -> None:
    assert head((0, 10), (11, 20)) == TEXT[:10]


def test_sequence_numbers_wrap() -> None:
    assert head((0, 100), (100, 200), start=0xFFFFFFF0) == TEXT[:200]


def test_without_a_syn_the_first_segment_begins_the_stream() -> None:
    one = Head()
    assert one.push(777, b"abc")
    assert bytes(one.data) == b"abc"


def test_no_more_is_kept_than_the_bound() -> None:
    one = Head()
    for number in range(10):
        one.push(1000 * number, bytes(1000))
    assert len(one.data) == HEAD_SIZE_MAX
    assert one.is_full


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=30)), max_size=30))
def test_no_segments_raise(segments: list[tuple[int, bytes]]) -> None:
    one = Head()
    for sequence, payload in segments:
        one.push(sequence, payload)
    assert len(one.data) <= HEAD_SIZE_MAX


@given(st.permutations([(0, 10), (10, 25), (25, 40), (40, 64)]))
def test_every_order_gives_the_same_head(order: list[tuple[int, int]]) -> None:
    assert head(*order) == TEXT[:64]
