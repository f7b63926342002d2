"""Explores the data: tables, figures, and a summary for the terminal."""
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mcvqa.base.files import as_spreadsheet_cell, atomic_path
from mcvqa.base.informing import counted
from mcvqa.base.plots import FAINT_INK, INK, PALETTE, draw_each, in_figures, new_figure
from mcvqa.base.uncertainty import Accuracy, accuracy_of_right, spell_error
from mcvqa.data.agreement import VoteAgreement
from mcvqa.data.answers import LETTERS
from mcvqa.data.folds import question_groups
from mcvqa.data.images import OUTSIDE, ImageRecord
from mcvqa.data.kinds import KINDS, question_kind
from mcvqa.data.prior import Prior
from mcvqa.data.questions import SAME_TEXT, Problem, Question

if TYPE_CHECKING:
    import pandas as pd

    from mcvqa.base.plots import Figure

REPEATED_CHOICE = "choice within its row"


@dataclass(frozen=True)
class Exploration:
    """Holds the results of `explore`.

    Attributes:
        out_dir: folder with the figures and tables.
        figures: PNG files, in reading order.
        tables: name -> table; each is also written as <name>.csv.
        lines: the summary.
    """

    out_dir: Path
    figures: tuple[Path, ...]
    tables: "dict[str, pd.DataFrame]"
    lines: tuple[str, ...]

    def summary(self) -> str:
        return "\n".join(self.lines)


def explore(
    train: Sequence[Question],
    test: Sequence[Question],
    problems: Sequence[Problem],
    images: dict[str, ImageRecord] | None,
    groups: dict[str, int] | None,
    prior: Prior,
    out_dir: str | Path,
    notes: Sequence[str] = (),
    agreements: Sequence[VoteAgreement] = (),
) -> Exploration:
    """Write tables (CSV) and figures (PNG) of both splits into `out_dir`.

    Args:
        train, test: rows of both splits.
        problems: irregularities in the CSV files.
        images: written path -> record of every photograph; None: they were not surveyed.
        groups: written path -> group of near-duplicate photographs; None: unknown.
        prior: text-only predictions of the same rows.
        out_dir: folder for the files.
        notes: further lines about the files for the summary.
        agreements: agreement of the annotators, one for each file with votes.
    """
    out_dir = Path(out_dir)
    rows = _row_table(train, test, prior, groups)
    blind = _blind_accuracy(rows) if prior.accuracy.n else prior.accuracy
    questions = [("train", q) for q in train] + [("test", q) for q in test]
    shared = _shared_values(questions, images or {}, groups or {})
    tables = {
        "rows": rows,
        "kinds": _blind_table(rows, "kind", KINDS),
        "letters": _letter_table(rows),
        "lengths": _length_table(rows),
        "options": _option_table(train),
        "duplicates": _duplicate_counts(shared),
        "duplicate_rows": _duplicate_rows(shared, questions),
        "same_text": _same_text_rows(shared),
        "problems": _problem_table(problems, images or {}),
    }
    if len(sources := list(dict.fromkeys(q.source for q in train))) > 1:
        tables["sources"] = _blind_table(rows, "source", sources)
    if agreements:
        tables["votes"] = _vote_table(agreements)
    for name, table in tables.items():
        with atomic_path(out_dir / f"{name}.csv") as part:
            safe = table.apply(lambda column: column.map(as_spreadsheet_cell))
            # with BOM: Excel reads Korean
            safe.to_csv(part, index=False, encoding="utf-8-sig", errors="backslashreplace", lineterminator="\n")
    to_draw: dict[str, Callable[[], Figure | None]] = {
        "kinds": lambda: _draw_kinds(tables["kinds"]),
        "letters": lambda: _draw_letters(tables["letters"], rows),
        "lengths": lambda: _draw_lengths(rows, train),
        "options": lambda: _draw_options(tables["options"]),
        "blind": lambda: _draw_blind(tables["kinds"], tables.get("sources"), blind),
        "images": lambda: _draw_images(images or {}),
    }
    figures = draw_each(to_draw, out_dir)
    lines = [*_text_lines(train, test, problems, tables), *(f"Files       {note}" for note in notes)]
    lines += [line for agreement in agreements for line in agreement.lines()]
    lines += _image_lines(images, tables["duplicates"])
    lines += ["", *_blind_lines(tables["kinds"], tables.get("sources"), blind, prior.note), "", f"Figures and tables: {out_dir}"]
    return Exploration(out_dir, tuple(figures.values()), tables, tuple(lines))


