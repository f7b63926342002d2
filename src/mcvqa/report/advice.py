"""Advice: what to try next, chosen by what a run showed, in English and Korean."""
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcvqa.base.files import RunLog, or_nan
from mcvqa.base.uncertainty import Gain
from mcvqa.report.metrics import Metrics, spell_p_value

SLOW = 6 * 3600  # seconds; a Kaggle session with a GPU ends after twelve hours
LETTERS_MATTER = 0.05  # total variation between letters said and letters true
WITHOUT = {
    "EMA": "use_ema=false", "SWA": "use_swa=false", "TTA": "use_tta=false", "TTA orders": "tta_orders=1",
    "TTA scales": "tta_scales=1.0",
}


@dataclass(frozen=True)
class Advice:
    """What was seen and what to try, twice the same."""

    english: str
    korean: str


# %% what training showed
@dataclass(frozen=True)
class Course:
    """Losses of a run, in nats.

    Attributes:
        validation: of each fold, after each epoch, of the weights to score with.
        training: mean over the last epoch of all folds; NaN where no step was logged.
        crowded: whether a single row at a time was all that the GPU's memory held.
    """

    validation: tuple[tuple[float, ...], ...]
    training: float
    crowded: bool

    @property
    def still_falling(self) -> bool:
        """Whether the last epoch brought every fold more than one percent."""
        return bool(self.validation) and all(len(v) > 1 and v[-1] < 0.99 * v[-2] for v in self.validation)

    @property
    def learned_by_heart(self) -> bool:
        """Whether the rows that were learned have far less loss than others, and further epochs no longer help these."""
        last = float(np.mean([v[-1] for v in self.validation])) if self.validation else float("nan")
        return not self.still_falling and self.training < 0.6 * last


def read_course(log: RunLog) -> Course:
    """Where a resumed run logged something twice, the later one counts."""
    losses: dict[int, dict[int, float]] = {}
    for e in log.events("epoch"):
        if e["chosen"] and e["epoch"] >= 0:
            losses.setdefault(e["fold"], {})[e["epoch"]] = or_nan(e["nll"])
    steps = log.events("step")
    last = max((e["epoch"] for e in steps), default=0)
    learned = [e["loss"] for e in steps if e["epoch"] == last and e["loss"] is not None and np.isfinite(e["loss"])]
    validation = tuple(tuple(by_epoch[n] for n in sorted(by_epoch)) for by_epoch in losses.values())
    crowded = any(e["tried"][0]["rows"] == 1 for e in log.events("memory"))
    return Course(validation, float(np.mean(learned)) if learned else float("nan"), crowded)


# %% what to say
def choose_advice(metrics: Metrics, config: Mapping[str, Any], course: Course, seconds: float) -> tuple[Advice, ...]:
    """The most important first; never none.

    Args:
        config: every setting and its value. seconds: time the run took.
    """
    found = [
        *_about_model(config), *_about_pictures(metrics), *_about_rows(config), *_about_epochs(config, course),
        *_about_letters(metrics, config), *_about_techniques(metrics.gains), *_about_resources(config, course, seconds),
    ]
    larger = Advice(
        "What is left: larger images (`image_size=512`), the 7B model, another model for the ensemble (`members=other-run`).",
        "남은 것: 더 큰 그림(`image_size=512`), 7B 모델, 앙상블에 다른 모델(`members=other-run`).",
    )
    return tuple(found) or (larger,)


def _about_model(config: Mapping[str, Any]) -> Iterator[Advice]:
    if Path(config["model_id"]).name == "tiny":
        yield Advice(
            "This was the built-in model tiny, which knows drawn shapes only. For photographs: your own data and "
            "`model_id=Qwen/Qwen2.5-VL-3B-Instruct`.",
            "그려 낸 도형만 아는 작은 모델 tiny였습니다. 진짜 사진에는: 내 데이터와 `model_id=Qwen/Qwen2.5-VL-3B-Instruct`.",
        )


def _about_pictures(metrics: Metrics) -> Iterator[Advice]:
    gain = metrics.over_blind
    if gain is not None and gain.low <= 0:
        yield Advice(
            f"The photographs add nothing that can be told from chance ({_in_points(gain)} points over the texts alone). "
            "See whether they are the right ones (eda/), then take more rows and epochs, and a trained model.",
            f"사진이 보탠 것이 우연과 구별되지 않습니다(글만 볼 때보다 {_in_points(gain)}점). "
            "사진이 맞는지 eda/에서 보고, 행과 에폭을 늘리고, 학습된 모델을 쓰세요.",
        )


