"""Stored results: the study document's files and this study's, read back and put side by side."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchsuite.commands.determinism import read as of_file
from benchsuite.commands.main import main
from benchsuite.determinism import VARIANTS, cross_variant, read, variant
from benchsuite.errors import BenchsuiteError, UsageError
from benchsuite.records.forms import as_text, flat, nested, sealed
from benchsuite.records.reading import read_file
from benchsuite.records.record import Failure

# In the structure that the study document prints, its keys and no others.
RECORDS = Path(__file__).parents[1] / "records/data/version_1"

DOCUMENT = {
    "variant": "awq_marlin",
    "experiment": "quantization_nondeterminism_investigation",
    "timestamp": "2025-01-15T10:30:00.123456",
    "model": "Qwen/Qwen3-8B-AWQ",
    "quantization": "awq_marlin",
    "description": "AWQ INT4 with Marlin kernel",
    "config": {
        "tensor_parallel": 1,
        "max_model_len": 8192,
        "max_tokens": 3,
        "repetitions": 2,
        "temperature": 0.0,
        "seed": 42,
    },
    "prompt_length": 2048,
    "baseline": {
        "stats": {
            "tokens_identical": True,
            "logprobs_exact": False,
            "l2_mean": 1.23e-05,
            "l2_std": 3.45e-06,
            "l2_max": 1.89e-05,
            "l2_min": 8.76e-06,
            "std_per_token_mean": 2.34e-06,
            "std_per_token_max": 5.67e-06,
            "std_per_token_min": 1.23e-07,
        },
        "tokens": [[1, 2, 3], [1, 2, 3]],
        "logprobs": [[-0.5, -1.0, -1.5], [-0.5, -1.0, -1.50001]],
    },
    "deterministic": {"succeeded": False},
    "kernels": {"profiling_succeeded": True, "all_kernels": []},
    "verdict": {"is_deterministic": False, "details": []},
    "success": True,
}


def stored(folder, name, content):
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def test_the_documents_files_load(tmp_path):
    path = stored(tmp_path, "awq_marlin.json", DOCUMENT)
    assert read(path) == DOCUMENT
    error = {"variant": "openvino", "error": "Model format not supported", "success": False}
    assert read(stored(tmp_path, "openvino.json", error)) == error


def test_a_record_of_the_study_loads_in_both_its_forms_passed_or_failed(tmp_path):
    for path in sorted(RECORDS.glob("determinism.passed.json")):
        record = read_file(path)
        for name, form in (("nested", nested), ("flat", flat)):
            (tmp_path / f"{name}.json").write_bytes(as_text(sealed(form(record))))
            assert of_file(tmp_path / f"{name}.json") == record.values
    values = {"variant": "awq", "success": False}
    failed = replace(record, values=values, outcome="failed", failure=Failure("no GPU", "load"))
    (tmp_path / "failed.json").write_bytes(as_text(sealed(nested(failed))))
    assert of_file(tmp_path / "failed.json") == {**values, "error": "no GPU"}


@pytest.mark.parametrize("content", [{}, [], {"variant": "awq"}, {"variant": "a", "baseline": {}}])
def test_other_files_are_refused_by_name(tmp_path, content):
    path = stored(tmp_path, "other.json", content)
    with pytest.raises(BenchsuiteError, match=r"not a result of this study.*other\.json"):
        read(path)
    with pytest.raises(BenchsuiteError, match="cannot read"):
        read(tmp_path / "absent.json")


def test_distances_between_variants_are_of_their_first_completions():
    other = {
        **DOCUMENT,
        "baseline": {
            "stats": DOCUMENT["baseline"]["stats"],
            "tokens": [[1, 9, 3]],
            "logprobs": [[-0.5, -1.3, -1.9]],
        },
    }
    failed = {"variant": "openvino", "success": False}
    (row,) = cross_variant({"awq_marlin": DOCUMENT, "awq": other, "openvino": failed})
    assert row["l2"] == pytest.approx(0.5)  # 0.3 and 0.4
    assert row["first_divergent_index"] == 1
    assert (row["one"], row["other"], row["steps"]) == ("awq_marlin", "awq", 3)


def test_stored_files_are_shown_side_by_side(tmp_path, capsys):
    error = {"variant": "openvino", "error": "not supported\nat all", "success": False}
    paths = [stored(tmp_path, "a.json", DOCUMENT), stored(tmp_path, "b.json", error)]
    paths.append(stored(tmp_path, "c.json", DOCUMENT))
    assert main(["determinism", *map(str, paths)]) == 0
    shown = capsys.readouterr().out
    assert "| openvino |  | failed: not supported |" in shown
    assert shown.count("differs | 1.23e-05") == 2
    assert f"| awq_marlin ({paths[0]}) | awq_marlin ({paths[2]}) | 0 | never |" in shown
    assert main(["determinism", str(tmp_path / "absent.json")]) == 4


def test_completions_of_unequal_length_say_over_how_many_steps_they_are_compared(tmp_path, capsys):
    """Two of three tokens in common were "0, never", as if both had said the same."""
    short = {"tokens": [[1, 2]], "logprobs": [[-0.5, -1.0]], "stats": DOCUMENT["baseline"]["stats"]}
    paths = [stored(tmp_path, "a.json", DOCUMENT)]
    paths.append(stored(tmp_path, "b.json", {**DOCUMENT, "variant": "awq", "baseline": short}))
    paths.append(stored(tmp_path, "c.json", {"variant": "x", "error": "", "success": False}))
    assert main(["determinism", *map(str, paths)]) == 0
    shown = capsys.readouterr().out
    assert "| tokens first differ at | steps in common |" in shown
    assert "| awq_marlin | awq | 0 | never | 2 |" in shown
    assert "| x |  | failed: no reason is given |" in shown


def test_tokens_without_their_log_probs_are_named(tmp_path):
    baseline = {**DOCUMENT["baseline"], "logprobs": [[-0.5, -1.0, -1.5], [-0.5]]}
    path = stored(tmp_path, "cut.json", {**DOCUMENT, "baseline": baseline})
    with pytest.raises(BenchsuiteError, match=r"has \[3, 3\] tokens and \[3, 1\] log-probs.*cut"):
        read(path)


def test_each_variant_names_model_quantization_engine_kernel():
    for name in ("awq_marlin", "awq", "gptq_marlin", "gptq", "openvino", "pytorch_int4"):
        entry = variant(name)
        assert entry.quantization
        assert entry.kernel
        assert entry.description
    document = {
        n: VARIANTS[n].hub for n in ("awq_marlin", "awq", "gptq_marlin", "gptq", "openvino")
    }
    assert document == {
        "awq_marlin": "Qwen/Qwen3-8B-AWQ",
        "awq": "Qwen/Qwen3-8B-AWQ",
        "gptq_marlin": "JunHowie/Qwen3-8B-GPTQ-Int4",
        "gptq": "JunHowie/Qwen3-8B-GPTQ-Int4",
        "openvino": "OpenVINO/Qwen3-8B-int4-ov",
    }
    with pytest.raises(UsageError, match="Did you mean 'gptq_machete'"):
        variant("gptq_machette")
