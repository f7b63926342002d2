"""Training that starts from trained adapters: the same weights, what they have learned from, and what does not fit."""
import contextlib
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from mcvqa import run
from mcvqa.answer import export
from mcvqa.answer.export import export_run
from mcvqa.base.files import RunLog, read_json, write_json
from mcvqa.config import Config, ConfigError, McvqaError
from mcvqa.data.trained_on import TRAINED_ON
from mcvqa.model.content import ModelError
from mcvqa.model.device import plan_device
from mcvqa.model.load import load_adapter, load_base, make_trainable, remove_adapters
from mcvqa.report.experiments import list_experiments
from mcvqa.run.check import check_run
from mcvqa.run.project import open_project
from mcvqa.run.single import report_only, train_only
from mcvqa.run.start import start_folder
from mcvqa.scoring.scores import load_scores
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


@pytest.fixture(scope="module")
def checkpoint(trained) -> Path:
    """The same weights, as the run has them."""
    return open_project(trained).paths.fold(0) / "best"


@pytest.fixture
def adapters(checkpoint, tmp_path) -> Path:
    """A copy to change."""
    return shutil.copytree(checkpoint, tmp_path / "adapters")


def started(trained: Config, start: Path, out: Path, **changes) -> Config:
    return trained.replace(**dict(start_from=str(start), output_dir=str(out), run_name="on", use_tta=False) | changes)


def test_scores(config: Config) -> np.ndarray:
    return load_scores(open_project(config).paths.scores / "fold0-test.npz").logprobs[:, 0]


test_scores.__test__ = False


# %% the same weights
def test_the_first_logits_are_those_of_the_trained_model(trained, checkpoint, answerer):
    """Invariant of `start_from`; a fresh start has others."""
    config, asked = trained.replace(use_tta=False), answerer.trained
    base = load_base(config, plan_device(config))
    rows = export._rows_for_proof(asked, None)
    found = {}
    for name, make in (
        ("trained", lambda: load_adapter(base, checkpoint)), ("started", lambda: make_trainable(base, config, 5, checkpoint)),
        ("fresh", lambda: make_trainable(base, config, 5)),
    ):
        model = make()
        found[name] = np.exp(export._scores_of(model, base, rows, config).logprobs)
        remove_adapters(base, model)
    np.testing.assert_array_equal(found["started"], found["trained"])
    assert np.abs(found["fresh"] - found["trained"]).max() > 1e-3


@pytest.fixture(scope="module")
def untrained(trained, exported, tmp_path_factory):
    """(settings, outcome, what was said) of a run that takes no step."""
    config = started(trained, exported, tmp_path_factory.mktemp("untrained"), num_epochs=0)
    return config, *said_by(run, config)


@pytest.mark.nightly
def test_a_run_without_a_step_answers_as_what_it_started_from(trained, exported, untrained, tmp_path):
    config, _, said = untrained
    before, after = test_scores(trained), test_scores(config)
    np.testing.assert_allclose(after, before, atol=1e-4)  # with one option order beside the first of two in one pass
    assert f"fold 0 starts from {exported}" in said
    fresh = config.replace(start_from="", output_dir=str(tmp_path))
    said_by(run, fresh)
    known = np.isfinite(before)
    assert np.abs(test_scores(fresh)[known] - before[known]).max() > 1e-3, "or this could not fail"


@pytest.mark.nightly
def test_the_same_split_stays_measured(trained, untrained):
    """The adapters have not learned from the rows that this run validates with."""
    _, outcome, _ = untrained
    assert outcome.accuracy.not_measured == "" and outcome.metrics.overall.accuracy.n == 12


@pytest.mark.parametrize("kind", [
    pytest.param({}, marks=pytest.mark.nightly), pytest.param({"use_dora": True}, marks=pytest.mark.torture),
])
def test_folds_start_from_the_folds_of_a_run(dataset, trained, tmp_path, kind):
    first = trained.replace(output_dir=str(tmp_path / "first"), use_kfold=True, use_tta=False, **kind)
    said_by(run, first)
    for given in ("experiments/r", "checkpoints/r"):
        start, out = str(tmp_path / "first" / given), str(tmp_path / given)
        config = first.replace(start_from=start, run_name="on", output_dir=out, num_epochs=0)
        outcome, _ = said_by(run, config)
        for fold in (0, 1):
            scores = [load_scores(open_project(c).paths.scores / f"fold{fold}-test.npz").logprobs for c in (first, config)]
            np.testing.assert_allclose(scores[1], scores[0], atol=1e-6)
        assert outcome.accuracy.not_measured == ""
    with pytest.raises(ConfigError, match=r"that run has no fold 2.*train_folds=0"):
        start_folder(config, 2)


