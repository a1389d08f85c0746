"""What sources say is kept in the user's cache: the same as from the syntax tree, or not at all."""

import ast
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchsuite.records import kept, syntax
from benchsuite.records.fingerprint import digest

ROOT = Path(__file__).parents[2]
ODD = {
    "broken": b"def broken(:\n",
    "nothing": b"",
    "plugins": b"pytest_plugins = ['a', 'b.c']\nfrom . import x as y\ny.z()\n",
    "fixtures": (
        b"import pytest\n@pytest.fixture(name='other', autouse=True)\ndef one(two): '''Doc.'''\n"
        b"@pytest.mark.study('it')\n@pytest.mark.usefixtures('three')\ndef test_it(other): pass\n"
    ),
    "no text": b"\xff\xfe\x00",
    "surrogate": b"import importlib\nimportlib.import_module('\\ud800')\n",
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    syntax._read.cache_clear()
    yield tmp_path / "cache"
    syntax._read.cache_clear()


def files(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file()]


def read_anew(path: Path) -> syntax.Source:
    syntax._read.cache_clear()
    return syntax.source(path)


def plain_digest(content: bytes) -> str:
    """Return the digest as it was defined before anything was kept, written out once more."""
    tree = ast.parse(content)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                body[0] = ast.Pass()
    return digest(ast.dump(tree))


@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.stress)])
def test_the_digests_of_the_package_are_what_they_were(cache, every):
    found = [path for room in ("benchsuite", "fixtures") for path in (ROOT / room).rglob("*.py")]
    paths = sorted(found)[::every]
    first = [syntax.source(path) for path in paths]
    assert 300 / every < len(files(cache)) <= len(paths)
    assert [found.digest for found in first] == [plain_digest(p.read_bytes()) for p in paths]
    assert [read_anew(path) for path in paths] == first


@pytest.mark.parametrize("name", ODD)
def test_what_is_kept_equals_what_was_parsed(tmp_path, cache, name):
    path = tmp_path / "odd.py"
    path.write_bytes(ODD[name])
    first = syntax.source(path)
    assert len(files(cache)) == 1
    assert read_anew(path) == first == syntax.parsed(ODD[name])


def test_what_is_kept_is_read_instead_of_the_tree(tmp_path, monkeypatch):
    path = tmp_path / "module.py"
    path.write_text("import json\n")
    first = syntax.source(path)
    monkeypatch.setattr(syntax, "parsed", None)
    assert read_anew(path) == first


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "folder"])
def test_a_damaged_file_is_as_if_it_were_not_there(tmp_path, cache, damage):
    path = tmp_path / "module.py"
    path.write_text("import json\nX = 1\n")
    first = syntax.source(path)
    (file,) = files(cache)
    whole = file.read_bytes()
    if damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        flipped = bytearray(whole)
        flipped[100] ^= 1
        file.write_bytes({"flip": bytes(flipped), "cut": whole[:-1], "empty": b""}[damage])
    assert read_anew(path) == first
    if damage != "folder":
        assert file.read_bytes() == whole


def test_without_a_place_to_write_the_tree_is_read(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    path = tmp_path / "module.py"
    path.write_text("X = 1\n")
    assert syntax.source(path) == syntax.parsed(b"X = 1\n")


def test_writers_at_once_leave_one_whole_file(cache):
    def work(_: int) -> list:
        kept.keep(b"content", ["value"] * 500)
        return kept.find(b"content")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(64))) == [["value"] * 500] * 64
    assert len(files(cache)) == 1
