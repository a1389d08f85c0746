"""Both latent-reasoning studies through the command that a user types, with a user's own file."""

import csv
import json
import sys
from pathlib import Path

import pytest
import yaml

from benchsuite.records import asked
from benchsuite.records.columns import read_columns
from tests import forked
from tests.conftest import read_flat
from tests.reporting.factory import undescribed

# Trainings beside which nothing else is quick; the tour and tests/latent train in every run.
pytestmark = pytest.mark.stress

ROOT = Path(__file__).parents[2]
SMALL = {
    "name": "small",
    "model": "tiny_llama_1m",
    "data": {"task": "word_problems", "marker": "####", "max_examples": 64},
    "latent": {"n_latents": 4, "passes": 2},
    "lora": {"r": 0},
    "training": {
        "learning_rate": 1e-3,
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "bf16": False,
    },
    "evaluation": {"batch_size": 500, "max_new_tokens": 2},
    "methods": {"icot": {"training": {"start_from": "no_cot"}}},
}
EVALUATED = "rephrased and (kava and seed42 or no_cot and (seed42 or seed43))"
TRAINED = "latent_training and (kava or icot) and seed42"


def run(folder, chosen, *words, small=SMALL):
    """Run cells with a small file; the reports go to ``folder``."""
    own = folder.parent / "small.yaml"
    own.write_text(yaml.safe_dump(small))
    command = [sys.executable, "-m", "pytest", "benchmarks/test_latent_reasoning.py", "-k", chosen]
    command += [f"--reports-dir={folder}", f"--set=latent_reasoning.config={own}", *words]
    return forked.run([*command, "-p", "no:cacheprovider"], ROOT)


def found(folder):
    """Return the good records by study, method and seed."""
    records = [read_flat(p) for p in (folder / "store/records").glob("*.json")]
    return {(r["cell"]["study"], r["method"], r["seed"]): r for r in records}


