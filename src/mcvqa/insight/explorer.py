"""Writes the explorer: every row of a run, or of two runs side by side, on one page that needs no server and no internet.

The page contains everything it shows: style, script, data and thumbnails. Its policy allows only this style and this script, by
their hashes, and the data are JSON that neither an HTML parser nor a JavaScript engine executes. Content is inserted as text.
"""
import base64
import hashlib
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from tqdm.auto import tqdm

from mcvqa.base.files import as_json, atomic_path
from mcvqa.base.informing import counted, printable
from mcvqa.data.answers import LETTERS
from mcvqa.data.fixes import DROP, FIX, FIXES_HEADER, Decision
from mcvqa.data.images import ImageError, open_image
from mcvqa.data.table import DataError
from mcvqa.insight.evidence import Neighbour, RowEvidence
from mcvqa.insight.explorer_words import EXPLORER_WORDS, explorer_words

THUMBNAIL_PIXELS = 160  # the longer side
THUMBNAILS_BYTES = 66_000_000  # of all together; in base64, and with 10,000 rows, the page stays below 100 MB
QUALITIES = (80, 60, 40, 20, 5)  # of a thumbnail: the first with which it takes no more than its share
PER_BLOCK = 8  # thumbnails that the page parses at once
SCRIPTS = ("rows.js", "decisions.js", "view.js")


@dataclass(frozen=True)
class ExploredRun:
    """Holds a run for the page.

    Attributes:
        name, model: names of the run and its model.
        accuracy: out-of-fold accuracy, in words; empty if it is not measured.
        not_measured: why it is not measured.
        rows: evidence of the run.
        photographs: path written in the CSV -> the file; without those that cannot be read.
        hashes: path written in the CSV -> SHA-256 of the file.
        before: id of a row that `fixes` relabelled -> its answer in the file.
        decided: the decisions that the run has applied with `fixes`.
    """

    name: str
    model: str
    accuracy: str
    not_measured: str
    rows: Sequence[RowEvidence]
    photographs: Mapping[str, Path]
    hashes: Mapping[str, str]
    before: Mapping[str, int] = field(default_factory=dict)
    decided: Sequence[Decision] = ()

    @property
    def by_key(self) -> dict[tuple[str, str], RowEvidence]:
        """Rows by (split, id): a test row may have the id of a training row."""
        return {(row.split, row.question.id): row for row in self.rows}

    def label_in_file(self, row: RowEvidence) -> int | None:
        """Return the label before `fixes`."""
        return self.before.get(row.question.id, row.truth) if row.split == "train" else None


# %% two runs
def require_same_rows(first: ExploredRun, second: ExploredRun) -> None:
    """Check that rows with the same id are the same rows.

    Args:
        first, second: the runs.

    Raises:
        DataError: a row differs (the message names the first one), or the runs have no id in common.
    """
    others = second.by_key
    shared = [(row, others[key]) for key, row in first.by_key.items() if key in others]
    names = f"{first.name!r} and {second.name!r}"
    if not shared:
        raise DataError(f"The runs {names} have no row in common: only runs on the same data can be shown side by side.")
    differing = [(row, what) for row, other in shared if (what := _difference(first, row, second, other))]
    if differing:
        row, what = differing[0]
        raise DataError(
            f"The runs {names} cannot be shown side by side: {counted(len(differing), 'row')} of {len(shared):,} with the same "
            f"id differ. The first is the {row.split} row {row.question.id!r}: {what}. Explore them one by one."
        )


def _difference(first: ExploredRun, row: RowEvidence, second: ExploredRun, other: RowEvidence) -> str:
    """Describe how a row differs in the second run; empty if it is the same."""
    one, two = row.question, other.question
    label, other_label = first.label_in_file(row), second.label_in_file(other)
    pairs = {
        "its question is another one": (one.text, two.text),
        "its choices are others": (" / ".join(one.choices), " / ".join(two.choices)),
        "its label is another one": ("none" if label is None else LETTERS[label],
                                     "none" if other_label is None else LETTERS[other_label]),
    }
    for what, (here, there) in pairs.items():
        if here != there:
            return f"{what} ({here!r} in {first.name}, {there!r} in {second.name})"
    same_picture = first.hashes.get(one.image) == second.hashes.get(two.image)
    return "" if same_picture else f"its photograph is another one ({one.image} and {two.image})"


