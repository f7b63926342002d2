"""Checkpoints on disk: written whole or not at all, verified when read. safetensors and JSON only.

Trained weights are plain PEFT folders. A resume point is what a fold needs to go on; the newest two are kept.
"""
import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm

from mcvqa.files import file_hash, read_json, sync, write_json

MANIFEST = "manifest.json"
TENSORS, STATE = "tensors.safetensors", "state.json"
POINTS_KEPT = 2  # the newest, and the one before it in case the newest is damaged


class CheckpointError(RuntimeError):
    """A checkpoint that is missing or damaged."""


class NotSaved(RuntimeError):
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
        NotSaved: the disk is full or gone.
    """
    part, old = folder.with_name(f".{folder.name}.part"), folder.with_name(f".{folder.name}.old")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        files = {f.name: {"bytes": f.stat().st_size, "sha256": file_hash(f)} for f in sorted(part.iterdir())}
        for name in files:
            sync(part / name)
        write_json(part / MANIFEST, {"files": files, **facts})
        sync(part)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.rename(folder, old)
        os.rename(part, folder)
        sync(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise NotSaved(
            f"{folder} could not be written: {error}. Make space on the disk (cache/ may be deleted), or see that it is there, "
            "and give the same command again"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def damaged_file(folder: Path) -> Path | None:
    """The first file of a folder that is not as it was written; None: all of them are."""
    try:
        files = read_json(folder / MANIFEST)["files"].items()
        for name, facts in files:
            file = folder / name
            if not file.exists() or file.stat().st_size != facts["bytes"] or file_hash(file) != facts["sha256"]:
                return file
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        return folder / MANIFEST
    return None


# %% trained weights
def save_trained(model: Any, folder: str | Path, facts: dict[str, Any]) -> None:
    """Save a PEFT adapter (or, without adapters, the whole model) as safetensors.

    Raises:
        NotSaved: the disk is full or gone; what was in `folder` still is.
    """
    with whole_folder(Path(folder), facts) as part:
        model.save_pretrained(part, safe_serialization=True)
        (part / "README.md").unlink(missing_ok=True)  # PEFT's empty model card


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
    files = read_json(Path(folder) / MANIFEST)["files"]
    weights = [facts["sha256"] for name, facts in sorted(files.items()) if name.endswith(".safetensors")]
    return "-".join(value[:16] for value in weights)


# %% resume points
def save_point(point: Path, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
    """Write a resume point, and leave only the one before it beside it.

    Args:
        point: its folder; the names of a fold's points sort by age.
        state: anything that JSON can hold.

    Raises:
        NotSaved: the disk is full or gone; the points that are there stay.
    """
    with whole_folder(point, {}) as part:
        save_file(tensors, part / TENSORS)
        write_json(part / STATE, state)
    kept = _points(point.parent)[-POINTS_KEPT:]
    for other in point.parent.iterdir():  # also what a run that was cut off has left half written
        if other not in kept:
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
