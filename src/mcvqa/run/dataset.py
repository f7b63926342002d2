"""Reads the data of a run: questions, surveyed photographs, folds, and the text-only prior. Does not import torch."""
import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcvqa.base.files import read_json, write_json
from mcvqa.base.informing import counted
from mcvqa.base.uncertainty import Accuracy
from mcvqa.config import Config, ConfigError, settings_hash
from mcvqa.data.folds import (
    LEFT_OUT,
    question_groups,
    sample_rows,
)
from mcvqa.data.image_paths import CELLS_FOLDER
from mcvqa.data.images import ImageRecord, near_duplicate_groups
from mcvqa.data.labelled import (
    answered_rows,
    named_answers,
    notes_on_answers,
    notes_on_encodings,
    notes_on_own_letters,
    rows_that_validate,
)
from mcvqa.data.locate import DataFiles, find_data, missing_table, near_misses_of, packed_beside, unread_sample
from mcvqa.data.prior import Prior, fit_prior
from mcvqa.data.questions import Problem, Question, Table, read_questions, read_tables
from mcvqa.data.table import DataError
from mcvqa.data.targets import Guidance
from mcvqa.report.submission import PLAIN_FORM, SubmissionForm, find_form
from mcvqa.run.project import Project, RunStopped, may_record, remedy, settle_settings, start_print
from mcvqa.run.survey import survey_photographs, tables_with_photographs
from mcvqa.run.tasks import Task
from mcvqa.scoring.scores import Scores, load_scores, plain_scores


@dataclass(frozen=True)
class RunData:
    """Holds the questions of a run and the survey of their photographs.

    Attributes:
        form: format of the competition's submissions; a plain one if there are no test rows.
        tables: tables of the training files, then of the test file if there is one, as read.
        train: rows with an answer; those of the sample if there is one.
        all_train: every row of the training files with an answer.
        test: rows of the test file; none if there is no such file, and then no submission.
        problems: irregularities in the files.
        notes: how the files were read.
        doubts: parts of the files that are not used although they may mean something.
        records: survey of the photographs by the path written in the CSV.
        groups: (N,) rows of `train` in one group share an image or a near-duplicate.
        train_print, test_print: hashes of the questions, answers and photographs of a split.
        validates: (N,) whether each row of `train` may be used for validation; the others are for training only.
        folds: (N,) the fold that holds out each row of `train`; TRAINING_ONLY, or LEFT_OUT without a readable photograph; empty
            before `split_rows`.
        before: id of a row that `fixes` relabelled -> its answer in the file.
        guidance: targets and weights of training rows besides their answers; none before `split_rows`.
    """

    files: DataFiles
    form: SubmissionForm
    tables: tuple[Table, ...]
    train: tuple[Question, ...]
    all_train: tuple[Question, ...]
    test: tuple[Question, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    doubts: tuple[str, ...]
    records: dict[str, ImageRecord]
    image_groups: dict[str, int]
    groups: np.ndarray
    train_print: str
    test_print: str
    validates: np.ndarray
    folds: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))
    before: dict[str, int] = dataclasses.field(default_factory=dict)
    guidance: Guidance = dataclasses.field(default_factory=Guidance)

    def broken(self, questions: Sequence[Question]) -> list[ImageRecord]:
        """List the photographs of `questions` that cannot be read."""
        written = dict.fromkeys(q.image for q in questions)
        return [self.records[w] for w in written if self.records[w].problem]

    @property
    def style(self) -> str:
        """Notation of answers, one of SUBMISSION_STYLES."""
        known = self.tables[0].convention
        return self.form.style if self.test or known is None else known.usual or self.form.style

    @property
    def with_image(self) -> np.ndarray:
        """(N,) whether the photograph of each row of `train` can be read."""
        return np.array([not self.records[q.image].problem for q in self.train], dtype=bool)

    @property
    def used(self) -> int:
        """Number of rows of `train` that are used for training or validation."""
        return int((self.folds != LEFT_OUT).sum()) if len(self.folds) else int(self.with_image.sum())

    def validated(self, fold: int) -> np.ndarray:
        """Return (N,) whether each row of `train` is in the validation rows of a fold."""
        return (self.folds == fold) & self.validates

    def fold_rows(self, fold: int) -> tuple[list[Question], list[Question]]:
        """Return the training and validation questions of a fold; no row, image or near-duplicate is in both."""
        return self.guidance.guided(self.learned_rows(fold), fold), self.validation_rows(fold)

    def learned_rows(self, fold: int) -> list[Question]:
        """Return the labelled rows on which a fold is trained."""
        return [q for q, f in zip(self.train, self.folds, strict=True) if f not in (fold, LEFT_OUT)]

    def validation_rows(self, fold: int, sample: int = 0, seed: int = 0) -> list[Question]:
        """Return the validation rows of a fold.

        Args:
            fold: number of the fold.
            sample: size of a random sample, the same in every session; 0: all rows.
            seed: seed of the sample.
        """
        rows = [q for q, validated in zip(self.train, self.validated(fold), strict=True) if validated]
        chosen = np.sort(np.random.default_rng([seed, fold]).permutation(len(rows))[:sample]) if sample else range(len(rows))
        return [rows[i] for i in chosen]


