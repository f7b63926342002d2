"""`start_from`: trained adapters that folds begin with, known by content, so that a moved folder is the same start."""
from pathlib import Path

from mcvqa.base.files import file_hash, read_json, write_json
from mcvqa.config import Config, ConfigError
from mcvqa.model.source import ADAPTER_CONFIG, WEIGHTS_FILE, WEIGHTS_INDEX, read_model_config
from mcvqa.model.start import ADAPTER_FILE, require_start_fits
from mcvqa.run.project import START_FILE, Project, way_out


# %% where the adapters are
def start_folder(config: Config, fold: int) -> Path:
    """The adapters that a fold starts from.

    Args:
        config: whose start_from is a PEFT folder, such as `mcvqa export` writes; the folder of a fold; or that of a run, whose
            folds start the folds of the same numbers.
        fold: number of the fold.

    Raises:
        ConfigError: there are none.
    """
    given = Path(config.start_from)
    if config.lora_r == 0:
        raise ConfigError("start_from goes on from adapters, and lora_r=0 trains whole weights: set model_id to their folder.")
    if not given.is_dir():
        raise ConfigError(f"start_from={config.start_from!r}: there is no such folder.")
    if (given / ADAPTER_CONFIG).exists():
        return _with_weights(given)
    if (given / "config.yaml").exists():  # experiments/<run>
        given = given.absolute().parent.parent / "checkpoints" / given.absolute().name
    if any(given.glob("fold*/")):
        if not (given / f"fold{fold}").is_dir():
            raise ConfigError(
                f"start_from={config.start_from!r}: that run has no fold {fold}, which would start from it. Name one of its "
                f"folds, such as {given / 'fold0'}, or train only the folds that it has: --set train_folds=0"
            )
        given = given / f"fold{fold}"
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
            f"start_from: {folder} has no {ADAPTER_FILE}; other formats can run code when they are read, and are not read here."
        )
    return folder


def announced_start(config: Config, fold: int) -> Path:
    """As `start_folder`, and say so."""
    folder = start_folder(config, fold)
    print(f"  fold {fold} starts from {folder}")
    return folder


# %% known by content
def settle_start(project: Project) -> None:
    """Record the adapters that folds start from; a run that began otherwise does not go on.

    Raises:
        ConfigError: there are no such adapters, or the run began with others.
        ModelError: they do not fit the settings or the base model.
    """
    config, file = project.config, project.paths.experiment / START_FILE
    before: dict[str, str] = read_json(file, dict)["weights"] if file.exists() else {}
    begun = project.paths.checkpoints.exists()
    if begun and bool(before) != bool(config.start_from):
        was, then = ("from other adapters", "from fresh ones") if before else ("from fresh adapters", f"from {config.start_from}")
        raise ConfigError(f"The run {config.run!r} started {was}, and would go on {then}. {way_out(project)}")
    if not config.start_from:
        file.unlink(missing_ok=True)
        return
    todo = [fold for fold in config.folds_to_train if not project.records.read(f"train fold {fold}").get("finished")]
    if not todo:  # the folder is not needed any more
        return
    if project.paths.checkpoints.absolute() in (Path(config.start_from) / "fold").absolute().parents:
        raise ConfigError(f"start_from={config.start_from!r} belongs to the run itself. Name another run: --set run_name=...")
    folders = {fold: start_folder(config, fold) for fold in todo}
    for folder in dict.fromkeys(folders.values()):
        require_start_fits(folder, config, read_model_config(config))
    now = {str(fold): file_hash(folder / ADAPTER_FILE)[:16] for fold, folder in folders.items()}
    if begun and (others := [fold for fold, content in now.items() if before.get(fold, content) != content]):
        raise ConfigError(
            f"Fold {others[0]} of the run {config.run!r} started from other weights than {folders[int(others[0])]} holds now. "
            f"{way_out(project)}"
        )
    write_json(file, {"from": config.start_from, "weights": {**(before if begun else {}), **now}})
