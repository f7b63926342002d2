"""Configuration: one flat, frozen dataclass that holds every setting of a run.

Each field carries its meaning, its unit and its allowed values; they are checked when a Config is made, so a run never
starts with an impossible value. Names are those of the original notebook in lower case.
"""
import dataclasses
import difflib
import hashlib
import json
import math
import re
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

LANGUAGE_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

SYSTEM_PROMPT = (
    "You are a helpful assistant for visual question answering. "
    "Answer with exactly one letter among {letters}. No explanation."
)
# The instruction stands before the options: all option orders of a question then share one long prefix.
USER_PROMPT = "{question}\n정답을 반드시 {letters} 중 하나의 소문자 한 글자로만 출력하세요.\n{options}"


class ConfigError(ValueError):
    """A setting that cannot be used; the message names the field, the value and what is allowed."""


def setting(
    default: Any,
    meaning: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    weights: bool = False,
) -> Any:
    """A Config field: its default, its meaning with the unit, and what is allowed.

    Args:
        low, high: inclusive range of a number, or of each number of a list.
        choices: the allowed words.
        weights: whether trained weights depend on it (such settings name the run folder).
    """
    return dataclasses.field(
        default=default, metadata=dict(meaning=meaning, low=low, high=high, choices=choices, weights=weights)
    )


