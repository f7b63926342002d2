"""Keeps parcels of files in a folder of an object store (s3://, gs://) or a file system (file://), by fsspec.

A parcel is there as soon as its manifest is, which is written last: one put, which is atomic on an object store, also replaces an
older state of the parcel. Objects are named by their content, so none is replaced by another, and what is fetched is compared
with the manifest. There are no renames and no appends.
"""
import contextlib
import errno
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mcvqa.base.files import LONG_WAITS, UNAVAILABLE, Result, as_json, atomic_path, file_hash
from mcvqa.config import McvqaError

PARCELS, OBJECTS, PROBE_OBJECT = "parcels", "objects", "probe"
CLIENTS = ("aiobotocore", "aiohttp", "botocore", "gcsfs", "google", "requests", "urllib3")  # libraries whose own errors pass
LASTING = ("Credential", "Profile", "Region", "ParamValidation", "Refresh")  # in the names of those that waiting does not fix
BUSY = {errno.EBUSY, errno.EAGAIN, errno.ECONNRESET, errno.EPIPE} | UNAVAILABLE  # s3fs: EBUSY for 409 and 503, EREMOTEIO for 500


class StoreError(McvqaError, RuntimeError):
    """Raised if `shared_dir` cannot be used; finished work is kept in output_dir."""


@dataclass(frozen=True)
class Store:
    """Reads and writes the parcels below one folder of a store.

    Args:
        url: the folder, such as 's3://bucket/prefix/run'.
        waits: seconds before each further attempt while the store is unavailable.
        is_quiet: whether it does not say that it waits.

    Raises:
        StoreError: from all methods, if the store cannot be used or stays unavailable.
    """

    url: str
    waits: Sequence[float] = LONG_WAITS
    is_quiet: bool = False

    # %% parcels
    def publish(self, name: str, files: Mapping[str, Path], facts: Mapping[str, Any]) -> None:
        """Write a parcel, or replace it by its new state.

        Args:
            name: its name.
            files: path in the parcel -> file.
            facts: further fields of the manifest.
        """
        before = self.manifest(name)
        hashes = {path: file_hash(file) for path, file in files.items()}
        listed = {path: {"bytes": file.stat().st_size, "sha256": hashes[path]} for path, file in files.items()}
        for path, file in files.items():
            self._put(partial(_upload, str(file)), self._object(name, hashes[path]))
        self.write(f"{PARCELS}/{name}.json", as_json({"files": listed, **facts}).encode())
        for one in before["files"].values() if before else ():
            if one["sha256"] not in hashes.values():
                self.delete(self._object(name, one["sha256"]))

    def manifest(self, name: str) -> dict[str, Any] | None:
        """Read the manifest of a parcel; None: there is none, or it is damaged, so that the parcel counts as missing."""
        content = self.read(f"{PARCELS}/{name}.json")
        if content is None:
            return None
        try:
            manifest = json.loads(content)
            files = {path: (facts["bytes"], facts["sha256"]) for path, facts in manifest["files"].items()}
            if all(isinstance(size, int) and isinstance(sha, str) for size, sha in files.values()):
                return manifest
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        print(f"  {self.url}/{PARCELS}/{name}.json is damaged: the work that it lists is treated as not done")
        return None

    def names(self) -> list[str]:
        """List the parcels that are there."""
        def listed() -> list[str]:
            system, root = self._place()
            with contextlib.suppress(FileNotFoundError):
                return system.ls(f"{root}/{PARCELS}", detail=False)
            return []

        found = self._patiently(listed, f"listing {self.url}")
        return sorted(Path(path).stem for path in found if path.endswith(".json"))

    def fetch(self, name: str, manifest: Mapping[str, Any], folder: Path) -> str:
        """Copy the files of a parcel to an empty folder, and compare each with the manifest.

        Args:
            name: the parcel.
            manifest: its manifest.
            folder: receives the files.

        Returns:
            The first path that is missing in the store or differs from the manifest; empty: all are whole.
        """
        for path, facts in manifest["files"].items():
            if not self._fetched(self._object(name, facts["sha256"]), folder / path, facts):
                return path
        return ""

    def forget(self, name: str) -> None:
        """Delete a parcel, its manifest first."""
        manifest = self.manifest(name)
        self.delete(f"{PARCELS}/{name}.json")
        for one in manifest["files"].values() if manifest else ():
            self.delete(self._object(name, one["sha256"]))

    def sweep(self) -> None:
        """Delete the objects of no parcel, which processes have left that were killed while they published."""
        def found() -> list[str]:
            system, root = self._place()
            return [path.removeprefix(f"{root}/") for path in system.find(f"{root}/{OBJECTS}")]

        manifests = {name: self.manifest(name) or {"files": {}} for name in self.names()}
        listed = {self._object(name, one["sha256"]) for name, about in manifests.items() for one in about["files"].values()}
        for path in {*self._patiently(found, f"listing {self.url}")} - listed:
            self.delete(path)

    # %% objects
    def read(self, path: str) -> bytes | None:
        """Return the content of an object; None: it does not exist."""
        def content() -> bytes | None:
            system, root = self._place()
            with contextlib.suppress(FileNotFoundError):
                return system.cat_file(f"{root}/{path}")
            return None

        return self._patiently(content, f"reading {self.url}/{path}")

    def write(self, path: str, content: bytes) -> None:
        """Write an object, whole or not at all."""
        self._put(lambda system, target: system.pipe_file(target, content), path)

    def create(self, path: str, content: bytes) -> bool:
        """Write an object unless there is one; returns whether the object is now the one of this call."""
        def put() -> bool:
            system, root = self._place()
            with contextlib.suppress(FileExistsError):
                system.pipe_file(f"{root}/{path}", content, mode="create")
                return True
            return False

        return self._patiently(put, f"writing {self.url}/{path}") or self.read(path) == content  # if the answer was lost

    def age(self, path: str) -> float:
        """Return the seconds since an object was written, by the clock of the store; 0 if there is none."""
        def seconds() -> float:
            system, root = self._place()
            with contextlib.suppress(FileNotFoundError):
                return (system.modified(f"{root}/{PROBE_OBJECT}") - system.modified(f"{root}/{path}")).total_seconds()
            return 0.0

        self.write(PROBE_OBJECT, b"")
        return self._patiently(seconds, f"reading {self.url}/{path}")

    def delete(self, path: str) -> None:
        """Delete an object, if it exists."""
        def remove() -> None:
            system, root = self._place()
            with contextlib.suppress(FileNotFoundError):
                system.rm_file(f"{root}/{path}")

        self._patiently(remove, f"deleting {self.url}/{path}")

    @staticmethod
    def _object(name: str, sha256: str) -> str:
        return f"{OBJECTS}/{name}/{sha256}"

    def _put(self, write: Callable[[Any, str], None], path: str) -> None:
        """Let `write(file system, path)` write an object; on a file system, where that is not atomic, under a temporary name."""
        def put() -> None:
            system, root = self._place()
            if "file" not in system.protocol:
                write(system, f"{root}/{path}")
                return
            with atomic_path(f"{root}/{path}") as part:
                write(system, str(part))

        self._patiently(put, f"writing {self.url}/{path}")

    def _fetched(self, path: str, file: Path, facts: Mapping[str, Any]) -> bool:
        """Copy an object, a second time if the first copy differs from the manifest; returns whether it is whole."""
        def get() -> bool:
            system, root = self._place()
            with contextlib.suppress(FileNotFoundError):
                system.get_file(f"{root}/{path}", str(file))
                return file.stat().st_size == facts["bytes"] and file_hash(file) == facts["sha256"]
            return False

        file.parent.mkdir(parents=True, exist_ok=True)
        return any(self._patiently(get, f"reading {self.url}/{path}") for _ in range(2))

    # %% the store
    def _place(self) -> tuple[Any, str]:
        """Return the file system of the store, and the folder in it."""
        from fsspec.core import url_to_fs

        options = {"auto_mkdir": True} if self.url.startswith("file:") else {"use_listings_cache": False}
        return url_to_fs(self.url, **options)

    def _patiently(self, work: Callable[[], Result], what: str) -> Result:
        """Return `work()`, retried while the store is unavailable, overloaded or out of reach.

        Raises:
            StoreError: it stayed so, or the error is one that waiting does not fix.
        """
        for wait in self.waits:
            try:
                return work()
            except Exception as error:
                if not _passes_by(error):
                    raise StoreError(_explained(self.url, error)) from error
                if not self.is_quiet:
                    print(f"  {what}: {type(error).__name__}: {error}. Trying again in {wait:g} s")
            time.sleep(wait)
        try:
            return work()
        except Exception as error:
            raise StoreError(_explained(self.url, error)) from error


