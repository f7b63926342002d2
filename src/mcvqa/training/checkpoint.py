"""Checkpoints on disk: written whole or not at all, verified when read. safetensors and JSON only.

Trained weights are plain PEFT folders. A resume point is what a fold needs to go on; the newest two are kept.
"""
import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm

from mcvqa.base.files import LONG_WAITS, MANIFEST, SHORT_WAITS, as_json, damaged_file, file_hash, patiently, read_json, sync
from mcvqa.config import McvqaError
from mcvqa.model.load import BaseModel, load_adapter

TENSORS, STATE = "tensors.safetensors", "state.json"
POINTS_KEPT = 2  # the newest, and the one before it in case the newest is damaged


class CheckpointError(McvqaError, RuntimeError):
    """A checkpoint that is missing or damaged."""


class NotSaved(McvqaError, RuntimeError):
    """A checkpoint that could not be written; the one before it is as it was."""


# %% folders that are whole
@contextlib.contextmanager
def whole_folder(folder: Path, facts: dict[str, Any]) -> Iterator[Path]:
    """A folder to write files into, beside `folder`; it takes its place when the block ends without an error.

    Before that everything is forced to the disk, with a manifest of sizes and hashes. A run that is cut off, whenever that
    is, leaves the old folder or the new one.

    Args:
        facts: for the manifest.

    Raises:
        OSError: the disk is full or gone.
    """
    part, old = folder.with_name(f".{folder.name}.part"), folder.with_name(f".{folder.name}.old")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        files = {f.name: {"bytes": f.stat().st_size, "sha256": file_hash(f)} for f in sorted(part.iterdir())}
        (part / MANIFEST).write_text(as_json({"files": files, **facts}), encoding="utf-8")
        for name in (*files, MANIFEST):
            sync(part / name)
        sync(part)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.rename(folder, old)
        os.rename(part, folder)
        sync(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    except SafetensorError as error:  # its words for an error of the system
        number = re.search(r"os error (\d+)", str(error))
        raise OSError(int(number[1]) if number else errno.EIO, str(error)) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _save_whole(folder: Path, fill: Callable[[Path], None], facts: dict[str, Any], waits: Sequence[float]) -> None:
    """Write what `fill` puts into a folder. Args: waits: as `patiently` takes them."""
    def attempt() -> None:
        with whole_folder(folder, facts) as part:
            fill(part)

    try:
        patiently(attempt, f"saving {folder}", waits, tqdm.write)
    except OSError as error:
        raise NotSaved(
            f"{folder} could not be written: {error}. Make space on the disk (cache/ may be deleted), or see that it is there, "
            "and give the same command again"
        ) from error


# %% trained weights
def save_trained(model: Any, folder: str | Path, facts: dict[str, Any]) -> None:
    """Save a PEFT adapter (or, without adapters, the whole model) as safetensors. A drive that is away is waited for.

    Raises:
        NotSaved: the disk is full or gone; what was in `folder` still is.
    """
    def fill(part: Path) -> None:
        model.save_pretrained(part, safe_serialization=True)
        (part / "README.md").unlink(missing_ok=True)  # PEFT's empty model card

    _save_whole(Path(folder), fill, facts, LONG_WAITS)


def load_trained(base: BaseModel, folder: Path) -> Any:
    """The base model with the weights of a checkpoint.

    Raises:
        CheckpointError: a file is missing, shorter or changed.
        ModelError: the weights do not suit the model.
    """
    verified(folder)
    return load_adapter(base, folder)


def verified(folder: str | Path) -> dict[str, Any]:
    """The manifest of a checkpoint whose files are all as they were written.

    Raises:
        CheckpointError: a file is missing, shorter or changed.
    """
    folder = Path(folder)
    old = folder.with_name(f".{folder.name}.old")
    if old.exists() and not folder.exists():  # cut off between the two renames of whole_folder
        os.rename(old, folder)
    if not (folder / MANIFEST).exists():
        raise CheckpointError(f"There is no checkpoint in {folder}: train first (mcvqa train).")
    if damaged := damaged_file(folder):
        raise CheckpointError(f"{damaged} is damaged or missing: delete {folder} and train this fold again.")
    return read_json(folder / MANIFEST)


def adapter_hash(folder: str | Path) -> str:
    """One hash for the weights of a checkpoint: the provenance of its scores."""
    files = read_json(Path(folder) / MANIFEST, dict)["files"]
    weights = [facts["sha256"] for name, facts in sorted(files.items()) if name.endswith(".safetensors")]
    return "-".join(value[:16] for value in weights)


# %% resume points
def save_point(point: Path, tensors: dict[str, torch.Tensor], state: dict[str, Any], kept: str = "") -> None:
    """Write a resume point, and leave beside it only the one before it and the one that is kept.

    Args:
        point: its folder; the names of a fold's points sort by age.
        state: anything that JSON can hold.
        kept: name of another point that stays.

    Raises:
        NotSaved: the disk is full or gone; the points that are there stay.
    """
    def fill(part: Path) -> None:
        save_file(tensors, part / TENSORS)
        (part / STATE).write_text(as_json(state), encoding="utf-8")

    _save_whole(point, fill, {}, SHORT_WAITS)
    staying = {*_points(point.parent)[-POINTS_KEPT:], point.parent / kept}
    with contextlib.suppress(OSError):  # they are removed the next time
        for other in point.parent.iterdir():  # also what a run that was cut off has left half written
            if other not in staying:
                shutil.rmtree(other, ignore_errors=True)


def newest_point(folder: Path) -> Path | None:
    """The newest resume point in `folder` that is whole, or None. One that is damaged is told and removed."""
    for point in reversed(_points(folder)):
        damaged = damaged_file(point)
        if damaged is None:
            return point
        tqdm.write(f"  {damaged} is damaged or missing: this resume point is removed and the one before it used")
        shutil.rmtree(point)
    return None


def read_point(point: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """What `save_point` was given, the tensors on the CPU."""
    return load_file(point / TENSORS), read_json(point / STATE)


def _points(folder: Path) -> list[Path]:
    """The oldest first."""
    return sorted(folder.glob("[0-9]*"))
