from importlib.metadata import PackageNotFoundError, distribution

import pytest

from benchsuite.embedded import make_text, text
from benchsuite.errors import BenchsuiteError


@pytest.fixture(scope="module")
def releases():
    """The two packages' distributions; skips where they are others than the text's."""
    found = {}
    for name, pinned in make_text.PACKAGES.items():
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            pytest.skip(f"{name} is not installed")
        if found[name].version != pinned:
            pytest.skip(f"{name} is {found[name].version}, not {pinned}")
    return found


@pytest.mark.stress
def test_the_releases_give_the_text_and_its_digests_again(releases, tmp_path, monkeypatch):
    made = make_text.make()
    assert made == {split: text.documents(split) for split in text.SPLITS}
    few = {split: documents[:50] for split, documents in made.items()}
    make_text.write(few, tmp_path, tmp_path / "digests.json")
    monkeypatch.setattr(text, "FOLDER", tmp_path)
    monkeypatch.setattr(text, "DIGESTS", tmp_path / "digests.json")
    text.documents.cache_clear()
    text._pinned.cache_clear()
    try:
        assert few == {split: text.documents(split) for split in text.SPLITS}
    finally:
        text.documents.cache_clear()
        text._pinned.cache_clear()


def test_the_licences_are_those_of_the_releases(releases):
    stated = (text.FOLDER / "LICENSES.txt").read_text()
    for name, release in releases.items():
        files = [file for file in release.files if "licenses/LICENSE" in str(file)]
        assert len(files) == 1
        assert files[0].locate().read_text() in stated
        assert f"{name} {release.version}" in stated.lower()


def test_another_release_is_refused(monkeypatch):
    monkeypatch.setitem(make_text.PACKAGES, "sympy", "0.7")
    with pytest.raises(BenchsuiteError, match=r"sympy 0\.7, and .*pip install sympy==0\.7 netw"):
        make_text.make()


def test_docstrings_leave_the_source_and_quotes_do_not_confuse():
    prose = "Tell what it does.\n\n    " + "Some more words. " * 15
    source = (
        '# a comment with """ in it\n'
        'x = \'"""\'\n'
        f'def f():\n    r"""{prose}\n    """\n    return "kept"\n'
        f'y = """{"not a docstring " * 20}"""\n'
    )
    docstring, code = make_text.module_documents("some/module.py", source)
    assert docstring.startswith("Tell what it does.\n\nSome more words.")
    assert "Tell what" not in code
    assert 'return "kept"' in code
    assert "not a docstring" in code


def test_long_sources_are_cut_before_definitions_and_lose_nothing():
    source = "".join(f"def f{n}(x):\n    return x + {n}  # {'why' * 30}\n\n" for n in range(200))
    chunks = make_text.module_documents("some/module.py", source)
    assert len(chunks) > 5
    assert all(chunk.startswith("def ") for chunk in chunks)
    assert "".join(chunks).replace("\n", "") == source.replace("\n", "")