# %% files and photographs
def read_data(project: Project) -> RunData:
    """Find and read the files, survey the photographs and group near-duplicates.

    Raises:
        DataError: train.csv is missing, or a file cannot be understood.
    """
    config = project.config
    files, test = read_test_rows(project)
    labelled = _read_labelled(files, config)
    as_read = [*labelled, *([test] if test else [])]
    tables, folder, notes = tables_with_photographs(project, files, as_read)
    labelled, asked = tables[: len(labelled)], tables[-1].questions if test else ()
    require_distinct_ids(asked, files.test)
    rows, notes_on_rows = answered_rows(labelled, config)
    before: dict[str, int] = {}
    said: Sequence[str] = ()
    if config.fixes and rows:
        from mcvqa.data.fixes import rows_left_out, with_fixes

        fixed = with_fixes(rows, Path(config.fixes), rows_left_out(rows, labelled, config))
        rows, before, said = list(fixed.questions), fixed.before, fixed.notes
    if not rows:
        why = "; ".join((*notes_on_rows, *said)) or "no answer could be interpreted"
        raise DataError(f"{files.train} has nothing to train on: {why}.")
    train = rows
    if config.use_sample:
        train = [rows[i] for i in sample_rows(rows, question_groups(rows), config.sample_size, config.seed)]
    records = survey_photographs(project.paths.cache, folder, [q.image for q in (*train, *asked)])
    problems = tuple(p for table in tables for p in table.problems)
    form = PLAIN_FORM
    if test:
        form = find_form(asked, files.sample_submission, labelled[0].convention, config.submission_style)
    notes = [*_notes_on_files(project, files), *notes, *notes_on_encodings(tables), *notes_on_answers(labelled, config)]
    notes += [*notes_on_rows, *said, *form.notes, *notes_on_own_letters([*rows, *asked])]
    doubts = [f"{name}: {doubt}" for name, read in named_answers(labelled) for doubt in read.doubts()]
    return RunData(
        files, form, tuple(tables), tuple(train), tuple(rows), asked, problems, tuple(notes), tuple(doubts), records,
        near_duplicate_groups(records), _groups_of(train, records),
        questions_print(train, records, _as_written(as_read, tables)), questions_print(asked, records),
        rows_that_validate(train, config.validate_on), before=before,
    )


def read_test_rows(project: Project) -> tuple[DataFiles, Table | None]:
    """Find the data files and read the table of the test rows.

    Returns:
        The files, and the table; None without a test file.

    Raises:
        DataError: train.csv is missing, or there is a test.csv under a name that is not recognised.
    """
    config = project.config
    files = find_data(config.data_dir, project.paths.cache / "data", written_by_runs=project.paths.written)
    for split, file in (("train", files.train), ("test", files.test)):
        if file is None and (split == "train" or near_misses_of(files.root, split)):
            raise missing_table(files.root, split)
    return files, read_questions(files.test, **named_columns_of(config), labelled=False) if files.test else None


def without_test(project: Project) -> str:
    """Explain what the missing test file means, and how to answer the test later."""
    run, folder = project.config.run, project.config.data_dir
    return (
        f"there is no test.csv, so no submission is written. To write one later, put test.csv into {folder} and run the same "
        f"command again, or mcvqa predict {run} and mcvqa report {run}: the test rows are answered without training again."
    )


def _groups_of(train: Sequence[Question], records: dict[str, ImageRecord]) -> np.ndarray:
    """Group rows (N,) by the training photographs only: folds, and thus trained weights, do not depend on test rows."""
    return question_groups(train, near_duplicate_groups({q.image: records[q.image] for q in train}))


