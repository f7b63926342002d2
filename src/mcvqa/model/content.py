"""What a base model consists of, by content: weights that are exchanged in place are another model under the same name."""
import contextlib
import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache

from mcvqa.base.files import DamagedFile, file_hash, read_json, write_json
from mcvqa.config import Config, McvqaError

# what the model's answers depend on; pictures, READMEs and the settings of generate() are left out
CONTENT_FILES = (
    "config.json", "*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json", "*processor*.json", "tokenizer*",
    "vocab.*", "merges.txt", "added_tokens.json", "special_tokens_map.json", "*.model", "tekken.json", "chat_template*",
)


class ModelError(McvqaError, RuntimeError):
    """A model that cannot be loaded or is not what it should be."""


def packaged_tiny() -> Path | None:
    """The folder of the trained tiny model in the package; None where there is no package (the notebook by itself)."""
    package = find_spec("mcvqa")
    for parent in package.submodule_search_locations or () if package else ():
        if (Path(parent) / "tiny" / "model.safetensors").exists():
            return Path(parent) / "tiny"
    return None


def local_folder(config: Config) -> Path | None:
    """The folder with the model's files, for a hub model the cached one; None where it is not there yet. No network."""
    if config.model_id == "tiny":
        return packaged_tiny()
    folder = Path(config.model_id)
    if folder.is_dir():
        return folder
    with contextlib.suppress(ValueError):  # no name that the hub could have
        cached = try_to_load_from_cache(config.model_id, "config.json", revision=config.revision or None)
        return Path(cached).parent if isinstance(cached, str) else None
    return None


def base_print(config: Config) -> str:
    """The content of the base model, for keys: JSON of the hash of each file that its answers depend on.

    A file is read again only when its size or dates change; what is known is kept in cache/ of the output folder. Of a hub
    model the names under which the hub's cache stores the files are taken, which are their hashes. Before a hub model is
    downloaded only its name is known, so keys are made after that.
    """
    folder = local_folder(config)
    if folder is None:
        return json.dumps({"model": config.model_id})
    memory = Path(config.output_dir) / "cache" / "model-files.json"
    known = _known_hashes(memory)
    files = {path.name: path for pattern in CONTENT_FILES for path in folder.glob(pattern) if path.is_file()}
    if config.chat_template:
        files["chat_template of the settings"] = Path(config.chat_template)
    facts = {name: _file_facts(path, known) for name, path in sorted(files.items())}
    hashed = {str(files[name].absolute()): fact for name, fact in facts.items() if fact["stamp"]}
    if any(known.get(path) != fact for path, fact in hashed.items()):
        write_json(memory, known | hashed)
    return json.dumps({name: fact["sha256"] for name, fact in facts.items()})


def _known_hashes(memory: Path) -> dict[str, Any]:
    """What earlier runs noted; nothing where the note is damaged, for all of it can be made again."""
    try:
        known = read_json(memory)
    except (OSError, DamagedFile):
        return {}
    return known if isinstance(known, dict) else {}


def _file_facts(path: Path, known: dict[str, Any]) -> dict[str, Any]:
    """The hash of a file and the size and dates it had; the date of the last change of any kind cannot be set by hand."""
    target = Path(os.path.realpath(path))
    if path.is_symlink() and target.parent.name == "blobs":
        return {"sha256": target.name, "stamp": None}
    facts = path.stat()
    stamp = [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]
    before = known.get(str(path.absolute()))
    if isinstance(before, dict) and before.get("stamp") == stamp and isinstance(before.get("sha256"), str):
        return before
    return {"sha256": file_hash(path), "stamp": stamp}


def base_differences(before: str, now: str) -> list[str]:
    """The files in which two results of `base_print` differ, each with what happened to it."""
    old, new = json.loads(before), json.loads(now)
    return [
        f"{name} {'is gone' if name not in new else 'is new' if name not in old else 'has changed'}"
        for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)
    ]
