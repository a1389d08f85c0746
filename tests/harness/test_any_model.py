"""``--model NAME=SOURCE``: a stranger's checkpoint in the shipped studies, without a conftest."""

import json
import os
import re
from pathlib import Path

import pytest
import torch
from transformers import Phi3Config, Phi3ForCausalLM

from benchsuite import catalog
from benchsuite.embedded import tokenizer as embedded
from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.harness import given
from benchsuite.harness.typed import named_paths
from tests import forked
from tests.conftest import read_flat
from tests.models import tiny
from tests.models.gguf import files

ROOT = Path(__file__).parents[2]
SMALL = {
    "n_calibration_samples": 4,
    "seq_len": 64,
    "evaluation_tokens": 512,
    "calibration_corpus": "embedded_text",
    "evaluation_corpus": "embedded_text",
    "pool_documents": 100,
}


@pytest.fixture(scope="module")
def phi3(tmp_path_factory):
    """A random Phi-3 in a folder, with a tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "whatever"
    config = Phi3Config(
        vocab_size=2048,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Phi3ForCausalLM(config).save_pretrained(folder)
    embedded.load().save_pretrained(folder)
    return folder


@pytest.fixture
def run(tmp_path):
    """Run pytest or a command of benchsuite on the shipped benchmarks."""

    def run(*words: str, module: str = "pytest", heavy: bool = False):
        return forked.run(
            ["python", "-m", module, *words, f"--rootdir={ROOT}", f"--reports-dir={tmp_path}/r"]
            if module == "pytest"
            else ["python", "-m", module, *words],
            tmp_path,
            {**os.environ, "PYTHONPATH": str(ROOT)},
            heavy=heavy,
        )

    return run


def small(study):
    return [f"--set={study}.{name}={value}" for name, value in SMALL.items()]


@pytest.mark.stress
def test_any_model_runs_in_a_shipped_study_and_its_record_names_what_it_was(phi3, run, tmp_path):
    benchmark = f"{ROOT}/benchmarks/test_calibration_selection.py"
    words = [benchmark, "-p", "no:cacheprovider", f"--model=my_model={phi3}"]
    chosen = ["-k", "any_model and (rtn or random) and seed42", *small("calibration_selection")]
    done = run(*words, *chosen, heavy=True)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    records = [read_flat(path) for path in (tmp_path / "r/store/records").glob("*.json")]
    assert {record["cell"]["id"] for record in records} == {
        "my_model-rtn-seed42",
        "my_model-random-seed42",
    }
    for record in records:
        assert record["model"] == "my_model"
        assert record["weights"] == "local"
        assert record["stand_in"] is None
        assert record["weights_digest"].endswith(":float32")
        assert record["perplexity"] > 1
    # The records can be read where the model is no longer named.
    page = run("report", f"{tmp_path}/r", f"--reports-dir={tmp_path}/both", module="benchsuite")
    assert page.returncode == 0, page.stdout + page.stderr
    assert "my_model" in (tmp_path / "both/index.html").read_text()
    assert run(*words, *chosen).stdout.count("2 cached") == 1
    # One of them is measured again where its model is named again, and only there.
    path = next(
        p
        for p in (tmp_path / "r/store/records").glob("*.json")
        if "rtn" in read_flat(p)["cell"]["id"]
    )
    unnamed = run("reproduce", str(path), module="benchsuite")
    assert "Name it again: benchsuite reproduce RECORD.json --model my_model=" in unnamed.stderr
    again = run("reproduce", str(path), f"--model=my_model={phi3}", module="benchsuite", heavy=True)
    assert "my_model-rtn-seed42: bit-identical" in again.stdout, again.stdout + again.stderr


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("tiny_llama_1m=x/y", "the name 'tiny_llama_1m' is taken"),
        (
            "llama3_1_8b=meta-llama/Llama-3.1-8B@v2",
            "write --model llama3_1_8b --local llama3_1_8b=P",
        ),
        ("llama3_1_9b", "a NAME that `benchsuite models` shows"),
        ("my_model=no/such/folder", "there is no no/such/folder, and it is no hub id"),
        ("My-Model=x/y", "Write --model NAME=SOURCE"),
        ("my_model=", "Write --model NAME=SOURCE"),
        ("tiny_llama_1m=", "the name 'tiny_llama_1m' is taken"),
        ("my_model=.", "the folder holds no config.json"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_paragraph(source, told, run):
    done = run("-p", "no:cacheprovider", "--model", source, str(ROOT / "benchmarks"), "--co", "-q")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert told in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_links_in_a_circle_are_a_path_that_is_not_there(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UsageError, match=r"embedded_text: there is no .*loop"):
        named_paths("--local", ["embedded_text=loop"], tmp_path)
    with pytest.raises(UsageError, match="there is no loop, and it is no hub id"):
        given.read(["my_model=loop"], tmp_path)


def test_a_hub_id_joins_the_studies_before_anything_is_downloaded(run):
    done = run(
        "-p",
        "no:cacheprovider",
        "--model=someones=owner/model-7B@v2",
        str(ROOT / "benchmarks"),
        "--co",
        "-q",
        "-k",
        "someones and seed42",
    )
    for study in ("calibration_selection", "quantizers", "uncertainty", "determinism"):
        assert f"test_{study}.py::test_" in done.stdout
    assert "test_latent" not in done.stdout, "a study's own grid says what it can take"


def test_what_the_catalogue_knows_joins_every_study_with_its_shape(run):
    named = ("llama3_1_8b_instruct", "qwen3_8b=Qwen/Qwen3-8B@main", "mine=Qwen/Qwen3-8B")
    words = [word for model in named for word in ("--model", model)]
    words += ["--weights=random", "-k", "any_model and quantizers and fp16"]
    done = run("estimate", *words, str(ROOT / "benchmarks"), module="benchsuite")
    for name in ("llama3_1_8b_instruct", "qwen3_8b", "mine"):
        told = rf"1 cell cannot run: {name} needs 1\d\.\d GiB"
        assert re.search(told, done.stdout), done.stdout + done.stderr


def test_a_hub_id_has_the_catalogue_s_shape_of_that_revision_and_nothing_else_of_it():
    """An embedded model's id once made an embedded model, which has no files under its new name."""
    sources = ("benchsuite/tiny_llama_1m", "Qwen/Qwen3-8B", "Qwen/Qwen3-8B@v2")
    found = []
    for source in sources:
        entries, _ = given.read([f"mine={source}"], ROOT)
        found.append(entries["mine"])
    assert [one.shape for one in found] == [
        catalog.model("tiny_llama_1m").shape,
        catalog.model("qwen3_8b").shape,
        {},
    ]
    assert all(one.from_hub for one in found)


