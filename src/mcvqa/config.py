"""Configuration: one flat, frozen pydantic model that holds every setting of a run.

Each field carries its meaning, its unit and its allowed values; they are checked when a Config is made, so a run never
starts with an impossible value. Names are those of the original notebook in lower case.
"""
import difflib
import errno
import hashlib
import json
import math
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import pydantic
import yaml
from annotated_types import Ge, Le
from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

# the linear layers of Qwen's language models, which runs of 0.1 name: all that there are
LANGUAGE_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ALL_LINEAR = "all-linear"
EXPERTS = "experts"

DEFAULT_SYSTEM_PROMPT = (
    "You are a helpful assistant for visual question answering. "
    "Answer with exactly one letter among {letters}. No explanation."
)
# The instruction precedes the options, so that all option orders of a question share one long prefix.
# Korean, on which `tiny` was trained, or English: if user_prompt is empty, the training questions decide.
KOREAN_PROMPT = "{question}\n정답을 반드시 {letters} 중 하나의 소문자 한 글자로만 출력하세요.\n{options}"
ENGLISH_PROMPT = "{question}\nAnswer with exactly one lowercase letter, one of {letters}.\n{options}"


class McvqaError(Exception):
    """Base class of all errors of this package; the message says what happened, what was expected and how to fix it."""


