"""The engines on a real model: what they generate, against the model itself and each other."""

import shutil
import sys
import zlib
from dataclasses import asdict

import numpy as np
import pytest

from benchsuite import catalog
from benchsuite.determinism.axes import Repeated, prefill_scoring
from benchsuite.determinism.verification import LEVEL, judge, rates, serve
from benchsuite.engines import EngineError, EngineProcess, engine
from benchsuite.records.environment import versions_in

ENTRY = catalog.model("tiny_llama_1m")
SOURCE = {"entry": asdict(ENTRY)}
STEPS = 6
PROMPTS = [[(7 * i + 3 * n) % 2000 + 5 for i in range(24)] for n in range(3)]


def started(name, folder):

    absent = [
        p for p, v in versions_in(sys.executable, engine(name).packages).items() if v == "absent"
    ]
    if absent:
        pytest.skip(f"{', '.join(absent)} is not installed: {engine(name).install}")
    return EngineProcess(name, engine(name), log=folder / f"{name}.log")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="module")
def own(folder):
    with started("transformers", folder) as process:
        yield process


@pytest.fixture(scope="module")
def plain(own):
    own.ask("load", source=SOURCE)
    return own.generate(PROMPTS, STEPS)


@pytest.mark.stress
def test_log_probs_are_the_models_own(plain):
    """Teacher-forced in one pass, without a cache."""
    from benchsuite.evaluation.generation import log_likelihoods
    from benchsuite.models import load

    expected = log_likelihoods(load(ENTRY).model, PROMPTS, plain.tokens.tolist())
    assert np.abs(plain.logprobs - np.stack(expected)).max() < 1e-4


@pytest.mark.stress
def test_given_tokens_are_scored_as_the_model_scores_them(own, plain):
    """And a completion's tokens are the best ones at their places."""
    from benchsuite.evaluation.generation import log_likelihoods
    from benchsuite.models import load

    rows = [[*p, *made] for p, made in zip(PROMPTS, plain.tokens.tolist(), strict=True)]
    scored = own.ask("score", prompts=rows)
    firsts, rests = [row[:1] for row in rows], [row[1:] for row in rows]
    expected = log_likelihoods(load(ENTRY).model, firsts, rests)
    assert np.abs(np.array(scored["logprobs"]) - np.stack(expected)).max() < 1e-4
    assert np.array_equal(np.array(scored["best"])[:, -STEPS:], plain.tokens)


@pytest.mark.parametrize("format", ["gptq", "awq"])
def test_a_checkpoint_is_prepared_loaded_and_the_same_twice(own, folder, plain, format):
    what = {
        "source": SOURCE,
        "quantizer": format,
        "group_size": 128,
        "calibration": [[(11 * i + n) % 2000 for i in range(64)] for n in range(8)],
    }
    first = own.ask("prepare", folder=str(folder / format), **what)
    again = own.ask("prepare", folder=None, **what)
    assert first["weights_sha256"] == again["weights_sha256"] is not None
    told = own.ask("load", source=SOURCE, checkpoint_folder=str(folder / format), threads=1)
    assert told["threads"] == 1
    quantized = own.generate(PROMPTS, STEPS)
    distance = np.abs(quantized.logprobs[:, 0] - plain.logprobs[:, 0]).max()
    assert 0 < distance < 2


def test_pytorchs_int4_kernel_runs_where_it_is_asked_for(own, plain):
    own.ask("load", source=SOURCE, kernel="int4")
    seen = own.ask("kernels", prompts=PROMPTS[:1], max_tokens=2)
    assert seen["profiling_succeeded"]
    names = [kernel["name"] for kernel in seen["all_kernels"]]
    assert "aten::_weight_int4pack_mm_for_cpu" in names
    assert "aten::view" not in names
    made = own.generate(PROMPTS, STEPS)
    assert 0 < np.abs(made.logprobs[:, 0] - plain.logprobs[:, 0]).max() < 2


def test_prompts_of_unequal_length_share_a_batch(own, plain):
    own.ask("load", source=SOURCE)
    made = own.generate([PROMPTS[0], PROMPTS[1][:10]], STEPS)
    assert made.tokens[0].tolist() == plain.tokens[0].tolist()
    assert np.abs(made.logprobs[0] - plain.logprobs[0]).max() < 1e-4


def test_deterministic_mode_is_switched_on_and_off(own, plain):
    own.ask("load", source=SOURCE, deterministic=True)
    made = own.generate(PROMPTS, STEPS)
    own.ask("load", source=SOURCE)
    assert np.abs(made.logprobs - plain.logprobs).max() < 1e-4


@pytest.mark.stress
def test_openvino_runs_the_same_model_in_int4(folder, plain):
    with started("openvino", folder) as process:
        target = folder / "ir"
        target.mkdir()
        process.ask("prepare", folder=str(target), source=SOURCE, group_size=128)
        process.ask("load", checkpoint_folder=str(target), threads=1)
        made, again = process.generate(PROMPTS, STEPS), process.generate(PROMPTS, STEPS)
        assert made.logprobs.tobytes() == again.logprobs.tobytes()
        assert 0 < np.abs(made.logprobs[:, 0] - plain.logprobs[:, 0]).max() < 2
        seen = process.ask("kernels", prompts=PROMPTS[:1], max_tokens=1)
        assert any("FullyConnectedCompressed" in k["name"] for k in seen["all_kernels"])
        with pytest.raises(EngineError, match="no deterministic mode"):
            process.ask("load", checkpoint_folder=str(target), deterministic=True)


