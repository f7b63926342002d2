"""Finds the photographs that the tables name, and surveys them; the survey is kept from run to run."""
import dataclasses
from base64 import b64decode, b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcvqa.base.files import file_stamp, read_json, write_json
from mcvqa.config import settings_hash
from mcvqa.data.image_paths import SplitRows, find_photographs
from mcvqa.data.images import DECODER_VERSION, ImageError, ImageFolder, ImageRecord, survey_images
from mcvqa.data.locate import DataFiles
from mcvqa.data.questions import Table
from mcvqa.run.project import Project


def tables_with_photographs(
    project: Project, files: DataFiles, tables: Sequence[Table]
) -> tuple[list[Table], ImageFolder, list[str]]:
    """Look for the photographs that the tables name.

    Args:
        project: the run.
        files: files of the data folder.
        tables: tables of train.csv, then of dev.csv and test.csv if they are used.

    Returns:
        The tables with the paths of the photographs found; the files of the data folder; lines for the user.
    """
    splits = ["train", *(["dev"] if project.config.use_dev and files.dev else []), *(["test"] if files.test else [])]
    rows = [SplitRows(split, getattr(files, split), table.questions) for split, table in zip(splits, tables, strict=True)]
    folder, meant, notes = find_photographs(files.root, rows, project.paths.cache / "data")
    return [dataclasses.replace(table, questions=one.questions) for table, one in zip(tables, meant, strict=True)], folder, notes


def survey_photographs(
    cache: Path, folder: ImageFolder, written: Sequence[str], *, looks: bool = True
) -> dict[str, ImageRecord]:
    """Survey photographs as `survey_images` does; the survey is reused until a size or date changes.

    Args:
        cache: folder of the saved survey.
        folder: files of the data folder.
        written: paths as in the tables, or as resolved.
        looks: see `survey_images`.

    Returns:
        The record of each path.
    """
    files = [_image_stamp(folder, w) for w in sorted(set(written))]
    stamp = settings_hash({"root": str(folder.root), "decoder": DECODER_VERSION, "files": files})
    memory = cache / f"pictures-{'' if looks else 'sizes-'}{stamp}.json"
    if memory.exists():
        try:
            return {r["written"]: _record_from(r) for r in read_json(memory)}
        except (ValueError, TypeError, KeyError, AttributeError):
            print(f"  {memory} is damaged: the photographs are examined again")
    records = survey_images(folder, written, looks=looks)
    write_json(memory, [_record_as_json(record) for record in records.values()])
    return records


def _image_stamp(folder: ImageFolder, written: str) -> list[Any]:
    """Return the file of a written path, with its size and date."""
    try:
        path = folder.find(written)
        return [written, str(path), *file_stamp(path)]
    except (ImageError, OSError) as error:
        return [written, str(error)]


def _record_as_json(record: ImageRecord) -> dict[str, Any]:
    values = dataclasses.asdict(record)
    return values | {"path": record.path and str(record.path), "thumbnail": b64encode(record.thumbnail).decode()}


def _record_from(values: dict[str, Any]) -> ImageRecord:
    path = Path(values["path"]) if values["path"] else None
    return ImageRecord(**values | {"path": path, "thumbnail": b64decode(values["thumbnail"])})
