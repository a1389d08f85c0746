"""An engine whose noise is known: it says what it is told to, and differs where it is told to.

No model: the tokens and log-probs of a prompt follow from its ids alone, and ``noise`` adds a
vector of the L2 norm ``size``, or another token at step ``index``, where ``where`` says.
"""

import hashlib
import os
import random
from pathlib import Path


class Engine:
    def __init__(self):
        self.calls = 0

    def load(self, *, where="nowhere", size=0.0, index=None, kernel="", marker="", **_):
        if where == "load":
            raise ValueError("this format is not supported")
        self.where, self.size, self.index, self.kernel = where, size, index, kernel
        self.first_process = not marker or not Path(marker).exists()
        if marker:
            Path(marker).touch()
        return {"threads": os.environ.get("OMP_NUM_THREADS", ""), "says": "loaded"}

    def generate(self, prompts, max_tokens):
        self.calls += 1
        rows = [self._completion(prompt, max_tokens) for prompt in prompts]
        if self._noisy(len(prompts)):
            rows = [self._disturbed(*row) for row in rows]
        return {"tokens": [row[0] for row in rows], "logprobs": [row[1] for row in rows]}

    def kernels(self, prompts, max_tokens):
        print("a library writes to stdout")
        if not self.kernel:
            raise RuntimeError("no profiler")
        seen = [{"name": self.kernel, "count": 1, "time_us": 1.0}]
        return {"profiling_succeeded": True, "all_kernels": seen, "using": ["Using it"]}

    def die(self):
        os._exit(3)

    def environment(self, name):
        return os.environ.get(name)

    def _noisy(self, batch_size):
        return {
            "nowhere": False,
            "runs": self.calls > 1,
            "batches": batch_size > 1,
            "processes": not self.first_process,
        }[self.where]

    def _completion(self, prompt, max_tokens):
        draw = random.Random(hashlib.sha256(repr(prompt).encode()).digest())
        tokens = [draw.randrange(1000) for _ in range(max_tokens)]
        return tokens, [-draw.random() for _ in range(max_tokens)]

    def _disturbed(self, tokens, logprobs):
        if self.index is not None:
            tokens = [*tokens[: self.index], tokens[self.index] + 1, *tokens[self.index + 1 :]]
        direction = [random.gauss(0, 1) for _ in logprobs]
        scale = self.size / sum(d * d for d in direction) ** 0.5
        return tokens, [lp + scale * d for lp, d in zip(logprobs, direction, strict=True)]
