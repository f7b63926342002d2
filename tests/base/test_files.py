"""Files that are never half written, and the log of a run."""
import hashlib
import time

import pytest

from mcvqa.base.files import RunLog, atomic_path, file_hash, patiently, read_json, write_json
from tests.faults import drop_drive, small_disk, unmount


def test_an_error_leaves_the_old_file_and_no_litter(tmp_path):
    file = tmp_path / "deep" / "x.json"
    write_json(file, {"한글": 1})
    with pytest.raises(RuntimeError), atomic_path(file) as part:
        part.write_text("half")
        raise RuntimeError
    assert read_json(file) == {"한글": 1}
    assert [p.name for p in file.parent.iterdir()] == ["x.json"]


def test_file_hash_is_sha256(tmp_path):
    file = tmp_path / "x"
    file.write_bytes(b"abc" * 1_000_000)
    assert file_hash(file) == hashlib.sha256(b"abc" * 1_000_000).hexdigest()


def test_the_log_survives_a_line_cut_off_by_a_crash(tmp_path):
    log = RunLog(tmp_path / "logs" / "run.jsonl")
    log.write("step", loss=1.5)
    with open(log.path, "a") as handle:
        handle.write('{"event": "step", "lo\n')
    log.write("step", loss=0.5)
    log.write("epoch", accuracy=0.9)
    assert [e["loss"] for e in log.events("step")] == [1.5, 0.5]


# %% drives that drop
def test_lines_of_the_log_wait_for_the_drive(tmp_path, capsys):
    log = RunLog(tmp_path / "run.jsonl")
    log.write("step", number=0)
    drop_drive(tmp_path)
    log.write("step", number=1)
    log.write("step", number=2)
    unmount(tmp_path)
    log.write("step", number=3)
    assert [e["number"] for e in log.events("step")] == [0, 1, 2, 3]
    assert capsys.readouterr().out.count("Transport endpoint is not connected") == 1, "told once"


def test_a_full_disk_loses_no_line_and_stops_nobody(tmp_path):
    with small_disk(tmp_path / "small", "16k"):
        log, ballast = RunLog(tmp_path / "small" / "run.jsonl"), tmp_path / "small" / "ballast"
        ballast.write_bytes(bytes(4096))
        for number in range(3):
            log.write("step", number=number, text="x" * 5000)
        ballast.unlink()
        log.path.write_text(log.path.read_text()[:5000])  # and make room
        log.write("step", number=3)
        assert [e["number"] for e in log.events("step")][-1] == 3


def test_files_are_written_when_the_drive_is_back(tmp_path, capsys):
    drop_drive(tmp_path, 0.3)
    write_json(tmp_path / "x.json", [1])
    assert read_json(tmp_path / "x.json") == [1]
    assert "[Errno 107] Transport endpoint is not connected" in capsys.readouterr().out


def test_what_waiting_does_not_mend_is_not_waited_for(tmp_path):
    started = time.monotonic()
    with pytest.raises(FileNotFoundError):
        patiently((tmp_path / "none").read_text, "reading", (60.0,))
    assert time.monotonic() - started < 30
