"""Publishes the resume points of a fold in a thread, so that training does not wait for the store."""
import dataclasses
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcvqa.base.budget import spell_duration
from mcvqa.base.files import SHORT_WAITS
from mcvqa.run.store import Store, StoreError

WAITS_SILENTLY = 5.0  # seconds for an upload that is under way when the task ends
WAITS_AT_MOST = 3600.0  # seconds: 228 MiB, a resume point of rank 8, take less at 0.07 MB/s


@dataclass(frozen=True)
class Snapshot:
    """Holds a task as it was at a resume point, whatever training replaces or deletes afterwards.

    Attributes:
        folder: has links to the files; deleted when they are published.
        files: path in the parcel -> link.
        record: the record of the task.
    """

    folder: Path
    files: dict[str, Path]
    record: dict[str, Any]


@dataclass
class PointUploads:
    """Publishes snapshots of a task within a `with` block, one at a time; a newer one replaces one that still waits.

    Args:
        store: where to.
        stem: the parcel.
        folder: for snapshots.
        take: makes a snapshot in the given folder.

    Attributes:
        waiting: the newest snapshot that is not yet being published.
        failed: why a snapshot was not published; empty: none has failed.
    """

    store: Store
    stem: str
    folder: Path
    take: Callable[[Path], Snapshot]
    waiting: Snapshot | None = None
    failed: str = ""
    is_told: bool = False
    is_over: bool = False
    turn: threading.Condition = field(default_factory=threading.Condition)
    thread: threading.Thread | None = None

    def __enter__(self) -> Callable[[], None]:
        return self.add

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for what is being published and, if the task goes on elsewhere, for the newest snapshot.

        Raises:
            StoreError: that does not end; the process must, as the upload may not end after what is published next.
        """
        if self.thread is None:
            return
        with self.turn:
            self.is_over, self.waiting = True, self.waiting if kind else None  # a finished task is published whole
            self.turn.notify()
        self.thread.join(WAITS_SILENTLY)
        if self.thread.is_alive():  # no put can be aborted, and none of it may come after what is published next
            print(f"  {self.stem.replace('-', ' ')}: waiting until the upload of a resume point to {self.store.url} ends")
            self.thread.join(WAITS_AT_MOST)
            if self.thread.is_alive() and not kind:
                raise StoreError(
                    f"The upload of a resume point to {self.store.url} has not ended after {spell_duration(WAITS_AT_MOST)}. Run "
                    "the same command again when the store answers: it continues from the newest point."
                )
        shutil.rmtree(self.folder, ignore_errors=True)
        self._tell()

    def add(self) -> None:
        """Let the thread publish the task as it is now. If that fails, the task goes on, and a line says so, once."""
        if self.thread is None:
            shutil.rmtree(self.folder, ignore_errors=True)  # of a process that was killed
            self.thread = threading.Thread(target=self._publish_all, daemon=True)
            self.thread.start()
        self._tell()
        try:
            snapshot = self.take(self.folder)
        except OSError as error:
            self.failed = self.failed or str(error)
            return
        with self.turn:
            replaced, self.waiting = self.waiting, snapshot
            self.turn.notify()
        if replaced:
            shutil.rmtree(replaced.folder, ignore_errors=True)

    def _publish_all(self) -> None:
        store = dataclasses.replace(self.store, waits=SHORT_WAITS, is_quiet=True)
        while snapshot := self._next():
            try:
                store.publish(self.stem, snapshot.files, {"record": snapshot.record})
            except Exception as error:
                self.failed = self.failed or str(error)
            shutil.rmtree(snapshot.folder, ignore_errors=True)

    def _next(self) -> Snapshot | None:
        """Wait for a snapshot; None: there will be no more."""
        with self.turn:
            self.turn.wait_for(lambda: self.waiting or self.is_over)
            snapshot, self.waiting = self.waiting, None
            return snapshot

    def _tell(self) -> None:
        if self.failed and not self.is_told:
            self.is_told = True
            print(f"  {self.stem.replace('-', ' ')}: its resume point is not shared: {self.failed}")
