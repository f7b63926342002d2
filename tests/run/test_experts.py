"""Runs of a model with experts in 4 bits."""
import signal

import numpy as np
import pytest

from mcvqa import Config, run
from mcvqa.model.device import plan_device
from mcvqa.model.experts import STACKS, is_packed, stacked_experts
from mcvqa.model.load import load_base
from tests.model.other_families import save_family
from tests.run.test_interrupt import settings_in, stopped_by, trained_in


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return save_family("llava_moe", tmp_path_factory.mktemp("model"))


def test_experts_are_in_4_bits_where_they_are_asked_for(folder):
    config = Config(model_id=folder, device="cpu", quantization="4bit")
    for bits, wanted in (("4bit", True), ("none", False)):
        base = load_base(config.replace(quantization=bits), plan_device(config.replace(quantization=bits)))
        stacks = [getattr(one, name) for one in stacked_experts(base.model).values() for name in STACKS]
        assert len(stacks) == 4 and all(is_packed(stack) is wanted for stack in stacks)


@pytest.mark.nightly
def test_a_run_on_defaults_trains_and_scores(folder, dataset, tmp_path):
    outcome = run(Config(
        data_dir=str(dataset), output_dir=str(tmp_path), model_id=folder, device="cpu", quantization="4bit", run_name="r"))
    assert outcome.submission.exists()


@pytest.mark.nightly
def test_a_stopped_fold_goes_on_as_if_nothing_had_happened(folder, dataset, tmp_path):
    def settings(name: str) -> Config:
        (tmp_path / name).mkdir()
        config = settings_in(tmp_path / name, dataset).replace(model_id=folder, quantization="4bit")
        (tmp_path / name / "settings.yaml").write_text(config.to_yaml(), encoding="utf-8")
        return config

    whole, config = trained_in(settings("whole")), settings("stopped")
    status, said = stopped_by(signal.SIGTERM, config, 3)
    assert status and "stopping after this step" in said
    resumed = trained_in(config)
    assert resumed.hashes == whole.hashes and resumed.steps == whole.steps
    for mine, theirs in zip(resumed.scores, whole.scores, strict=True):
        np.testing.assert_array_equal(mine, theirs)