@pytest.mark.stress
def test_torchao_quantizes_on_load(folder, plain):
    with started("torchao", folder) as process:
        process.ask("load", source=SOURCE)
        made = process.generate(PROMPTS, STEPS)
    assert 0 < np.abs(made.logprobs[:, 0] - plain.logprobs[:, 0]).max() < 2


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_served_token_is_judged_by_its_distance_from_the_references_choice(own, temperature):
    """Against the whole prefix read anew for every token, in numpy."""
    import torch

    from benchsuite.models import load

    own.ask("load", source=SOURCE, temperature=temperature, seed=3)
    served = own.generate(PROMPTS, STEPS).tokens.tolist()
    told = own.judge(PROMPTS, served)
    assert np.array(told["ranks"]).max() == 0
    assert np.array(told["margins"]).max() < 1e-4
    served[0][2], served[1][0], served[2][-1] = 17, 1234, 5
    told = own.judge(PROMPTS, served)
    model = load(ENTRY).model.eval()
    for prompt, tokens, ranks, margins in zip(
        PROMPTS, served, told["ranks"], told["margins"], strict=True
    ):
        mark = zlib.crc32(np.array(prompt, np.int64).tobytes())
        for step, token in enumerate(tokens):
            with torch.no_grad():
                logits = model(torch.tensor([prompt + tokens[:step]])).logits[0, -1].numpy()
            noise = np.random.default_rng([3, mark, step]).gumbel(size=len(logits))
            scores = logits + temperature * noise
            assert margins[step] == pytest.approx(scores.max() - scores[token], abs=1e-3)
            assert ranks[step] == pytest.approx((scores > scores[token]).sum(), abs=1)
    assert min(told["ranks"][0][2], told["ranks"][1][0], told["ranks"][2][-1]) > 0


def test_int4_is_told_from_the_original_by_its_tokens_alone(own):
    prompts = [[(13 * i + 7 * n) % 2000 + 5 for i in range(12)] for n in range(32)]
    made = {}
    for kernel in ("", "int4"):
        own.ask("load", source=SOURCE, kernel=kernel)
        made[kernel] = serve(own, prompts, 8, 16)
    own.ask("load", source=SOURCE)
    honest, int4 = (judge(own, prompts, served) for served in made.values())
    (row,) = rates(honest.scores, int4.scores, tokens=(100,))["rows"]
    assert row["false_alarms"] <= LEVEL
    assert row["detected"] > 0.9
    (row,) = rates(honest.scores, honest.scores, tokens=(100,))["rows"]
    assert row["detected"] <= LEVEL


def test_at_a_temperature_seed_and_prompt_fix_the_draws_wherever_they_stand(own, plain):
    own.ask("load", source=SOURCE, temperature=1.0, seed=1)
    made = own.generate(PROMPTS, STEPS)
    turned = own.generate(PROMPTS[::-1], STEPS)
    own.ask("load", source=SOURCE, temperature=1.0, seed=2)
    other = own.generate(PROMPTS, STEPS)
    assert made.tokens.tolist() == turned.tokens[::-1].tolist()
    assert made.tokens.tolist() != other.tokens.tolist()
    assert made.tokens.tolist() != plain.tokens.tolist()
    own.ask("load", source=SOURCE)
    assert own.generate(PROMPTS, STEPS).tokens.tolist() == plain.tokens.tolist()


@pytest.mark.parametrize(("format", "same"), [("gguf_f16", True), ("gguf_q4_0", False)])
def test_llama_server_serves_the_file_that_was_written(own, folder, plain, format, same):
    program = shutil.which("llama-server")
    if program is None:
        pytest.skip(f"llama-server is not on the PATH: {engine('llama_server').install}")
    (folder / format).mkdir()
    own.prepare(folder / format, source=SOURCE, quantizer=format, group_size=128, calibration=[])
    with EngineProcess(
        "llama_server", engine("llama_server"), log=folder / f"{format}.log"
    ) as process:
        process.load(
            program=program, checkpoint_folder=str(folder / format), batch=3, sample_tokens=64
        )
        made, again = process.generate(PROMPTS, STEPS), process.generate(PROMPTS, STEPS)
    assert made.logprobs.tobytes() == again.logprobs.tobytes()
    distance = np.abs(made.logprobs[:, 0] - plain.logprobs[:, 0]).max()
    assert (distance < 5e-3) == same
    assert 0 < distance < 2
    if same:
        assert made.tokens.tolist() == plain.tokens.tolist()


def test_decoding_is_held_against_reading_all_at_once(own, plain):
    own.ask("load", source=SOURCE)
    found = prefill_scoring(own, PROMPTS[0], Repeated(plain.tokens[:1], plain.logprobs[:1]))
    (row,) = found["comparisons"]
    assert found["tested"]
    assert row["same_choices"]
    assert row["l2"] < 1e-4
    other = Repeated((plain.tokens[:1] + 1) % 2000, plain.logprobs[:1])
    (row,) = prefill_scoring(own, PROMPTS[0], other)["comparisons"]
    assert not row["same_choices"]
    assert row["l2"] > 0.1
