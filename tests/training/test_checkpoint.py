"""Checkpoints: whole or not at all, verified when read."""
import pytest
import torch

from mcvqa.training.checkpoint import CheckpointError, adapter_hash, save_trained, verified


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
    with pytest.raises(OSError, match="No space left"):
        save_trained(Saved(b""), tmp_path / "best", {"epoch": 1})
    assert verified(tmp_path / "best")["epoch"] == 0


def test_a_save_cut_off_between_its_renames_leaves_the_old_checkpoint(tmp_path):
    save_trained(Saved(b"one"), tmp_path / "best", {"epoch": 0})
    (tmp_path / "best").rename(tmp_path / ".best.old")
    assert verified(tmp_path / "best")["epoch"] == 0


def test_nothing_there(tmp_path):
    with pytest.raises(CheckpointError, match="train first"):
        verified(tmp_path / "best")
