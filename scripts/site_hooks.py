"""Hooks of the site (mkdocs.yml): pages that stand in the repository's root stand in the site too."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT_PAGES = {name: name.lower() for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the root's pages; their links into docs/ lead to the neighbours that those are here."""
    root = Path(config.config_file_path).parent
    for name, uri in ROOT_PAGES.items():
        text = (root / name).read_text(encoding="utf-8").replace("](docs/", "](")
        found = "" if name != "CHANGELOG.md" else "---\nsearch: { exclude: true }\n---\n\n"  # it has every word
        files.append(File.generated(config, uri, content=found + text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Lead the links of a page to the root's pages where these stand in the site."""
    for name, uri in ROOT_PAGES.items():
        markdown = markdown.replace(f"](../{name}", f"]({uri}").replace(f"]({name}", f"]({uri}")
    return markdown
