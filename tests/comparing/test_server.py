"""A model behind a server beside one that lies here: the same numbers, whatever goes wrong."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchsuite.commands.main import main
from benchsuite.comparing import endpoint
from benchsuite.comparing.comparison import Settings, compare
from benchsuite.comparing.journal import Journal
from benchsuite.comparing.prompt_log_probs import UNKNOWN, Texts, Unreadable, read_said
from benchsuite.comparing.questions import ask, question_set
from benchsuite.comparing.served import Serving
from benchsuite.comparing.server import Sides
from benchsuite.comparing.subject import open_subject, open_tokenizer
from benchsuite.comparing.texts import open_text
from benchsuite.errors import BenchsuiteError, UsageError
from tests.comparing import openai_server

BASE, OTHER = "tiny_llama_1m", "tiny_llama_4m"
KEY = "sk-a-secret-that-nothing-repeats"
PROBES = 3


@pytest.fixture(scope="module")
def base():
    return open_subject(BASE)


@pytest.fixture(autouse=True)
def at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(endpoint, "PAUSE", 0.001)
    for name in ("OPENAI_API_KEY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server(base):
    with openai_server.running(base.model, base.tokenizer) as found:
        yield found


def settings(**changes):
    sets = tuple(question_set(name, 4) for name in ("closed_book", "four_choices"))
    found = Settings(open_text("embedded_text"), 512, 128, sets, speed=False)
    return replace(found, **changes)


@pytest.fixture(scope="module")
def local():
    return compare(BASE, [OTHER], settings()).pairs[0]


def by_metric(pair):
    return {items.metric: items for items in (*pair.items, *pair.shares)}


def check_equal(pair, local):
    found, expected = by_metric(pair), by_metric(local)
    assert set(found) == set(expected) - {"kl"}
    for metric, items in found.items():
        assert items.ids == expected[metric].ids
        for side in ("base", "candidate"):
            here, there = getattr(items, side), getattr(expected[metric], side)
            np.testing.assert_allclose(here, there, atol=1e-4, err_msg=metric)
    assert pair.flips == local.flips


@pytest.mark.parametrize("way", ["prompt_logprobs", "echo"])
def test_a_server_is_what_its_model_is(server, local, way):
    server.way = way
    pair = compare(server.url, [OTHER], settings()).pairs[0]
    check_equal(pair, local)
    assert any("KL over the whole vocabulary" in why for why in pair.refused)
    assert np.abs(pair.floor["nll"].candidate - pair.floor["nll"].base).max() < 1e-6


@pytest.mark.stress
def test_it_may_be_the_candidate(server, base):
    found = compare(BASE, [f"{server.url}#tiny"], settings())
    pair = by_metric(found.pairs[0])
    for items in pair.values():
        np.testing.assert_allclose(items.base, items.candidate, atol=1e-4)
    assert (pair["same_top"].candidate == 1).all()
    assert found.pairs[0].facts.name == f"{server.url}#tiny"
    assert found.pairs[0].facts.read_by == "a server (ours)"


@pytest.mark.stress
def test_two_servers_need_a_tokenizer(server):
    with pytest.raises(UsageError, match="--tokenizer"):
        compare(server.url, [server.url], settings())
    serving = Serving(tokenizer=BASE)
    pair = compare(server.url, [server.url], settings(), serving=serving).pairs[0]
    items = by_metric(pair)["nll"]
    np.testing.assert_allclose(items.base, items.candidate, atol=1e-6)


def test_it_is_asked_by_the_ids_that_the_other_side_reads(server, base):
    asked = question_set("closed_book", 3)
    side = Sides((server.url, BASE)).open(0)
    answers, expected = ask(side, asked), ask(base, asked)
    assert answers.texts == expected.texts
    for body in server.asked[PROBES - 1 :]:
        assert body["temperature"] == 0
    assert all(isinstance(i, int) for body in server.asked[-3:] for i in body["prompt"])


def test_scored_options_are_those_of_the_model(server, base):
    asked = replace(question_set("four_choices", 5), form="likelihood")
    answers = ask(Sides((server.url, BASE)).open(0), asked)
    assert answers.texts == ask(base, asked).texts


@pytest.mark.stress
def test_faults_are_tried_again(server, local):
    faults = [500, 429, None, "broken", None, "cut", 503, None, 502, "broken", 429, None]
    server.fail(faults * 2)
    # One after the other, so that no request meets more faults than it makes attempts.
    serving = Serving(requests=1)
    check_equal(compare(server.url, [OTHER], settings(), serving=serving).pairs[0], local)
    assert next(server.faults, "all met") == "all met"


def test_a_server_that_stays_broken_is_told_in_a_paragraph(server):
    server.fail([], then=503)
    with pytest.raises(BenchsuiteError, match=r"answers 503 6 times: a fault on purpose") as told:
        compare(server.url, [OTHER], settings())
    assert server.url in str(told.value)
    with pytest.raises(BenchsuiteError, match=r"no answer in 3 attempts: .*refused"):
        compare("http://127.0.0.1:9/v1", [OTHER], settings())


def test_a_wrong_model_is_told_with_the_right_ones(server):
    with pytest.raises(UsageError, match=r"'tinny'.* Did you mean 'tiny'"):
        compare(f"{server.url}#tinny", [OTHER], settings())
    server.models = ("a", "b")
    with pytest.raises(UsageError, match=r"lists 2 models.*/v1#a, .*/v1#b"):
        compare(server.url, [OTHER], settings())


@pytest.mark.stress
def test_without_log_probabilities_answers_are_compared_alone(server, local):
    server.way = ""
    pair = compare(server.url, [OTHER], settings()).pairs[0]
    assert [items.metric for items in pair.items] == [
        "accuracy:closed_book",
        "f1:closed_book",
        "accuracy:four_choices",
    ]
    assert pair.flips == local.flips
    assert any("gives no log-probabilities of a prompt" in why for why in pair.refused)
    scored = replace(question_set("four_choices", 5), form="likelihood")
    with pytest.raises(UsageError, match="four_choices: it is answered by the options'"):
        compare(server.url, [OTHER], settings(sets=(scored,)))


def test_another_vocabulary_is_refused(server):
    server.tokens_of_text = 2
    with pytest.raises(UsageError, match="of different vocabularies"):
        compare(server.url, [OTHER], settings())


def test_a_server_of_texts_alone_is_refused(server):
    server.takes_ids = False
    with pytest.raises(UsageError, match=r"takes no prompt of token ids: .* must be a string"):
        compare(server.url, [OTHER], settings())


def test_chunks_beyond_its_context_are_refused(server):
    server.length = 100
    with pytest.raises(UsageError, match="Give --seq-len 99 or less"):
        compare(BASE, [server.url], settings(sets=()))


@pytest.mark.stress
def test_no_more_are_asked_at_once_than_told(server):
    compare(server.url, [OTHER], settings(), serving=Serving(requests=2))
    assert server.most == 2


def test_a_broken_run_goes_on(server, local, tmp_path):
    path = tmp_path / "answers.jsonl"
    server.fail([None] * 12, then=400)
    with pytest.raises(BenchsuiteError, match="answers 400"):
        compare(server.url, [OTHER], settings(), serving=Serving(journal=Journal(path)))
    kept = path.read_text().splitlines()
    assert len(kept) == 12 - PROBES
    path.write_text("\n".join(kept) + '\n{"endpoint": "http')  # killed in the middle of a line
    server.fail([])
    before = len(server.asked)
    journal = Journal(path)
    check_equal(
        compare(server.url, [OTHER], settings(), serving=Serving(journal=journal)).pairs[0], local
    )
    assert journal.resumed == len(kept)
    n_asked = 2 * 8 + 2 * 4  # questions and chunks, and their floor
    assert len(server.asked) - before == n_asked - len(kept) + PROBES
    assert {line["model"] for line in map(json.loads, kept)} == {"tiny"}


def test_answers_of_another_question_are_not_taken(server, tmp_path):
    path = tmp_path / "answers.jsonl"
    asked = question_set("closed_book", 3)
    ask(Sides((server.url, BASE), serving=Serving(journal=Journal(path))).open(0), asked)
    journal = Journal(path)
    side = Sides((server.url, BASE), serving=Serving(journal=journal)).open(0)
    ask(side, replace(asked, items=question_set("closed_book", 6).items[3:]))
    assert journal.resumed == 0
    ask(side, asked)
    assert journal.resumed == 3


def everything(words, capsys):
    status = main([str(word) for word in words])
    said = capsys.readouterr()
    return status, said.out + said.err


@pytest.mark.stress
def test_the_key_is_nowhere(server, tmp_path, monkeypatch, capsys):
    server.key = KEY
    monkeypatch.setenv("THEIR_KEY", KEY)
    forms = ("json", "html", "markdown", "junit")
    words = ["compare", server.url, OTHER, "--tokens", "256", "--seq-len", "128", "--no-speed"]
    words += ["--questions", "closed_book", "--n-questions", "2", "--key-env", "THEIR_KEY"]
    words += [part for form in forms for part in (f"--{form}", tmp_path / form)]
    server.fail([None] * 5, then=400)
    status, said = everything(words, capsys)
    assert status != 0
    journal = tmp_path / "benchsuite-answers.jsonl"
    assert KEY not in said + journal.read_text()
    server.fail([])
    status, more = everything(words, capsys)
    assert status == 0
    assert f"Bearer {KEY}" in server.headers
    assert "came from a run that broke off" in more
    assert not journal.exists()
    for path in filter(Path.is_file, tmp_path.rglob("*")):
        assert KEY not in path.read_text(), path
    assert KEY not in more
    assert "read by a server (ours)" in more


def test_what_a_server_serves_is_recorded_and_measured_again(server, tmp_path):
    words = ["compare", server.url, OTHER, "--tokens", "256", "--seq-len", "128", "--no-speed"]
    asked = []
    for _ in range(2):
        assert main(words) == 0
        asked.append(len(server.asked))
    assert asked[1] == 2 * asked[0]
    kept = [path.read_text() for path in (tmp_path / "reports/store/comparisons").iterdir()]
    assert len(kept) == 2
    assert all(server.url in text for text in kept)


def test_a_refused_key_is_not_repeated(server, monkeypatch, capsys):
    server.key = "another"
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    status, said = everything(["compare", server.url, OTHER], capsys)
    assert status != 0
    assert "the server does not take the key in OPENAI_API_KEY: it answers 401" in said
    assert "[the key]" in said
    assert KEY not in said
    monkeypatch.setenv("OPENAI_API_KEY", KEY + "\n")
    status, said = everything(["compare", server.url, OTHER], capsys)
    assert "a line break" in said
    assert KEY not in said
    monkeypatch.delenv("OPENAI_API_KEY")
    said = everything(["compare", server.url, OTHER], capsys)[1]
    assert "asks for a key, and there is none in OPENAI_API_KEY" in said
    words = ["compare", server.url, OTHER, "--key-env", "NOT_THERE"]
    assert "no key in NOT_THERE" in everything(words, capsys)[1]


@pytest.mark.parametrize("word", ["http://me:sk-123@host/v1", "http://host/v1?key=sk-123"])
def test_a_key_in_an_address_is_refused_and_not_shown(word, capsys):
    for command in ("compare", "gate"):
        status, said = everything([command, OTHER, word], capsys)
        assert status != 0
        assert "OPENAI_API_KEY" in said
        assert "sk-123" not in said


def test_a_redirection_is_not_followed(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.fail([307])
    with pytest.raises(BenchsuiteError, match=r"answers 307.*redirections are not followed"):
        compare(server.url, [OTHER], settings())


@pytest.mark.stress
def test_a_gate_asks_a_server(server, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--tokens", "2560", "--seq-len", "128", "--device", "cpu"]
    margin = ["--margin", "perplexity=2%"]
    assert everything(["gate", server.url, BASE, *words, *margin], capsys)[0] == 0
    assert everything(["gate", server.url, OTHER, *words, *margin], capsys)[0] == 0
    assert everything(["gate", OTHER, server.url, *words, *margin], capsys)[0] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["reports"]
    status, said = everything(["gate", BASE, server.url, *words, "--margin", "kl=0.1"], capsys)
    assert status == 4
    assert "cannot judge KL over the whole vocabulary" in said


def test_a_server_alone_has_nothing_beside_it(server, capsys):
    assert "nothing to compare it with" in everything(["compare", server.url], capsys)[1]


def test_log_probabilities_are_read_or_refused():
    texts = Texts(open_tokenizer(BASE))
    rows = [None, {"5": {"logprob": -1.0}, "3": {"logprob": -0.5}}, {"7": {"logprob": -0.1}}]
    said = read_said("prompt_logprobs", {"prompt_logprobs": rows}, [2, 5, 7], texts)
    assert said.log_probs.tolist() == [-1.0, -0.1]
    assert said.top.tolist() == [3, 7]
    for ids in ([2, 5], [2, 6, 7]):
        with pytest.raises(Unreadable):
            read_said("prompt_logprobs", {"prompt_logprobs": rows}, ids, texts)
    bad = [None, {"5": {"logprob": math.nan}}]
    with pytest.raises(Unreadable, match="not finite"):
        read_said("prompt_logprobs", {"prompt_logprobs": bad}, [2, 5], texts)


def test_a_text_that_several_tokens_have_is_unknown():
    tokenizer = open_tokenizer(BASE)
    texts = Texts(tokenizer)
    assert texts.id_of("token_id:12") == 12
    assert texts.id_of("no token has this text") == UNKNOWN
    shown = [tokenizer.decode([i]) for i in range(300)]
    for i in (i for i in range(300) if shown.count(shown[i]) > 1):
        assert texts.id_of(shown[i]) == UNKNOWN
