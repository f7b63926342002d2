"""Selects labelled rows: those of train.csv and dev.csv for training and for validation, with notes about the others."""
import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np

from mcvqa.base.informing import counted
from mcvqa.config import Config, ConfigError
from mcvqa.data.answers import STYLE_WORDS, AnswersRead
from mcvqa.data.own_letters import strip_own_letters
from mcvqa.data.questions import TIED, Question, Table

SOURCES = ("train", "dev")  # of the labelled tables, in their order


# %% learned from
def answered_rows(tables: Sequence[Table], config: Config) -> tuple[list[Question], list[str]]:
    """Collect the rows for training, each with its source and a unique id. Identical rows count once.

    An id may name a photograph with several questions: the second row of the id "x" is called "x#2". An id of dev.csv may be in
    train.csv too. All rows are counted, so that settings do not change what an id means. Rows with tied votes are used with
    `soft_votes`. Beside an answer, `min_votes` counts the votes for it.

    Args:
        tables: tables of train.csv and, if it is used, dev.csv.
        config: all settings.

    Returns:
        The rows, and notes about those that were left out or have no single answer.
    """
    answered: dict[str, Question] = {}
    train_ids = {q.id for q in tables[0].questions}
    notes: list[str] = []
    repeated = 0
    for source, table in zip(SOURCES, tables, strict=False):
        seen: Counter[str] = Counter()
        rows: set[Question] = set()
        few = tied = 0
        for question in table.questions:
            if question in rows:
                repeated += 1
                continue
            rows.add(question)
            name = f"{source}:{question.id}" if source != "train" and question.id in train_ids else question.id
            seen[name] += 1
            name = name if seen[name] == 1 else f"{name}#{seen[name]}"
            votes, answer = question.votes, question.answer
            if answer is None and not (config.soft_votes and votes):
                continue
            if votes and (max(votes) if answer is None else votes[answer]) < config.min_votes:
                few += 1
                continue
            tied += answer is None
            answered[name] = dataclasses.replace(question, id=name, source=source)
        if few:
            notes.append(
                f"{table.name}: {counted(few, 'row is', 'rows are')} left out: fewer than min_votes={config.min_votes} votes")
        if tied:
            notes.append(
                f"{table.name}: {counted(tied, 'row is', 'rows are')} trained on by vote shares, but never validated: {TIED}")
    if config.min_votes and not any(q.votes for table in tables for q in table.questions):
        notes.append(f"min_votes={config.min_votes} has no effect: there are no votes")
    notes += [f"{counted(repeated, 'row is', 'rows are')} left out: the same as an earlier one"] if repeated else []
    return list(answered.values()), notes


# %% validated with
def rows_that_validate(questions: Sequence[Question], source: str) -> np.ndarray:
    """Select the rows (N,) that may be used for validation: they have an answer, and are from this source.

    Args:
        questions: N rows.
        source: a source of `questions`; empty: all of them.

    Raises:
        ConfigError: no row with an answer is from this source; the message lists the sources.
    """
    counts = np.array([q.answer is not None and source in ("", q.source) for q in questions], dtype=bool)
    if source and not counts.any():
        there = " and ".join(dict.fromkeys(q.source for q in questions if q.answer is not None))
        raise ConfigError(
            f"validate_on={source!r}: no answered row comes from this source. Sources: {there}; rows of dev.csv are read with "
            "use_dev=true."
        )
    return counts


# %% said about them
def named_answers(tables: Sequence[Table]) -> list[tuple[str, AnswersRead]]:
    """Return how the answers of each file were read, with the file's name."""
    return [(table.name, table.answers) for table in tables if table.answers is not None]


def notes_on_answers(tables: Sequence[Table], config: Config) -> list[str]:
    """Describe how the answers of each file were read, and how many rows are left out because they have none."""
    read = named_answers(tables)
    used = TIED if config.soft_votes else ""
    notes = [f"{name}: {line}" for name, answers in read for line in (answers.summary(), *answers.losses(used))]
    styles = {name: answers.convention.usual for name, answers in read}
    if len(set(styles.values())) > 1:
        notes.append("the files write their answers differently: " + ", ".join(
            f"{name} in {STYLE_WORDS.get(style, 'several kinds')}" for name, style in styles.items()
        ))
    return notes


def notes_on_encodings(tables: Sequence[Table]) -> list[str]:
    """List files whose encoding was guessed, each with a text to check."""
    notes = []
    for table in tables:
        shown = next((q.text for q in table.questions if not q.text.isascii()), "")
        if table.read_as.startswith(("cp949", "cp1252")):
            notes.append(f"{table.name}: read as {table.read_as}" + (f", for example {shown[:40]!r}" if shown else ""))
        if "; " in table.read_as:
            notes.append(f"{table.name}: read as {table.read_as}")
    return notes


def notes_on_own_letters(questions: Sequence[Question]) -> list[str]:
    """Note that choices are shown without their own letters."""
    stripped = [(q.choices[0], new[0]) for q in questions for new, changed in [strip_own_letters(q.choices)] if changed]
    if not stripped:
        return []
    before, after = stripped[0]
    rows = counted(len(stripped), "row has", "rows have")
    return [f"{rows} choices that begin with their own letters: {before!r} is shown to the model as {after!r}"]
