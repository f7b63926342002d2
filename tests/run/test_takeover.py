"""Going on elsewhere: the output of an earlier session, moved, read-only, partly damaged."""
import dataclasses
import json
import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from mcvqa.base.files import RunLog, file_hash
from mcvqa.config import Config
from mcvqa.run.project import RunStopped, open_project, seconds_of
from mcvqa.run.session import run_session
from mcvqa.run.single import train_only
from mcvqa.run.takeover import take_over
from mcvqa.scoring.scores import load_scores
from mcvqa.training.checkpoint import TENSORS, adapter_hash, verified
from mcvqa.training.resume import RESUME
from mcvqa.training.step import Stepper
from tests.conftest import tiny_settings
from tests.faults import read_only


def settings_for(out: Path, data: Path, **changes) -> Config:
    return tiny_settings(out, **dict(data_dir=str(data), run_name="r", n_folds=2, batch_size=4, save_minutes=0.0) | changes)


def hashes(config: Config) -> list[str]:
    return [adapter_hash(open_project(config).paths.fold(fold) / "best") for fold in (0, 1)]


@pytest.fixture(scope="module")
def earlier(dataset, tmp_path_factory) -> Path:
    """The output of a session that was cut off in the third step of the second fold, moved to another place."""
    out, plain = tmp_path_factory.mktemp("session") / "out", Stepper.backward

    def backward(self, *given):
        if self.job.fold == 1 and self.state.step == 2:
            raise KeyboardInterrupt
        return plain(self, *given)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Stepper, "backward", backward)
        train_only(settings_for(out, dataset))
    return Path(shutil.move(out, tmp_path_factory.mktemp("input") / "my-notebook"))


@pytest.mark.nightly
def test_a_run_goes_on_from_a_read_only_folder(earlier, dataset, tmp_path, capsys):
    """As Kaggle attaches an earlier output; the newest resume point has been damaged on the way."""
    (earlier / "checkpoints" / "r" / "fold1" / RESUME / "0-0000-00000002" / TENSORS).write_bytes(b"half")
    before = {p: p.stat().st_mtime_ns for p in earlier.rglob("*")}
    config = settings_for(tmp_path / "out", dataset, resume_from=str(earlier.parent))
    with read_only(earlier):
        train_only(config)
        said = capsys.readouterr().out
        assert f"{TENSORS} is damaged or missing: " in said and "0-0000-00000002 is not copied" in said
        assert f"continuing from {earlier}" in said and "fold 0: already trained" in said
        assert "fold 1 resumes after step 1 of 3" in said
        train_only(config)
        assert "continuing from" not in capsys.readouterr().out, "once is enough"
    assert before == {p: p.stat().st_mtime_ns for p in earlier.rglob("*")}
    whole = settings_for(tmp_path / "whole", dataset)
    train_only(whole)
    assert hashes(config) == hashes(whole)
    assert not [p for p in (tmp_path / "out").rglob("*") if p.name.endswith(".part")]


def test_the_sessions_before_count_in_the_time_of_a_run_that_goes_on_elsewhere(earlier, dataset, tmp_path):
    """The report of a run in three sessions on Kaggle told the time of the last one only."""
    config = settings_for(tmp_path / "out", dataset, resume_from=str(earlier))
    with run_session(config) as project:
        before = seconds_of(project)
    first = RunLog(earlier / "logs" / "r.jsonl").events("session")
    assert before == sum(event["seconds"] for event in first) > 0
    sessions = project.log.events("session")
    assert len(sessions) == len(first) + 1 and len({event["attempt"] for event in sessions}) == 1


def test_a_moved_folder_goes_on_by_itself(earlier, dataset, tmp_path, capsys):
    train_only(settings_for(shutil.copytree(earlier, tmp_path / "moved"), dataset))
    said = capsys.readouterr().out
    assert "fold 0: already trained" in said and "fold 1 resumes after step" in said


