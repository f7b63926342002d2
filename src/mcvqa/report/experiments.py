"""Writes the index of all runs, best first, including failed ones: a negative result is a result."""
import datetime
import shutil
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mcvqa.base.budget import spell_duration
from mcvqa.base.files import read_json, read_yaml, write_json, write_text
from mcvqa.base.uncertainty import Accuracy
from mcvqa.report.content import changed_settings
from mcvqa.report.markdown import markdown_table, markdown_text
from mcvqa.report.metrics import Metrics, Selection, spell_optimism


# %% one run
@dataclass(frozen=True)
class Experiment:
    """Describes a run by its folder experiments/<run>/.

    Attributes:
        run: name of the run.
        status: finished, failed, unfinished (no result yet) or unreadable.
        note: why it failed, in a sentence.
        date: when it ended or, if unfinished, was last modified; local time, to the minute.
        model: model_id.
        settings: settings that differ from the default.
        accuracy: out-of-fold accuracy; None: no result.
        blind: accuracy of the text-only prior.
        seconds: duration; 0: unknown.
        has_report: whether there is a REPORT.md.
        selection: optimism of choosing the best epoch; None: nothing was chosen.
        own: the user's metrics, name -> value and standard error.
    """

    run: str
    status: str
    note: str = ""
    date: str = ""
    model: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    accuracy: Accuracy | None = None
    blind: Accuracy | None = None
    seconds: float = 0.0
    has_report: bool = False
    selection: Selection | None = None
    own: dict[str, list[float]] = field(default_factory=dict)

    @property
    def result(self) -> str:
        """The accuracy with its error and optimism or, without a result, the status."""
        if self.accuracy is None:
            return f"{self.status}: {self.note}"
        more = "" if self.accuracy.not_measured else "".join(f", {name} {value:.3f}" for name, (value, _) in self.own.items())
        return str(self.accuracy) + (f", {spell_optimism(self.selection)} too high" if self.selection else "") + more


def record_experiment(
    folder: str | Path, *, status: str, seconds: float, metrics: Metrics | None = None, note: str = ""
) -> None:
    """Write experiments/<run>/metrics.json, from which the index is built.

    Args:
        folder: experiments/<run>.
        status: "finished" or "failed".
        seconds: duration of the run.
        metrics: metrics of a finished run.
        note: why it failed, in a sentence.
    """
    now = datetime.datetime.now().isoformat(timespec="minutes")
    measured = metrics.to_json() if metrics else None
    write_json(
        Path(folder) / "metrics.json",
        {"status": status, "note": note, "date": now, "seconds": round(seconds, 1), "metrics": measured},
    )


