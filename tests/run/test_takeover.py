"""Going on elsewhere: the output of an earlier session, moved, read-only, partly damaged."""
import shutil
from pathlib import Path

import pytest

from mcvqa.config import Config
from mcvqa.run.project import RunStopped, open_project
from mcvqa.run.single import train_only
from mcvqa.training.checkpoint import TENSORS, adapter_hash
from mcvqa.training.loop import RESUME, FoldTrainer
from tests.conftest import tiny_settings
from tests.faults import read_only


def settings_for(out: Path, data: Path, **changes) -> Config:
    return tiny_settings(out, **dict(data_dir=str(data), run_name="r", n_folds=2, batch_size=4, save_minutes=0.0) | changes)


def hashes(config: Config) -> list[str]:
    return [adapter_hash(open_project(config).paths.fold(fold) / "best") for fold in (0, 1)]


@pytest.fixture(scope="module")
def earlier(dataset, tmp_path_factory) -> Path:
    """The output of a session that was cut off in the third step of the second fold, moved to another place."""
    out, plain = tmp_path_factory.mktemp("session") / "out", FoldTrainer._backward

    def backward(self, *given):
        if self.fold == 1 and self.step == 2:
            raise KeyboardInterrupt
        return plain(self, *given)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(FoldTrainer, "_backward", backward)
        train_only(settings_for(out, dataset))
    return Path(shutil.move(out, tmp_path_factory.mktemp("input") / "my-notebook"))


def test_a_run_goes_on_from_a_read_only_folder(earlier, dataset, tmp_path, capsys):
    """As Kaggle attaches an earlier output; the newest resume point has been damaged on the way."""
    (earlier / "checkpoints" / "r" / "fold1" / RESUME / "0-0000-00000002" / TENSORS).write_bytes(b"half")
    before = {p: p.stat().st_mtime_ns for p in earlier.rglob("*")}
    config = settings_for(tmp_path / "out", dataset, resume_from=str(earlier.parent))
    with read_only(earlier):
        train_only(config)
        said = capsys.readouterr().out
        assert f"{TENSORS} is damaged or missing: " in said and "0-0000-00000002 is not taken over" in said
        assert f"going on from {earlier}" in said and "fold 0: already trained" in said
        assert "fold 1 goes on after step 1 of 3" in said
        train_only(config)
        assert "going on from" not in capsys.readouterr().out, "once is enough"
    assert before == {p: p.stat().st_mtime_ns for p in earlier.rglob("*")}
    whole = settings_for(tmp_path / "whole", dataset)
    train_only(whole)
    assert hashes(config) == hashes(whole)
    assert not [p for p in (tmp_path / "out").rglob("*") if p.name.endswith(".part")]


def test_a_moved_folder_goes_on_by_itself(earlier, dataset, tmp_path, capsys):
    train_only(settings_for(shutil.copytree(earlier, tmp_path / "moved"), dataset))
    said = capsys.readouterr().out
    assert "fold 0: already trained" in said and "fold 1 goes on after step" in said


@pytest.mark.parametrize(("run", "told"), [("other", "It has the runs r: give the settings"), ("r", "Name the folder that an")])
def test_what_is_not_there_is_told(earlier, dataset, tmp_path, run, told):
    given = earlier if run == "other" else tmp_path
    with pytest.raises(RunStopped, match=rf"holds no checkpoints/{run}\. {told}"):
        train_only(settings_for(tmp_path / "out", dataset, run_name=run, resume_from=str(given)))
