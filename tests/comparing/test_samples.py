"""Two evaluations that are done: lm-eval's and one's own files, paired by id."""

import json

import numpy as np
import pytest

from benchsuite.comparing.loss import loss_of
from benchsuite.comparing.samples import paired
from benchsuite.errors import BenchsuiteError, UsageError
from tests.comparing.paired import by_metric
from tests.models import tiny


def jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def logged(n, right, **more):
    """Rows as lm-eval logs them."""
    return [
        {
            "doc_id": i,
            "doc_hash": f"h{i}",
            "filter": "none",
            "metrics": ["acc", "acc_norm"],
            "acc": float(i in right),
            "acc_norm": 1.0,
        }
        | more
        for i in range(n)
    ]


def test_the_items_of_lm_eval_are_paired_by_id(tmp_path):
    base = jsonl(
        tmp_path / "a/samples_arc_easy_2026-11-26T12-00-00.123456.jsonl", logged(5, {0, 1})
    )
    other = jsonl(
        tmp_path / "b/samples_arc_easy_2026-11-27T12-00-00.jsonl", logged(5, {1, 2})[::-1]
    )

    found = by_metric(paired(base, other))

    assert set(found) == {"accuracy:arc_easy/acc", "accuracy:arc_easy/acc_norm"}
    items = found["accuracy:arc_easy/acc"]
    assert dict(zip(items.ids, items.base, strict=True)) == {str(i): i in (0, 1) for i in range(5)}
    assert dict(zip(items.ids, items.candidate, strict=True)) == {
        str(i): i in (1, 2) for i in range(5)
    }
    (one,) = paired(base, other, metric="acc").items
    assert one.metric == "accuracy:arc_easy"
    assert list(by_metric(paired(base.parent, other.parent))) == list(found)


def test_each_filter_of_a_task_is_a_metric(tmp_path):
    rows = [
        {"doc_id": i, "filter": rule, "metrics": ["exact_match"], "exact_match": float(i % 2)}
        for rule in ("strict-match", "flexible-extract")
        for i in range(4)
    ]
    path = jsonl(tmp_path / "samples_gsm8k.jsonl", rows)

    assert set(by_metric(paired(path, path))) == {
        "accuracy:gsm8k/exact_match,strict-match",
        "accuracy:gsm8k/exact_match,flexible-extract",
    }
    (one,) = paired(path, path, metric="exact_match,strict-match").items
    assert one.ids == ("0", "1", "2", "3")


def test_a_version_of_lm_eval_that_does_not_list_its_metrics_is_read(tmp_path):
    rows = [{"doc_id": i, "doc": {}, "target": 1, "acc": i % 2, "acc_norm": 1} for i in range(3)]
    path = jsonl(tmp_path / "anything.jsonl", rows)

    assert set(by_metric(paired(path, path))) == {
        "accuracy:acc",
        "accuracy:acc_norm",
    }


@pytest.mark.parametrize("names", [("base", "candidate"), ("samples_t", "candidate")])
def test_files_under_other_names_are_of_one_task(names, tmp_path):
    base, other = (jsonl(tmp_path / f"{name}.jsonl", logged(4, {0})) for name in names)

    (items,) = paired(base, other, metric="acc").items

    assert items.metric == ("accuracy:t" if "samples_t" in names else "accuracy:acc")
    assert len(items.ids) == 4


def test_unmatched_items_are_named(tmp_path):
    base, other = (tmp_path / f"{name}/samples_t.jsonl" for name in "ab")
    jsonl(base, logged(5, {0}))
    jsonl(other, logged(8, {0})[2:])

    found = paired(base, other, metric="acc")

    assert found.items[0].ids == ("2", "3", "4")
    assert found.notes == (
        "t/acc: 2 items (0, 1) only in the base, left out",
        "t/acc: 3 items (5, 6, 7) only in the candidate, left out",
    )


def test_a_metric_of_unknown_sense_is_named_and_judged_when_asked_for(tmp_path):
    rows = [
        {"doc_id": i, "metrics": ["acc", "rouge", "ppl"], "acc": 1, "rouge": i / 4, "ppl": [1, 2]}
        for i in range(4)
    ]
    path = jsonl(tmp_path / "samples_t.jsonl", rows)

    found = paired(path, path)

    assert found.notes == ("t/ppl: not judged", "t/rouge: not judged")
    assert set(by_metric(paired(path, path, metric="rouge"))) == {"score:t"}


