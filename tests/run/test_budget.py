"""What is left out where time is short, and that a run ends in time with a valid submission."""
import itertools
import math
import re
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcvqa import run
from mcvqa.base.budget import (
    Alarm,
    Pace,
    RowCounts,
    Schedule,
    TimeUp,
    Work,
    reduced_plans,
    seconds_for_end,
    seconds_needed,
    spell_duration,
)
from mcvqa.base.files import read_json
from mcvqa.config import Config, ConfigError
from mcvqa.data.questions import read_questions
from mcvqa.model import halving
from mcvqa.model.vision.features import FeatureStore
from mcvqa.report.submission import validate_submission
from mcvqa.run import execution, parts, steps
from mcvqa.run import score as scoring
from mcvqa.run import train as training
from mcvqa.run.project import RunStopped, open_project
from mcvqa.run.submissions import read_submitted
from mcvqa.scenes.dataset import generate_demo
from mcvqa.scoring.scores import load_scores
from mcvqa.training.evaluate import Evaluator
from mcvqa.training.step import Stepper
from tests.conftest import tiny_settings
from tests.run.test_steps import answers_in

FULL = Work(3, 4, 4, (0.9, 1.0, 1.1))
ROWS = RowCounts(train=80, validation=40, test=40, images=60)


# %% the setting
@pytest.mark.parametrize(("text", "seconds"), [
    ("8h30m", 30600), ("45m", 2700), ("90s", 90), ("1.5H", 5400), (" 2h 5m 1s", 7501), ("", math.inf),
])
def test_lengths_of_time(text, seconds):
    assert Config(time_budget=text).budget_seconds == seconds


@pytest.mark.parametrize("text", ["8.5", "h", "soon", "1..2h", "0m", "5m3h", "-1h"])
def test_no_length_of_time(text):
    with pytest.raises(ConfigError, match="Write 8h30m, 45m or 90s"):
        Config(time_budget=text)


@pytest.mark.parametrize(("seconds", "text"), [(7, "7 s"), (125, "2 min 05 s"), (7500, "2 h 05 min")])
def test_spelled(seconds, text):
    assert spell_duration(seconds) == text


# %% the plan
def test_what_is_worth_least_goes_first():
    kinds = [
        name for before, after in itertools.pairwise(reduced_plans(FULL)) for name in ("orders", "scales", "epochs", "folds")
        if getattr(before, name) != getattr(after, name)
    ]
    assert [name for name, _ in itertools.groupby(kinds)] == ["orders", "scales", "epochs", "folds", "epochs"]
    assert list(reduced_plans(FULL))[-1] == Work(1, 0, 1, (1.0,))
    assert min(work.epochs for work in reduced_plans(FULL) if work.folds > 1) == 1, "a fold less before less than one epoch each"


@given(
    st.integers(0, 5), st.floats(0, 8), st.integers(1, 24),
    st.lists(st.sampled_from((0.8, 0.9, 1.0, 1.1)), min_size=1, unique=True), st.floats(0, 3), st.integers(0, 3),
)
def test_less_work_takes_less_time(folds, epochs, orders, scales, behind, waiting):
    pace = Pace(learn=0.3, read=0.1, encode=0.05)
    times = [
        seconds_needed(work, pace, ROWS, epochs_done=behind, variants=2, waiting=waiting)
        for work in reduced_plans(Work(folds, round(epochs, 1), orders, tuple(scales)))
    ]
    assert all(after <= before + 1e-9 for before, after in itertools.pairwise(times)) and min(times) >= 0


def schedule_of(seconds: float, **pace: float) -> Schedule:
    return Schedule(lambda: seconds - seconds_for_end(seconds), FULL, ROWS, variants=2, folds=3, pace=Pace(**pace))


def test_the_most_that_fits():
    assert schedule_of(1e6, learn=1.0).plan() == FULL
    assert schedule_of(1.0).plan() == FULL, "nothing was measured yet"
    assert schedule_of(1.0, learn=1.0).plan() == Work(1, 0, 1, (1.0,))
    short = schedule_of(700.0, learn=1.0, read=0.1)
    work = short.plan()
    assert work.orders == 1 and work.scales == (1.0,) and work.folds == 3 and 1 < work.epochs < 4
    assert replace(work, epochs=1.0) in reduced_plans(FULL)
    short.waiting = 2
    assert short.plan().epochs < work.epochs, "folds that wait for being scored take time too"


