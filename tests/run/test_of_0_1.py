"""Nothing of version 0.1 is lost: a run that its own code made is scored, blended and reported, and marked for what it is."""
import shutil
from pathlib import Path

import pytest

from mcvqa import run
from mcvqa.base.files import RunLog
from mcvqa.config import Config
from mcvqa.run.dataset import read_data
from mcvqa.run.other_runs import other_run
from mcvqa.run.project import RunStopped, open_project, settings_of_run
from mcvqa.run.single import combine_only, predict_only, report_only, train_only
from mcvqa.scoring.scores import load_scores
from mcvqa.training.checkpoint import adapter_hash
from tests.run.test_steps import answers_in, ensemble_file, said_by

FIXTURE = Path(__file__).parents[1] / "fixtures" / "of_0_1"


@pytest.fixture
def old(tmp_path) -> Config:
    return copy_of("old", tmp_path)


def copy_of(name: str, tmp_path: Path) -> Config:
    """The settings of one of the fixture's runs, with data and results where they may be changed."""
    shutil.copytree(FIXTURE, tmp_path / "of_0_1")
    settings = settings_of_run(name, str(tmp_path / "of_0_1" / "out"))
    return Config().replace(**settings | {"data_dir": str(tmp_path / "of_0_1" / "data")})


def test_it_is_reported_as_it_is_and_marked(old):
    before, files = answers_in(ensemble_file(old)), {p: p.read_bytes() for p in Path(old.output_dir).rglob("steps/*.json")}
    outcome, said = said_by(report_only, old)
    assert "made by 0.1, unverified" in said and outcome.accuracy.n == 16 and files
    assert answers_in(ensemble_file(old)) == before
    assert files == {p: p.read_bytes() for p in files}, "its own records stay as they are"


def test_nothing_is_trained_or_scored_again(old):
    _, said = said_by(run, old)
    assert said.count("(made by 0.1, unverified)") == 2 and said.count("already scored") == 2
    log = RunLog(open_project(old).paths.log)
    assert len(log.events("scored")) == 4, "those of 0.1"


def test_it_is_scored_in_other_ways_and_blended(old):
    richer = old.replace(use_tta=True, tta_orders=2, tta_scales=(1.0,))
    weights = [adapter_hash(open_project(old).paths.fold(fold) / "best") for fold in (0, 1)]
    plain = load_scores(open_project(old).paths.scores / "fold0-test.npz").logprobs[:, 0]
    said_by(predict_only, richer)
    again = load_scores(open_project(old).paths.scores / "fold0-test.npz").logprobs[:, 0]
    real = plain > -100
    assert abs(again[real] - plain[real]).max() < 5e-3, "the same model, whatever the versions of torch and Pillow"
    said_by(combine_only, richer.replace(members=("prior",)))
    assert [adapter_hash(open_project(old).paths.fold(fold) / "best") for fold in (0, 1)] == weights


def test_it_is_a_member_of_other_runs_by_its_own_record(old):
    new = old.replace(run_name="new")
    data = read_data(open_project(new))
    assert other_run(data, new, "old", "members").folds == (0, 1)
    for fold in (0, 1):
        open_project(old).records.file_of_0_1(f"train fold {fold}").unlink()
    with pytest.raises(RunStopped, match="the run 'old' has no scores of its current weights"):
        other_run(data, new, "old", "members")


def test_what_is_damaged_is_not_trained_over_without_being_asked(old):
    folder = open_project(old).paths.fold(0) / "best"
    (folder / "adapter_model.safetensors").write_bytes(b"half")
    with pytest.raises(RunStopped, match=r"Fold 0 was trained by version 0.1 .*does not overwrite it: delete"):
        said_by(train_only, old)
    assert (folder / "adapter_config.json").exists()


def test_a_fold_that_was_cut_off_goes_on(tmp_path):
    """Its resume point, of format 2, was written after the fourth step: the end of an epoch, before its validation."""
    cut = copy_of("cut", tmp_path)
    _, said = said_by(run, cut)
    assert "fold 0 resumes after step 4 of 8" in said
    log = RunLog(open_project(cut).paths.log)
    assert [event["step"] for event in log.events("step") if event["fold"] == 0] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert len(answers_in(ensemble_file(cut))) == 6
