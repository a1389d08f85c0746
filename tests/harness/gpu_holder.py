"""Processes that take GPUs and keep them."""

import signal
import subprocess
import sys

HOLDER = """
import sys
from benchsuite.harness.scheduling.devices import take_gpus
taken = take_gpus(int(sys.argv[1]))
print(*(f"{slot.gpu.uuid} {slot.rank}" for slot in taken._slots), flush=True)
for line in sys.stdin:
    print(taken.shared(), flush=True)
"""


class Holder:
    """A process that has taken GPUs; ``uuid`` and ``rank`` are those of the first."""

    def __init__(self, count: int) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, "-c", HOLDER, str(count)], **pipes)
        told = self.process.stdout.readline().split()
        self.uuids, self.ranks = told[::2], [int(rank) for rank in told[1::2]]
        self.uuid, self.rank = self.uuids[0], self.ranks[0]

    def shares(self) -> bool:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.process.stdout.readline() == "True\n"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()