def test_it_is_announced_once(capsys):
    short = schedule_of(700.0, learn=1.0, read=0.1)
    short.plan()
    said = capsys.readouterr().out
    assert said.startswith("  time budget: 10 min 2")
    assert "for 3 folds of 2.1 epochs, scoring in 1 option order at 1 image scale: less than the settings ask for" in said
    short.plan(epochs_done=0.1)
    assert not capsys.readouterr().out


def test_the_alarm_rings_in_the_middle_of_work_and_not_after_it():
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(TimeUp), Alarm(0.02):
        while True:
            time.sleep(1)
    with Alarm(0.05):
        pass
    with Alarm(math.inf):
        time.sleep(0.06)
    assert signal.getsignal(signal.SIGALRM) is before


# %% whole runs, on a clock of their own
class Clock:
    """Stands still but for what training and reading take: 60 s a step, 2 s a row that is read in one way, `look` seconds for the
    features of a photograph."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, look: float = 0.0) -> None:
        self.now = 0.0
        for module in ("run.model_side", "run.project", "run.score", "run.train", "training.job", "training.evaluate"):
            monkeypatch.setattr(f"mcvqa.{module}.time", SimpleNamespace(monotonic=lambda: self.now, time=time.time))
        monkeypatch.setattr("mcvqa.run.steps.Alarm", lambda _: Alarm(math.inf))  # of a real clock; here the plan alone must hold
        step, read, fill = Stepper.step, halving.read_letters, FeatureStore.fill

        def slow_fill(store: FeatureStore, *given, **named):
            made = fill(store, *given, **named)
            self.now += look * made
            return made

        def slow_step(stepper: Stepper, *given):
            self.now += 60
            return step(stepper, *given)

        def slow_read(model, batches, device):
            self.now += sum(2 * len(batch.ids) for batch in batches)
            return read(model, batches, device)

        monkeypatch.setattr(FeatureStore, "fill", slow_fill)
        monkeypatch.setattr(Stepper, "step", slow_step)
        monkeypatch.setattr(halving, "read_letters", slow_read)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    generate_demo(folder, 36, 8, seed=0, size=64)
    return folder


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Enough photographs for several batches of features."""
    folder = tmp_path_factory.mktemp("many")
    generate_demo(folder, 144, 8, seed=0, size=64)
    return folder


def settings_in(folder, data, budget: str) -> Config:
    return tiny_settings(
        folder, data_dir=str(data), run_name="r", n_folds=2, num_epochs=2, batch_size=6, lora_r=8, use_tta=True, tta_orders=2,
        tta_scales=(1.0,), time_budget=budget,
    )


@pytest.mark.parametrize(("budget", "steps", "folds"), [
    pytest.param("2h", 16, 2, marks=pytest.mark.nightly), pytest.param("20m", 12, 2, marks=pytest.mark.nightly),
    ("10m", 5, 1),
])
def test_a_run_is_over_in_time(tmp_path, data, monkeypatch, capsys, budget, steps, folds):
    """Sixteen steps of a minute, of two folds, and as much as there is time for of the rest."""
    clock = Clock(monkeypatch)
    config = settings_in(tmp_path, data, budget)
    outcome = run(config)
    said = capsys.readouterr().out
    assert clock.now <= config.budget_seconds - seconds_for_end(config.budget_seconds)
    made = [read_json(file)["steps"] for file in sorted((tmp_path / "checkpoints" / "r").glob("fold*/result.json"))]
    assert len(made) == folds and sum(made) <= steps, said
    assert validate_submission(outcome.submission, read_questions(data / "test.csv", labelled=False).questions).rows == 8
    assert ("less than the settings ask for" in said) == (budget != "2h")
    assert read_json(tmp_path / "outputs" / "submissions.json")["submission_ensemble.csv"]["run"] == "r"


def test_the_first_folds_answers_are_there_whatever_happens_then(tmp_path, data, monkeypatch):
    """Twenty minutes ended with the prior alone: nothing was scored before everything was trained."""
    Clock(monkeypatch)
    plain = training.train_fold

    def ring(job):
        if job.fold == 1:
            raise TimeUp
        return plain(job)

    monkeypatch.setattr(training, "train_fold", ring)
    outcome = run(settings_in(tmp_path, data, "2h"))
    assert outcome.submitted.source.startswith(("geometric mean of r", "prior")) and outcome.metrics.overall.accuracy.n == 20
    own = tmp_path / "experiments" / "r" / "submission.csv"
    assert validate_submission(own, read_questions(data / "test.csv", labelled=False).questions).rows == 8


