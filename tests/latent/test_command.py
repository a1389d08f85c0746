"""``benchsuite train``: interrupted, taken up, wrongly asked."""

import json

import pytest
import yaml

from benchsuite.commands.main import main
from benchsuite.latent import checkpoint, decoding, training

SMALL = {
    "model": "tiny_llama_1m",
    "data": {"task": "word_problems", "max_examples": 8},
    "latent": {"n_latents": 2, "passes": 1},
    "lora": {"r": 0},
    "training": {
        "max_steps": 4,
        "save_steps": 2,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "bf16": False,
    },
    "evaluation": {"max_new_tokens": 1},
}


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Return ``command(folder, *words) -> status``, with few problems held out."""
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(SMALL))
    monkeypatch.setattr("benchsuite.latent.experiment.N_HELD_OUT", 4)

    def run(folder, *words):
        asked = ["--config", file, "--method", "no_cot", "--device", "cpu", "--out", folder]
        return main(["train", *(str(word) for word in (*asked, *words))])

    return run


def test_an_interrupted_training_is_taken_up_by_itself_alone(
    command, tmp_path, monkeypatch, capsys
):
    """Another seed in the same folder begins at its own beginning."""
    whole, broken, keep = tmp_path / "whole", tmp_path / "broken", checkpoint.keep

    def interrupted(*args):
        keep(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "keep", interrupted)
        assert command(broken) == 130
        assert "The same command goes on after step 2" in capsys.readouterr().err
        assert command(broken, "--seed", 43) == 130
    steps = []
    monkeypatch.setattr(training.Steps, "__call__", _noting(training.Steps.__call__, steps))
    assert command(whole, "--seed", 43) == command(broken, "--seed", 43) == 0
    assert len(steps) == 4 + 2
    weights = [(folder / "model.safetensors").read_bytes() for folder in (whole, broken)]
    assert weights[0] == weights[1]
    assert json.loads((broken / "checkpoint.json").read_text())["seed"] == 43
    assert not (broken / "unfinished").exists()


def test_a_training_whose_problems_were_mended_begins_anew(command, tmp_path, monkeypatch):
    """The same command took up a state that had been trained on the file as it was before."""
    keep, steps = checkpoint.keep, []

    def interrupted(*args):
        keep(*args)
        raise KeyboardInterrupt

    def write(answer):
        rows = [
            {"id": f"p{i}", "question": f"{i}+1?", "steps": [], "answer": answer} for i in "123"
        ]
        for split in ("train", "validation"):
            (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))

    words = tmp_path / "out", "--local", f"word_problems={tmp_path}"
    write("2")
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "keep", interrupted)
        assert command(*words) == 130
    monkeypatch.setattr(training.Steps, "__call__", _noting(training.Steps.__call__, steps))
    write("3")
    assert command(*words) == 0
    assert len(steps) == 4


def _noting(step, steps):
    def noted(*args):
        steps.append(args[-1])
        return step(*args)

    return noted


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "training.max_steps=["], "--set 'training.max_steps=[' cannot be read"),
        (["--set", "training.max_steps=-1"], "training.max_steps is -1"),
        (["--local", "word_problems"], "--local 'word_problems' cannot be read"),
        (["--local", "word_problem=x"], "Did you mean 'word_problems'"),
        (["--evaluate", "word_problem"], "Did you mean 'word_problems'"),
        (["--evaluate", "four_choices"], "the task four_choices has no word problems"),
        (["--method", "kavva"], "unknown method: 'kavva'. Did you mean 'kava'"),
        (["--start-from", "nowhere"], "nowhere/model.safetensors cannot be read"),
        (["--method", "few_shot"], "few_shot is not trained: it is the model as it is"),
        (
            ["--evaluate", "word_problems", "--set", "data.worked_examples=20"],
            "behind 20 worked examples: with 1 of an answer it exceeds the 512 positions",
        ),
    ],
)
def test_what_is_asked_wrongly_is_told_before_any_training(
    words, said, command, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(decoding, "evaluate", None)
    assert command(tmp_path / "out", *words) == 4
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out" / "training.json").exists()


@pytest.mark.parametrize("long", ["train", "validation", "test"])
def test_a_problem_beyond_the_context_is_told_before_any_training(
    long, command, tmp_path, monkeypatch, capsys
):
    """Rotary models read on beyond it, and what they answered there was counted."""
    monkeypatch.setattr(training, "train", None)
    for split in ("train", "validation", "test"):
        words = "many " * (600 if split == long else 3)
        row = {"question": f"{words}apples?", "steps": ["1+1=2"], "answer": "2"}
        lines = (json.dumps({**row, "id": f"{split}{i}"}) for i in range(3))
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines))
    words = ["--local", f"word_problems={tmp_path}", "--evaluate", "word_problems"]
    assert command(tmp_path / "out", *words) == 4
    said = capsys.readouterr().err
    assert ("question test0 has" if long == "test" else "a row of the training") in said
    assert "512 positions" in said


def test_the_command_shows_worked_examples_as_the_cells_do(command, tmp_path, monkeypatch):
    """They were left out without a word: no example stood before the questions."""
    shown = []

    def evaluate(*args, worked=()):
        shown.extend(worked)
        return original(*args, worked=worked)

    original = decoding.evaluate
    monkeypatch.setattr(decoding, "evaluate", evaluate)
    few = [{"id": f"p{i}", "question": f"{i}+1?", "steps": [], "answer": "2"} for i in range(6)]
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, few)))
    words = ["--local", f"word_problems={tmp_path}", "--evaluate", "word_problems"]
    assert command(tmp_path / "out", *words, "--set", "data.worked_examples=2") == 0
    assert [problem.id for problem in shown] == ["p0", "p1"]
