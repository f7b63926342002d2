"""average=auto: one kind of weights for all folds, by the log-loss of their validation rows."""
import shutil
from pathlib import Path

import numpy as np
import pytest

from mcvqa import run
from mcvqa.answer.trained import find_trained
from mcvqa.base.uncertainty import selection_optimism
from mcvqa.config import Config, ConfigError
from mcvqa.run.averages import average_task, recorded_average
from mcvqa.run.project import RunStopped, open_project
from mcvqa.run.single import combine_only, predict_only, train_only
from mcvqa.scoring.scores import joined, load_scores, log_softmax
from mcvqa.training.checkpoint import adapter_hash
from tests.conftest import make_dataset, other_weights, tiny_settings


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Config:
    """A finished run of two folds, whose EMA is nearly the untrained model: the weights of the last step are better."""
    top = tmp_path_factory.mktemp("averages")
    config = tiny_settings(
        top, data_dir=str(make_dataset(top / "data")), n_folds=2, num_epochs=2, run_name="r", keep="last", average="auto",
        use_swa=True, swa_start_epoch=0.0, final_fit=True)
    run(config)
    return config


def validated(config: Config, kind: str) -> dict[str, float]:
    """Id -> log-probability of the answer by one kind of weights."""
    folder = Path(config.output_dir) / "experiments/r/scores"
    scores = joined([load_scores(folder / f"fold{fold}-{kind}.npz") for fold in (0, 1)])
    truth = {}
    for line in (Path(config.data_dir) / "train.csv").read_text(encoding="utf-8").splitlines()[1:]:
        name, *_, answer = line.split(",")
        truth[name] = "abcd".index(answer)
    means = log_softmax(scores.mean())
    return {name: float(means[i, truth[name]]) for i, name in enumerate(scores.ids.tolist())}


def test_the_kind_with_the_lowest_pooled_log_loss_scores_every_fold(finished):
    losses = {kind: -np.mean(list(validated(finished, kind).values())) for kind in ("raw", "ema", "swa")}
    choice = recorded_average(open_project(finished))
    assert choice.losses == pytest.approx(losses, rel=1e-5) and choice.kind == min(losses, key=losses.get) != "swa"
    for fold in (0, 1, "final"):
        folder = Path(finished.output_dir) / f"checkpoints/r/{'final' if fold == 'final' else f'fold{fold}'}/{choice.kind}"
        file = "final-test.npz" if fold == "final" else f"fold{fold}-test.npz"
        scored = load_scores(Path(finished.output_dir) / "experiments/r/scores" / file)
        assert scored.provenance["adapter"] == adapter_hash(folder)
    trained = find_trained(finished)
    assert {trained.weights(fold).name for fold in trained.folds} == {choice.kind}


def test_the_report_says_which_and_how_much_choosing_adds(finished):
    page = (Path(finished.output_dir) / "experiments/r/report.html").read_text(encoding="utf-8")
    kind = recorded_average(open_project(finished)).kind
    assert f"Weights: {kind} for all folds" in page and f"모든 폴드에 {kind}, OOF 로그 손실" in page


def test_which_weights_score_changes_no_training(finished, tmp_path):
    config = finished.replace(output_dir=str(shutil.copytree(finished.output_dir, tmp_path / "out")))
    weights = Path(config.output_dir) / "checkpoints/r/fold0/result.json"
    before = weights.stat().st_mtime_ns
    run(config.replace(average="as_set"))
    assert weights.stat().st_mtime_ns == before
    scored = load_scores(Path(config.output_dir) / "experiments/r/scores/fold0-test.npz")
    assert scored.provenance["adapter"] == adapter_hash(weights.parent / "last")


def test_it_is_chosen_anew_when_the_folds_have_other_weights(finished, tmp_path):
    config = finished.replace(output_dir=str(shutil.copytree(finished.output_dir, tmp_path / "out")), learning_rate=3e-3)
    shutil.rmtree(open_project(finished.replace(output_dir=config.output_dir)).paths.checkpoints)
    run(config.replace(average="as_set"))
    project = open_project(config)
    assert not project.records.is_done(average_task(project))
    run(config)
    assert project.records.is_done(average_task(project))
    scored = load_scores(Path(config.output_dir) / "experiments/r/scores/fold0-test.npz")
    assert scored.provenance["adapter"] == adapter_hash(project.weights(0))


@pytest.mark.nightly
def test_answers_wait_for_a_new_choice_when_a_fold_was_trained_again(finished, tmp_path):
    """The choice between the weights of the earlier fold went on naming the folder that answered."""
    config = finished.replace(output_dir=str(shutil.copytree(finished.output_dir, tmp_path / "out")), final_fit=False)
    project = open_project(config)
    shutil.rmtree(project.paths.fold(1))
    with other_weights():
        train_only(config, 1)
    with pytest.raises(RunStopped, match="trained since its weights were chosen"):
        find_trained(config)
    with pytest.raises(RunStopped, match="was scored with weights other than the current ones"):
        combine_only(config)
    predict_only(config)
    assert project.records.is_done(average_task(project))
    assert {find_trained(config).weights(fold) for fold in (0, 1)} == {project.weights(fold) for fold in (0, 1)}


def test_what_cannot_be_compared_is_refused():
    for changes in ({"keep": "best"}, {"keep": "last", "time_budget": "1h"}):
        with pytest.raises(ConfigError, match="set keep=last and leave time_budget empty"):
            Config(average="auto", **changes)


def test_the_optimism_is_that_of_the_choice_by_log_loss():
    random = np.random.default_rng(0)
    chance = random.random((3, 200)) < 0.6
    by_luck = selection_optimism(chance, gains=np.log(np.where(chance, 0.9, 0.1)))
    fixed = selection_optimism(chance, gains=np.stack([np.zeros(200), -np.ones(200), -np.ones(200)]))
    assert by_luck > 0.005 and fixed < by_luck