# %% tables
def _row_table(
    train: Sequence[Question], test: Sequence[Question], prior: Prior, groups: dict[str, int] | None = None
) -> "pd.DataFrame":
    """Make one line per question of both splits, with the prior's answer."""
    import pandas as pd

    questions = [*train, *test]
    guesses = np.concatenate([prior.oof_logprobs.argmax(-1), prior.test_logprobs.argmax(-1)])
    return pd.DataFrame({
        "split": ["train"] * len(train) + ["test"] * len(test),
        "id": [q.id for q in questions],
        "kind": [question_kind(q) for q in questions],
        "source": [q.source for q in questions],
        "image_group": question_groups(questions, groups),
        "answer": ["" if q.answer is None else LETTERS[q.answer] for q in questions],
        "blind_guess": [LETTERS[guess] for guess in guesses],
        "choices": [len(q.choices) for q in questions],
        "chance": [1 / len(q.choices) for q in questions],
        "question_characters": [len(q.text) for q in questions],
        "choice_characters": [float(np.mean([len(c) for c in q.choices])) for q in questions],
    })  # fmt: skip


def _blind_accuracy(rows: "pd.DataFrame") -> Accuracy:
    """Measure the prior on the answered ones of these rows; it may have learned from more than a sample holds."""
    answered = rows[rows.answer != ""]
    return accuracy_of_right((answered.blind_guess == answered.answer).to_numpy(), answered.image_group.to_numpy())


def _blind_table(rows: "pd.DataFrame", column: str, names: Sequence[str]) -> "pd.DataFrame":
    """Tabulate rows of both splits, blind accuracy with its 95 % interval, and chance, per kind of question or per source."""
    import pandas as pd

    lines = []
    for name in names:
        part = rows[rows[column] == name]
        answered, blind = part[part.answer != ""], _blind_accuracy(part)
        lines.append({
            column: name,
            "train": int((part.split == "train").sum()),
            "test": int((part.split == "test").sum()),
            "answered": len(answered),
            "blind_right": blind.right,
            "blind_accuracy": blind.value,
            "standard_error": blind.standard_error,
            "low": blind.interval[0],
            "high": blind.interval[1],
            "chance": float(answered.chance.mean()) if len(answered) else float("nan"),
        })  # fmt: skip
    return pd.DataFrame(lines)


def _vote_table(agreements: Sequence[VoteAgreement]) -> "pd.DataFrame":
    """Count the rows of each file by number of votes and by votes for the answer."""
    import pandas as pd

    lines = [(a.file, *facts, count) for a in agreements for facts, count in sorted(a.rows.items(), reverse=True)]
    return pd.DataFrame(lines, columns=["file", "votes", "votes_of_answer", "tied", "rows"])


def _letter_table(rows: "pd.DataFrame") -> "pd.DataFrame":
    """Count how often each letter is right: for all answered rows, then by kind of question."""
    import pandas as pd

    answered = rows[rows.answer != ""]
    letters = LETTERS[: int(rows.choices.max())] if len(rows) else ""
    parts = [("all", answered), *((kind, answered[answered.kind == kind]) for kind in KINDS)]
    return pd.DataFrame([
        {"kind": kind, "rows": len(part)} | {letter: int((part.answer == letter).sum()) for letter in letters}
        for kind, part in parts
    ])  # fmt: skip


