"""What is handed in: the file holds what it is said to hold, and better answers are never replaced by worse ones."""
import dataclasses
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mcvqa.base.files import read_json
from mcvqa.report.submission import validate_submission
from mcvqa.run.dataset import fit_text_prior, read_data
from mcvqa.run.folds import split_rows
from mcvqa.run.project import open_project
from mcvqa.run.submissions import (
    ENSEMBLE_FILE,
    Answers,
    hand_in,
    read_submitted,
    submit_prior,
    validate_any,
    validate_file,
    write_answers,
)
from tests.conftest import make_dataset, tiny_settings


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("many"), n_train=120, n_test=9)


@pytest.fixture
def start(data_folder, tmp_path):
    """start(run, data=...) -> a run's project, data and prior."""
    def begin(run: str = "r", folder: Path = data_folder) -> SimpleNamespace:
        project = open_project(tiny_settings(tmp_path / "out", data_dir=str(folder), n_folds=2, run_name=run))
        data = split_rows(read_data(project), project.config)
        prior = fit_text_prior(project, data)
        return SimpleNamespace(project=project, data=data, prior=prior, file=project.paths.outputs / ENSEMBLE_FILE)

    return begin


def answers_right(run: SimpleNamespace, share: float, letter: int = 0, rows: slice = slice(None)) -> Answers:
    """Answers of which a share is right out of fold; all test rows get one letter."""
    ids = np.array([q.id for q in run.data.train])[rows]
    right = np.arange(len(ids)) < share * len(ids)
    return Answers("geometric of r", np.full(len(run.data.test), letter), ids, right)


def letters_in(file: Path) -> set[str]:
    return {line.split(",")[1] for line in file.read_text().split()[1:]}


# %% the first one
def test_the_prior_answers_first_and_again_while_nothing_better_is_there(start):
    run = start()
    report = submit_prior(run.project, run.data, run.prior)
    assert report.rows == 9 and not report.problems
    held = read_submitted(run.file)
    assert (held.run, held.source) == ("r", "prior") and held.accuracy.n == 120
    assert submit_prior(run.project, run.data, run.prior) is not None


def test_the_prior_never_replaces_a_better_submission(start):
    run = start()
    write_answers(run.project, run.data, answers_right(run, 0.9), run.file)
    kept = run.file.read_bytes()
    assert submit_prior(run.project, run.data, run.prior) is None and run.file.read_bytes() == kept


def test_a_submission_the_user_wrote_is_left_alone_and_one_for_other_rows_is_not(start):
    run = start()
    run.file.parent.mkdir(parents=True)
    by_hand = "id,answer\n" + "".join(f"test_{i:04d},b\n" for i in range(9))
    run.file.write_text(by_hand)
    assert submit_prior(run.project, run.data, run.prior) is None and run.file.read_text() == by_hand
    hand_in(run.project, run.data, answers_right(run, 1.0), run.prior)
    assert run.file.read_text() == by_hand, "what it is worth is not known"
    run.file.write_text("id,answer\nanother_competition,a\n")
    assert not submit_prior(run.project, run.data, run.prior).problems and run.file.read_text().count("test_") == 9


def test_a_file_that_was_edited_by_hand_is_not_what_is_recorded(start, capsys):
    """The report gave the edited file the accuracy of the answers that were there before, and the next session replaced it."""
    run = start()
    hand_in(run.project, run.data, answers_right(run, 0.9), run.prior)
    edited = run.file.read_text().replace("test_0003,a", "test_0003,c")
    run.file.write_text(edited)
    assert read_submitted(run.file) is None
    held = hand_in(run.project, run.data, answers_right(run, 1.0), run.prior)
    assert run.file.read_text() == edited and (held.source, held.accuracy) == ("unknown", None)
    assert "is kept: its content is unknown" in capsys.readouterr().out
    assert submit_prior(run.project, run.data, run.prior) is None and run.file.read_text() == edited
    hand_in(run.project, run.data, answers_right(run, 0.9), run.prior, force=True)
    assert read_submitted(run.file).accuracy.value == 0.9


@pytest.mark.parametrize("again", ["first", "second"])
def test_a_kill_just_before_a_file_is_replaced_leaves_its_record_true(start, monkeypatch, again):
    first, second = start("first"), start("second")
    held = hand_in(first.project, first.data, answers_right(first, 0.5, letter=0), first.prior)
    replace = os.replace

    def killed(old: Path, new: Path) -> None:
        if Path(new) == first.file:
            raise KeyboardInterrupt
        replace(old, new)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        hand_in(second.project, second.data, answers_right(second, 0.9, letter=1), second.prior)
    monkeypatch.undo()
    assert read_submitted(first.file) == held and letters_in(first.file) == {"a"}
    run = {"first": first, "second": second}[again]
    assert hand_in(run.project, run.data, answers_right(run, 0.9, letter=1), run.prior).run == again
    assert letters_in(first.file) == {"b"}


# %% better, equal, worse
def test_the_accuracy_recorded_is_that_of_the_file(start):
    run = start()
    held = hand_in(run.project, run.data, answers_right(run, 0.75, letter=1), run.prior)
    assert (held.accuracy.right, held.accuracy.n) == (90, 120) and held.source == "geometric of r"
    assert read_submitted(run.file) == held == dataclasses.replace(held)
    own = run.project.paths.experiment / "submission.csv"
    assert letters_in(run.file) == letters_in(own) == {"b"}
    assert not validate_submission(own, run.data.test).problems