def checkpoints(folder):
    """Return the trained checkpoints in the store by method and seed."""
    cards = (folder / "store/artefacts").glob("*/checkpoint.json")
    read = {path.parent: json.loads(path.read_text()) for path in cards}
    return {(card["method"], card["seed"]): at for at, card in read.items()}


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Two seeds of no CoT and one of KaVa evaluated; KaVa's and iCoT's trainings as cells."""
    folder = tmp_path_factory.mktemp("latent") / "reports"
    done = run(folder, f"tiny_llama_1m and ({EVALUATED} or {TRAINED})")
    assert done.returncode == 0, done.stdout
    return folder


def test_trainings_are_made_once_and_a_method_may_start_from_another(reports):
    made = {("kava", 42), ("icot", 42), ("no_cot", 42), ("no_cot", 43)}
    assert set(checkpoints(reports)) == made
    assert set(found(reports)) == {
        *(("latent_training", method, 42) for method in ("kava", "icot")),
        *(("latent_reasoning", *of) for of in made - {("icot", 42)}),
    }


def test_a_training_cell_says_what_was_trained_and_how(reports):
    record = found(reports)["latent_training", "kava", 42]
    assert record["n_steps"] == 2
    assert set(record["loss_parts"]) == {"student", "teacher", "codi", "kv"}
    assert record["configuration"]["latent"]["n_latents"] == 4
    assert record["held_out_loss"] < record["held_out_loss_untrained"]
    assert len(read_columns(reports / "store/records" / record["items"]["file"])["loss"]) == 2


def test_an_evaluation_cell_keeps_every_item(reports):
    record = found(reports)["latent_reasoning", "kava", 42]
    columns = read_columns(reports / "store/records" / record["items"]["file"])
    assert record["n_items_asked"] == len(columns["correct"]) == 1000
    assert record["accuracy"] == pytest.approx(100 * columns["correct"].mean())
    assert record["forward_passes"] == pytest.approx(columns["passes"].mean())
    assert record["thinking_passes"] == 3


def test_an_evaluation_cell_shows_the_words_of_its_problems(reports):
    record = found(reports)["latent_reasoning", "kava", 42]
    columns = read_columns(reports / "store/records" / record["items"]["file"])
    told = record["question_sets"]["rephrased"]
    assert (told["task"], told["n"]) == ("word_problems_rephrased", 1000)
    kept = asked.kept(reports / "store", asked.set_key(told))["questions"]
    assert list(kept) == list(columns["question"])
    assert [one["gold"] for one in kept.values()] == list(columns["expected"])
    shown = [path.read_text() for path in (reports / "latent_reasoning/items").glob("asked-*.js")]
    first = json.dumps(next(iter(kept.values()))["prompt"])
    assert any(first in script for script in shown)


def test_the_documents_files_bear_the_users_configuration(reports):
    study, records = reports / "latent_reasoning", found(reports)
    folder = study / "tiny_llama_1m_equations_small" / "no_cot"
    seeds = yaml.safe_load((folder / "all_seeds_results.yaml").read_text())
    for seed in (42, 43):
        result = yaml.safe_load((folder / f"seed_{seed}" / "results_rephrased.yaml").read_text())
        assert result == seeds[f"seed_{seed}"]["rephrased"]
        assert result["accuracy"] == records["latent_reasoning", "no_cot", seed]["accuracy"]
    summary = yaml.safe_load((folder / "summary.yaml").read_text())["rephrased"]
    values = [s["rephrased"]["accuracy"] for s in seeds.values()]
    assert summary["accuracy_mean"] == pytest.approx(sum(values) / 2)
    assert summary["n_seeds"] == 2
    with open(folder / "summary.csv") as file:
        (row,) = csv.DictReader(file)
    assert float(row["accuracy_mean"]) == summary["accuracy_mean"]
    with open(study / "paper_results.csv") as file:
        rows = {row["Method"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"kava", "no_cot"}
    assert rows["kava"]["Training Data"] == "equations, small.yaml"
    assert (study / "paper_results.tex").read_text().count(r"\quad no\_cot &") == 2


def test_a_given_checkpoint_is_evaluated_and_nothing_trained(reports, tmp_path):
    given = checkpoints(reports)["kava", 42]
    folder = tmp_path / "reports"
    chosen = "tiny_llama_1m and (kava or codi) and seed42 and rephrased"
    few = "--set=latent_reasoning.n_items=100"
    done = run(folder, chosen, f"--checkpoint=tiny_llama_1m={given}", few)
    record = found(folder)["latent_reasoning", "kava", 42]
    assert record["weights"] == "checkpoint"
    answers = [
        read_columns(place / "store/records" / of["items"]["file"])["prediction"]
        for place, of in (
            (folder, record),
            (reports, found(reports)["latent_reasoning", "kava", 42]),
        )
    ]
    assert list(answers[0]) == list(answers[1][:100])
    assert not checkpoints(folder)
    # The cell of another method says what the checkpoint is.
    assert done.returncode == 1
    assert "was trained as method kava, and this cell is codi" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_document_s_evaluation_reads_the_sets_as_they_are_published(tmp_path):
    """GSM-Hard has a train split alone; a small model stands in for the document's."""
    aug = {"question": "Two and three?", "steps": ["<<2+3=5>>", "<<5*1=5>>"], "answer": "5"}
    sets = {
        "aug/train.jsonl": aug,
        "aug/validation.jsonl": aug,
        "hard/gsmhardv2.train.jsonl": {"input": "How many?", "code": "", "target": -1253.5},
    }
    for name, row in sets.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(row))
    own = SMALL | {"model": "llama3_2_1b", "data": {"task": "gsm8k_aug"}}
    done = run(
        tmp_path / "reports",
        "latent_evaluation and llama3_2_1b and equations and no_cot and gsm_hard and seed42",
        f"--local=llama3_2_1b={ROOT / 'benchsuite/embedded/models/tiny_llama_1m'}",
        f"--local=gsm8k_aug={tmp_path / 'aug'}",
        f"--local=gsm_hard={tmp_path / 'hard'}",
        small=own,
    )
    assert done.returncode == 0, done.stdout
    record = found(tmp_path / "reports")["latent_reasoning", "no_cot", 42]
    assert record["n_items_asked"] == 1
    assert record["stand_in"]


def test_a_checkpoint_of_another_seed_or_configuration_is_refused(reports, tmp_path):
    given = checkpoints(reports)["kava", 42]
    chosen = "tiny_llama_1m and kava and not kava_ and rephrased and (seed42 or seed43)"
    other = SMALL | {"latent": {"n_latents": 4, "passes": 3}}
    done = run(tmp_path / "reports", chosen, f"--checkpoint=tiny_llama_1m={given}", small=other)
    assert done.returncode == 1
    assert "was trained with latent.passes 2, and this cell has 3" in done.stdout
    assert "was trained as seed 42, and this cell is 43" in done.stdout


def test_the_study_says_what_each_column_of_its_records_is(reports):
    assert undescribed(reports) == []


def test_every_evaluation_is_charged_with_its_training(reports):
    """The second cell of a training once took 0.00 s to make what it asked."""
    records = found(reports)
    trained = records["latent_training", "kava", 42]
    asked = records["latent_reasoning", "kava", 42]
    assert asked["training_time_sec"] == trained["training_time_sec"] == trained["training_seconds"]
    assert asked["total_time_sec"] == asked["training_time_sec"] > 0
    spent = [r["training_spent_time_sec"] for r in (asked, trained)]
    assert min(spent) < asked["training_time_sec"] <= max(spent)
