"""A base model whose folder is damaged: named and refused, never filled up with random weights."""
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mcvqa.config import Config
from mcvqa.model.content import require_model_folder
from mcvqa.model.device import plan_device
from mcvqa.model.load import load_base, load_encoder
from mcvqa.model.size import measure_model
from mcvqa.model.source import ModelError, model_folder, read_model_config, require_whole_model

FILE, LAYER = "model.safetensors", "model.layers.3.mlp.up_proj.weight"


def edited(**changes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        facts = json.loads((folder / "config.json").read_text())
        for name, value in changes.items():
            facts[name] = facts[name] | value if isinstance(value, dict) else value
        (folder / "config.json").write_text(json.dumps(facts))

    return damage


def with_tensors(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / FILE)
        change(tensors)
        save_file(tensors, folder / FILE, {"format": "pt"})

    return damage


def cut(size: int) -> Callable[[Path], None]:
    return lambda folder: (folder / FILE).write_bytes((folder / FILE).read_bytes()[:size]) and None


def without(pattern: str) -> Callable[[Path], None]:
    return lambda folder: [path.unlink() for path in folder.glob(pattern)] and None


def in_shards(folder: Path) -> None:
    tensors = load_file(folder / FILE)
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[:90], "model-00002-of-00002.safetensors": names[90:]}
    for shard, part in shards.items():
        save_file({name: tensors[name] for name in part}, folder / shard, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: shard for shard, part in shards.items() for name in part}}
    (folder / f"{FILE}.index.json").write_text(json.dumps(index))
    (folder / FILE).unlink()


def without_a_shard(folder: Path) -> None:
    in_shards(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


def with_a_broken_index(folder: Path) -> None:
    in_shards(folder)
    (folder / f"{FILE}.index.json").write_text('{"weight_map": ')


def adapters_only(folder: Path) -> None:
    for name in (FILE, "config.json"):
        (folder / name).unlink()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "some/base"}')
    save_file({"a": torch.zeros(1)}, folder / "adapter_model.safetensors")


DAMAGES = {
    "a tensor is missing": (with_tensors(lambda t: t.pop(LAYER)), "1 tensor missing, first model.language_model.layers.3.mlp"),
    "a tensor is renamed": (with_tensors(lambda t: t.update(x=t.pop(LAYER))), "; 1 tensor not part of the model, first x"),
    "shapes": (edited(text_config={"intermediate_size": 512}), r"24 tensors with another shape, .* instead of \(256, 512\)"),
    "a patch without size": (edited(vision_config={"patch_size": 0}), r"config\.json of .*: vision_config\.patch_size is 0"),
    "a pipe": (lambda f: os.mkfifo((f / FILE).unlink() or f / FILE), r"model\.safetensors is a named pipe, not a file"),
    "layers": (edited(text_config={"num_hidden_layers": 12}), r"`num_hidden_layers` \(12\) must be equal"),
    "heads": (edited(text_config={"num_attention_heads": 7}), "divisible by num_heads"),
    "another class": (edited(model_type="qwen3_vl"), "tensors missing"),
    "no class": (edited(model_type="bert"), "is not a vision-language model"),
    "cut off": (cut(3_000_000), r"model\.safetensors is cut off or damaged \(.*(file not fully covered|IncompleteBuffer)"),
    "cut off in its header": (cut(1000), r"model\.safetensors is cut off or damaged"),
    "empty": (cut(0), r"model\.safetensors is cut off or damaged"),
    "no weights": (without(FILE), "has no weights: expected model.safetensors"),
    "no shard": (without_a_shard, "is missing 1 of 2 weight files, first model-00002-of-00002.safetensors"),
    "a broken index": (with_a_broken_index, r"model.safetensors.index.json is damaged"),
    "a broken configuration": (lambda f: (f / "config.json").write_text("{") and None, "not a valid JSON file"),
    "no tokenizer": (without("tokenizer*"), "has no tokenizer"),
    "no template": (without("chat_template*"), "has no chat template"),
    "no processor": (without("preprocessor*"), "could not be loaded: Can't load image processor"),
    "adapters only": (adapters_only, "holds adapters .*Set model_id to the model they were made for: some/base"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_model_is_named_and_refused(tiny_config, tmp_path, name):
    damage, message = DAMAGES[name]
    folder = shutil.copytree(model_folder(tiny_config), tmp_path / "model")
    damage(folder)
    config = tiny_config.replace(model_id=str(folder))
    with pytest.raises(ModelError, match=message) as before:  # as `mcvqa check` looks at it: without its weights
        _, _, model_config = load_encoder(config)
        measure_model(model_config, config)
        require_whole_model(config, model_config)
    assert "/model" in str(before.value)
    with pytest.raises(ModelError, match=message):
        load_base(config, plan_device(config))


@pytest.mark.parametrize(("model_id", "message"), {
    "{top}/qwen": "{top}/qwen is not a folder with a config.json; there is one in {top}/qwen/transformers/3b/1.",
    "{top}/qwen/transformers/7b/1": "is not a folder with a config.json; there is one in {top}/qwen/transformers/3b/1.",
    "/kaggle-nowhere/input/qwen": "/kaggle-nowhere/input/qwen is not a folder with a config.json.\n",
    "./nowhere": "nowhere is not a folder with a config.json", "models\\qwen": "is not a folder with a config.json",
    "C:/models/qwen": "is not a folder with a config.json", "내 모델": "내 모델 is not a folder with a config.json",
    "{top}/model.zip": "{top}/model.zip is a file",
}.items())
def test_a_path_without_a_model_is_refused_with_the_models_nearby(tmp_path, model_id, message):
    """Kaggle's folders are deep; the hub's library said "Repo id must be in the form ...", and `check` gave a traceback."""
    (tmp_path / "qwen/transformers/3b/1").mkdir(parents=True)
    (tmp_path / "qwen/transformers/3b/1/config.json").write_text("{}")
    (tmp_path / "model.zip").touch()
    with pytest.raises(ModelError, match=re.escape(message.format(top=tmp_path))):
        read_model_config(Config(model_id=model_id.format(top=tmp_path)))


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-VL-3B-Instruct", "gpt2", "tiny"])
def test_names_of_the_hub_are_no_paths(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    require_model_folder(Config(model_id=name))


def test_a_model_in_shards_is_whole(tiny_config, tmp_path):
    folder = shutil.copytree(model_folder(tiny_config), tmp_path / "model")
    in_shards(folder)
    config = tiny_config.replace(model_id=str(folder))
    assert load_base(config, plan_device(config)).model.get_input_embeddings().weight.shape == (2048, 256)