# %% what it has learned from
WHY = "the weights it started from may have been trained on the photographs of"


@pytest.fixture(scope="module")
def other_split(trained, checkpoint, tmp_path_factory):
    """(settings, outcome, what was said) of a run that validates with rows that the adapters have learned from."""
    config = started(trained, checkpoint, tmp_path_factory.mktemp("other"), seed=3)
    return config, *said_by(run, config)


def test_accuracy_on_rows_that_the_start_learned_from_is_not_measured(other_split):
    config, outcome, said = other_split
    folder = Path(config.output_dir) / "experiments/on"
    assert outcome.accuracy.not_measured.startswith(WHY) and outcome.metrics.overall.accuracy.not_measured
    assert outcome.metrics.leaderboard is None and not outcome.advice
    assert f"accuracy not measured: {WHY}" in said and "accuracy 0." not in said.split("[7/10]")[1]
    figures = read_json(folder / "metrics.json", dict)["metrics"]["overall"]["accuracy"]
    assert figures["value"] is None and figures["not_measured"].startswith(WHY)
    for page in ("REPORT.md", "report.html"):
        text = (folder / page).read_text(encoding="utf-8")
        assert "not measured" in text and WHY in text, page
        assert "were not trained on" not in text and "was not trained on" not in text
    assert "not measured" in list_experiments(folder.parent) and "not measured" in (folder.parent / "README.md").read_text()
    (event,) = RunLog(open_project(config).paths.log).events("result")
    assert event["not_measured"].startswith(WHY)


def test_a_report_later_says_so_although_the_adapters_are_gone(other_split, tmp_path):
    config, _, _ = other_split
    shutil.copytree(config.output_dir, tmp_path / "out")
    gone = config.replace(output_dir=str(tmp_path / "out"), start_from=str(tmp_path / "moved"))
    outcome, _ = said_by(report_only, gone)
    assert outcome.metrics.overall.accuracy.not_measured.startswith(WHY)


@pytest.mark.nightly
def test_what_is_not_measured_replaces_no_measured_submission(other_split, untrained, tmp_path):
    config, _, _ = other_split
    shutil.copytree(untrained[0].output_dir, tmp_path / "out")
    _, said = said_by(run, config.replace(output_dir=str(tmp_path / "out"), run_name="worse"))
    assert "submission_ensemble.csv is kept: it holds" in said and "the accuracy of the new answers is not measured" in said


@pytest.mark.nightly
def test_adapters_from_elsewhere_have_no_print(trained, adapters, tmp_path):
    (adapters / TRAINED_ON).unlink()
    outcome, _ = said_by(run, started(trained, adapters, tmp_path / "out", num_epochs=0))
    assert outcome.accuracy.not_measured == f"it is unknown what adapters was trained on, as it has no {TRAINED_ON}"


def test_a_print_travels_on(other_split, checkpoint):
    """Weights that started from others have learned from the rows of both."""
    first, then = (read_json(folder / TRAINED_ON, dict) for folder in (
        checkpoint, open_project(other_split[0]).paths.fold(0) / "best"))
    assert len(first["photographs"]) < len(then["photographs"]) and then["unknown"] == ""


# %% the key
def test_a_moved_folder_is_the_same_start_and_other_weights_are_refused(trained, adapters, other_split, tmp_path):
    shutil.copytree(other_split[0].output_dir, tmp_path / "out")
    moved = other_split[0].replace(output_dir=str(tmp_path / "out"), start_from=str(adapters))
    _, said = said_by(train_only, moved)
    assert "fold 0: already trained" in said
    shutil.rmtree(tmp_path / "out/checkpoints/on/fold0/best")
    (tmp_path / "out/experiments/on/tasks/train-fold-0.json").unlink()
    changed = load_file(adapters / "adapter_model.safetensors")
    save_file({name: value + 0.01 for name, value in changed.items()}, adapters / "adapter_model.safetensors")
    with pytest.raises(ConfigError, match=r"Fold 0 of the run 'on' started from weights other than those now in .*adapters"):
        train_only(moved)
    with pytest.raises(ConfigError, match="'on' started from other adapters, but would now continue from fresh ones"):
        train_only(moved.replace(start_from=""))
    with pytest.raises(ConfigError, match="belongs to the run itself"):
        train_only(moved.replace(start_from=str(tmp_path / "out/checkpoints/on/fold0")))


