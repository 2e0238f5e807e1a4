"""Later fragments that wait for their first one: bounded in number, bytes and time, for each sender and in total."""

from ipaddress import IPv4Address

import pytest

from throughway.core.flows import Direction
from throughway.core.limits import Limits
from throughway.dataplane.fragments import EarlyFragments
from throughway.dataplane.inject import Sent
from throughway.dataplane.records import FragmentName

_LIMITS = Limits(
    early_fragments_per_packet_max=4,
    early_fragments_per_address_max=6,
    early_fragments_bytes_max=8 * 4096,
    early_fragment_s=1.0,
)


def _name(identification: int = 1, source: str = "203.0.113.9") -> FragmentName:
    return FragmentName(
        IPv4Address(source), IPv4Address("192.0.2.1"), identification.to_bytes(2, "big"), 50, Direction.TO_INSIDE
    )


class _Kernel:
    """What the kernel knows of first fragments, and what it was given."""

    def __init__(self) -> None:
        self.known: set[FragmentName] = set()
        self.sent: list[bytes] = []
        self.answer = Sent.ACCEPTED
        self.early = EarlyFragments(_LIMITS, self.known.__contains__, self._send)

    def _send(self, frame: bytes) -> Sent:
        if self.answer is Sent.ACCEPTED:
            self.sent.append(frame)
        return self.answer


@pytest.fixture
def kernel() -> _Kernel:
    return _Kernel()


def test_what_waits_goes_back_when_the_first_one_has_come(kernel: _Kernel) -> None:
    kernel.early.hold(_name(1), b"one", 0.0)
    kernel.early.hold(_name(1), b"two", 0.1)
    kernel.early.hold(_name(2), b"other", 0.1)
    assert kernel.sent == []
    kernel.early.release(_name(1))
    assert kernel.sent == [b"one", b"two"]
    assert len(kernel.early) == 1
    assert kernel.early.run(0.2) == pytest.approx(1.1)


def test_the_news_may_come_before_the_fragment(kernel: _Kernel) -> None:
    kernel.early.release(_name())
    kernel.known.add(_name())
    kernel.early.hold(_name(), b"late", 0.0)
    assert kernel.sent == [b"late"]
    assert (len(kernel.early), kernel.early.run(0.0)) == (0, None)


def test_after_its_time_a_fragment_is_dropped_and_counted(kernel: _Kernel) -> None:
    kernel.early.hold(_name(1), b"one", 0.0)
    kernel.early.hold(_name(2), b"two", 0.5)
    assert kernel.early.run(0.99) == pytest.approx(1.0)
    assert kernel.early.take_dropped() == 0
    assert kernel.early.run(1.0) == pytest.approx(1.5)
    assert (kernel.early.take_dropped(), len(kernel.early)) == (1, 1)
    assert kernel.early.run(1.5) is None
    assert (kernel.early.take_dropped(), len(kernel.early), kernel.sent) == (1, 0, [])


def test_news_that_got_lost_is_looked_for_before_the_drop(kernel: _Kernel) -> None:
    kernel.early.hold(_name(), b"one", 0.0)
    kernel.known.add(_name())
    kernel.early.run(1.0)
    assert (kernel.sent, kernel.early.take_dropped()) == ([b"one"], 0)


def test_of_one_packet_no_more_than_its_bound_waits(kernel: _Kernel) -> None:
    for _ in range(7):
        kernel.early.hold(_name(), b"frame", 0.0)
    assert (kernel.early.take_dropped(), len(kernel.early)) == (3, 4)


def test_of_one_sender_no_more_than_its_bound_waits(kernel: _Kernel) -> None:
    for identification in range(10):
        kernel.early.hold(_name(identification), b"frame", 0.0)
    assert (kernel.early.take_dropped(), len(kernel.early)) == (4, 6)
    kernel.early.hold(_name(1, "198.51.100.7"), b"frame", 0.0)
    assert kernel.early.take_dropped() == 0
    kernel.early.release(_name(0))
    kernel.early.hold(_name(11), b"frame", 0.0)
    assert kernel.early.take_dropped() == 0, "room that was given back is used again"


def test_one_sender_has_an_eighth_of_the_bytes(kernel: _Kernel) -> None:
    for identification in range(3):
        kernel.early.hold(_name(identification), bytes(1500), 0.0)
    assert (kernel.early.take_dropped(), len(kernel.early)) == (1, 2)


def test_all_senders_together_have_a_bound(kernel: _Kernel) -> None:
    for number in range(20):
        kernel.early.hold(_name(1, f"203.0.113.{number}"), bytes(4096), 0.0)
    assert (kernel.early.take_dropped(), len(kernel.early)) == (12, 8)


def test_a_small_fragment_counts_for_more_than_it_has(kernel: _Kernel) -> None:
    limits = Limits(early_fragments_bytes_max=8 * 1024)
    early = EarlyFragments(limits, kernel.known.__contains__, lambda frame: Sent.ACCEPTED)
    for identification in range(5):
        early.hold(_name(identification), b"x", 0.0)
    assert (early.take_dropped(), len(early)) == (3, 2)


def test_a_busy_socket_is_tried_again(kernel: _Kernel) -> None:
    kernel.early.hold(_name(), b"one", 0.0)
    kernel.answer = Sent.BUSY
    kernel.early.release(_name())
    assert kernel.early.run(0.1) == pytest.approx(0.101)
    kernel.answer = Sent.ACCEPTED
    assert kernel.early.run(0.2) is None
    assert kernel.sent == [b"one"]


@pytest.mark.parametrize(("answer", "lost"), [(Sent.LOST, 1), (Sent.DROPPED, 0)])
def test_a_frame_is_given_to_the_kernel_once(kernel: _Kernel, answer: Sent, lost: int) -> None:
    """What the program on the interface took to hold it looks like a drop, and is not one."""
    kernel.early.hold(_name(), b"one", 0.0)
    kernel.answer = answer
    kernel.early.release(_name())
    assert (len(kernel.early), kernel.early.lost) == (0, lost)