def test_other_questions_under_the_same_ids_are_refused(tmp_path):
    base = jsonl(tmp_path / "a/samples_t.jsonl", logged(3, {0}))
    other = jsonl(tmp_path / "b/samples_t.jsonl", logged(3, {0}, doc_hash="another"))

    with pytest.raises(
        UsageError, match=r"3 of 3 ids stand for other questions .* the first is t/0"
    ):
        paired(base, other)


def test_files_of_lm_eval_itself_are_read(tmp_path):
    """Its own tracker writes what its own evaluation of two small models found."""
    pytest.importorskip("lm_eval")
    from lm_eval.evaluator import evaluate
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from benchsuite.evaluation import LocalTask
    from benchsuite.evaluation.downstream import _configuration, _undisturbed
    from benchsuite.evaluation.local_tasks import ChoiceDoc

    docs = tuple(
        ChoiceDoc(f"item{i}", f"Q: {i * 7 % 11}\nA:", (" a", " bc", " d e", " f"), i % 4)
        for i in range(24)
    )
    told = []
    for seed in (0, 1):
        model = tiny.model(seed=seed)
        with _undisturbed(model):
            loaded = TaskManager(include_defaults=False).load(
                [_configuration(LocalTask("letters", docs))]
            )
            lm = HFLM(pretrained=model, tokenizer=tiny.tokenizer(), batch_size=8)
            found = evaluate(lm=lm, task_dict=loaded, bootstrap_iters=0, log_samples=True)
            tracker = EvaluationTracker(output_path=str(tmp_path / str(seed)))
            tracker.general_config_tracker.model_name_sanitized = "tiny"
            tracker.date_id = f"2026-11-26T12-00-0{seed}.123456"
            tracker.save_results_samples("letters", found["samples"]["letters"])
        told.append(found["samples"]["letters"])
    (base,), (other,) = (list((tmp_path / str(seed)).rglob("*.jsonl")) for seed in (0, 1))

    items = by_metric(paired(base, other))["accuracy:letters/acc"]

    for side, rows in zip((items.base, items.candidate), told, strict=True):
        right = {str(row["doc_id"]): float(row["acc"]) for row in rows}
        assert dict(zip(items.ids, side, strict=True)) == right
    assert not np.array_equal(items.base, items.candidate)


# --- columns of one's own


def test_an_item_without_a_value_is_named(tmp_path):
    """It was said that the column is not there, with its name among those that are."""
    file = tmp_path / "own.jsonl"
    file.write_text('{"id": 1, "right": 1}\n{"id": 2, "right": null}\n')
    with pytest.raises(UsageError, match="has nothing in 'right'"):
        paired(file, file, columns=("id", "right"))


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_two_columns_of_ones_own_are_paired(suffix, tmp_path):
    def write(name, rows):
        path = tmp_path / f"{name}.{suffix}"
        if suffix == "jsonl":
            return jsonl(path, [{"question": k, "right": bool(v)} for k, v in rows.items()])
        between = "," if suffix == "csv" else "\t"
        lines = [["question", "right"], *([k, str(bool(v))] for k, v in rows.items())]
        path.write_text("\ufeff" + "\n".join(between.join(line) for line in lines) + "\n")
        return path

    base, other = write("a", {"q1": 1, "q2": 0}), write("b", {"q2": 1, "q1": 1})

    (items,) = paired(base, other, columns=("question", "right")).items

    assert items.metric == "accuracy:right"
    assert (items.ids, items.base.tolist(), items.candidate.tolist()) == (
        ("q1", "q2"),
        [1, 0],
        [1, 1],
    )


def test_a_column_of_nats_is_one_of_nats(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"chunk": i, "nll": 2.5 + i} for i in range(3)])

    (items,) = paired(path, path, columns=("chunk", "nll")).items

    assert items.metric == "nll:nll"


@pytest.mark.parametrize("name", ["NLL", "chunk_nll"])
def test_a_name_that_holds_nll_is_of_nats_whatever_its_values(name, tmp_path):
    """Between 0 and 1 it was a score, of which more was better: the verdict turned round."""
    path = jsonl(tmp_path / "a.jsonl", [{"chunk": i, name: 0.1 * i} for i in range(3)])

    (items,) = paired(path, path, columns=("chunk", name)).items

    assert items.metric == f"nll:{name}"


