"""A run's folders and its data: everything that happens before a model is needed. No torch here."""
import csv
import dataclasses
import os
import tempfile
import time
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mcvqa.base.files import MANIFEST, RunLog, atomic_path, read_json, write_json, write_text
from mcvqa.base.uncertainty import Accuracy
from mcvqa.config import Config, ConfigError, McvqaError, settings_hash, weight_changes
from mcvqa.data.explore import Exploration, explore
from mcvqa.data.folds import assign_folds, large_group_warning, question_groups, sample_rows
from mcvqa.data.images import ImageError, ImageFolder, ImageRecord, near_duplicate_groups, survey_images
from mcvqa.data.kinds import question_kind
from mcvqa.data.locate import DataFiles, find_data
from mcvqa.data.prior import Prior, fit_prior
from mcvqa.data.questions import LETTERS, DataError, Problem, Question, Table, read_questions
from mcvqa.report.submission import SubmissionReport, validate_submission, write_submission
from mcvqa.scoring.scores import Scores, load_scores, plain_scores

STEP_TITLES = (
    "set-up", "config", "data and EDA", "folds", "rows", "model", "training", "scoring", "ensemble", "report",
)


class RunStopped(McvqaError, RuntimeError):
    """A run that cannot go on; what was reached so far is kept and the message says what to do."""


def heading(title: str, detail: str = "") -> None:
    """Announce one of the ten steps."""
    print(f"\n[{STEP_TITLES.index(title) + 1}/10] {title}" + (f": {detail}" if detail else ""), flush=True)


# %% folders
@dataclass(frozen=True)
class RunPaths:
    """Where a run keeps what."""

    root: Path
    run: str

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints" / self.run

    @property
    def outputs(self) -> Path:
        return self.root / "outputs"

    @property
    def log(self) -> Path:
        return self.root / "logs" / f"{self.run}.jsonl"

    @property
    def experiment(self) -> Path:
        return self.root / "experiments" / self.run

    @property
    def scores(self) -> Path:
        return self.experiment / "scores"

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    def fold(self, fold: int) -> Path:
        return self.checkpoints / f"fold{fold}"

    def lock(self, fold: int | None = None) -> Path:
        """Locked by who works on the run, or trains one of its folds."""
        return self.root / "logs" / (f"{self.run}.lock" if fold is None else f"{self.run}.fold{fold}.lock")


class StepMemory:
    """Which steps are done, for which settings: one small file a step, so that two folds may be trained side by side."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _file(self, step: str) -> Path:
        return self.folder / f"{step.replace(' ', '-')}.json"

    def done(self, step: str, key: str, files: Iterable[Path] = ()) -> bool:
        """Whether `step` was finished with this key and its files are still there."""
        file = self._file(step)
        return file.exists() and read_json(file) == {"key": key} and all(file.exists() for file in files)

    def remember(self, step: str, key: str) -> None:
        write_json(self._file(step), {"key": key})


# %% data
@dataclass(frozen=True)
class RunData:
    """The questions of a run, with their photographs looked at.

    Attributes:
        train: rows with an answer, of the sample if there is one.
        all_train: every row of the training files with an answer.
        problems: what was odd in the files.
        records: survey of the photographs by the path written in the CSV.
        groups: (N,) rows of `train` in one group share an image or a near-duplicate.
        train_print, test_print: change with any question, answer or photograph of that split, and with nothing else.
    """

    files: DataFiles
    train: tuple[Question, ...]
    all_train: tuple[Question, ...]
    test: tuple[Question, ...]
    problems: tuple[Problem, ...]
    records: dict[str, ImageRecord]
    image_groups: dict[str, int]
    groups: np.ndarray
    train_print: str
    test_print: str

    def broken(self, questions: Sequence[Question]) -> list[ImageRecord]:
        """Photographs of `questions` that cannot be read."""
        written = dict.fromkeys(q.image for q in questions)
        return [self.records[w] for w in written if self.records[w].problem]

    @property
    def with_image(self) -> np.ndarray:
        """(N,) whether the row's photograph can be read."""
        return np.array([not self.records[q.image].problem for q in self.train], dtype=bool)


