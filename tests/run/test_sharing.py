"""A run shared through `shared_dir`: what is published, fetched, refused and taken over, on a store of the kind file://."""
import contextlib
import errno
import itertools
import json
import os
import shutil
import sys
import tarfile
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from mcvqa import run
from mcvqa.base.files import as_json
from mcvqa.config import Config, ConfigError
from mcvqa.run.ownership import Owned, owner_facts
from mcvqa.run.project import open_project
from mcvqa.run.shared_session import GONE, OWNER_FILE, StoreOwner
from mcvqa.run.sharing import ARCHIVE, RUN, SharedRecords
from mcvqa.run.store import PARCELS, Store, StoreError, require_usable
from mcvqa.run.tasks import Task
from mcvqa.search.search import search_settings
from mcvqa.training.checkpoint import atomic_folder
from tests.conftest import make_dataset, tiny_settings

FOLD = Task("train", "train fold 0", "key", makes=(
    "checkpoints/r/fold0/result.json", "checkpoints/r/fold0/best", "checkpoints/r/fold0/last"))
SCORES = Task("score", "score fold 0 test", "key", makes=("experiments/r/scores/fold0-test.npz",), needs=("train fold 0",))


@pytest.fixture
def store(tmp_path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def machine(tmp_path, store):
    """Makes the records of the run on a machine, whose output folder no other machine sees."""
    def made(name: str) -> SharedRecords:
        return open_project(tiny_settings(tmp_path / name, run_name="r", shared_dir=f"file://{store}")).records

    return made


def write(file: Path, text: str = "x") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def folder(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(path, {}) as part:
        write(part / "adapter_model.safetensors", text)


def begin(records: SharedRecords, point: str, task: Task = FOLD) -> None:
    """Train a fold up to a resume point."""
    attempt = records.begin(task)
    with open(records.paths.log.parent.mkdir(exist_ok=True) or records.paths.log, "a") as log:
        log.write(as_json({"event": "epoch", "fold": 0, "attempt": attempt, "at": point}, indent=None))
        log.write(as_json({"event": "session", "attempt": "of the run"}, indent=None))
    folder(records.paths.fold(0) / "best", f"best until {point}")
    folder(records.paths.fold(0) / "resume" / point, point)


def finish(records: SharedRecords, task: Task = FOLD, text: str = "weights") -> None:
    folder(records.paths.fold(0) / "last", text)
    write(records.paths.fold(0) / "result.json", "{}")
    write(records.paths.scores_of(0, "raw"), text)
    records.finish(task)


def share_point(records: SharedRecords) -> None:
    """Publish the newest resume point, as a training does that is interrupted."""
    with contextlib.suppress(KeyboardInterrupt), records.sharing_points(FOLD.name) as share:
        share()
        raise KeyboardInterrupt


def objects(store: Path) -> list[Path]:
    return sorted(path for path in (store / "r" / "objects").rglob("*") if path.is_file())


# %% finished work
def test_finished_work_reaches_another_machine_whole(machine, capsys):
    here, there = machine("here"), machine("there")
    begin(here, "0-0000-00000003")
    finish(here)
    write(here.root / SCORES.makes[0], "scores")
    here.finish(SCORES)
    write(here.paths.fold(0) / "notes.txt", "the user's own")
    there.settle_all()
    assert there.is_done(FOLD) and there.is_done(SCORES)
    for name in (*SCORES.makes, "checkpoints/r/fold0/best/adapter_model.safetensors", "experiments/r/scores/fold0-raw.npz"):
        assert (there.root / name).read_bytes() == (here.root / name).read_bytes()
    assert not (there.paths.fold(0) / "resume").exists() and not (there.paths.fold(0) / "notes.txt").exists()
    lines = there.paths.log.read_text().splitlines()
    assert [json.loads(line)["at"] for line in lines] == ["0-0000-00000003"]  # of the fold alone
    there.settle_all()
    assert there.paths.log.read_text().splitlines() == lines
    assert capsys.readouterr().out.count("train fold 0") == 1  # nothing is copied twice


def test_a_publication_that_is_killed_at_any_write_is_done_by_nobody_else(machine, store, monkeypatch):
    here, stopped = machine("here"), 0
    begin(here, "0-0000-00000003")
    put = Store._put
    for limit in range(30):
        there, left = machine(f"there{limit}"), [limit]

        def until(self, write, path, left=left):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            put(self, write, path)

        with monkeypatch.context() as patched:
            patched.setattr(Store, "_put", until)
            try:
                finish(here)
                break
            except KeyboardInterrupt:
                stopped += 1
        there.settle_all()
        assert not there.is_done(FOLD)
    assert stopped >= 5
    there.settle_all()
    assert there.is_done(FOLD)


def test_what_was_finished_while_the_store_was_away_is_published_later(machine, store):
    here, there = machine("here"), machine("there")
    begin(here, "0-0000-00000003")
    super(SharedRecords, here).finish(Task("train", "train fold 1", "key"))
    store.mkdir(exist_ok=True)
    here.settle_all()
    there.settle_all()
    assert there.read("train fold 1")["finished"] and not there.read("train fold 0")


@pytest.mark.parametrize("harm", ["altered", "cut", "gone"])
def test_what_is_not_whole_in_the_store_is_never_used(harm, machine, store, capsys):
    here, there = machine("here"), machine("there")
    begin(here, "0-0000-00000003")
    finish(here)
    file = next(path for path in objects(store) if path.read_text() == "weights")
    if harm == "gone":
        file.unlink()
    else:
        file.write_text("weightz" if harm == "altered" else "weigh")
    there.settle_all()
    assert not there.is_done(FOLD) and not there.paths.checkpoints.exists()
    assert "is damaged or missing, so it is not used" in capsys.readouterr().out
    begin(there, "0-0000-00000001")  # the work is done again, and published whole
    finish(there)
    third = machine("third")
    third.settle_all()
    assert third.is_done(FOLD)


def test_a_manifest_that_is_cut_off_counts_as_missing(machine, store, capsys):
    here, there = machine("here"), machine("there")
    begin(here, "0-0000-00000003")
    finish(here)
    manifest = store / "r" / PARCELS / "train-fold-0.json"
    manifest.write_bytes(manifest.read_bytes()[:-40])
    there.settle_all()
    assert not there.is_done(FOLD) and "train-fold-0.json is damaged" in capsys.readouterr().out
    here.settle_all()
    there.settle_all()
    assert there.is_done(FOLD)


def test_files_that_runs_do_not_write_are_not_copied(machine, store, tmp_path):
    here, there = machine("here"), machine("there")
    record = {"key": "key", "finished": True, "made": {}}
    here.store.publish("train-fold-0", {"../evil": write(tmp_path / "evil")}, {"record": record})
    with pytest.raises(StoreError, match=r"a file that runs do not write: \.\./evil"):
        there.settle_all()


def test_a_new_attempt_withdraws_what_earlier_ones_published(machine, store):
    here, other = machine("here"), Task("train", "train fold 0", "another key", makes=FOLD.makes)
    begin(here, "0-0000-00000003")
    finish(here)
    here.forget(FOLD.name)
    assert not objects(store) and here.store.names() == []
    finish(here)
    here.begin(other)
    assert not objects(store) and here.store.names() == []


def test_two_machines_with_different_data_do_not_replace_each_other(machine):
    here, there = machine("here"), machine("there")
    begin(here, "0-0000-00000003")
    finish(here)
    super(SharedRecords, there).finish(Task("train", "train fold 0", "another key"))
    with pytest.raises(ConfigError, match=r"Train fold 0 of the run 'r' was done with different settings.*run_name"):
        there.settle_all()
    there.settle(FOLD.name, theirs=True)  # on a node of a cluster, which computes for the main process
    assert there.is_done(FOLD)


# %% work in progress
def test_a_fold_in_progress_goes_on_elsewhere_from_the_newest_point(machine, store):
    here, there = machine("here"), machine("there")
    for point in ("0-0000-00000003", "0-0001-00000006"):
        begin(here, point)
        share_point(here)
    there.settle_all()
    assert there.begin(FOLD) == here.begin(FOLD)  # the same attempt
    points = sorted(path.name for path in (there.paths.fold(0) / "resume").iterdir())
    assert points == ["0-0000-00000003", "0-0001-00000006"]
    assert (there.paths.fold(0) / "best" / "adapter_model.safetensors").read_text() == "best until 0-0001-00000006"
    begin(there, "0-0001-00000009")
    there.settle_all()  # what is here is ahead
    assert (there.paths.fold(0) / "resume" / "0-0001-00000009").exists()
    share_point(there)
    here.settle_all()
    assert (here.paths.fold(0) / "resume" / "0-0001-00000009").exists()
    finish(there)
    assert not any("resume" in path for path in there.store.manifest("train-fold-0")["files"])
    assert len(objects(store)) == len({one["sha256"] for one in there.store.manifest("train-fold-0")["files"].values()})


@dataclass
class SlowStore:
    """Lets no upload end before it may. Attributes: reached: an upload has begun. may_end: it may end."""

    reached: threading.Event = field(default_factory=threading.Event)
    may_end: threading.Event = field(default_factory=threading.Event)

    def method(self, system: LocalFileSystem, *given, **options):
        self.reached.set()
        assert self.may_end.wait(60)
        return LocalFileSystem.cp_file(system, *given, **options)


@pytest.fixture
def slow(monkeypatch) -> SlowStore:
    slow = SlowStore()
    monkeypatch.setattr(LocalFileSystem, "put_file", lambda *given, **options: slow.method(*given, **options))
    return slow


def points_in(records: SharedRecords) -> set[str]:
    return {path.split("/")[4] for path in records.store.manifest("train-fold-0")["files"] if "/resume/" in path}


@pytest.mark.parametrize("ends", [None, KeyboardInterrupt])
def test_training_does_not_wait_for_a_slow_store_and_the_newest_point_wins(ends, machine, store, slow):
    here, there = machine("here"), machine("there")
    with contextlib.suppress(KeyboardInterrupt), here.sharing_points(FOLD.name) as share:
        for step in (1, 2, 3):  # none of them ends before the third is taken
            begin(here, f"0-0000-0000000{step}")
            share()
            shutil.rmtree(here.paths.fold(0) / "resume")  # what is replaced is deleted while it is uploaded
            assert slow.reached.wait(60)
        slow.may_end.set()
        if ends:
            raise ends
    there.settle_all()
    assert points_in(here) == {"0-0000-00000003" if ends else "0-0000-00000001"}
    best = (there.paths.fold(0) / "best" / "adapter_model.safetensors").read_text()
    assert f"best until {points_in(here).pop()}" == best and here.read(FOLD.name) == there.read(FOLD.name)
    assert not list((here.paths.cache / "shared").rglob("*.*.*")) and not list((here.paths.cache / "shared").rglob("*.points"))


@pytest.mark.parametrize(("ends", "raised"), [(None, StoreError), (KeyboardInterrupt, KeyboardInterrupt)])
def test_an_upload_that_does_not_end_is_not_waited_for_for_ever(ends, raised, machine, slow, monkeypatch):
    monkeypatch.setattr("mcvqa.run.point_uploads.WAITS_SILENTLY", 0.1)
    monkeypatch.setattr("mcvqa.run.point_uploads.WAITS_AT_MOST", 0.2)
    here = machine("here")
    try:
        with pytest.raises(raised) as error, here.sharing_points(FOLD.name) as share:
            begin(here, "0-0000-00000001")
            share()
            assert slow.reached.wait(60)
            if ends:
                raise ends
    finally:
        slow.may_end.set()
    if not ends:
        assert "has not ended after 0 s. Run the same command again" in str(error.value) and "\n" not in str(error.value)


def test_a_finished_fold_is_published_after_its_points(machine, store, slow, monkeypatch, capsys):
    monkeypatch.setattr("mcvqa.run.point_uploads.WAITS_SILENTLY", 0.1)
    here = machine("here")
    with here.sharing_points(FOLD.name) as share:
        begin(here, "0-0000-00000001")
        share()
        assert slow.reached.wait(60)
        threading.Timer(0.5, slow.may_end.set).start()
    assert "train fold 0: waiting until the upload of a resume point to" in capsys.readouterr().out
    finish(here)
    assert here.store.manifest("train-fold-0")["record"]["finished"] and not points_in(here)
    listed = here.store.manifest("train-fold-0")["files"].values()
    assert {path.name for path in objects(store)} == {one["sha256"] for one in listed}


@pytest.mark.parametrize("error", [OSError(errno.EBUSY, "slow down"), PermissionError("Forbidden"), RuntimeError("of a client")])
def test_points_that_cannot_be_shared_do_not_end_the_training_and_are_told_once(error, machine, store, monkeypatch, capsys):
    here = machine("here")
    monkeypatch.setattr("mcvqa.run.store.time.sleep", lambda _: None)
    with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt), here.sharing_points(FOLD.name) as share:
        patched.setattr(LocalFileSystem, "put_file", failing(error, 99))
        for step in (1, 2, 3):
            begin(here, f"0-0000-0000000{step}")
            share()
        raise KeyboardInterrupt
    said = capsys.readouterr().out
    assert said.count("train fold 0: its resume point is not shared") == said.count("\n") == 1
    share_point(here)
    assert points_in(here) == {"0-0000-00000001", "0-0000-00000002", "0-0000-00000003"}


def test_drives_without_links_are_copied_from(machine, store, monkeypatch):
    here = machine("here")
    begin(here, "0-0000-00000001")
    monkeypatch.setattr("os.link", lambda *_: Path("/nowhere").stat())
    share_point(here)
    assert points_in(here) == {"0-0000-00000001"}


# %% what is killed in the store
def test_what_a_killed_upload_has_left_is_swept_away(machine, store):
    here = machine("here")
    begin(here, "0-0000-00000003")
    finish(here)
    kept = objects(store)
    for left in ("train-fold-0/of-no-manifest", "train-fold-1/of-no-parcel", "train-fold-0/.half.1234.part"):
        write(store / "r" / "objects" / left)
    here.store.sweep()
    assert objects(store) == kept and machine("there").store.names() == ["train-fold-0"]
    Store(f"file://{store}/of-no-run").sweep()


def test_a_put_that_ends_half_way_is_not_there(machine, store, monkeypatch):
    here, there = machine("here"), machine("there")
    begin(here, "0-0000-00000003")

    def half(self, file: str, path: str) -> None:
        Path(path).write_bytes(Path(file).read_bytes()[:3])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(LocalFileSystem, "put_file", half)
        finish(here)
    assert not objects(store)
    there.settle_all()
    assert not there.read(FOLD.name)
    here.settle_all()
    there.settle_all()
    assert there.is_done(FOLD)


# %% what tasks without a record make
def test_features_and_shards_travel_as_one_archive_and_once(machine, store):
    here, there, name = machine("here"), machine("there"), "features x1 1 of 2"
    files = {write(here.paths.cache / path, path) for path in ("features/ab/abc.npy", "features/cd/cde.npy", "scores/k/0.npz")}
    here.parcels.share_made(name, files - {write(here.paths.cache / "features" / "ab" / "old.npy")})
    assert len(objects(store)) == 1 and here.parcels.made() > files
    there.parcels.receive_made(name)
    assert {path.read_text() for path in there.parcels.made()} == {path.read_text() for path in files}
    objects(store)[0].write_text("damaged since")
    there.parcels.receive_made(name)  # it is not asked for again
    assert len(there.parcels.made()) == 3


def test_an_archive_writes_nothing_else(machine, tmp_path):
    here, archive = machine("here"), tmp_path / "made.tar"
    with tarfile.open(archive, "w") as tar:
        for path in ("cache/features/ab/abc.npy", "../outside.npy", "checkpoints/r/fold0/best/adapter_model.safetensors"):
            tar.add(write(tmp_path / "content"), path)
    here.store.publish("features-x1-1-of-1", {ARCHIVE: archive}, {"record": {}})
    here.parcels.receive_made("features x1 1 of 1")
    assert [path.name for path in here.root.rglob("*") if path.is_file() and "shared" not in path.parts] == ["abc.npy"]
    assert not (tmp_path / "outside.npy").exists()


def test_the_settings_that_a_run_began_with_are_shared_and_not_replaced(machine):
    here, there = machine("here"), machine("there")
    write(here.paths.experiment / "config.yaml", "of here")
    here.parcels.share_beginning()
    there.parcels.receive_beginning()
    assert (there.paths.experiment / "config.yaml").read_text() == "of here" and not there.file(RUN).exists()
    write(there.paths.experiment / "config.yaml", "of there")
    there.parcels.receive_beginning()
    assert (there.paths.experiment / "config.yaml").read_text() == "of there"


# %% one owner
def owner_of(machine, name: str) -> StoreOwner:
    return StoreOwner(machine(name).store, "r")


def test_a_run_has_one_owner(machine, store):
    first, second = owner_of(machine, "here"), owner_of(machine, "there")
    first.take()
    with pytest.raises(Owned, match=r"(?s)working on the run 'r' in file://.* on .*try again in 1[45]\d s"):
        second.take()
    second.give_back()  # which it has not
    assert (store / "r" / OWNER_FILE).exists()
    first.give_back()
    second.take()
    second.give_back()
    assert not (store / "r" / OWNER_FILE).exists()


@pytest.mark.parametrize("changed", [{"host": "elsewhere"}, {"birth": "of a process that has ended"}, "", "[]"], ids=str)
def test_an_owner_that_died_is_replaced(changed, machine, store):
    content = changed if isinstance(changed, str) else as_json(owner_facts() | changed)
    file, owner = write(store / "r" / OWNER_FILE, content), owner_of(machine, "here")
    if "has ended" not in content:
        with pytest.raises(Owned):
            owner.take()
        silent = file.stat().st_mtime - GONE - 1
        os.utime(file, (silent, silent))
    owner.take()
    assert file.read_bytes() == owner.content
    owner.give_back()


def test_an_owner_shows_signs_of_life_and_stops_when_another_has_the_run(machine, store, monkeypatch, capsys):
    signals, file = [], store / "r" / OWNER_FILE
    monkeypatch.setattr("mcvqa.run.shared_session.BEAT", 0.01)
    monkeypatch.setattr("os.kill", lambda *given: signals.append(given[0]))
    owner = owner_of(machine, "here")
    owner.take()
    os.utime(file, (0, 0))
    while file.stat().st_mtime == 0:
        pass
    for _ in range(200):  # it may have read its own content just before, and write it again
        owner.store.write(OWNER_FILE, b"another's")
        owner.beating.join(timeout=0.1)
        if not owner.beating.is_alive():
            break
    assert set(signals) == {os.getpid()} and "Another process has taken the run 'r'" in capsys.readouterr().out
    owner.give_back()
    assert file.read_bytes() == b"another's"


# %% a whole run
class S3Server:
    """An S3 server of this machine, which keeps its objects while it is down."""

    def __init__(self, kind: type) -> None:
        self.kind, self.port = kind, 0

    def start(self) -> None:
        self.running = self.kind(ip_address="127.0.0.1", port=self.port, verbose=False)
        self.running.start()
        self.port = self.running.get_host_and_port()[1]

    def stop(self) -> None:
        self.running.stop()
        self.running._server.server_close()  # connections are refused from now on


@pytest.fixture
def s3(monkeypatch) -> S3Server:
    s3fs = pytest.importorskip("s3fs", reason="s3:// needs s3fs: pip install 'mcvqa[object]'")
    s3fs.S3FileSystem.clear_instance_cache()  # of another test's server
    moto = pytest.importorskip("moto.server", reason="an S3 server on this machine: pip install 'moto[s3]' flask flask-cors")
    server = S3Server(moto.ThreadedMotoServer)
    server.start()
    for name, value in {"ACCESS_KEY_ID": "any", "SECRET_ACCESS_KEY": "any", "DEFAULT_REGION": "us-east-1",
                        "ENDPOINT_URL_S3": f"http://127.0.0.1:{server.port}"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    url_to_fs("s3://bucket")[0].mkdir("bucket")
    yield server
    urllib.request.urlopen(f"http://127.0.0.1:{server.port}/moto-api/reset", data=b"").close()  # objects outlive the server
    server.stop()


@pytest.fixture
def bucket(s3) -> str:
    """The URL of a folder on an S3 server of this machine."""
    return "s3://bucket/runs"


def same_results(root: Path, other: Path) -> bool:
    """Whether weights, scores and submission of two output folders are the same, bit for bit."""
    made = ("experiments/r/submission.csv", "experiments/r/oof_predictions.csv", "experiments/r/scores/fold?-test.npz",
            "checkpoints/r/fold?/*/*.safetensors")
    here, there = (sorted(file.relative_to(folder) for name in made for file in folder.glob(name)) for folder in (root, other))
    return len(here) >= 8 and here == there and all((root / name).read_bytes() == (other / name).read_bytes() for name in here)


@pytest.mark.nightly
def test_a_run_on_one_machine_goes_on_on_another_through_s3(bucket, tmp_path, capsys):
    """One machine trains fold 0, the other fold 1; the submission is bit for bit that of one machine, and a run has one owner."""
    data = str(make_dataset(tmp_path / "data"))

    def settings(name: str, **changes) -> Config:
        return tiny_settings(tmp_path / name, data_dir=data, run_name="r", n_folds=2, lora_dropout=0.1, use_ema=False, **changes)

    with pytest.raises(StoreError, match="no such bucket"):
        run(settings("nowhere", shared_dir="s3://another/runs"))
    run(settings("alone"))
    run(settings("first", shared_dir=bucket, train_folds=(0,)))
    capsys.readouterr()
    owner = StoreOwner(Store(f"{bucket}/r"), "r")
    owner.take()
    with pytest.raises(Owned):
        run(settings("second", shared_dir=bucket))
    owner.give_back()
    run(settings("second", shared_dir=bucket))
    assert "fold 0: already trained" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"(?s)was trained with other settings.*lora_r.*or delete .*, s3://bucket/runs/r to"):
        run(settings("third", shared_dir=bucket, lora_r=4))
    assert same_results(tmp_path / "second", tmp_path / "alone")
    assert {*Store(f"{bucket}/r").names()} == {RUN, *(f"{task}-fold-{k}{split}" for k in (0, 1) for task, split in (
        ("train", ""), ("score", "-oof"), ("score", "-test")))}


# %% a store that does not work
def failing(error: Exception, times: int):
    """A method that fails so often, and then works."""
    left, put = [times], LocalFileSystem.put_file

    def method(self, *args, **options):
        if left[0]:
            left[0] -= 1
            raise error
        return put(self, *args, **options)

    return method


def of_client(name: str, code: object = None) -> Exception:
    """An error of a client's own kind, as gcsfs and botocore raise them besides those of the system."""
    error = type(name, (Exception,), {"__module__": "gcsfs.retry", "code": code})
    return error(f"{name} {code}")


@pytest.mark.parametrize(("error", "times", "message"), [
    (of_client("HttpError", 503), 2, ""), (of_client("HttpError", "429"), 1, ""), (of_client("EndpointConnectionError"), 1, ""),
    (of_client("HttpError", 401), 1, "cannot be used"), (of_client("NoCredentialsError"), 1, "cannot be used"),
    (OSError(errno.EBUSY, "slow down"), 3, ""), (TimeoutError("timed out"), 1, ""), (ConnectionResetError("reset"), 2, ""),
    (OSError(errno.EREMOTEIO, "internal error"), 99, "cannot be used.*Finished work is kept in output_dir"),
    (PermissionError("Forbidden"), 1, "access is denied"), (FileNotFoundError("NoSuchBucket"), 1, "no such bucket"),
    (OSError(errno.EINVAL, "bad"), 1, "cannot be used"),
])
def test_what_passes_is_waited_for_and_what_lasts_is_told(error, times, message, store, tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr("time.sleep", waited.append)
    monkeypatch.setattr(LocalFileSystem, "put_file", failing(error, times))
    place, files = Store(f"file://{store}"), {"a": write(tmp_path / "a", "content")}
    if message:
        with pytest.raises(StoreError, match=message):
            place.publish("parcel", files, {})
        assert place.manifest("parcel") is None and len(waited) == (9 if times == 99 else 0)
        return
    place.publish("parcel", files, {})
    assert place.fetch("parcel", place.manifest("parcel"), tmp_path / "copy") == "" and len(waited) == times
    assert (tmp_path / "copy" / "a").read_text() == "content"


def two_folds(folder: Path, **changes) -> Config:
    return tiny_settings(folder, data_dir=str(make_dataset(folder.parent / "data")), run_name="r", n_folds=2, **changes)


@pytest.mark.torture
def test_a_run_ends_the_same_with_a_store_that_is_away_for_20_seconds(bucket, s3, tmp_path, capsys):
    def away() -> None:
        while not (tmp_path / "here/experiments/r/tasks/train-fold-0.json").exists():
            time.sleep(0.01)
        s3.stop()
        time.sleep(20)
        s3.start()

    run(two_folds(tmp_path / "alone"))
    outage = threading.Thread(target=away)
    outage.start()
    run(two_folds(tmp_path / "here", shared_dir=bucket, save_minutes=0.0))
    outage.join()
    run(two_folds(tmp_path / "there", shared_dir=bucket))
    said = capsys.readouterr().out
    assert "Trying again in" in said and said.count("already trained") == 2
    assert same_results(tmp_path / "here", tmp_path / "alone") and same_results(tmp_path / "there", tmp_path / "alone")


@pytest.mark.torture
def test_a_run_ends_the_same_with_a_store_that_fails_every_third_put(store, tmp_path, capsys, monkeypatch):
    put, count = Store._put, itertools.count(1)

    def failing_put(self, write, path) -> None:
        def written(*given) -> None:
            if next(count) % 3 == 0:
                raise OSError(errno.EBUSY, "slow down")
            write(*given)

        put(self, written, path)

    run(two_folds(tmp_path / "alone"))
    monkeypatch.setattr(Store, "_put", failing_put)
    run(two_folds(tmp_path / "here", shared_dir=f"file://{store}", save_minutes=0.0))
    run(two_folds(tmp_path / "there", shared_dir=f"file://{store}"))
    said = capsys.readouterr().out
    assert next(count) > 30 and said.count("already trained") == 2
    assert same_results(tmp_path / "here", tmp_path / "alone") and same_results(tmp_path / "there", tmp_path / "alone")


def test_a_store_is_tried_before_anything_is_computed(store, tmp_path, monkeypatch):
    require_usable(Store(f"file://{store}"))
    assert not [path for path in store.rglob("*") if path.is_file()]
    with pytest.raises(StoreError, match="cannot be used"):
        require_usable(Store(f"file://{write(tmp_path / 'file')}/folder"))
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(StoreError, match=r"pip install 'mcvqa\[object\]'"):
        require_usable(Store("s3://bucket/folder"))


def test_settings_that_cannot_be(tmp_path):
    with pytest.raises(ConfigError, match=r"is a URL.*--set shared_dir=s3://bucket/folder"):
        open_project(Config(output_dir="s3://bucket/folder"))
    with pytest.raises(ConfigError, match="shared_dir='/folder'"):
        Config(shared_dir="/folder")
    with pytest.raises(ConfigError, match="A search does not use shared_dir"):
        search_settings(tiny_settings(tmp_path, shared_dir=f"file://{tmp_path}"), trials=1)
