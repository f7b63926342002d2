"""A trained run answers new questions: with its own scores for its own rows, and with one clear line for what it cannot."""
import csv
import dataclasses
import doctest
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mcvqa import Answerer
from mcvqa.answer import answerer as module
from mcvqa.answer.asked import asked_question, read_asked
from mcvqa.answer.trained import TrainedRun
from mcvqa.base.files import read_json, write_json
from mcvqa.config import ConfigError
from mcvqa.data.images import ImageError
from mcvqa.data.table import DataError
from mcvqa.run.paths import RunPaths
from mcvqa.run.project import RunStopped
from mcvqa.run.single import combine_only
from mcvqa.scoring.scores import load_scores
from mcvqa.training.checkpoint import CheckpointError
from tests.answer.conftest import files_of_run
from tests.faults import read_only, small_disk

CHOICES = ["red", "green", "blue", "yellow"]


def own_scores(config, fold=0):
    return load_scores(RunPaths(Path(config.output_dir), config.run).scores / f"fold{fold}-test.npz")


def predictions_of(config, split="test"):
    file = RunPaths(Path(config.output_dir), config.run).experiment / f"{split}_predictions.csv"
    with open(file, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


# %% the run's own rows
def test_the_same_rows_get_the_scores_of_the_run(copied, dataset):
    """To the last bit on this machine, also with image features computed anew, before adapters are in place and after, and
    nothing of the run is changed."""
    shutil.rmtree(Path(copied.output_dir) / "cache")
    before, answerer = files_of_run(copied), Answerer(copied)
    asked = read_asked(dataset / "test.csv", copied, answerer.trained.cache)
    (found,) = answerer.scores(asked)
    own = own_scores(copied)
    known = np.isfinite(own.logprobs)
    assert found.ids.tolist() == own.ids.tolist() and (found.orders == own.orders).all()
    assert abs(found.logprobs[known] - own.logprobs[known]).max() <= 1e-6
    shutil.rmtree(Path(copied.output_dir) / "cache")
    (again,) = answerer.scores(asked)
    assert np.array_equal(again.logprobs, found.logprobs)
    assert files_of_run(copied) == before


def test_every_run_leaves_its_predictions(trained, answerer):
    own, written = own_scores(trained), predictions_of(trained)
    assert [row["id"] for row in written] == own.ids.tolist()
    shares = [[float(row[f"prob_{letter}"] or 0) for letter in "abcd"] for row in written]
    assert np.allclose(shares, np.exp(own.mean()), atol=1e-6)
    assert ["abcd"[i] for i in own.predictions()] == [row["answer"] for row in written]
    oof = predictions_of(trained, "oof")
    assert len(oof) == 12 and {row["fold"] for row in oof} == {"0"} and {row["truth"] for row in oof} <= set("abcd")
    assert answerer.trained.style == "lower"


def test_a_table_in_memory_is_answered_as_its_file(trained, answerer, dataset):
    frame = pd.read_csv(dataset / "test.csv")
    frame["path"] = [str(dataset / path) for path in frame["path"]]
    frame.loc[0, "path"] = "nowhere.jpg"
    answers = answerer.answer_all(frame)
    assert [answer.id for answer in answers] == frame["id"].tolist()
    assert answers[0].problem == "no such file" and not any(answer.problem for answer in answers[1:])
    written = predictions_of(trained)
    for answer, row in list(zip(answers, written, strict=True))[1:]:
        shares = [float(row[f"prob_{letter}"]) for letter in "abcd" if row[f"prob_{letter}"]]
        assert answer.letter == row["answer"] and np.allclose(answer.probabilities, shares, atol=1e-6)


# %% a question at a time
def test_a_photograph_may_be_a_path_bytes_or_a_picture(answerer, dataset, tmp_path):
    """Of a phone's file, turned by its metadata, all three are the same upright picture."""
    exif = Image.Exif()
    exif[274] = 6
    file = tmp_path / "phone.png"
    Image.open(dataset / "test/test_0001.jpg").save(file, exif=exif)
    given = (file, str(file), file.read_bytes(), Image.open(file))
    answers = answerer.answer_all([(image, "What color is it?", CHOICES) for image in given])
    assert len(set(answers)) == 1 and answers[0].choice == CHOICES["abcd".index(answers[0].letter)]
    assert sum(answers[0].probabilities) == pytest.approx(1)


def test_several_questions_and_numbers_of_choices_at_once(answerer, dataset):
    photograph = dataset / "test/test_0000.jpg"
    rows = [(photograph, "What color?", CHOICES), {"image": photograph, "question": "Red?", "choices": ["yes", "no"], "id": "x"}]
    four, two = answerer.answer_all(rows)
    assert (len(four.probabilities), len(two.probabilities), two.id) == (4, 2, "x")
    alone = answerer.answer(photograph, "Red?", ["yes", "no"])
    assert np.allclose(alone.probabilities, two.probabilities, atol=1e-6), "whatever is asked beside it"
    assert answerer.answer_all([]) == []


def test_the_example_of_the_docstring_works(trained, dataset, capsys):
    names = {"run": trained, "photograph": reddest(dataset), "Answerer": Answerer}
    found = doctest.DocTestFinder(recurse=False).find(module.Answerer, "Answerer", globs=names)
    runner = doctest.DocTestRunner()
    assert [runner.run(test) for test in found] and runner.tries == 3 and not runner.failures, capsys.readouterr().out


def reddest(dataset: Path) -> Path:
    def redness(file: Path) -> float:
        red, green, blue = np.asarray(Image.open(file).convert("RGB"), float).mean((0, 1))
        return red - max(green, blue)

    return max(sorted((dataset / "train").glob("*.jpg")), key=redness)


@pytest.mark.nightly
def test_all_folds_are_asked_or_one(old):
    photograph = Path(old.data_dir) / "test/test_0000.jpg"
    both, second = Answerer(old), Answerer(old, fold=1)
    assert (both.trained.folds, second.trained.folds) == ((0, 1), (1,))
    shares = np.array(both.answer(photograph, "?", CHOICES).probabilities)
    each = [np.exp(both.fold_scores(fold, [asked_question("?", CHOICES, str(photograph))], "").mean()[0]) for fold in (0, 1)]
    assert np.allclose(shares, np.mean(each, axis=0), atol=1e-7) and not np.allclose(*each, atol=1e-4)
    assert np.allclose(second.answer(photograph, "?", CHOICES).probabilities, each[1], atol=1e-7)


def test_a_run_of_0_1_answers_and_is_marked(old):
    answerer = Answerer(old)
    assert answerer.trained.unverified == (0, 1)
    asked = read_asked(Path(old.data_dir) / "test.csv", old, answerer.trained.cache)
    for fold, found in zip((0, 1), answerer.scores(asked), strict=True):
        own = own_scores(old, fold)
        known = own.logprobs > -100
        assert abs(found.logprobs[known] - own.logprobs[known]).max() < 5e-3, "the same model with other versions of torch"
    assert not (Path(old.output_dir) / "experiments/old/tasks").exists(), "nothing is recorded"


@pytest.mark.nightly
def test_a_run_that_is_attached_read_only_answers(copied, dataset, tmp_path, monkeypatch):
    """As on Kaggle: what is kept goes to cache/ of the current folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with read_only(Path(copied.output_dir)):
        assert Answerer(copied).answer(dataset / "test/test_0000.jpg", "?", CHOICES).letter in "abcd"
    assert list(Path("cache/features").rglob("*.npy"))


@pytest.mark.nightly
def test_settings_that_scoring_reads_may_be_changed(trained, dataset):
    once = Answerer(trained, use_tta=False)
    (scores,) = once.scores(read_asked(dataset / "test.csv", trained, once.trained.cache))
    own = own_scores(trained)
    known = np.isfinite(scores.logprobs[:, 0])
    assert scores.logprobs.shape[1] == 1 and np.allclose(scores.logprobs[:, 0][known], own.logprobs[:, 0][known], atol=1e-6)


# %% refused in one line
@pytest.mark.parametrize(("choices", "message"), [
    (["red"], "2 to 26 choices, not 1"), ([], "not 0"), (["x"] * 27, "not 27"), ("red", "one text"), (["red", " "], "b is empty"),
    (["red", None], "b is empty"), (["red", float("nan")], "b is empty"), ({"a": "red", "b": "blue"}, "a dict; a list of texts"),
    ({"red", "blue"}, "a set; a list of texts"),
])
def test_wrong_choices(answerer, dataset, choices, message):
    with pytest.raises(DataError, match=message):
        answerer.answer(dataset / "test/test_0000.jpg", "?", choices)


@pytest.mark.parametrize("rows", [("photo.jpg", "?", CHOICES), [("photo.jpg", "?")], [{"image": "photo.jpg", "question": "?"}]])
def test_rows_of_another_shape(answerer, rows):
    with pytest.raises(DataError, match="A row to be answered is"):
        answerer.answer_all(rows)


def test_a_question_that_is_no_text(answerer, dataset):
    with pytest.raises(DataError, match="The question is a NoneType"):
        answerer.answer(dataset / "test/test_0000.jpg", None, CHOICES)


@pytest.mark.parametrize(("image", "message"), [
    ("nowhere.jpg", "no such file"), (b"no picture at all", "a text, not a picture"), (b"", "empty file"), (7, "a path, bytes"),
    ("https://a.org/1.jpg", "^https://a.org/1.jpg: a web address"),
])
def test_photographs_that_cannot_be_read(answerer, image, message):
    with pytest.raises((ImageError, DataError), match=message):
        answerer.answer(image, "?", CHOICES)


def test_a_run_that_is_not_there(trained):
    with pytest.raises(ConfigError, match="There is no run 'other'"):
        Answerer("other", output_dir=trained.output_dir)
    with pytest.raises(ConfigError, match="There is no run 'other'"):
        Answerer(trained.replace(run_name="other"))


def test_other_settings_than_it_was_trained_with(trained):
    with pytest.raises(ConfigError, match=r"trained with other settings:\n  image_size: was 56, now 84"):
        Answerer(trained, image_size=84)


def test_a_fold_that_is_not_trained(copied):
    with pytest.raises(RunStopped, match="no fold 3"):
        Answerer(copied, fold=3)
    record = RunPaths(Path(copied.output_dir), "r").experiment / "tasks/train-fold-0.json"
    write_json(record, {name: value for name, value in read_json(record).items() if name != "finished"})
    with pytest.raises(RunStopped, match="The run 'r' lacks fold 0: finish it"):
        Answerer(copied)


def test_weights_that_are_damaged_or_exchanged(copied, old):
    folder = RunPaths(Path(copied.output_dir), "r").fold(0) / "best"
    other = RunPaths(Path(old.output_dir), "old").fold(0) / "best"
    (folder / "adapter_model.safetensors").write_bytes(b"half")
    with pytest.raises(CheckpointError, match="is damaged or missing"):
        Answerer(copied)
    shutil.rmtree(folder)
    shutil.copytree(other, folder)
    with pytest.raises(CheckpointError, match="does not hold the weights that were recorded"):
        Answerer(copied)


def test_a_base_model_of_other_files(copied, tmp_path):
    shutil.copytree(Path(module.__file__).parents[1] / "tiny", tmp_path / "model")
    assert Answerer(copied, model_id=str(tmp_path / "model")).trained.folds == (0,), "the same files elsewhere"
    (tmp_path / "model/tokenizer_config.json").write_text("{}")
    with pytest.raises(RunStopped, match=r"tokenizer_config\.json has changed"):
        Answerer(copied, model_id=str(tmp_path / "model"))


@pytest.mark.nightly
def test_without_room_for_image_features_it_answers_too(trained, dataset, tmp_path, capsys):
    """They are computed anew then, and the scores are the same."""
    answerer = Answerer(trained.replace(use_tta=False))
    small = tmp_path / "small"
    with small_disk(small, "16k"):
        answerer.trained = answerer.models.trained = with_cache_in(answerer.trained, small)
        (found,) = answerer.scores(read_asked(dataset / "test.csv", trained, tmp_path))
    assert "image features are not cached" in capsys.readouterr().out
    own = own_scores(trained)
    known = np.isfinite(found.logprobs[:, 0])
    assert np.allclose(found.logprobs[:, 0][known], own.logprobs[:, 0][known], atol=1e-5)


def with_cache_in(trained: TrainedRun, folder: Path) -> TrainedRun:
    config = trained.project.config.replace(output_dir=str(folder))
    return dataclasses.replace(trained, project=dataclasses.replace(trained.project, config=config))


@pytest.mark.nightly
def test_the_predictions_of_a_run_elsewhere_join_an_ensemble(copied, tmp_path):
    """By its two files alone, and judged on the rows that it has not learned from."""
    (tmp_path / "elsewhere").mkdir()
    for split in ("oof", "test"):
        file = Path(copied.output_dir) / f"experiments/r/{split}_predictions.csv"
        shutil.copy(file, tmp_path / "elsewhere" / file.name)
    combined = combine_only(copied.replace(members=(str(tmp_path / "elsewhere/test_predictions.csv"),)))
    assert combined.names == "r, elsewhere" and set(combined.blend.alone) == {"r", "elsewhere"}
    assert combined.blend.alone["elsewhere"] == combined.blend.alone["r"] and len(combined.blend.oof_ids) == 12
