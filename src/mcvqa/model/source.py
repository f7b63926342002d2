"""Finds the base model and checks that it is complete: transformers fills missing tensors with random weights."""
import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import constants, get_session
from safetensors import SafetensorError, safe_open
from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, AutoConfig, AutoModelForImageTextToText

from mcvqa.base.files import DamagedFile, read_json
from mcvqa.base.informing import counted
from mcvqa.config import Config
from mcvqa.model.content import EXPECTED_MODEL, ModelError, local_folder, require_model_folder
from mcvqa.model.device import DeviceError
from mcvqa.model.published import drop_packing, packing_settings, published_bits, truly_mismatched, without_companions
from mcvqa.model.tiny import tiny_folder

WEIGHTS_FILE, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "tokenizer.model", "spiece.model", "tekken.json", "vocab.txt")
POSITIVE_SIZES = ("patch_size", "spatial_merge_size", "temporal_patch_size", "hidden_size")
HUB_SECONDS = 5.0  # timeout of requests to the hub
NAMED_TENSORS = 3  # at most, in a message


def model_folder(config: Config) -> str:
    """Return model_id, with 'tiny' replaced by its folder."""
    if config.model_id == "tiny":
        return str(tiny_folder(Path(config.output_dir) / "cache" / "tiny"))
    return config.model_id


def hub_revision(config: Config) -> dict[str, str]:
    """Return keyword arguments that make the library load the configured version of a hub model instead of the newest."""
    return {"revision": config.revision} if config.revision else {}