# %% the page
def write_explorer(path: Path, first: ExploredRun, second: ExploredRun | None = None) -> None:
    """Write the page.

    Args:
        path: the file.
        first: the run whose rows are shown.
        second: a run to compare, for rows that it has too; None: no comparison.

    Raises:
        DataError: the runs have different data.
    """
    if second is not None:
        require_same_rows(first, second)
    photographs = _distinct_photographs(first)
    head, tail = _shell(first, second, photographs)
    with atomic_path(path) as part, open(part, "w", encoding="utf-8", newline="\n") as handle:
        handle.write(head)
        handle.writelines(_photograph_blocks(list(photographs.values())))
        handle.write(tail)


def _shell(first: ExploredRun, second: ExploredRun | None, photographs: Mapping[str, Path]) -> tuple[str, str]:
    """Make the page without thumbnails: the parts before and after them."""
    folder = files("mcvqa.insight") / "page"
    text = {name: (folder / name).read_text(encoding="utf-8") for name in ("explorer.html", "explorer.css", *SCRIPTS)}
    script, style = "".join(text[name] for name in SCRIPTS), text["explorer.css"]
    policy = (
        f"default-src 'none'; script-src 'sha256-{_hash_of(script)}'; style-src 'sha256-{_hash_of(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    names = " · ".join(run.name for run in (first, second) if run is not None)
    environment = jinja2.Environment(autoescape=True)
    page = environment.from_string(text["explorer.html"]).render(
        policy=Markup(policy), title=printable(f"{names} · mcvqa"), style=Markup(style), script=Markup(script),
        data=Markup(inert_json(_page_data(first, second, photographs))), no_script=" ".join(EXPLORER_WORDS["no_script"][::-1]),
    )
    head, tail = page.split("<!-- photographs -->\n")
    return head, tail


def _hash_of(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def inert_json(value: Any) -> str:
    """Write JSON for a script element of type application/json: no text in it can end the element, open a comment or be
    markup."""
    text = as_json(value, indent=None).strip()
    return re.sub("[<>&\u2028\u2029]", lambda match: f"\\u{ord(match[0]):04x}", text)


def _page_data(first: ExploredRun, second: ExploredRun | None, photographs: Mapping[str, Path]) -> dict[str, Any]:
    numbers = {content: number for number, content in enumerate(photographs)}
    others = second.by_key if second else {}
    rows = []
    for key, row in first.by_key.items():
        other = others.pop(key, None)
        facts = _row_facts(row) | {"photo": numbers.get(first.hashes.get(row.question.image, ""))}
        facts |= {"file_label": first.label_in_file(row), "other": _without_empty(_said_facts(other)) if other else None}
        rows.append(_without_empty(facts))
    return {
        "runs": [_run_facts(run) for run in (first, second) if run is not None], "rows": rows, "words": explorer_words(),
        "header": FIXES_HEADER, "per_block": PER_BLOCK, "only_second": len(others),
        "other_labels": _labels_that_differ(first, second) if second else 0,
        "rows_print": _rows_print(first), "decided": _decisions_made(first), "dropped": _dropped_before(first),
    }


def _without_empty(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value not in (None, "", [])}


def _run_facts(run: ExploredRun) -> dict[str, Any]:
    return {name: getattr(run, name) for name in ("name", "model", "accuracy", "not_measured")}


def _rows_print(run: ExploredRun) -> str:
    """Hash the rows and earlier decisions; a browser stores decisions under this hash."""
    keys = [(*key, row.question.text, row.question.choices, run.label_in_file(row)) for key, row in run.by_key.items()]
    return hashlib.sha256(as_json([keys, _decisions_made(run)]).encode()).hexdigest()[:16]


def _labels_that_differ(first: ExploredRun, second: ExploredRun) -> int:
    others = second.by_key
    return sum(key in others and others[key].truth != row.truth for key, row in first.by_key.items())


# %% decisions that were made before
def _decisions_made(run: ExploredRun) -> dict[str, list[Any]]:
    """Map ids to the word and the choice of decisions that a person made before this run."""
    there = {row.question.id for row in run.rows if row.split == "train"}
    decisions = {}
    for one in run.decided:
        if one.word and one.id in there:
            decisions[one.id] = [one.word, LETTERS.index(one.proposed) if one.word == FIX else None]
    return decisions


def _dropped_before(run: ExploredRun) -> list[list[str]]:
    """List the cells of dropped rows, which the run no longer has: the next fixes.csv must drop them too."""
    cells = ({"id": one.id, "now": one.now, "decision": DROP} for one in run.decided if one.word == DROP)
    return [[one.get(name, "") for name in FIXES_HEADER] for one in cells]


# %% one row
def _row_facts(row: RowEvidence) -> dict[str, Any]:
    question = row.question
    return {
        "id": question.id, "split": row.split, "kind": row.kind, "source": question.source, "image": question.image,
        "question": question.text, "choices": question.choices, "votes": list(question.votes or ()), "truth": row.truth,
        "label_wrong": _short(row.label_wrong), "proposed": row.proposed, "prior": [_short(share) for share in row.prior],
        "look_alikes": _neighbour_facts(row.look_alikes), "look_alikes_count": row.look_alikes_count or None,
        "same_question": _neighbour_facts(row.same_question), "same_question_count": row.same_question_count or None,
        **_said_facts(row),
    }


def _said_facts(row: RowEvidence) -> dict[str, Any]:
    """Collect what a run says about a row."""
    measured = ("margin", "entropy", "order_agreement", "scale_agreement", "member_agreement", "fold_agreement")
    return {
        "fold": row.fold, "said": row.said, "shares": [_short(share) for share in row.probabilities], "rank": row.rank_of_truth,
        "tag": row.tag, "reason": {"en": row.reason, "ko": row.reason_in_korean} if row.tag else None,
        **{name: _short(getattr(row, name)) for name in measured},
    }


def _short(share: float | None) -> float | None:
    return None if share is None else round(share, 4)


def _neighbour_facts(neighbours: Sequence[Neighbour]) -> list[list[Any]]:
    return [[one.id, one.answer, one.same_question] for one in neighbours]


# %% thumbnails
def _distinct_photographs(run: ExploredRun) -> dict[str, Path]:
    """Map hashes to files of the photographs shown, the most suspicious rows first: the page opens with these."""
    shown = sorted(run.rows, key=lambda row: -(row.label_wrong or 0.0))
    files: dict[str, Path] = {}
    for row in shown:
        image = row.question.image
        if image in run.photographs:
            files.setdefault(run.hashes[image], run.photographs[image])
    return files


def _photograph_blocks(photographs: Sequence[Path]) -> Iterator[str]:
    """Yield script elements with a JSON list of data URLs each, PER_BLOCK at a time."""
    most = THUMBNAILS_BYTES // max(len(photographs), 1)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes and encodes outside of the GIL
        drawn = pool.map(lambda photograph: _thumbnail_url(photograph, most), photographs)
        bar = iter(tqdm(drawn, total=len(photographs), desc="thumbnails", disable=not photographs))
        for number in range(-(-len(photographs) // PER_BLOCK)):
            urls = inert_json(list(islice(bar, PER_BLOCK)))
            yield f'<script type="application/json" id="photographs-{number}">{urls}</script>\n'
        next(bar, None)  # its last photograph counts only when the next one is asked for


def _thumbnail_url(photograph: Path, most: int) -> str:
    """Make a thumbnail; empty if the photograph can no longer be read.

    Args:
        most: maximum size in bytes.
    """
    try:
        picture = open_image(photograph)
    except ImageError:
        return ""
    picture.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    content = b""
    for quality in QUALITIES:
        file = io.BytesIO()
        picture.save(file, "WEBP", quality=quality, method=2)
        content = file.getvalue()
        if len(content) <= most:
            break
    return f"data:image/webp;base64,{base64.b64encode(content).decode()}"