@pytest.mark.parametrize(("budget", "rows"), [pytest.param("2h", 20, marks=pytest.mark.nightly), ("5m", 4)])
def test_validation_reads_a_sample_where_time_is_short_and_all_rows_where_it_is_not(tmp_path, data, monkeypatch, budget, rows):
    """12,862 rows were validated before any test row, and the clock ended it."""
    clock = Clock(monkeypatch)
    monkeypatch.setattr("mcvqa.base.budget.SAMPLED", 4)
    config = settings_in(tmp_path, data, budget).replace(use_kfold=False, use_tta=False)
    run(config)
    assert clock.now <= config.budget_seconds
    scores = tmp_path / "experiments" / "r" / "scores"
    assert len(load_scores(scores / "fold0-oof.npz").ids) == rows and len(load_scores(scores / "fold0-test.npz").ids) == 8


def test_image_features_are_counted_from_the_start_and_made_only_for_what_is_read(tmp_path, many, monkeypatch, capsys):
    """Image features of all rows took most of the time, unplanned, and only the prior was handed in."""
    clock, plans, plain = Clock(monkeypatch, look=15), [], Evaluator.validate
    monkeypatch.setattr(Evaluator, "validate", lambda self, *given, **named: (
        plain(self, *given, **named), plans.append(replace(self.job.schedule.pace)))[0])
    config = settings_in(tmp_path, many, "15m").replace(use_kfold=False, use_tta=False, batch_size=2)
    outcome = run(config)
    said = capsys.readouterr().out
    assert clock.now <= config.budget_seconds - seconds_for_end(config.budget_seconds), said
    assert outcome.submitted.run == "r" and len(load_scores(tmp_path / "experiments/r/scores/fold0-test.npz").ids) == 8
    made, photographs = len(list((tmp_path / "cache" / "features").glob("*/*.npy"))), len(list(many.glob("*/*.*g")))
    assert 4 < made < photographs, "neither the test rows alone nor all"
    assert "they are encoded as training reaches their rows" in said
    training_said, scoring_said = said.split("[7/10]")[1].split("[8/10]")
    assert re.search(r"time budget: .* for image features of \d+ photographs?, ", training_said)
    assert "time budget: " in scoring_said, "the plan is printed before each piece of work"
    assert plans and all(pace.read == 2 for pace in plans), "the pace of reading is without that of image features"


@pytest.mark.nightly
def test_image_features_that_take_little_of_the_time_are_made_at_once(tmp_path, many, monkeypatch):
    """In the same batches as without a budget: they are the same to the last bit."""
    made = {}
    for budget in ("2h", ""):
        Clock(monkeypatch, look=1)
        config = settings_in(tmp_path / budget, many, budget).replace(use_kfold=False, use_tta=False, num_epochs=0)
        run(config)
        made[budget] = {file.name: file.read_bytes() for file in (tmp_path / budget / "cache" / "features").glob("*/*.npy")}
        monkeypatch.undo()
    assert len(made[""]) == len(list(many.glob("*/*.*g"))) and made["2h"] == made[""]


def test_tables_and_figures_take_a_small_part_of_the_time_at_most(tmp_path, data, monkeypatch, capsys):
    def explore_for_ever(*_):
        while True:
            time.sleep(0.01)

    monkeypatch.setattr(steps, "explore_files", explore_for_ever)
    steps.explore_data(open_project(settings_in(tmp_path, data, "5s")))
    said = capsys.readouterr().out
    assert "no tables and figures: they take more than 10% of the time budget" in said and "first submission" in said


def test_fewer_validation_rows_where_not_even_these_can_be_read():
    rows = replace(ROWS, validation=9000, test=2000)
    schedule = Schedule(lambda: 310.0, FULL, rows, variants=2, folds=1, pace=Pace(learn=0.25))
    assert schedule.sample_in_time() == 512
    schedule.plan()
    assert schedule.validation_rows(9000) == 128 and schedule.validation_rows(50) == 50
    schedule.pace.read = 3.0
    assert schedule.sample_in_time() == 32


def test_photographs_without_features_take_time():
    schedule = schedule_of(700.0, learn=1.0, read=0.1, encode=1.0)
    before = schedule.plan().epochs
    schedule.unencoded = lambda epochs: int(60 * min(epochs, 1))
    assert schedule.plan().epochs < before