@dataclass(frozen=True)
class Config:
    """All settings of one run. Every field is read somewhere; a test proves it."""

    # %% where things are
    data_dir: str = setting("data", "folder (or .zip) with train.csv, test.csv and the photographs")
    output_dir: str = setting(".", "folder that receives checkpoints/, outputs/, logs/, experiments/ and cache/")
    resume_from: str = setting(
        "", "output folder of an earlier session, also read-only: what it has of this run is verified and copied to output_dir"
    )
    run_name: str = setting("", "name of the run's folders; empty: made from the model and the settings")
    image_column: str = setting("", "CSV column with the image path; empty: found by itself", weights=True)
    question_column: str = setting("", "CSV column with the question; empty: found by itself", weights=True)
    answer_column: str = setting("", "CSV column with the answer; empty: found by itself", weights=True)
    use_dev: bool = setting(False, "train on the rows of dev.csv too, when there is one", weights=True)

    # %% which rows
    use_sample: bool = setting(False, "work on a stratified sample of the training rows only", weights=True)
    sample_size: int = setting(200, "training rows of that sample", low=8, high=10_000_000, weights=True)
    use_kfold: bool = setting(True, "stratified K-fold; off: one stratified split of the same size", weights=True)
    n_folds: int = setting(3, "number of folds", low=2, high=50, weights=True)
    train_folds: tuple[int, ...] = setting((), "folds to train, counted from 0; empty: all of them", low=0, high=49)
    seed: int = setting(42, "seed of every random choice", low=0, high=2**32 - 1, weights=True)

    # %% model
    model_id: str = setting(
        "Qwen/Qwen2.5-VL-3B-Instruct", "hub name, folder, or 'tiny' (built in, no download)", weights=True
    )
    image_size: int = setting(
        384, "side in pixels of a square with as many pixels as an image is given", low=28, high=4096, weights=True
    )
    device: str = setting("auto", "where to compute", choices=("auto", "cuda", "mps", "cpu"))
    gpu_profile: str = setting(
        "own", "what the GPU is taken for; t4: float16, no FlashAttention, 15 GiB, to rehearse a T4 on a larger GPU",
        choices=("own", "t4"),
    )
    precision: str = setting(
        "auto",
        "number format of the weights; auto: by the GPU's capability",
        choices=("auto", "float16", "bfloat16", "float32"),
        weights=True,
    )
    quantization: str = setting(
        "auto",
        "4-bit NF4 for the language model; auto: where the weights in full do not fit into the GPU's memory",
        choices=("auto", "4bit", "none"),
        weights=True,
    )
    gradient_checkpointing: str = setting(
        "auto", "compute activations again in the backward pass instead of keeping them; auto: where that is faster",
        choices=("auto", "always", "never"),
    )
    lora_r: int = setting(8, "rank of the LoRA adapters; 0: train all weights", low=0, high=1024, weights=True)
    lora_alpha: int = setting(16, "LoRA scale is lora_alpha / lora_r", low=1, high=4096, weights=True)
    lora_dropout: float = setting(0.05, "dropout in front of the adapters, a share", low=0.0, high=0.9, weights=True)
    target_modules: tuple[str, ...] = setting(
        LANGUAGE_PROJECTIONS, "language-model projections that get adapters", choices=LANGUAGE_PROJECTIONS, weights=True
    )
    lora_vision: bool = setting(False, "adapters on the vision tower's attention and MLP too", weights=True)

    # %% prompt
    system_prompt: str = setting(SYSTEM_PROMPT, "system message; may use {letters}", weights=True)
    user_prompt: str = setting(
        USER_PROMPT, "user message; uses {question} and {options}, may use {letters} and {hint}", weights=True
    )
    prompt_by_type: bool = setting(False, "add a hint for the type of question (counting, color, ...)", weights=True)

    # %% training
    num_epochs: int = setting(1, "passes over the training rows", low=0, high=1000, weights=True)
    batch_size: int = setting(1, "rows per optimizer step, times grad_accum_steps", low=1, high=4096)
    grad_accum_steps: int = setting(4, "rows per optimizer step, times batch_size", low=1, high=4096)
    micro_batch: int = setting(
        0, "rows in one forward pass; 0: as many as fit, found by trying (without an NVIDIA GPU: batch_size)", low=0, high=4096
    )
    learning_rate: float = setting(1e-4, "peak learning rate of AdamW", low=1e-8, high=1.0, weights=True)
    lr_schedule: str = setting(
        "cosine", "course of the learning rate after warm-up", choices=("cosine", "linear"), weights=True
    )
    weight_decay: float = setting(0.01, "AdamW's decoupled weight decay", low=0.0, high=1.0, weights=True)
    warmup_ratio: float = setting(0.03, "share of the steps with rising learning rate", low=0.0, high=1.0, weights=True)
    max_grad_norm: float = setting(1.0, "gradients are clipped to this norm", low=1e-6, high=1e6, weights=True)
    loss: str = setting(
        "vocabulary",
        "cross-entropy of the answer letter among all tokens, or among the letters of the choices only",
        choices=("vocabulary", "choices"),
        weights=True,
    )
    label_smoothing: float = setting(
        0.0, "share of the target spread over the row's choices", low=0.0, high=0.9, weights=True
    )
    soft_votes: bool = setting(False, "where annotators voted, learn their shares instead of the majority", weights=True)
    shuffle_choices: bool = setting(True, "a new random order of the choices for each row and epoch", weights=True)
    train_orders: int = setting(
        1, "orders of the choices learned in one pass over a row, at most as many as it has choices; needs shuffle_choices",
        low=1, high=26, weights=True,
    )
    order_consistency: float = setting(
        0.0, "weight in the loss of how far the answers in these orders differ (Jensen-Shannon divergence)", low=0.0,
        high=100.0, weights=True,
    )
    use_augmentation: bool = setting(False, "paraphrase question endings (Korean and English)", weights=True)
    aug_prob: float = setting(0.3, "probability that a question is paraphrased", low=0.0, high=1.0, weights=True)
    use_amp: bool = setting(True, "automatic mixed precision on a GPU", weights=True)
    use_ema: bool = setting(True, "score with the exponential moving average of the trained weights", weights=True)
    ema_decay: float = setting(0.999, "decay per step of that average, after its warm-up", low=0.0, high=0.99999, weights=True)
    use_swa: bool = setting(
        False, "score with the plain average of the weights over the last part of training", weights=True
    )
    swa_start_epoch: float = setting(
        -1.0, "epoch from which weights are averaged, counted from 0; -1: the last quarter of training",
        low=-1.0, high=1000, weights=True,
    )
    keep: str = setting("best", "weights to score with: best epoch on validation, or last", choices=("best", "last"))
    save_minutes: float = setting(
        5.0, "minutes between saves of what a fold needs to go on after a cut; 0: every step", low=0.0, high=100_000
    )
    time_budget: str = setting(
        "", "time a session may take, such as 8h30m or 45m; what does not fit is left out, what is worth least first; empty: any"
    )
    num_workers: int = setting(
        -1, "processes that read images and encode rows; -1: one per core, at most 8, with a GPU, none without",
        low=-1, high=256,
    )
    parallel_folds: int = setting(
        0, "folds worked on at the same time, each in a process of its own; 0: one for each GPU, and without GPUs one",
        low=0, high=64,
    )

    # %% scoring
    eval_batch_size: int = setting(8, "rows in one forward pass when scoring", low=1, high=4096)
    answer_by: str = setting(
        "letters",
        "read the letters' log-probabilities, or generate text and parse it (the plain baseline)",
        choices=("letters", "generate"),
    )
    max_new_tokens: int = setting(8, "longest generated answer in tokens, for answer_by=generate", low=1, high=1024)
    use_tta: bool = setting(False, "test-time augmentation: several option orders and image scales, averaged")
    tta_orders: int = setting(4, "option orders per question with TTA", low=1, high=120)
    tta_scales: tuple[float, ...] = setting(
        (0.9, 1.0, 1.1), "image scales with TTA, as factors of image_size", low=0.25, high=4.0
    )

    # %% ensemble
    ensemble: str = setting(
        "auto",
        "how members are combined; auto: calibrated geometric mean unless learned weights are proven better",
        choices=("auto", "vote", "weighted_vote", "mean", "geometric", "stacking"),
    )
    members: tuple[str, ...] = setting((), "other runs' names or prediction CSV files to combine with this run")

    # %% derived
    def __new__(cls, *positional: Any, **settings: Any) -> "Config":
        _require_known(settings)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        switch = {"true": "always", "false": "never"}.get(str(self.gradient_checkpointing).lower())  # as older files have it
        object.__setattr__(self, "gradient_checkpointing", switch or self.gradient_checkpointing)
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _checked(field, getattr(self, field.name)))
        object.__setattr__(self, "train_folds", tuple(sorted(set(self.train_folds))))
        if self.train_folds and max(self.train_folds) >= (self.n_folds if self.use_kfold else 1):
            raise ConfigError(
                f"train_folds={list(self.train_folds)}: there are folds 0 to "
                f"{(self.n_folds if self.use_kfold else 1) - 1} (n_folds={self.n_folds}, use_kfold={self.use_kfold})."
            )
        if self.lora_r == 0 and self.quantization == "4bit":
            raise ConfigError("lora_r=0 trains all weights, which 4-bit weights cannot do: set quantization=none.")
        if self.train_orders > 1 and not self.shuffle_choices:
            raise ConfigError(f"train_orders={self.train_orders} needs shuffle_choices=true: there is one order without it.")
        if self.order_consistency and self.train_orders == 1:
            raise ConfigError("order_consistency compares the orders of a row: set train_orders to 2 or more, or leave it at 0.")
        if "{question}" not in self.user_prompt or "{options}" not in self.user_prompt:
            raise ConfigError("user_prompt must contain {question} and {options}.")
        for name in ("system_prompt", "user_prompt"):
            unknown = set(re.findall(r"\{(\w*)\}", getattr(self, name))) - {"question", "options", "letters", "hint"}
            if unknown:
                raise ConfigError(f"{name} uses unknown places {sorted(unknown)}; there are question, options, letters, hint.")
        _ = self.budget_seconds
        if self.run_name in (".", "..") or re.search(r"[\\/:*?\"<>|\x00-\x1f]", self.run_name):
            raise ConfigError(f"run_name={self.run_name!r} is no folder name: use letters, digits, '-', '_' and '.'.")

    @property
    def effective_batch(self) -> int:
        """Rows per optimizer step."""
        return self.batch_size * self.grad_accum_steps

    @property
    def budget_seconds(self) -> float:
        """Of the time budget; infinite without one. Raises ConfigError for what is no length of time."""
        if not self.time_budget:
            return math.inf
        parts = re.fullmatch(r"(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s)?", self.time_budget.replace(" ", "").lower())
        try:
            hours, minutes, seconds = (float(part or 0) for part in parts.groups()) if parts else (0.0, 0.0, 0.0)
        except ValueError:
            hours = minutes = seconds = 0.0
        if not (found := 3600 * hours + 60 * minutes + seconds):
            raise ConfigError(f"time_budget={self.time_budget!r} is no length of time. Write 8h30m, 45m or 90s.")
        return found

    @property
    def folds_to_train(self) -> tuple[int, ...]:
        return self.train_folds or tuple(range(self.n_folds if self.use_kfold else 1))

    @property
    def run(self) -> str:
        """Name of the run's folders: run_name, or the model, the size and a hash of what the weights depend on."""
        if self.run_name:
            return self.run_name
        model = Path(self.model_id.rstrip("/\\")).name.lower()
        return f"{model}-{self.image_size}px-{settings_hash(self.weight_settings())}"

    def weight_settings(self) -> dict[str, Any]:
        """The settings that trained weights depend on."""
        chosen = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.metadata["weights"]}
        # how a step is divided into forward passes does not matter to the weights, only how many rows it has
        return chosen | {"effective_batch": self.effective_batch}

    def replace(self, **changes: Any) -> "Config":
        """A copy with other values; names in upper case and values as text are accepted too."""
        lowered = {name.lower(): value for name, value in changes.items()}
        _require_known(lowered)
        return dataclasses.replace(self, **lowered)

    def as_dict(self) -> dict[str, Any]:
        """Every setting and its value."""
        return dataclasses.asdict(self)

    def to_yaml(self) -> str:
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}
        return yaml.safe_dump(plain, allow_unicode=True, sort_keys=False, width=100)


