"""What a user types wrong is one paragraph that names what was found and what is allowed."""

import pytest

from benchsuite.catalog import ModelEntry, model, register
from benchsuite.errors import UsageError
from benchsuite.harness import typed
from benchsuite.study import Parameter, Study, study

SHAPE = dict(model("tiny_llama_1m").shape)


def calibration(**settings):
    return list(study("calibration_selection").cells(settings=settings))


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("quant_bit", 3, "unknown parameter .*'quant_bit'. Did you mean 'quant_bits'"),
        ("quant_bits", 9, "quant_bits=9 is not possible. quant_bits is one of 2, 3, 4"),
        ("quant_bits", "four", "is not possible"),
        ("sym", 1, "is a int. sym is a bool, by default True"),
        ("n_calibration_samples", 0, "is out of range. n_calibration_samples is at least 1"),
        ("seq_len", 1, "is out of range. seq_len is at least 2, by default 2048"),
        ("group_size", -2, "is out of range. group_size is at least -1"),
        ("group_size", 0, "is out of range. group_size is at least -1 and not 0, by default 128"),
        ("damp_percent", -0.01, "is out of range. damp_percent is at least 0"),
        ("damp_percent", float("nan"), "is out of range"),
        ("damp_percent", float("inf"), "is out of range"),
        ("evaluation_tokens", -5, "is out of range"),
        ("calibration_corpus", "wikitex2", "unknown corpus .*'wikitex2'. Did you mean 'wikitext2'"),
        ("scoring_model", "gpt3", "unknown model .*'gpt3'. Did you mean 'gpt2'"),
    ],
)
def test_a_parameters_impossible_value_is_refused(name, value, told):
    with pytest.raises(UsageError, match=told):
        calibration(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("n_questions", 0, "n_questions is at least 1"),
        ("maths_new_tokens", 0, "maths_new_tokens is at least 1"),
        ("latency_tokens", 1, "latency_tokens is at least 0 and not 1"),
        ("alpha", "strong", "is a str. alpha is a number, or none"),
    ],
)
def test_a_setting_that_leaves_nothing_to_measure_is_refused(name, value, told):
    with pytest.raises(UsageError, match=told):
        list(study("quantizers").cells(settings={name: value}))


def test_a_group_of_a_whole_row_is_possible():
    assert {cell["group_size"] for cell in calibration(group_size=-1)} == {-1}


def test_a_study_says_its_own_least_numbers():
    axes = {"model": ("tiny_llama_1m",), "method": ("a",)}
    own = Study("own", "?", axes, (1,), {"shift": Parameter(0, least=-3)})
    assert [cell["shift"] for cell in own.cells(settings={"shift": -3})] == [-3]
    with pytest.raises(UsageError, match=r"\. shift is at least -3"):
        list(own.cells(settings={"shift": -4}))


AXES = {"model": ("gpt2",), "method": ("a",)}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"name": "My Study"}, "cannot be named 'My Study'. Use only a-z, 0-9 and _"),
        ({"name": "store"}, "cannot be named 'store'"),
        ({"seeds": (1, 2, 1)}, r"has the seeds \[1, 2, 1\]. Name each once"),
        ({"seeds": (-1,)}, r"has the seeds \[-1\]"),
        ({"seeds": "12"}, r"has the seeds \['1', '2'\]"),
        ({"axes": {"model": ("gpt2",), "method": "plain"}}, r"'plain'. Give a tuple .*\(value,\)"),
        ({"axes": {"model": ("gpt2",), "method": ("a", "b", "a")}}, "Give a tuple of different"),
        ({"axes": {"model": ("gpt2",), "bits": ("a", "b")}}, "none is `method`"),
        ({"axes": {**AXES, "study": ("b",)}}, "an axis 'study', which is a key of every record"),
        ({"axes": {**AXES, "outcome": ("b",)}}, "an axis 'outcome', which is a key of every"),
        ({"parameters": {"seed": 4}}, "a parameter 'seed', which is an axis too"),
        ({"parameters": {"method": "x"}}, "a parameter 'method', which is an axis too"),
        ({"parameters": {"error": 4}}, "a parameter 'error', which is a key of every record too"),
        ({"parameters": {"my-bits": 4}}, "has the parameter 'my-bits'. Use only letters"),
        ({"parameters": {"perplexity": 4}}, "a metric 'perplexity', which is what its cells are"),
    ],
)
def test_a_study_whose_cells_could_not_be_told_apart_is_refused(changed, told):
    declared = {"name": "own", "axes": AXES, "seeds": (1, 2)}
    with pytest.raises(UsageError, match=told):
        Study(question="?", **declared | changed)


