"""Joins a session and the tasks of a cluster to `shared_dir`: one owner of the run, and parcels before and after each task."""
import contextlib
import dataclasses
import json
import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from mcvqa.base.files import SHORT_WAITS, as_json
from mcvqa.model.distributed import by_main, is_main_process
from mcvqa.run.ownership import OWNER_FACTS, Owned, is_alive, owner_facts
from mcvqa.run.project import Project
from mcvqa.run.sharing import SharedRecords, is_shared
from mcvqa.run.store import Store, StoreError, require_usable
from mcvqa.run.tasks import Task, stem_of

OWNER_FILE = "owner.json"
BEAT, GONE = 30.0, 150.0  # seconds between signs of life of an owner, and since the last one until it is taken for dead


# %% the session
@contextlib.contextmanager
def sharing(project: Project) -> Iterator[None]:
    """Within the block, own the run in its store; before it, copy what other machines have published.

    Raises:
        StoreError: the store cannot be used.
        Owned: a process on another machine works on the run.
        ConfigError: a fold was trained here with other settings or data than the published one.
    """
    records = shared_records(project)
    owner = StoreOwner(records.store, project.config.run)
    try:
        by_main(_begin, records, owner)
        yield
    finally:
        if is_main_process():
            owner.give_back()


def _begin(records: SharedRecords, owner: "StoreOwner") -> None:
    print(f"  shared through {records.store.url}")
    require_usable(dataclasses.replace(records.store, waits=SHORT_WAITS))
    owner.take()
    records.parcels.receive_beginning()
    records.settle_all()
    records.store.sweep()


def shared_records(project: Project) -> SharedRecords:
    assert isinstance(project.records, SharedRecords)  # as its settings name a shared_dir
    return project.records


# %% one owner
@dataclass
class StoreOwner:
    """Represents the right to work on a run in a store: an object that only one process can create, and that shows signs of life.

    If a network failure hides the owner's signs of life, another process may take the run, and the former owner stops at its next
    one. Even while both work, no result is lost or mixed, since each parcel is replaced as a whole.

    Args:
        store: the folder of the run.
        run: its name.

    Attributes:
        content: the object's content, which no other process writes.
        ended: set when the right is given back.
        beating: shows signs of life; None: the run is not owned.
    """

    store: Store
    run: str
    content: bytes = b""
    ended: threading.Event = field(default_factory=threading.Event)
    beating: threading.Thread | None = None

    def take(self) -> None:
        """Take the right, from a dead owner too.

        Raises:
            Owned: another process has it.
        """
        self.content = as_json(owner_facts() | {"token": secrets.token_hex(8)}).encode()
        if not self.store.create(OWNER_FILE, self.content):
            self._require_dead(self.store.read(OWNER_FILE) or b"")
            self.store.delete(OWNER_FILE)
            if not self.store.create(OWNER_FILE, self.content):
                self._require_dead(b"")
        self.beating = threading.Thread(target=self._beat, daemon=True)
        self.beating.start()

    def give_back(self) -> None:
        """Give the right back, if this process has it."""
        self.ended.set()
        if self.beating is None:
            return
        self.beating.join()
        with contextlib.suppress(StoreError):  # it is unavailable: the missing signs of life will say so
            store = dataclasses.replace(self.store, waits=())
            if store.read(OWNER_FILE) == self.content:
                store.delete(OWNER_FILE)

    def _require_dead(self, content: bytes) -> None:
        """Check that an owner has ended: its process on this machine is gone, or it shows no signs of life.

        Raises:
            Owned: it has not.
        """
        try:
            owner = json.loads(content)
            known = isinstance(owner, dict) and owner.keys() >= OWNER_FACTS
        except ValueError:
            owner, known = {}, False
        silent = self.store.age(OWNER_FILE)
        if silent >= GONE or (known and not is_alive(owner)):
            return
        who = "on {host}, since {since}: {command}".format(**owner) if known else "which has just started or ended."
        raise Owned(
            f"Another process is working on the run {self.run!r} in {self.store.url}, {who}\nWait for it to end, or choose "
            f"another name: --set run_name=... If it was killed, try again in {GONE - silent:.0f} s."
        )

    def _beat(self) -> None:
        """Show signs of life until the right is given back; stop this process when another one has taken the run."""
        store = dataclasses.replace(self.store, waits=())
        while not self.ended.wait(BEAT):
            with contextlib.suppress(StoreError):  # work goes on; what needs the store waits for it
                if store.read(OWNER_FILE) == self.content:
                    store.write(OWNER_FILE, self.content)
                elif not self.ended.is_set():
                    print(f"\n  Another process has taken the run {self.run!r} in {self.store.url}: this one stops")
                    os.kill(os.getpid(), signal.SIGTERM)
                    return


# %% tasks on a cluster
def do_shared(project: Project, task: Task, work: Callable[[Task], dict[str, Any]]) -> dict[str, Any]:
    """Execute a task on a node that may share no folder with the others.

    Args:
        project: the run.
        task: the task.
        work: executes it.

    Returns:
        The result of `work`; empty if another node has finished the task.
    """
    records = shared_records(project)
    for name in (*task.needs, "average", task.name):
        if is_shared(stem_of(name)):
            records.settle(name, theirs=True)
        else:
            records.parcels.receive_made(name)
    if task.key and records.is_done(task):
        return {}
    before = records.parcels.made()
    facts = work(task)
    if not task.key:
        records.parcels.share_made(task.name, records.parcels.made() - before)
    for shard in task.needs if task.key else ():
        if shard.startswith(task.name):
            records.store.forget(stem_of(shard))
    return facts


def receive(project: Project, name: str) -> None:
    """Copy what a worker has finished into the output folder of the main process.

    Raises:
        StoreError: it is not in the store, although the worker has published it.
    """
    records = shared_records(project)
    if is_shared(stem_of(name)):
        records.settle(name, theirs=True)
        if not records.read(name).get("finished"):
            raise StoreError(
                f"{name.capitalize()} was published in {records.store.url}, but is damaged or missing there now. Run the same "
                "command again: it is done again."
            )
