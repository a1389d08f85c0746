"""What mkdocs is told beside `mkdocs.yml`: pages of files outside ``docs/``, and the reference."""

from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel
from site_links import PROJECT, ROOT, for_the_site, linked, place
from site_reference import reference_pages
from site_sources import notebook, source_pages


def on_files(files: Files, *, config: Any) -> Files:
    """Add the project's own pages, the notebook, every source file that a page links to, and the
    reference.
    """
    pages = {PROJECT[name]: (ROOT / name).read_text(encoding="utf-8") for name in PROJECT}
    for file in sorted((ROOT / "docs").glob("*.ipynb")):
        pages[place(f"docs/{file.name}")] = notebook(file)
    pages |= reference_pages()
    hidden: dict[str, str] = {}
    for source in [*PROJECT, *(f"docs/{page.src_uri}" for page in files.documentation_pages())]:
        for path in linked((ROOT / source).read_text(encoding="utf-8"), source):
            if not path.startswith("docs/") and path not in PROJECT:
                hidden |= source_pages(path)
    for places, inclusion in (
        (pages, InclusionLevel.INCLUDED),
        (hidden, InclusionLevel.NOT_IN_NAV),
    ):
        for uri, text in places.items():
            files.append(File.generated(config, uri, content=text, inclusion=inclusion))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Make links to files links between pages."""
    outside = {uri: source for source, uri in PROJECT.items()}
    uri = page.file.src_uri
    source = outside.get(uri) or (f"docs/{uri}" if page.file.abs_src_path else "")
    return for_the_site(markdown, source) if source else markdown
