"""Training: resumed bit for bit, memory that runs out, what a checkpoint holds, LoRA, tracking."""

import copy
import itertools
import sys
from types import SimpleNamespace

import pytest
import torch

from benchsuite.embedded.schema import Problem
from benchsuite.errors import BenchsuiteError, CellCannotRun, UsageError
from benchsuite.latent import checkpoint, training
from benchsuite.latent.config import Data
from benchsuite.latent.methods.registry import METHODS, config_of, method
from benchsuite.latent.network import Reasoner
from benchsuite.latent.tracking import tracker
from tests.latent.conftest import network


@pytest.fixture
def short(config):
    how = {"max_steps": 6, "per_device_train_batch_size": 3, "save_steps": 2}
    return config.changed({"training": how, "latent": {"n_latents": 3}})


def single(**options):
    net = network(**options)
    return net.float()


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_what_it_should_and_its_parts_are_finite(name, form, examples, short):
    config = config_of(name, short).changed({"training": {"max_steps": 2}})
    net = single(projection=config.latent.projection, auxiliary=name == "sim_cot")
    before = copy.deepcopy(net.state_dict())
    run = training.train(net, method(name), config, form, examples, seed=1)
    assert len(run.losses) == 2
    kinds = {"student", "teacher", "codi", "kv"} if "answer" not in run.losses[0] else {"answer"}
    kinds -= {"kava_no_kv": {"kv"}, "codi": {"kv"}, "pccot": {"kv"}}.get(name, set())
    kinds -= {"kava_no_codi": {"codi"}, "sim_cot": {"kv"}}.get(name, set())
    kinds |= {"sim_cot": {"steps"}}.get(name, set())
    assert set(run.losses[0]) == kinds
    after = net.state_dict()
    assert not torch.equal(
        before["lm.model.layers.0.mlp.up_proj.weight"],
        after["lm.model.layers.0.mlp.up_proj.weight"],
    )


@pytest.mark.parametrize("name", ["kava", "icot"])
@pytest.mark.parametrize("lora_r", [0, 2])
def test_a_resumed_training_gives_the_bits_of_an_unbroken_one(
    name, lora_r, form, examples, short, tmp_path
):
    if lora_r:
        pytest.importorskip("peft")
    options = {"lora_r": lora_r, "lora_dropout": 0.3}

    def stop(stage, done, total):
        if done == 5:  # after the state of step 4 was kept
            raise KeyboardInterrupt

    config, chosen = config_of(name, short), method(name)
    whole = single(**options)
    run = training.train(whole, chosen, config, form, examples, seed=7)
    with pytest.raises(KeyboardInterrupt):
        training.train(
            single(**options),
            chosen,
            config,
            form,
            examples,
            seed=7,
            checkpoints=tmp_path,
            progress=stop,
        )
    assert [p.name for p in tmp_path.iterdir()] == ["step-0000004"]
    resumed = single(**options)
    again = training.train(resumed, chosen, config, form, examples, seed=7, checkpoints=tmp_path)
    assert again.resumed_at == 4
    assert again.losses == run.losses
    assert same(resumed, whole)


def test_a_resumed_training_has_the_seconds_of_all_its_steps(
    form, examples, short, tmp_path, monkeypatch
):
    """A clock that moves by one at each look: a training that was taken up had its last steps'."""
    clock = itertools.count()
    monkeypatch.setattr(training.time, "perf_counter", lambda: float(next(clock)))
    config, chosen = config_of("no_cot", short), method("no_cot")
    whole = training.train(single(), chosen, config, form, examples, seed=7)
    training.train(single(), chosen, config, form, examples, seed=7, checkpoints=tmp_path)
    again = training.train(single(), chosen, config, form, examples, seed=7, checkpoints=tmp_path)
    assert again.resumed_at == 4
    assert again.seconds == whole.seconds


def test_a_state_that_is_cut_off_costs_its_steps_and_no_more(form, examples, short, tmp_path):
    config, chosen = config_of("no_cot", short), method("no_cot")
    whole, again = single(), single()
    training.train(whole, chosen, config, form, examples, seed=7, checkpoints=tmp_path)
    (state,) = tmp_path.iterdir()
    weights = state / "optimizer.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    run = training.train(again, chosen, config, form, examples, seed=7, checkpoints=tmp_path)
    assert run.resumed_at == 0
    assert same(again, whole)


def test_accumulated_micro_batches_are_one_batch(form, examples, short):
    """A sequence weighs the same in every micro-batch: the step does not depend on their size."""
    config = config_of("no_cot", short).changed({"training": {"max_steps": 2}})
    sizes = ((6, 1), (2, 3))
    nets = []
    for size, steps in sizes:
        how = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps}
        net = network(projection=False)  # in float64
        training.train(
            net, method("no_cot"), config.changed({"training": how}), form, examples, seed=3
        )
        nets.append(net)
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_out_of_memory_names_the_setting_and_keeps_the_batch(form, examples, short, monkeypatch):
    def exhausted(self, *args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr(Reasoner, "extend", exhausted)
    how = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}
    config = short.changed({"training": how})
    with pytest.raises(BenchsuiteError, match=r"batch_size to 2 and .* from 4 to 8"):
        training.train(single(), method("kava"), config, form, examples, seed=1)


def test_an_infinite_loss_is_named_with_its_step(form, examples, short):
    net = single()
    with torch.no_grad():
        net.special.fill_(float("nan"))
    with pytest.raises(BenchsuiteError, match="loss of step 1 is not finite: student nan"):
        training.train(net, method("pccot"), short, form, examples, seed=1)