OTHER_NAMES = {"lr": "learning_rate", "epochs": "num_epochs", "folds": "n_folds", "model": "model_id", "output": "output_dir"}


def _require_known(names: Iterable[str]) -> None:
    """Raises ConfigError for a name that is no setting, with the nearest that is."""
    known = [f.name for f in dataclasses.fields(Config)]
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
            meant = OTHER_NAMES.get(name.lower()) or next(iter(close), "")
            hint = f" Did you mean {meant!r}?" if meant else ""
            raise ConfigError(f"There is no setting {name!r}.{hint} All settings: mcvqa presets --fields")


def _checked(field: dataclasses.Field, value: Any) -> Any:
    """`value` in the field's type and range, or ConfigError."""
    kind, meta = field.type, field.metadata
    try:
        value = _converted(kind, value)
    except (TypeError, ValueError, OverflowError, yaml.YAMLError):
        raise ConfigError(f"{field.name}={value!r} is no {_kind_name(kind)}. It is: {meta['meaning']}.") from None
    numbers = value if isinstance(value, tuple) else (value,)
    for number in numbers:
        if meta["low"] is not None and not meta["low"] <= number <= meta["high"]:
            raise ConfigError(
                f"{field.name}={number} is out of range: {meta['low']} to {meta['high']}. It is: {meta['meaning']}."
            )
    if isinstance(value, tuple) and not value and field.default:
        raise ConfigError(f"{field.name} must not be empty. It is: {meta['meaning']}.")
    for word in numbers if meta["choices"] else ():
        if word not in meta["choices"]:
            close = difflib.get_close_matches(str(word), meta["choices"], n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ConfigError(f"{field.name}={word!r} is none of {', '.join(meta['choices'])}.{hint}")
    return value


def _converted(kind: Any, value: Any) -> Any:
    if typing.get_origin(kind) is tuple:
        if isinstance(value, str):
            value = [v for v in value.strip().strip("[]()").split(",") if v.strip()]
        item = typing.get_args(kind)[0]
        return tuple(_converted(item, v.strip() if isinstance(v, str) else v) for v in value)
    if kind is bool:
        words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
        return words[str(value).strip().lower()] if str(value).strip().lower() in words else _fail()
    if kind is int:
        number = float(value) if not isinstance(value, bool) else _fail()
        return int(value) if number == int(number) else _fail()
    if kind is float:
        number = float(value) if not isinstance(value, bool) else _fail()
        return number if number == number else _fail()
    return str(value) if isinstance(value, (str, Path, int, float)) else _fail()


def _fail() -> Any:
    raise ValueError


def _kind_name(kind: Any) -> str:
    if isinstance(kind, types.GenericAlias):
        return f"list of {_kind_name(typing.get_args(kind)[0])}s"
    return {bool: "true or false", int: "whole number", float: "number", str: "text"}[kind]


def settings_hash(settings: dict[str, Any]) -> str:
    """Eight hex digits that change with any value of `settings`."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=list).encode()).hexdigest()[:8]


def weight_changes(before: dict[str, Any], now: Config) -> list[str]:
    """One line for each setting that trained weights depend on and that differs.

    Args:
        before: all settings of a run, of this version or an older one.
    """
    known = {f.name for f in dataclasses.fields(Config)}
    then = Config(**{name: value for name, value in before.items() if name in known}).weight_settings()
    return [
        f"  {name}: was {then[name]!r}, now {value!r}" for name, value in now.weight_settings().items() if then[name] != value
    ]


# %% presets: the rows of the original's table, and a demo that needs no download
PRESETS: dict[str, dict[str, Any]] = {
    "quick": dict(use_sample=True, sample_size=200, num_epochs=1, use_kfold=False),
    "single": dict(use_sample=False, num_epochs=3, use_kfold=False, model_id="Qwen/Qwen2.5-VL-3B-Instruct"),
    "ensemble": dict(use_sample=False, num_epochs=3, use_kfold=True, n_folds=3, model_id="Qwen/Qwen2.5-VL-3B-Instruct"),
    "best": dict(
        use_sample=False, num_epochs=5, use_kfold=True, n_folds=3, model_id="Qwen/Qwen2.5-VL-7B-Instruct", image_size=512,
        use_ema=True, use_swa=True, use_tta=True, tta_scales=(0.9, 1.0, 1.1),
    ),
    "demo": dict(
        data_dir="data/demo", run_name="demo", model_id="tiny", image_size=112, lora_r=16, lora_alpha=32,
        lora_dropout=0.0, num_epochs=2, batch_size=16, grad_accum_steps=1, eval_batch_size=32, learning_rate=2e-3,
        use_swa=True, keep="last", use_tta=True, tta_scales=(1.0,),
    ),
}


def load_config(
    file: str | Path | None = None, preset: str | None = None, changes: dict[str, Any] | None = None
) -> Config:
    """A Config from a preset, then a YAML file, then single changes, later ones winning.

    Raises:
        ConfigError: an unknown preset or setting, or an impossible value.
    """
    if preset is not None and preset not in PRESETS:
        raise ConfigError(f"There is no preset {preset!r}; there are {', '.join(PRESETS)}.")
    values = dict(PRESETS[preset]) if preset else {}
    if file is not None:
        values |= _read_yaml(Path(file))
    return Config().replace(**values | {k.lower(): v for k, v in (changes or {}).items()})


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise ConfigError(f"There is no configuration file {file}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{file} must hold 'name: value' lines; it holds a {type(content).__name__}.")
    return {str(k).lower(): v for k, v in content.items()}


def parse_changes(pairs: list[str]) -> dict[str, Any]:
    """['NUM_EPOCHS=3'] -> {'num_epochs': '3'}"""
    for pair in pairs:
        if "=" not in pair:
            raise ConfigError(f"--set {pair}: write it as name=value, for example --set num_epochs=3.")
    return {name.strip().lower(): value.strip() for name, value in (pair.split("=", 1) for pair in pairs)}
