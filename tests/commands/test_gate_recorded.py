"""A gate is a record: the same command is served from it, and a broken one goes on."""

import json

import pytest

from benchsuite.commands.main import main
from benchsuite.comparing import questions
from benchsuite.comparing.gating import Gated
from benchsuite.records.comparisons import Comparisons

MODEL, OTHER = "tiny_llama_1m", "tiny_llama_4m"
WORDS = ["gate", OTHER, MODEL, "--tokens", "1280", "--seq-len", "64", "--device", "cpu"]
WORDS += ["--questions", "closed_book", "--n-questions", "10"]
OPEN = ["--margin", "accuracy=5", "--margin", "perplexity=0.0001%"]

pytestmark = pytest.mark.usefixtures("folder")


def records(folder):
    return sorted((folder / "reports/store/comparisons").glob("*.json"))


def test_the_same_gate_is_served_from_its_record(folder, done, capsys):
    words = [*WORDS, "--margin", "perplexity=0.5%"]
    first_status = main([*words, f"--json={folder}/first.json"])
    first, measured = capsys.readouterr().out, list(done)
    assert measured
    assert main([*words, f"--json={folder}/second.json"]) == first_status
    second = capsys.readouterr().out
    assert done == measured
    assert second.startswith(first)
    assert f"{MODEL}: from the record of 20" in second
    assert (folder / "first.json").read_text() == (folder / "second.json").read_text()
    assert not list((folder / "reports/store/unfinished").iterdir())


def test_the_record_has_the_verdict_and_what_it_is_made_of(folder):
    status = main([*WORDS, *OPEN, "--alpha", "0.1", "--power", "0.8"])
    (record,) = Comparisons(folder / "reports").all()
    found = record.found
    assert isinstance(found, Gated)
    assert {"not_worse": 0, "worse": 1, "undecided": 3}[found.verdict.outcome] == status
    assert (found.verdict.alpha, found.verdict.power) == (0.1, 0.8)
    assert record.inputs["margins"] == {"nll": "0.0001%", "accuracy:closed_book": "5"}
    assert found.planned == {"nll": 20, "accuracy:closed_book": 10}
    used = {items.metric: len(items.ids) for items in found.items}
    assert list(used.values()) == [metric.n_items for metric in found.verdict.metrics]
    assert 1 <= found.verdict.looks <= 5
    assert json.loads(records(folder)[0].read_text())["kind"] == "gate"


@pytest.mark.parametrize(
    "words", [["--alpha", "0.1"], ["--power", "0.8"], ["--margin", "perplexity=1%"]]
)
def test_what_changes_the_outcome_is_another_record(words, folder, done):
    main([*WORDS, "--margin", "perplexity=0.5%"])
    before = len(done)
    main([*WORDS, "--margin", "perplexity=0.5%", *words])
    assert len(done) > before
    assert len(records(folder)) == 2


def test_rerun_measures_again_and_overwrites_nothing(folder, done, capsys):
    main([*WORDS, *OPEN])
    (first,) = records(folder)
    content, n = first.read_bytes(), len(done)
    main([*WORDS, *OPEN, "--rerun"])
    assert len(done) == 2 * n
    assert "measured again, the same bits as the record of" in capsys.readouterr().out
    assert {path.name.partition(".")[2] for path in records(folder)} == {"json", "rerun-1.json"}
    assert first.read_bytes() == content


def test_a_broken_gate_goes_on_at_the_batch_it_was_in(folder, done, monkeypatch):
    ask = questions.ask

    def breaking(subject, each, **options):
        if subject.name == MODEL and done.count(f"{MODEL} closed_book") == 1:
            raise KeyboardInterrupt
        return ask(subject, each, **options)

    with monkeypatch.context() as broken:
        broken.setattr(questions, "ask", breaking)
        assert main([*WORDS, *OPEN]) == 130
    before, done[:] = list(done), []
    main([*WORDS, *OPEN])
    assert before
    assert "text" in before
    resumed = json.loads(records(folder)[0].read_text())["results_sha256"]
    parts, done[:] = list(done), []
    main([*WORDS, *OPEN, "--rerun"])
    assert len(before) + len(parts) == len(done)
    assert {json.loads(p.read_text())["results_sha256"] for p in records(folder)} == {resumed}
