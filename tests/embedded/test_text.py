import hashlib
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


def test_docstrings_leave_the_source_and_quotes_do_not_confuse():
    prose = "Tell what it does.\n\n    " + "Some more words. " * 15
    source = (
        '# a comment with """ in it\n'
        'x = \'"""\'\n'
        f'def f():\n    r"""{prose}\n    """\n    return "kept"\n'
        f'y = """{"not a docstring " * 20}"""\n'
    )
    docstring, code = text.module_documents("some/module.py", source)
    assert docstring.startswith("Tell what it does.\n\nSome more words.")
    assert "Tell what" not in code
    assert 'return "kept"' in code
    assert "not a docstring" in code


def test_long_sources_are_cut_before_definitions_and_lose_nothing():
    source = "".join(f"def f{n}(x):\n    return x + {n}  # {'why' * 30}\n\n" for n in range(200))
    chunks = text.module_documents("some/module.py", source)
    assert len(chunks) > 5
    assert all(chunk.startswith("def ") for chunk in chunks)
    assert "".join(chunks).replace("\n", "") == source.replace("\n", "")


def test_changed_package_is_refused_by_name(monkeypatch):
    files = text.read_files()
    path = "sympy/core/expr.py"
    monkeypatch.setattr(text, "read_files", lambda: files | {path: files[path] + "# edited\n"})
    text._splits.cache_clear()
    with pytest.raises(BenchsuiteError, match=r"sympy/core/expr\.py.*pip install") as caught:
        text.documents("test")
    assert "1 of" in str(caught.value)
    text._splits.cache_clear()


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
