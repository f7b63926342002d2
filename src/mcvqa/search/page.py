"""Writes the page of a search: experiments/<study>/search.html, one file without scripts; all text in it is escaped."""
import base64
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from mcvqa.base.budget import spell_duration
from mcvqa.base.files import write_text
from mcvqa.base.informing import informing, printable
from mcvqa.base.uncertainty import spell_error
from mcvqa.report.experiments import settings_text
from mcvqa.report.page import PAGE_HEAD
from mcvqa.search.figures import TO_WEIGH, draw_search
from mcvqa.search.results import SearchOutcome, TrialResult, outcome_lines

SEARCH_PAGE = "search.html"
CAPTIONS = {
    "history": "Log-loss of each trial on the rows that judge, with its standard error. Lower is better.",
    "importance": "How much of the variance of the log-loss each setting explains, by a forest fitted to the trials (fANOVA). "
    "With few trials this is a hint, not a measurement.",
    "slices": "Log-loss against each setting; every other setting differs too. The best trial is highlighted.",
    "coordinates": "Each line is a trial; the darker, the better. The best trial is highlighted.",
}
SEARCH_TEMPLATE = """\
<!doctype html>
<html lang="en">
""" + PAGE_HEAD + """\
body { margin: 0 auto; padding: 2.2rem 1.25rem 4rem; max-width: 66rem; background: var(--paper); color: var(--ink);
  font: 16px/1.6 system-ui, "Apple SD Gothic Neo", "Malgun Gothic", "Noto Sans KR", "Noto Sans CJK KR", sans-serif;
  overflow-wrap: anywhere; }
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
</style>
</head>
<body>
<main>
<h1>{{ name }}</h1>
<p>{{ model }}. {{ rows }} rows of fold {{ fold }} judge all trials, which have not learned from them.</p>
{% for line in lines %}<p>{{ line }}</p>
{% endfor %}
<p>Use it: <code>mcvqa run --config {{ best }}</code></p>
{% for caption, picture in figures %}
<figure><img src="{{ picture }}" alt="{{ caption }}"><figcaption>{{ caption }}</figcaption></figure>
{% endfor %}
<h2>Trials</h2>
<div class="wide"><table>
<thead><tr>{% for title in header %}<th scope="col">{{ title }}</th>{% endfor %}</tr></thead>
<tbody>
{% for cells, settings in table %}
<tr>{% for cell in cells %}<td class="number">{{ cell }}</td>{% endfor %}<td class="settings">{{ settings }}</td></tr>
{% endfor %}
</tbody>
</table></div>
</main>
</body>
</html>
"""
HEADER = ("trial", "log-loss", "above the best", "accuracy", "epochs", "time", "settings")


def write_search_page(found: SearchOutcome, importances: Mapping[str, float]) -> Path:
    """Write the page with its figures.

    Args:
        found: outcome of the search.
        importances: see `draw_search`.
    """
    folder = found.plan.paths.experiment
    figures = draw_search(found, importances, folder)
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, finalize=_shown,
    )
    first = found.ranked[0].judged
    text = environment.from_string(SEARCH_TEMPLATE).render(
        name=found.plan.name, model=found.plan.config.model_id, fold=found.plan.fold, rows=0 if first is None else len(first.ids),
        lines=list(outcome_lines(found)), best=shlex.quote(str(folder / "best.yaml")), header=HEADER, table=_trials_table(found),
        figures=[(CAPTIONS[name], _inlined(path)) for name, path in figures.items()],
    )
    write_text(folder / SEARCH_PAGE, text)
    return folder / SEARCH_PAGE


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


def _shown(value: Any) -> Any:
    """Remove control characters and lone surrogates, which no file can contain."""
    return printable(value) if type(value) is str else value


def _inlined(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _trials_table(outcome: SearchOutcome) -> list[tuple[tuple[str, ...], str]]:
    """List the complete trials with different settings, the best first, then all others."""
    complete = outcome.ranked
    others = [one for one in outcome.trials if one not in complete]
    return [(_trial_cells(one, complete[0]), settings_text(one.values)) for one in (*complete, *others)]


def _trial_cells(one: TrialResult, best: TrialResult) -> tuple[str, ...]:
    time = spell_duration(one.seconds) if one.seconds else "–"
    if one.judged is None or best.judged is None:
        return (str(one.number), one.measured, "–", "–", str(one.epochs), time)
    difference, error = one.judged.above(best.judged)
    tie = ", a tie" if one.judged.ties_with(best.judged) else ""
    above = "the best" if one is best else f"{spell_error(difference, error)}{tie}"
    loss = spell_error(one.judged.log_loss, one.judged.standard_error)
    return (str(one.number), loss, above, str(one.judged.accuracy), str(one.epochs), time)
