"""Writes the page of a search: experiments/<study>/search.html, one file without scripts; all text in it is escaped."""
import base64
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcvqa.base.budget import spell_duration
from mcvqa.base.files import write_text
from mcvqa.base.informing import informing
from mcvqa.base.translation import korean_translator
from mcvqa.base.uncertainty import spell_error
from mcvqa.report.experiments import settings_text
from mcvqa.report.gallery import report_template
from mcvqa.report.page import LANGUAGE_BUTTONS, LANGUAGE_LABELS, LANGUAGE_STYLE, PAGE_HEAD
from mcvqa.report.words import REPORT_LANGUAGES
from mcvqa.search.figures import TO_WEIGH, draw_search
from mcvqa.search.results import SearchOutcome, TrialResult, outcome_lines

SEARCH_PAGE = "search.html"
SEARCH_WORDS = {
    "judged": (
        "{model}. 폴드 {fold}의 {rows}행으로 모든 시도를 평가합니다. 어느 시도도 이 행을 학습하지 않았습니다.",
        "{model}. {rows} rows of fold {fold} judge all trials, which have not learned from them.",
    ),
    "use": ("이 설정으로 실행:", "Use it:"), "trials": ("시도", "Trials"),
    # figures
    "history": (
        "평가하는 행에서 잰 시도별 로그 손실과 표준 오차. 낮을수록 좋습니다.",
        "Log-loss of each trial on the rows that judge, with its standard error. Lower is better.",
    ),
    "importance": (
        "설정마다 로그 손실의 분산 중 얼마를 설명하는지 시도에 맞춘 랜덤 포레스트로 추정했습니다(fANOVA). "
        "시도가 적으면 측정값이 아니라 참고용입니다.",
        "How much of the variance of the log-loss each setting explains, by a forest fitted to the trials (fANOVA). "
        "With few trials this is a hint, not a measurement.",
    ),
    "slices": (
        "설정별 로그 손실. 다른 설정도 시도마다 다릅니다. 최고인 시도를 강조했습니다.",
        "Log-loss against each setting; every other setting differs too. The best trial is highlighted.",
    ),
    "coordinates": (
        "선 하나가 시도 하나이며 짙을수록 좋습니다. 최고인 시도를 강조했습니다.",
        "Each line is a trial; the darker, the better. The best trial is highlighted.",
    ),
    # the table
    "trial": ("시도", "trial"), "log-loss": ("로그 손실", "log-loss"), "above": ("최고와의 차이", "above the best"),
    "accuracy": ("정확도", "accuracy"), "epochs": ("에폭", "epochs"), "time": ("시간", "time"), "settings": ("설정", "settings"),
    "best": ("최고", "the best"), "tie": ("{difference}, 동점", "{difference}, a tie"),
}
HEADER = ("trial", "log-loss", "above", "accuracy", "epochs", "time", "settings")
SEARCH_TEMPLATE = """\
<!doctype html>
<html lang="{{ opening }}">
""" + PAGE_HEAD + LANGUAGE_STYLE + """\
body { margin: 0 auto; padding: 2.2rem 1.25rem 4rem; max-width: 66rem; background: var(--paper); color: var(--ink);
  font: 16px/1.6 system-ui, "Apple SD Gothic Neo", "Malgun Gothic", "Noto Sans KR", "Noto Sans CJK KR", sans-serif;
  word-break: keep-all; overflow-wrap: anywhere; }
h1 { margin: 0; font-size: 1.9rem; line-height: 1.25; }
h2 { margin: 2.4rem 0 .8rem; padding-top: .8rem; border-top: 1px solid var(--line); font-size: 1.25rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .87rem; }
th, td { padding: .38rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { color: var(--soft); border-bottom-width: 2px; white-space: nowrap; }
td.number { white-space: nowrap; font-variant-numeric: tabular-nums; }
td.settings { min-width: 16rem; }
figure { margin: 1.4rem 0; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; padding: .6rem; background: #fff;
  border-radius: 8px; }
figcaption { margin-top: .4rem; color: var(--soft); font-size: .87rem; text-align: center; }
code { padding: .1rem .3rem; border-radius: 4px; background: var(--panel); font-size: .9em; }
@media (max-width: 40rem) {  /* figures and tables of a phone can be moved sideways, so that their letters stay legible */
  figure div { overflow-x: auto; }
  figure img { max-width: none; width: 40rem; }
  th, td { padding: .3rem .4rem; }
  table { font-size: .8rem; }
}
</style>
</head>
<body>
""" + LANGUAGE_BUTTONS + """\
<main>
<header><h1>{{ name }}</h1>
""" + LANGUAGE_LABELS + """</header>
<p>{{ both(judged) }}</p>
{% for line in lines %}<p>{{ both(line) }}</p>
{% endfor %}
<p>{{ both(words("use")) }} <code>mcvqa run --config {{ best }}</code></p>
{% for caption, picture in figures %}
<figure><div><img src="{{ picture }}" alt="{{ caption[opening] }}"></div><figcaption>{{ both(caption) }}</figcaption></figure>
{% endfor %}
<h2>{{ both(words("trials")) }}</h2>
<div class="wide"><table>
<thead><tr>{% for title in header %}<th scope="col">{{ both(words(title)) }}</th>{% endfor %}</tr></thead>
<tbody>
{% for cells, settings in table %}
<tr>{% for cell in cells %}<td class="number">{{ both(cell) }}</td>{% endfor %}<td class="settings">{{ settings }}</td></tr>
{% endfor %}
</tbody>
</table></div>
</main>
</body>
</html>
"""


