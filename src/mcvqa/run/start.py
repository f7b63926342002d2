"""Starts folds from trained adapters (`start_from`), identified by content, so that a moved folder is the same start."""
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mcvqa.base.files import file_hash, read_json, write_json
from mcvqa.config import Config, ConfigError, settings_hash
from mcvqa.data.folds import FINAL, fold_title
from mcvqa.model.content import ADAPTER_CONFIG
from mcvqa.model.source import WEIGHTS_FILE, WEIGHTS_INDEX, read_model_config
from mcvqa.model.start import ADAPTER_FILE, require_start_fits
from mcvqa.run.paths import START_FILE
from mcvqa.run.project import Project, remedy


# %% where the adapters are
def start_folder(config: Config, fold: int) -> Path:
    """Find the adapters that a fold starts from.

    Args:
        config: its start_from is a PEFT folder, as `mcvqa export` writes it; the folder of a fold; or the folder of a run, whose
            folds start the folds with the same numbers.
        fold: number of the fold.

    Raises:
        ConfigError: there are none.
    """
    given = Path(config.start_from)
    if config.lora_r == 0:
        raise ConfigError(
            "start_from continues from adapters, but lora_r=0 trains all weights: to continue from such weights, set model_id "
            "to their folder."
        )
    if not given.is_dir():
        raise ConfigError(f"start_from={config.start_from!r}: there is no such folder.")
    if (given / ADAPTER_CONFIG).exists():
        return _with_weights(given)
    if (given / "config.yaml").exists():  # experiments/<run>
        given = given.absolute().parent.parent / "checkpoints" / given.absolute().name
    if any(given.glob("fold*/")):
        title = fold_title(fold)
        if not (given / title.replace(" ", "")).is_dir():
            raise ConfigError(
                f"start_from={config.start_from!r}: that run has no {title} to start from. Name one of its folds, such as "
                f"{given / 'fold0'}, or train only the folds that it has: --set train_folds=0"
            )
        given = given / title.replace(" ", "")
    if (given / config.keep / ADAPTER_CONFIG).exists():
        return _with_weights(given / config.keep)
    whole = (given / WEIGHTS_FILE).exists() or (given / WEIGHTS_INDEX).exists()
    raise ConfigError(
        f"start_from={config.start_from!r} holds no adapters ({ADAPTER_CONFIG}). "
        + ("It is a whole model: set model_id to it." if whole else "Name an exported folder, or that of a trained fold or run.")
    )


def _with_weights(folder: Path) -> Path:
    if not (folder / ADAPTER_FILE).is_file():
        raise ConfigError(
            f"start_from: {folder} has no {ADAPTER_FILE}. Other formats are not read, because loading them can run code."
        )
    return folder


def announced_start(config: Config, fold: int) -> Path:
    """Find the adapters that a fold starts from, and print their folder."""
    folder = start_folder(config, fold)
    print(f"  {fold_title(fold)} starts from {folder}")
    return folder


# %% known by content
def settle_start(project: Project) -> None:
    """Record the adapters that folds start from and the user's augmentation. A run that started differently cannot be continued.

    Raises:
        ConfigError: there are no such adapters, or the run started from others or with another augmentation.
        ModelError: they do not fit the settings or the base model.
    """
    config, file = project.config, project.paths.experiment / START_FILE
    before: dict[str, Any] = read_json(file, dict) if file.exists() else {}
    begun = project.paths.checkpoints.exists()
    models = (*config.folds_to_train, *((FINAL,) if config.final_fit else ()))
    todo = [fold for fold in models if not project.records.read(f"train {fold_title(fold)}").get("finished")]
    if project.augment and config.executor == "processes":
        raise ConfigError("augment= is a function of this process, which worker processes do not have: set executor=inline.")
    if begun and bool(before.get("weights")) != bool(config.start_from):
        was, then = ("other adapters", "fresh ones") if before.get("weights") else ("fresh adapters", config.start_from)
        raise ConfigError(f"The run {config.run!r} started from {was}, but would now continue from {then}. {remedy(project)}")
    augmented = _code_print(project.augment)
    if begun and augmented != before.get("augment", "") and (todo or augmented):
        raise ConfigError(f"The run {config.run!r} was trained with another augment=, or without one. {remedy(project)}")
    if not config.start_from and not augmented and not begun:
        file.unlink(missing_ok=True)
    elif todo:  # else the folder is not needed any more
        weights = _settled_weights(project, todo, before.get("weights", {}) if begun else {}) if config.start_from else {}
        write_json(file, {"from": config.start_from, "weights": weights, "augment": augmented})


def _settled_weights(project: Project, todo: Sequence[int], before: Mapping[str, str]) -> dict[str, str]:
    """Hash the adapters of each fold, including those of trained folds."""
    config = project.config
    if project.paths.checkpoints.absolute() in (Path(config.start_from) / "fold").absolute().parents:
        raise ConfigError(f"start_from={config.start_from!r} belongs to the run itself. Name another run: --set run_name=...")
    folders = {fold: start_folder(config, fold) for fold in todo}
    for folder in dict.fromkeys(folders.values()):
        require_start_fits(folder, config, read_model_config(config))
    now = {str(fold): file_hash(folder / ADAPTER_FILE)[:16] for fold, folder in folders.items()}
    if others := [fold for fold, content in now.items() if before.get(fold, content) != content]:
        raise ConfigError(
            f"Fold {others[0]} of the run {config.run!r} started from weights other than those now in {folders[int(others[0])]}"
            f". {remedy(project)}"
        )
    return {**before, **now}


def _code_print(function: Any) -> str:
    """Hash the code of a function; empty for None."""
    if function is None:
        return ""
    called = function if hasattr(function, "__code__") else type(function).__call__
    code = getattr(called, "__code__", None)
    return settings_hash({"name": type(function).__qualname__, "code": _code_parts(code) if code else repr(type(function))})


def _code_parts(code: Any) -> list[Any]:
    constants = [_code_parts(one) if hasattr(one, "co_code") else repr(one) for one in code.co_consts]
    return [code.co_code.hex(), list(code.co_names), constants]