@pytest.mark.parametrize(("second", "replaced"), [(0.5, False), (0.9, True), (1.0, True)])
def test_a_submission_is_replaced_by_what_is_not_significantly_worse(start, capsys, second, replaced):
    """0.880 over 0.943 was seen: a worse run replaced a better submission in silence."""
    first, other = start("first"), start("second")
    hand_in(first.project, first.data, answers_right(first, 0.9, letter=0), first.prior)
    capsys.readouterr()
    held = hand_in(other.project, other.data, answers_right(other, second, letter=1), other.prior)
    said = capsys.readouterr().out
    assert letters_in(other.file) == ({"b"} if replaced else {"a"})
    assert held.run == ("second" if replaced else "first")
    assert letters_in(other.project.paths.experiment / "submission.csv") == {"b"}, "each run keeps its own"
    assert letters_in(first.project.paths.experiment / "submission.csv") == {"a"}
    assert ("is kept" in said and "mcvqa ensemble second --force" in said) != replaced
    if not replaced:
        hand_in(other.project, other.data, answers_right(other, second, letter=1), other.prior, force=True)
        assert letters_in(other.file) == {"b"}


def test_without_common_rows_nothing_is_replaced_and_both_are_named(start, capsys):
    first, other = start("first"), start("second")
    hand_in(first.project, first.data, answers_right(first, 0.7, rows=slice(0, 60)), first.prior)
    capsys.readouterr()
    held = hand_in(other.project, other.data, answers_right(other, 1.0, letter=1, rows=slice(60, 120)), other.prior)
    said = capsys.readouterr().out
    assert held.run == "first" and letters_in(other.file) == {"a"}
    assert "no rows on which both were measured" in said and "experiments/second/submission.csv" in said


def test_a_model_is_kept_unless_the_prior_is_significantly_better(start, capsys):
    run = start()
    truth = np.array([q.answer for q in run.data.train])
    good = run.prior.oof_logprobs.copy()
    good[:] = np.log(0.05)
    good[np.arange(len(truth)), truth] = np.log(0.85)
    better = dataclasses.replace(run.prior, oof_logprobs=good)
    held = hand_in(run.project, run.data, answers_right(run, 0.97), better)
    assert held.source == "geometric of r", "a few rows of a hundred are no proof"
    held = hand_in(run.project, run.data, answers_right(run, 0.5), better)
    assert held.source == "prior" and held.accuracy.value == 1.0
    assert "the text-only prior is significantly better than this run" in capsys.readouterr().out
    assert hand_in(run.project, run.data, answers_right(run, 0.5), better, force=True).source == "geometric of r"


# %% other data, other versions
def test_answers_to_other_test_rows_of_the_same_ids_are_replaced_and_named(start, tmp_path, capsys):
    """Two data sets with the same ids under one output folder: the first one's answers were handed in for the second."""
    first = start("first")
    hand_in(first.project, first.data, answers_right(first, 1.0, letter=0), first.prior)
    other_data = make_dataset(tmp_path / "other", n_train=60, n_test=9)
    test = other_data / "test.csv"
    test.write_text(test.read_text(encoding="utf-8").replace("색은", "색깔은"), encoding="utf-8")
    other = start("second", other_data)
    capsys.readouterr()
    held = hand_in(other.project, other.data, answers_right(other, 0.5, letter=1), other.prior)
    said = capsys.readouterr().out
    assert held.run == "second" and letters_in(other.file) == {"b"}
    assert "held the run 'first''s answers to other test rows; they are also in" in said
    assert letters_in(first.project.paths.experiment / "submission.csv") == {"a"}


def test_a_file_that_answers_other_test_rows_is_not_valid(start, data_folder, tmp_path):
    """The organiser corrects test.csv under the same ids: `validate` and the report called the old answers valid."""
    folder = shutil.copytree(data_folder, tmp_path / "data")
    run = start(folder=folder)
    hand_in(run.project, run.data, answers_right(run, 1.0), run.prior)
    by_hand = shutil.copyfile(run.file, tmp_path / "by_hand.csv")
    assert not validate_any(run.file, run.project).problems
    test = folder / "test.csv"
    test.write_text(test.read_text(encoding="utf-8").replace("색은", "색깔은"), encoding="utf-8")
    for report in (validate_any(run.file, run.project), validate_file(run.file, start(folder=folder).data)):
        (problem,) = report.problems
        assert "answers of the run 'r' to other test rows" in problem and "mcvqa predict r" in problem
    assert not validate_any(by_hand, run.project).problems, "nothing is recorded of it"


def test_a_damaged_record_is_named_and_what_the_file_holds_is_not_known(start, capsys):
    run = start()
    hand_in(run.project, run.data, answers_right(run, 0.7), run.prior)
    record = run.project.paths.outputs / "submissions.json"
    whole = read_json(record)
    facts = whole[run.file.name]
    others = [facts | {"accuracy": "x"}, facts | {"accuracy": [1]}, facts | {"source": 3}, {"run": "r"}, 7]
    for text in (record.read_text()[:30], *(json.dumps(whole | {run.file.name: other}) for other in others)):
        record.write_text(text)
        assert read_submitted(run.file) is None and f"{record} is damaged" in capsys.readouterr().out


def test_records_of_version_0_1_are_read(start):
    run = start()
    hand_in(run.project, run.data, answers_right(run, 0.7), run.prior)
    record = run.project.paths.outputs / "submissions.json"
    record.write_text('{"submission_ensemble.csv": {"run": "r", "source": "geometric of r (3 folds)"}}')
    held = read_submitted(run.file)
    assert (held.run, held.accuracy, held.test) == ("r", None, "")
    assert hand_in(run.project, run.data, answers_right(run, 0.6), run.prior).accuracy.right == 72, "its own run goes on"
    assert read_json(record)["submission_ensemble.csv"]["accuracy"] == [72, 120]
