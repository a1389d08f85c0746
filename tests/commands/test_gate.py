"""``benchsuite gate``, and ``--samples``: the exit status is the verdict."""

import json

import pytest
import torch

from benchsuite import catalog
from benchsuite.commands import gating
from benchsuite.commands.main import main
from benchsuite.comparing import measure, questions
from benchsuite.models import ModelPool
from benchsuite.quantizers import checkpoint, rtn

MODEL = "tiny_llama_1m"
WORDS = ["--tokens", "5120", "--seq-len", "128", "--device", "cpu"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def rounded(tmp_path_factory):
    """The model rounded to 8 and to 3 bits."""
    made = tmp_path_factory.mktemp("rounded")
    for bits in (8, 3):
        with ModelPool().lease(catalog.model(MODEL)) as leased:
            rtn.quantize(leased.model, bits=bits)
            checkpoint.save(leased.model, made / str(bits), tokenizer=leased.tokenizer)
    return made


@pytest.fixture
def seen(monkeypatch):
    """What is measured: the tokens and the questions of each batch."""
    found = {"tokens": [], "questions": []}
    read, ask = measure.read, questions.ask

    def reading(base, candidate, ids, **options):
        found["tokens"].append(ids.numel())
        return read(base, candidate, ids, **options)

    def asking(subject, asked, **options):
        found["questions"].append(len(asked.items))
        return ask(subject, asked, **options)

    monkeypatch.setattr(measure, "read", reading)
    monkeypatch.setattr(questions, "ask", asking)
    return found


def evaluations(folder, n, lost, gained):
    """Two files of one's own: the base alone is right ``lost`` times."""
    for name, right in (("base", range(lost)), ("candidate", range(lost, lost + gained))):
        rows = [f"{i},{int(i in right)}" for i in range(lost + gained)]
        rows += [f"{i},{i % 2}" for i in range(lost + gained, n)]
        (folder / f"{name}.csv").write_text("\n".join(["id,right", *rows]) + "\n")
    return ["--samples", str(folder / "base.csv"), str(folder / "candidate.csv")]


@pytest.mark.parametrize(
    ("n", "lost", "gained", "status"), [(2000, 10, 10, 0), (1000, 60, 10, 1), (200, 6, 6, 3)]
)
def test_the_status_is_the_verdict_on_samples(n, lost, gained, status, tmp_path, capsys):
    words = [*evaluations(tmp_path, n, lost, gained), "--columns", "id,right"]

    assert main(["gate", *words]) == status

    said = capsys.readouterr().out
    assert said.splitlines()[-1] == ["not worse", "worse", "", "undecided"][status]
    assert f"accuracy:right: {lost} lost, {gained} gained, exact McNemar p" in said
    assert ("items would decide if the loss is the one seen" in said) == (status == 3)
    assert main(["compare", *words]) == 0
    assert capsys.readouterr().out == said


def test_what_is_written_says_what_was_judged(tmp_path):
    words = [*evaluations(tmp_path, 200, 6, 6), "--columns", "id,right", "--margin", "accuracy=2"]
    out = {name: tmp_path / name for name in ("markdown", "json")}

    main(["gate", *words, "--alpha", ".1", *(f"--{n}={path}" for n, path in out.items())])

    told = json.loads(out["json"].read_text())
    (metric,) = told["metrics"]
    assert (told["outcome"], told["alpha"], metric["margin"]) == ("undecided", 0.1, 2.0)
    assert told["items_needed"] == metric["items_needed"] > 200
    page = out["markdown"].read_text()
    assert "**undecided**" in page.splitlines()[0]
    row = [cell.strip() for cell in page.splitlines()[4].split("|")]
    assert row[1:4] == ["accuracy:right", "50.00 %", "50.00 %"]
    assert f"{metric['items_needed']:,} items would decide" in page


def test_metrics_with_a_margin_are_judged_alone(tmp_path, capsys):
    for name in ("a", "b"):
        rows = [{"doc_id": i, "metrics": ["em", "f1"], "em": 1.0, "f1": 0.5} for i in range(900)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = ["gate", str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"), "--samples"]

    assert main([*words, "--margin", "f1=1"]) == 0
    assert "accuracy" not in capsys.readouterr().out.split("\n\n")[1]
    assert main([*words, "--margin", "kl=1"]) == 4
    assert "--margin kl is of a metric that is not measured" in capsys.readouterr().err


def test_a_clear_loss_is_measured_no_further_than_it_takes(rounded, seen, capsys):
    status = main(["gate", MODEL, str(rounded / "3"), *WORDS, "--margin", "perplexity=0.5%"])

    assert status == 1
    assert seen == {"tokens": [1024, 1024], "questions": []}  # of 5,120
    said = capsys.readouterr().out
    assert "perplexity" in said
    assert "kl" not in said.split("\n\n")[1]


def test_every_batch_is_measured_while_it_is_open(rounded, seen, capsys):
    words = ["--questions", "four_choices", "--n-questions", "20"]
    status = main(["gate", MODEL, str(rounded / "8"), *WORDS, *words, "--margin", "accuracy=1"])

    assert status == 3
    assert seen["tokens"] == []
    assert sum(seen["questions"]) == 40  # 20 by either model
    assert len(seen["questions"]) == 10
    assert "looked at 5 times" in capsys.readouterr().out


def test_what_is_decided_is_measured_no_further(rounded, seen):
    words = ["--questions", "four_choices", "--n-questions", "20", "--margin", "accuracy=1"]
    words += ["--margin", "perplexity=20%"]

    assert main(["gate", MODEL, str(rounded / "8"), *WORDS, *words]) == 3

    assert sum(seen["tokens"]) < 5120
    assert sum(seen["questions"]) == 40


def test_the_batches_are_the_whole_text(rounded, seen):
    """Undecided to the end, the perplexities are those of one reading."""
    words = [MODEL, str(rounded / "8"), *WORDS, "--margin", "perplexity=0.0001%"]
    main(["gate", *words, "--json", str(rounded / "json")])
    told = json.loads((rounded / "json").read_text())

    assert sum(seen["tokens"]) == 5120
    (metric,) = told["metrics"]
    assert metric["n_items"] == 40
    from benchsuite.corpora import load_text
    from benchsuite.evaluation.perplexity import perplexity, tokenize_protocol
    from benchsuite.models import load

    loaded = load(catalog.model(MODEL))
    text = load_text("embedded_text", "test").joined[: 16 * 5120]
    ids = tokenize_protocol(loaded.tokenizer, text)[:5120]
    with torch.no_grad():
        expected = perplexity(loaded.model, ids, seq_len=128).value
    assert metric["base"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["a", "b", "--margin", "acuracy=1"], "Did you mean 'accuracy'"),
        (["a", "b", "--alpha", "0.7"], "alpha is 0.7"),
        (["a", "b", "--samples"], "cannot read a: No such file"),
        (["a", "b", "--samples", "--columns", "id"], "--columns 'id' cannot be read"),
        (["a", "b", "--markdown", "nowhere/x.md"], "there is no folder nowhere"),
        ([MODEL, MODEL, "--margin", "accuracy:nq=1"], "is of a metric that is not measured"),
        (["a"], "required: CANDIDATE"),
    ],
)
def test_what_cannot_be_judged_has_a_status_of_its_own(words, told, capsys):
    assert main(["gate", *words]) == 4
    assert told in capsys.readouterr().err


def test_a_fault_of_ours_does_not_say_worse(monkeypatch, capsys):
    def broken(chosen, **options):
        raise RuntimeError("broken")

    monkeypatch.setattr(gating, "judge_samples", broken)

    assert main(["gate", "a", "b", "--samples"]) == 4
    assert "RuntimeError: broken" in capsys.readouterr().err