def _length_table(rows: "pd.DataFrame") -> "pd.DataFrame":
    """Tabulate the minimum, quartiles, 99 % quantile and maximum of each length, per split."""
    import pandas as pd

    marks = {"smallest": 0, "25 %": 0.25, "half": 0.5, "75 %": 0.75, "99 %": 0.99, "largest": 1}
    return pd.DataFrame([
        {"what": what, "split": split} | {name: float(part[what].quantile(mark)) for name, mark in marks.items()}
        for what in ("question_characters", "choice_characters", "choices")
        for split, part in rows.groupby("split", sort=False)
    ])  # fmt: skip


def _option_table(train: Sequence[Question]) -> "pd.DataFrame":
    """Count how often each choice text was offered and was right, the most frequent first."""
    import pandas as pd

    answered = [q for q in train if q.answer is not None]
    offered = Counter(choice for q in answered for choice in q.choices)
    right = Counter(q.choices[q.answer] for q in answered if q.answer is not None)
    lines = [(choice, n, right[choice], right[choice] / n) for choice, n in offered.most_common()]
    return pd.DataFrame(lines, columns=["choice", "offered", "right", "share_right"])


def _problem_table(problems: Sequence[Problem], images: dict[str, ImageRecord]) -> "pd.DataFrame":
    import pandas as pd

    lines = [(p.file, str(p.row), p.id, p.field, p.message) for p in problems]
    lines += [(written, "", "", "image", r.problem) for written, r in images.items() if r.problem]
    return pd.DataFrame(lines, columns=["file", "row", "id", "field", "message"])


# %% duplicates
def _shared_values(
    rows: Sequence[tuple[str, Question]], images: dict[str, ImageRecord], groups: dict[str, int]
) -> dict[str, list[list[tuple[str, Question]]]]:
    """Map each shared property to groups of at least two (split, question) that share it. Photographs count once per split."""
    pictures = list({(split, q.image): (split, q) for split, q in rows}.values())
    readable = [(split, q) for split, q in pictures if q.image in images and not images[q.image].problem]
    return {
        "id": _grouped_by(rows, lambda q: q.id),
        "question": _grouped_by(rows, lambda q: q.text),
        "question, normalised": _grouped_by(rows, lambda q: bare_text(q.text)),
        "question and choices": _grouped_by(rows, lambda q: (bare_text(q.text), *sorted(map(bare_text, q.choices)))),
        "photograph, path": _grouped_by(pictures, lambda q: q.image),
        "photograph, content": _grouped_by(readable, lambda q: images[q.image].content_hash),
        "photograph, alike": _grouped_by(readable, lambda q: groups.get(q.image, q.image)),
    }


def _grouped_by(
    rows: Sequence[tuple[str, Question]], key: Callable[[Question], Hashable]
) -> list[list[tuple[str, Question]]]:
    groups: dict[Hashable, list[tuple[str, Question]]] = defaultdict(list)
    for split, question in rows:
        groups[key(question)].append((split, question))
    return [group for group in groups.values() if len(group) > 1]


def bare_text(text: str) -> str:
    """Reduce a text to lower-case letters and digits: for comparing, never for showing to a model."""
    return re.sub(r"[\W_]+", "", text.lower()) or text


def _duplicate_counts(shared: dict[str, list[list[tuple[str, Question]]]]) -> "pd.DataFrame":
    """Count, per kind of duplicate, the groups, their rows, and the groups in both splits."""
    import pandas as pd

    lines = [
        (what, len(groups), sum(map(len, groups)), sum(len({split for split, _ in group}) > 1 for group in groups))
        for what, groups in shared.items()
    ]
    return pd.DataFrame(lines, columns=["shared", "groups", "members", "groups_in_both"])


