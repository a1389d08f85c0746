import logging
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from benchsuite.errors import CellCannotRun, UsageError
from benchsuite.evaluation import DOCUMENT_TASKS, LocalTask, evaluate_local_tasks
from benchsuite.evaluation.local_tasks import ChoiceDoc
from tests.models import tiny

pytest.importorskip("lm_eval")


def docs(n, seed):
    draw = random.Random(seed)

    def word():
        return "".join(draw.choices("abcdefgh ", k=draw.randint(1, 9))).strip() or "x"

    return tuple(
        ChoiceDoc(f"item{i}", f"Q: {word()}\nA:", tuple(f" {word()}" for _ in range(4)), i % 4)
        for i in range(n)
    )


TASKS = [LocalTask("letters", docs(30, 1)), LocalTask("others", docs(11, 2))]


@pytest.fixture(scope="module")
def model():
    return tiny.model()


@pytest.fixture(scope="module")
def result(model):
    return evaluate_local_tasks(model, tiny.tokenizer(), TASKS)


def log_likelihood(model, tokenizer, query, choice):
    """sum log p(choice | query), one token at a time, in float64."""
    context = tokenizer(query).input_ids
    tokens = context + tokenizer(choice, add_special_tokens=False).input_ids
    with torch.no_grad():
        log_p = model(torch.tensor([tokens])).logits[0].double().log_softmax(-1)
    return sum(float(log_p[t - 1, tokens[t]]) for t in range(len(context), len(tokens)))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_answers_equal_an_explicit_log_likelihood(model, result, task):
    tokenizer = tiny.tokenizer()
    correct, by_length = [], []
    for doc in task.docs:
        scores = [log_likelihood(model, tokenizer, doc.query, c) for c in doc.choices]
        correct.append(int(np.argmax(scores)) == doc.answer)
        lengths = [len(choice) for choice in doc.choices]
        by_length.append(int(np.argmax(np.array(scores) / lengths)) == doc.answer)
    assert result.correct[task.name].tolist() == correct
    assert result.ids[task.name] == tuple(doc.id for doc in task.docs)
    assert result.n[task.name] == len(task.docs)
    p = np.mean(correct)
    assert result.accuracy[task.name] == pytest.approx(100 * p)
    error = 100 * (p * (1 - p) / (len(correct) - 1)) ** 0.5
    assert result.stderr[task.name] == pytest.approx(error)
    assert result.normalised[task.name] == pytest.approx(100 * np.mean(by_length))


def test_the_average_is_over_tasks_not_items(result):
    assert list(result.accuracy) == ["letters", "others", "average"]
    mean = (result.accuracy["letters"] + result.accuracy["others"]) / 2
    assert result.accuracy["average"] == pytest.approx(mean)


def test_nothing_is_left_behind(model, capfd):
    tokenizer = tiny.tokenizer()
    random.seed(5), np.random.seed(5)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    head, attributes = model.lm_head.weight, set(vars(model))
    evaluate_local_tasks(model, tokenizer, TASKS[1:])
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert after == states
    assert tokenizer.pad_token is None
    assert model.lm_head.weight is head
    assert set(vars(model)) == attributes
    assert logging.root.manager.disable == logging.NOTSET
    assert capfd.readouterr() == ("", "")


def test_a_head_that_was_untied_stays_so():
    """lm-eval ties weights when it takes a model over, which would undo a quantized head."""
    tied = tiny.model(tie_word_embeddings=True)
    own = torch.nn.Parameter(tied.lm_head.weight.detach() + 1)
    tied.lm_head.weight = own
    evaluate_local_tasks(tied, tiny.tokenizer(), TASKS[1:])
    assert tied.lm_head.weight is own


def test_a_task_without_items_is_a_usage_error(model):
    with pytest.raises(UsageError, match="no items"):
        evaluate_local_tasks(model, tiny.tokenizer(), [LocalTask("empty", ())])


@pytest.mark.stress
def test_without_a_network_the_task_is_named(tmp_path):
    """In a process of its own: the data set library reads its variables when it is imported."""
    code = (
        "from benchsuite.evaluation import DOCUMENT_TASKS, prepare_hub_tasks\n"
        "from benchsuite.errors import CellCannotRun\n"
        "for task in DOCUMENT_TASKS:\n"
        "    try:\n        prepare_hub_tasks([task])\n"
        "    except CellCannotRun as error:\n        print(error)\n"
    )
    offline = {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | offline,
        capture_output=True,
        text=True,
        check=True,
    )
    for task in DOCUMENT_TASKS:
        assert f"the data set of the task '{task}' cannot be loaded" in done.stdout


def test_without_lm_eval_the_command_to_install_it_is_told(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(CellCannotRun, match=r"pip install 'benchsuite\[downstream\]'"):
        evaluate_local_tasks(model, tiny.tokenizer(), TASKS)


def test_the_room_imports_no_torch():
    code = "import sys, benchsuite.evaluation, benchsuite.models; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