@pytest.mark.parametrize("name", ["loss", "is_wrong", "Brier", "token_error"])
def test_a_name_of_what_is_better_when_smaller_is_refused(name, tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"id": i, name: 0.5} for i in range(3)])

    with pytest.raises(UsageError, match="in its name says that it is better when smaller"):
        paired(path, path, columns=("id", name))


def test_log_probabilities_under_the_name_of_nats_are_refused(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"id": i, "nll": -1.5} for i in range(3)])

    with pytest.raises(UsageError, match=r"nll is -1.5 on average.*minus the log-probability"):
        paired(path, path, columns=("id", "nll"))


@pytest.mark.parametrize("value", [10**400, float("nan")], ids=["whole", "nan"])
def test_an_item_that_is_no_finite_number_is_named_by_its_loss(value, tmp_path):
    rows = [{"id": f"q{i}", "right": value if i == 3 else 1} for i in range(5)]
    path = jsonl(tmp_path / "a.jsonl", rows)

    (items,) = paired(path, path, columns=("id", "right")).items

    with pytest.raises(BenchsuiteError, match="1 of 5 items are not finite, the first is q3"):
        loss_of(items)


def test_a_field_of_a_csv_may_hold_a_whole_prompt(tmp_path):
    prompt = "a\u2028b\x0bc\n" * 40_000
    (tmp_path / "a.csv").write_text(f' id , right ,prompt\n7,1,"{prompt}"\n8,0,short\n')

    (items,) = paired(tmp_path / "a.csv", tmp_path / "a.csv", columns=("id", "right")).items

    assert (items.ids, items.base.tolist()) == (("7", "8"), [1, 0])


def test_two_columns_of_one_name_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("id,right,right\n7,1,0\n")

    with pytest.raises(UsageError, match="two columns 'right'"):
        paired(tmp_path / "a.csv", tmp_path / "a.csv", columns=("id", "right"))


@pytest.mark.parametrize(
    ("rows", "columns", "told"),
    [
        ([{"id": 1, "v": 1}], ("id", "w"), r"a.jsonl:1 has no column 'w'. It has id, v"),
        ([{"id": 1, "v": "many"}], ("id", "v"), "'many' is no number"),
        ([{"id": 1, "v": 1}] * 2, ("id", "v"), "the id 1 is there twice"),
        ([{"id": 1, "v": 1.5}, {"id": 2, "v": 1}], ("id", "v"), "not known what a loss is"),
        ([{"id": 1, "v": 1}], None, "has no doc_id: it is not lm-eval's"),
        ([], ("id", "v"), "holds no item"),
        ([{"doc_id": 1, "metrics": ["acc"], "acc": 1}] * 2, None, "the item 1 of acc is there"),
        ([[1, 2]], ("id", "v"), "no JSON object"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(rows, columns, told, tmp_path):
    path = jsonl(tmp_path / "a.jsonl", rows)

    with pytest.raises(BenchsuiteError, match=told):
        paired(path, path, columns=columns)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.json", '{"samples": 3}', "is not a log of Inspect's"),
        ("a.json", "{", "is not JSON"),
        ("a.eval", "no zip", "cannot be read as Inspect's"),
        ("a.jsonl", "{no}\n", "a.jsonl:1 is not JSON"),
        ("a.jsonl", None, "cannot read .*a.jsonl: No such file"),
        ("a.eval", None, "there is no .*a.eval"),
    ],
)
def test_a_file_that_is_none_of_them_is_refused(name, text, told, tmp_path):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)

    with pytest.raises(BenchsuiteError, match=told):
        paired(path, path)


def test_two_evaluations_without_a_common_item_are_refused(tmp_path):
    base = jsonl(tmp_path / "a/samples_t.jsonl", logged(3, {0}))
    other = jsonl(tmp_path / "b/samples_u.jsonl", logged(3, {0}))

    with pytest.raises(BenchsuiteError, match="have no item in common"):
        paired(base, other)
    with pytest.raises(UsageError, match=r"holds no samples_\*\.jsonl"):
        paired(tmp_path / "a", (tmp_path / "empty").mkdir() or tmp_path / "empty")
