"""A folder's own Python code runs where it is trusted by name, and nobody is asked about it."""

import ast
import builtins
import json
from pathlib import Path

import pytest

from benchsuite.catalog import Sources
from benchsuite.commands import checkpoints as commands
from benchsuite.commands import comparing
from benchsuite.comparing import server, subject
from benchsuite.errors import CellCannotRun, UsageError
from benchsuite.evaluation import checkpoints
from benchsuite.models import load, load_classifier, load_tokenizer
from benchsuite.quantizers import checkpoint, rtn
from tests.models import tiny

ROOT = Path(__file__).parents[2]
LOADERS = {"from_pretrained", "from_config"}
OWN_MODEL = """
open({trace!r}, "w").close()
from transformers import LlamaConfig, LlamaForCausalLM
class OwnConfig(LlamaConfig):
    model_type = "own"
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""
OWN_TOKENIZER = """
open({trace!r}, "w").close()
from transformers import PreTrainedTokenizerFast
class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Commands remember digests below the folder that they run in."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    """A terminal whose user answers y to every question, and what was asked there."""
    asked = []
    monkeypatch.setattr(builtins, "input", lambda text="": asked.append(text) or "y")
    yield
    assert not asked


@pytest.fixture
def trace(tmp_path):
    return tmp_path / "ran"


def edit(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def with_own_model(folder, trace):
    """Let the folder's config name classes of its own, which leave a trace when imported."""
    (folder / "own.py").write_text(OWN_MODEL.format(trace=str(trace)))
    own = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    own["AutoModelForSequenceClassification"] = "own.OwnModel"
    edit(folder / "config.json", model_type="own", auto_map=own)
    return folder


def with_own_tokenizer(folder, trace):
    (folder / "words.py").write_text(OWN_TOKENIZER.format(trace=str(trace)))
    own = {"AutoTokenizer": [None, "words.OwnTokenizer"]}
    edit(folder / "tokenizer_config.json", tokenizer_class="OwnTokenizer", auto_map=own)
    return folder


@pytest.fixture
def plain(tmp_path):
    return tiny.checkpoint(tmp_path / "plain")


@pytest.fixture
def quantized(tmp_path):
    model = tiny.model()
    rtn.quantize(model, bits=4, group_size=32)
    checkpoint.save(model, tmp_path / "quantized", tokenizer=tiny.tokenizer())
    return tmp_path / "quantized"


@pytest.mark.parametrize(
    "open_it",
    [
        lambda folder: load(tiny.entry(), tiny.at(folder)),
        lambda folder: load_classifier(tiny.entry(), tiny.at(folder)),
        lambda folder: checkpoint.load(folder),
        lambda folder: checkpoints.open_model(str(folder)),
        lambda folder: commands.verify([str(folder)]),
        lambda folder: comparing.compare([str(folder), "tiny_llama_1m"]),
        lambda folder: comparing.compare(["tiny_llama_1m", str(folder)]),
    ],
    ids=["load", "classifier", "checkpoint", "open", "verify", "compare", "compare with"],
)
def test_a_models_own_code_is_refused_in_one_paragraph(quantized, trace, open_it):
    with_own_model(quantized, trace)
    with pytest.raises(CellCannotRun, match=r"its own Python code.*--trust-remote-code") as caught:
        open_it(quantized)
    assert str(quantized) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not trace.exists()


def test_a_tokenizers_own_code_is_refused(plain, trace):
    with_own_tokenizer(plain, trace)
    with pytest.raises(CellCannotRun, match="its own Python code"):
        load(tiny.entry(), tiny.at(plain))
    assert not trace.exists()


def test_trusted_by_name_it_runs(plain, quantized, trace):
    sources = tiny.at(with_own_model(plain, trace), trusted=frozenset({"small_llama"}))
    assert type(load(tiny.entry(), sources).model).__name__ == "OwnModel"
    trace.unlink()
    folder = str(with_own_model(quantized, trace))
    with pytest.raises(CellCannotRun):
        checkpoints.open_model(folder, sources)  # another name is trusted
    assert not trace.exists()
    with pytest.raises(UsageError, match="unknown architecture: 'own'"):  # after its code ran
        checkpoints.open_model(folder, Sources(trusted=frozenset({folder})))
    assert trace.exists()


def test_a_trusted_tokenizer_runs(plain, trace):
    with_own_tokenizer(plain, trace)
    assert type(load_tokenizer(tiny.entry(), plain, trusted=True)).__name__ == "OwnTokenizer"
    assert trace.exists()


def test_the_original_that_a_checkpoint_names_is_not_trusted_with_it(quantized, monkeypatch):
    """The user named the checkpoint; its metadata.json named the model."""
    asked = {}
    (quantized / "metadata.json").write_text('{"model": "tiny_llama_1m"}')

    def open_subject(name, sources, *, device):
        asked[name] = sources.trusts(name)
        if name == str(quantized):
            raise KeyboardInterrupt
        return subject.open_subject(name, sources, device=device)

    monkeypatch.setattr(server, "open_subject", open_subject)
    with pytest.raises(KeyboardInterrupt):
        comparing.compare([str(quantized), "--trust-remote-code", "--no-speed"])
    assert asked == {str(quantized): True, "tiny_llama_1m": False}


def calls(path):
    """Yield every call of one of ``LOADERS`` in a file: its line and its keywords' names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in LOADERS:
            yield node.lineno, {keyword.arg for keyword in node.keywords}


@pytest.mark.stress
def test_every_call_that_reads_a_model_folder_decides_on_its_code():
    """Left out, transformers asks at the terminal, and another library's default may be yes."""
    files = [
        p for room in ("benchsuite", "fixtures", "benchmarks") for p in (ROOT / room).rglob("*.py")
    ]
    found = {(str(p.relative_to(ROOT)), line): names for p in files for line, names in calls(p)}
    assert len(found) >= 8
    assert not [where for where, names in found.items() if "trust_remote_code" not in names]
