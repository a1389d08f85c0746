"""What an engine does wrong is one paragraph that names it and its log; nothing is cut or guessed.

Here the processes; ``test_validation.py`` has the answers one by one.
"""

import sys

import pytest

from benchsuite.engines import EngineError, EngineProcess, Launcher
from tests.engines.conftest import ENTRY
from tests.engines.interpreters import BANNER, script


def told(raised, process):
    text = str(raised.value)
    assert text.startswith("failing ")
    assert text.endswith(f"See {process.log}")
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    "line",
    [
        "Loading checkpoint shards\n",
        "\n",
        "[1, 2]\n",
        "{}\n",
        '{"to": 2}\n',
        '{"to": 2, "error": 5}\n',
        '{"to": 1, "answer": 1}\n',  # an earlier request's
        '{"to": 2, "answer": "\xff\xfe"}\n',
        '{"to": 2, "answer": "\\ud800"}\n',
        "[" * 100_000 + "\n",
        "1" * 5000 + "\n",
    ],
)
def test_a_line_that_is_no_answer_is_shown_and_ends_the_engine(failing, line):
    with pytest.raises(EngineError, match="was asked to write and answered") as raised:
        failing.ask("write", text=line)
    assert len(told(raised, failing)) < 500
    assert failing._process.returncode is not None


def test_a_second_answer_is_not_taken_for_that_of_the_next_request(failing):
    assert failing.ask("write", text='{"to": 2, "answer": 1}\n') == 1
    with pytest.raises(EngineError, match="was asked to load and answered"):
        failing.load()


def test_an_answer_that_is_cut_off_is_no_answer(failing):
    with pytest.raises(EngineError, match="ended with status 3 in the middle of its answer"):
        failing.ask("cut_off", text='{"to": 2, "answer": [1, 2')


def test_an_engine_that_closes_its_answers_and_lives_on_is_killed(failing, monkeypatch):
    monkeypatch.setattr("benchsuite.engines.process._KILL_SECONDS", 0.1)
    with pytest.raises(EngineError, match=r"failing ended with status (137|-9) \(SIGKILL\)"):
        failing.ask("let_go")


def test_a_request_has_a_limit(failing, monkeypatch):
    monkeypatch.setattr("benchsuite.engines.process.allowed_seconds", lambda do, arguments: 0.2)
    with pytest.raises(EngineError, match=r"was asked to wait and did not answer within") as raised:
        failing.ask("wait")
    told(raised, failing)
    assert failing._process.returncode == 137


def test_an_engine_that_exits_shows_the_end_of_its_log(failing):
    with pytest.raises(EngineError, match="status 1 when asked to exit: the library gave up"):
        failing.ask("exit")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused_and_the_engine_goes_on(failing, number):
    with pytest.raises(EngineError, match="not a finite number") as raised:
        failing.load(perplexity=[number])
    told(raised, failing)
    assert failing.load(perplexity=[1.5]) == {"perplexity": [1.5]}


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (lambda e: e.generate([[1, 2]], 2), {"tokens": [[5, 6.0]], "logprobs": [[-1, -2]]}),
        (lambda e: e.score([[1, 2, 3]]), {"best": [[2]], "logprobs": [[-1.0, -2.0]]}),
        (lambda e: e.kernels([[1]], 1), {"profiling_succeeded": True}),
        (lambda e: e.prepare(None), {}),
        (lambda e: e.latency([1], 1, repeats=3, warmup=0), {"seconds": [1.0]}),
    ],
)
def test_every_request_checks_its_answer(failing, call, answer):
    failing.ask("next", value=answer)
    with pytest.raises(EngineError, match="and answered") as raised:
        call(failing)
    told(raised, failing)
    assert failing.load(threads=1) == {"threads": 1}


@pytest.mark.parametrize("exec_", ["exec ", ""])
@pytest.mark.parametrize("end", ["", "\\n"])
def test_a_banner_of_the_interpreter_goes_to_the_log(tmp_path, end, exec_):
    python = script(tmp_path / "python", BANNER.format(end), exec_)
    with EngineProcess("failing", ENTRY, log=tmp_path / "log", python=python) as process:
        assert process.load(threads=1) == {"threads": 1}
    assert b"Welcome to the cluster" in process.log.read_bytes()
    assert process._process.returncode == 0


def test_an_interpreter_that_closes_descriptors_is_told(tmp_path):
    python = tmp_path / "python"
    python.write_text(
        f"#!{sys.executable}\nimport subprocess, sys\n"
        f"sys.exit(subprocess.call([{sys.executable!r}, *sys.argv[1:]]))\n"
    )
    python.chmod(0o755)
    with (
        EngineProcess("failing", ENTRY, log=tmp_path / "log", python=str(python)) as process,
        pytest.raises(EngineError, match="name the interpreter itself"),
    ):
        process.load()


@pytest.mark.parametrize("text", [None, "not a program"])
def test_an_interpreter_that_cannot_be_started_is_named(tmp_path, text):
    python = tmp_path / "python"
    if text is not None:
        python.write_text(text)
    with pytest.raises(EngineError, match=rf"failing cannot be started with {python}.*--engine-py"):
        EngineProcess("failing", ENTRY, log=tmp_path / "log", python=str(python))


def test_where_one_process_of_a_cell_cannot_be_started_none_stays(tmp_path, monkeypatch):
    started = []
    initialise = EngineProcess.__init__

    def fails_at_the_second(self, *args, **kwargs):
        if started:
            raise EngineError("no more processes")
        initialise(self, *args, **kwargs)
        started.append(self)

    monkeypatch.setattr(EngineProcess, "__init__", fails_at_the_second)
    with pytest.raises(EngineError, match="no more processes"):
        Launcher("failing", ENTRY, tmp_path, modes={"baseline": {}, "threads": {}})
    assert started[0]._process.returncode is not None
