"""Reads and writes checkpoints: written atomically, verified when read, in safetensors and JSON only.

Trained weights are plain PEFT folders. A resume point contains everything a fold needs to continue; the newest two are kept.
"""
import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tqdm.auto import tqdm

from mcvqa.base.files import (
    LONG_WAITS,
    MANIFEST,
    SHORT_WAITS,
    as_json,
    damaged_file,
    file_hash,
    patiently,
    read_json,
    require_storage,
    sync,
)
from mcvqa.config import McvqaError
from mcvqa.model.load import BaseModel, load_adapter

TENSORS, STATE = "tensors.safetensors", "state.json"
POINTS_KEPT = 2  # the newest, and the previous one in case the newest is damaged


class CheckpointError(McvqaError, RuntimeError):
    """Raised if a checkpoint is missing or damaged."""


class NotSaved(McvqaError, RuntimeError):
    """Raised if a checkpoint could not be written; the previous one is unchanged."""


# %% atomic folders
@contextlib.contextmanager
def atomic_folder(folder: Path, facts: dict[str, Any]) -> Iterator[Path]:
    """Yield a temporary folder to write files into, which replaces `folder` when the block ends without an error.

    Everything is flushed to disk first, with a manifest of sizes and hashes. A crash at any moment leaves either the old
    folder or the new one.

    Args:
        folder: the folder to replace.
        facts: additional fields of the manifest.

    Raises:
        OSError: the disk is full or unavailable.
    """
    part, old = folder.with_name(f".{folder.name}.part"), folder.with_name(f".{folder.name}.old")
    require_storage()
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        files = {f.name: {"bytes": f.stat().st_size, "sha256": file_hash(f)} for f in sorted(part.iterdir())}
        (part / MANIFEST).write_text(as_json({"files": files, **facts}), encoding="utf-8")
        for name in (*files, MANIFEST):
            sync(part / name)
        sync(part)
        require_storage()
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.rename(folder, old)
        os.rename(part, folder)
        sync(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    except SafetensorError as error:  # it reports system errors as text
        number = re.search(r"os error (\d+)", str(error))
        raise OSError(int(number[1]) if number else errno.EIO, str(error)) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _save_folder(folder: Path, fill: Callable[[Path], None], facts: dict[str, Any], waits: Sequence[float]) -> None:
    """Replace `folder` by what `fill` writes, retrying after `waits` seconds."""
    def attempt() -> None:
        with atomic_folder(folder, facts) as part:
            fill(part)

    try:
        patiently(attempt, f"saving {folder}", waits, tqdm.write)
    except OSError as error:
        raise NotSaved(
            f"{folder} could not be written: {error}. Free some space (cache/ may be deleted) or reconnect the disk, "
            "then run the same command again"
        ) from error


# %% trained weights
def save_trained(model: Any, folder: str | Path, facts: dict[str, Any], beside: Mapping[str, str] | None = None) -> None:
    """Save a PEFT adapter (or, without adapters, the whole model) as safetensors.

    Args:
        model: the trained model.
        folder: the checkpoint to write or replace.
        facts: additional fields of the manifest.
        beside: files to write next to the weights, name -> text.

    Raises:
        NotSaved: the disk is full, or stayed unavailable for five minutes; `folder` is unchanged.
    """
    def fill(part: Path) -> None:
        model.save_pretrained(part, safe_serialization=True)
        (part / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
        for name, text in (beside or {}).items():
            (part / name).write_text(text, encoding="utf-8")

    _save_folder(Path(folder), fill, facts, LONG_WAITS)


def load_trained(base: BaseModel, folder: Path) -> Any:
    """Load the weights of a checkpoint into the base model.

    Args:
        base: the base model.
        folder: the checkpoint.

    Returns:
        The model with these weights.

    Raises:
        CheckpointError: a file is missing or damaged.
        ModelError: the weights do not fit the model.
    """
    verified(folder)
    return load_adapter(base, folder)


def verified(folder: str | Path) -> dict[str, Any]:
    """Verify all files of a checkpoint and return its manifest.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    folder = Path(folder)
    patiently(require_storage, f"reading {folder}", LONG_WAITS)
    old = folder.with_name(f".{folder.name}.old")
    if old.exists() and not folder.exists():  # a crash between the two renames of atomic_folder
        os.rename(old, folder)
    if not (folder / MANIFEST).exists():
        raise CheckpointError(f"There is no checkpoint in {folder}: train first (mcvqa train).")
    if damaged := damaged_file(folder):
        raise CheckpointError(f"{damaged} is damaged or missing: delete {folder} and train this fold again.")
    return read_json(folder / MANIFEST)


def adapter_hash(folder: str | Path) -> str:
    """Hash the weights of a checkpoint, which identifies the origin of scores."""
    files = read_json(Path(folder) / MANIFEST, dict)["files"]
    weights = [facts["sha256"] for name, facts in sorted(files.items()) if name.endswith(".safetensors")]
    return "-".join(value[:16] for value in weights)


# %% resume points
def save_point(point: Path, tensors: dict[str, torch.Tensor], state: dict[str, Any], kept: str = "") -> None:
    """Write a resume point, and delete all others but the previous one and `kept`.

    Args:
        point: its folder; the names of a fold's points sort by age.
        tensors: tensors by name.
        state: anything that JSON can represent.
        kept: name of another point to keep.

    Raises:
        NotSaved: the disk is full or unavailable; existing points are unchanged.
    """
    def fill(part: Path) -> None:
        save_file(tensors, part / TENSORS)
        (part / STATE).write_text(as_json(state), encoding="utf-8")

    _save_folder(point, fill, {}, SHORT_WAITS)
    to_keep = {*_points(point.parent)[-POINTS_KEPT:], point.parent / kept}
    with contextlib.suppress(OSError):  # they are deleted the next time
        for other in point.parent.iterdir():  # including partial files of a crashed run
            if other not in to_keep:
                shutil.rmtree(other, ignore_errors=True)


def newest_point(folder: Path) -> Path | None:
    """Find the newest intact resume point in `folder`, or None; damaged ones are reported and deleted."""
    for point in reversed(_points(folder)):
        damaged = damaged_file(point)
        if damaged is None:
            return point
        tqdm.write(f"  {damaged} is damaged or missing: this resume point is deleted and the previous one is used")
        shutil.rmtree(point)
    return None


def read_point(point: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read the tensors (on the CPU) and the state of a resume point."""
    return load_file(point / TENSORS), read_json(point / STATE)


def _points(folder: Path) -> list[Path]:
    """List resume points, oldest first."""
    return sorted(folder.glob("[0-9]*"))
