import hashlib
import lzma
import shutil
import subprocess
import sys

import pytest

from benchsuite.embedded import text
from benchsuite.errors import BenchsuiteError


def test_splits_have_their_pinned_digests():
    for split in text.SPLITS:
        total = hashlib.sha256()
        for document in text.documents(split):
            total.update(document.encode() + b"\x00")
        assert total.hexdigest() == text.digest(split)


def test_no_document_is_in_two_splits():
    splits = [set(text.documents(split)) for split in text.SPLITS]
    assert sum(map(len, splits)) == len(set.union(*splits))


def test_train_has_thousands_of_documents_of_many_lengths():
    lengths = sorted(map(len, text.documents("train")))
    assert len(lengths) > 10_000
    assert lengths[0] >= 200
    assert lengths[len(lengths) // 10] < 300
    assert lengths[-len(lengths) // 10] > 3000


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A copy of the test split's file in the place of the package's own."""
    copy = tmp_path / "test.txt.xz"
    shutil.copy(text.FOLDER / copy.name, copy)
    monkeypatch.setattr(text, "FOLDER", tmp_path)
    text.documents.cache_clear()
    yield copy
    text.documents.cache_clear()


DAMAGE = {
    "No such file": lambda content: None,
    "end-of-stream": lambda content: content[:-9],
    "Corrupt": lambda content: content[:5000] + b"x" * 9 + content[5009:],
    "its sha256 is not": lambda content: lzma.compress(lzma.decompress(content) + b"more\0"),
}


@pytest.mark.parametrize("told", DAMAGE)
def test_a_missing_damaged_or_other_file_is_named(file, told):
    changed = DAMAGE[told](file.read_bytes())
    file.unlink()
    if changed is not None:
        file.write_bytes(changed)
    with pytest.raises(BenchsuiteError, match=rf"test\.txt\.xz cannot be read: .*{told}") as caught:
        text.documents("test")
    assert str(file.parent) in str(caught.value)


def test_unknown_split_is_refused():
    with pytest.raises(BenchsuiteError, match="no split 'dev'"):
        text.documents("dev")


def test_text_and_tasks_import_no_heavy_library():
    code = (
        "import sys; from benchsuite.embedded import models, prompts, tasks, text; "
        "tasks.items('passages', 'test'); text.documents('test'); models.NAMES; "
        "print(*{'torch', 'transformers', 'numpy', 'sympy', 'networkx'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
