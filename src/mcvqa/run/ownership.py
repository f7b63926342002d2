"""Gives a run one owner: a second process in the same run folder is refused, naming the first one.

The lock belongs to the operating system, so a crash, a SIGKILL or a restart of the machine releases it. A file next to it
describes the owner. A child process started by the owner may use the owner's lock if MCVQA_OWNER contains the owner's pid.
"""
import contextlib
import ctypes
import os
import shlex
import socket
import sys
import time
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mcvqa.base.files import DamagedFile, read_json, write_json
from mcvqa.config import McvqaError

OWNER = "MCVQA_OWNER"  # environment variable: pid of the owner that started this process
ORPHANS_END = 10.0  # seconds until the loader processes of a killed owner have ended too
OWNER_FACTS = {"host", "pid", "birth", "since", "command"}
QUERY_LIMITED_INFORMATION, STILL_ACTIVE, ACCESS_DENIED = 0x1000, 259, 5  # winnt.h, minwinbase.h, winerror.h


class Owned(McvqaError, RuntimeError):
    """Raised if another process is working on the same run or fold."""


class Ownership:
    """Represents the right to work on a run or fold. The same process may take it again, as a notebook does after an interrupt.

    Args:
        lock: the file that is locked; it is never deleted.
        what: the thing that is owned, for messages.
    """

    def __init__(self, lock: Path, what: str) -> None:
        self.what, self.facts = what, lock.with_suffix(".json")
        lock.parent.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(lock, is_singleton=True)  # which counts how often it is taken

    def take(self) -> None:
        """Take the ownership.

        Raises:
            Owned: another living process has it.
        """
        if self._passes():
            return
        try:
            self._acquire()
        except (OSError, NotImplementedError) as error:
            print(f"  {self.lock.lock_file} cannot be locked here ({error}): do not start a second process on {self.what}")
        write_json(self.facts, owner_facts())

    def give_back(self) -> None:
        """Release the ownership, if this process has taken it."""
        with contextlib.suppress(OSError):  # the drive is unavailable: the lock says that there is no owner
            if self.lock.lock_counter == 1:
                self.facts.unlink(missing_ok=True)
        self.lock.release()

    def _acquire(self) -> None:
        """Lock the file.

        Raises:
            Owned: another process has locked it.
            OSError, NotImplementedError: files cannot be locked here.
        """
        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            owner = self._owner()
            if is_alive(owner):
                raise Owned(self._refusal(owner)) from None
            self._inherit()

    def _inherit(self) -> None:
        """Take over from a dead owner whose lock is held by processes that it forked."""
        try:
            self.lock.acquire(timeout=ORPHANS_END)
        except Timeout:
            Path(self.lock.lock_file).unlink(missing_ok=True)
            self.lock.acquire(timeout=0)

    def _passes(self) -> bool:
        """Return whether the owner has started this process."""
        owner = self._owner()
        return os.environ.get(OWNER) == str(owner.get("pid")) and owner.get("host") == socket.gethostname() and is_alive(owner)

    def _owner(self) -> dict[str, Any]:
        try:
            facts = read_json(self.facts, dict)
        except (OSError, DamagedFile):  # about to be written or removed, or damaged
            return {}
        return facts if OWNER_FACTS <= facts.keys() else {}

    def _refusal(self, owner: dict[str, Any]) -> str:
        who = "which has just started or ended."
        if owner:
            who = "on {host}, since {since}: {command}\nStop it with: kill {pid}".format(**owner)
        return f"Another process is working on {self.what}, {who}\nWait for it to end, or choose another name: --set run_name=..."


def owner_facts() -> dict[str, Any]:
    return {
        "host": socket.gethostname(), "pid": os.getpid(), "birth": _birth(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"), "command": shlex.join(sys.argv),
    }


def is_alive(owner: dict[str, Any]) -> bool:
    """Return whether an owner still works; an owner on another machine, or an unknown one, is alive as long as its lock is
    held."""
    if owner.get("host") != socket.gethostname():
        return True
    return _process_runs(owner["pid"]) and _birth(owner["pid"]) == owner["birth"]


def _process_runs(pid: int, platform: str = sys.platform) -> bool:
    """Return whether a process with this number exists, of any user."""
    if platform == "win32":  # there os.kill(pid, 0) sends Ctrl-C
        return _windows_process_runs(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return True
    return True


def _windows_process_runs(pid: int) -> bool:
    """Return whether a Windows process runs: one that has ended is known as long as a handle is open, but has an exit status."""
    kernel = getattr(ctypes, "WinDLL")("kernel32", use_last_error=True)  # noqa: B009 - other systems have none
    handle = kernel.OpenProcess(QUERY_LIMITED_INFORMATION, False, pid)
    if not handle:
        return bool(getattr(ctypes, "get_last_error")() == ACCESS_DENIED)  # noqa: B009
    status = ctypes.c_ulong()
    known = kernel.GetExitCodeProcess(handle, ctypes.byref(status))
    kernel.CloseHandle(handle)
    return not known or status.value == STILL_ACTIVE


def _birth(pid: int) -> str:
    """Return the start time of a process in Linux' own units, since process numbers are reused; empty on other systems."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except OSError:
        return ""
