"""The report of a run, as Markdown for the repository and as one self-contained HTML file.

The content is assembled once, as plain text in sections and blocks. Only the two renderers below write markup, and both
escape all input: questions, file names and run names are untrusted.
"""
import base64
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from mcvqa.base.budget import spell_duration
from mcvqa.base.files import write_text
from mcvqa.base.informing import counted, printable
from mcvqa.base.uncertainty import SIGNIFICANT, Accuracy, Gain, spell_error, spell_interval, spell_p_value, spell_points
from mcvqa.config import Config
from mcvqa.data.answers import LETTERS
from mcvqa.report.advice import Advice
from mcvqa.report.metrics import GroupAccuracy, Metrics, WrongAnswer, own_figures, spell_optimism, spell_selection
from mcvqa.report.submission import SubmissionReport


# %% input
@dataclass(frozen=True)
class ReportInput:
    """The content of a report, as plain data.

    Attributes:
        run: name of the run.
        config: every setting and its value.
        data_summary: text for a terminal, shown verbatim.
        metrics: of the run.
        methods: ensemble method -> its out-of-fold accuracy.
        method: the method used.
        method_reason: why it was used.
        figures: name -> PNG inside the report's folder (see `mcvqa.report.figures.draw_figures`).
        submissions: path as shown -> result of its validation.
        not_submitted: why there are no submissions; '' if there are.
        submitted: source of the answers in the file to hand in.
        submitted_run: the run that these answers are from.
        submitted_accuracy: their accuracy on unseen rows; None: not known.
        advice: what to try next.
        environment: versions, commit, device, ...
        seconds: duration of the run.
    """

    run: str
    config: Mapping[str, Any]
    data_summary: str
    metrics: Metrics
    methods: Mapping[str, Accuracy] = field(default_factory=dict)
    method: str = ""
    method_reason: str = ""
    figures: Mapping[str, Path] = field(default_factory=dict)
    submissions: Mapping[str, SubmissionReport] = field(default_factory=dict)
    not_submitted: str = ""
    submitted: str = ""
    submitted_run: str = ""
    submitted_accuracy: Accuracy | None = None
    advice: Sequence[Advice] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class ReportBlock:
    """Part of a section; its kind is text, list, table, tiles, figure or verbatim."""

    kind: str
    text: str = ""
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    numeric: bool = False
    path: Path = Path()


@dataclass(frozen=True)
class ReportSection:
    title: str
    blocks: tuple[ReportBlock, ...]


def write_report(folder: str | Path, content: ReportInput) -> tuple[Path, Path]:
    """Write REPORT.md and report.html into `folder`.

    Returns:
        The paths of both.
    """
    folder = Path(folder)
    sections = report_sections(content)
    markdown, page = folder / "REPORT.md", folder / "report.html"
    write_text(markdown, markdown_report(content.run, sections, folder))
    write_text(page, html_report(content.run, sections))
    return markdown, page


# %% content
def report_sections(content: ReportInput) -> list[ReportSection]:
    """Assemble all sections that have content."""
    parts: list[tuple[str, list[ReportBlock]]] = [
        ("Result", _result_blocks(content)),
        ("What was run", _run_blocks(content)),
        ("Data", [ReportBlock("verbatim", content.data_summary)] if content.data_summary.strip() else []),
        ("Accuracy", _accuracy_blocks(content)),
        ("Training", _figure_block(content, "curves", "Loss, learning rate and validation accuracy of each fold")),
        ("What each technique brings", _gain_blocks(content)),
        ("Ensemble", _ensemble_blocks(content)),
        ("Calibration", _calibration_blocks(content)),
        ("Letters", _letter_blocks(content)),
        ("Errors", _error_blocks(content)),
        ("Submission", _submission_blocks(content)),
        ("What to try next", [_list_block(advice.english for advice in content.advice)] if content.advice else []),
        ("How to read these figures", [_list_block(_remarks(content))]),
        ("Where it comes from", [_table_block(("", ""), content.environment.items())] if content.environment else []),
    ]
    return [ReportSection(title, tuple(blocks)) for title, blocks in parts if blocks]


