"""Real faults of disks and drives, made with mounts; a test that needs one is left out where it may not mount."""
import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

DETACH, READ_ONLY, REMOUNT, BIND = 2, 1, 32, 4096  # sys/mount.h


def _mount(source: str, target: Path, kind: str, flags: int = 0, options: str = "") -> None:
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root may mount")
    library = ctypes.CDLL(None, use_errno=True)
    if library.mount(source.encode(), str(target).encode(), kind.encode(), flags, options.encode()):
        pytest.skip(f"cannot mount here: {os.strerror(ctypes.get_errno())}")


def unmount(target: Path) -> None:
    ctypes.CDLL(None).umount2(str(target).encode(), DETACH)


def drop_drive(folder: Path, seconds: float | None = None) -> None:
    """`folder` answers [Errno 107] Transport endpoint is not connected, as a Drive whose process is gone, and comes back
    after some seconds. None: `unmount` brings it back."""
    if not Path("/dev/fuse").exists():
        pytest.skip("there is no /dev/fuse here")
    process = os.open("/dev/fuse", os.O_RDWR)
    try:
        _mount("drive", folder, "fuse", 0, f"fd={process},rootmode=40000,user_id=0,group_id=0")
    finally:
        os.close(process)  # from here on nobody answers for the drive
    if seconds is not None:
        threading.Timer(seconds, unmount, [folder]).start()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """[Errno 30] Read-only file system, for root too."""
    _mount(str(folder), folder, "none", BIND)
    try:
        _mount("none", folder, "none", REMOUNT | BIND | READ_ONLY)
        yield
    finally:
        unmount(folder)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    _mount("tmpfs", folder, "tmpfs", 0, f"size={size}")
    try:
        yield
    finally:
        unmount(folder)


def needs_mounts(*commands: str) -> list[str]:
    """The beginning of a command line that runs the rest of it where `commands` have mounted something, seen by nobody else."""
    words = ["unshare", "--mount", "sh", "-c", " && ".join([*commands, 'exec "$@"']), "sh"]
    if not shutil.which("unshare") or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root may mount")
    tried = subprocess.run([*words, "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"cannot mount here: {tried.stderr.strip()}")
    return words


def bind(folder: Path, target: Path) -> None:
    """`target` shows the content of `folder` until `unmount`, which leaves an empty folder."""
    _mount(str(folder), target, "none", BIND)