def test_less_than_an_epoch_is_planned_rather_than_nothing():
    """'1 fold of 0 epochs': an epoch of 25,700 rows did not fit, and 12,862 validation rows took what was left."""
    many = RowCounts(train=25_700, validation=12_862, test=12_862, images=40_000)
    schedule = Schedule(lambda: 300.0, Work(1, 3, 1, (1.0,)), many, variants=2, folds=1, pace=Pace(learn=0.02, read=0.008))
    total = schedule.steps_total(0, 25_700 // 4)
    assert 0 < total < 25_700 // 4 and schedule.validation_rows(12_862) == 512
    assert Schedule(lambda: 1e6, Work(1, 3, 1, (1.0,)), many, 2, folds=1, pace=schedule.pace).validation_rows(12_862) == 12_862


def test_test_rows_that_were_scored_in_time_are_handed_in_and_not_scored_again(tmp_path, data, monkeypatch):
    """A budget that ended among 9,673 test rows threw away the 2,152 that were scored, each time that it was tried."""
    plain, asked = scoring.score_questions, []

    def score(model, base, maker, questions, *given, title, **named):
        if title == "fold 0 test":
            if len(asked) == 2:
                raise TimeUp
            asked.append([q.id for q in questions])
        return plain(model, base, maker, questions, *given, title=title, **named)

    monkeypatch.setattr(parts, "PART_SECONDS", 0.0)
    monkeypatch.setattr(parts, "FIRST_ROWS", 3)
    monkeypatch.setattr(scoring, "score_questions", score)
    config = settings_in(tmp_path, data, "1h").replace(use_kfold=False, num_epochs=1, use_tta=False)
    with pytest.raises(RunStopped, match=r"holds the answers of fold 0 to 6 of 8 test rows, and those of the text-only prior"):
        run(config)
    submission, questions = tmp_path / "outputs/submission_ensemble.csv", read_questions(data / "test.csv", labelled=False)
    assert validate_submission(submission, questions.questions).rows == 8
    record, handed_in = read_submitted(submission), answers_in(submission)
    assert record.source == "fold 0 (6 of 8 rows), else prior" and record.accuracy is None

    answered, asked[:] = {name for part in asked for name in part}, []
    outcome = run(config)
    assert sorted(name for part in asked for name in part) == sorted({q.id for q in questions.questions} - answered)
    assert not list((tmp_path / "cache" / "scores").glob("*/*")), "parts go when all is scored"
    alone = tmp_path / "alone"
    monkeypatch.undo()
    run(config.replace(output_dir=str(alone), time_budget=""))
    whole, again = (load_scores(root / "experiments/r/scores/fold0-test.npz") for root in (alone, tmp_path))
    assert whole.ids.tolist() == again.ids.tolist()
    np.testing.assert_allclose(again.logprobs, whole.logprobs, atol=1e-5)
    final = answers_in(outcome.submission)
    assert outcome.submitted.run == "r" and {name: final[name] for name in answered} == {n: handed_in[n] for n in answered}


def test_test_rows_wait_for_no_photographs_but_their_own(tmp_path, many, monkeypatch):
    """In a second session of 6 minutes those of 512 validation rows were encoded first, and no test row was scored."""
    Clock(monkeypatch, look=15)
    done, plain = [], execution.do_task

    def do(side, task):
        if task.name == "score fold 0 test" and "second" not in done:
            raise TimeUp
        done.append(task.name)
        return plain(side, task)

    monkeypatch.setattr(execution, "do_task", do)
    config = settings_in(tmp_path, many, "15m").replace(use_kfold=False, use_tta=False, batch_size=2)
    with pytest.raises(RunStopped):
        run(config)
    done.append("second")
    run(config)
    second = done[done.index("second") + 1 :]
    first_of_validation = next(i for i, name in enumerate(second) if name.startswith("features of scored rows"))
    assert second.index("score fold 0 test") < first_of_validation < second.index("score fold 0 oof")


def test_time_for_nothing_but_the_prior(tmp_path, data, monkeypatch):
    def ring(*_):
        raise TimeUp

    monkeypatch.setattr("mcvqa.run.steps.train_folds", ring)
    config = settings_in(tmp_path, data, "1h")
    with pytest.raises(RunStopped, match=r"no fold was trained and scored.*text-only prior"):
        run(config)
    submission = tmp_path / "outputs" / "submission_ensemble.csv"
    assert validate_submission(submission, read_questions(data / "test.csv", labelled=False).questions).rows == 8