def _duplicate_rows(
    shared: dict[str, list[list[tuple[str, Question]]]], rows: Sequence[tuple[str, Question]]
) -> "pd.DataFrame":
    """List every member of the relevant groups (ids and photographs), and every choice that is twice in one row."""
    import pandas as pd

    lines = [
        (what, number, split, q.id, q.image)
        for what in ("id", "photograph, content", "photograph, alike")
        for number, group in enumerate(shared[what], 1)
        for split, q in group
    ]
    lines += [
        (REPEATED_CHOICE, 0, split, q.id, choice)
        for split, q in rows
        for choice, n in Counter(q.choices).items()
        if n > 1
    ]
    return pd.DataFrame(lines, columns=["shared", "group", "split", "id", "value"])


def _same_text_rows(shared: dict[str, list[list[tuple[str, Question]]]]) -> "pd.DataFrame":
    """List every row whose question another row has too, first the groups that share the choices as well."""
    import pandas as pd

    lines = [
        (what, number, split, q.id, q.image, "" if q.answer is None else LETTERS[q.answer], q.text, " | ".join(q.choices))
        for what in ("question and choices", "question")
        for number, group in enumerate(sorted(shared[what], key=len, reverse=True), 1)
        for split, q in group
    ]
    return pd.DataFrame(lines, columns=["shared", "group", "split", "id", "image", "answer", "question", "choices"])


