"""Finds the weights a fold starts from. If they may have been trained on its validation rows, its accuracy is not measured."""
import json
from pathlib import Path
from typing import Any, NamedTuple

from mcvqa.base.files import DamagedFile, as_json, read_json
from mcvqa.base.informing import counted
from mcvqa.config import Config
from mcvqa.data.trained_on import TRAINED_ON, are_prints, joined_prints, photographs_print, seen_photographs
from mcvqa.model.content import base_print, local_folder
from mcvqa.run.dataset import RunData
from mcvqa.run.project import Project


class Beginning(NamedTuple):
    """Describes the weights a fold starts from.

    Attributes:
        adapters: folder of trained adapters; None: newly initialised ones.
        not_measured: why these adapters, or the base model, may have been trained on the validation rows; empty: they were not.
        beside: files that accompany the fold's weights and list their training photographs: name -> text.
    """

    adapters: Path | None
    not_measured: str
    beside: dict[str, str]


def beginning_of(project: Project, data: RunData, fold: int) -> Beginning:
    """Find the weights a fold starts from.

    Args:
        project: the run.
        data: its rows, with folds.
        fold: number of the fold.

    Returns:
        The start, with the files to store next to the fold's weights.

    Raises:
        ConfigError: the folder of the adapters does not exist.
    """
    prints, adapters = prints_of_base(project.config), None
    if project.config.start_from:
        from mcvqa.run.start import announced_start

        adapters = announced_start(project.config, fold)
        prints.append(print_beside(adapters))
    train, _ = data.fold_rows(fold)
    learned = photographs_print(data.records[q.image] for q in train)
    return Beginning(adapters, why_not_measured(prints, data, fold), {TRAINED_ON: as_json({
        "base": json.loads(base_print(project.config)), "unknown": _unknown_in(prints),
        "photographs": joined_prints([learned, *(one["photographs"] for one in prints)]),
    })})


def prints_of_base(config: Config) -> list[dict[str, Any]]:
    """Read the training photographs of the base model if its folder lists them, as a merged export does."""
    folder = local_folder(config)
    return [print_beside(folder)] if folder and (folder / TRAINED_ON).exists() else []


def print_beside(folder: Path) -> dict[str, Any]:
    """Read the list of training photographs next to some weights, or note that it is unknown.

    Raises:
        DamagedFile: the list is damaged.
    """
    file = folder / TRAINED_ON
    if not file.exists():
        return {"unknown": f"it is unknown what {folder.name} was trained on, as it has no {TRAINED_ON}", "photographs": ""}
    record = read_json(file, dict)
    if not isinstance(record.get("unknown"), str) or not are_prints(record.get("photographs")):
        raise DamagedFile(file, "it has no fingerprints of photographs")
    return record


def _unknown_in(prints: list[dict[str, Any]]) -> str:
    return next((one["unknown"] for one in prints if one["unknown"]), "")


def why_not_measured(prints: list[dict[str, Any]], data: RunData, fold: int) -> str:
    """Explain why the validation rows of a fold may have been seen before.

    Args:
        prints: lists of the training photographs of the weights the fold starts from.
        data: rows with folds.
        fold: number of the fold.

    Returns:
        The reason; empty: they have not been seen.
    """
    if unknown := _unknown_in(prints):
        return unknown
    rows = data.fold_rows(fold)[1]
    records = {q.image: data.records[q.image] for q in rows}
    seen = {name for one in prints for name in seen_photographs(one["photographs"], records)}
    count = sum(q.image in seen for q in rows)
    shown = f"{count:,} of {counted(len(rows), 'validation row')}"
    return f"the weights it started from may have been trained on the photographs of {shown}" if count else ""
