"""The page of a search: what was found, figures, ties; whatever text the space has in it."""
import re

import numpy as np
import pytest

from mcvqa.base.files import read_json
from mcvqa.config import load_config
from mcvqa.run.project import RunStopped
from mcvqa.search.figures import draw_search
from mcvqa.search.judge import Judgement
from mcvqa.search.page import importances_of, write_search_page
from mcvqa.search.results import Confirmed, SearchOutcome, TrialResult, outcome_lines, write_outcome
from mcvqa.search.study import SearchPlan
from tests.conftest import tiny_settings
from tests.figure_words import untranslated, words_of_figures

HOSTILE = ("<script>alert(1)</script>", "$\\frac{", "{letters} \x1b[31m\u202e", "한국어" * 20)
SPACE = {
    "learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}, "num_epochs": {"low": 1, "high": 4},
    "label_smoothing": {"low": 0.0, "high": 0.2}, "loss": ["vocabulary", "choices"], "system_prompt": list(HOSTILE),
}
ROWS = 60


def trial(number: int, shift: float = 0.0, state: str = "complete", **changes) -> TrialResult:
    """A trial whose losses are about those of the others plus `shift`."""
    noise = np.random.default_rng(number).normal(scale=0.1, size=ROWS)
    losses = np.random.default_rng(0).exponential(size=ROWS) + shift + noise - noise.mean()
    ids = np.array([f"{i:02}" for i in range(ROWS)])
    values = {"learning_rate": 1e-5 * number, "num_epochs": 1 + number % 4, "label_smoothing": 0.01 * number,
              "loss": ["vocabulary", "choices"][number % 2], "system_prompt": HOSTILE[number % 4]}
    judged = Judgement(ids, losses, losses < 1, np.arange(ROWS)) if state == "complete" else None
    return TrialResult(number, state, f"s-{number}", values, {25: 2.0}, judged, 61.0, 1, **changes)


def found_in(folder, *trials: TrialResult) -> SearchOutcome:
    plan = SearchPlan(tiny_settings(folder), "s&b$", str(folder / "j"), SPACE, len(trials), 2)
    return SearchOutcome(plan, trials)


def test_hostile_text_is_shown_and_does_nothing(tmp_path):
    trials = [trial(n, shift=n / 10) for n in range(1, 6)]
    found = found_in(tmp_path, *trials, trial(6, state="pruned"), trial(7, state="failed", note="<img src=x onerror=alert(1)>"))
    text = write_search_page(found, {}).read_text(encoding="utf-8")
    assert "<script" not in text and "<img src=x" not in text and "\x1b" not in text and "\u202e" not in text
    assert "&lt;script&gt;alert(1)" in text and "s&amp;b$" in text and "&lt;img src=x onerror" in text
    assert text.count("<figure>") == 3 and "default-src 'none'" in text
    assert not re.search(r"(src|href)=[\"'](?!data:)", text), "it loads nothing"
    assert "above the best" in text and text.count("pruned, log-loss 2.000 then") == 1


def test_figures_are_drawn_of_whatever_there_is(tmp_path):
    one = found_in(tmp_path, trial(1))
    assert set(draw_search(one, {}, tmp_path)) == {"history", "slices"}
    many = found_in(tmp_path, *(trial(n, n / 10) for n in range(1, 5)))
    importances = {"system_prompt": 0.7, "loss": 0.3}
    assert set(draw_search(many, importances, tmp_path)) == {"history", "importance", "slices", "coordinates"}


def test_every_word_of_the_figures_is_translated_and_names_of_settings_stay(tmp_path):
    found = found_in(tmp_path, *(trial(n, n / 10) for n in range(1, 5)), trial(5, state="pruned"))
    with words_of_figures() as words:
        draw_search(found, {"system_prompt": 0.7, "loss": 0.3}, tmp_path)
    assert {"History", "pruned", "share of the variance of the log-loss", "All settings at once"} <= words
    values = {str(value) for one in found.plan.searched for value in one.values}
    assert {name for name in untranslated(words) if not name.startswith(tuple(v[:5] for v in values))} <= set(SPACE)


