"""What a fold begins with, and whether that may have learned from its validation rows: then their accuracy is not measured."""
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
    """What a fold begins with.

    Attributes:
        adapters: folder of trained adapters; None: freshly initialised ones.
        not_measured: why these, or the base model, may have learned from the validation rows; empty: they have not.
        beside: what the fold's weights will have learned from, as a file that travels with them: name -> text.
    """

    adapters: Path | None
    not_measured: str
    beside: dict[str, str]


def beginning_of(project: Project, data: RunData, fold: int) -> Beginning:
    """Find what a fold begins with.

    Raises:
        ConfigError: the folder of the adapters is not there.
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
    """What the base model has learned from, where its folder says so, as that of a merged export does; else empty."""
    folder = local_folder(config)
    return [print_beside(folder)] if folder and (folder / TRAINED_ON).exists() else []


def print_beside(folder: Path) -> dict[str, Any]:
    """What weights have learned from, or that it is not known.

    Raises:
        DamagedFile: the file that says so is damaged.
    """
    file = folder / TRAINED_ON
    if not file.exists():
        return {"unknown": f"what {folder.name} was trained on is not known, as it has no {TRAINED_ON}", "photographs": ""}
    found = read_json(file, dict)
    if not isinstance(found.get("unknown"), str) or not are_prints(found.get("photographs")):
        raise DamagedFile(file, "it has no prints of photographs")
    return found


def _unknown_in(prints: list[dict[str, Any]]) -> str:
    return next((one["unknown"] for one in prints if one["unknown"]), "")


def why_not_measured(prints: list[dict[str, Any]], data: RunData, fold: int) -> str:
    """Why validation rows of a fold may have been learned from before; empty: they have not.

    Args:
        prints: of what the fold begins with.
        data: rows with folds.
        fold: number of the fold.
    """
    if unknown := _unknown_in(prints):
        return unknown
    rows = data.fold_rows(fold)[1]
    records = {q.image: data.records[q.image] for q in rows}
    seen = {name for one in prints for name in seen_photographs(one["photographs"], records)}
    count = sum(q.image in seen for q in rows)
    shown = f"{count:,} of {counted(len(rows), 'validation row')}"
    return f"the weights it began with may have learned from the photographs of {shown}" if count else ""
