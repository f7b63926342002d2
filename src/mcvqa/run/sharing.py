"""Shares the work of a run through `shared_dir`: each machine computes in its own output_dir and publishes what it has finished.

What a task has made is one parcel of a store: its files, its lines of the log, and its record. A fold that is still being trained
is one too, with its newest resume point, so that any machine can continue it. Image features and shards of scores, which have no
record, travel as one archive for each task. Another machine copies a parcel into its output_dir, with the record last, and goes
on from there as it would from its own work.
"""
import functools
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from mcvqa.base.files import atomic_path, file_hash, link_or_copy, read_events, read_json, write_json
from mcvqa.config import ConfigError
from mcvqa.run.paths import KNOWN_FILES, START_FILE, WEIGHTS_FOLDERS, RunPaths
from mcvqa.run.point_uploads import PointUploads, Snapshot
from mcvqa.run.store import Store, StoreError
from mcvqa.run.tasks import Task, TaskRecords, content_print, stem_of

RUN = "run"  # the parcel of what a run was begun with
BEGUN_WITH = ("config.yaml", "data.json", START_FILE, "folds.csv")  # in experiments/<run>
SHARED = r"train-(?:fold-\d+|final)|score-(?:fold-\d+|final)-(?:oof|test|train)|average"  # names of records that are shared
POINTS, ARCHIVE = "resume", "made.tar"
ARCHIVED = r"cache/(?:features/\w\w/\w+\.npy|scores/\w+/\d+\.npz)"  # what tasks without a record make


# %% parcels and the folders of a run
@dataclass(frozen=True)
class Parcels:
    """Moves files of a run between its output folder and a store.

    Args:
        paths: folders of the run.
        store: its folder in the store.
    """

    paths: RunPaths
    store: Store

    def named(self, files: Iterable[Path]) -> dict[str, Path]:
        """Name files by their paths in the output folder, without those that runs do not write."""
        named = {file.relative_to(self.paths.root).as_posix(): file for file in files}
        return {path: file for path, file in named.items() if self._is_known(path)}

    def _is_known(self, path: str) -> bool:
        run = re.escape(self.paths.run)
        return bool(re.fullmatch(rf"checkpoints/{run}/{WEIGHTS_FOLDERS}/[\w.-]+|{KNOWN_FILES.format(run=run)}|{ARCHIVE}", path))

    @property
    def log_path(self) -> str:
        return self.paths.log.relative_to(self.paths.root).as_posix()

    def log_lines(self, attempt: str) -> list[bytes]:
        """List the lines of the log that belong to an attempt at a fold."""
        lines = self.paths.log.read_bytes().splitlines(keepends=True) if self.paths.log.exists() else []
        return [line for line in lines if attempt and any(event.get("attempt") == attempt for event in read_events(line))]

    def scratch(self, name: str) -> Path:
        return self.paths.cache / "shared" / self.paths.run / name

    def received(self, stem: str, manifest: Mapping[str, Any], place: Callable[[Path], None]) -> bool:
        """Copy a parcel to a temporary folder, and let `place` move its files; returns whether it was whole.

        Raises:
            StoreError: it has files that runs do not write.
        """
        if others := [path for path in manifest["files"] if not self._is_known(path)]:
            raise StoreError(f"{self.store.url} has a file that runs do not write: {others[0]}. Nothing of it is copied.")
        copied = self.scratch(stem)
        shutil.rmtree(copied, ignore_errors=True)
        try:
            if damaged := self.store.fetch(stem, manifest, copied):
                print(f"  {self.store.url}: {damaged} is damaged or missing, so it is not used")
                return False
            place(copied)
        finally:
            shutil.rmtree(copied, ignore_errors=True)
        return True

    def place_files(self, manifest: Mapping[str, Any], copied: Path) -> None:
        for path in manifest["files"]:
            if path == self.log_path:
                self._join_log(copied / path)
                continue
            (self.paths.root / path).parent.mkdir(parents=True, exist_ok=True)
            os.replace(copied / path, self.paths.root / path)

    def _join_log(self, file: Path) -> None:
        """Append the lines of another machine's log that are not in this one."""
        known = {*self.paths.log.read_bytes().splitlines()} if self.paths.log.exists() else set()
        self.paths.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.paths.log, "ab") as log:
            log.writelines(line + b"\n" for line in file.read_bytes().splitlines() if line not in known)

    # %% what a run was begun with
    def share_beginning(self) -> None:
        """Publish the settings and the description of the data, unless these are published already."""
        files = self.named(file for name in BEGUN_WITH if (file := self.paths.experiment / name).exists())
        manifest = self.store.manifest(RUN) or {"files": {}}
        if {path: file_hash(file) for path, file in files.items()} != {p: one["sha256"] for p, one in manifest["files"].items()}:
            self.store.publish(RUN, files, {"record": {}})

    def receive_beginning(self) -> None:
        """Copy the published settings and description of the data, unless there are some here."""
        manifest = self.store.manifest(RUN)
        if manifest and not (self.paths.experiment / "config.yaml").exists():
            self.received(RUN, manifest, functools.partial(self.place_files, manifest))

    # %% what tasks without a record make
    def made(self) -> set[Path]:
        """List the image features and shards of scores in cache/."""
        return {*self.paths.cache.glob("features/*/*.npy"), *self.paths.cache.glob("scores/*/*.npz")}

    def share_made(self, name: str, files: Collection[Path]) -> None:
        """Publish what a task without a record has made, as one archive: thousands of small objects would take hours.

        Args:
            name: the task.
            files: in cache/.
        """
        if not files:
            return
        stem, archive = stem_of(name), self.scratch(f"{stem_of(name)}.tar")
        with atomic_path(archive) as part, tarfile.open(part, "w") as tar:
            for file in sorted(files):
                tar.add(file, file.relative_to(self.paths.root).as_posix())
        self.store.publish(stem, {ARCHIVE: archive}, {"record": {}})
        write_json(self.scratch(f"{stem}.json"), {ARCHIVE: file_hash(archive)})
        archive.unlink()

    def receive_made(self, name: str) -> None:
        """Copy what a task without a record has made on another machine, once."""
        stem = stem_of(name)
        manifest, known = self.store.manifest(stem) or {}, self.scratch(f"{stem}.json")
        archive = {ARCHIVE: manifest["files"][ARCHIVE]["sha256"]} if manifest else {}
        is_new = manifest and not (known.exists() and read_json(known) == archive)
        if is_new and self.received(stem, manifest, self._unpack):
            write_json(known, archive)

    def _unpack(self, copied: Path) -> None:
        with tarfile.open(copied / ARCHIVE) as tar:
            for member in tar:
                file, content = self.paths.root / member.name, tar.extractfile(member)
                if content and re.fullmatch(ARCHIVED, member.name) and not file.exists():
                    with atomic_path(file) as part, open(part, "wb") as target:
                        shutil.copyfileobj(content, target)


