"""Figures are drawn for real and looked into: no missing glyph, no lost picture."""
import dataclasses
import warnings

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from mcvqa.base.files import RunLog
from mcvqa.base.plots import new_figure, save_figure
from mcvqa.base.translation import translated_output
from mcvqa.base.uncertainty import Accuracy
from mcvqa.data.questions import Question
from mcvqa.report.figures import (
    draw_curves,
    draw_figures,
    draw_groups,
    draw_ladder,
    draw_letters,
    running_mean,
)
from mcvqa.report.metrics import measure
from mcvqa.scoring.scores import plain_scores
from tests.figure_words import untranslated, words_of_figures


@pytest.fixture(autouse=True)
def every_warning_is_a_failure():
    """A missing glyph, a layout that does not fit, a legend of nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def pixels(figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3]


def written_log(path) -> RunLog:
    log = RunLog(path)
    for fold in range(2):
        for step in range(30):
            log.write("step", fold=fold, step=step)  # an edited line, without what is drawn
            log.write("step", fold=fold, step=step, loss=None if step == 3 else 1 / (step + 1), lr=1e-4)
        for variant in ("raw", "ema"):
            log.write("epoch", fold=fold, epoch=0, variant=variant, accuracy=0.7, standard_error=0.02, n=500, nll=0.6)
    return log


def test_every_figure_is_a_picture(metrics, tmp_path) -> None:
    paths = draw_figures(metrics, written_log(tmp_path / "log.jsonl"), tmp_path / "figures")
    assert set(paths) == {"groups", "confusion", "reliability", "letters", "curves", "gains"}
    for path in paths.values():
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 200
            assert np.asarray(picture.convert("L")).std() > 5  # something is drawn


def test_every_word_of_every_figure_is_translated(metrics, tmp_path) -> None:
    rungs = {"zero-shot": Accuracy(1, 9), "single fold": Accuracy(2, 9), "3 folds": Accuracy(2, 9), "+ ensemble": Accuracy(3, 9)}
    with words_of_figures() as words:
        draw_figures(metrics, written_log(tmp_path / "log.jsonl"), tmp_path / "figures")
        save_figure(draw_ladder(rungs, Accuracy(1, 9)), tmp_path / "ladder.png")
    assert {"training loss", "accuracy, 95% interval", "text only, no image", "order 2", "3 folds"} <= words
    assert not untranslated(words) - {"nothing"}, "but for a technique of the test"


def test_figures_are_korean_where_the_run_is_and_there_is_a_font(tmp_path, monkeypatch) -> None:
    def title() -> str:
        figure, axes = new_figure()
        axes.set(title="training loss")
        save_figure(figure, tmp_path / "x.png")
        return str(axes.get_title(loc="left"))

    with translated_output("ko"):
        assert title() == "학습 손실"
        monkeypatch.setattr("mcvqa.base.plots.KOREAN_FONTS", ())
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        assert title() == "training loss", "no font would show boxes"
    assert title() == "training loss"


def test_what_was_not_measured_is_not_drawn(metrics, tmp_path) -> None:
    bare = dataclasses.replace(metrics, gains={})
    paths = draw_figures(bare, RunLog(tmp_path / "none.jsonl"), tmp_path)
    assert set(paths) == {"groups", "confusion", "reliability", "letters"}


def test_the_ladder_has_a_rung_for_each_accuracy(tmp_path) -> None:
    rungs = {"zero-shot": Accuracy(5, 10), "+ 앙상블": Accuracy(9, 10)}
    figure = draw_ladder(rungs, Accuracy(3, 10))
    axes = figure.axes[0]
    FigureCanvasAgg(figure).draw()
    assert [label.get_text() for label in axes.get_yticklabels()] == list(rungs)
    assert {text.get_text() for text in axes.texts} == {"0.500", "0.900"}


@pytest.mark.nightly
def test_twenty_six_letters_in_one_order_can_be_drawn(tmp_path) -> None:
    rng = np.random.default_rng(0)
    questions = [Question(str(i), "", "?", tuple(map(str, range(26))), i % 26) for i in range(60)]
    scores = plain_scores(np.array([q.id for q in questions]), rng.normal(size=(60, 26)), np.full(60, 26), {})
    found = measure(questions, scores, np.zeros(60))
    pixels(draw_letters(found.letters))
    assert len(draw_figures(found, RunLog(tmp_path / "none.jsonl"), tmp_path)) == 4


def test_group_names_and_sizes_stand_on_the_axis(metrics) -> None:
    labels = [label.get_text() for label in draw_groups(metrics).axes[0].get_yticklabels()]
    assert labels[0] == "all  (n=120)"
    assert len(labels) == 1 + len(metrics.by_fold) + len(metrics.by_kind) + len(metrics.by_choices)
    sources = tuple(dataclasses.replace(metrics.overall, name=f"from {source}") for source in ("train", "dev"))
    two = dataclasses.replace(metrics, by_source=sources)
    named = [label.get_text() for label in draw_groups(two).axes[0].get_yticklabels()]
    assert len(named) == len(labels) + 2 and "from dev  (n=120)" in named


def test_a_step_logged_again_after_a_resume_counts_once() -> None:
    step = dict(fold=0, epoch=0, lr=1e-4)
    steps = [dict(step, step=0, loss=9.0), dict(step, step=1, loss=2.0), dict(step, step=0, loss=1.0)]
    raw = draw_curves(steps, []).axes[0].lines[0]
    assert raw.get_xdata().tolist() == [0, 1]
    assert raw.get_ydata().tolist() == [1.0, 2.0]


def test_the_first_epoch_is_drawn_as_one() -> None:
    steps = [dict(fold=0, step=0, loss=1.0, lr=1e-4)]
    epochs = [dict(fold=0, epoch=e, variant="ema", accuracy=0.5, standard_error=0.1) for e in range(2)]
    accuracy = draw_curves(steps, epochs).axes[2]
    assert accuracy.get_xticks().tolist() == [1, 2]
    assert accuracy.lines[0].get_xdata().tolist() == [1, 2]


def test_running_mean_passes_over_skipped_steps() -> None:
    found = running_mean(np.array([1.0, np.nan, 3.0, 5.0]), 2)
    np.testing.assert_allclose(found, [1.0, 1.0, 3.0, 4.0])
    assert np.isnan(running_mean(np.array([np.nan]), 3)).all()
