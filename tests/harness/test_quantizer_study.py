"""The quantizer study through the command that a user types, at small counts."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from benchsuite import catalog
from benchsuite.embedded import models
from benchsuite.quantizers.registry import LIBRARIES, QUANTIZERS
from benchsuite.records.reading import read
from benchsuite.study import study
from tests import forked
from tests.reporting.factory import undescribed

# Several methods with all their questions; the tour runs some of its cells in every change.
pytestmark = pytest.mark.stress

ROOT = Path(__file__).parents[2]
SMALL = [
    f"--set=quantizers.{setting}"
    for setting in (
        "n_calibration_samples=8",
        "seq_len=64",
        "evaluation_tokens=1024",
        "pool_documents=200",
        "n_questions=8",
        "maths_new_tokens=8",
        "latency_tokens=4",
    )
]


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """The records of a few methods of every kind on one embedded model."""
    reports = tmp_path_factory.mktemp("reports")
    methods = "fp16 or rtn_w3 or gptq_w3 or smoothquant_w8a8 or zeroed"
    chosen = f"tiny_llama_1m and seed42 and ({methods})"
    command = [sys.executable, "-m", "pytest", "benchmarks/test_quantizers.py", "-k", chosen]
    options = ("--save-models", f"--reports-dir={reports}", "-p", "no:cacheprovider", *SMALL)
    done = forked.run([*command, *options], ROOT)
    assert done.returncode == 0, done.stdout
    found = {}
    for path in (reports / "quantizers/raw_runs").glob("*.json"):
        record = json.loads(path.read_text())
        found[record["method"]] = record | {"reports": reports}
    for folder in (reports / "quantizers/quantized_models").iterdir():
        method = folder.name.split("__")[1]
        found[method]["saved"] = json.loads((folder / "metadata.json").read_text())
        found[method]["files"] = {path.name for path in folder.iterdir()}
    return found


def test_what_was_asked_is_kept_once_and_shown_with_the_answers(records):
    reports = records["fp16"]["reports"]
    assert len(list((reports / "store/asked").glob("*.json"))) == 4  # three sets and the text
    (asked,) = (reports / "quantizers/items").glob("asked-*.js")
    told = json.loads(asked.read_text().partition(",")[2].rstrip()[:-1])
    assert len(told["prompts"]) == 24
    assert all(told["prompts"])
    assert all(told["gold"])
    assert all(told["texts"])


def test_rounding_costs_more_than_gptq_and_both_cost_something(records):
    perplexity = {method: record["perplexity"] for method, record in records.items()}
    assert perplexity["fp16"] < perplexity["gptq_w3"] < perplexity["rtn_w3"]
    assert perplexity["zeroed_layer"] > perplexity["rtn_w3"]


def test_the_original_diverges_from_itself_by_nothing(records):
    assert records["fp16"]["kl"] == pytest.approx(0, abs=1e-9)
    assert records["rtn_w3"]["kl"] > records["smoothquant_w8a8"]["kl"] > 0


def test_sizes_are_those_of_the_packed_model(records):
    assert records["fp16"]["compression_ratio"] == 1
    # Stored in bfloat16, whatever it runs in.
    stored = 2 * catalog.model("tiny_llama_1m").n_parameters / 1e6
    assert records["fp16"]["size_after_mb"] == pytest.approx(stored, rel=0.01)
    assert records["rtn_w3"]["size_before_mb"] == records["fp16"]["size_after_mb"]
    assert 1 < records["rtn_w3"]["compression_ratio"] < 2
    assert records["rtn_w3"]["compression_ratio"] > records["smoothquant_w8a8"]["compression_ratio"]
    for method in ("rtn_w3", "gptq_w3", "smoothquant_w8a8"):
        record = records[method]
        ratio = record["size_before_mb"] / record["size_after_mb"]
        assert ratio == pytest.approx(record["compression_ratio"])


def test_models_are_saved_in_their_format_or_say_why_not(records):
    formats = {method: record["saved"]["format"] for method, record in records.items()}
    assert formats["rtn_w3"] == formats["gptq_w3"] == "gptq"
    assert formats["smoothquant_w8a8"] == "compressed-tensors"
    assert "model.safetensors" in records["gptq_w3"]["files"]
    assert records["gptq_w3"]["saved"]["weights_sha256"] == records["gptq_w3"]["weights_sha256"]
    assert records["fp16"]["files"] == {"metadata.json"}
    assert "no quantized layer" in records["fp16"]["saved"]["not_saved"]
    # What no format holds goes on as a cell, and its record says why it was not saved.
    assert records["fp16"]["model_not_saved"] == records["fp16"]["saved"]["not_saved"]
    assert records["fp16"]["perplexity"] > 0
    assert "model_not_saved" not in records["rtn_w3"]


def test_a_given_checkpoint_is_measured_as_it_is(records, tmp_path):
    """And not quantized once more, under the name of the model that it was made of."""
    made = records["gptq_w3"]
    (saved,) = (made["reports"] / "quantizers/quantized_models").glob("*gptq_w3*")
    chosen = "tiny_llama_1m and seed42 and (gptq_w3 or fp16)"
    command = [sys.executable, "-m", "pytest", "benchmarks/test_quantizers.py", "-k", chosen]
    given = (f"--checkpoint=tiny_llama_1m={saved}", f"--reports-dir={tmp_path}")
    done = forked.run([*command, *given, "-p", "no:cacheprovider", *SMALL], ROOT)
    assert "fp16-seed42: --checkpoint gives a quantized model, and fp16 is none" in done.stdout
    (path,) = tmp_path.glob("checkpoint/quantizers/raw_runs/*.json")
    found = json.loads(path.read_text())
    assert found["weights"] == "checkpoint"
    same = ("perplexity", "kl", "weights_sha256", "size_before_mb", "size_after_mb")
    assert [found[name] for name in same] == [made[name] for name in same]


def test_latency_is_kept_out_of_what_must_be_equal_bit_for_bit(records):
    record = records["rtn_w3"]
    assert record["latency_seconds"] > 0
    assert record["tokens_per_second"] > 0
    assert record["n_questions_asked"] == {"arc": 8, "squad": 8, "maths": 8}


def test_without_vllm_nothing_is_said_of_it(records):
    assert [key for key in records["gptq_w3"] if key.startswith("vllm")] == []


def test_flips_are_counted_against_the_original_s_own_answers(records):
    assert records["fp16"]["flipped"] == 0
    low, high = records["fp16"]["accuracy_change_ci95"]
    assert low < 0 < high
    broken = records["zeroed_layer"]
    assert broken["flipped"] > 0
    low, high = broken["flipped_ci95"]
    assert 0 <= low <= broken["flipped"] <= high <= 100
    assert set(records["gptq_w3"]["items"]["columns"]) >= {
        *("chunk", "chunk_nll", "correct", "question", "passage"),
    }


def test_every_record_states_its_questions(records):
    sets = records["rtn_w3"]["question_sets"]
    assert sets["squad"]["task"] == "passages"
    assert (sets["arc"]["prompt"], sets["arc"]["shots"], sets["arc"]["n"]) == ("listed", 0, 8)
    assert all(found["split"] == "test" and found["digest"] for found in sets.values())
    # An embedded tokenizer has no chat template.
    assert [found["in_chat_template"] for found in sets.values()] == [False] * 3
    assert records["rtn_w3"]["questions_left_out"] == {"arc": {}, "squad": {}, "maths": {}}
    assert records["fp16"]["arc_parse_rate"] == records["fp16"]["maths_parse_rate"] == 100


def test_methods_of_another_kind_are_never_ranked_beside_weight_only():
    apart = {name for name, entry in QUANTIZERS.items() if entry.ranking != "weight-only"}
    own = {"smoothquant_w8a8", "fp8_static", "fp8_dynamic", "fp8_block"}
    own |= {"quarot_w4a4kv4", "nvfp4_w4a4", "nvfp4_gptq_w4a4", "nvfp4_mrgptq_w4a4"}
    own |= {"mxfp4_w4a4", "mxfp4_gptq_w4a4", "mxfp4_mrgptq_w4a4"}
    own |= {"wanda_2of4", "sparsegpt_2of4"}
    own |= {"kv_fp8_plain", "kv_fp8_tensor", "kv_fp8_head", "kv_int8", "kv_int4"}
    assert apart == own | {"llmcompressor_smoothquant", "bitsandbytes_int8"}
    assert apart <= set(study("quantizers").unranked)


def test_methods_without_randomness_run_once():
    cells = [c for c in study("quantizers").cells() if c.model == "tiny_llama_1m"]
    seeds = {m: [c.seed for c in cells if c.method == m] for m in ("rtn_w4", "hqq_w4", "gptq_w4")}
    assert seeds == {"rtn_w4": [42], "hqq_w4": [42], "gptq_w4": [42, 43, 44]}


def test_libraries_run_once_and_stay_out_of_the_tour():
    declared = study("quantizers")
    cells = [c for c in declared.cells() if c.model == "tiny_llama_1m" and c.method in LIBRARIES]
    assert [(c.method, c.seed) for c in cells] == [(name, 42) for name in LIBRARIES]
    assert not {c.method for c in declared.cells(tour=True)} & set(LIBRARIES)
    packages = {c.method: declared.packages(c) for c in cells}
    assert packages["llmcompressor_gptq"] == ("llmcompressor", "compressed-tensors")
    assert all(packages.values())


def test_a_model_with_a_chat_template_is_asked_in_it_and_the_record_says_so(tmp_path):
    folder = tmp_path / "instruct"
    shutil.copytree(models.path("tiny_llama_1m"), folder)
    template = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    named = "llama3_2_1b_instruct"
    chosen = ("benchmarks/test_quantizers.py", "-k", f"{named} and seed42 and fp16")
    where = (f"--local={named}={folder}", f"--reports-dir={tmp_path / 'r'}")
    asked = {
        "arc_task": "four_choices",
        "squad_task": "passages",
        "maths_task": "word_problems",
        "evaluation_corpus": "embedded_text",
        "calibration_corpus": "embedded_text",
        "arc_form": "likelihood",
        "shots": 2,
        "maths_new_tokens": 32,
    }
    more = (*(f"--set=quantizers.{k}={v}" for k, v in asked.items()), *SMALL)
    command = [sys.executable, "-m", "pytest", *chosen, *where, *more, "-p", "no:cacheprovider"]
    done = forked.run(command, ROOT)
    assert done.returncode == 0, done.stdout
    (path,) = (tmp_path / "r/store/records").glob("*.json")
    record = read(path.read_bytes()).values
    sets = record["question_sets"].values()
    assert [(found["in_chat_template"], found["shots"]) for found in sets] == [(True, 2)] * 3
    assert record["arc_parse_rate"] is None
    assert 0 <= record["arc_accuracy_norm"] <= 100


def test_the_study_says_what_each_column_of_its_records_is(records):
    assert undescribed(records["fp16"]["reports"]) == []


def test_only_what_reads_calibration_text_is_charged_for_choosing_it(records):
    """Rounding to nearest, and the original, once had seconds of selection."""
    charged = {name for name, record in records.items() if "selection_time_sec" in record}
    assert charged == {"gptq_w3", "smoothquant_w8a8"}
    assert "quant_time_sec" not in records["fp16"]
    assert records["rtn_w3"]["quant_time_sec"] > 0
