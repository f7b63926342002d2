"""Assembles the content of a report in one language, as plain text in sections and blocks; `report/page.py` writes the files."""
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mcvqa.base.budget import spell_duration
from mcvqa.base.informing import counted
from mcvqa.base.uncertainty import (
    SIGNIFICANT,
    Accuracy,
    Gain,
    spell_error_in_percent,
    spell_interval,
    spell_p_value,
    spell_points,
)
from mcvqa.config import Config
from mcvqa.data.answers import LETTERS
from mcvqa.report.advice import Advice
from mcvqa.report.gallery import ErrorCard, ErrorTag, Thumbnail, error_cards
from mcvqa.report.metrics import GroupAccuracy, Metrics, Selection, own_figures
from mcvqa.report.submission import SubmissionReport
from mcvqa.report.words import ReportWord, report_words_in


# %% input
@dataclass(frozen=True)
class LookAlike:
    """Describes a near-duplicate photograph.

    Attributes:
        image: its path as written.
        split: train or test.
        row: the first row that shows it.
    """

    image: str
    split: str
    row: str


@dataclass(frozen=True)
class DataFindings:
    """Holds the report's part about the data.

    Attributes:
        summary: text for a terminal, shown verbatim.
        figures: name -> PNG inside the report's folder.
        duplicates: what is shared, how many groups share it, their rows or photographs, and how many groups span both splits.
        look_alikes: some groups of near-duplicate photographs.
    """

    summary: str = ""
    figures: Mapping[str, Path] = field(default_factory=dict)
    duplicates: Sequence[tuple[str, int, int, int]] = ()
    look_alikes: Sequence[Sequence[LookAlike]] = ()


@dataclass(frozen=True)
class ReportInput:
    """Holds the content of a report, as plain data.

    Attributes:
        run: name of the run.
        config: every setting and its value.
        data: the part about the data.
        metrics: metrics of the run.
        methods: ensemble method -> its out-of-fold accuracy.
        method: the method used.
        method_reason: why it was used.
        figures: name -> PNG inside the report's folder (see `mcvqa.report.figures.draw_figures`).
        tags: id of each wrongly answered row -> its probable cause; empty: unknown.
        thumbnails: path of a photograph -> its thumbnail, for the errors shown and near-duplicates.
        explorer: name of the explorer's page next to the report; empty: there is none.
        submissions: path as shown -> result of its validation.
        not_submitted: why there are no submissions; '' if there are.
        submitted: source of the answers in the file to hand in.
        submitted_run: the run that made these answers.
        submitted_accuracy: their accuracy on unseen rows; None: unknown.
        advice: what to try next.
        environment: versions, commit, device, ...
        seconds: duration of the run.
        language: language in which the page opens, "ko" or "en".
        more: language -> blocks that follow the accuracies.
        korean: English text of the program -> Korean text.
    """

    run: str
    config: Mapping[str, Any]
    metrics: Metrics
    data: DataFindings = field(default_factory=DataFindings)
    methods: Mapping[str, Accuracy] = field(default_factory=dict)
    method: str = ""
    method_reason: str = ""
    figures: Mapping[str, Path] = field(default_factory=dict)
    tags: Mapping[str, ErrorTag] = field(default_factory=dict)
    thumbnails: Mapping[str, Thumbnail] = field(default_factory=dict)
    explorer: str = ""
    submissions: Mapping[str, SubmissionReport] = field(default_factory=dict)
    not_submitted: str = ""
    submitted: str = ""
    submitted_run: str = ""
    submitted_accuracy: Accuracy | None = None
    advice: Sequence[Advice] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    language: str = "en"
    more: Mapping[str, Sequence["ReportBlock"]] = field(default_factory=dict)
    korean: Callable[[str], str] = str

    def in_korean(self) -> "ReportInput":
        """Return the same content with its texts in Korean."""
        said, overall, submitted = self.korean, self.metrics.overall, self.submitted_accuracy
        accuracy = replace(overall.accuracy, not_measured=said(overall.accuracy.not_measured))
        return replace(
            self, method_reason=said(self.method_reason), not_submitted=said(self.not_submitted), submitted=said(self.submitted),
            submitted_accuracy=replace(submitted, not_measured=said(submitted.not_measured)) if submitted else None,
            data=replace(self.data, summary=said(self.data.summary)),
            submissions={path: replace(one, problems=tuple(map(said, one.problems))) for path, one in self.submissions.items()},
            metrics=replace(self.metrics, gains={said(name): gain for name, gain in self.metrics.gains.items()},
                            overall=replace(overall, accuracy=accuracy)),
        )