class Project:
    """One run: its settings, its folders, its data and its folds, each made when first asked for."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.paths = RunPaths(Path(config.output_dir), config.run)
        _require_writable(self.paths.root)
        self.steps = StepMemory(self.paths.experiment / "steps")
        self.log = RunLog(self.paths.log)
        self.began = time.monotonic()

    def seconds_until(self, kept: float) -> float:
        """Until no more than `kept` seconds are left of the time budget; infinite without one."""
        return self.began + self.config.budget_seconds - kept - time.monotonic()

    # %% step 2: config
    def settle(self) -> None:
        """Write config.yaml; a run that was trained with other settings is not overwritten.

        Raises:
            ConfigError: naming the settings that differ.
        """
        file = self.paths.experiment / "config.yaml"
        trained = file.exists() and self.paths.checkpoints.exists()
        if trained and (changed := weight_changes(yaml.safe_load(file.read_text(encoding="utf-8")), self.config)):
            raise ConfigError("\n".join((
                f"The run {self.config.run!r} was trained with other settings:", *changed, self._way_out()
            )))
        write_text(file, self.config.to_yaml())

    def settle_data(self) -> None:
        """Write data.json; a run that was trained on other data is not overwritten.

        Raises:
            ConfigError: saying how the data differ.
        """
        file, data = self.paths.experiment / "data.json", self.data
        now = {"folder": str(data.files.root.absolute()), "training_rows": len(data.train), "content": data.train_print}
        before = read_json(file) if file.exists() and self.paths.checkpoints.exists() else now
        if before["content"] != now["content"]:
            raise ConfigError(
                f"The run {self.config.run!r} was trained on other data: {before['training_rows']:,} training rows of "
                f"{before['folder']}, now {now['training_rows']:,} of {now['folder']} (rows, answers or photographs changed).\n"
                f"{self._way_out()}"
            )
        write_json(file, now)

    def _way_out(self) -> str:
        return f"Choose another name (--set run_name=...), or delete {self.paths.checkpoints} to start over."

    # %% step 3: data
    @cached_property
    def tables(self) -> tuple[DataFiles, list[Table], Table]:
        """The files, the tables of the training rows, and the table of the test rows."""
        config = self.config
        files = find_data(config.data_dir, self.paths.cache / "data")
        if files.train is None or files.test is None:
            lacking = "train.csv" if files.train is None else "test.csv"
            raise DataError(f"{files.root} has no {lacking}. Expected: train.csv with answers and test.csv without.")
        columns = dict(image_column=config.image_column, question_column=config.question_column)
        sources = [files.train, *([files.dev] if config.use_dev and files.dev else [])]
        train = [read_questions(f, **columns, answer_column=config.answer_column, labelled=True) for f in sources]
        return files, train, read_questions(files.test, **columns, labelled=False)

    @cached_property
    def data(self) -> RunData:
        """Questions, photographs and groups."""
        files, tables, test = self.tables
        problems = [p for table in (*tables, test) for p in table.problems]
        _require_distinct_ids(test, files.test)
        answered: dict[str, Question] = {}
        train_ids = {q.id for q in tables[0].questions}
        for number, table in enumerate(tables):
            for question in table.questions:
                # an id of dev.csv may stand in train.csv too; within one file the first row counts, the others are listed
                name = f"dev:{question.id}" if number and question.id in train_ids else question.id
                if question.answer is not None or (self.config.soft_votes and any(question.votes or ())):
                    answered.setdefault(name, dataclasses.replace(question, id=name))
        rows = list(answered.values())
        if not rows:
            raise DataError(f"No row of {files.train} has an answer that could be understood: nothing to train on.")
        train = rows
        if self.config.use_sample:
            chosen = sample_rows(rows, question_groups(rows), self.config.sample_size, self.config.seed)
            train = [rows[i] for i in chosen]
        records = self._survey(files.root, [q.image for q in (*train, *test.questions)])
        image_groups = near_duplicate_groups(records)
        return RunData(
            files, tuple(train), tuple(rows), test.questions, tuple(problems), records, image_groups,
            question_groups(train, image_groups), questions_print(train, records), questions_print(test.questions, records),
        )

    def _survey(self, root: Path, written: Sequence[str]) -> dict[str, ImageRecord]:
        """`survey_images`, remembered as long as no photograph's size or date changes."""
        folder = ImageFolder(root)
        stamp = settings_hash({"root": str(root), "files": [_image_stamp(folder, w) for w in sorted(set(written))]})
        memory = self.paths.cache / f"pictures-{stamp}.json"
        if memory.exists():
            return {r["written"]: _record_from(r) for r in read_json(memory)}
        records = survey_images(folder, written, workers=os.cpu_count() or 2)
        write_json(memory, [_record_as_json(record) for record in records.values()])
        return records

    @cached_property
    def prior(self) -> Prior:
        """The text-only model: what can be answered without looking. Its submission is the run's first."""
        data, seed = self.data, self.config.seed
        key = settings_hash({"train": questions_print(data.all_train), "test": questions_print(data.test), "seed": seed})
        oof, test = self.paths.scores / "prior-oof.npz", self.paths.scores / "prior-test.npz"
        if self.steps.done("prior", key, (oof, test)):
            known = load_scores(oof)
            facts = known.provenance
            return Prior(
                known.logprobs[:, 0], load_scores(test).logprobs[:, 0], Accuracy(*facts["accuracy"]), facts["note"]
            )
        prior = fit_prior(data.all_train, data.test, question_groups(data.all_train), seed)
        facts = {"model": "prior", "accuracy": [prior.accuracy.right, prior.accuracy.n], "note": prior.note}
        question_scores(data.all_train, prior.oof_logprobs, facts | {"split": "oof"}).save(oof)
        question_scores(data.test, prior.test_logprobs, facts | {"split": "test"}).save(test)
        self.steps.remember("prior", key)
        return prior

    def prior_of_train(self) -> np.ndarray:
        """(N, C) out-of-fold log-probabilities of the prior for the rows of `data.train`."""
        place = {q.id: i for i, q in enumerate(self.data.all_train)}
        return self.prior.oof_logprobs[[place[q.id] for q in self.data.train]]

    def explore(self) -> Exploration:
        """Tables, figures and summary.txt of the data in experiments/<run>/eda/."""
        data, folder = self.data, self.paths.experiment / "eda"
        prior = dataclasses.replace(self.prior, oof_logprobs=self.prior_of_train())
        found = explore(data.train, data.test, data.problems, data.records, data.image_groups, prior, folder)
        write_text(folder / "summary.txt", found.summary() + "\n")
        return found

    # %% the submission
    def submit(self, name: str, predictions: np.ndarray, source: str) -> SubmissionReport:
        """Write and validate outputs/submission_<name>.csv.

        Args:
            predictions: (M,) choice index of each test row.
            source: what made it, kept in outputs/submissions.json.
        """
        path, files = self.paths.outputs / f"submission_{name}.csv", self.data.files
        write_submission(path, self.data.test, predictions, files.sample_submission)
        made = {path.name: {"run": self.config.run, "source": source}}
        write_json(self.paths.outputs / "submissions.json", self._submissions_made() | made)
        return validate_submission(path, self.data.test, files.sample_submission)

    def submit_prior(self) -> SubmissionReport | None:
        """The prior's answers as the first valid submission; a submission that is already there is left alone.

        Returns: what its validation found, or None where a better one was there.
        """
        path = self.paths.outputs / "submission_ensemble.csv"
        better = path.exists() and self._source_of(path) != "prior"
        if better and not validate_submission(path, self.data.test, self.data.files.sample_submission).problems:
            return None
        return self.submit("ensemble", self.prior.test_logprobs.argmax(-1), "prior")

    def _submissions_made(self) -> dict[str, Any]:
        record = self.paths.outputs / "submissions.json"
        return read_json(record) if record.exists() else {}

    def _source_of(self, path: Path) -> str:
        """What made a submission file: 'prior', the members of an ensemble, or 'unknown'."""
        return self._submissions_made().get(path.name, {}).get("source", "unknown")

    def require_photographs(self) -> None:
        """Raises RunStopped when most photographs of either split are missing: a model would see nothing."""
        data = self.data
        for split, questions in (("training", data.train), ("test", data.test)):
            broken, named = data.broken(questions), len({q.image for q in questions})
            if len(broken) * 2 <= named:
                continue
            held = self.paths.outputs / "submission_ensemble.csv"
            until = (
                f"\nUntil then {held} holds the answers of the text-only prior (accuracy {self.prior.accuracy} out of fold)."
                if self._source_of(held) == "prior" else ""
            )
            raise RunStopped(
                f"{len(broken):,} of {named:,} {split} photographs cannot be read, for example {broken[0].written!r}: "
                f"{broken[0].problem}\nThey are looked for in {data.files.root.absolute()} and its folders. Put them there "
                f"(or unpack the archive they came in) and run the same command again.{until}"
            )

    # %% step 4: folds
    @cached_property
    def folds(self) -> np.ndarray:
        """(N,) the fold in which each training row is validation; -1: training only, -2: left out (no photograph)."""
        data, config = self.data, self.config
        usable = np.flatnonzero(data.with_image)
        questions = [data.train[i] for i in usable]
        folds = np.full(len(data.train), -2, dtype=np.int64)
        folds[usable] = assign_folds(questions, data.groups[usable], config.n_folds, config.seed, config.use_kfold)
        self._write_folds(folds)
        return folds

    def _write_folds(self, folds: np.ndarray) -> None:
        with atomic_path(self.paths.experiment / "folds.csv") as part, open(part, "w", newline="", encoding="utf-8") as f:
            writer = csv.writer(f, lineterminator="\n")
            writer.writerow(["id", "fold", "group", "kind", "answer"])
            for question, fold, group in zip(self.data.train, folds, self.data.groups, strict=True):
                answer = "" if question.answer is None else LETTERS[question.answer]
                writer.writerow([question.id, fold, group, question_kind(question), answer])

    def fold_summary(self) -> str:
        """One line per fold for a terminal."""
        data, lines = self.data, []
        for fold in sorted(set(self.folds[self.folds >= 0].tolist())):
            rows = [q for q, f in zip(data.train, self.folds, strict=True) if f == fold]
            letters = np.bincount([q.answer for q in rows if q.answer is not None])
            shares = "  ".join(f"{LETTERS[i]} {count / len(rows):.0%}" for i, count in enumerate(letters))
            groups = len(set(data.groups[self.folds == fold].tolist()))
            lines.append(f"  fold {fold}: {len(rows):,} validation rows in {groups:,} image groups   {shares}")
        left_out = int((self.folds == -2).sum())
        if left_out:
            lines.append(f"  left out: {left_out:,} rows whose photograph cannot be read (listed in the EDA)")
        warning = large_group_warning(data.groups[self.folds != -2], self.config.n_folds)
        return "\n".join([*lines, *([f"  {warning}"] if warning else [])])

    def fold_rows(self, fold: int) -> tuple[list[Question], list[Question]]:
        """Training and validation questions of a fold; no row, image or near-duplicate is on both sides."""
        pairs = list(zip(self.data.train, self.folds, strict=True))
        train = [q for q, f in pairs if f not in (fold, -2)]
        return train, [q for q, f in pairs if f == fold]

    def weights_key(self, fold: int) -> str:
        """Changes with everything the trained weights of a fold depend on."""
        return settings_hash({
            "settings": self.config.weight_settings(), "data": self.data.train_print, "folds": self.folds.tolist(),
            "fold": fold,
        })

    def is_trained(self, fold: int) -> bool:
        """Whether a fold has its result, for these settings, data and folds."""
        folder = self.paths.fold(fold)
        files = [folder / "result.json", *(folder / name / MANIFEST for name in ("best", "last"))]
        return self.steps.done(f"train fold {fold}", self.weights_key(fold), files)

    def rows_key(self, fold: int) -> str:
        """Changes with the rows that a fold learns from and their photographs, whatever the settings."""
        return settings_hash({"data": self.data.train_print, "folds": self.folds.tolist(), "fold": fold})


