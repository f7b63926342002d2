"""Defines the search space: YAML that a person can read and change, checked against the existing settings.

learning_rate: {low: 2.0e-5, high: 1.0e-3, log: true}
lora_r: [8, 16, 32]
"""
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mcvqa.config import Config, ConfigError, load_yaml

ROWS_PER_STEP = "effective_batch"  # searched instead of batch_size and grad_accum_steps, whose product it is
# settings that change which rows there are, or their answers: trials would not be judged alike
DECIDE_ON_ROWS = {
    "id_column", "image_column", "question_column", "answer_column", "answer_style", "use_dev", "min_votes", "fixes",
    "validate_on", "use_sample", "sample_size", "use_kfold", "n_folds", "seed",
}
ABOUT_SPACE = """\
# Settings that `mcvqa search` varies. Settings whose line you delete, or that you set by hand, stay as they are.
# name: [values to choose from]     or     name: {low: ..., high: ..., log: true}, log for orders of magnitude
# effective_batch is the number of rows in an optimizer step: batch_size times grad_accum_steps.
"""
Spelled = Mapping[str, Any]  # name -> what the YAML has for it


@dataclass(frozen=True)
class Searched:
    """Describes one searched setting.

    Attributes:
        values: values to choose from; empty: a range.
        low, high: inclusive range.
        log: whether orders of magnitude are equally probable.
        whole: whether the range is one of whole numbers.
    """

    name: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    def __contains__(self, value: Any) -> bool:
        return value in self.values if self.values else self.low <= value <= self.high

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that are checked before the search begins."""
        return self.values or (self.low, self.high)

    def rounded(self, value: Any) -> Any:
        """Round a number of a range to three digits, within the range."""
        if self.values or self.whole:
            return value
        return min(max(float(f"{value:.3g}"), self.low), self.high)

    def distribution(self) -> Any:
        """Return the distribution from which Optuna draws."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.values:
            return CategoricalDistribution(self.values)
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)


# %% the default
def default_space(config: Config) -> dict[str, Any]:
    """Return the default space, around values that work for LoRA on vision-language models and around the given sizes."""
    adapters = {
        "lora_r": [8, 16, 32], "lora_alpha": [8, 16, 32, 64], "lora_dropout": {"low": 0.0, "high": 0.2},
    }
    return {
        "learning_rate": {"low": 2e-5, "high": 2e-3, "log": True},
        **(adapters if config.lora_r else {}),
        "num_epochs": {"low": 1, "high": max(3, config.num_epochs)},
        ROWS_PER_STEP: [4, 8, 16, 32],
        "image_size": [config.image_size, round(config.image_size * 4 / 3 / 28) * 28],
        **({"train_orders": [1, 2, 4]} if config.shuffle_choices else {}),
        "label_smoothing": {"low": 0.0, "high": 0.2},
        "loss": ["vocabulary", "choices"],
        "lr_schedule": ["cosine", "linear"],
    }


def space_as_yaml(space: Spelled) -> str:
    """Write a space as the text of a file for --space."""
    style: dict[str, Any] = dict(default_flow_style=None, sort_keys=False, width=1000, allow_unicode=True)
    return ABOUT_SPACE + "".join(yaml.safe_dump({name: spelled}, **style) for name, spelled in space.items())


