"""A row that is too long for the model is refused before anything is trained: by `check` and by a run, in the same words."""
import csv
import dataclasses
from pathlib import Path

import pytest

from mcvqa import run
from mcvqa.config import Config
from mcvqa.model.device import plan_device
from mcvqa.model.load import load_encoder
from mcvqa.model.size import choose_weights, measure_model
from mcvqa.run.alignment import maker_without_weights
from mcvqa.run.check import check_run
from mcvqa.run.dataset import RunData, read_data
from mcvqa.run.lengths import length_problems
from mcvqa.run.project import RunStopped, open_project
from tests.conftest import make_dataset, tiny_settings
from tests.model.other_families import save_family


def with_long_row(data: Path, split: str, words: int, rows: int = 1) -> Path:
    """The data with so many words in the questions of rows from the sixth on."""
    table = data / f"{split}.csv"
    with open(table, encoding="utf-8", newline="") as handle:
        records = list(csv.DictReader(handle))
    for record in records[5 : 5 + rows]:
        record["question"] = "무엇 " * words
    with open(table, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(records[0]))
        writer.writeheader()
        writer.writerows(records)
    return data


def problems(config: Config, data: RunData, memory: int = 0) -> tuple[str, str]:
    loaded = load_encoder(config)
    plan = dataclasses.replace(choose_weights(config, plan_device(config), loaded[-1]), memory=memory)
    size = measure_model(loaded[-1], config)
    return length_problems(maker_without_weights(config, data, *loaded), config, data, plan, loaded[-1], size)


@pytest.fixture
def config(tmp_path) -> Config:
    return tiny_settings(tmp_path / "out", data_dir=str(make_dataset(tmp_path / "data")), n_folds=2, run_name="r")


def test_check_and_run_refuse_it_in_the_same_words(config, capsys):
    with_long_row(Path(config.data_dir), "train", 5000)
    assert not check_run(config)
    said = capsys.readouterr().out
    with pytest.raises(RunStopped, match=r"'train_0005' has 5,\d{3} tokens; qwen2_5_vl reads at most 4,096\. ") as stopped:
        run(config)
    assert f"! {stopped.value}" in said
    assert not Path(config.output_dir, "checkpoints").exists()


def test_any_number_of_such_rows(config):
    with_long_row(Path(config.data_dir), "train", 5000, rows=19)
    refused, _ = problems(config, read_data(open_project(config)))
    assert "(18 more are too long)" in refused
    plain = config.replace(model_id=str(save_family("idefics3", Path(config.output_dir) / "model")))
    refused, _ = problems(plain, read_data(open_project(plain)))
    assert "tokens; idefics3 reads at most 2,048 (18 more are too long)" in refused, "so it is with any other model"


@pytest.mark.nightly
def test_a_test_row_is_answered_all_the_same_and_named(config, capsys):
    with_long_row(Path(config.data_dir), "test", 4200)
    assert check_run(config)
    said = capsys.readouterr().out
    assert "! The test row 'test_0005' has 4," in said and "ready; check the lines marked with ! first" in said
    outcome = run(config.replace(n_folds=2, train_folds=(0,)))
    assert outcome.submission is not None and "The test row 'test_0005' has 4," in capsys.readouterr().out


def test_a_row_that_fills_the_memory(config):
    """The estimate speaks of the row only where other rows fit."""
    with_long_row(Path(config.data_dir), "train", 3000)
    data = read_data(open_project(config))
    assert problems(config, data) == ("", "")
    refused, _ = problems(config, data, memory=200 * 2**20)
    assert "'train_0005' has 3," in refused and "0.2 GiB of memory hold at most" in refused
    assert problems(config, data, memory=2**20) == ("", ""), "no row fits: the lines on memory say it"


def test_a_photograph_counts_by_its_positions(config):
    """A large one has more tokens than the model has positions, and fits."""
    large = config.replace(image_size=1904)
    assert problems(large, read_data(open_project(large))) == ("", "")
