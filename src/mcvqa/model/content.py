"""Identifies the files of a base model by content: replaced weights under the same name are another model."""
import contextlib
import itertools
import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.utils import validate_repo_id

from mcvqa.base.files import DamagedFile, existing_folder, file_hash, file_stamp, read_json, write_json
from mcvqa.config import Config, McvqaError

# files that the answers depend on; not images, READMEs or the settings of generate()
CONTENT_FILES = (
    "config.json", "*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json", "*processor*.json", "tokenizer*",
    "vocab.*", "merges.txt", "added_tokens.json", "special_tokens_map.json", "*.model", "tekken.json", "chat_template*",
)
EXPECTED_MODEL = (
    "Expected a hub name such as Qwen/Qwen2.5-VL-3B-Instruct (with internet access), a folder with config.json, tokenizer and "
    "weights, or 'tiny'."
)
ADAPTER_CONFIG = "adapter_config.json"
MOST_FOLDERS = 1000  # that are searched for models


class ModelError(McvqaError, RuntimeError):
    """Raised if the model cannot be loaded or its files are not the expected ones."""


def require_model_folder(config: Config) -> None:
    """Check that `model_id` is a folder with a model, unless it is a hub name or 'tiny'.

    Raises:
        ModelError: it is not, or holds only adapters; the message names such folders nearby.
    """
    name, place = config.model_id, Path(config.model_id)
    if place.is_file():
        raise ModelError(f"model_id={name} is a file. Set it to the folder that holds the model's files, unpacked.")
    folder = local_folder(config)
    if folder and (folder / ADAPTER_CONFIG).exists():  # the library would load the model that it names, adapted
        named = read_json(folder / ADAPTER_CONFIG, dict).get("base_model_name_or_path")
        raise ModelError(
            f"{folder} holds adapters ({ADAPTER_CONFIG}), not a model. Set model_id to the model they were made for"
            f"{f': {named}' if named else ''}, and start_from to this folder to continue training them."
        )
    if name == "tiny" or (place / "config.json").exists():
        return
    if not place.is_dir() and not name.startswith("."):
        with contextlib.suppress(ValueError):
            validate_repo_id(name)
            return
    parent = existing_folder(place)
    walked = itertools.islice(os.walk(parent), MOST_FOLDERS if parent.parent != parent else 0)
    models = [folder for folder, _, files in walked if "config.json" in files]
    nearby = f"; there is one in {', '.join(models[:5])}" if models else ""
    raise ModelError(f"{place} is not a folder with a config.json{nearby}.\n{EXPECTED_MODEL}")


def packaged_tiny() -> Path | None:
    """Return the folder of the trained tiny model in the package; None: the package is not installed (notebook only)."""
    package = find_spec("mcvqa")
    for parent in package.submodule_search_locations or () if package else ():
        if (Path(parent) / "tiny" / "model.safetensors").exists():
            return Path(parent) / "tiny"
    return None


def local_folder(config: Config) -> Path | None:
    """Find the folder with the model's files, without network access.

    Returns:
        The folder, for a hub model the one in the hub's cache; None: it is not downloaded yet.
    """
    if config.model_id == "tiny":
        return packaged_tiny()
    folder = Path(config.model_id)
    if folder.is_dir():
        return folder
    with contextlib.suppress(ValueError):  # not a valid hub name
        cached = try_to_load_from_cache(config.model_id, "config.json", revision=config.revision or None)
        return Path(cached).parent if isinstance(cached, str) else None
    return None


def base_print(config: Config) -> str:
    """Identify the base model by content, for cache keys.

    A file is hashed again only when its size or dates change; known hashes are kept in cache/ of the output folder. Files of
    a hub model are not hashed: the hub's cache names them by their hashes. Before a hub model is downloaded only its name is
    known, so keys are computed after that.

    Returns:
        JSON with the hash of each file that the answers depend on.
    """
    folder = local_folder(config)
    if folder is None:
        return json.dumps({"model": config.model_id})
    cache = Path(config.output_dir) / "cache" / "model-files.json"
    known = _known_hashes(cache)
    files = {path.name: path for pattern in CONTENT_FILES for path in folder.glob(pattern) if path.is_file()}
    if config.chat_template:
        files["chat_template of the settings"] = Path(config.chat_template)
    facts = {name: _file_facts(path, known) for name, path in sorted(files.items())}
    hashed = {str(files[name].absolute()): fact for name, fact in facts.items() if fact["stamp"]}
    if any(known.get(path) != fact for path, fact in hashed.items()):
        write_json(cache, known | hashed)
    return json.dumps({name: fact["sha256"] for name, fact in facts.items()})


def _known_hashes(cache: Path) -> dict[str, Any]:
    """Read the hashes noted by earlier runs; empty if the file is missing or damaged, as they can be computed again."""
    try:
        known = read_json(cache)
    except (OSError, DamagedFile):
        return {}
    return known if isinstance(known, dict) else {}


def _file_facts(path: Path, known: dict[str, Any]) -> dict[str, Any]:
    """Return hash and stamp of a file."""
    target = Path(os.path.realpath(path))
    if path.is_symlink() and target.parent.name == "blobs":
        return {"sha256": target.name, "stamp": None}
    stamp = file_stamp(path)
    before = known.get(str(path.absolute()))
    if isinstance(before, dict) and before.get("stamp") == stamp and isinstance(before.get("sha256"), str):
        return before
    return {"sha256": file_hash(path), "stamp": stamp}


def base_differences(before: str, now: str) -> list[str]:
    """List the files in which two results of `base_print` differ, and how each one changed.

    Args:
        before: the earlier result.
        now: the current one.
    """
    old, new = json.loads(before), json.loads(now)
    return [
        f"{name} {'is gone' if name not in new else 'is new' if name not in old else 'has changed'}"
        for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)
    ]
