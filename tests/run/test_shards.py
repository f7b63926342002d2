"""The scoring of one fold in shards, by several workers: bit for bit the scores of one process."""
import itertools
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from mcvqa import run
from mcvqa.config import Config
from mcvqa.data.folds import FINAL
from mcvqa.model.device import plan_device
from mcvqa.run import shards
from mcvqa.run.dataset import read_data
from mcvqa.run.execution import prepare_model
from mcvqa.run.folds import split_rows
from mcvqa.run.project import open_project
from mcvqa.run.score import do_score, score_task
from mcvqa.run.shards import ROWS_OF_SHARD, Share, do_shards, n_shards
from mcvqa.run.tasks import Task
from tests.run.test_steps import said_by, short_run


# %% which
def of_test_rows(fold: int) -> Task:
    return Task("score", f"score fold {fold} test", "key", arguments=dict(fold=fold, split="test", sample=0))


@pytest.mark.parametrize(("folds", "workers", "wanted"), [
    (1, 2, [2]), (1, 1, [1]), (2, 2, [1, 1]), (5, 2, [1, 1, 1, 1, 2]), (5, 4, [1, 1, 1, 1, 4]), (3, 4, [2, 2, 2]),
    (5, 3, [1, 1, 1, 2, 2]),
])
def test_the_folds_of_the_last_round_are_divided_if_workers_have_no_fold(folds, workers, wanted):
    config, data = Config(n_folds=max(2, folds), train_folds=tuple(range(folds))), SimpleNamespace(test=[None] * 5000)
    assert [n_shards(config, data, of_test_rows(fold), workers) for fold in (*range(folds), FINAL)] == [*wanted, workers]


@pytest.mark.parametrize(("rows", "wanted"), [(2 * ROWS_OF_SHARD - 1, 1), (2 * ROWS_OF_SHARD, 2), (8 * ROWS_OF_SHARD, 4)])
def test_few_rows_are_not_worth_another_worker(rows, wanted):
    assert n_shards(Config(train_folds=(0,)), SimpleNamespace(test=[None] * rows), of_test_rows(0), 4) == wanted


def test_shares_hold_every_row_once_in_whole_passes():
    order = list(range(100, 123))
    shares = [Share(number, 3, 4)(order) for number in range(3)]
    assert sorted(itertools.chain(*shares)) == order
    assert shares[0][:8] == [100, 101, 102, 103, 112, 113, 114, 115]


# %% real runs
SCORES = ("experiments/r/scores/fold0-oof.npz", "experiments/r/scores/fold0-test.npz", "experiments/r/submission.csv")


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(shards, "ROWS_OF_SHARD", 3)


@pytest.mark.nightly
def test_two_workers_share_the_scoring_of_one_fold(dataset, tmp_path, small_shards):
    settings = dict(train_folds=(0,), num_epochs=1, use_tta=True, tta_orders=2, tta_scales=(1.0, 1.5), eval_batch_size=2)
    one = short_run(dataset, tmp_path / "one", executor="inline", **settings)
    two = short_run(dataset, tmp_path / "two", executor="processes", parallel_folds=2, **settings)
    run(one)
    said_by(run, two)
    for name in SCORES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    log = open_project(two).log
    done = [event["task"] for event in log.events("task")]
    whole = [f"score fold 0 {split}" for split in ("test", "oof")]
    assert {*done} >= {*whole, *(f"{name} {number} of 2" for name in whole for number in (1, 2))} and len({*done}) == len(done)
    assert not [*(tmp_path / "two" / "cache" / "scores").glob("*")], "nothing is left over"
    said = said_by(run, two)[1]
    assert "fold 0: already scored" in said and len(log.events("task")) == len(done), "nothing is done twice"
    assert "fold 0: already scored" in said_by(run, two.replace(executor="inline"))[1], "one process takes the scores as they are"


@pytest.mark.nightly
def test_a_shard_is_done_once_and_a_lost_or_damaged_one_again(dataset, tmp_path, monkeypatch):
    config = short_run(dataset, tmp_path, train_folds=(0,), num_epochs=1, eval_batch_size=2, executor="inline")
    run(config)
    project = open_project(config)
    data = split_rows(read_data(project), config)
    whole = score_task(project, data, config, 0, "test")
    before = (tmp_path / whole.makes[0]).read_bytes()
    (tmp_path / whole.makes[0]).unlink()
    monkeypatch.setattr(shards, "ROWS_OF_SHARD", 3)
    first, second, third, joined = shards.with_shards(project, data, [whole], 3, set())
    assert shards.with_shards(project, data, [whole], 3, {first.name, second.name, third.name})[0].needs == whole.needs
    scored: list[list[int]] = []
    monkeypatch.setattr(shards, "score_split", noting(scored, shards.score_split))
    project.records.forget(whole.name)
    with prepare_model(project, data, plan_device(config)) as execution:
        for task in (first, first, second):
            do_shards(execution.side, task)
        assert len(scored) == 2, "the second time it is there"
        files = sorted((tmp_path / "cache" / "scores").glob("*/*.npz"))
        files[0].write_bytes(files[0].read_bytes()[:100])
        do_shards(execution.side, joined)
    assert scored == [[0, 1, 6, 7], [2, 3, 8], [0, 1, 6, 7], [4, 5]], "damaged: again; never done: by the one who joins"
    assert (tmp_path / whole.makes[0]).read_bytes() == before and project.records.is_done(whole)


def noting(scored, score):
    """`score`, which notes the places of the nine test rows that it is asked for."""
    def noted(side, task, share):
        scored.append(share(list(range(9))))
        return score(side, task, share)

    return noted


@pytest.mark.nightly
def test_generated_answers_are_shared_too(dataset, tmp_path):
    config = short_run(dataset, tmp_path, train_folds=(0,), num_epochs=1, answer_by="generate", max_new_tokens=3, use_tta=False,
                       executor="inline")
    run(config)
    project = open_project(config)
    data = split_rows(read_data(project), config)
    task = score_task(project, data, config, 0, "oof")
    with prepare_model(project, data, plan_device(config)) as execution:
        execution.side.load()
        parts = [shards.score_split(execution.side, task, Share(number, 2, 4)) for number in range(2)]
        whole = shards.score_split(execution.side, task)
    joined = shards.joined_shards(parts)
    assert np.isnan(parts[0].logprobs).any() and joined.content == whole.content
    assert joined.provenance == whole.provenance
    assert sum(part.provenance["unread"] for part in parts) == whole.provenance["unread"]


@pytest.mark.nightly
def test_scores_do_not_depend_on_where_the_image_features_come_from(dataset, tmp_path):
    """They may be lost between training and scoring: photographs are encoded in the same batches again."""
    config = short_run(dataset, tmp_path, num_epochs=1, executor="inline")
    run(config)
    files = [tmp_path / f"experiments/r/scores/fold{fold}-oof.npz" for fold in (0, 1)]
    before = [file.read_bytes() for file in files]
    shutil.rmtree(tmp_path / "cache" / "features")
    for file in files:
        file.unlink()
    project = open_project(config)
    data = split_rows(read_data(project), config)
    with prepare_model(project, data, plan_device(config)) as execution:
        for fold in (0, 1):
            do_score(execution.side, score_task(project, data, config, fold, "oof"))
    assert [file.read_bytes() for file in files] == before
