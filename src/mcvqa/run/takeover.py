"""Continues from the output of an earlier session in another folder, which may be read-only.

Files of the run are copied into output_dir and verified, unless they exist there. Checkpoints contain no paths, so a folder may
also simply be moved or copied by hand.
"""
import errno
import os
import re
import shutil
import stat
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mcvqa.base.files import LONG_WAITS, MANIFEST, DamagedFile, atomic_path, damaged_file, patiently, read_json
from mcvqa.base.informing import counted
from mcvqa.config import settings_hash
from mcvqa.run.paths import KNOWN_FILES, WEIGHTS_FOLDERS, RunPaths
from mcvqa.run.project import Project, RunStopped
from mcvqa.run.tasks import Task
from mcvqa.scoring.scores import load_scores


def take_over(project: Project) -> None:
    """Copy the files of this run from `resume_from`, once.

    Raises:
        RunStopped: there are none.
    """
    given = project.config.resume_from
    key = settings_hash({"from": str(Path(given).absolute())})
    task = Task("take over", "take over", key)
    if not given or project.records.is_done(task):
        return
    earlier = output_with(project.config.run, Path(given))
    files, root = _parts(earlier), project.paths.root
    if f"experiments/{earlier.run}/tasks/run.json" in files.files and not project.paths.checkpoints.exists():
        project.records.forget("run")  # a new run's: the earlier attempt goes on, and its sessions count
    copied = [_copied_folder(earlier.root, names, root / folder) for folder, names in files.folders.items()]
    copied += [_copied(earlier.root, path, root / path) for path in files.files]
    if files.strange:
        strange = counted(len(files.strange), "file or link", "files or links")
        print(f"  not copied, as runs do not write such files: {strange}, first {files.strange[0]}")
    taken = counted(sum(copied), "file or folder", "files and folders")
    print(f"  continuing from {earlier.root}: {taken} of the run {earlier.run!r} copied")
    project.records.finish(task)


def output_with(run: str, given: Path) -> RunPaths:
    """Find the output folder at `given` or up to two folders below it, since Kaggle attaches a notebook's output that way."""
    folders = (given, *sorted(given.glob("*/")), *sorted(given.glob("*/*/")))
    for folder in folders:
        if (folder / "checkpoints" / run).is_dir() and not (folder / "checkpoints" / run).is_symlink():
            return RunPaths(folder, run)
    others = sorted({checkpoints.name for folder in folders for checkpoints in folder.glob("checkpoints/*")})
    raise RunStopped(f"resume_from={str(given)!r} holds no checkpoints/{run}. " + (
        f"It has the runs {', '.join(others)}: use the settings that one of them was trained with." if others else
        "Name the folder that an earlier session wrote to: the one with checkpoints/, experiments/ and logs/ in it."
    ))


@dataclass(frozen=True)
class Earlier:
    """Lists an earlier output's files of a run, by path relative to its root.

    Attributes:
        folders: folders with unchanged weights -> the files in their manifests.
        files: results, scores, records of steps, the log.
        strange: links, devices, pipes, and files among the checkpoints that no run writes; they are ignored.
    """

    folders: dict[str, list[str]]
    files: list[str]
    strange: list[str]


def _parts(earlier: RunPaths) -> Earlier:
    """List complete checkpoints and known files; report damaged ones and the number of strange ones."""
    run, root = re.escape(earlier.run), earlier.root
    regular, strange = _listed(root, [f"checkpoints/{earlier.run}", f"experiments/{earlier.run}"])
    log = f"logs/{earlier.run}.jsonl"
    if not (root / "logs").is_symlink() and _is_regular(root / log):
        regular.add(log)
    folders = {}
    for manifest in sorted(path for path in regular if path.endswith(f"/{MANIFEST}")):
        folder = manifest.rpartition("/")[0]
        if re.fullmatch(rf"checkpoints/{run}/{WEIGHTS_FOLDERS}", folder):
            names, damaged = _whole_files(root, folder, regular)
            if damaged:
                print(f"  {damaged} is damaged or missing: {root / folder} is not copied")
            else:
                folders[folder] = [f"{folder}/{name}" for name in names]
    files = sorted(path for path in regular if re.fullmatch(KNOWN_FILES.format(run=run), path))
    scores = [path for path in files if path.endswith(".npz")]
    unfit = [path for path in scores if not _is_usable(root / path, earlier, {*folders})]
    for path in unfit:
        print(f"  {root / path} is damaged or belongs to other weights: it is not copied")
    inside = [path for path in regular if path.startswith("checkpoints/") and path not in files]
    strange += [path for path in inside if not re.match(rf"checkpoints/{run}/{WEIGHTS_FOLDERS}/", path)]
    strange += [path for path in inside if (folder := path.rpartition("/")[0]) in folders and path not in folders[folder]]
    return Earlier(folders, [path for path in files if path not in unfit], sorted(strange))