def _as_written(before: Sequence[Table], after: Sequence[Table]) -> dict[str, str]:
    """Map the paths of photographs of the training files to the paths in their table, where these differ."""
    pairs = [
        (new.image, old.image) for one, other in zip(before, after, strict=True) if one.answers
        for old, new in zip(one.questions, other.questions, strict=True)
    ]
    return {meant: written for meant, written in pairs if meant != written and not meant.startswith(CELLS_FOLDER)}


def read_form(project: Project) -> tuple[tuple[Question, ...], SubmissionForm]:
    """Read the test rows and the competition's format of submissions.

    Raises:
        DataError: train.csv or test.csv is missing.
    """
    files, test = read_test_rows(project)
    if test is None:
        raise missing_table(files.root, "test")
    (train, *_) = _read_labelled(files, project.config)
    return test.questions, find_form(test.questions, files.sample_submission, train.convention, project.config.submission_style)


def _read_labelled(files: DataFiles, config: Config) -> list[Table]:
    assert files.train is not None
    sources = [files.train, *([files.dev] if config.use_dev and files.dev else [])]
    columns = named_columns_of(config) | {"answer_column": config.answer_column, "answer_style": config.answer_style}
    return read_tables(sources, **columns, labelled=True)


def named_columns_of(config: Config) -> dict[str, str]:
    return {"id_column": config.id_column, "image_column": config.image_column, "question_column": config.question_column}


def _notes_on_files(project: Project, files: DataFiles) -> list[str]:
    """List files that are missing, and files that exist but are not used."""
    notes = [] if files.test else [without_test(project)]
    if files.dev and not project.config.use_dev:
        notes.append(f"{files.dev.name} is not used; --set use_dev=true trains on its rows too")
    if project.config.use_dev and not files.dev:
        notes.append(f"use_dev=true has no effect: there is no dev.csv in {files.root}")
    if files.test and not files.sample_submission and (other := unread_sample(files.root)):
        notes.append(f"{other!r} is not used: name it sample_submission.csv if the submission is to have its header and form")
    return notes


def require_distinct_ids(test: Sequence[Question], file: Path | None) -> None:
    """Check that no id occurs twice in the test file: a submission has one answer per id.

    Args:
        test: rows of the test file.
        file: the file, for the message.

    Raises:
        DataError: an id occurs twice.
    """
    repeated = [name for name, count in Counter(q.id for q in test).items() if count > 1]
    if repeated:
        raise DataError(
            f"{file} has {counted(len(repeated), 'id')} more than once, first {', '.join(map(repr, repeated[:5]))}: each test "
            "row needs a unique id."
        )


def questions_print(
    questions: Sequence[Question], records: dict[str, ImageRecord] | None = None, written: Mapping[str, str] | None = None
) -> str:
    """Hash the texts, answers and order of `questions` and, given their records, their photographs.

    Args:
        questions: the rows.
        records: survey of the photographs; None: they are not part of the hash.
        written: path of a photograph -> the path in its table, which does not change when another table is added.
    """
    pictures = [(records[q.image].content_hash, records[q.image].problem) for q in questions] if records else []
    written = written or {}
    texts = [(q.id, written.get(q.image, q.image), q.text, q.choices, q.answer, q.votes) for q in questions]
    return settings_hash({"questions": texts, "pictures": pictures})


def settle_data(project: Project, data: RunData, compared: bool = False) -> None:
    """Write data.json, unless the run was trained on other data.

    Args:
        project: the run.
        data: its rows.
        compared: see `may_record`.

    Raises:
        ConfigError: the data differ; the message says how.
    """
    file = project.paths.experiment / "data.json"
    now = {
        "folder": str(data.files.root.absolute()), "training_rows": len(data.train), "content": data.train_print,
        "test_rows": len(data.test), "test_content": data.test_print, "style": data.style,
    }
    before = now
    if file.exists() and project.paths.checkpoints.exists():
        try:
            before = read_json(file)
            other = before["content"] != now["content"]
        except (ValueError, KeyError, TypeError):
            message = f"{file} is damaged, so it is unknown which data the run was trained on. {remedy(project)}"
            raise ConfigError(message) from None
        if other:
            broken = data.broken(data.train)
            unread = f" {broken[0].written!r} cannot be read: {broken[0].problem}." if broken else ""
            raise ConfigError(
                f"The run {project.config.run!r} was trained on different data: {before['training_rows']:,} training rows of "
                f"{before['folder']}, now {now['training_rows']:,} of {now['folder']} (rows, answers or photographs changed)."
                f"{unread}\n{remedy(project)}"
            )
    if may_record(project, file, compared):
        write_json(file, now)