# %% files that a user names
class UnusualFile(McvqaError, OSError):
    """Raised for a path that is not a regular file of a plausible size; the file is not read.

    Args:
        path: the file.
        reason: what it is instead; kept as `strerror`.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(errno.EINVAL, reason, str(path))


def special_file(path: str | Path) -> str:
    """Return what kind of thing a path is if it is not a regular file.

    Args:
        path: any path.

    Returns:
        Such as "a folder, not a file"; empty for a regular file.

    Raises:
        OSError: the path does not exist or cannot be examined.
    """
    kinds = {stat.S_IFREG: "", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    kind = kinds.get(stat.S_IFMT(Path(path).stat().st_mode), "a device")
    return kind and f"{kind}, not a file"


def read_user_file(path: str | Path, limit: int = 2**30) -> bytes:
    """Read a file that a user names. Pipes and devices, which may never end, are not even opened.

    Args:
        path: the file.
        limit: maximum size in bytes.

    Returns:
        Its content.

    Raises:
        UnusualFile: it is not a regular file, or it is larger than `limit`.
        OSError: it cannot be read.
    """
    if kind := special_file(path):
        raise UnusualFile(path, kind)
    size, content = Path(path).stat().st_size, b""
    if size <= limit:
        with open(path, "rb") as handle:
            content = handle.read(limit + 1)  # it may grow, and files of /proc have no size
    if max(size, len(content)) > limit:
        unit, name = (2**20, "MiB") if limit >= 2**20 else (2**10, "KiB")
        raise UnusualFile(path, f"file of {max(size, len(content)) / unit:,.0f} {name}; at most {limit // unit} are read")
    return content


YAML_BYTES, YAML_DEPTH, YAML_VALUES = 2**18, 20, 1000  # a config.yaml has 5 KB, a depth of 2 and 200 values


NAME_RULE = "use letters, digits, '-', '_' and '.', at most 200 bytes"


class SettingsLoader(yaml.SafeLoader):
    """Loads the YAML of settings.

    Aliases (400 bytes of them can expand to gigabytes), deep nesting and duplicate names are errors.
    """

    depth = values = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not supported; write the value out")
        if self.depth > YAML_DEPTH:
            raise yaml.YAMLError(f"it is nested more than {YAML_DEPTH} levels deep")
        if self.values > YAML_VALUES:
            raise yaml.YAMLError(f"it contains more than {YAML_VALUES} values")
        self.values += 1
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node, names = super().compose_mapping_node(anchor), set()
        for key, _ in node.value:
            if (name := str(key.value).lower()) in names:
                raise yaml.YAMLError(f"{name!r} is defined twice, the second time in line {key.start_mark.line + 1}")
            names.add(name)
        return node


ENDS_WITH_DOTS = "# settings of mcvqa; the last line is '...'"  # half of a YAML file is often valid, with half of a value


def load_yaml(path: str | Path) -> Any:
    """Load a YAML file of settings.

    Args:
        path: the file.

    Returns:
        Its content.

    Raises:
        ValueError: it is not valid YAML, or not UTF-8.
        OSError: it cannot be read, or is too large.
    """
    try:
        text = read_user_file(path, YAML_BYTES).decode()
        if text.startswith(ENDS_WITH_DOTS) and not text.rstrip().endswith("\n..."):
            raise ValueError("it is cut off: its last line should be '...'")
        return yaml.load(text, SettingsLoader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    except UnicodeDecodeError:
        raise ValueError("save it in UTF-8") from None


# %% settings
class ConfigError(McvqaError, ValueError):
    """Raised for a setting that cannot be used; the message names the field, its value and the allowed values."""


@dataclass(frozen=True)
class Setting:
    """Describes one setting of `Config`.

    Attributes:
        meaning: description, with the unit.
        default: value when nothing else is set.
        low, high: inclusive range of a number, or of each number of a list; None: unlimited.
        choices: allowed words; empty: any text.
        weights: whether trained weights depend on it; such settings are part of the run's name.
    """

    meaning: str
    default: Any
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    weights: bool


WEIGHTS: dict[str, Any] = {"weights": True}  # marks the settings that trained weights depend on


class Config(pydantic.BaseModel, frozen=True, extra="forbid", strict=True, validate_default=True, protected_namespaces=()):
    """Holds all settings of one run; it is immutable, and every value is checked.

    Args:
        settings: setting -> value. Settings left out keep their defaults.

    Raises:
        ConfigError: an unknown setting, or a value that is not allowed.
    """

    # %% where things are
    data_dir: str = Field(default="data", description="folder (or .zip) with train.csv, test.csv and the photographs")
    output_dir: str = Field(
        default=".", description="folder that receives checkpoints/, outputs/, logs/, experiments/ and cache/"
    )
    shared_dir: str = Field(
        default="", pattern="^((s3|gs|file)://.+)?$",
        description="URL (s3://, gs://, file://) to share a run without a common output_dir; empty: none",
    )
    resume_from: str = Field(
        default="",
        description="output folder of an earlier session (may be read-only); its results for this run are verified and copied",
    )
    start_from: str = Field(
        default="",
        description="folder of trained adapters or of a run that the folds start from; empty: newly initialized adapters",
    )
    run_name: str = Field(default="", description="name of the run's folders; empty: derived from the model and the settings")
    id_column: str = Field(
        default="", json_schema_extra=WEIGHTS, description="CSV column with the row's id; empty: detected automatically"
    )
    image_column: str = Field(
        default="", json_schema_extra=WEIGHTS, description="CSV column with the image path; empty: detected automatically"
    )
    question_column: str = Field(
        default="", json_schema_extra=WEIGHTS, description="CSV column with the question; empty: detected automatically"
    )
    answer_column: str = Field(
        default="", json_schema_extra=WEIGHTS, description="CSV column with the answer; empty: detected automatically"
    )
    answer_style: Literal["auto", "letter", "one", "zero", "text"] = Field(
        default="auto", json_schema_extra=WEIGHTS,
        description="how answers are written: letters, positions counted from one or zero, or the choices' texts; auto: "
        "detected from the file",
    )
    submission_style: Literal["auto", "lower", "upper", "one", "zero", "text", "bare", "korean"] = Field(
        default="auto",
        description="how answers are written in the submission: a, A, 1, 0, the choice's text, 가; auto: as in "
        "sample_submission.csv, else train.csv",
    )
    use_dev: bool = Field(
        default=False, json_schema_extra=WEIGHTS, description="also train on the rows of dev.csv, if it exists"
    )
    min_votes: int = Field(
        default=0, ge=0, le=1000, json_schema_extra=WEIGHTS,
        description="for data with annotator votes: leave out rows whose answer has fewer votes; 0: keep all",
    )
    fixes: str = Field(
        default="", json_schema_extra=WEIGHTS,
        description="file of label decisions (fix, drop or keep), proposed by `mcvqa audit` and decided by you; empty: none",
    )
    validate_on: str = Field(
        default="", json_schema_extra=WEIGHTS,
        description="validate only on the rows of one source, such as train; the other rows are only trained on; empty: "
        "validate on all",
    )

    # %% which rows
    use_sample: bool = Field(
        default=False, json_schema_extra=WEIGHTS, description="use only a stratified sample of the training rows"
    )
    sample_size: int = Field(
        default=200, ge=8, le=10_000_000, json_schema_extra=WEIGHTS, description="number of training rows in that sample"
    )
    use_kfold: bool = Field(
        default=True, json_schema_extra=WEIGHTS, description="stratified K-fold; off: one stratified split of the same size"
    )
    n_folds: int = Field(default=3, ge=2, le=50, json_schema_extra=WEIGHTS, description="number of folds")
    train_folds: tuple[Annotated[int, Ge(0), Le(49)], ...] = Field(
        default=(), description="folds to train, counted from 0; empty: all of them"
    )
    seed: int = Field(default=42, ge=0, le=2**32 - 1, json_schema_extra=WEIGHTS, description="seed of every random choice")
    train_seed: int = Field(
        default=-1, ge=-1, le=2**32 - 1, json_schema_extra=WEIGHTS,
        description="seed of training only (the folds stay the same); -1: same as seed",
    )
    n_seeds: int = Field(
        default=1, ge=1, le=50,
        description="number of seeds to train on the same folds and combine",
    )

    # %% model
    model_id: str = Field(
        default="Qwen/Qwen2.5-VL-3B-Instruct", json_schema_extra=WEIGHTS,
        description="hub name, folder, or 'tiny' (built in, no download)",
    )
    revision: str = Field(
        default="", json_schema_extra=WEIGHTS, description="version of a hub model: branch, tag or commit; empty: the newest"
    )
    image_size: int = Field(
        default=384, ge=28, le=4096, json_schema_extra=WEIGHTS,
        description="images are resized to about image_size² pixels",
    )
    device: Literal["auto", "cuda", "mps", "cpu"] = Field(default="auto", description="device to compute on")
    gpu_profile: Literal["own", "t4"] = Field(
        default="own",
        description="GPU to run as; t4: simulate a T4 on a larger GPU (float16, no FlashAttention, 15 GiB)",
    )
    gpus_per_model: Literal["auto", "1", "2", "3", "4", "5", "6", "7", "8"] = Field(
        default="auto", description="number of GPUs that the layers of a model are split across; auto: as few as it fits on"
    )
    precision: Literal["auto", "float16", "bfloat16", "float32"] = Field(
        default="auto", json_schema_extra=WEIGHTS,
        description="data type of the weights; auto: chosen by the GPU's compute capability",
    )
    quantization: Literal["auto", "4bit", "none"] = Field(
        default="auto", json_schema_extra=WEIGHTS,
        description="4-bit NF4 weights for the language model; auto: if unquantized weights do not fit in GPU memory",
    )
    gradient_checkpointing: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="recompute activations in the backward pass instead of storing them; auto: if that is faster",
    )
    lora_r: int = Field(
        default=8, ge=0, le=1024, json_schema_extra=WEIGHTS, description="rank of the LoRA adapters; 0: train all weights"
    )
    lora_alpha: int = Field(default=16, ge=1, le=4096, json_schema_extra=WEIGHTS, description="LoRA scale is lora_alpha / lora_r")
    lora_dropout: float = Field(
        default=0.05, ge=0.0, le=0.9, json_schema_extra=WEIGHTS, description="dropout probability before the adapters"
    )
    use_rslora: bool = Field(
        default=False, json_schema_extra=WEIGHTS,
        description="LoRA scale is lora_alpha / sqrt(lora_r) instead, so that adapters of high rank learn as fast (rsLoRA)",
    )
    use_dora: bool = Field(
        default=False, json_schema_extra=WEIGHTS,
        description="adapters learn the direction and the magnitude of the weights separately (DoRA); slower, without the "
        "optimized path",
    )
    target_modules: tuple[str, ...] = Field(
        default=(ALL_LINEAR,), min_length=1, json_schema_extra=WEIGHTS,
        description="language-model layers that get adapters, given by the ends of their names; all-linear: all linear layers; "
        "experts: also the experts of a mixture",
    )
    lora_vision: bool = Field(
        default=False, json_schema_extra=WEIGHTS, description="also put adapters on the vision tower's attention and MLP"
    )

    # %% prompt
    system_prompt: str = Field(
        default=DEFAULT_SYSTEM_PROMPT, json_schema_extra=WEIGHTS, description="system message; may contain {letters}"
    )
    user_prompt: str = Field(
        default="", json_schema_extra=WEIGHTS,
        description="user message; must contain {question} and {options}, may contain {letters} and {hint}; empty: Korean or "
        "English, like the training questions",
    )
    chat_template: str = Field(
        default="", json_schema_extra=WEIGHTS, description="file with a chat template (Jinja); empty: the model's own"
    )
    template_arguments: tuple[str, ...] = Field(
        default=(), json_schema_extra=WEIGHTS,
        description="name=value pairs for the chat template; enable_thinking and thinking default to false",
    )
    prompt_by_type: bool = Field(
        default=False, json_schema_extra=WEIGHTS, description="add a hint for the type of question (counting, color, ...)"
    )

    # %% training
    num_epochs: int = Field(default=1, ge=0, le=1000, json_schema_extra=WEIGHTS, description="passes over the training rows")
    batch_size: int = Field(
        default=1, ge=1, le=4096, description="an optimizer step has batch_size x grad_accum_steps rows"
    )
    grad_accum_steps: int = Field(
        default=4, ge=1, le=4096, description="batches per optimizer step, which has batch_size x grad_accum_steps rows"
    )
    micro_batch: int = Field(
        default=0, ge=0, le=4096,
        description="rows per forward pass; 0: as many as fit, measured before training (without an NVIDIA GPU: batch_size)",
    )
    learning_rate: float = Field(
        default=1e-4, ge=1e-8, le=1.0, json_schema_extra=WEIGHTS, description="peak learning rate of AdamW"
    )
    lr_schedule: Literal["cosine", "linear"] = Field(
        default="cosine", json_schema_extra=WEIGHTS, description="shape of the learning-rate decay after warm-up"
    )
    weight_decay: float = Field(
        default=0.01, ge=0.0, le=1.0, json_schema_extra=WEIGHTS, description="AdamW's decoupled weight decay"
    )
    warmup_ratio: float = Field(
        default=0.03, ge=0.0, le=1.0, json_schema_extra=WEIGHTS,
        description="share of the steps over which the learning rate rises (warm-up)",
    )
    max_grad_norm: float = Field(
        default=1.0, ge=1e-6, le=1e6, json_schema_extra=WEIGHTS, description="gradients are clipped to this norm"
    )
    loss: Literal["vocabulary", "choices"] = Field(
        default="vocabulary", json_schema_extra=WEIGHTS,
        description="cross-entropy of the answer letter over the whole vocabulary, or over the letters of the choices only",
    )
    label_smoothing: float = Field(
        default=0.0, ge=0.0, le=0.9, json_schema_extra=WEIGHTS,
        description="share of the target probability spread evenly over the row's choices",
    )
    label_noise_loss: float = Field(
        default=0.0, ge=0.0, le=1.0, json_schema_extra=WEIGHTS,
        description="for wrong labels: q of generalized cross-entropy, 0.7 in its paper; 0 is cross-entropy",
    )
    soft_votes: bool = Field(
        default=False, json_schema_extra=WEIGHTS,
        description="for data with annotator votes: learn the vote shares instead of the majority answer",
    )
    row_weights: str = Field(
        default="", json_schema_extra=WEIGHTS,
        description="weights of training rows in the loss: votes (the answer's share of the votes), confidence (a column of the "
        "training files), or a file with id and weight; empty: all equal",
    )
    pseudo: str = Field(
        default="", json_schema_extra=WEIGHTS,
        description="also train on test rows, labelled by a run on the same folds or by a prediction file",
    )
    pseudo_min: float = Field(
        default=0.9, ge=0.0, le=1.0, json_schema_extra=WEIGHTS,
        description="leave out pseudo-labelled rows whose answer has a lower probability",
    )
    pseudo_targets: Literal["hard", "soft"] = Field(
        default="hard", json_schema_extra=WEIGHTS,
        description="target of pseudo-labelled rows: their most probable answer, or the probability of each choice",
    )
    teacher: str = Field(
        default="", json_schema_extra=WEIGHTS,
        description="run on the same folds, for example with a larger model, whose out-of-fold probabilities are learned too",
    )
    teacher_weight: float = Field(
        default=0.5, ge=0.0, le=1.0, json_schema_extra=WEIGHTS,
        description="share of the teacher's probabilities in the target; the rest is the row's label",
    )
    teacher_temperature: float = Field(
        default=1.0, ge=0.1, le=20.0, json_schema_extra=WEIGHTS,
        description="divides the teacher's log-probabilities; values above 1 make its probabilities more even",
    )
    shuffle_choices: bool = Field(
        default=True, json_schema_extra=WEIGHTS, description="shuffle the choices anew for each row and epoch"
    )
    train_orders: int = Field(
        default=1, ge=1, le=26, json_schema_extra=WEIGHTS,
        description="option orders trained per pass over a row (at most its number of choices); needs shuffle_choices",
    )
    order_consistency: float = Field(
        default=0.0, ge=0.0, le=100.0, json_schema_extra=WEIGHTS,
        description="loss weight of the disagreement between these orders (Jensen-Shannon divergence)",
    )
    use_augmentation: bool = Field(
        default=False, json_schema_extra=WEIGHTS, description="paraphrase question endings (Korean and English)"
    )
    aug_prob: float = Field(
        default=0.3, ge=0.0, le=1.0, json_schema_extra=WEIGHTS, description="probability that a question is paraphrased"
    )
    image_augmentation: tuple[Literal["crop", "flip", "light"], ...] = Field(
        default=(), json_schema_extra=WEIGHTS,
        description="random changes to training photographs, skipped where the question's wording suggests that they could "
        "change the answer; photographs are then encoded again in every step",
    )
    use_amp: bool = Field(default=True, json_schema_extra=WEIGHTS, description="automatic mixed precision on a GPU")
    use_ema: bool = Field(
        default=True, json_schema_extra=WEIGHTS, description="score with the exponential moving average of the trained weights"
    )
    ema_decay: float = Field(
        default=0.999, ge=0.0, le=0.99999, json_schema_extra=WEIGHTS,
        description="decay of the EMA per step, after its warm-up",
    )
    use_swa: bool = Field(
        default=False, json_schema_extra=WEIGHTS,
        description="score with the plain average of the weights over the last part of training",
    )
    swa_start_epoch: float = Field(
        default=-1.0, ge=-1.0, le=1000, json_schema_extra=WEIGHTS,
        description="epoch from which weights are averaged for SWA, counted from 0; -1: the last quarter of training",
    )
    average: Literal["as_set", "auto"] = Field(
        default="as_set",
        description="weights to score with; as_set: those that use_swa and use_ema select; auto: the kind with the lowest "
        "out-of-fold log-loss",
    )
    final_fit: bool = Field(
        default=False,
        description="after the folds, train one more model on all labelled rows",
    )
    keep: Literal["best", "last"] = Field(
        default="best", description="epoch whose weights are scored with: the best on validation, or the last"
    )
    save_minutes: float = Field(
        default=5.0, ge=0.0, le=100_000,
        description="minutes between the resume points of a fold, from which it continues after an interruption; 0: every step",
    )
    time_budget: str = Field(
        default="",
        description="time limit of a session, such as 8h30m or 45m; what does not fit is left out, least useful first; empty: "
        "no limit",
    )
    report_to: tuple[str, ...] = Field(
        default=(),
        description="trackers that receive losses, accuracies and figures, such as tensorboard, wandb, mlflow or trackio",
    )
    num_workers: int = Field(
        default=-1, ge=-1, le=256,
        description="processes that read images and encode rows; -1: with a GPU one per core, at most 8; without a GPU none",
    )
    parallel_folds: int = Field(
        default=0, ge=0, le=64,
        description="folds processed at the same time, each in its own process; 0: one per GPU, or one without GPUs; with "
        "executor=processes or ray, processes beyond the number of folds share the image features and the scoring",
    )

    executor: Literal["auto", "inline", "processes", "ray"] = Field(
        default="auto",
        description="where the tasks of a run are executed; inline: in this process; processes: in worker processes, one per "
        "GPU; ray: in workers on a Ray cluster; auto: processes if there are several GPUs, else inline",
    )
    ray_address: str = Field(
        default="auto",
        description="address of the Ray cluster; auto: the one running here or named by RAY_ADDRESS; local: this machine only",
    )

    # %% scoring
    eval_batch_size: int = Field(
        default=0, ge=0, le=4096,
        description="rows per forward pass when scoring; 0: on a GPU as many as it gains speed from, else 8",
    )
    answer_by: Literal["letters", "generate"] = Field(
        default="letters", description="read the letters' log-probabilities, or generate text and parse it (the plain baseline)"
    )
    max_new_tokens: int = Field(
        default=8, ge=1, le=1024, description="maximum length of a generated answer in tokens (answer_by=generate)"
    )
    use_tta: bool = Field(
        default=False, description="test-time augmentation: average over several option orders and image scales"
    )
    tta_orders: int = Field(default=4, ge=1, le=120, description="option orders per question with TTA")
    tta_scales: tuple[Annotated[float, Ge(0.25), Le(4.0)], ...] = Field(
        default=(0.9, 1.0, 1.1), min_length=1, description="image scales with TTA, as factors of image_size"
    )

    evidence: Literal["oof", "full"] = Field(
        default="oof",
        description="training rows that each fold scores; oof: those it was not trained on; full: also those it was trained on",
    )

    # %% ensemble
    ensemble: Literal["auto", "vote", "weighted_vote", "mean", "geometric", "stacking"] = Field(
        default="auto",
        description="how members are combined; auto: calibrated geometric mean, unless learned weights are significantly better",
    )
    members: tuple[str, ...] = Field(
        default=(), description="names of other runs, or prediction CSV files, to combine with this run"
    )

    # %% checks
    if not TYPE_CHECKING:  # a type checker or an IDE shows the settings themselves

        def __init__(self, **settings):
            try:
                super().__init__(**settings)
            except ValidationError as error:
                raise ConfigError("\n".join(_config_mistake(mistake) for mistake in error.errors())) from None

        def __setattr__(self, name, value):
            raise ConfigError(f"A Config cannot be changed. Make a new one: config = config.replace({name}={value!r})")

    @field_validator("*", mode="before")
    @classmethod
    def _convert(cls, value: Any, info: ValidationInfo) -> Any:
        return cls.converted(str(info.field_name), value)

    @classmethod
    def converted(cls, name: str, value: Any) -> Any:
        """Convert a value to the type of its setting.

        Args:
            name: the setting.
            value: the value, possibly as text.

        Returns:
            The converted value.

        Raises:
            ConfigError: it cannot be converted.
        """
        field = cls.model_fields[name]
        try:
            return _converted(field.annotation, value)
        except (TypeError, ValueError, OverflowError):
            kind = _kind_name(field.annotation)
            raise ConfigError(f"{name}={_clipped(value)} is invalid: expected {kind}. Meaning: {field.description}.") from None

    @field_validator("gradient_checkpointing", mode="before")
    @classmethod
    def _read_older_switch(cls, value: Any) -> Any:
        return {"true": "always", "false": "never"}.get(str(value).lower(), value)

    @field_validator("template_arguments", mode="before")
    @classmethod
    def _read_pairs(cls, value: Any) -> Any:
        return tuple(f"{name}={json.dumps(v) if not isinstance(v, str) else v}" for name, v in value.items()) if (
            isinstance(value, dict)) else value

    @field_validator(
        "data_dir", "output_dir", "resume_from", "start_from", "model_id", "chat_template", "fixes", "row_weights", "pseudo"
    )
    @classmethod
    def _expand_home(cls, value: str, info: ValidationInfo) -> str:
        return _without_tilde(value, str(info.field_name))

    @field_validator("members")
    @classmethod
    def _expand_homes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_without_tilde(member, "members") for member in value)

    @field_validator("target_modules")
    @classmethod
    def _read_all_projections(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Read the default of 0.1, which every config.yaml of 0.1 contains, as the present default."""
        return (ALL_LINEAR,) if value == LANGUAGE_PROJECTIONS else value

    @field_validator("train_folds")
    @classmethod
    def _sort_folds(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _check_together(self) -> "Config":
        if self.train_folds and max(self.train_folds) >= (self.n_folds if self.use_kfold else 1):
            raise ConfigError(
                f"train_folds={list(self.train_folds)}: the folds are 0 to {(self.n_folds if self.use_kfold else 1) - 1} "
                f"(n_folds={self.n_folds}, use_kfold={self.use_kfold})."
            )
        if self.lora_r == 0 and self.quantization == "4bit":
            raise ConfigError("lora_r=0 trains all weights, which is impossible with 4-bit weights: set quantization=none.")
        if self.lora_r == 0 and (self.use_rslora or self.use_dora):
            kind = "use_rslora" if self.use_rslora else "use_dora"
            raise ConfigError(f"{kind}=true is a variant of LoRA, and lora_r=0 trains without LoRA: set lora_r to 8 or more.")
        if self.train_orders > 1 and not self.shuffle_choices:
            raise ConfigError(
                f"train_orders={self.train_orders} needs shuffle_choices=true: without shuffling there is only one order."
            )
        if self.order_consistency and self.train_orders == 1:
            raise ConfigError(
                "order_consistency compares several orders of a row: set train_orders to 2 or more, or order_consistency to 0."
            )
        if self.user_prompt and not all(name in self.user_prompt for name in ("{question}", "{options}")):
            raise ConfigError("user_prompt must contain {question} and {options}.")
        for name in ("system_prompt", "user_prompt"):
            unknown = set(re.findall(r"\{(\w*)\}", getattr(self, name))) - {"question", "options", "letters", "hint"}
            if unknown:
                raise ConfigError(
                    f"{name} contains unknown placeholders {sorted(unknown)}. Available: question, options, letters, hint."
                )
        if self.average == "auto" and (self.keep != "last" or self.time_budget):
            raise ConfigError(
                "average=auto compares the last-step weights of all folds: set keep=last and leave time_budget empty."
            )
        if unpaired := [pair for pair in self.template_arguments if not re.match(r"\w+=", pair)]:
            raise ConfigError(f"template_arguments={unpaired[0]!r}: write name=value, for example enable_thinking=true.")
        if not self.budget_seconds:
            raise ConfigError(f"time_budget={self.time_budget!r} is not a length of time. Write 8h30m, 45m or 90s.")
        if self.run_name and not is_folder_name(self.run_name):
            raise ConfigError(f"run_name={_clipped(self.run_name)} cannot be a folder name: {NAME_RULE}.")
        return self

    # %% derived
    @property
    def effective_batch(self) -> int:
        """Rows per optimizer step."""
        return self.batch_size * self.grad_accum_steps

    @property
    def gpus_at_least(self) -> int:
        """Number of GPUs per model; 1 if `gpus_per_model` is "auto"."""
        return 1 if self.gpus_per_model == "auto" else int(self.gpus_per_model)

    @property
    def budget_seconds(self) -> float:
        """Seconds that `time_budget` allows; infinite without one."""
        if not self.time_budget:
            return math.inf
        parts = re.fullmatch(r"(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s)?", self.time_budget.replace(" ", "").lower())
        try:
            hours, minutes, seconds = (float(part or 0) for part in parts.groups()) if parts else (0.0, 0.0, 0.0)
        except ValueError:
            hours = minutes = seconds = 0.0
        return 3600 * hours + 60 * minutes + seconds  # 0: no length of time, which settings cannot have

    @property
    def training_seed(self) -> int:
        """Seed of training: `train_seed`, or `seed` if that is negative."""
        return self.seed if self.train_seed < 0 else self.train_seed

    @property
    def folds_to_train(self) -> tuple[int, ...]:
        """Folds that this run trains, in order."""
        return self.train_folds or tuple(range(self.n_folds if self.use_kfold else 1))

    @property
    def run(self) -> str:
        """Name of the run's folders. Without run_name: model, image size and a hash of the settings that change weights."""
        if self.run_name:
            return self.run_name
        model = re.split(r"[/\\]", self.model_id.rstrip("/\\"))[-1].lower()
        started = {"start_from": self.start_from} if self.start_from else {}
        return f"{model}-{self.image_size}px-{settings_hash(self.weight_settings() | started)}"

    def weight_settings(self) -> dict[str, Any]:
        """Collect the settings that trained weights depend on.

        `start_from` is not among them: its weights are identified by their content. Settings that version 0.1 did not have
        are omitted at their default, so that runs of 0.1 keep their names.

        Returns:
            Setting -> value.
        """
        marked = {name: setting for name, setting in self.settings().items() if setting.weights}
        values = {name: getattr(self, name) for name in marked} | {"user_prompt": self.user_prompt or KOREAN_PROMPT}
        if self.target_modules == (ALL_LINEAR,):
            values["target_modules"] = LANGUAGE_PROJECTIONS
        known = {name: v for name, v in values.items() if name in WEIGHTS_IN_0_1 or v != marked[name].default}
        # weights depend on the number of rows in a step, not on how they are divided into passes
        return known | {"effective_batch": self.effective_batch}

    # %% as a whole
    @classmethod
    def settings(cls) -> dict[str, Setting]:
        """Describe every setting.

        Returns:
            Name -> description, default and allowed values.
        """
        described = {}
        for name, field in cls.model_fields.items():
            low, high = _limits(field.annotation, field.metadata)
            marks = field.json_schema_extra
            weights = isinstance(marks, dict) and bool(marks.get("weights"))
            described[name] = Setting(field.description or "", field.default, low, high, _choices(field.annotation), weights)
        return described

    def as_dict(self) -> dict[str, Any]:
        """Return all settings.

        Returns:
            Name -> value; lists are tuples.
        """
        return {name: getattr(self, name) for name in type(self).model_fields}

    def replace(self, **changes: Any) -> "Config":
        """Return a copy with some settings changed.

        Args:
            changes: setting -> new value. Names may be in upper case, values may be text.

        Returns:
            The new Config.

        Raises:
            ConfigError: an unknown setting, or a value that is not allowed.
        """
        return type(self)(**self.as_dict() | {name.lower(): value for name, value in changes.items()})

    def model_copy(self, *, update: Any = None, deep: bool = False) -> "Config":
        """Copy with changes, as `replace` does; pydantic's own method would not check the values.

        Args:
            update: setting -> new value.
            deep: has no effect, as all values are immutable.

        Returns:
            The new Config.

        Raises:
            ConfigError: an unknown setting, or a value that is not allowed.
        """
        return self.replace(**update or {})

    def to_yaml(self) -> str:
        """Write all settings as YAML, which `load_config` reads.

        Returns:
            The text, whose first and last lines reveal a file that was cut off.
        """
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in self.as_dict().items()}
        return f"{ENDS_WITH_DOTS}\n{yaml.safe_dump(plain, allow_unicode=True, sort_keys=False, width=100)}...\n"


