"""Renders reports and tables as Markdown. All text from files is escaped: questions, file names and run names are untrusted."""
import html
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mcvqa.base.informing import printable
from mcvqa.report.content import ReportBlock, ReportSection
from mcvqa.report.gallery import ErrorCard
from mcvqa.report.words import report_word


def markdown_text(text: Any) -> str:
    """Escape `text` as one line of Markdown, for a paragraph or a table cell."""
    return _escaped(str(text)).strip()


def _escaped(text: str) -> str:
    line = printable(re.sub(r"[\x09-\x0d\x20\x85\u2028\u2029]+", " ", text))
    return re.sub(r"([\\`*_\[\]|~$#])", r"\\\1", html.escape(line, quote=False))


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]], numeric: bool = False) -> str:
    """Format a GitHub table; `numeric` right-aligns all columns but the first."""
    return _markdown_rows(header, [list(map(markdown_text, row)) for row in rows], numeric)


def _markdown_rows(header: Sequence[str], rows: Sequence[Sequence[str]], numeric: bool) -> str:
    """Format a table whose cells are Markdown already."""
    ruler = ["---", *(["---:" if numeric else "---"] * (len(header) - 1))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (list(map(markdown_text, header)), ruler, *rows))


def markdown_report(run: str, sections: Sequence[ReportSection], folder: Path) -> str:
    """Render REPORT.md; figures are linked relative to `folder`."""
    title = f"# {markdown_text(run)}: {report_word('en', 'report')}"
    parts = [title, "The same as one page, in Korean too, with figures inside: [report.html](report.html)."]
    for section in sections:
        parts += [f"## {markdown_text(section.title)}", *(_markdown_block(block, folder) for block in section.blocks)]
    return "\n\n".join(parts) + "\n"


def _markdown_block(block: ReportBlock, folder: Path) -> str:
    if block.kind in ("table", "tiles"):
        return markdown_table(block.header, block.rows, block.numeric)
    if block.kind == "list":
        return "\n".join(f"- {_with_code(text)}" for (text,) in block.rows)
    if block.kind == "figure":
        path = Path(block.path).resolve().relative_to(folder.resolve()).as_posix()
        return f"![{markdown_text(block.text)}]({quote(path)})"
    if block.kind == "link":
        return f"[{markdown_text(block.text)}]({quote(block.path.as_posix())})"
    if block.kind == "gallery":
        rows = [[_linked_thumbnail(n, card), *map(markdown_text, row)]
                for n, (card, row) in enumerate(zip(block.cards, block.rows, strict=True))]
        return _markdown_rows(("", *block.header), rows, block.numeric)
    if block.kind == "photographs":
        return "\n".join([markdown_text(block.text), "", *(
            f"- {', '.join(markdown_text(caption) for _, caption in group)}" for group in block.groups)])
    if block.kind == "verbatim":  # indented, because the text could close a fence
        return "\n".join(f"    {printable(line)}" for line in re.split(r"[\r\n\x0b\x0c]+", block.text.strip("\r\n")))
    return markdown_text(block.text)


# %% photographs of errors
ERRORS_FOLDER = "errors"


def _with_code(text: str) -> str:
    """Escape `text`, with what stands between two backticks as code."""
    return "".join(
        f"`{printable(' '.join(part.split()))}`" if number % 2 else _escaped(part)
        for number, part in enumerate(re.split("`([^`]+)`", text)))


def error_picture_name(number: int) -> str:
    """Return the file name of an error's photograph next to REPORT.md."""
    return f"{ERRORS_FOLDER}/{number + 1:02}.jpg"


def _linked_thumbnail(number: int, card: ErrorCard) -> str:
    return f"![{markdown_text(card.error.id)}]({error_picture_name(number)})" if card.thumbnail.jpeg else "–"