def _about_rows(config: Mapping[str, Any]) -> Iterator[Advice]:
    if config["use_sample"]:
        yield Advice(
            f"Only a sample of {config['sample_size']:,} rows was learned. All of them: preset `single` (`use_sample=false`).",
            f"{config['sample_size']:,}행만 배웠습니다. 모든 행으로: PRESET `single` (`use_sample=false`).",
        )
    elif not config["use_kfold"]:
        yield Advice(
            "One split was trained. Three folds learn from every row and vote: preset `ensemble` (`use_kfold=true`).",
            "하나로만 나누어 학습했습니다. 3폴드는 모든 행에서 배우고 함께 답합니다: PRESET `ensemble` (`use_kfold=true`).",
        )


def _about_epochs(config: Mapping[str, Any], course: Course) -> Iterator[Advice]:
    epochs = config["num_epochs"]
    if course.learned_by_heart:
        fewer = f"`num_epochs={epochs - 1}` or " if epochs > 1 else ""
        fewer_ko = f"`num_epochs={epochs - 1}`이나 " if epochs > 1 else ""
        yield Advice(
            f"The loss on learned rows ({course.training:.2f}) is far below that on others: {fewer}`lora_dropout=0.1`, "
            "`use_augmentation=true`.",
            f"배운 행의 손실({course.training:.2f})이 다른 행보다 훨씬 낮습니다(과적합): {fewer_ko}`lora_dropout=0.1`, "
            "`use_augmentation=true`.",
        )
    elif course.still_falling:
        yield Advice(
            f"The validation loss still fell in the last epoch: `num_epochs={epochs + 2}`.",
            f"마지막 에폭에서도 검증 손실이 줄었습니다: `num_epochs={epochs + 2}`.",
        )
    elif epochs == 1:
        yield Advice(
            "One epoch was trained: `num_epochs=3` to 5 for a real run.", "에폭이 하나였습니다: 제대로 하려면 `num_epochs=3`~5.",
        )


def _about_letters(metrics: Metrics, config: Mapping[str, Any]) -> Iterator[Advice]:
    bias = metrics.letters
    if bias.p_value >= 0.05 or bias.overall.distance < LETTERS_MATTER:
        return
    change = "`train_orders=2`" if config["use_tta"] else "`use_tta=true`"
    shown = f"{bias.overall.distance:.2f}, {spell_p_value(bias.p_value)}"
    yield Advice(
        f"Some letters are said too often (distance {shown}). Several option orders even that out: {change}.",
        f"어떤 글자를 너무 자주 답합니다(거리 {shown}). 보기 순서를 여러 가지로 물으면 고르게 됩니다: {change}.",
    )


def _about_techniques(gains: Mapping[str, Gain]) -> Iterator[Advice]:
    """Of those that can be told apart from nothing."""
    for name, gain in gains.items():
        points = _in_points(gain)
        if gain.low > 0:
            yield Advice(f"{name} helped ({points} points): keep it.", f"{name}: 도움이 되었습니다({points}점). 계속 쓰세요.")
        elif gain.high < 0:
            off = f" (`{WITHOUT[name]}`)" if name in WITHOUT else ""
            yield Advice(
                f"{name} did harm ({points} points): leave it out{off}.", f"{name}: 해가 되었습니다({points}점). 빼세요{off}.",
            )


def _about_resources(config: Mapping[str, Any], course: Course, seconds: float) -> Iterator[Advice]:
    if course.crowded and config["batch_size"] * config["grad_accum_steps"] > 1:
        yield Advice(
            "The GPU's memory held one row at a time. More room: `quantization=4bit`, a smaller `image_size=256`, the 3B model.",
            "GPU 메모리에 한 번에 한 행만 들어갔습니다. 넓히려면: `quantization=4bit`, 더 작은 `image_size=256`, 3B 모델.",
        )
    if seconds > SLOW:
        slower = " `use_tta=false`," if config["use_tta"] else ""
        yield Advice(
            f"It took {seconds / 3600:.0f} hours. Faster:{slower} `image_size=256`, fewer epochs or folds.",
            f"{seconds / 3600:.0f}시간 걸렸습니다. 더 빨리:{slower} `image_size=256`, 에폭이나 폴드 줄이기.",
        )


def _in_points(gain: Gain) -> str:
    return f"{100 * gain.value:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
