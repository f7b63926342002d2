"""Sphinx's settings: `make docs` builds what is listed in PAGES into build/docs, from the repository's root."""
import sys
from pathlib import Path
from typing import Any

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))

from mcvqa import __version__  # noqa: E402

project = "mcvqa"
copyright = "the authors of mcvqa, Apache-2.0"
version = release = __version__
language = "en"

# the documents that lie beside docs/ are pages too, so that links between them are those of the repository
PAGES = ("CHANGELOG", "CONTRIBUTING", "DECISIONS", "PROJECT_SUMMARY", "benchmarks/RESULTS", "benchmarks/RELIABILITY",
         "data/README", "src/mcvqa/tiny/README")
root_doc = "docs/index"
include_patterns = ["docs/**", *(f"{page}.md" for page in PAGES)]
exclude_patterns = [".*", "build", "cache", "checkpoints", "logs", "outputs"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["attrs_inline", "colon_fence"]
myst_heading_anchors = 4  # links name headings as the repository's viewer does

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
# every name that `import mcvqa` exports must be found; inner records need no page, and other packages' pages are not fetched
nitpick_ignore_regex = [(r"py:.*", r"(?!mcvqa\.\w+$).*")]

html_theme = "furo"
html_title = f"mcvqa {release}"
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_extra_path = ["static/index.html"]  # the way from build/docs/ to the first page
html_copy_source = False


def name_language(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    if page.startswith("docs/ko/"):
        context["language"] = "ko"


def plain_default(
    app: Sphinx, what: str, name: str, found: Any, options: Any, signature: str | None, returned: str | None,
) -> tuple[str, str | None] | None:
    """Make a signature Python again, so that its names become links: a default that is computed reads `<factory>`."""
    return (signature.replace("<factory>", "..."), returned) if signature else None


def setup(app: Sphinx) -> None:
    app.connect("html-page-context", name_language)
    app.connect("autodoc-process-signature", plain_default)
    app.add_lexer("tree", TextLexer)  # its lines are not broken
    app.add_lexer("mermaid", TextLexer)  # drawn by the repository's viewer only; docs/figures/ has the picture