def test_a_finished_checkpoint_brings_the_weights_back(tmp_path):
    trained, fresh = single(seed=1), single(seed=2)
    card = {"method": "kava", "seed": 1, "config": {}}
    checkpoint.save(tmp_path, trained, card)
    assert not same(fresh, trained)
    checkpoint.restore(tmp_path, fresh)
    assert same(fresh, trained)
    assert checkpoint.read_card(tmp_path) == card
    with pytest.raises(BenchsuiteError, match=r"projection\.0\.bias is .*, here .* no such tensor"):
        checkpoint.restore(tmp_path, single(projection=False))


def test_a_damaged_checkpoint_is_named_with_what_is_wrong(tmp_path):
    net = single()
    with torch.no_grad():
        net.special.fill_(float("nan"))
    checkpoint.save(tmp_path, net, {"method": "kava"})
    with pytest.raises(BenchsuiteError, match="NaN or infinite values, special the first"):
        checkpoint.restore(tmp_path, net)
    with pytest.raises(UsageError, match=r"checkpoint\.json has no 'seed'"):
        checkpoint.read_card(tmp_path)
    (tmp_path / "checkpoint.json").write_text('{"method"')
    with pytest.raises(UsageError, match=r"checkpoint\.json cannot be parsed"):
        checkpoint.read_card(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UsageError, match=r"model\.safetensors cannot be read"):
        checkpoint.restore(tmp_path, net)


def test_starting_from_another_method_takes_the_model_alone(tmp_path):
    trained, fresh = single(projection=False, seed=1), single(seed=2)
    with torch.no_grad():
        trained.lm.model.norm.weight.fill_(0.5)
    checkpoint.save(tmp_path, trained, {})
    checkpoint.restore(tmp_path, fresh, model_only=True)
    assert (fresh.lm.model.norm.weight == 0.5).all()
    assert torch.equal(fresh.special, single(seed=2).special)


def test_lora_trains_adapters_projection_and_special_tokens_alone():
    pytest.importorskip("peft")
    net = single(lora_r=2)
    names = set(checkpoint.trained(net))
    assert {n for n in names if not n.startswith(("special", "projection"))} == {
        n for n in names if "lora_" in n
    }
    assert sum("lora_A" in n for n in names) == 2 * 7  # two blocks, seven linear layers each


def test_no_run_is_tracked_unless_asked_for_and_wandb_is_named_when_missing(config, monkeypatch):
    with tracker(config, "kava", 42) as track:
        assert track is None
    monkeypatch.setitem(sys.modules, "wandb", None)
    asked = config.changed({"training": {"wandb": True}})
    with pytest.raises(CellCannotRun, match="pip install wandb"), tracker(asked, "kava", 42):
        pass


def test_a_tracker_that_begins_no_run_says_what_to_do_and_a_failed_run_is_one(config, monkeypatch):
    wandb = pytest.importorskip("wandb")
    asked = config.changed({"training": {"wandb": True}})

    def refused(**facts):
        raise wandb.errors.UsageError("No API key configured")

    monkeypatch.setattr(wandb, "init", refused)
    told = "No API key configured. .*WANDB_MODE=offline"
    with pytest.raises(BenchsuiteError, match=told), tracker(asked, "kava", 42):
        pass
    ended = []
    run = SimpleNamespace(finish=lambda exit_code=0: ended.append(exit_code))
    monkeypatch.setattr(wandb, "init", lambda **facts: run)
    with pytest.raises(KeyboardInterrupt), tracker(asked, "kava", 42):
        raise KeyboardInterrupt
    assert ended == [1]


def test_a_tracked_run_bears_the_documents_name(config, form, examples, monkeypatch):
    seen = {"logged": []}

    def init(**facts):
        seen["init"] = facts
        log = lambda values, step: seen["logged"].append((step, set(values)))  # noqa: E731
        return SimpleNamespace(log=log, finish=lambda: seen.setdefault("finished", True))

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    how = {"wandb": True, "max_steps": 2, "per_device_train_batch_size": 2}
    asked = config.changed({"training": how})
    with tracker(asked, "no_cot", 43) as track:
        training.train(
            single(projection=False), method("no_cot"), asked, form, examples, seed=43, track=track
        )
    assert seen["init"]["name"] == "tiny_llama_1m_word_problems_seed43"
    assert seen["logged"] == [(1, {"loss", "answer"}), (2, {"loss", "answer"})]
    assert seen["finished"]


def test_graphs_without_a_gpu_change_no_bit_and_are_said_to_have_no_effect(
    form, examples, short, caplog
):
    nets = single(), single()
    for net, asked in zip(nets, (False, True), strict=True):
        config = short.changed({"training": {"max_steps": 2, "cuda_graphs": asked}})
        training.train(net, method("kava"), config, form, examples, seed=1)
        assert ("cuda_graphs has no effect" in caplog.text) == asked
    assert same(*nets)


def test_codis_filters_leave_long_rows_and_other_answers_out(form):
    def row(answer, n_words=1):
        return Problem("id", "How many?", ("many " * n_words,), answer)

    rows = [row("7"), row("-7"), row("8", 300), row("9")]
    lengths = [each.n_tokens for each in form.encode(rows)]
    assert lengths[0] == lengths[3] < lengths[2]
    kept = form.training_set(rows, Data(max_tokens=lengths[0], digit_answers=True))
    assert kept == form.encode([rows[0], rows[3]])
    assert len(form.training_set(rows, Data())) == 4
    with pytest.raises(UsageError, match=r"max_tokens = 1 and .* leave none of 4 rows"):
        form.training_set(rows, Data(max_tokens=1))