def read_experiment(folder: Path) -> Experiment:
    """Read a run from its folder; a damaged file makes only this run unreadable, not the index."""
    try:
        config = _read_settings(folder / "config.yaml")
        settings = {k: value for k, (value, _) in changed_settings(config).items() if k != "model_id"}
        report = (folder / "REPORT.md").exists()
        common: dict[str, Any] = dict(model=str(config.get("model_id", "")), settings=settings, has_report=report)
        if not (folder / "metrics.json").exists():
            return Experiment(folder.name, "unfinished", "no metrics.json yet", _modified_on(folder), **common)
        record = read_json(folder / "metrics.json", dict)
        overall, selection = ((record["metrics"] or {}).get(name) or {} for name in ("overall", "selection"))
        return Experiment(
            folder.name, str(record["status"]), str(record["note"]), str(record["date"]), **common,
            accuracy=_accuracy_from(overall.get("accuracy")), blind=_accuracy_from(overall.get("blind")),
            seconds=float(record["seconds"]),
            selection=Selection(int(selection["epochs"]), float(selection["optimism"])) if selection else None,
            own=(record["metrics"] or {}).get("own") or {},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Experiment(folder.name, "unreadable", f"{type(error).__name__}: {error}")


def _read_settings(file: Path) -> Mapping[str, Any]:
    return read_yaml(file, dict) if file.exists() else {}


def _accuracy_from(figures: dict[str, Any] | None) -> Accuracy | None:
    if not figures:
        return None
    right, n, reason = int(figures["right"]), int(figures["n"]), str(figures.get("not_measured", ""))
    groups = figures.get("groups")  # absent before errors were clustered
    effect = float(figures["design_effect"]) if groups is not None else 1.0
    return Accuracy(right, n, effect, groups, reason)


def _modified_on(folder: Path) -> str:
    return datetime.datetime.fromtimestamp(folder.stat().st_mtime).isoformat(timespec="minutes")


# %% all runs
def read_experiments(experiments_dir: str | Path) -> list[Experiment]:
    """Read folders with a config.yaml or metrics.json: the most accurate first, those not measured or without a result last."""
    folders = {p.parent for name in ("config.yaml", "metrics.json") for p in Path(experiments_dir).glob(f"*/{name}")}
    experiments = [read_experiment(folder) for folder in folders]

    def rank(e: Experiment) -> tuple[Any, ...]:
        return (e.accuracy is None, bool(e.accuracy and e.accuracy.not_measured), -e.accuracy.value if e.accuracy else 0.0, e.run)

    return sorted(experiments, key=rank)


def update_index(experiments_dir: str | Path) -> Path:
    """Rewrite experiments/README.md and return its path."""
    experiments = read_experiments(experiments_dir)
    measured, others = [e for e in experiments if e.accuracy], [e for e in experiments if not e.accuracy]
    parts = [
        "# Experiments",
        "Written by mcvqa after every run; manual changes are lost. Accuracy is out of fold, with its standard error; "
        "*blind* is the accuracy of the text-only prior on the same rows. "
        "Differences of less than two or three standard errors are not significant.",
        _index_table(measured) if measured else "No run has a result yet.",
    ]
    if others:
        rows = [(e.run, e.date, e.model, settings_text(e.settings), e.result) for e in others]
        parts += ["## Without a result", markdown_table(("run", "date", "model", "settings", "what happened"), rows)]
    path = Path(experiments_dir) / "README.md"
    write_text(path, "\n\n".join(parts) + "\n")
    return path


def _index_table(experiments: list[Experiment]) -> str:
    lines = ["| run | accuracy | blind | model | settings that differ | time | date |"]
    lines += ["|---|---:|---:|---|---|---:|---|"]
    for e in experiments:
        name = markdown_text(e.run)
        link = f"[{name}]({quote(e.run)}/REPORT.md)" if e.has_report else name
        failed = "" if e.status == "finished" else f" {e.status}: {e.note}"
        cells = (e.result + failed, *_table_cells(e))
        lines.append(f"| {link} | {' | '.join(map(markdown_text, cells))} |")
    return "\n".join(lines)


def list_experiments(experiments_dir: str | Path) -> str:
    """Format the index for a terminal: a paragraph for each run, its name at the beginning of a line."""
    experiments = read_experiments(experiments_dir)
    if not experiments:
        return f"There are no runs in {experiments_dir}."
    width = max(40, shutil.get_terminal_size().columns)
    return "\n".join(line for e in experiments for line in [e.run, *_indented(e, width)])


def _indented(e: Experiment, width: int) -> list[str]:
    from mcvqa.base.columns import with_second_columns, without_second_columns  # the notebook has no command line

    blind, model, settings, took, date = _table_cells(e)
    texts = (f"accuracy {e.result}; texts alone {blind}" if e.blind else e.result, f"{model or '–'}; {took}; {date}", settings)
    wide = (with_second_columns(text) for text in texts if text)
    return [without_second_columns(line) for text in wide for line in textwrap.wrap(
        text, width, initial_indent="  ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)]


def _table_cells(e: Experiment) -> tuple[str, ...]:
    return (f"{e.blind.value:.3f}" if e.blind else "–", e.model, settings_text(e.settings),
            spell_duration(e.seconds) if e.seconds else "–", e.date)


def settings_text(settings: Mapping[str, Any]) -> str:
    """Spell settings: {'num_epochs': 3, 'use_ema': False} -> 'num_epochs=3, use_ema=False'."""
    return ", ".join(f"{name}={','.join(map(str, v)) if isinstance(v, list) else v}" for name, v in settings.items())