def test_the_page_says_everything_in_korean_and_english(tmp_path):
    found = found_in(tmp_path, trial(1), trial(2, 0.001), trial(3, 0.5), trial(4, state="pruned"))
    text = write_search_page(found, {}, "ko").read_text(encoding="utf-8")
    assert '<html lang="ko">' in text and 'id="in-ko" checked' in text and 'for="in-en"' in text
    shown = {language: re.sub(r"\s+", " ", "".join(re.findall(rf'class="{language}" lang="{language}">([^<]*)<', text)))
             for language in ("ko", "en")}
    expected = ("평가합니다", "폴드 0에서 최고: 시도 1", "동점: 시도 2", "조기 중단, 그때 로그 손실 2.000", "최고와의 차이")
    assert all(word in shown["ko"] for word in expected)
    assert "judge all trials" in shown["en"] and "a tie: trial 2" in shown["en"] and not re.search("[가-힣]{2}", shown["en"])


def test_the_setting_that_decides_is_the_most_important_and_few_trials_say_nothing():
    optuna = pytest.importorskip("optuna")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda t: t.suggest_float("decides", 0, 1) ** 2 + 0.01 * t.suggest_float("idle", 0, 1), n_trials=20)
    found = importances_of(study, 20, seed=1)
    assert found["decides"] > 0.8 and found == importances_of(study, 20, seed=1)
    assert importances_of(study, 5, seed=1) == {}


def test_ties_and_what_the_other_folds_say_are_said(tmp_path):
    tie = trial(2, 0.001)
    found = found_in(tmp_path, trial(1), tie, trial(3, 0.5))
    assert [one.number for one in found.ties] == [2]
    said = "\n".join(outcome_lines(found))
    assert "a tie: trial 2 differs from the best by no more than two" in said and "probably too optimistic" in said
    confirmed = SearchOutcome(found.plan, found.trials, (Confirmed(tie, tie.judged, trial(1).judged),))
    said = "\n".join(outcome_lines(confirmed))
    assert "confirmed: trial 2" in said and "on the other folds" in said and "too good" not in said
    assert confirmed.best is tie, "the other folds decide"


def test_files_hold_the_different_trials_the_best_first_and_the_settings_of_the_best(tmp_path):
    twin = TrialResult(**{**vars(trial(3, 0.2)), "run": "s-1", "number": 4})
    found = found_in(tmp_path, trial(2, 0.3), trial(1, 0.1), TrialResult(**{**vars(twin), "judged": trial(1, 0.1).judged}),
                     trial(5, state="failed", note="diverged"))
    best = load_config(write_outcome(found))
    assert best.learning_rate == 1e-5 and best.run == found.plan.run_of(trial(1).values) and not best.train_folds
    records = read_json(found.plan.paths.experiment / "trials.json")
    assert [one["trial"] for one in records] == [1, 2, 4, 5] and records[-1]["note"] == "diverged"
    with pytest.raises(RunStopped, match=r"No trial was trained to the end \(diverged\)"):
        write_outcome(found_in(tmp_path, trial(5, state="failed", note="diverged")))


def test_what_was_confirmed_stays_if_the_same_search_ends_before_it_reads_it_again(tmp_path):
    first, second = trial(1), trial(2, 0.1)
    found = found_in(tmp_path, first, second)
    confirmed = Confirmed(first, trial(1, 0.3).judged, trial(1, 0.3).judged), Confirmed(second, trial(2).judged, trial(2).judged)
    write_outcome(SearchOutcome(found.plan, found.trials, confirmed[::-1]))
    written = {name: (found.plan.paths.experiment / name).read_text() for name in ("trials.json", "best.yaml")}
    write_outcome(found)  # a cluster that is away, Ctrl-C, --best 0
    assert written == {name: (found.plan.paths.experiment / name).read_text() for name in written}
    best = load_config(write_outcome(SearchOutcome(found.plan, (*found.trials, trial(3, -0.1)))))
    assert best.run == found.plan.run_of(second.values), "a new trial that was not confirmed yet does not replace the best"
