"""Trained weights on disk: plain PEFT folders, written whole or not at all, verified when read."""
import os
import shutil
from pathlib import Path
from typing import Any

from mcvqa.files import file_hash, read_json, write_json

MANIFEST = "manifest.json"


class CheckpointError(RuntimeError):
    """A checkpoint that is missing or damaged."""


def save_trained(model: Any, folder: str | Path, facts: dict[str, Any]) -> None:
    """Save a PEFT adapter (or, without adapters, the whole model) as safetensors, with a manifest of sizes and hashes.

    The folder is made beside its place and renamed, so a run that is cut off leaves the old one.
    """
    folder = Path(folder)
    part, old = folder.with_name(f".{folder.name}.part"), folder.with_name(f".{folder.name}.old")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    model.save_pretrained(part, safe_serialization=True)
    (part / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
    files = {f.name: {"bytes": f.stat().st_size, "sha256": file_hash(f)} for f in sorted(part.iterdir())}
    write_json(part / MANIFEST, {"files": files, **facts})
    for written in part.iterdir():
        with open(written, "rb+") as handle:
            os.fsync(handle.fileno())
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.rename(folder, old)
    os.rename(part, folder)
    shutil.rmtree(old, ignore_errors=True)


def verified(folder: str | Path) -> dict[str, Any]:
    """The manifest of a checkpoint whose files are all as they were written.

    Raises:
        CheckpointError: a file is missing, shorter or changed.
    """
    folder = Path(folder)
    old = folder.with_name(f".{folder.name}.old")
    if old.exists() and not folder.exists():  # cut off between the two renames of save_trained
        os.rename(old, folder)
    if not (folder / MANIFEST).exists():
        raise CheckpointError(f"There is no checkpoint in {folder}: train first (mcvqa train).")
    manifest = read_json(folder / MANIFEST)
    for name, facts in manifest["files"].items():
        file = folder / name
        if not file.exists() or file.stat().st_size != facts["bytes"] or file_hash(file) != facts["sha256"]:
            raise CheckpointError(f"{file} is damaged or missing: delete {folder} and train this fold again.")
    return manifest


def adapter_hash(folder: str | Path) -> str:
    """One hash for the weights of a checkpoint: the provenance of its scores."""
    files = read_json(Path(folder) / MANIFEST)["files"]
    weights = [facts["sha256"] for name, facts in sorted(files.items()) if name.endswith(".safetensors")]
    return "-".join(value[:16] for value in weights)