@pytest.mark.parametrize(
    ("run", "message"), [("other", "It has the runs r: use the settings"), ("r", "Name the folder that an")]
)
def test_what_is_not_there_is_said(earlier, dataset, tmp_path, run, message):
    given = earlier if run == "other" else tmp_path
    with pytest.raises(RunStopped, match=rf"holds no checkpoints/{run}\. {message}"):
        train_only(settings_for(tmp_path / "out", dataset, run_name=run, resume_from=str(given)))


def test_only_what_a_run_writes_is_taken_over(earlier, dataset, tmp_path, capsys):
    """Links to files elsewhere, a pipe that would be waited for, foreign files and a manifest that points outside."""
    given, secret = shutil.copytree(earlier, tmp_path / "given"), tmp_path / "secret.txt"
    secret.write_text("secret")
    folds, experiment = given / "checkpoints" / "r", given / "experiments" / "r"
    (folds / "fold0" / "notes.txt").write_text("foreign")
    (folds / "fold0" / "best" / "notes.txt").write_text("foreign")
    (folds / "link.txt").symlink_to(secret)
    (folds / "fold0" / "raw").rename(folds / "fold0" / "elsewhere")
    (folds / "fold0" / "raw").symlink_to(folds / "fold0" / "elsewhere")
    (experiment / "scores" / "fold9-test.npz").symlink_to(secret)
    os.mkfifo(experiment / "tasks" / "pipe.json")
    os.mkfifo(folds / "fold0" / "pipe")
    (experiment / "index.html").write_text("foreign")
    (folds / "fold1" / "ema").mkdir()
    (folds / "fold1" / "ema" / "manifest.json").write_text(
        json.dumps({"files": {"../../../../secret.txt": {"bytes": 6, "sha256": file_hash(secret)}}}))
    take_over(open_project(settings_for(tmp_path / "out", dataset, resume_from=str(given))))
    said = capsys.readouterr().out
    assert "not copied, as runs do not write such files: " in said and "secret.txt is damaged or missing" in said
    copied = [path for path in (tmp_path / "out").rglob("*") if not path.is_dir()]
    assert all(stat.S_ISREG(path.lstat().st_mode) for path in copied)
    assert not [path for path in copied if b"secret" in path.read_bytes() or b"foreign" in path.read_bytes()]
    paths = open_project(settings_for(tmp_path / "out", dataset)).paths
    assert verified(paths.fold(0) / "best") and (paths.fold(0) / "result.json").exists() and paths.log.exists()
    assert not (paths.fold(0) / "raw").exists() and not (paths.fold(1) / "ema").exists()


@pytest.mark.parametrize("damage", ["cut off", "too sure", "of other weights", "edited"])
def test_scores_that_cannot_be_are_not_taken_over(earlier, dataset, tmp_path, capsys, damage):
    given = shutil.copytree(earlier, tmp_path / "given")
    file = given / "experiments" / "r" / "scores" / "fold0-test.npz"
    prior = load_scores(file.with_name("prior-test.npz"))
    facts = {"fold": 0, "adapter": adapter_hash(given / "checkpoints" / "r" / "fold0" / "best")}
    dataclasses.replace(prior, provenance=facts).save(file)
    take_over(open_project(settings_for(tmp_path / "whole", dataset, resume_from=str(given))))
    assert (tmp_path / "whole" / "experiments" / "r" / "scores" / "fold0-test.npz").exists()
    if damage == "cut off":
        file.write_bytes(file.read_bytes()[:200])
    elif damage == "too sure":
        dataclasses.replace(prior, provenance=facts, logprobs=np.zeros_like(prior.logprobs)).save(file)
    elif damage == "edited":
        whole = load_scores(file)
        dataclasses.replace(whole, logprobs=whole.logprobs[::-1]).save(file)
    else:
        dataclasses.replace(prior, provenance=facts | {"adapter": "0123456789abcdef"}).save(file)
    capsys.readouterr()
    take_over(open_project(settings_for(tmp_path / "out", dataset, resume_from=str(given))))
    assert "fold0-test.npz is damaged or belongs to other weights" in capsys.readouterr().out
    scores = tmp_path / "out" / "experiments" / "r" / "scores"
    assert not (scores / "fold0-test.npz").exists() and (scores / "prior-test.npz").exists()