# %% the records of tasks
@dataclass(frozen=True)
class SharedRecords(TaskRecords):
    """Reads and writes the records of a run that is shared: what is finished is published, what is forgotten is withdrawn.

    Args:
        shared_dir: URL of the store.
    """

    shared_dir: str

    @property
    def paths(self) -> RunPaths:
        return RunPaths(self.root, self.folder.parent.name)

    @property
    def store(self) -> Store:
        return Store(f"{self.shared_dir.rstrip('/')}/{self.paths.run}")

    @property
    def parcels(self) -> Parcels:
        return Parcels(self.paths, self.store)

    # %% as tasks go on
    def begin(self, task: Task, **facts: Any) -> str:
        """Return the attempt of a task; a new one withdraws what earlier attempts have published."""
        before = self.read(task.name).get("attempt")
        attempt = super().begin(task, **facts)
        if attempt != before:
            self._withdraw(task.name)
        return attempt

    def finish(self, task: Task, **facts: Any) -> None:
        """Record a task whose results are on the disk, and publish it."""
        super().finish(task, **facts)
        if is_shared(stem_of(task.name)):
            self._publish(task.name)

    def forget(self, name: str) -> None:
        super().forget(name)
        self._withdraw(name)

    def sharing_points(self, name: str) -> PointUploads:
        """Return the context in which the resume points of a task are published, by the function that it yields."""
        stem = stem_of(name)
        return PointUploads(self.store, stem, self.parcels.scratch(f"{stem}.points"), functools.partial(self._snapshot, name))

    def _withdraw(self, name: str) -> None:
        if is_shared(stem_of(name)):
            self.store.forget(stem_of(name))

    # %% between machines
    def settle(self, name: str, *, theirs: bool = False) -> None:
        """Copy the published state of a task, or publish the state that is here, whichever is ahead.

        Args:
            name: the task.
            theirs: whether a published fold that was trained with other settings or data replaces the one here.

        Raises:
            ConfigError: a fold was trained here with other settings or data than the published one.
        """
        stem = stem_of(name)
        lock = self.parcels.scratch(f"{stem}.lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):  # the workers of one machine share its output_dir
            for _ in range(3):  # what is replaced while it is copied is copied again
                manifest, here = self.store.manifest(stem), self.read(name)
                there = manifest["record"] if manifest else {}
                if here and there and here["key"] != there["key"] and not theirs and stem.startswith("train"):
                    raise ConfigError(self._two_states(name))
                if not manifest or not self._is_behind(name, manifest):
                    if not there.get("finished") and self._is_whole(here):
                        self._publish(name)
                    return
                if self.parcels.received(stem, manifest, functools.partial(self._place_task, stem, manifest)):
                    return

    def settle_all(self) -> None:
        """Settle everything that is published, or finished here."""
        here = [file.stem for file in sorted(self.folder.glob("*.json"))]
        for name in dict.fromkeys([*self.store.names(), *here]):
            if is_shared(name):
                self.settle(name)

    def _two_states(self, name: str) -> str:
        return (
            f"{name.replace('-', ' ').capitalize()} of the run {self.paths.run!r} was done with different settings, rows or "
            f"photographs here ({self.root.absolute()}) and in {self.store.url}. Choose another name (--set run_name=...), or "
            "delete the one that you do not want."
        )

    def _is_behind(self, name: str, manifest: Mapping[str, Any]) -> bool:
        """Return whether the published state of a task is further than the one here."""
        here, there = self.read(name), manifest["record"]
        if there.get("finished"):
            return not self._is_whole(here) or [*here["made"].values()] != [*there["made"].values()]
        points = [path.name for path in (self._fold_folder(stem_of(name)) / POINTS).glob("[0-9]*")]
        return not here.get("finished") and max(points, default="") < _newest_point(manifest)

    def _is_whole(self, record: Mapping[str, Any]) -> bool:
        """Return whether a record is of a finished task whose results are complete."""
        made = record.get("made", {})
        return bool(record.get("finished")) and [content_print(self.root / path) for path in made] == [*made.values()]

    def _fold_folder(self, stem: str) -> Path:
        """Return the folder of the fold that a task belongs to."""
        fold = re.search(r"fold-\d+|final", stem)
        return self.paths.checkpoints / (fold[0].replace("-", "") if fold else "")

    # %% parcels
    def _publish(self, name: str) -> None:
        log = self.parcels.scratch(f"{stem_of(name)}.jsonl")
        files, record = self._parcel(name, log)
        self.store.publish(stem_of(name), files, {"record": record})
        log.unlink(missing_ok=True)

    def _snapshot(self, name: str, folder: Path) -> Snapshot:
        """Hold a task as it is now, in a new folder below `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        own = Path(tempfile.mkdtemp(dir=folder))
        files, record = self._parcel(name, own / "log.jsonl")
        # links will do: runs replace files and never change them in place
        return Snapshot(own, {path: link_or_copy(file, own / "files" / path) for path, file in files.items()}, record)

    def _parcel(self, name: str, log: Path) -> tuple[dict[str, Path], dict[str, Any]]:
        """Return the files of a task's parcel and its record; the lines of the log are written to `log`."""
        stem, record = stem_of(name), self.read(name)
        files = self.parcels.named(self._files_of(stem, bool(record.get("finished"))))
        if stem.startswith("train") and (lines := self.parcels.log_lines(str(record.get("attempt", "")))):
            with atomic_path(log) as part:
                part.write_bytes(b"".join(lines))
            files[self.parcels.log_path] = log
        return files, record

    def _files_of(self, stem: str, finished: bool) -> list[Path]:
        """List the files of a task; its record is a field of the manifest."""
        folder, (kind, _, rest) = self._fold_folder(stem), stem.partition("-")
        if kind == "train":
            inside = [path for path in sorted(folder.rglob("*")) if path.is_file()]
            kept = [path for path in inside if not (finished and path.relative_to(folder).parts[0] == POINTS)]
            return [*kept, *(file for which in ("raw", "ema", "swa") if (file := self._scores(folder, which)).exists())]
        return [self._scores(folder, rest.rpartition("-")[2])] if kind == "score" else []

    def _scores(self, folder: Path, rows: str) -> Path:
        return self.paths.scores / f"{folder.name}-{rows}.npz"

    def _place_task(self, stem: str, manifest: Mapping[str, Any], copied: Path) -> None:
        """Replace the state of a task that is here; a crash in between leaves none."""
        self.file(stem).unlink(missing_ok=True)
        if stem.startswith("train"):
            shutil.rmtree(self._fold_folder(stem), ignore_errors=True)
        self.parcels.place_files(manifest, copied)
        write_json(self.file(stem), manifest["record"])
        print(f"  from {self.store.url}: {stem.replace('-', ' ')}{'' if manifest['record'].get('finished') else ', unfinished'}")


def is_shared(stem: str) -> bool:
    """Return whether the record of a task is shared, by the name of its file."""
    return bool(re.fullmatch(SHARED, stem))


def _newest_point(manifest: Mapping[str, Any]) -> str:
    """Return the name of the newest resume point in a parcel; empty if it has none. Their names sort by age."""
    found = (re.search(rf"/{POINTS}/([\d-]+)/", path) for path in manifest["files"])
    return max((match[1] for match in found if match), default="")