# %% a file
def read_space(file: Path) -> dict[str, Any]:
    """Read the search space from a YAML file.

    Raises:
        ConfigError: it cannot be read, or contains something else.
    """
    try:
        content = load_yaml(file)
    except OSError as error:
        raise ConfigError(f"The search space {file} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise ConfigError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"{file} must contain lines such as 'lora_r: [8, 16]'. mcvqa search --show-space prints an example.")
    return {str(name).lower(): spelled for name, spelled in content.items()}


def searched_settings(space: Spelled, config: Config, by_hand: Collection[str], where: str = "space") -> tuple[Searched, ...]:
    """Select the settings to search, without those that were set by hand.

    Args:
        space: name -> content of the YAML.
        config: all settings.
        by_hand: names of settings that stay fixed.
        where: name of the space in messages.

    Raises:
        ConfigError: a name or a value is impossible, or nothing is left to search.
    """
    fixed = {*by_hand, *([ROWS_PER_STEP] if {"batch_size", "grad_accum_steps"} & {*by_hand} else [])}
    every = [_searched(name, spelled, where) for name, spelled in space.items()]
    for one in every:
        _require_possible(one, every, config, where)
    searched = tuple(one for one in every if one.name not in fixed)
    if not searched:
        raise ConfigError(f"{where}: all of its settings were set by hand ({', '.join(space)}), so there is nothing to search.")
    if not config.lora_r and "lora_r" not in space and (idle := [s.name for s in searched if s.name.startswith("lora_")]):
        raise ConfigError(f"{where}: {', '.join(idle)} has no effect with lora_r=0, which trains all weights. Remove it.")
    epochs = next((one for one in searched if one.name == "num_epochs"), None)
    if 0 in (epochs.ends if epochs else (config.num_epochs,)):
        raise ConfigError(f"{where}: num_epochs=0 trains nothing, so there is nothing to compare.")
    return searched


def _searched(name: str, spelled: Any, where: str) -> Searched:
    """Parse one setting of the space. Raises ConfigError if it is neither a list nor a range."""
    if name in DECIDE_ON_ROWS:
        raise ConfigError(f"{where}: {name} cannot be searched: it selects rows, and all trials must be judged on the same rows.")
    if name in ("batch_size", "grad_accum_steps"):
        raise ConfigError(
            f"{where}: search {ROWS_PER_STEP} instead of {name}: the weights depend only on the number of rows per step."
        )
    setting = Config.settings().get(name)
    if setting is None and name != ROWS_PER_STEP:
        raise ConfigError(f"{where}: {_mistake_of(Config(), {name: None})}")
    if setting is not None and not setting.weights:
        raise ConfigError(f"{where}: {name} cannot be searched: trained weights do not depend on it.")
    whole = name == ROWS_PER_STEP or (setting is not None and type(setting.default) is int)
    is_number = whole or (setting is not None and type(setting.default) is float)
    if isinstance(spelled, list) and spelled and all(isinstance(value, (bool, int, float, str)) for value in spelled):
        return Searched(name, values=tuple(dict.fromkeys(_typed(name, value, where) for value in spelled)))
    if is_number and isinstance(spelled, dict) and {"low", "high"} <= spelled.keys() <= {"low", "high", "log"}:
        low, high, log = _typed(name, spelled["low"], where), _typed(name, spelled["high"], where), spelled.get("log", False)
        numbers = all(type(end) in ((int,) if whole else (int, float)) for end in (low, high))
        if numbers and isinstance(log, bool) and low < high and (low > 0 or not log):
            return Searched(name, (), low, high, log, whole)
    if not is_number:
        raise ConfigError(
            f"{where}: {name}: {spelled!r} is not a list of values. The setting is not a number, so write {name}: [one, another]."
        )
    raise ConfigError(
        f"{where}: {name}: {spelled!r} is neither [values] nor {{low: ..., high: ...}} with {'whole ' * whole}numbers, low below "
        "high (and above 0 with log: true)."
    )


def _typed(name: str, value: Any, where: str) -> Any:
    """Convert a value to the type of its setting: in YAML, 1e-4 without a dot is text. Raises ConfigError for another type."""
    setting = Config.settings().get(name)
    if setting is None or not isinstance(setting.default, (bool, int, float)):
        return value  # lists are kept as the text that they are written as
    try:
        return Config.converted(name, value)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _require_possible(one: Searched, every: Collection[Searched], config: Config, where: str) -> None:
    """Check the ends of a searched setting, which may be possible only together with a value of another one.

    Raises:
        ConfigError: there is no such setting, or it cannot have one of these values.
    """
    for value in one.ends:
        alone = {one.name: value}
        mistake = _mistake_of(config, alone)
        if mistake and all(_mistake_of(config, {other.name: end, **alone}) for other in every for end in other.ends):
            raise ConfigError(f"{where}: {mistake}")


def _mistake_of(config: Config, values: Mapping[str, Any]) -> str:
    """Describe what is wrong with these values; empty: nothing."""
    try:
        with_searched(config, values)
    except ConfigError as error:
        return str(error)
    return ""


# %% values
def with_searched(config: Config, values: Mapping[str, Any]) -> Config:
    """Apply searched values to the settings.

    Args:
        config: all settings.
        values: name -> value.

    Raises:
        ConfigError: a value is impossible, or values contradict each other.
    """
    changes = dict(values)
    if ROWS_PER_STEP in changes:
        rows = changes.pop(ROWS_PER_STEP)
        if type(rows) is not int or rows < 1:
            raise ConfigError(f"{ROWS_PER_STEP}={rows!r} is not a whole number of rows.")
        batch = math.gcd(rows, config.batch_size)
        changes |= {"batch_size": batch, "grad_accum_steps": rows // batch}
    return config.replace(**changes)


def own_values(searched: Collection[Searched], config: Config) -> dict[str, Any]:
    """Return the current values of the settings, where they are inside the space.

    Args:
        searched: the space.
        config: all settings.
    """
    values = {one.name: getattr(config, one.name) for one in searched}
    return {one.name: values[one.name] for one in searched if values[one.name] in one}


def set_by_hand(file: Path | None, changes: Collection[str]) -> set[str]:
    """Find the names of settings that a person has chosen.

    A config.yaml written by a run names all settings, so only those that differ from the default count in such a file.

    Args:
        file: the settings of --config, a readable file.
        changes: names of the settings of --set.
    """
    content = (load_yaml(file.expanduser()) or {}) if file else {}
    given, known = {str(name).lower(): value for name, value in content.items()}, Config.settings()
    if known.keys() <= given.keys():
        config = Config().replace(**given)
        given = {name: value for name, value in given.items() if getattr(config, name) != known[name].default}
    return {*changes, *given}
