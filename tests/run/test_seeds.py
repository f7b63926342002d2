"""n_seeds: other seeds on the same folds, runs of their own that the run combines."""
import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from mcvqa import run
from mcvqa.base.files import read_json
from mcvqa.base.translation import korean_translator
from mcvqa.config import Config, ConfigError
from mcvqa.run.beside import seed_spread
from mcvqa.run.project import RunStopped
from mcvqa.run.seeds import seed_runs
from mcvqa.run.single import combine_only, predict_only, train_only
from mcvqa.scoring.scores import load_scores
from tests.conftest import make_dataset, tiny_settings


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Config:
    """A finished run with two seeds."""
    top = tmp_path_factory.mktemp("seeds")
    config = tiny_settings(
        top, data_dir=str(make_dataset(top / "data")), use_kfold=False, n_folds=2, run_name="r", seed=5, n_seeds=2)
    run(config)
    return config


def folds_of(config: Config) -> dict[str, str]:
    with open(Path(config.output_dir) / f"experiments/{config.run}/folds.csv", newline="", encoding="utf-8") as handle:
        return {row["id"]: row["fold"] for row in csv.DictReader(handle)}


def oof_of(config: Config) -> np.ndarray:
    folder = Path(config.output_dir) / f"experiments/{config.run}/scores"
    return load_scores(folder / "fold0-oof.npz").logprobs


def test_another_seed_trains_otherwise_on_the_same_folds(finished):
    assert [one.run for one in seed_runs(finished.replace(n_seeds=3))] == ["r-seed106", "r-seed207"]
    (second,) = seed_runs(finished)
    assert folds_of(finished) == folds_of(second)
    assert np.nanmax(np.abs(oof_of(finished) - oof_of(second))) > 1e-4


def test_the_submission_is_the_blend_of_all_seeds(finished):
    combined = combine_only(finished)
    assert [member.name for member in combined.members] == ["r", "r-seed106"]
    assert combined.submitted.run == "r" and "of r + r-seed106" in combined.submitted.source
    with open(Path(finished.output_dir) / "experiments/r/submission.csv", newline="", encoding="utf-8") as handle:
        written = [row["answer"] for row in csv.DictReader(handle)]
    assert written == ["abcd"[choice] for choice in combined.blend.predictions]


def test_the_report_says_how_far_seeds_differ_in_both_languages(finished):
    page = (Path(finished.output_dir) / "experiments/r/report.html").read_text(encoding="utf-8")
    alone = [accuracy.value for accuracy in combine_only(finished).blend.alone.values()]
    deviation = f"{np.std(alone, ddof=1):.4f}"
    assert f"Standard deviation between 2 seeds: {deviation}" in page and f"시드 2개 사이의 표준편차: {deviation}" in page
    measured = read_json(Path(finished.output_dir) / "experiments/r-seed106/metrics.json")["metrics"]
    assert measured["overall"]["accuracy"]["value"] == pytest.approx(alone[1])


def test_seeds_with_the_same_accuracy_have_no_measured_spread():
    spread = seed_spread([0.5, 0.5, 0.5])
    assert spread.in_english(0.1234).startswith("All 3 seeds have the same accuracy") and "0.1234" in spread.in_english(0.1234)
    assert "0.0000" not in spread.in_english(0.1234) + korean_translator().console(spread.in_english(0.1234))


def test_what_is_finished_is_not_trained_again_and_a_lost_seed_is(finished):
    files = [Path(finished.output_dir) / "checkpoints" / name / "fold0/result.json" for name in ("r", "r-seed106")]
    before, scores = [file.stat().st_mtime_ns for file in files], oof_of(seed_runs(finished)[0])
    shutil.rmtree(files[1].parent)
    with pytest.raises(RunStopped, match=r"n_seeds=2: the seed 106 .*not finished"):
        combine_only(finished)
    run(finished)
    after = [file.stat().st_mtime_ns for file in files]
    assert after[0] == before[0] and after[1] > before[1]
    np.testing.assert_array_equal(oof_of(seed_runs(finished)[0]), scores)


def test_a_later_session_takes_over_the_seeds_that_are_there(finished, tmp_path):
    run(finished.replace(output_dir=str(tmp_path), resume_from=finished.output_dir, n_seeds=3))
    for name in ("r", "r-seed106"):
        result = f"checkpoints/{name}/fold0/result.json"
        assert (tmp_path / result).read_bytes() == (Path(finished.output_dir) / result).read_bytes()
    assert (tmp_path / "checkpoints/r-seed207/fold0/result.json").exists()


def test_a_run_gets_more_seeds_later_step_by_step(tmp_path, dataset):
    config = tiny_settings(tmp_path, data_dir=str(dataset), use_kfold=False, run_name="late")
    train_only(config)
    train_only(config.replace(n_seeds=2))
    predict_only(config.replace(n_seeds=2))
    assert [member.name for member in combine_only(config.replace(n_seeds=2)).members] == ["late", "late-seed143"]
    assert [member.name for member in combine_only(config).members] == ["late"]


def test_without_time_for_another_seed_the_run_is_handed_in(tmp_path, dataset, capsys, monkeypatch):
    monkeypatch.setattr("mcvqa.run.other_seeds.TIME_OF_SEED", 1e6)
    outcome = run(tiny_settings(
        tmp_path, data_dir=str(dataset), use_kfold=False, run_name="short", n_seeds=2, time_budget="20m"))
    said = capsys.readouterr().out
    assert "no further seed is trained: it takes about" in said and "left out: the seed 143" in said
    assert outcome.submission.exists() and not (tmp_path / "checkpoints/short-seed143").exists()


def test_a_seed_that_is_named_as_a_member_too_is_refused():
    with pytest.raises(ConfigError, match="r-seed106 is one of the 2 seeds"):
        seed_runs(Config(run_name="r", seed=5, n_seeds=2, members=("r-seed106",)))


def test_the_spread_has_the_interval_of_a_normal_sample():
    random, inside = np.random.default_rng(0), 0
    for _ in range(400):
        spread = seed_spread((0.7 + 0.01 * random.normal(size=3)).tolist())
        inside += spread.low <= 0.01 <= spread.high
    assert 0.92 <= inside / 400 <= 0.98