def test_a_study_over_an_unknown_model_names_the_nearest():
    axes = {"model": ("llama2_7", "opt_6_7b"), "method": ("a",)}
    with pytest.raises(UsageError, match=r"'llama2_7' \(study own\)\. Did you mean 'llama2_7b'"):
        list(Study("own", "?", axes, (1,)).cells())


@pytest.mark.parametrize(
    ("shape", "dtype", "told"),
    [
        (SHAPE, "float61", "unknown dtype of model own: 'float61'. Did you mean 'float16'"),
        (SHAPE | {"hidden_size": "big"}, "float16", "hidden_size='big'. Give hidden_size as a pos"),
        ({"vocab_size": 8}, "float16", "has hidden_size=None"),
        (SHAPE | {"num_attention_heads": 0}, "float16", "has num_attention_heads=0"),
    ],
)
def test_an_impossible_catalogue_entry_is_refused(shape, dtype, told):
    with pytest.raises(UsageError, match=told):
        register(ModelEntry("own", "own/own", "llama", shape, dtype))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--trust-remote-code", "toy_c"], "*unknown model in --trust-remote-code: 'toy_c'*toy_b*"),
        (["-o", "benchsuite_downstream=fist"], "*value of --downstream: 'fist'*'first'*"),
        (["-o", "benchsuite_rerun=maybe"], "*benchsuite_rerun cannot be read*maybe*--rerun*"),
        (["--seeds", "one"], "*--seeds 'one' cannot be read. Write integers*"),
        (["--device", "tpu"], "*unknown value of --device: 'tpu'. Known: auto, cpu, cuda*"),
        (["--set", "two_model.x=1"], "*unknown study: 'two_model'. Did you mean 'two_models'*"),
    ],
)
def test_an_impossible_option_ends_the_run_with_status_4(bench, words, told):
    result = bench(*words)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([told])
    assert "Traceback" not in result.stderr.str()


def test_a_study_over_an_unknown_model_ends_a_session_with_workers_in_one_paragraph(bench, project):
    conftest = (project.path / "conftest.py").read_text()
    project.makeconftest(conftest + "\nMODELS = ('toy_c',)\ntoy('lost', ('a',))\n")
    result = bench("-n", "1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*unknown model: 'toy_c' (study lost)*toy_b*conftest.py*"])
    assert "Traceback" not in result.stdout.str()


def test_a_malformed_configuration_file_is_named(bench, project):
    (project.path / "pytest.ini").unlink(missing_ok=True)
    (project.path / "pyproject.toml").write_text("[tool.pytest\n")
    result = bench()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*pyproject.toml*"])
    assert "Traceback" not in result.stderr.str()


def test_a_checkpoint_s_folder_stands_for_its_gguf_or_says_why_it_holds_no_model(tmp_path):
    for name in ("gguf", "unsaved"):
        (tmp_path / name).mkdir()
    (tmp_path / "gguf" / "model.gguf").write_bytes(b"GGUF")
    (tmp_path / "gguf" / "metadata.json").write_text('{"not_saved": null}')
    (tmp_path / "unsaved" / "metadata.json").write_text('{"not_saved": "no fractional zeros"}')

    found = typed.checkpoints(["tiny_llama_1m=gguf"], tmp_path)

    assert found == {"tiny_llama_1m": tmp_path / "gguf" / "model.gguf"}
    assert typed.local(["smollm2_135m=gguf", "wikitext2=gguf"], tmp_path) == {
        "smollm2_135m": tmp_path / "gguf" / "model.gguf",
        "wikitext2": tmp_path / "gguf",
    }
    with pytest.raises(UsageError, match=r"no model is in this folder, .* no fractional zeros"):
        typed.checkpoints(["tiny_llama_1m=unsaved"], tmp_path)
