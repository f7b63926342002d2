"""Each piece of advice comes when a run showed its reason, and not without it; what it names exists."""
import dataclasses
import re

import pytest

from mcvqa.base.files import RunLog
from mcvqa.base.uncertainty import Gain
from mcvqa.config import PRESETS, Config, parse_changes
from mcvqa.report.advice import LearningCurves, choose_advice, read_learning_curves
from mcvqa.report.metrics import Selection
from mcvqa.report.page import report_sections
from tests.report.test_page import report_input

DONE = dict(use_sample=False, use_kfold=True, num_epochs=3)
FLAT = LearningCurves(((0.50, 0.40, 0.40),), 0.35, memory_bound=False)
BETTER, WORSE, NOTHING = (Gain(v, 0.01, v - 0.02, v + 0.02, 100, p) for v, p in ((0.05, 0.001), (-0.05, 0.001), (0.0, 1.0)))


@pytest.fixture
def calm(metrics):
    """Metrics that call for nothing."""
    letters = dataclasses.replace(metrics.letters, p_value=0.5)
    return dataclasses.replace(metrics, over_blind=BETTER, gains={"EMA": NOTHING}, letters=letters)


def advised(metrics, course=FLAT, seconds=60.0, **settings) -> str:
    found = choose_advice(metrics, Config(**DONE | settings).as_dict(), course, seconds)
    for advice in found:
        english, korean = (re.findall(r"`([^`]+)`", text) for text in (advice.english, advice.korean))
        assert sorted(english) == sorted(korean) and re.search("[가-힣]", advice.korean)
        for name in english:
            assert name in PRESETS or Config().replace(**parse_changes([name]))
    return "\n".join(advice.english for advice in found)


def test_a_run_that_shows_nothing_gets_the_last_advice(calm):
    assert advised(calm).startswith("Further options: larger images") and advised(calm).count("\n") == 0


@pytest.mark.parametrize(("settings", "message"), [
    (dict(use_sample=True, use_kfold=False), "sample of 200 rows was used. To use all rows: preset `single`"),
    (dict(use_kfold=False), "preset `ensemble`"),
    (dict(model_id="weights/tiny"), "model tiny, which only knows drawn shapes"),
    (dict(num_epochs=1), "`num_epochs=3` to 5"),
])
def test_settings_that_ask_for_more(calm, settings, message):
    assert message in advised(calm, **settings) and advised(calm, **settings).count("\n") == 0


@pytest.mark.parametrize(("course", "message"), [
    (LearningCurves(((0.9, 0.6, 0.5), (0.9, 0.6, 0.5)), 0.5, False), "was still falling in the last epoch: try `num_epochs=5`"),
    (LearningCurves(((0.9, 0.6, 0.7),), 0.1, False),
     "(0.10) is far below the validation loss. Try `num_epochs=2` or `lora_dropout=0.1`"),
    (LearningCurves(((0.9, 0.6, 0.5), (0.9, 0.6, 0.6)), 0.5, False), "Further options"),
    (LearningCurves((), float("nan"), True), "Only one row at a time fits into GPU memory"),
])
def test_what_training_showed(calm, course, message):
    assert message in advised(calm, course)


def test_what_was_measured(calm):
    assert "photographs add nothing significant" in advised(dataclasses.replace(calm, over_blind=NOTHING))
    assert "Further options" in advised(dataclasses.replace(calm, over_blind=None))
    gains = advised(dataclasses.replace(calm, gains={"EMA": BETTER, "TTA scales": WORSE, "ensemble": WORSE}))
    assert "EMA helped (+5.0 [+3.0, +7.0] points): keep it." in gains and "(`tta_scales=1.0`)" in gains
    assert "ensemble hurt (-5.0 [-7.0, -3.0] points): turn it off." in gains
    use = dataclasses.replace(calm.letters.overall, distance=0.2)
    biased = dataclasses.replace(calm, letters=dataclasses.replace(calm.letters, overall=use, p_value=0.01))
    assert "`use_tta=true`" in advised(biased) and "`train_orders=2`" in advised(biased, use_tta=True)


def test_worse_than_the_texts_is_said_as_that(calm):
    said = advised(dataclasses.replace(calm, over_blind=WORSE))
    assert "significantly worse than the texts alone (-5.0 [-7.0, -3.0] points)" in said and "add nothing" not in said
    for cause in (f"`learning_rate={Config().learning_rate / 5:.1g}`", "collapse to one letter", "too few rows"):
        assert cause in said


def letters_said(metrics, predicted, truth, p_value=0.001):
    use = dataclasses.replace(metrics.letters.overall, predicted=predicted, truth=truth, distance=0.7)
    return dataclasses.replace(metrics, letters=dataclasses.replace(metrics.letters, overall=use, p_value=p_value))


def test_after_a_collapse_the_first_advice_is_about_it(calm):
    collapsed = letters_said(calm, (0.02, 0.97, 0.01, 0.0), (0.26, 0.24, 0.25, 0.25))
    said = advised(dataclasses.replace(collapsed, over_blind=WORSE), model_id="weights/tiny", use_sample=True)
    assert said.startswith("The model collapsed: 97% of its answers are (b), which is right in 24% of the rows.")
    assert "too often" not in said  # the collapse says it
    one_sided = letters_said(calm, (0.95, 0.05), (0.9, 0.1))  # as the answers are
    assert "collapsed" not in advised(one_sided) and "collapsed" not in advised(calm)


def test_the_luck_of_the_best_epoch_is_stated(calm):
    said = advised(dataclasses.replace(calm, selection=Selection(5, 0.022)))
    assert "The best of 5 epochs" in said and "about 2.2 points too high" in said and "`keep=last`" in said
    assert "best of" not in advised(dataclasses.replace(calm, selection=Selection(5, 0.001)))


def test_a_slow_run(calm):
    assert "The run took 7 hours. To speed it up: `image_size=256`" in advised(calm, seconds=7 * 3600)
    assert "`use_tta=false`" in advised(calm, seconds=7 * 3600, use_tta=True)


def test_the_log_is_read_as_it_is_written(tmp_path):
    log = RunLog(tmp_path / "log.jsonl")
    for epoch, loss in ((0, 0.9), (0, 0.8), (1, 0.5)):
        log.write("epoch", fold=0, epoch=epoch, nll=loss, chosen=True)
        log.write("epoch", fold=0, epoch=epoch, nll=9.0, chosen=False)
        log.write("step", fold=0, epoch=epoch, loss=loss)
    log.write("step", fold=0, epoch=1, loss=None)
    log.write("memory", fold=0, tried=[{"rows": 1}])
    for event in ("epoch", "step", "memory"):
        log.write(event, fold=0)  # an edited line, without what is read from it
    assert read_learning_curves(log) == LearningCurves(((0.8, 0.5),), 0.5, True)


def test_the_report_ends_with_it(metrics, tmp_path):
    found = choose_advice(metrics, Config().as_dict(), FLAT, 0)
    sections = report_sections(dataclasses.replace(report_input(metrics, tmp_path), advice=found))
    (section,) = [s for s in sections if s.title == "What to try next"]
    assert section.blocks[0].rows == tuple((advice.english,) for advice in found)
