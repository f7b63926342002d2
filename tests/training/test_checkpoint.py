"""Checkpoints: whole or not at all, verified when read."""
import os

import pytest
import torch

from mcvqa.model.adapters import trained_parameters
from mcvqa.model.load import make_trainable, remove_adapters
from mcvqa.training import checkpoint
from mcvqa.training.checkpoint import (
    MANIFEST,
    STATE,
    TENSORS,
    CheckpointError,
    NotSaved,
    adapter_hash,
    load_trained,
    newest_point,
    read_point,
    save_point,
    save_trained,
    verified,
)
from tests.faults import drop_drive, unmount


class Saved(torch.nn.Module):
    def __init__(self, content: bytes):
        super().__init__()
        self.content = content

    def save_pretrained(self, folder, safe_serialization):
        assert safe_serialization
        if self.content == b"":
            raise OSError(28, "No space left on device")
        (folder / "adapter_model.safetensors").write_bytes(self.content)
        (folder / "README.md").write_text("[More Information Needed]")


def test_weights_come_back_and_damaged_ones_do_not(make_trainer, tmp_path):
    trainer = make_trainer()
    model = make_trainable(trainer.base, trainer.config, 3)
    trained = {name: p.detach().clone() for name, p in trained_parameters(model).items()}
    save_trained(model, tmp_path / "best", {})
    remove_adapters(trainer.base, model)
    loaded = dict(load_trained(trainer.base, tmp_path / "best").named_parameters())
    assert trained and all(torch.equal(loaded[name], value) for name, value in trained.items())
    (tmp_path / "best" / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is damaged or missing"):
        load_trained(trainer.base, tmp_path / "best")


def test_a_checkpoint_is_verified(tmp_path):
    save_trained(Saved(b"one"), tmp_path / "best", {"epoch": 2})
    assert verified(tmp_path / "best")["epoch"] == 2
    assert sorted(p.name for p in (tmp_path / "best").iterdir()) == ["adapter_model.safetensors", "manifest.json"]
    first = adapter_hash(tmp_path / "best")
    save_trained(Saved(b"two"), tmp_path / "best", {"epoch": 3})
    assert verified(tmp_path / "best")["epoch"] == 3 and adapter_hash(tmp_path / "best") != first
    assert [p.name for p in tmp_path.iterdir()] == ["best"]


@pytest.mark.parametrize("damage", [b"onX", b"on", None])
def test_damage_is_seen(tmp_path, damage):
    save_trained(Saved(b"one"), tmp_path / "best", {})
    file = tmp_path / "best" / "adapter_model.safetensors"
    file.unlink() if damage is None else file.write_bytes(damage)
    with pytest.raises(CheckpointError, match="damaged or missing"):
        verified(tmp_path / "best")


def test_a_failed_save_leaves_the_old_checkpoint(tmp_path):
    save_trained(Saved(b"one"), tmp_path / "best", {"epoch": 0})
    with pytest.raises(NotSaved, match=r"best could not be written: .*No space left on device.*Free some space"):
        save_trained(Saved(b""), tmp_path / "best", {"epoch": 1})
    assert verified(tmp_path / "best")["epoch"] == 0
    assert [p.name for p in tmp_path.iterdir()] == ["best"], "what was half written gives its space back"


def test_a_save_cut_off_between_its_renames_leaves_the_old_checkpoint(tmp_path):
    save_trained(Saved(b"one"), tmp_path / "best", {"epoch": 0})
    (tmp_path / "best").rename(tmp_path / ".best.old")
    assert verified(tmp_path / "best")["epoch"] == 0


def test_nothing_there(tmp_path):
    with pytest.raises(CheckpointError, match="train first"):
        verified(tmp_path / "best")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"files": 3}', '{"files": {"adapter_model.safetensors": {}}}'])
def test_a_damaged_manifest_is_seen(tmp_path, text):
    save_trained(Saved(b"one"), tmp_path / "best", {})
    (tmp_path / "best" / MANIFEST).write_text(text)
    with pytest.raises(CheckpointError, match=r"manifest\.json is damaged"):
        verified(tmp_path / "best")


def test_trained_weights_wait_for_a_drive_that_dropped(tmp_path, monkeypatch, capsys):
    save_trained(Saved(b"one"), tmp_path / "best", {"epoch": 0})
    drop_drive(tmp_path, 0.3)
    save_trained(Saved(b"two"), tmp_path / "best", {"epoch": 1})
    assert verified(tmp_path / "best")["epoch"] == 1
    assert "[Errno 107] Transport endpoint is not connected" in capsys.readouterr().out
    monkeypatch.setattr(checkpoint, "LONG_WAITS", (0.01,))
    drop_drive(tmp_path)
    with pytest.raises(NotSaved, match=r"not connected.*reconnect the disk, then run the same command again"):
        save_trained(Saved(b"three"), tmp_path / "best", {"epoch": 2})
    unmount(tmp_path)
    assert verified(tmp_path / "best")["epoch"] == 1


# %% resume points
def save_numbered(folder, number: int) -> None:
    save_point(folder / f"{number:04d}", {"w": torch.full((3,), float(number))}, {"step": number})


def test_the_two_newest_points_are_kept_and_nothing_half_written(tmp_path):
    assert newest_point(tmp_path / "resume") is None
    for number in range(3):
        (tmp_path / "resume" / f".{number:04d}.cut.part").mkdir(parents=True)
        save_numbered(tmp_path / "resume", number)
    assert sorted(p.name for p in (tmp_path / "resume").iterdir()) == ["0001", "0002"]
    tensors, state = read_point(newest_point(tmp_path / "resume"))
    assert state == {"step": 2} and tensors["w"].tolist() == [2, 2, 2]


@pytest.mark.parametrize("name", [TENSORS, STATE, MANIFEST])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing"])
def test_instead_of_a_damaged_point_the_one_before_it_is_used(tmp_path, capsys, name, damage):
    for number in range(2):
        save_numbered(tmp_path, number)
    file = tmp_path / "0001" / name
    content = bytearray(file.read_bytes())
    content[content.index(b'"')] ^= 255  # the first sign that JSON and the head of safetensors have
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(content if damage == "flipped" else content[:-2])
    point = newest_point(tmp_path)
    assert point == tmp_path / "0000" and read_point(point)[1] == {"step": 0}
    assert f"{file} is damaged or missing: this resume point is deleted and the previous one is used" in capsys.readouterr().out
    assert [p.name for p in tmp_path.iterdir()] == ["0000"]
    (point / TENSORS).unlink()
    assert newest_point(tmp_path) is None


def test_everything_is_forced_to_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(checkpoint, "sync", lambda path: done.append(("sync", path.name)))
    rename = os.rename
    monkeypatch.setattr(os, "rename", lambda old, new: (done.append(("rename", new.name)), rename(old, new)))
    save_numbered(tmp_path, 0)
    assert done == [
        *(("sync", name) for name in (STATE, TENSORS, MANIFEST, ".0000.part")), ("rename", "0000"), ("sync", tmp_path.name),
    ]