def _listed(root: Path, folders: Sequence[str]) -> tuple[set[str], list[str]]:
    """List (regular files, links and everything else) below `folders`, relative to `root`. Follows no link, opens nothing."""
    regular, strange = set(), []
    for folder in folders:
        links = [p for p in (Path(folder), *Path(folder).parents) if (root / p).is_symlink() and p != Path()]
        strange += [path.as_posix() for path in links]
        for parent, inner, names in os.walk(root / folder) if not links else ():
            strange += [Path(parent, name).relative_to(root).as_posix() for name in inner if Path(parent, name).is_symlink()]
            for name in names:
                path = Path(parent, name).relative_to(root).as_posix()
                if _is_regular(root / path):
                    regular.add(path)
                else:
                    strange.append(path)
    return regular, strange


def _is_regular(path: Path) -> bool:
    """Return whether it is a file and not a link to one: opening a pipe would wait forever."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _whole_files(root: Path, folder: str, regular: set[str]) -> tuple[list[str], Path | None]:
    """List the files of a checkpoint and its manifest, and the first changed one. Opens only regular files."""
    try:
        names = [*read_json(root / folder / MANIFEST)["files"], MANIFEST]
    except (DamagedFile, KeyError, TypeError):
        return [], root / folder / MANIFEST
    if others := [name for name in names if "/" in name or f"{folder}/{name}" not in regular]:
        return [], root / folder / others[0]
    return names, damaged_file(root / folder)


def _is_usable(file: Path, earlier: RunPaths, folders: set[str]) -> bool:
    """Return whether scores can be read, are probabilities, and belong to complete weights; others can be scored again."""
    try:
        scores = load_scores(file)
        asked = scores.logprobs[~np.isnan(scores.logprobs).any(-1)]
        sums = np.exp(asked.astype(np.float64)).sum(-1)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return False
    adapter, fold = scores.provenance.get("adapter"), scores.provenance.get("fold", -1)
    if adapter is None:  # of the prior, or noted while training
        return bool((sums <= 1 + 1e-3).all())
    whole = [folder for name in folders if (folder := earlier.root / name).parent == earlier.fold(fold)]
    return bool((sums <= 1 + 1e-3).all()) and adapter in {_weights_print(folder) for folder in whole}


def _weights_print(folder: Path) -> str:
    """Hash the weights as `adapter_hash` of training/checkpoint.py does, which needs torch."""
    files = read_json(folder / MANIFEST)["files"]
    return "-".join(facts["sha256"][:16] for name, facts in sorted(files.items()) if name.endswith(".safetensors"))


def _copied(root: Path, path: str, new: Path) -> bool:
    """Copy a file; returns whether it did not exist yet."""
    if new.exists():
        return False
    patiently(lambda: _copy_file(root / path, new), f"copying {root / path}", LONG_WAITS)
    return True


def _copied_folder(root: Path, names: Sequence[str], new: Path) -> bool:
    """Copy a folder; returns whether it did not exist yet.

    Args:
        names: its files, relative to `root`.
    """
    if new.exists():
        return False
    part = new.with_name(f".{new.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for name in names:
        copy_one = partial(_copy_file, root / name, part / Path(name).name)
        patiently(copy_one, f"copying {root / name}", LONG_WAITS)
    os.rename(part, new)
    return True


def _copy_file(old: Path, new: Path) -> None:
    """Copy a file. Raises OSError if it has become a link or a pipe since it was listed."""
    handle = os.open(old, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(handle, "rb") as source, atomic_path(new) as part, open(part, "wb") as target:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "no regular file", str(old))
        shutil.copyfileobj(source, target)
