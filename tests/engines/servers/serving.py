"""A server for tests: it says what it was started with, and serves tokens that follow from ids."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def served(prompt, steps):
    """Tokens and log-probs after a prompt, by a rule that a test can repeat."""
    return [(sum(prompt) + 7 * i) % 1000 for i in range(steps)], [-0.5 * i for i in range(steps)]


def serve(port, answer):
    """Answer ``/health`` with 503 once and then 200, all else by ``answer(path, body)``."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/health":
                asked.append(self.path)
                return self.say({}, 200 if len(asked) > 1 else 503)
            return self.say(answer(self.path, None))

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if not body.get("prompt", body.get("input_ids")):
                return self.say({"error": "no prompt"}, 400)
            return self.say(answer(self.path, body))

        def say(self, told, status=200):
            data = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *words):
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


def option(name):
    return sys.argv[sys.argv.index(name) + 1]
