"""Training that starts from trained adapters: the same weights, what they have learned from, and what does not fit."""
import contextlib
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from mcvqa import run
from mcvqa.answer.export import export_run
from mcvqa.base.files import read_json, write_json
from mcvqa.config import Config, ConfigError
from mcvqa.model.content import ModelError
from mcvqa.run.project import open_project
from mcvqa.run.start import start_folder
from mcvqa.scoring.scores import load_scores
from tests.conftest import make_dataset, tiny_settings
from tests.run.conftest import blank_each, figures_made_by


def said_by(step, *args):
    with figures_made_by(blank_each), contextlib.redirect_stdout(io.StringIO()) as said:
        result = step(*args)
    return result, said.getvalue()


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "adapters"
    said_by(export_run, trained, folder)
    return folder


def settings_from(trained: Config, start: Path, out: Path, **changes) -> Config:
    return trained.replace(**dict(start_from=str(start), output_dir=str(out), run_name="on") | changes)


def test_a_run_without_a_step_answers_as_what_it_started_from(trained, exported, tmp_path):
    config = settings_from(trained, exported, tmp_path, num_epochs=0)
    outcome, said = said_by(run, config)
    before, after = (load_scores(open_project(c).paths.scores / "fold0-test.npz") for c in (trained, config))
    np.testing.assert_allclose(after.logprobs, before.logprobs, atol=1e-6)
    assert f"fold 0 starts from {exported}" in said
    fresh = tiny_settings(tmp_path / "fresh", **{n: getattr(config, n) for n in ("data_dir", "use_kfold", "n_folds", "num_epochs")})
    said_by(run, fresh)
    untrained = load_scores(open_project(fresh).paths.scores / "fold0-test.npz")
    assert np.nanmax(np.abs(untrained.logprobs[:, 0] - before.logprobs[:, 0])) > 1e-3, "or the test could not fail"
    print(outcome)