def test_a_fresh_run_does_not_go_on_from_adapters(copied, checkpoint):
    with pytest.raises(ConfigError, match="'r' started from fresh adapters, but would now continue from"):
        train_only(copied.replace(start_from=str(checkpoint)))


# %% refused
def refused(config: Config, message: str, kind: type[McvqaError] = ModelError) -> None:
    with pytest.raises(kind, match=message):
        train_only(config)
    assert not (Path(config.output_dir) / "experiments").exists(), "nothing is left of it"


@pytest.mark.parametrize(("changes", "message"), [
    ({"lora_r": 4}, r"have lora_r=8, the settings lora_r=4.*--set lora_r=8"),
    ({"lora_alpha": 32, "use_rslora": True}, r"lora_alpha=16, use_rslora=false.*--set lora_alpha=16 --set use_rslora=false"),
    ({"use_dora": True}, r"have use_dora=false, the settings use_dora=True"),
    ({"target_modules": ("q_proj", "v_proj")}, r"the settings put them on q_proj, v_proj\. --set target_modules=down_proj,gate"),
    ({"lora_vision": True}, r"--set lora_vision=false"),
])
def test_settings_that_adapters_do_not_have(trained, checkpoint, tmp_path, changes, message):
    refused(started(trained, checkpoint, tmp_path / "out", **changes), message)


def without_a_tensor(folder: Path) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors.pop(max(tensors))
    save_file(tensors, folder / "adapter_model.safetensors")


def of_another_shape(folder: Path) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file({name: value[..., :4].contiguous() for name, value in tensors.items()}, folder / "adapter_model.safetensors")


def with_facts(**facts):
    def change(folder: Path) -> None:
        write_json(folder / "adapter_config.json", read_json(folder / "adapter_config.json", dict) | facts)
    return change


def of_other_weights(folder: Path) -> None:
    write_json(folder / TRAINED_ON, read_json(folder / TRAINED_ON, dict) | {"base": {"model.safetensors": "0" * 64}})


def of_another_name(folder: Path) -> None:
    (folder / TRAINED_ON).unlink()
    with_facts(base_model_name_or_path="Qwen/Qwen3-VL-8B-Instruct")(folder)


@pytest.mark.parametrize(("damage", "message"), [
    (without_a_tensor, r"1 tensors differ, first .* missing instead of \(\d+, \d+\)"),
    (of_another_shape, "tensors differ, first"),
    (with_facts(peft_type="IA3"), "adapters of type IA3"), (with_facts(rank_pattern={"q_proj": 2}), "rank_pattern"),
    (of_other_weights, r"trained on other weights than those of model_id='tiny'"),
    (of_another_name, r"made for 'Qwen/Qwen3-VL-8B-Instruct', but model_id='tiny'"),
    (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"12345"), "cut off or damaged"),
])
def test_adapters_that_do_not_fit(trained, adapters, tmp_path, damage, message):
    damage(adapters)
    refused(started(trained, adapters, tmp_path / "out"), message)


@pytest.mark.parametrize(("files", "changes", "message"), [
    ([], {}, "holds no adapters .*Name an exported folder"),
    (["model.safetensors"], {}, "It is a whole model: set model_id to it"),
    (["adapter_config.json", "adapter_model.bin"], {}, r"has no adapter_model\.safetensors\. Other formats are not read"),
    (None, {}, "there is no such folder"), ([], {"lora_r": 0}, "lora_r=0 trains all weights: to continue"),
])
def test_folders_without_adapters(trained, tmp_path, files, changes, message):
    for name in files or ():
        (tmp_path / "given").mkdir(exist_ok=True)
        (tmp_path / "given" / name).write_text("{}")
    if files == []:
        (tmp_path / "given").mkdir()
    refused(started(trained, tmp_path / "given", tmp_path / "out", **changes), message, ConfigError)


# %% check
@pytest.mark.parametrize(("changes", "message", "ready"), [
    pytest.param({}, "fold 0 starts from", True, marks=pytest.mark.nightly),
    ({"seed": 3}, "not measured: " + WHY, True),
    pytest.param({"lora_r": 4}, "--set lora_r=8", False, marks=pytest.mark.nightly),
])
def test_the_pre_flight_says_what_is_started_from(trained, checkpoint, tmp_path, changes, message, ready):
    found, said = said_by(check_run, started(trained, checkpoint, tmp_path / "out", **changes))
    assert found == ready and message in said, said