def test_its_dtype_is_that_of_its_files_whatever_its_config_is_like(tmp_path):
    """A config that is nested, or calls its sizes otherwise, hid the dtype: bfloat16 was taken."""
    folder = tiny.checkpoint(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    for changed in ({"dtype": None}, {"hidden_size": None}, {"dtype": None, "vocab_size": None}):
        (folder / "config.json").write_text(json.dumps(config | changed))
        entries, _ = given.read([f"my_model={folder}"], tmp_path)
        assert entries["my_model"].dtype == "float32", changed
        catalog.register(entries["my_model"])
        catalog.unregister(entries["my_model"])


def test_a_repository_of_the_hubs_cache_and_a_folder_with_a_gguf_are_taken(tmp_path):
    snapshot = tmp_path / "models--me--mine/snapshots/abc"
    tiny.checkpoint(snapshot)
    _, paths = given.read(["my_model=models--me--mine"], tmp_path)
    assert paths["my_model"] == snapshot
    (tmp_path / "saved").mkdir()
    files.write(tmp_path / "saved/model.gguf", files.model("llama"))
    entries, paths = given.read(["my_model=saved"], tmp_path)
    assert (paths["my_model"].name, entries["my_model"].dtype) == ("model.gguf", "float32")


def test_a_quantized_folder_is_refused_before_anything_runs(tmp_path):
    folder = tiny.checkpoint(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        BenchsuiteError, match=r"my_model is already quantized \(gptq\).*--checkpoint"
    ):
        given.read([f"my_model={folder}"], tmp_path)


@pytest.mark.stress
def test_sequences_beyond_the_positions_are_refused_before_anything_is_measured(phi3, run):
    benchmark = f"{ROOT}/benchmarks/test_calibration_selection.py"
    chosen = ["-k", "any_model and rtn and seed42", *small("calibration_selection")]
    longer = "--set=calibration_selection.seq_len=512"
    words = ["-p", "no:cacheprovider", f"--model=my_model={phi3}", *chosen, longer]
    done = run(benchmark, *words, heavy=True)
    told = "calibration_selection.seq_len is 512, and the model knows 256 positions"
    assert told in done.stdout, done.stdout + done.stderr
    assert "Give --set calibration_selection.seq_len=256 or less" in done.stdout


@pytest.mark.stress
def test_the_second_session_of_a_process_knows_only_its_own_models(phi3, tmp_path):
    """Options are read anew: what an earlier session named has left catalogue and studies."""
    code = f"""
import json, sys
from pathlib import Path
from benchsuite import catalog
from benchsuite.harness import given
from benchsuite.harness.typed import named_paths
from benchsuite.study import study
seen = []
names = ("one", "two", "llama3_1_8b", "llama3_2_1b_instruct")
for values in (["one={phi3}"], ["two={phi3}", *names[2:]], []):
    entries, paths = given.read(values, Path("."))
    for entry in entries.values():
        catalog.register(entry)
    given.join(entries)
    added = [m for m in study("quantizers").axes["model"] if m in names]
    seen.append([sorted(added), [n for n in names if n in catalog.MODELS], list(paths)])
print(json.dumps(seen))
"""
    done = forked.run(["python", "-c", code], tmp_path)
    catalogued = ["llama3_1_8b", "llama3_2_1b_instruct"]
    assert json.loads(done.stdout) == [
        [["llama3_2_1b_instruct", "one"], ["one", *catalogued], ["one"]],
        [[*catalogued, "two"], ["two", *catalogued], ["two"]],
        [["llama3_2_1b_instruct"], catalogued, []],
    ]
