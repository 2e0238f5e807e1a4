"""A contest in the kernel: its times are noted and read by the daemon, and who answers what comes in is the owner."""

import time
from random import Random

from tests.kernel.bpf_plane.net import wait_for
from tests.kernel.daemon.net import ALICE, BOB, OUTSIDE, PEER, Ends
from tests.kernel.daemon.process import Daemon

IN, OUT, OTHER_OUT = 0x2001, 0x1001, 0x1002
EACH_S = 0.06
"""The mean time between two packets of the peer, which come at random: a regular stream proves less."""


class Questions:
    """The peer asks Alice, who answers whatever she gets; Bob sends when he likes."""

    def __init__(self, ends: Ends) -> None:
        self._ends = ends
        self._random = Random(1)  # noqa: S311 - a model, no secret
        self.asked = self.answered = self.sent = 1
        self._next_at = self._bob_at = 0.0

    def step(self) -> None:
        now = time.monotonic()
        if now >= self._next_at:
            self._next_at = now + self._random.expovariate(1 / EACH_S)
            self._ends.peer.send_esp(PEER, OUTSIDE, IN, range(self.asked, self.asked + 1))
            self.asked += 1
        if now >= self._bob_at:
            self._bob_at = now + self._random.expovariate(1 / EACH_S)
            self.sent += 1
            self._ends.bob.send_esp(BOB, PEER, OTHER_OUT, range(self.sent, self.sent + 1))
        while self.answered <= len(self._ends.alice.sequences(IN)):
            self.answered += 1
            self._ends.alice.send_esp(ALICE, PEER, OUT, range(self.answered, self.answered + 1))


def test_who_answers_gets_the_tunnel_alone(daemon: Daemon, ends: Ends) -> None:
    """Every packet reaches Alice before and after the verdict; Bob gets copies until then and none later."""
    daemon.limits = {"traces_every_s": 0.1}
    daemon.up()
    for host, spi in ((ALICE, 0xA1), (BOB, 0xB1)):
        ends.begin(host, spi)
    for host, spi, out in ((ALICE, 0xA1, OUT), (BOB, 0xB1, OTHER_OUT)):
        ends.agree(host, spi)
        ends.of(host).send_esp(host, PEER, out, range(1, 2))
    questions = Questions(ends)
    wait_for("a verdict", lambda: any("answers" in line for line in daemon.lines("mapping.installed")), questions.step)
    wait_for("all is there", lambda: len(ends.alice.sequences(IN)) == questions.asked - 1)
    copies = ends.bob.sequences(IN)
    assert copies == list(range(1, len(copies) + 1)), "there was a contest"
    assert copies
    again = range(questions.asked, questions.asked + 5)
    ends.peer.send_esp(PEER, OUTSIDE, IN, again)
    wait_for("more is there", lambda: len(ends.alice.sequences(IN)) == again.stop - 1)
    assert ends.alice.sequences(IN) == list(range(1, again.stop))
    assert ends.bob.sequences(IN) == copies