# %% figures
def _draw_kinds(kinds: "pd.DataFrame") -> "Figure | None":
    kinds = kinds[kinds[["train", "test"]].any(axis=1)]
    if kinds.empty:
        return None
    figure, axes = new_figure(height=4.2)
    heights = np.arange(len(kinds))
    for split, shift, color in (("train", -0.2, PALETTE[0]), ("test", 0.2, PALETTE[1])):
        if not (n := int(kinds[split].sum())):
            continue
        bars = axes.barh(heights + shift, kinds[split] / n * 100, 0.36, color=color, label=f"{split} ({n:,})")
        axes.bar_label(bars, [f"{count:,}" for count in kinds[split]], padding=4, fontsize=8.5, color=FAINT_INK)
    _name_bars(axes, [*map(in_figures, kinds.kind)])
    axes.set(title="Kinds of questions", xlabel="share of the split's questions, %")
    axes.margins(x=0.1)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _name_bars(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(False, axis="y")


def _choice_label(text: str, longest: int = 24) -> str:
    """Shorten a choice to one line; a dollar sign would start a formula in matplotlib."""
    line = " ".join(text.split())
    return (line if len(line) <= longest else line[: longest - 1] + "…").replace("$", r"\$")


def _draw_letters(letters: "pd.DataFrame", rows: "pd.DataFrame") -> "Figure | None":
    """Draw the share of each letter over all rows next to its share by chance, and by kind of question."""
    used = [c for c in letters.columns[2:] if letters[c].any()]
    letters = letters[letters.rows > 0]
    if not used or letters.empty:
        return None
    figure, (bars, table) = new_figure(1, 2, width=9.5, height=3.8, width_ratios=(1, 1.5))
    shares = letters[used].to_numpy() / letters.rows.to_numpy()[:, None] * 100  # (1 + kinds, letters)
    answered = rows[rows.answer != ""]
    counted = [accuracy_of_right((answered.answer == letter).to_numpy(), answered.image_group.to_numpy()) for letter in used]
    ends = np.array([share.interval for share in counted]).T * 100
    errors = np.abs(ends - shares[0])  # (2, letters)
    bars.bar(used, shares[0], 0.62, yerr=errors, color=PALETTE[0], error_kw={"ecolor": INK, "elinewidth": 1})
    bars.plot(used, _chance_shares(used, rows), "_", color=PALETTE[4], markersize=26, markeredgewidth=2, label="chance")
    bars.legend()
    bars.grid(False, axis="x")
    bars.set(title="Right answers by letter", ylabel="share of rows, % (95 % interval)")
    table.imshow(shares, cmap="Blues", vmin=0, vmax=max(60.0, shares.max()), aspect="auto")
    for (i, j), share in np.ndenumerate(shares):
        table.text(j, i, f"{share:.0f}", ha="center", va="center", color="white" if share > 40 else INK)
    table.set_xticks(range(len(used)), used)
    table.set_yticks(range(len(letters)), [f"{in_figures(k)} ({n:,})" for k, n in zip(letters.kind, letters.rows, strict=True)])
    table.set_title("The same by kind of question, %")
    table.grid(False)
    table.spines[:].set_visible(False)
    return figure


def _chance_shares(letters: Sequence[str], rows: "pd.DataFrame") -> list[float]:
    """Compute the percentage of answered rows in which each letter would be right if all choices of a row were equally likely."""
    choices = rows.choices[rows.answer != ""]
    return [float(((choices > LETTERS.index(letter)) / choices).mean() * 100) for letter in letters]


def _draw_lengths(rows: "pd.DataFrame", train: Sequence[Question]) -> "Figure | None":
    if rows.empty:
        return None
    figure, (left, right) = new_figure(1, 2, width=9.5, height=3.6)
    answered = [q for q in train if q.answer is not None]
    _draw_histograms(left, {
        split: rows.question_characters[rows.split == split].to_numpy() for split in ("train", "test")
    })  # fmt: skip
    left.set(title="Length of the question", xlabel="characters", ylabel="share of questions, %")
    _draw_histograms(right, {
        "right choices": np.array([len(q.choices[q.answer]) for q in answered if q.answer is not None]),
        "wrong choices": np.array([len(c) for q in answered for i, c in enumerate(q.choices) if i != q.answer]),
    })  # fmt: skip
    right.set(title="Length of a choice", xlabel="characters", ylabel="share of choices, %")
    return figure


def _draw_histograms(axes: Any, values: dict[str, np.ndarray]) -> None:
    """Draw outlines over common bins, up to the 99.5 % quantile; the last bin contains all larger values."""
    everything = np.concatenate(list(values.values()))
    if not len(everything):
        return
    low, high = (int(np.quantile(everything, share)) for share in (0, 0.995))
    bins = np.arange(low, high + 2, max(1, (high - low) // 40)) - 0.5
    for (name, lengths), color in zip(values.items(), PALETTE, strict=False):
        if len(lengths):
            weights = np.full(len(lengths), 100 / len(lengths))
            label = f"{name}, mean {lengths.mean():.1f}"
            shown = np.minimum(lengths, bins[-1] - 0.5)
            axes.hist(shown, bins, weights=weights, histtype="step", edgecolor=color, linewidth=1.8, label=label)
    if everything.max() > bins[-1]:
        _name_last_bin(axes, bins)
    axes.set_ylim(0, 1.25 * axes.get_ylim()[1])  # the legend is above the lines
    axes.legend(loc="upper right")


def _name_last_bin(axes: Any, bins: np.ndarray) -> None:
    """Put a tick such as 60+ below the last bin, which contains all larger values, in place of the numbers next to it."""
    last = bins[-2:].mean()
    free = [int(t) for t in axes.get_xticks() if t == int(t) and bins[0] < t < last - 0.08 * (last - bins[0])]
    axes.set_xticks([*free, last], [*map(str, free), f"{bins[-2] + 0.5:.0f}+"])


def _draw_options(options: "pd.DataFrame", most: int = 20) -> "Figure | None":
    """Draw the choices offered most often, and how often they were right: why a blind guess can be good."""
    top = options[options.offered > 1].head(most)
    if top.empty:
        return None
    figure, axes = new_figure(height=1.6 + 0.25 * len(top))
    heights = np.arange(len(top))
    axes.barh(heights, top.right, 0.66, color=PALETTE[2], label="right")
    wrong = axes.barh(heights, top.offered - top.right, 0.66, left=top.right, color="#CBD5E1", label="wrong")
    shares = [in_figures(f"{share:.0%} right") for share in top.share_right]
    axes.bar_label(wrong, shares, padding=4, fontsize=8.5, color=FAINT_INK)
    _name_bars(axes, [_choice_label(choice) for choice in top.choice])
    axes.set(title="Choices offered most often in train", xlabel="times offered")
    axes.margins(x=0.12)
    axes.legend(loc="lower right")
    return figure


def _draw_blind(kinds: "pd.DataFrame", sources: "pd.DataFrame | None", accuracy: Accuracy) -> "Figure | None":
    """Draw the prior's accuracy by kind of question, and by source if there are several, against chance."""
    import pandas as pd

    if sources is not None:
        kinds = pd.concat([kinds, sources.assign(kind="from " + sources.source)])
    kinds = kinds[kinds.answered > 0]
    if not accuracy.n or kinds.empty:
        return None
    figure, axes = new_figure(height=1.4 + 0.38 * len(kinds))
    heights, values = np.arange(len(kinds)), kinds.blind_accuracy.to_numpy() * 100
    below, above = values - kinds.low.to_numpy() * 100, kinds.high.to_numpy() * 100 - values
    axes.axvspan(accuracy.interval[0] * 100, accuracy.interval[1] * 100, color=PALETTE[0], alpha=0.12, linewidth=0)
    axes.axvline(accuracy.value * 100, color=PALETTE[0], linewidth=1, label=f"all kinds: {accuracy.value:.1%}")
    axes.errorbar(
        values, heights, xerr=(below, above), fmt="o", color=PALETTE[0], markersize=6, linewidth=1.4, capsize=3,
        label="blind, with 95 % interval",
    )  # fmt: skip
    axes.plot(kinds.chance * 100, heights, "|", color=PALETTE[4], markersize=16, markeredgewidth=2, label="chance")
    _name_bars(axes, [f"{in_figures(kind)} ({n:,})" for kind, n in zip(kinds.kind, kinds.answered, strict=True)])
    axes.set(title="Accuracy without looking at the photograph", xlabel="accuracy, %", xlim=(0, 100))
    axes.set_ylim(len(kinds) - 0.4, -0.6)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _draw_images(images: dict[str, ImageRecord]) -> "Figure | None":
    sizes = np.array([(r.width, r.height) for r in images.values() if not r.problem])
    if len(np.unique(sizes, axis=0)) < 2:  # none, or one size: the summary says it
        return None
    figure, (left, right) = new_figure(1, 2, width=9.5, height=3.8)
    left.scatter(*sizes.T, s=12, color=PALETTE[0], alpha=0.3, linewidth=0)
    left.set(title=f"Size of {len(sizes):,} photographs", xlabel="width, pixels", ylabel="height, pixels")
    left.set(xlim=(0, None), ylim=(0, None))
    aspect = np.log2(sizes[:, 0] / sizes[:, 1]).clip(-2, 2)
    right.hist(aspect, np.linspace(-2.0625, 2.0625, 34), color=PALETTE[0])  # one bin is centred on square
    right.set_xticks([-2, -1, 0, 1, 2], ["1:4", "1:2", "1:1", "2:1", "4:1"])
    right.set(title="Width to height", ylabel="photographs")
    return figure


# %% summary
def _text_lines(
    train: Sequence[Question], test: Sequence[Question], problems: Sequence[Problem], tables: "dict[str, pd.DataFrame]"
) -> list[str]:
    everyone = tables["letters"].iloc[0]
    n = int(everyone.rows)
    counts = sorted({len(q.choices) for q in (*train, *test)})
    lines = [f"Questions   train {len(train):,} ({n:,} answered), test {len(test):,}, {_span(counts)} choices a row"]
    if n:
        letters = {c: int(everyone[c]) for c in tables["letters"].columns[2:] if everyone[c]}
        lines.append("Answers     " + "   ".join(f"{letter} {count / n:.1%}" for letter, count in letters.items()))
    for title, what in (("Same text", "question"), ("  + choices", "question and choices"), ("Same id", "id")):
        lines += _shared_line(tables["duplicates"], what, title, "" if what == "id" else " (same_text.csv)")
    repeated = [p for p in problems if p.message.startswith(SAME_TEXT)]
    if repeated:
        names = list({(p.file, p.row): p.id for p in repeated}.values())
        lines.append(f"Choices     duplicated in {counted(len(names), 'row')}: {_first_few(names)} (problems.csv)")
    if others := sum(not p.of_answer for p in problems) - len(repeated):
        lines.append(f"Cells       {others:,} {'more ' if repeated else ''}with problems (problems.csv)")
    return lines


def _shared_line(duplicates: "pd.DataFrame", what: str, title: str, table: str = "") -> list[str]:
    """Make one line, or none if nothing is shared.

    Args:
        table: the table that lists the rows.
    """
    entry = duplicates[duplicates.shared == what].iloc[0]
    groups = counted(entry.groups, "group")
    line = f"{title:<12}{entry.members:,} in {groups}, of which {counted(entry.groups_in_both, 'spans', 'span')} both splits"
    return [line + table] if entry.groups else []


def _span(numbers: Sequence[int]) -> str:
    return "no" if not numbers else str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def _first_few(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _image_lines(images: dict[str, ImageRecord] | None, duplicates: "pd.DataFrame") -> list[str]:
    if images is None:
        return ["Photographs not examined"]
    refused = [w for w, r in images.items() if r.problem.startswith(OUTSIDE)]
    missing = [w for w, r in images.items() if r.path is None and not r.problem.startswith(OUTSIDE)]
    if len(missing) == len(images):
        return [f"Photographs missing: all {len(images):,}; everything else continues without them"]
    broken = [f"{w} ({r.problem})" for w, r in images.items() if r.path is not None and r.problem]
    lines = [f"Photographs {len(images):,}, of them {len(missing):,} missing and {len(broken):,} broken"]
    if refused:
        lines[0] += f"; {len(refused):,} refused, outside the data folder"
        lines.append(f"  refused   {_first_few(refused)}")
    lines += [f"  missing   {_first_few(missing)}"] if missing else []
    lines += [f"  broken    {_first_few(broken, 3)}"] if broken else []
    sizes = {(r.width, r.height) for r in images.values() if not r.problem}
    lines += [f"  size      all {width:,} x {height:,} pixels" for width, height in sizes if len(sizes) == 1]
    for title, what in (("  same file", "photograph, content"), ("  similar", "photograph, alike")):
        lines += _shared_line(duplicates, what, title)
    return lines


def _blind_lines(kinds: "pd.DataFrame", sources: "pd.DataFrame | None", accuracy: Accuracy, note: str) -> list[str]:
    """Describe the blind accuracy by kind of question, of all rows, and by source if there are several.

    Args:
        accuracy: of all rows; n=0: not measured, which `note` explains.
    """
    def line(name: str, part: Any) -> str:
        measured = part.answered and accuracy.n
        figure = f"{spell_error(part.blind_accuracy, part.standard_error)} ({part.chance:.3f})" if measured else "-"
        return f"{name:<12}{part.train:>7,}{part.test:>7,}   {figure}"

    lines = [f"{'kind':<12}{'train':>7}{'test':>7}   blind accuracy (chance)"]
    lines += [line(kind.kind, kind) for _, kind in kinds[(kinds.train > 0) | (kinds.test > 0)].iterrows()]
    lines.append(f"{'all':<12}{kinds.train.sum():>7,}{kinds.test.sum():>7,}   {note or accuracy}")
    if sources is not None:
        lines += [line(f"from {one.source}", one) for _, one in sources.iterrows()]
        if accuracy.n and sources.low.max() > sources.high.min():
            lines.append(
                "The texts alone answer significantly more rows of one source than of another; the test rows may resemble "
                "either (validate_on=SOURCE)."
            )
    return lines