def require_usable(store: Store) -> None:
    """Write, read, list and delete an object.

    Raises:
        StoreError: one of these fails; the message says why.
    """
    content = str(time.time()).encode()
    store.write(PROBE_OBJECT, content)
    if store.read(PROBE_OBJECT) != content:
        raise StoreError(f"shared_dir={store.url!r} does not return what was just written there. It cannot be shared.")
    store.names()
    store.delete(PROBE_OBJECT)


def _explained(url: str, error: Exception) -> str:
    """Say in a line what is wrong with the store, and what to do."""
    said = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, ImportError):
        return f"shared_dir={url!r} needs packages that are not installed ({said}): pip install 'mcvqa[object]'"
    if isinstance(error, PermissionError):
        return (f"shared_dir={url!r}: access is denied ({said}). Allow this account to read, write, list and delete "
                "there.")
    if isinstance(error, FileNotFoundError):
        return f"shared_dir={url!r}: there is no such bucket or folder ({said}). Create it, or correct the name."
    return (f"shared_dir={url!r} cannot be used ({type(error).__name__}: {said}). Finished work is kept in output_dir. "
            "When the store works again, run the same command again.")


def _passes_by(error: Exception) -> bool:
    """Return whether an error may be gone after a while: throttling, server errors, timeouts, lost connections."""
    name, module = type(error).__name__, type(error).__module__.partition(".")[0]
    if isinstance(error, (TimeoutError, ConnectionError)):
        return True
    if module in CLIENTS:
        status = str(getattr(error, "code", None) or getattr(error, "status", None))  # of gcsfs and aiohttp
        is_refused = status.startswith("4") and status not in ("408", "429")
        return not is_refused and not any(word in name for word in LASTING)
    return isinstance(error, OSError) and error.errno in BUSY


def _upload(file: str, system: Any, path: str) -> None:
    system.put_file(file, path)
