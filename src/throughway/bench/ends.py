"""The ends of the bench: frames are made and counted by BPF programs, since Python is far too slow for either.

The generator runs by BPF_PROG_TEST_RUN on live frames (kernel 5.18), in batches that pass the whole way, through the
router to the sink, on the processor that asked for them, before the next batch is made. So nothing queues and
nothing has to be lost: what is measured is how long one processor takes for a frame.
"""

import ctypes
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from throughway.bench.frames import FRAME_SIZE, Plan
from throughway.dataplane.libbpf import BpfObject, link_create, run_live

OBJECT: Final = Path(__file__).with_name("objects") / "bench.bpf.o"

SAMPLES_MAX: Final = 256
LATENCIES_MAX: Final = 16384
TALK_SIZE_MAX: Final = 512
"""Shared with bpf/beginnings.h."""

XDP: Final = 37
"""BPF_XDP of enum bpf_attach_type (<linux/bpf.h>)."""

_ZERO: Final = struct.pack("=I", 0)
_SAMPLE: Final = struct.Struct(f"=I{FRAME_SIZE}s")
_CLONE_NEWNET: Final = 0x40000000
_libc: Final = ctypes.CDLL(None, use_errno=True)


@contextmanager
def within(namespace: Path) -> Iterator[None]:
    """Let this thread work in another network namespace."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    wanted = os.open(namespace, os.O_RDONLY)
    try:
        _enter(wanted)
        try:
            yield
        finally:
            _enter(before)
    finally:
        os.close(wanted)
        os.close(before)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@contextmanager
def _undisturbed(processor: int) -> Iterator[None]:
    """Stay on one processor, before every ordinary program, so that what else the machine does counts little.

    This is for fractions of a second: the kernel lets real-time programs have 95 % of each second at the most.
    """
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {processor})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.sched_setaffinity(0, allowed)


@dataclass(frozen=True, slots=True)
class Burst:
    """What came of frames sent one after another. `elapsed_s` is the time that the processor had for them."""

    sent: int
    received: int
    elapsed_s: float

    @property
    def per_second(self) -> float:
        """Frames that arrived, a second."""
        return self.received / self.elapsed_s


class Ends:
    """Generator and sink. One burst at a time."""

    def __init__(self, loaded: BpfObject, processor: int) -> None:
        """Take over the loaded object; `open` loads it."""
        self._object = loaded
        self._processor = processor
        self._links: list[int] = []
        self._next = 0

    @classmethod
    def open(cls, processor: int) -> Self:
        """Load the programs; frames pass on this processor alone. KernelRefused where the kernel will not."""
        return cls(BpfObject.load(OBJECT), processor)

    def close(self) -> None:
        """Take the sinks off, and give everything back."""
        for link in self._links:
            os.close(link)
        self._object.close()

    def put_sink(self, ifindex: int) -> None:
        """Take the ESP that arrives on an interface of the present network namespace."""
        self._links.append(link_create(self._object.programs["sink"], ifindex, XDP))

    def send(self, plan: Plan, ifindex: int, count: int, *, batch: int = 64) -> tuple[Burst, range]:
        """Send so many frames out of an interface of the present namespace; return also their sequence numbers."""
        maps = self._object.maps
        numbers = range(self._next, self._next + count)
        self._next = numbers.stop
        # About as many samples as there is room for, evenly over the burst: one in a power of two.
        mask = (1 << max(0, (count // SAMPLES_MAX).bit_length())) - 1
        maps["sample_masks"].update(_ZERO, struct.pack("=I", mask))
        maps["plans"].update(_ZERO, plan.pack(ifindex, numbers.start))
        before = self.received()
        with _undisturbed(self._processor):
            frame_ns = run_live(self._object.programs["generator"], bytes(FRAME_SIZE), count, batch)
        return Burst(count, self.received() - before, count * frame_ns / 1e9), numbers

    def set_talks(self, entries: Mapping[bytes, bytes]) -> None:
        """Say what flows that begin say: entries of the table `talks`."""
        self._object.maps["talks"].update_batch(entries)

    def begin(self, plan: bytes, count: int) -> None:
        """Send the questions of a `struct beginning`, of so many flows, from the present namespace."""
        self._object.maps["beginnings"].update(_ZERO, plan)
        with _undisturbed(self._processor):
            run_live(self._object.programs["beginner"], bytes(14 + TALK_SIZE_MAX), count, min(count, 64))

    def heard(self) -> tuple[int, int]:
        """Count the questions that came to peers, and the answers that came back."""
        questions, answers = (
            sum(struct.unpack(f"={len(value) // 8}Q", value))
            for value in (self._object.maps["heard"].lookup(struct.pack("=I", what)) or b"" for what in range(2))
        )
        return questions, answers

    @property
    def next_sequence(self) -> int:
        """The sequence number of the next frame."""
        return self._next

    def received(self) -> int:
        """Count what the sinks have taken, on all processors."""
        value = self._object.maps["received"].lookup(_ZERO) or b""
        return sum(struct.unpack(f"={len(value) // 8}Q", value))

    def forget_samples(self) -> None:
        """Forget the frames that were kept."""
        empty = bytes(_SAMPLE.size)
        self._object.maps["samples"].update_batch({struct.pack("=I", slot): empty for slot in range(SAMPLES_MAX)})

    def samples(self) -> list[bytes]:
        """Return the frames that were kept, as they arrived."""
        kept = (_SAMPLE.unpack(value) for _, value in self._object.maps["samples"].items())
        return [frame for used, frame in kept if used]

    def forget_latencies(self) -> None:
        """Forget how long stamped frames were on their way."""
        empty = bytes(8)
        self._object.maps["latencies"].update_batch({struct.pack("=I", slot): empty for slot in range(LATENCIES_MAX)})

    def latencies(self, numbers: Sequence[int]) -> list[float]:
        """Return how long these frames were on their way, in microseconds; those that did not arrive are missing."""
        table = self._object.maps["latencies"]
        values = (table.lookup(struct.pack("=I", number % LATENCIES_MAX)) for number in numbers)
        return [ns / 1000 for value in values if value and (ns := struct.unpack("=Q", value)[0])]
