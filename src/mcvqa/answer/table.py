"""Answers a table of new questions as answers.csv or a submission. Interrupted work is kept in cache/ and resumed."""
import dataclasses
import shutil
import tempfile
from pathlib import Path

import numpy as np

from mcvqa.answer.answerer import Answerer
from mcvqa.answer.asked import NewRows, read_asked
from mcvqa.answer.trained import TrainedRun, models_named
from mcvqa.base.files import DamagedFile, existing_folder
from mcvqa.base.informing import counted
from mcvqa.config import ConfigError, settings_hash
from mcvqa.data.answers import AnswerConvention
from mcvqa.data.folds import fold_title
from mcvqa.ensemble.predictions import mean_probabilities, most_probable, write_predictions
from mcvqa.model.content import base_print
from mcvqa.model.distributed import by_main
from mcvqa.report.submission import SubmissionForm, find_form, validate_submission, write_submission
from mcvqa.run.dataset import questions_print, require_distinct_ids
from mcvqa.run.tasks import CODE_OF_SCORING, MADE_BY_0_1, code_print
from mcvqa.scoring.orders import tta_plan
from mcvqa.scoring.scores import Scores, joined, load_scores
from mcvqa.training.checkpoint import adapter_hash

PART_ROWS = 1024  # rows that are scored between two saves: about ten seconds of a GPU


def answer_table(answerer: Answerer, source: Path, out: Path, *, submission: bool = False) -> None:
    """Answer all rows of a table and write the answers.

    Args:
        answerer: the run.
        source: a table, or a folder or a .zip archive with one.
        out: the file to write: id, answer, prob_a, prob_b, ..., and why a photograph could not be read.
        submission: write a submission instead, in the form of sample_submission.csv next to the table.

    Raises:
        ConfigError: `out` is the table itself, is in a folder where runs keep their files, or cannot be written.
        DataError: the table cannot be read, or most of its photographs cannot be read.
        SubmissionError: the submission would not be valid.
    """
    trained = answerer.trained
    asked, form = by_main(_read_and_tell, answerer, source, out, submission)
    parts = trained.cache / "answers" / by_main(_key, answerer.trained, asked)
    probabilities = mean_probabilities([_scored_in_parts(answerer, asked, fold, parts) for fold in trained.folds])
    by_main(_write, trained, asked, form, probabilities, out)
    by_main(shutil.rmtree, parts, True)


def _read_and_tell(
    answerer: Answerer, source: Path, out: Path, submission: bool
) -> tuple[NewRows, SubmissionForm | None]:
    _require_own_file(answerer, source, out)
    asked = read_asked(source, answerer.trained.project.config, answerer.trained.cache)
    form = _form_of(answerer, asked) if submission else None
    print("\n".join(f"  {note}" for note in (*_notes(answerer, asked), *(form.notes if form else ()))))
    return asked, form


def _write(trained: TrainedRun, asked: NewRows, form: SubmissionForm | None, probabilities: np.ndarray, out: Path) -> None:
    if form is None:
        reasons = [asked.problem(question) for question in asked.questions]
        write_predictions(out, asked.questions, probabilities, trained.style, photograph=reasons)
        print(f"{out}: {len(asked.questions):,} rows")
    else:
        write_submission(out, asked.questions, most_probable(probabilities, [q.id for q in asked.questions]), form)
        print(f"{out}: {validate_submission(out, asked.questions, form)}")


def _require_own_file(answerer: Answerer, source: Path, out: Path) -> None:
    there = out.resolve()
    if there == source.resolve() or out.is_dir():
        raise ConfigError(f"--out {out} is {'a folder' if out.is_dir() else 'the table itself'}: name another file.")
    for folder in answerer.trained.project.paths.written:
        if there.is_relative_to(folder.resolve()):
            raise ConfigError(f"--out {out} lies in {folder}, where runs keep their files: name another folder.")
    try:
        with tempfile.TemporaryFile(dir=existing_folder(there.parent), prefix=out.name):
            pass
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be written ({error.strerror or error}): name another file.") from None


def _form_of(answerer: Answerer, asked: NewRows) -> SubmissionForm:
    require_distinct_ids(asked.questions, asked.file)
    known = AnswerConvention(usual=answerer.trained.style)
    return find_form(asked.questions, asked.sample, known, answerer.trained.project.config.submission_style)


def _notes(answerer: Answerer, asked: NewRows) -> list[str]:
    trained, broken = answerer.trained, sum(bool(asked.problem(question)) for question in asked.questions)
    rows = counted(len(asked.questions), "row")
    notes = [*asked.notes, f"{rows} of {asked.file}, answered by {models_named(trained.folds)} of {trained.project.config.run}"]
    unread = counted(broken, "row has", "rows have")
    notes += [f"{unread} no readable photograph and {'are' if broken > 1 else 'is'} answered from text alone"] if broken else []
    return [*notes, *([f"the weights were {MADE_BY_0_1}"] if trained.unverified else [])]


def _key(trained: TrainedRun, asked: NewRows) -> str:
    """Hash everything on which the scores of these rows depend."""
    config = trained.project.config
    return settings_hash({
        "rows": questions_print(asked.questions, asked.records), "base": base_print(config), "views": tta_plan(config),
        "weights": {fold: adapter_hash(trained.weights(fold)) for fold in trained.folds}, "code": code_print(CODE_OF_SCORING),
        "settings": config.weight_settings(),
        "computed": [config.answer_by, config.max_new_tokens, config.device, config.precision, config.quantization],
    })


def _scored_in_parts(answerer: Answerer, asked: NewRows, fold: int, folder: Path) -> Scores:
    """Score all rows by a fold, reusing the parts that an earlier call has left in `folder`."""
    answerer.models.records.update(asked.records)
    starts = range(0, len(asked.questions), PART_ROWS)
    return dataclasses.replace(joined([_scored_part(answerer, asked, fold, start, folder) for start in starts]), provenance={})


def _scored_part(answerer: Answerer, asked: NewRows, fold: int, start: int, folder: Path) -> Scores:
    file, rows = folder / f"fold{fold}-{start:08d}.npz", asked.questions[start : start + PART_ROWS]
    scores = by_main(_kept, file)
    if scores is None:
        scores = answerer.fold_scores(fold, rows, f"{fold_title(fold)}, rows {start + 1:,}-{start + len(rows):,}")
        by_main(scores.save, file)
    return scores


def _kept(file: Path) -> Scores | None:
    try:
        return load_scores(file)
    except (OSError, DamagedFile):  # not there yet, or cut off
        return None
