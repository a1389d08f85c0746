"""A small OpenAI-compatible server that answers by an embedded model, with faults on demand."""

import json
import threading
from collections.abc import Iterable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch

from benchsuite.evaluation.generation import generate

MODEL = "tiny"


class OpenAIServer(ThreadingHTTPServer):
    """Answers ``/v1/models`` and ``/v1/completions``.

    ``way`` is how it gives a prompt's log-probabilities: ``prompt_logprobs`` as vLLM does, ``echo``
    as the old completions did, or neither. ``faults`` are what becomes of the next requests of
    completions, one each: a status, ``broken``, ``cut`` or None. ``asked`` has the bodies that were
    answered, ``most`` how many requests were worked on at once.
    """

    daemon_threads = True

    def __init__(self, model, tokenizer, *, way="prompt_logprobs", key=None, models=(MODEL,)):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.model, self.tokenizer = model, tokenizer
        self.way, self.key, self.models, self.length = way, key, models, 512
        self.faults, self.then = iter(()), None
        self.asked, self.headers, self.tokens_of_text = [], [], 1
        self.takes_ids = True
        self.lock, self.here, self.most = threading.Lock(), 0, 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def fail(self, faults: Iterable, then=None):
        """Let the next requests go wrong, and all after them by ``then``."""
        self.faults, self.then = iter(faults), then

    def completion(self, body):
        prompt = body["prompt"]
        ids = self.tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else prompt
        made = generate(
            self.model,
            self.tokenizer,
            [ids],
            max_new_tokens=body["max_tokens"],
            stop=body.get("stop", ()),
        )
        ended = "length" if made.ended_by[0] == "limit" else "stop"
        choice = {"index": 0, "text": made.texts[0], "finish_reason": ended}
        if self.way == "prompt_logprobs" and "prompt_logprobs" in body:
            choice["prompt_logprobs"] = self._by_id(ids)
        if self.way == "echo" and body.get("echo"):
            choice["logprobs"] = self._by_text(ids)
        counted = len(ids) * (self.tokens_of_text if isinstance(prompt, str) else 1)
        return {"choices": [choice], "usage": {"prompt_tokens": counted}}

    @torch.no_grad()
    def _log_probs(self, ids):
        return self.model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)

    def _by_id(self, ids):
        rows = [None]
        for row, own in zip(self._log_probs(ids), ids[1:], strict=True):
            top = int(row.argmax())
            rows.append({str(i): {"logprob": float(row[i]), "rank": 1} for i in {own, top}})
        return rows

    def _by_text(self, ids):
        values, tops = [None], [None]
        for row, own in zip(self._log_probs(ids), ids[1:], strict=True):
            top = int(row.argmax())
            values.append(float(row[own]))
            tops.append({f"token_id:{top}": float(row[top])})
        # The token that was made follows those of the prompt.
        return {"token_logprobs": [*values, -1.0], "top_logprobs": [*tops, {"x": -1.0}]}


class _Handler(BaseHTTPRequestHandler):
    server: OpenAIServer

    def do_GET(self):
        if self._let_in():
            told = [
                {"id": name, "owned_by": "ours", "max_model_len": self.server.length}
                for name in self.server.models
            ]
            self._answer(200, {"object": "list", "data": told})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        if not self._let_in():
            return
        with server.lock:
            server.here += 1
            server.most = max(server.most, server.here)
            fault = next(server.faults, server.then)
        told = self._told(body, fault)
        # Counted out before the answer leaves: who gets it may ask again at once.
        with server.lock:
            server.here -= 1
        if fault == "broken":
            self.connection.close()
            self.close_connection = True
        else:
            self._answer(*told, cut=fault == "cut")

    def _told(self, body, fault):
        server = self.server
        if isinstance(fault, int):
            return fault, {"error": {"message": "a fault on purpose"}}
        if not server.takes_ids and isinstance(body["prompt"], list):
            return 400, {"error": {"message": "prompt must be a string"}}
        if body["model"] not in server.models:
            return 404, {"error": {"message": f"no model {body['model']}"}}
        if fault == "broken":
            return 200, {}
        with server.lock:
            told = server.completion(body)
            server.asked.append(body)
        return 200, told

    def _let_in(self):
        server = self.server
        server.headers.append(self.headers.get("Authorization"))
        if server.key is None or self.headers.get("Authorization") == f"Bearer {server.key}":
            return True
        said = f"Incorrect API key provided: {self.headers.get('Authorization')}"
        self._answer(401, {"error": {"message": said}})
        return False

    def _answer(self, status, told, cut=False):
        text = json.dumps(told).encode()
        try:
            self.send_response(status)
            if status == 429:
                self.send_header("Retry-After", "0")
            if status in (301, 307):
                self.send_header("Location", "http://127.0.0.1:9/v1/models")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text[:10] if cut else text)
        except OSError:  # who asked has gone
            pass
        if cut:
            self.close_connection = True

    def log_message(self, *_):
        pass


@contextmanager
def running(model, tokenizer, **options):
    """Serve while the block runs."""
    with OpenAIServer(model, tokenizer, **options) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