def restore_records(project: Project, data: RunData) -> None:
    """Write config.yaml and data.json also if they were lost: the weights are of these settings and data."""
    settle_settings(project, True)
    settle_data(project, data, True)


def read_run_data(project: Project) -> RunData:
    """Read the data of a run. If it is trained, they must be the data it was trained on.

    Raises:
        DataError, ConfigError: see `read_data` and `settle_data`.
    """
    data = read_data(project)
    settle_data(project, data)
    return data


def require_photographs(project: Project, data: RunData, meanwhile: str = "") -> None:
    """Check that most photographs of both splits exist: without them, a model would see nothing.

    Args:
        project: the run.
        data: its rows.
        meanwhile: a sentence about the submission that is valid until they are found.

    Raises:
        RunStopped: most of them are missing.
    """
    for split, questions in (("training", data.train), ("test", data.test)):
        broken, named = data.broken(questions), len({q.image for q in questions})
        if len(broken) * 2 > named:
            more = "".join(f"\n{line}" for line in (packed_beside(data.files.root), meanwhile) if line)
            raise RunStopped(
                f"{len(broken):,} of {named:,} {split} photographs cannot be read, for example {broken[0].written!r}: "
                f"{broken[0].problem}\nThey are looked for in {data.files.root.absolute()} and its folders. Put them there "
                f"(or unpack the archive they came in) and run the same command again.{more}"
            )


# %% what the texts alone give away
def fit_text_prior(project: Project, data: RunData) -> Prior:
    """Fit the text-only model, which answers without seeing the photograph.

    Its scores are saved in scores/prior-*.npz.
    """
    seed, scores = project.config.seed, project.paths.scores
    key = settings_hash({"train": questions_print(data.all_train), "test": questions_print(data.test), "seed": seed})
    files = {split: scores / f"prior-{split}.npz" for split in ("oof", "test")}
    makes = tuple(str(file.relative_to(project.paths.root)) for file in files.values())
    task = Task("prior", "prior", key, makes, of_0_1=("prior", (key,)))
    if project.records.is_done(task):
        known = load_scores(files["oof"])
        facts = known.provenance
        accuracy, of_test = Accuracy.from_record(facts["accuracy"]), load_scores(files["test"])
        return Prior(known.logprobs[:, 0], of_test.logprobs[:, 0], accuracy, facts["note"])
    prior = fit_prior(data.all_train, data.test, question_groups(data.all_train), seed)
    facts = {"model": "prior", "accuracy": prior.accuracy.record, "note": prior.note, "test": data.test_print}
    question_scores(data.all_train, prior.oof_logprobs, facts | {"split": "oof"}).save(files["oof"])
    question_scores(data.test, prior.test_logprobs, facts | {"split": "test"}).save(files["test"])
    project.records.finish(task)
    return prior


def prior_of_train(data: RunData, prior: Prior) -> np.ndarray:
    """Return the prior's out-of-fold log-probabilities (N, C) for the rows of `data.train`."""
    index = {q.id: i for i, q in enumerate(data.all_train)}
    return prior.oof_logprobs[[index[q.id] for q in data.train]]


def question_scores(questions: Sequence[Question], logprobs: np.ndarray, provenance: dict[str, Any]) -> Scores:
    ids = np.array([q.id for q in questions], dtype=np.str_)
    return plain_scores(ids, logprobs, np.array([len(q.choices) for q in questions]), provenance)


# %% what keys are made of
def weights_key(project: Project, data: RunData, fold: int) -> str:
    """Hash the settings, rows, folds and adapters on which the trained weights of a fold depend."""
    start = start_print(project, fold)
    return settings_hash({
        "settings": project.config.weight_settings(), "data": data.train_print, "folds": data.folds.tolist(), "fold": fold,
        **({"validates": data.validates.tolist()} if project.config.validate_on else {}), **({"start": start} if start else {}),
        **data.guidance.key(fold),
    })


def rows_key(data: RunData, fold: int) -> str:
    """Hash the training rows of a fold and their photographs, regardless of the settings."""
    return settings_hash({"data": data.train_print, "folds": data.folds.tolist(), "fold": fold, **data.guidance.key(fold)})
