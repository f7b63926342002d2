"""Starts training from trained adapters: checks that they fit the settings and the base model, and loads them."""
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from mcvqa.base.files import read_json
from mcvqa.config import ALL_LINEAR, Config
from mcvqa.data.trained_on import TRAINED_ON
from mcvqa.model.adapters import with_adapters
from mcvqa.model.content import ADAPTER_CONFIG, ModelError, base_print, local_folder
from mcvqa.model.family_choice import family_of
from mcvqa.model.source import NAMED_TENSORS, empty_model

ADAPTER_FILE = "adapter_model.safetensors"
# setting -> its name in PEFT's adapter_config.json, and its default there
OF_PEFT: dict[str, tuple[str, Any]] = {
    "lora_r": ("r", 8), "lora_alpha": ("lora_alpha", 8), "use_rslora": ("use_rslora", False), "use_dora": ("use_dora", False),
}
Shapes = Mapping[str, tuple[int, ...]]


def require_start_fits(folder: Path, config: Config, model_config: Any) -> None:
    """Check adapters against settings and base model, before any weight is loaded.

    Args:
        folder: a PEFT folder.
        config: settings of the run that starts from it.
        model_config: configuration of the base model.

    Raises:
        ModelError: something differs; the message names it and the settings to use.
    """
    _require_settings(folder, config)
    _require_base(folder, config)
    model = empty_model(model_config)
    fresh = with_adapters(model, config, family_of(model_config, config, model), low_cpu_mem_usage=True)
    _require_tensors(folder, config, _shapes_in(folder), _shapes_of(get_peft_model_state_dict(fresh)))


def load_start(model: PeftModel, folder: Path, config: Config) -> None:
    """Replace newly initialised adapters by trained ones.

    Args:
        model: model with new adapters.
        folder: a PEFT folder.
        config: settings of the run.

    Raises:
        ModelError: the adapters do not fit.
    """
    _require_settings(folder, config)
    stored = load_file(folder / ADAPTER_FILE)
    _require_tensors(folder, config, _shapes_of(stored), _shapes_of(get_peft_model_state_dict(model)))
    set_peft_model_state_dict(model, stored)
    loaded = get_peft_model_state_dict(model)
    if other := [name for name, value in stored.items() if not torch.equal(loaded[name].cpu(), value.to(loaded[name].dtype))]:
        raise ModelError(f"{len(other)} adapters of {folder} were not loaded, first {other[0]}.")


# %% what may differ
def _require_settings(folder: Path, config: Config) -> None:
    stated = read_json(folder / ADAPTER_CONFIG, dict)
    if (kind := stated.get("peft_type", "LORA")) != "LORA":
        raise ModelError(f"start_from: {folder} holds adapters of type {kind}; training can only continue from LoRA.")
    if uneven := next((name for name in ("rank_pattern", "alpha_pattern") if stated.get(name)), None):
        raise ModelError(
            f"start_from: {folder} has different ranks or scales in some layers ({uneven}), which mcvqa does not support."
        )
    there = {name: stated.get(key, default) for name, (key, default) in OF_PEFT.items()}
    if differing := {name: value for name, value in there.items() if value != getattr(config, name)}:
        here = ", ".join(f"{name}={getattr(config, name)}" for name in differing)
        raise ModelError(
            f"start_from: the adapters in {folder} have {_assigned(differing, ', ')}, the settings {here}. The shape and scale "
            f"of adapters cannot be changed: --set {_assigned(differing, ' --set ')}"
        )


def _assigned(values: Mapping[str, Any], between: str) -> str:
    return between.join(f"{name}={str(value).lower()}" for name, value in values.items())


def _require_base(folder: Path, config: Config) -> None:
    """Check the base model by the content of its weights if the adapters record it, else by its name, if there is one."""
    now = _weights_in(json.loads(base_print(config)))
    file = folder / TRAINED_ON
    then = _weights_in(read_json(file, dict).get("base") or {}) if file.exists() else {}
    if now and then:
        if now != then:
            raise ModelError(
                f"start_from: the adapters in {folder} were trained on other weights than those of model_id={config.model_id!r}. "
                "Set model_id to the model that they were made for."
            )
        return
    named = str(read_json(folder / ADAPTER_CONFIG, dict).get("base_model_name_or_path") or "")
    if named and _bare_name(named) != _bare_name(str(local_folder(config) or config.model_id)):
        raise ModelError(
            f"start_from: the adapters in {folder} were made for {named!r}, but model_id={config.model_id!r}. Set model_id to "
            "that model. If it is the same model under another name, change base_model_name_or_path in "
            f"{folder / ADAPTER_CONFIG}."
        )


def _weights_in(files: Mapping[str, str]) -> dict[str, str]:
    return {name: content for name, content in files.items() if name.endswith((".safetensors", ".bin"))}


def _bare_name(model: str) -> str:
    """Normalise a model name: 'Qwen/Qwen3-VL-8B' and a folder of the hub's cache -> 'qwen3-vl-8b'."""
    cached = re.search(r"models--[^/\\]+?--([^/\\]+)[/\\]snapshots", model)
    return (cached[1] if cached else re.split(r"[/\\]", model.rstrip("/\\"))[-1]).lower()


# %% tensors
def _shapes_in(folder: Path) -> Shapes:
    """Read the names and shapes of the adapters in a file, from its header alone."""
    try:
        with safe_open(folder / ADAPTER_FILE, "pt") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"start_from: {folder / ADAPTER_FILE} is cut off or damaged ({error}): copy it again.") from None


def _shapes_of(tensors: Mapping[str, torch.Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _require_tensors(folder: Path, config: Config, stored: Shapes, wanted: Shapes) -> None:
    """Raises ModelError unless both have the same names and shapes."""
    if stored == wanted:
        return
    there, here = _layers_with_adapters(stored), _layers_with_adapters(wanted)
    if _last_names(there) != _last_names(here):
        advice = f"--set target_modules={','.join(sorted(_last_names(there))) or ALL_LINEAR}"
        if any(".visual." in name for name in there ^ here):
            advice = f"--set lora_vision={str(not config.lora_vision).lower()}"
        raise ModelError(
            f"start_from: the adapters in {folder} are on {', '.join(sorted(_last_names(there))) or 'no layers'}, the settings "
            f"put them on {', '.join(sorted(_last_names(here)))}. {advice}"
        )
    differing = sorted(name for name in stored.keys() | wanted.keys() if stored.get(name) != wanted.get(name))
    shown = "; ".join(
        f"{name} {stored.get(name, 'missing')} instead of {wanted.get(name, 'nothing')}" for name in differing[:NAMED_TENSORS])
    raise ModelError(
        f"start_from: the adapters in {folder} do not fit model_id={config.model_id!r}: {len(differing)} tensors differ, first "
        f"{shown}. Set model_id to the model that they were made for."
    )


def _layers_with_adapters(names: Shapes) -> set[str]:
    return {name.split(".lora_")[0].replace(".base_layer", "") for name in names}  # which PEFT puts after experts


def _last_names(layers: set[str]) -> set[str]:
    return {name.rpartition(".")[2] for name in layers}