@dataclass(frozen=True)
class ReportBlock:
    """Represents a part of a section.

    Attributes:
        kind: text, list, table, tiles, figure, verbatim, link, gallery or photographs.
        cards: cards of a gallery, whose rows say the same without photographs.
        groups: groups of photographs, each with its thumbnail and caption.
    """

    kind: str
    text: str = ""
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    numeric: bool = False
    path: Path = Path()
    cards: tuple[ErrorCard, ...] = ()
    groups: tuple[tuple[tuple[Thumbnail, str], ...], ...] = ()


@dataclass(frozen=True)
class ReportSection:
    title: str
    blocks: tuple[ReportBlock, ...]
    name: str = ""


def report_sections(content: ReportInput, language: str = "en") -> list[ReportSection]:
    """Assemble all sections that have content, in one of REPORT_LANGUAGES."""
    say, content = report_words_in(language), content.in_korean() if language == "ko" else content
    parts: list[tuple[str, list[ReportBlock]]] = [
        ("result", _result_blocks(content, say)),
        ("errors", _error_blocks(content, say)),
        ("advice", [_list_block(getattr(one, LANGUAGE_OF_ADVICE[language]) for one in content.advice)] if content.advice else []),
        ("accuracies", _accuracy_blocks(content, say)),
        ("gains", _gain_blocks(content, say)),
        ("ensemble", _ensemble_blocks(content, say)),
        ("calibration", _calibration_blocks(content, say)),
        ("letters", _letter_blocks(content, say)),
        ("training", _figure_block(content.figures, "curves", say("curves_figure"))),
        ("data", _data_blocks(content, say)),
        ("submission", _submission_blocks(content, say)),
        ("settings", _settings_blocks(content, say)),
        ("remarks", [_list_block(_remarks(content, say))]),
        ("origin", [_table_block(("", ""), content.environment.items())] if content.environment else []),
    ]
    return [ReportSection(say(name), tuple(blocks), name) for name, blocks in parts if blocks]


LANGUAGE_OF_ADVICE = {"en": "english", "ko": "korean"}


