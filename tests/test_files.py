"""Files that are never half written, and the log of a run."""
import hashlib

import pytest

from mcvqa.files import RunLog, atomic_path, file_hash, read_json, write_json


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
