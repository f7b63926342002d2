"""Trained runs to ask: one of this version, and the one in the fixtures that version 0.1 made."""
import contextlib
import io
import shutil
from pathlib import Path

import pytest

from mcvqa import Answerer, run
from mcvqa.config import Config
from mcvqa.run.project import settings_of_run
from tests.conftest import tiny_settings
from tests.run.conftest import blank_each, figures_made_by

OF_0_1 = Path(__file__).parents[1] / "fixtures" / "of_0_1"


@pytest.fixture(scope="session")
def trained(dataset, tmp_path_factory) -> Config:
    """A run of one fold that is asked in two option orders. Nobody writes to it but what answers."""
    out = tmp_path_factory.mktemp("trained")
    config = tiny_settings(
        out, data_dir=str(dataset), run_name="r", use_kfold=False, n_folds=2, num_epochs=1, use_tta=True, tta_orders=2,
        use_ema=False,
    )
    with figures_made_by(blank_each), contextlib.redirect_stdout(io.StringIO()):
        run(config)
    return config


@pytest.fixture
def copied(trained, tmp_path) -> Config:
    """The settings of a copy of the run."""
    shutil.copytree(trained.output_dir, tmp_path / "out")
    return trained.replace(output_dir=str(tmp_path / "out"))


@pytest.fixture(scope="session")
def answerer(trained) -> Answerer:
    """The run with its model loaded."""
    return Answerer(trained)


@pytest.fixture
def old(tmp_path) -> Config:
    """A copy of a run of two folds that version 0.1 trained."""
    shutil.copytree(OF_0_1, tmp_path / "of_0_1")
    settings = settings_of_run("old", str(tmp_path / "of_0_1" / "out"))
    return Config().replace(**settings | {"data_dir": str(tmp_path / "of_0_1" / "data")})


def files_of_run(config: Config) -> dict[Path, bytes]:
    """Content of everything that runs keep, without cache/."""
    root = Path(config.output_dir)
    return {file: file.read_bytes() for name in ("checkpoints", "experiments", "logs", "outputs")
            for file in sorted((root / name).rglob("*")) if file.is_file()}