@contextlib.contextmanager
def loading_model(model_id: str) -> Iterator[None]:
    """Within the block, report errors of the library, whatever their class, in one line that names the model.

    Raises:
        ModelError: the library raised an error.
    """
    try:
        yield
    except (ModelError, DeviceError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:  # damaged folders make the library raise errors of ten classes
        first, *more = (str(error) or type(error).__name__).splitlines()
        why = " ".join([first, *(line.strip() for line in more[:1] if first.endswith(":"))])
        raise ModelError(
            f"The model {model_id!r} could not be loaded: {why}\n{EXPECTED_MODEL}"
        ) from error


def read_model_config(config: Config) -> Any:
    """Read the model's config.json.

    Raises:
        ModelError: there is no folder or file, it is damaged, or the folder holds only adapters, or pipes.
    """
    require_model_folder(config)
    if config.revision and (config.model_id == "tiny" or Path(config.model_id).is_dir()):
        raise ModelError(
            f"revision={config.revision!r} applies to models on the hub, but {config.model_id!r} is not one."
        )
    folder = local_folder(config)
    if folder and (pipe := next((file for file in folder.glob("*") if file.is_fifo()), None)):
        raise ModelError(f"{pipe} is a named pipe, not a file: reading it might never end.")
    with loading_model(config.model_id):
        model_config = AutoConfig.from_pretrained(model_folder(config), **hub_revision(config), trust_remote_code=False)
    for part, values in model_config.to_dict().items():
        for name in POSITIVE_SIZES if isinstance(values, dict) else ():
            if isinstance(values.get(name), int) and values[name] < 1:
                raise ModelError(
                    f"config.json of {config.model_id} is damaged: {part}.{name} is {values[name]}. Copy or download it again."
                )
    return model_config


def require_images_and_text(model_config: Any) -> None:
    """Check that the library supports the model for images and text.

    Raises:
        ModelError: it does not.
    """
    if type(model_config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise ModelError(
            f"{model_config.name_or_path!r} is not a vision-language model: transformers {transformers.__version__} does not "
            f"list its type, {model_config.model_type!r}, among the image-and-text models (AutoModelForImageTextToText). Set "
            "model_id to another model."
        )


def empty_model(model_config: Any) -> Any:
    """Make the model on torch's meta device: its modules and shapes, without memory for weights."""
    with loading_model(model_config.name_or_path), torch.device("meta"):
        return AutoModelForImageTextToText.from_config(model_config)


def without_hub(config: Config) -> Config:
    """Replace a hub name by the folder in the hub's cache if the hub cannot be reached.

    The library would retry many times, for each file, before it uses the cache.

    Returns:
        `config` itself, or a copy that names the folder.

    Raises:
        ModelError: the hub cannot be reached and the model is not in its cache.
    """
    if config.model_id == "tiny" or Path(config.model_id).exists():
        return config
    try:
        file = f"{config.model_id}/resolve/{config.revision or 'main'}/config.json"
        get_session().head(f"{constants.ENDPOINT}/{file}", timeout=HUB_SECONDS)
    except Exception as error:  # of either HTTP library, or of the hub in offline mode
        folder = local_folder(config)
        if folder is None:
            raise ModelError(
                f"{config.model_id} is not downloaded yet and {constants.ENDPOINT} cannot be reached ({type(error).__name__}): "
                "turn on internet access, or set model_id to a folder that holds the model"
            ) from None
        return config.replace(model_id=str(folder), revision="")
    return config


# %% completeness
def require_whole_files(config: Config) -> dict[str, torch.Tensor]:
    """Read the headers of the weight files; an incomplete download of a hub model is not an error.

    Returns:
        Names and shapes of the tensors, without memory; empty: the weights are in another format or not downloaded.

    Raises:
        ModelError: a file is missing, cut off or damaged.
    """
    folder = local_folder(config)
    if folder is None or not weights_are_here(config):
        return {}
    return {name: tensor for file in _weight_files(folder) for name, tensor in _stored_tensors(file).items()}


def require_whole_model(config: Config, model_config: Any) -> None:
    """Compare names and shapes of all tensors in the weight files with the configuration, without loading them.

    Raises:
        ModelError: they differ; the message names the folder and the tensors.
    """
    stored, folder = require_whole_files(config), local_folder(config)
    if not stored:
        return
    model_class: Any = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(model_config)]
    plain = copy.deepcopy(model_config)
    if packed := packing_settings(model_config):
        if any(".experts." in name for name in stored):
            from mcvqa.model.experts import require_experts_in_full

            require_experts_in_full(stored, empty_model(model_config), folder)
        if folder and ModelError.__module__ != "__main__":
            from mcvqa.model.packed_files import require_scales

            require_scales(folder, stored, published_bits(model_config))
        stored = without_companions(stored)
        drop_packing(plain)
    with loading_model(config.model_id), _without_report():
        _, report = model_class.from_pretrained(
            None, config=plain, state_dict=stored, device_map={"": "meta"},
            ignore_mismatched_sizes=True, output_loading_info=True,
        )
    require_all_tensors(truly_mismatched(report) if packed else report, str(folder))


def weights_are_here(config: Config) -> bool:
    """Return whether the weight files of a hub model are in the cache; always true for a local folder."""
    folder = local_folder(config)
    if folder is None or config.model_id == "tiny" or Path(config.model_id).is_dir():
        return folder is not None
    try:
        return bool(_weight_files(folder))
    except ModelError:
        return False


def require_all_tensors(report: dict[str, Any], folder: str) -> None:
    """Check that loading filled every tensor of the model.

    Args:
        report: as returned by `from_pretrained(output_loading_info=True)`; it omits tied weights and the like.
        folder: the model, for the message.

    Raises:
        ModelError: any tensor is missing, unexpected or of another shape.
    """
    other_shapes = [
        f"{name} {tuple(stored)} instead of {tuple(wanted)}" for name, stored, wanted in sorted(report["mismatched_keys"])
    ]
    differences = [
        f"{counted(len(names), 'tensor')} {what}, first {', '.join(sorted(names)[:NAMED_TENSORS])}"
        for what, names in (
            ("missing", report["missing_keys"]), ("with another shape", other_shapes),
            ("not part of the model", report["unexpected_keys"]),
            ("unreadable", report.get("error_msgs", ())),
        ) if names
    ]
    if differences:
        raise ModelError(
            f"The weights in {folder} do not match its config.json: {'; '.join(differences)}.\nParts of the model would be "
            "random. Copy or download the whole folder again, or set model_id to another model."
        )


def _weight_files(folder: Path) -> list[Path]:
    """List the safetensors files that the library would read; empty if the weights are in another format.

    Raises:
        ModelError: there are no weights, or a file named in the index is missing.
    """
    index = folder / WEIGHTS_INDEX
    if (folder / WEIGHTS_FILE).exists():
        return [folder / WEIGHTS_FILE]
    if not index.exists():
        if list(folder.glob("*.bin")):
            return []
        raise ModelError(f"{folder} has no weights: expected {WEIGHTS_FILE}, or {WEIGHTS_INDEX} and the files that it lists.")
    try:
        files = [folder / name for name in sorted(set(read_json(index)["weight_map"].values()))]
    except (DamagedFile, KeyError, AttributeError, TypeError) as error:
        raise ModelError(f"{index} is damaged ({error}): copy or download it again.") from None
    if missing := [file.name for file in files if not file.exists()]:
        raise ModelError(
            f"{folder} is missing {len(missing)} of {len(files)} weight files, first {missing[0]}: copy or download the whole "
            "folder."
        )
    return files


def _stored_tensors(file: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a file, without memory. Opening the file compares its length with the header.

    Raises:
        ModelError: the file is cut off or damaged.
    """
    try:
        with safe_open(file, "pt") as opened:
            return {name: torch.empty(opened.get_slice(name).get_shape(), device="meta") for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file} is cut off or damaged ({error}): copy or download it again.") from None


@contextlib.contextmanager
def _without_report() -> Iterator[None]:
    """Suppress the library's table of missing tensors: the error says it in one line."""
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(before)


def require_tokenizer(config: Config) -> None:
    """Check that the folder has a tokenizer: the library would create an empty one.

    Raises:
        ModelError: there is none.
    """
    folder = local_folder(config)
    on_hub = config.model_id != "tiny" and not Path(config.model_id).is_dir()  # then the library fetches it
    if folder and not on_hub and not any((folder / name).exists() for name in TOKENIZER_FILES):
        raise ModelError(f"{folder} has no tokenizer ({', '.join(TOKENIZER_FILES[:3])}): copy or download the whole folder.")