def question_scores(questions: Sequence[Question], logprobs: np.ndarray, provenance: dict[str, Any]) -> Scores:
    ids = np.array([q.id for q in questions], dtype=np.str_)
    return plain_scores(ids, logprobs, np.array([len(q.choices) for q in questions]), provenance)


def _require_writable(root: Path) -> None:
    """Raises ConfigError before any work when nothing could be saved."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        told = f"output_dir={str(root)!r} cannot be written to ({error.strerror}). Choose another: --set output_dir=FOLDER."
        raise ConfigError(told) from None


def _require_distinct_ids(test: Table, file: Path | None) -> None:
    """Raises DataError for ids that occur twice in the test file: a submission has one answer an id."""
    repeated = [name for name, count in Counter(q.id for q in test.questions).items() if count > 1]
    if repeated:
        raise DataError(
            f"{file} has {len(repeated)} ids more than once, first {', '.join(map(repr, repeated[:5]))}: "
            "each test row needs an id of its own."
        )


def questions_print(questions: Sequence[Question], records: dict[str, ImageRecord] | None = None) -> str:
    """Changes with any text, answer or order of `questions` and, given their records, with any of their photographs."""
    pictures = [(records[q.image].content_hash, records[q.image].problem) for q in questions] if records else []
    return settings_hash({"questions": [dataclasses.astuple(q) for q in questions], "pictures": pictures})


# %% survey on disk
def _image_stamp(folder: ImageFolder, written: str) -> list[Any]:
    """The file behind a written path, with its size and date."""
    try:
        path = folder.find(written)
        facts = path.stat()
        return [written, str(path), facts.st_size, facts.st_mtime_ns]
    except (ImageError, OSError) as error:
        return [written, str(error)]


def _record_as_json(record: ImageRecord) -> dict[str, Any]:
    values = dataclasses.asdict(record)
    return values | {"path": record.path and str(record.path), "thumbnail": b64encode(record.thumbnail).decode()}


def _record_from(values: dict[str, Any]) -> ImageRecord:
    path = Path(values["path"]) if values["path"] else None
    return ImageRecord(**values | {"path": path, "thumbnail": b64decode(values["thumbnail"])})
