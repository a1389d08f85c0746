"""The site: every public thing stands in its reference, and it is built without a broken link."""

import ast
import dataclasses
import functools
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchsuite.study import names, study
from tests.browser import Browser, needs_chromium

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]


@pytest.fixture(autouse=True)
def modules(monkeypatch):
    """The site's modules, which mkdocs finds beside its hooks."""
    monkeypatch.syspath_prepend(str(ROOT / "docs/site"))


def test_every_public_name_is_in_the_reference_and_says_what_it_is():
    import site_api

    pages = site_api.api_pages()
    for room in site_api.rooms():
        page = pages[f"reference/api/{room}.md"]
        for name, module in site_api.exports(room).items():
            assert f"\n## `{name}`\n" in page, f"{room}.{name}"
            assert site_api.resolved(name, module).doc, f"{room}.{name} has no docstring"


def test_what_a_room_exports_is_what_it_says():
    import importlib

    import site_api

    for room in site_api.rooms():
        assert sorted(importlib.import_module(room).__all__) == list(site_api.exports(room))


def test_what_examples_import_is_in_the_reference():
    import site_api

    text = "".join(site_api.api_pages().values())
    used = site_api.imported_by_examples()
    assert "benchsuite.quantizers.result" in used
    for module, imported in used.items():
        for name in imported:
            assert f"# `{name}`\n" in text or f"{module}.{name}" in site_api.rooms(), name


def test_every_fixture_says_what_it_returns():
    import site_fixtures

    found = {name: node for _, name, _, node in site_fixtures.fixtures()}
    assert {"model", "record", "engines"} <= set(found)
    assert set(site_fixtures.RETURNS) <= set(found)
    untold = [
        name
        for name, node in found.items()
        if "Any" in ast.unparse(node.returns) and name not in site_fixtures.RETURNS
    ]
    assert untold == []
    assert all(ast.get_docstring(node) for node in found.values())


def test_every_field_of_a_record_has_its_meaning_and_unit():
    import site_fields
    import site_reference

    for part in site_reference.PARTS:
        fields = [field.name for field in dataclasses.fields(part)]
        assert fields == list(site_fields.FIELDS[part.__name__])


def test_the_page_of_fields_has_every_shipped_study_s_values():
    import site_reference

    page = site_reference.reference_pages()["reference/records.md"]
    for name in names():
        if (ROOT / f"docs/studies/{name}.md").exists():
            told = page.partition(f"## Values and items of {name}\n")[2].partition("\n## ")[0]
            wanted = {c.name for c in (*study(name).metrics, *study(name).columns)}
            assert wanted <= set(re.findall(r"^\| `([^`]+)`", told, re.MULTILINE)), name


def tags(html: str) -> Counter[str]:
    """Count the elements that tell one reading of a page from another."""
    return Counter(re.findall(r"<(ul|ol|li|table|tr|pre|blockquote|h[1-6])\b", html))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_reads_on_the_site_as_in_the_checkout(page):
    """Lists, tables and code are the same to the site's Markdown and to GitHub's."""
    markdown = pytest.importorskip("markdown", reason="pip install 'benchsuite[docs]'")
    from markdown_it import MarkdownIt

    text = page.read_text()
    extensions = ["toc", "tables", "attr_list", "md_in_html", "pymdownx.superfences"]
    site = markdown.markdown(text, extensions=extensions)
    assert tags(site) == tags(MarkdownIt("commonmark").enable("table").render(text))


# --- what is built


def build(root: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a checkout as `make docs` does."""
    pytest.importorskip("material", reason="pip install 'benchsuite[docs]'")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)]
    return subprocess.run(
        words,
        cwd=root,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture
def served(site):
    """The address of the site, served on this machine."""
    handler = functools.partial(Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and writes nothing to the terminal."""

    def log_message(self, format, *args):
        """Say nothing."""


@pytest.fixture
def tab(tmp_path):
    """One tab of a Chromium that tells every address that it asks for."""
    browser = Browser(tmp_path / "profile")
    page = browser.page()
    page.ask("Network.enable")
    yield page
    browser.close()


def shown(tab, address):
    """Open an address and wait until it and what it loads are there."""
    tab._forget("Page.loadEventFired")
    tab.ask("Page.navigate", url=address)
    tab._browser.wait(lambda told: tab._is(told, "Page.loadEventFired"))


@pytest.mark.stress
@needs_chromium
def test_the_search_finds_what_a_stranger_asks_for_without_a_network(served, tab):
    shown(tab, f"{served}/index.html")
    found = tab.run("""new Promise(done => {
        const box = document.querySelector(".md-search__input");
        box.focus();
        box.value = "QuantizationResult";
        box.dispatchEvent(new Event("input", {bubbles: true}));
        const look = () => {
            const links = [...document.querySelectorAll(".md-search-result__link")];
            links.length ? done(links.map(a => a.pathname)) : requestAnimationFrame(look);
        };
        look();
    })""")
    assert {"/howto/quantizer.html", "/reference/api/benchsuite.quantizers.html"} <= set(found)
    asked = [
        told["params"]["request"]["url"]
        for told in tab._browser.told
        if told.get("method") == "Network.requestWillBeSent"
    ]
    assert len(asked) > 3
    assert [url for url in asked if not url.startswith((served, "data:", "blob:"))] == []
    assert tab.complaints() == []


@pytest.mark.stress
@needs_chromium
def test_no_page_is_wider_than_a_phone(site, tab):
    tab.resize(390)
    wide = []
    for page in sorted(site.rglob("*.html")):
        if "source" not in page.relative_to(site).parts:
            shown(tab, page.as_uri())
            if tab.run("document.documentElement.scrollWidth") > 390:
                wide.append(str(page.relative_to(site)))
    assert wide == []


@pytest.mark.stress
def test_the_site_is_built_and_loads_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 60
    loaded = r"<(?:script|img|iframe|source|link rel=\"?(?:stylesheet|preconnect|icon))[^>]*https?:"
    assert {str(page) for page in pages if re.search(loaded, page.read_text())} == set()
    styles = list(site.rglob("*.css"))
    assert not any(re.search(r"url\(['\"]?https?:", style.read_text()) for style in styles)
    # A link to a source file leads to a page that shows it.
    page = (site / "architecture.html").read_text()
    assert 'href="source/benchmarks/test_calibration_selection.py.html"' in page
    shown = site / "source/benchmarks/test_calibration_selection.py.html"
    assert "Select calibration text" in shown.read_text()


@pytest.mark.stress
@pytest.mark.parametrize(
    ("added", "told"),
    [
        ("[gone](nowhere.md)", "nowhere.md"),
        ("[gone](running.md#no-such-heading)", "no-such-heading"),
    ],
)
def test_a_link_that_leads_nowhere_fails_the_build(added, told, tmp_path):
    for path in ROOT.iterdir():
        if path.name in ("docs", "mkdocs.yml"):
            continue
        (tmp_path / path.name).symlink_to(path)
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    page = tmp_path / "docs/models.md"
    page.write_text(f"{page.read_text()}\n{added}\n")

    done = build(tmp_path, tmp_path / "site")

    assert done.returncode == 1
    assert told in done.stdout