def changed_settings(config: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the settings that differ from the default: name -> (value, default), without run_name and output_dir."""
    defaults = _without_tuples({name: setting.default for name, setting in Config.settings().items()})
    changed = {k: (v, defaults.get(k)) for k, v in _without_tuples(config).items() if v != defaults.get(k)}
    return {k: pair for k, pair in changed.items() if k not in ("run_name", "output_dir")}


def _without_tuples(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}  # YAML has no tuples


# %% result and errors
def _result_blocks(content: ReportInput, say: ReportWord) -> list[ReportBlock]:
    """Show this run's figures, preceded by the content of the file to hand in if it is from another run."""
    submitted, metrics = content.submitted_accuracy, content.metrics
    if not content.submitted or submitted == metrics.overall.accuracy:
        return [_headline(metrics, say)]
    accuracy = say("not_known")
    if submitted and not submitted.not_measured:
        accuracy = say("accuracy_is", accuracy=f"{submitted.value:.1%} ({_error_in_percent(submitted)}, n = {submitted.n:,})")
    text = say("handed_in", source=content.submitted, run=content.submitted_run, accuracy=accuracy)
    return [ReportBlock("text", text), _headline(metrics, say)]


def _headline(metrics: Metrics, say: ReportWord) -> ReportBlock:
    accuracy, selection = metrics.overall.accuracy, metrics.selection
    if accuracy.not_measured:
        return ReportBlock("tiles", header=(say("figure"), say("value"), say("why")), rows=(
            (say("out_of_fold"), say("not_measured"), accuracy.not_measured),))
    chosen = say("chosen", epochs=selection.epochs, points=_optimism_text(selection, say)) if selection else ""
    detail = ", ".join(filter(None, (f"{_error_in_percent(accuracy)}, n = {accuracy.n:,}", chosen)))
    tiles = [(say("out_of_fold"), f"{accuracy.value:.1%}", detail)]
    if metrics.overall.blind is not None and metrics.over_blind is not None:
        gain = say("image_adds", points=metrics.over_blind.in_points)
        tiles.append((say("without_image"), f"{metrics.overall.blind.value:.1%}", gain))
    if metrics.circular is not None:
        circular = metrics.circular
        tiles.append((say("every_order"), f"{circular.value:.1%}", _error_in_percent(circular)))
    if metrics.leaderboard is not None:
        estimate = metrics.leaderboard
        span = f"{spell_interval(100 * estimate.low, 100 * estimate.high, '–', 1)}%"
        tiles.append((say("expected", n=estimate.n, rows=counted(estimate.n, "test row")), span, say("interval")))
    return ReportBlock("tiles", header=(say("figure"), say("value"), say("error")), rows=tuple(tiles))


def _error_blocks(content: ReportInput, say: ReportWord) -> list[ReportBlock]:
    errors = content.metrics.errors
    link = [ReportBlock("link", say("explorer"), path=Path(content.explorer))] if content.explorer else []
    if not errors:
        return [ReportBlock("text", say("none_wrong")), *link]
    wrong = content.metrics.overall.accuracy.n - content.metrics.overall.accuracy.right
    cards = error_cards(errors, content.thumbnails, content.tags)
    header = tuple(map(say, ("row", "question", "choices", "predicted", "true", "diagnosis")[: 6 if content.tags else 5]))
    rows = tuple(_error_row(card, say)[: len(header)] for card in cards)
    return [
        *_tag_blocks(content, say), *link,
        ReportBlock("text", say("most_confident", n=len(errors), total=wrong, wrong=counted(wrong, "wrong answer"))),
        ReportBlock("gallery", header=header, rows=rows, cards=cards),
    ]


def _tag_blocks(content: ReportInput, say: ReportWord) -> list[ReportBlock]:
    """Show the number of wrong answers per tag with advice, the most frequent first, those without a tag last."""
    language, tags = say("language"), content.tags.values()
    counts = Counter((one.reasons[language] == "", one.names[language], one.remedies[language]) for one in tags)
    ordered = sorted(counts.items(), key=lambda item: (item[0][0], -item[1]))
    rows = [(name, f"{count:,}", remedy) for (_, name, remedy), count in ordered]
    return [_table_block((say("diagnosis"), say("wrong_answers"), say("what_to_do")), rows)] if rows else []


def _error_row(card: ErrorCard, say: ReportWord) -> tuple[str, ...]:
    error, tag, language = card.error, card.tag, say("language")
    choices = " / ".join(f"({letter}) {text}" for letter, text in zip(LETTERS, error.choices, strict=False))
    predicted, true = LETTERS[error.predicted], LETTERS[error.answer]
    return (
        f"{error.id}, {error.image}", error.question, choices,
        f"{predicted}\u00a0({error.probabilities[error.predicted]:.2f})",  # a non-breaking space
        f"{true}\u00a0({error.probabilities[error.answer]:.2f})",
        f"{tag.names[language]}: {tag.reasons[language]}" if tag and tag.reasons[language] else "–",
    )


# %% accuracy
def _accuracy_blocks(content: ReportInput, say: ReportWord) -> list[ReportBlock]:
    metrics = content.metrics
    header = tuple(map(say, ("rows", "accuracy_in_percent", "interval", "without_image", "guessing", "n")))
    groups = [
        (say("all"), metrics.overall),
        *((say("source", name=_name_in(group, "from ")), group) for group in metrics.by_source),
        *((say(group.name), group) for group in metrics.by_kind),
        *((say("n_choices", name=group.name.partition(" ")[0]), group) for group in metrics.by_choices),
        *((say("fold", name=_name_in(group, "fold ")), group) for group in metrics.by_fold),
    ]
    drawn = _figure_block(content.figures, "groups", say("groups_figure"))
    figures = own_figures(metrics)
    return [
        *([] if metrics.overall.accuracy.not_measured else drawn),
        _table_block(header, [_group_row(name, group, say) for name, group in groups], numeric=True),
        *([_table_block((say("own_metric"), say("value")), figures.items(), numeric=True)] if figures else []),
        *_figure_block(content.figures, "confusion", say("confusion_figure")), *content.more.get(say("language"), ()),
    ]


def _name_in(group: GroupAccuracy, before: str) -> str:
    return group.name.removeprefix(before)


def _group_row(name: str, group: GroupAccuracy, say: ReportWord) -> tuple[str, ...]:
    accuracy = group.accuracy
    blind = f"{100 * group.blind.value:.1f}" if group.blind else "–"
    chance = f"{100 * group.chance:.1f}"
    return (name, _accuracy_text(accuracy, say), _interval_text(accuracy, say), blind, chance, f"{accuracy.n:,}")


def _gain_blocks(content: ReportInput, say: ReportWord) -> list[ReportBlock]:
    gains = content.metrics.gains
    if not gains:
        return []
    rows = [
        (name, f"{100 * g.value:+.1f}", spell_interval(100 * g.low, 100 * g.high, say("to"), 1, "+"),
         spell_p_value(g.p_value), say(gain_verdict(g)))
        for name, g in gains.items()
    ]
    header = tuple(map(say, ("technique", "gain_in_points", "interval", "p_value", "verdict")))
    return [
        ReportBlock("text", say("tested")),
        *_figure_block(content.figures, "gains", say("gains_figure")),
        _table_block(header, rows, numeric=True),
    ]


def gain_verdict(gain: Gain) -> str:
    """Return the verdict that the test supports."""
    return "helps" if gain.is_better else "hurts" if gain.is_worse else "not significant"


def _ensemble_blocks(content: ReportInput, say: ReportWord) -> list[ReportBlock]:
    if not content.methods:
        return []
    rows = [
        (say("used", name=name) if name == content.method else name, _accuracy_text(accuracy, say), _interval_text(accuracy, say))
        for name, accuracy in sorted(content.methods.items(), key=lambda item: -item[1].value)
    ]
    header = (say("method"), say("accuracy_in_percent"), say("interval"))
    return [ReportBlock("text", content.method_reason), _table_block(header, rows, numeric=True)]


# %% probabilities and letters
def _calibration_blocks(content: ReportInput, say: ReportWord) -> list[ReportBlock]:
    metrics = content.metrics
    rows = [
        (name, f"{r.ece:.3f}", f"{r.brier:.3f}", f"{r.nll:.3f}")
        for name, r in ((say("as_scored"), metrics.before), (say("temperature", t=metrics.temperature), metrics.after))
    ]
    header = tuple(map(say, ("probabilities", "ece", "brier", "nll")))
    return [
        _table_block(header, rows, numeric=True), *_figure_block(content.figures, "reliability", say("reliability_figure")),
    ]


def _letter_blocks(content: ReportInput, say: ReportWord) -> list[ReportBlock]:
    letters = content.metrics.letters
    verdict = say("beyond_chance" if letters.p_value < SIGNIFICANT else "by_chance")
    shares = zip(LETTERS, letters.overall.predicted, letters.overall.truth, strict=False)
    rows = [(letter, *(f"{100 * share:.1f}" for share in (predicted, true)), f"{100 * (predicted - true):+.1f}")
            for letter, predicted, true in shares]
    summary = say("letter_distance", distance=letters.overall.distance, p=spell_p_value(letters.p_value), verdict=verdict)
    return [
        ReportBlock("text", summary),
        *_figure_block(content.figures, "letters", say("letters_figure")),
        _table_block(tuple(map(say, ("letter", "predicted_share", "true_share", "difference"))), rows, numeric=True),
    ]


# %% data, submission, settings
def _data_blocks(content: ReportInput, say: ReportWord) -> list[ReportBlock]:
    """Show the data, duplicates first, since they limit what the figures mean."""
    data, blocks = content.data, []
    if data.duplicates:
        rows = [(say(what), f"{n:,}", f"{rows:,}", f"{both:,}") for what, n, rows, both in data.duplicates if n]
        header = tuple(map(say, ("shared", "groups", "members", "in_both")))
        blocks += [_table_block(header, rows, numeric=True) if rows else ReportBlock("text", say("no_duplicates"))]
    if data.look_alikes:
        groups = [[(content.thumbnails.get(one.image, Thumbnail()), f"{one.row} ({one.split})") for one in group]
                  for group in data.look_alikes]
        blocks += [ReportBlock("photographs", say("look_alikes"), groups=tuple(map(tuple, groups)))]
    for name, path in data.figures.items():
        blocks += [ReportBlock("figure", say(f"{name}_eda"), path=Path(path))]
    return [*blocks, *([ReportBlock("verbatim", data.summary)] if data.summary.strip() else [])]


def _submission_blocks(content: ReportInput, say: ReportWord) -> list[ReportBlock]:
    if content.not_submitted:
        return [ReportBlock("text", say("no_submission", why=content.not_submitted))]
    rows = []
    for path, report in content.submissions.items():
        problems = "; ".join(map(str, report.problems))
        verdict = say("not_valid", problems=problems) if problems else say("valid")
        shares = ", ".join(f"{answer}: {count:,}" for answer, count in report.distribution.items())
        rows.append((path, f"{report.rows:,}", verdict, shares))
    header = tuple(map(say, ("file", "rows", "validation", "answers")))
    return [_table_block(header, rows)] if rows else []


def _settings_blocks(content: ReportInput, say: ReportWord) -> list[ReportBlock]:
    changed = changed_settings(content.config)
    model, pixels = str(content.config.get("model_id", "unknown")), content.config.get("image_size")
    took = say("took", time=_duration_text(content.seconds, say)) if content.seconds else ""
    changes = say("changed" if changed else "all_defaults")
    rows = [(name, _setting_text(value), _setting_text(default)) for name, (value, default) in changed.items()]
    header = (say("setting"), say("here"), say("default"))
    return [
        ReportBlock("text", " ".join(filter(None, (say("model", model=model, pixels=pixels), took, changes)))),
        *([_table_block(header, rows)] if rows else []),
    ]


# %% how to read the figures
def _remarks(content: ReportInput, say: ReportWord) -> list[str]:
    """Make remarks on how to interpret the figures of this run."""
    metrics, config = content.metrics, content.config
    accuracy, selection = metrics.overall.accuracy, metrics.selection
    remarks = [say("unseen")]
    if reason := accuracy.not_measured:
        remarks = [say("seen", why=reason)]
    elif accuracy.standard_error > 0:
        error = accuracy.standard_error
        remarks[0] += " " + say("standard_error", error=spell_points(error), least=spell_points(2.8 * error))
    if accuracy.design_effect > 1:
        n = round(accuracy.n / accuracy.design_effect)
        remarks.append(say("clustered", n=accuracy.n, independent=n, rows=counted(n, "independent one")))
    if selection is not None:
        remarks.append(say("selection", epochs=selection.epochs, points=_optimism_text(selection, say)))
    elif config.get("keep") == "best" and config.get("num_epochs", 0) > 1:
        remarks.append(say("optimistic"))
    if not config.get("use_kfold", True):
        remarks.append(say("one_split"))
    if source := config.get("validate_on"):
        remarks.append(say("validated_on", source=source))
    if config.get("use_sample"):
        remarks.append(say("sampled", n=config.get("sample_size")))
    if metrics.overall.blind is not None:
        remarks.append(say("blind", blind=metrics.overall.blind.value, chance=metrics.overall.chance))
    if metrics.temperature != 1.0:
        remarks.append(say("one_temperature"))
    if metrics.leaderboard is not None:
        remarks.append(say("resembling"))
    return remarks


# %% parts
def _figure_block(figures: Mapping[str, Path], name: str, caption: str) -> list[ReportBlock]:
    return [ReportBlock("figure", caption, path=Path(figures[name]))] if name in figures else []


def _table_block(header: tuple[str, ...], rows: Iterable[Sequence[Any]], numeric: bool = False) -> ReportBlock:
    return ReportBlock("table", header=header, rows=tuple(tuple(map(str, row)) for row in rows), numeric=numeric)


def _list_block(texts: Iterable[str]) -> ReportBlock:
    return ReportBlock("list", rows=tuple((text,) for text in texts))


def _setting_text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _duration_text(seconds: float, say: ReportWord) -> str:
    spelled = spell_duration(seconds)
    return say("duration", english=spelled, korean=spelled.replace(" h", "시간").replace(" min", "분").replace(" s", "초"))


def _optimism_text(selection: Selection, say: ReportWord) -> str:
    points = 100 * selection.optimism
    return say("about_points", points=points) if points >= 0.05 else say("few_points")


def _error_in_percent(accuracy: Accuracy) -> str:
    """Spell the error, '± 2.6%', or the interval if all or no answers are right."""
    if 0 < accuracy.right < accuracy.n:
        return f"± {spell_points(accuracy.standard_error)}%"
    low, high = accuracy.interval
    return f"95%: {spell_interval(100 * low, 100 * high, '–', 1)}%"


def _accuracy_text(accuracy: Accuracy, say: ReportWord) -> str:
    return say("not_measured") if accuracy.not_measured else spell_error_in_percent(accuracy.value, accuracy.standard_error)


def _interval_text(accuracy: Accuracy, say: ReportWord) -> str:
    low, high = accuracy.interval
    return "–" if accuracy.not_measured else spell_interval(100 * low, 100 * high, say("to"), 1)