def write_search_page(outcome: SearchOutcome, importances: Mapping[str, float], opening: str = "en") -> Path:
    """Write the page with its figures.

    Args:
        outcome: outcome of the search.
        importances: see `draw_search`.
        opening: language in which the page opens.
    """
    folder, first = outcome.plan.paths.experiment, outcome.ranked[0].judged
    figures = draw_search(outcome, importances, folder)
    rows = 0 if first is None else len(first.ids)
    languages = [opening, *(language for language in REPORT_LANGUAGES if language != opening)]
    text = report_template(SEARCH_TEMPLATE, languages).render(
        name=outcome.plan.name, opening=opening, words=_in_each_language, header=HEADER, table=_trials_table(outcome),
        judged=_in_each_language("judged", model=outcome.plan.config.model_id, fold=outcome.plan.fold, rows=rows),
        lines=[_translated(line.strip()) for line in outcome_lines(outcome)], best=shlex.quote(str(folder / "best.yaml")),
        figures=[(_in_each_language(name), _inlined(path)) for name, path in figures.items()],
    )
    write_text(folder / SEARCH_PAGE, text)
    return folder / SEARCH_PAGE


def _in_each_language(name: str, /, **values: object) -> dict[str, str]:
    """Language -> one of SEARCH_WORDS."""
    return {language: text.format(**values) for language, text in zip(REPORT_LANGUAGES, SEARCH_WORDS[name], strict=True)}


def _translated(text: str) -> dict[str, str]:
    """Language -> what the console says there."""
    return {"ko": korean_translator().console(text), "en": text}


def importances_of(study: Any, complete: int, seed: int) -> dict[str, float]:
    """Estimate the importance of each setting; empty if that is not possible.

    Args:
        study: study of Optuna.
        complete: number of complete trials with different settings.
        seed: seed of the estimate.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    importances: dict[str, float] = {}
    if complete >= TO_WEIGH:
        with informing("the importances of settings"):
            importances = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed))
    return importances


def _inlined(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _trials_table(outcome: SearchOutcome) -> list[tuple[list[dict[str, str]], str]]:
    """List the different complete trials, the best first, then all others."""
    complete = outcome.ranked
    others = [one for one in outcome.trials if one not in complete]
    return [(_trial_cells(one, complete[0]), settings_text(one.values)) for one in (*complete, *others)]


def _trial_cells(one: TrialResult, best: TrialResult) -> list[dict[str, str]]:
    above, accuracy = _in_each_language("best") if one is best else _translated("–"), "–"
    measured = one.measured
    if one.judged is not None and best.judged is not None:
        measured, accuracy = spell_error(one.judged.log_loss, one.judged.standard_error), str(one.judged.accuracy)
        difference = spell_error(*one.judged.above(best.judged))
        if one is not best:
            tied = one.judged.ties_with(best.judged)
            above = _in_each_language("tie", difference=difference) if tied else _translated(difference)
    time = spell_duration(one.seconds) if one.seconds else "–"
    return [_translated(str(one.number)), _translated(measured), above, *map(_translated, (accuracy, str(one.epochs), time))]