def changed_settings(config: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Settings that differ from the default: name -> (value, default), without run_name and output_dir."""
    defaults = _without_tuples({name: setting.default for name, setting in Config.settings().items()})
    changed = {k: (v, defaults.get(k)) for k, v in _without_tuples(config).items() if v != defaults.get(k)}
    return {k: pair for k, pair in changed.items() if k not in ("run_name", "output_dir")}


def _without_tuples(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}  # YAML has no tuples


def _result_blocks(content: ReportInput) -> list[ReportBlock]:
    """This run's figures, preceded by what the file to hand in contains if it is from elsewhere."""
    submitted, metrics = content.submitted_accuracy, content.metrics
    if not content.submitted or submitted == metrics.overall.accuracy:
        return [_headline(metrics)]
    accuracy = f"accuracy {submitted}" if submitted else "accuracy not known"
    text = f"The file to hand in contains {content.submitted} of the run {content.submitted_run}: {accuracy}."
    return [ReportBlock("text", f"{text} The figures below are this run's."), _headline(metrics)]


def _headline(metrics: Metrics) -> ReportBlock:
    accuracy, chosen = metrics.overall.accuracy, spell_selection(metrics.selection)
    if accuracy.not_measured:
        return ReportBlock("tiles", header=("figure", "value", "why"), rows=(
            ("accuracy, out of fold", "not measured", accuracy.not_measured),))
    detail = ", ".join(filter(None, (f"{_error_in_percent(accuracy)}, n = {accuracy.n:,}", chosen)))
    tiles = [("accuracy, out of fold", f"{accuracy.value:.1%}", detail)]
    if metrics.overall.blind is not None and metrics.over_blind is not None:
        gain = metrics.over_blind
        tiles.append(("without the image", f"{metrics.overall.blind.value:.1%}", f"the image adds {gain.in_points} points"))
    if metrics.circular is not None:
        circular = metrics.circular
        tiles.append(("right in every order", f"{circular.value:.1%}", _error_in_percent(circular)))
    if metrics.leaderboard is not None:
        estimate = metrics.leaderboard
        span = f"{spell_interval(100 * estimate.low, 100 * estimate.high, '–', 1)}%"
        tiles.append((f"expected on {counted(estimate.n, 'test row')}", span, "95% interval"))
    return ReportBlock("tiles", header=("figure", "value", "error"), rows=tuple(tiles))


def _run_blocks(content: ReportInput) -> list[ReportBlock]:
    changed = changed_settings(content.config)
    model = str(content.config.get("model_id", "unknown"))
    time = f" It took {spell_duration(content.seconds)}." if content.seconds else ""
    lead = f"Model {model}, {content.config.get('image_size')} px.{time}"
    if not changed:
        return [ReportBlock("text", f"{lead} All settings have their defaults.")]
    rows = [(name, _setting_text(value), _setting_text(default)) for name, (value, default) in changed.items()]
    return [ReportBlock("text", f"{lead} Settings that differ from the default:"),
            _table_block(("setting", "here", "default"), rows)]


def _accuracy_blocks(content: ReportInput) -> list[ReportBlock]:
    metrics = content.metrics
    header = ("rows", "accuracy", "95% interval", "without the image", "guessing", "n")
    groups = (metrics.overall, *metrics.by_fold, *metrics.by_source, *metrics.by_kind, *metrics.by_choices)
    drawn = _figure_block(content, "groups", "Accuracy by group with 95% intervals, the text-only prior and guessing")
    return [
        *([] if metrics.overall.accuracy.not_measured else drawn),
        _table_block(header, map(_group_row, groups), numeric=True),
        *([_table_block(("own metric", "value"), own_figures(metrics).items(), numeric=True)] if metrics.own else []),
        *_figure_block(content, "confusion", "Rows by true and predicted letter, in the original order of the choices"),
    ]


def _group_row(group: GroupAccuracy) -> tuple[str, ...]:
    blind = f"{group.blind.value:.3f}" if group.blind else "–"
    return (group.name, _accuracy_text(group.accuracy), _interval_text(group.accuracy), blind,
            f"{group.chance:.3f}", f"{group.accuracy.n:,}")


def _gain_blocks(content: ReportInput) -> list[ReportBlock]:
    gains = content.metrics.gains
    if not gains:
        return []
    rows = [
        (name, f"{g.value:+.3f}", spell_interval(g.low, g.high, sign="+"), spell_p_value(g.p_value), gain_verdict(g))
        for name, g in gains.items()
    ]
    test = "Each technique against the run without it, on the same out-of-fold rows (exact sign-flip test by image group)."
    return [
        ReportBlock("text", test),
        *_figure_block(content, "gains", "Gain of each technique with its 95% interval"),
        _table_block(("technique", "gain", "95% interval", "p-value", "verdict"), rows, numeric=True),
    ]


def gain_verdict(gain: Gain) -> str:
    """The verdict that the test supports."""
    return "helps" if gain.is_better else "hurts" if gain.is_worse else "not significant"


def _ensemble_blocks(content: ReportInput) -> list[ReportBlock]:
    if not content.methods:
        return []
    rows = [
        (f"{name} (used)" if name == content.method else name, _accuracy_text(accuracy), _interval_text(accuracy))
        for name, accuracy in sorted(content.methods.items(), key=lambda item: -item[1].value)
    ]
    header = ("method", "accuracy", "95% interval")
    return [ReportBlock("text", content.method_reason), _table_block(header, rows, numeric=True)]


def _calibration_blocks(content: ReportInput) -> list[ReportBlock]:
    metrics = content.metrics
    rows = [
        (name, f"{r.ece:.3f}", f"{r.brier:.3f}", f"{r.nll:.3f}")
        for name, r in (("as scored", metrics.before), (f"temperature {metrics.temperature:.2f}", metrics.after))
    ]
    header = ("probabilities", "expected calibration error", "Brier score", "negative log-likelihood")
    return [
        _table_block(header, rows, numeric=True),
        *_figure_block(content, "reliability", "Confidence against accuracy, before and after the temperature"),
    ]


def _letter_blocks(content: ReportInput) -> list[ReportBlock]:
    letters = content.metrics.letters
    verdict = "This is more than chance explains." if letters.p_value < SIGNIFICANT else "Chance alone explains this."
    shares = zip(LETTERS, letters.overall.predicted, letters.overall.truth, strict=False)
    rows = [(letter, f"{predicted:.3f}", f"{true:.3f}", f"{predicted - true:+.3f}") for letter, predicted, true in shares]
    return [
        ReportBlock(
            "text",
            f"Predicted and true letters differ by a total variation distance of {letters.overall.distance:.3f} "
            f"({spell_p_value(letters.p_value)}). {verdict}",
        ),
        *_figure_block(content, "letters", "Share of each letter among predictions and answers, as shown to the model"),
        _table_block(("letter", "predicted", "true", "difference"), rows, numeric=True),
    ]


def _error_blocks(content: ReportInput) -> list[ReportBlock]:
    errors = content.metrics.errors
    if not errors:
        return [ReportBlock("text", "No row was answered wrongly.")]
    return [
        ReportBlock("text", f"Most confident first: {counted(len(errors), 'wrong answer')}."),
        *_figure_block(content, "errors", "Photographs of the most confident errors"),
        _table_block(("row", "question", "choices", "predicted", "true"), map(_error_row, errors)),
    ]


def _error_row(error: WrongAnswer) -> tuple[str, ...]:
    choices = " / ".join(f"({letter}) {text}" for letter, text in zip(LETTERS, error.choices, strict=False))
    predicted, true = LETTERS[error.predicted], LETTERS[error.answer]
    return (
        f"{error.id}, {error.image}", error.question, choices,
        f"{predicted}\u00a0({error.probabilities[error.predicted]:.2f})",  # a non-breaking space
        f"{true}\u00a0({error.probabilities[error.answer]:.2f})",
    )


def _submission_blocks(content: ReportInput) -> list[ReportBlock]:
    if content.not_submitted:
        return [ReportBlock("text", f"None: {content.not_submitted}")]
    blocks = []
    for path, report in content.submissions.items():
        verdict = "valid" if not report.problems else "NOT VALID: " + "; ".join(map(str, report.problems))
        shares = ", ".join(f"{letter} {count:,}" for letter, count in report.distribution.items())
        blocks.append((path, f"{report.rows:,}", verdict, shares))
    return [_table_block(("file", "rows", "validation", "letters"), blocks)] if blocks else []


def _remarks(content: ReportInput) -> list[str]:
    """Remarks on how to interpret the figures of this run."""
    metrics, config = content.metrics, content.config
    error = metrics.overall.accuracy.standard_error
    remarks = ["All accuracies are on rows that the model was not trained on."]
    if reason := metrics.overall.accuracy.not_measured:
        remarks[0] = (
            f"The accuracy is not measured: {reason}. What is said below of these rows is too good too. Validate on other rows."
        )
    elif error > 0:
        remarks[0] += (
            f" The standard error is {spell_points(error)} points: runs on different rows differ significantly only by "
            f"{spell_points(2.8 * error)} points or more."
        )
    if metrics.overall.accuracy.design_effect > 1:
        independent = round(metrics.overall.accuracy.n / metrics.overall.accuracy.design_effect)
        remarks.append(
            f"Several rows share a photograph, so errors are computed by image group: the {metrics.overall.accuracy.n:,} rows "
            f"carry as much information as {counted(independent, 'independent one')}."
        )
    if metrics.selection is not None:
        remarks.append(
            f"The best of {metrics.selection.epochs} epochs was chosen on the rows it is evaluated on. A bootstrap over image "
            f"groups shows that this makes the accuracy {spell_optimism(metrics.selection)} too high; the estimate for "
            "test rows is corrected for it. With keep=last nothing is chosen."
        )
    elif config.get("keep") == "best" and config.get("num_epochs", 0) > 1:
        remarks.append(
            "The best epoch was chosen on the validation rows, so their accuracy is optimistic; the log of this run does not say "
            "by how much (about 2 points with five equally good epochs and 200 rows)."
        )
    if not config.get("use_kfold", True):
        remarks.append("Only one split was trained and evaluated; other splits would give different figures.")
    if source := config.get("validate_on"):
        remarks.append(f"Only rows of the source {source} are used for validation; the others are only trained on.")
    if config.get("use_sample"):
        remarks.append(f"A sample of {config.get('sample_size'):,} rows was used; all may give different figures.")
    if metrics.overall.blind is not None:
        remarks.append(
            f"Questions and choices alone give {metrics.overall.blind.value:.1%}, "
            f"guessing {metrics.overall.chance:.1%}: accuracy below the former is no evidence of using the image."
        )
    if metrics.temperature != 1.0:
        remarks.append("The temperature, a single number, was fitted on the rows on which it is evaluated.")
    if metrics.leaderboard is not None:
        remarks.append("The test estimate assumes that test rows resemble training rows.")
    return remarks


def _figure_block(content: ReportInput, name: str, caption: str) -> list[ReportBlock]:
    return [ReportBlock("figure", caption, path=Path(content.figures[name]))] if name in content.figures else []


def _table_block(header: tuple[str, ...], rows: Iterable[Sequence[Any]], numeric: bool = False) -> ReportBlock:
    return ReportBlock("table", header=header, rows=tuple(tuple(map(str, row)) for row in rows), numeric=numeric)


def _list_block(texts: Iterable[str]) -> ReportBlock:
    return ReportBlock("list", rows=tuple((text,) for text in texts))


def _setting_text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _error_in_percent(accuracy: Accuracy) -> str:
    """'± 2.6%', or the interval if all or no answers are right."""
    if 0 < accuracy.right < accuracy.n:
        return f"± {spell_points(accuracy.standard_error)}%"
    low, high = accuracy.interval
    return f"95%: {spell_interval(100 * low, 100 * high, '–', 1)}%"


def _accuracy_text(accuracy: Accuracy) -> str:
    return "not measured" if accuracy.not_measured else spell_error(accuracy.value, accuracy.standard_error)


def _interval_text(accuracy: Accuracy) -> str:
    return "–" if accuracy.not_measured else spell_interval(*accuracy.interval)


# %% Markdown
def markdown_text(text: Any) -> str:
    """Escape `text` as one line of Markdown, for a paragraph or a table cell."""
    line = printable(re.sub(r"[\x09-\x0d\x20\x85\u2028\u2029]+", " ", str(text))).strip()
    return re.sub(r"([\\`*_\[\]|~$#])", r"\\\1", html.escape(line, quote=False))


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]], numeric: bool = False) -> str:
    """Format a GitHub table; `numeric` right-aligns all columns but the first."""
    ruler = ["---", *(["---:" if numeric else "---"] * (len(header) - 1))]
    lines = [list(map(markdown_text, header)), ruler, *(list(map(markdown_text, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown_report(run: str, sections: Sequence[ReportSection], folder: Path) -> str:
    """Render REPORT.md; figures are linked relative to `folder`."""
    parts = [f"# {markdown_text(run)}", "The same as one page, with figures inside: [report.html](report.html)."]
    for section in sections:
        parts += [f"## {markdown_text(section.title)}", *(_markdown_block(block, folder) for block in section.blocks)]
    return "\n\n".join(parts) + "\n"


def _markdown_block(block: ReportBlock, folder: Path) -> str:
    if block.kind in ("table", "tiles"):
        return markdown_table(block.header, block.rows, block.numeric)
    if block.kind == "list":
        return "\n".join(f"- {markdown_text(text)}" for (text,) in block.rows)
    if block.kind == "figure":
        path = Path(block.path).resolve().relative_to(folder.resolve()).as_posix()
        return f"![{markdown_text(block.text)}]({quote(path)})"
    if block.kind == "verbatim":  # indented, because the text could close a fence
        return "\n".join(f"    {printable(line)}" for line in re.split(r"[\r\n\x0b\x0c]+", block.text.strip("\r\n")))
    return markdown_text(block.text)


# %% HTML
# The policy in <meta> lets the browser load and run nothing, whatever the page contains.
HTML_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>{{ run }}</title>
<style>
:root { --ink: #1d2329; --soft: #5c6670; --line: #dfe3e7; --paper: #ffffff; --panel: #f5f7f8; --accent: #0b6e99; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e3e7ea; --soft: #9aa5af; --line: #343b42; --paper: #15191d; --panel: #1e242a; --accent: #6cb8dc; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, "Apple SD Gothic Neo", "Malgun Gothic", "Noto Sans KR", "Noto Sans CJK KR", NanumGothic,
  sans-serif; }
h1 { margin: 0 0 .3rem; font-size: 1.9rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 2.8rem 0 .8rem; padding-top: .8rem; border-top: 1px solid var(--line); font-size: 1.25rem; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; font-size: .9rem; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: .8rem; margin: 1.6rem 0; }
.tile { padding: .9rem 1.1rem; background: var(--panel); border-radius: 8px; }
.tile b { display: block; font-size: 1.6rem; line-height: 1.4; font-weight: 600; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: .87rem; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { padding: .38rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
  overflow-wrap: break-word; }
th { color: var(--soft); font-weight: 600; border-bottom-width: 2px; }
.numeric :is(th, td) { white-space: nowrap; }
.numeric :is(th, td):not(:first-child) { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1.4rem 0; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; padding: .6rem; background: #fff;
  border-radius: 8px; }
figcaption { margin-top: .4rem; color: var(--soft); font-size: .87rem; text-align: center; }
pre { padding: 1rem 1.2rem; overflow-x: auto; background: var(--panel); border-radius: 8px;
  font: .84rem/1.5 ui-monospace, "SFMono-Regular", Consolas, "D2Coding", "NanumGothicCoding", monospace; }
li { margin: .3rem 0; }
@media print {
  :root { --ink: #000; --soft: #444; --line: #bbb; --paper: #fff; --panel: #fff; --accent: #000; }
  body { padding: 0; max-width: none; font-size: 11pt; }
  nav { display: none; }
  h2 { break-after: avoid; }
  figure, tr, .tile { break-inside: avoid; }
  .tile { border: 1px solid var(--line); }
  pre { white-space: pre-wrap; }
}
</style>
</head>
<body>
<h1>{{ run }}</h1>
<nav>{% for section in sections %}<a href="#s{{ loop.index }}">{{ section.title }}</a>{% endfor %}</nav>
{% for section in sections %}
<section id="s{{ loop.index }}">
{% if not loop.first %}<h2>{{ section.title }}</h2>{% endif %}
{% for block in section.blocks %}
{% if block.kind == "tiles" %}
<div class="tiles">{% for label, value, detail in block.rows %}
<div class="tile"><span>{{ label }}</span><b>{{ value }}</b><span>{{ detail }}</span></div>{% endfor %}
</div>
{% elif block.kind == "table" %}
<div class="wide"><table{% if block.numeric %} class="numeric"{% endif %}>
{% if block.header|join %}<tr>{% for cell in block.header %}<th>{{ cell }}</th>{% endfor %}</tr>{% endif %}
{% for row in block.rows %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table></div>
{% elif block.kind == "list" %}
<ul>{% for row in block.rows %}<li>{{ row[0] }}</li>{% endfor %}</ul>
{% elif block.kind == "figure" %}
<figure><img src="{{ inlined(block.path) }}" alt="{{ block.text }}"><figcaption>{{ block.text }}</figcaption></figure>
{% elif block.kind == "verbatim" %}
<pre>{{ block.text }}</pre>
{% else %}
<p>{{ block.text }}</p>
{% endif %}
{% endfor %}
</section>
{% endfor %}
</body>
</html>
"""


def html_report(run: str, sections: Sequence[ReportSection]) -> str:
    """Render report.html: one file, without scripts or external resources."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(HTML_TEMPLATE).render(run=run, sections=sections, inlined=_inlined_png)


def _inlined_png(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