# Runs of version 0.1 are named by a hash of exactly these (and effective_batch). Never add a name: weight_settings() says why.
WEIGHTS_IN_0_1 = frozenset((
    "image_column", "question_column", "answer_column", "use_dev", "use_sample", "sample_size", "use_kfold", "n_folds", "seed",
    "model_id", "image_size", "precision", "quantization", "lora_r", "lora_alpha", "lora_dropout", "target_modules",
    "lora_vision", "system_prompt", "user_prompt", "prompt_by_type", "num_epochs", "learning_rate", "lr_schedule",
    "weight_decay", "warmup_ratio", "max_grad_norm", "loss", "label_smoothing", "soft_votes", "shuffle_choices",
    "train_orders", "order_consistency", "use_augmentation", "aug_prob", "use_amp", "use_ema", "ema_decay", "use_swa",
    "swa_start_epoch",
))


OTHER_NAMES = {"lr": "learning_rate", "epochs": "num_epochs", "folds": "n_folds", "model": "model_id", "output": "output_dir"}


def is_folder_name(name: str) -> bool:
    return bool(re.fullmatch(rb'(?!\.+$)[^\\/:*?"<>|\x00-\x1f]{1,200}', name.encode(errors="surrogatepass")))


def _config_mistake(error: Any) -> str:
    """Turn one of pydantic's errors into a sentence that names the setting, its value and what is allowed."""
    kind, value = error["type"], error["input"]
    if kind == "value_error":  # raised in this file
        return str(error["ctx"]["error"])
    name = str(error["loc"][0])
    if kind == "extra_forbidden":
        return _unknown_setting(name)
    setting = Config.settings()[name]
    if kind in ("greater_than_equal", "less_than_equal"):
        return f"{name}={value} is out of range: {setting.low} to {setting.high}. Meaning: {setting.meaning}."
    if kind == "literal_error":
        close = difflib.get_close_matches(str(value), setting.choices, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        return f"{name}={_clipped(value)} is not one of {', '.join(setting.choices)}.{hint}"
    if kind == "too_short":
        return f"{name} must not be empty. Meaning: {setting.meaning}."
    return f"{name}={_clipped(value)} is invalid. Meaning: {setting.meaning}."


def _clipped(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _unknown_setting(name: str) -> str:
    """Say that there is no such setting, and which is most similar."""
    close = difflib.get_close_matches(name.lower(), Config.model_fields, n=1, cutoff=0.5)
    meant = OTHER_NAMES.get(name.lower()) or next(iter(close), "")
    hint = f" Did you mean {meant!r}?" if meant else ""
    return f"There is no setting {name!r}.{hint} All settings: mcvqa presets --fields"


def _limits(kind: Any, constraints: Iterable[Any]) -> tuple[float | None, float | None]:
    """Return the lowest and highest value of a number, or of each number of a list."""
    if get_origin(kind) is tuple:
        constraints = getattr(get_args(kind)[0], "__metadata__", ())
    bounds = {name: getattr(c, name) for c in constraints for name in ("ge", "le") if hasattr(c, name)}
    return bounds.get("ge"), bounds.get("le")


def _choices(kind: Any) -> tuple[str, ...]:
    if get_origin(kind) is tuple:
        kind = get_args(kind)[0]
    return get_args(kind) if get_origin(kind) is Literal else ()


def _converted(kind: Any, value: Any) -> Any:
    """Convert a value to the type of its setting."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is tuple:
        if isinstance(value, str):
            value = [v for v in value.strip().strip("[]()").split(",") if v.strip()]
        return tuple(_converted(get_args(kind)[0], v.strip() if isinstance(v, str) else v) for v in value)
    if kind is bool:
        words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
        return words[str(value).strip().lower()] if str(value).strip().lower() in words else _fail()
    if kind in (int, float) and isinstance(value, bool):
        _fail()
    if kind is int:
        return _whole(value)
    if kind is float:
        number = float(value)
        return number if number == number else _fail()
    return str(value) if isinstance(value, (str, Path, int, float)) else _fail()


def _whole(value: Any) -> int:
    """Convert 3, "3", 3.0, "3.0" and "3e0" to 3."""
    if isinstance(value, str):
        try:
            return int(value)  # exact: a float has too few digits
        except ValueError:
            value = float(value)
    number = int(value)
    return number if number == value else _fail()


def _fail() -> Any:
    raise ValueError


def _kind_name(kind: Any) -> str:
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is tuple:
        return f"a list of {_kind_name(get_args(kind)[0]).removeprefix('a ')}s"
    return {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "text")


def _without_tilde(path: str, name: str) -> str:
    """Replace a leading "~" in a path by the home folder."""
    if not path.startswith("~"):
        return path
    try:
        return str(Path(path).expanduser())
    except RuntimeError:
        user = path.split("/")[0]
        raise ConfigError(f"{name}={path!r}: the home folder {user} is unknown. Write the full path.") from None


def settings_hash(settings: dict[str, Any]) -> str:
    """Hash settings to eight hex digits."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=list).encode()).hexdigest()[:8]


def weight_changes(before: dict[str, Any], now: Config) -> list[str]:
    """List the changed settings that trained weights depend on.

    Args:
        before: all settings of a run, of this version or an older one.
        now: the settings to compare with.

    Returns:
        One line per changed setting.
    """
    then = type(now)(**{name: value for name, value in before.items() if name in type(now).model_fields})
    names = {**then.weight_settings(), **now.weight_settings()}
    old, new = ({**config.as_dict(), **config.weight_settings()} for config in (then, now))
    return [f"  {name}: was {old[name]!r}, now {new[name]!r}" for name in names if old[name] != new[name]]


# %% presets: the rows of the original's table, two that published solutions speak for, and a demo that needs no download
PRESETS: dict[str, dict[str, Any]] = {
    "quick": dict(use_sample=True, sample_size=200, num_epochs=1, use_kfold=False),
    "single": dict(use_sample=False, num_epochs=3, use_kfold=False, model_id="Qwen/Qwen2.5-VL-3B-Instruct"),
    "ensemble": dict(use_sample=False, num_epochs=3, use_kfold=True, n_folds=3, model_id="Qwen/Qwen2.5-VL-3B-Instruct"),
    "best": dict(
        use_sample=False, num_epochs=5, use_kfold=True, n_folds=3, model_id="Qwen/Qwen2.5-VL-7B-Instruct", image_size=512,
        use_ema=True, use_swa=True, use_tta=True, tta_scales=(0.9, 1.0, 1.1),
    ),
    # why these values: docs/presets.md
    "strong": dict(
        model_id="Qwen/Qwen3-VL-8B-Instruct", quantization="4bit", image_size=448, lora_r=32, lora_alpha=8, use_rslora=True,
        num_epochs=3, grad_accum_steps=16, use_kfold=True, n_folds=3, use_tta=True, tta_orders=4, tta_scales=(1.0,),
    ),
    "large": dict(
        model_id="unsloth/Qwen3-VL-32B-Instruct-bnb-4bit", image_size=448, lora_r=16, lora_alpha=32, num_epochs=5,
        grad_accum_steps=16, use_kfold=False, n_folds=10, use_ema=False, use_tta=True, tta_orders=4, tta_scales=(1.0,),
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
    """Make a Config from a preset, a YAML file and single changes; later ones override earlier ones.

    Args:
        file: YAML file with `name: value` lines; None: no file.
        preset: name of a preset; None: the defaults.
        changes: setting -> value; names may be in upper case, values may be text.

    Returns:
        The settings.

    Raises:
        ConfigError: an unknown preset or setting, an unreadable file, or a value that is not allowed.
    """
    if preset is not None and preset not in PRESETS:
        raise ConfigError(f"There is no preset {preset!r}. Presets: {', '.join(PRESETS)}.")
    values = dict(PRESETS[preset]) if preset else {}
    if file is not None:
        values |= _read_settings_file(Path(_without_tilde(str(file), "config")))
    return Config().replace(**values | {k.lower(): v for k, v in (changes or {}).items()})


def _read_settings_file(file: Path) -> dict[str, Any]:
    try:
        content = load_yaml(file) or {}
    except FileNotFoundError:
        raise ConfigError(f"There is no configuration file {file}.") from None
    except OSError as error:
        raise ConfigError(f"The configuration file {file} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise ConfigError(f"{file} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{file} must contain 'name: value' lines, but contains a {type(content).__name__}.")
    return {str(k).lower(): v for k, v in content.items()}


def parse_changes(pairs: list[str]) -> dict[str, Any]:
    """Split settings as typed behind --set: ['NUM_EPOCHS=3'] -> {'num_epochs': '3'}.

    Args:
        pairs: texts "name=value".

    Returns:
        Setting -> value as text.

    Raises:
        ConfigError: a text without "=".
    """
    for pair in pairs:
        if "=" not in pair:
            raise ConfigError(f"--set {pair}: write it as name=value, for example --set num_epochs=3.")
    return {name.strip().lower(): value.strip() for name, value in (pair.split("=", 1) for pair in pairs)}
