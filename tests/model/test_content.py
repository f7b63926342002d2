"""The print of a base model: its content, whatever its name, and each file read once."""
import json
import os
import shutil
import subprocess
import sys

import pytest

from mcvqa.model import content
from mcvqa.model.content import base_differences, base_print, local_folder, packaged_tiny


@pytest.fixture
def own_model(tiny_config, tmp_path):
    """The tiny model in a folder of its own."""
    folder = shutil.copytree(packaged_tiny(), tmp_path / "model")
    return folder, tiny_config.replace(model_id=str(folder), output_dir=str(tmp_path / "out"))


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja", "preprocessor_config.json"]
)
def test_a_file_changed_in_place_is_another_model(own_model, name):
    """Same size, and the date set back to what it was."""
    folder, config = own_model
    before, facts = base_print(config), (folder / name).stat()
    with open(folder / name, "r+b") as file:
        file.seek(-3, os.SEEK_END)
        last = file.read(1)
        file.seek(-3, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    os.utime(folder / name, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert base_differences(before, base_print(config)) == [f"{name} has changed"]


def test_the_print_is_of_the_content_alone(own_model, tmp_path):
    folder, config = own_model
    before = base_print(config)
    assert base_print(config.replace(model_id="tiny")) == before
    (folder / "README.md").write_text("other words")
    moved = folder.rename(tmp_path / "moved")
    assert base_print(config.replace(model_id=str(moved))) == before
    (moved / "model.safetensors").rename(moved / "model-00001-of-00001.safetensors")
    now = base_print(config.replace(model_id=str(moved)))
    assert base_differences(before, now) == ["model-00001-of-00001.safetensors is new", "model.safetensors is gone"]


def test_a_file_is_read_once(own_model, monkeypatch, tmp_path):
    _, config = own_model
    before, read, plain = base_print(config), [], content.file_hash

    def noted(path):
        read.append(path.name)
        return plain(path)

    monkeypatch.setattr(content, "file_hash", noted)
    assert base_print(config) == before and not read
    memory = tmp_path / "out" / "cache" / "model-files.json"
    for damaged in ("{", "[]", json.dumps({path: {"stamp": None} for path in json.loads(memory.read_text())})):
        memory.write_text(damaged)
        read.clear()
        assert base_print(config) == before and sorted(read) == sorted(json.loads(before)), "what is damaged is made again"


def test_a_hub_model_is_looked_for_in_the_cache_only(own_model, tmp_path, monkeypatch):
    """As a download leaves it; without one nothing is known, and nobody is asked."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    folder, config = own_model
    config = config.replace(model_id="some/model")
    assert local_folder(config) is None and base_print(config) == '{"model": "some/model"}'
    model = tmp_path / "hub" / "models--some--model"
    for part in ("blobs", "refs", "snapshots/1234"):
        (model / part).mkdir(parents=True)
    (model / "refs" / "main").write_text("1234")
    for number, file in enumerate(sorted(folder.iterdir())):
        shutil.copy(file, model / "blobs" / f"etag{number}")
        (model / "snapshots" / "1234" / file.name).symlink_to(model / "blobs" / f"etag{number}")
    assert local_folder(config) == model / "snapshots" / "1234"
    assert json.loads(base_print(config))["config.json"] == "etag2" and not (tmp_path / "out").exists(), "nothing is read"


def test_it_needs_no_torch():
    code = "import sys, mcvqa.model.content; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
