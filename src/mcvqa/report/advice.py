"""Suggests what to try next, based on the results of a run, in English and Korean."""
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcvqa.base.files import RunLog, or_nan
from mcvqa.base.uncertainty import SIGNIFICANT, Gain, spell_p_value
from mcvqa.data.answers import LETTERS
from mcvqa.report.metrics import LetterBias, Metrics, Selection, spell_optimism

SLOW = 6 * 3600  # seconds; a Kaggle session with a GPU ends after twelve hours
LETTERS_MATTER = 0.05  # total variation distance between predicted and true letters
COLLAPSED = 0.9  # share of the predictions that are one letter, which is right far less often
FAR_LESS = 0.25  # difference of the shares
OPTIMISM_MATTERS = 0.005
WITHOUT = {
    "EMA": "use_ema=false", "SWA": "use_swa=false", "TTA": "use_tta=false", "TTA orders": "tta_orders=1",
    "TTA scales": "tta_scales=1.0",
}


@dataclass(frozen=True)
class Advice:
    """Holds an observation and a suggestion, in both languages.

    Attributes:
        english: the text in English.
        korean: the same in Korean.
    """

    english: str
    korean: str


# %% learning curves
@dataclass(frozen=True)
class LearningCurves:
    """Holds the losses of a run, in nats.

    Attributes:
        validation: losses of each fold after each epoch, of the weights used for scoring.
        training: mean loss over the last epoch of all folds; NaN: no step was logged.
        memory_bound: whether the GPU's memory held only one row at a time.
    """

    validation: tuple[tuple[float, ...], ...]
    training: float
    memory_bound: bool

    @property
    def is_falling(self) -> bool:
        """Whether the last epoch lowered the validation loss of every fold by more than one percent."""
        return bool(self.validation) and all(len(v) > 1 and v[-1] < 0.99 * v[-2] for v in self.validation)

    @property
    def is_overfitted(self) -> bool:
        """Whether the training loss is far below the validation loss, which no longer falls."""
        last = float(np.mean([v[-1] for v in self.validation])) if self.validation else float("nan")
        return not self.is_falling and self.training < 0.6 * last


def read_learning_curves(log: RunLog) -> LearningCurves:
    """Read the losses of a run from its log; if a resumed run logged an epoch twice, the later event counts."""
    losses: dict[int, dict[int, float]] = {}
    for event in log.events("epoch", "fold", "epoch", "chosen", "nll"):
        if event["chosen"] and event["epoch"] >= 0:
            losses.setdefault(event["fold"], {})[event["epoch"]] = or_nan(event["nll"])
    steps = log.events("step", "epoch", "loss")
    last = max((e["epoch"] for e in steps), default=0)
    training = [e["loss"] for e in steps if e["epoch"] == last and e["loss"] is not None and np.isfinite(e["loss"])]
    validation = tuple(tuple(by_epoch[n] for n in sorted(by_epoch)) for by_epoch in losses.values())
    memory_bound = any(e["tried"][0]["rows"] == 1 for e in log.events("memory", "tried"))
    return LearningCurves(validation, float(np.mean(training)) if training else float("nan"), memory_bound)


# %% choosing advice
def choose_advice(metrics: Metrics, config: Mapping[str, Any], curves: LearningCurves, seconds: float) -> tuple[Advice, ...]:
    """Choose what to try next.

    Args:
        metrics: metrics of the run.
        config: every setting and its value.
        curves: losses of the run.
        seconds: duration of the run.

    Returns:
        At least one piece of advice, the most important first.
    """
    advice = [
        *_about_collapse(metrics, config), *_about_model(config), *_about_pictures(metrics, config), *_about_rows(config),
        *_about_epochs(config, curves), *_about_selection(metrics.selection), *_about_letters(metrics, config),
        *_about_techniques(metrics.gains), *_about_resources(config, curves, seconds),
    ]
    larger = Advice(
        "Further options: larger images (`image_size=512`), the 7B model, another model for the ensemble (`members=other-run`).",
        "더 시도할 것: 더 큰 이미지(`image_size=512`), 7B 모델, 앙상블에 다른 모델 추가(`members=other-run`).",
    )
    return tuple(advice) or (larger,)


def collapsed_letter(letters: LetterBias) -> int | None:
    """Find the letter that the model nearly always answers although it is right far less often, or None."""
    predicted, true = letters.overall.predicted, letters.overall.truth
    letter = int(np.argmax(predicted))
    return letter if predicted[letter] >= COLLAPSED and true[letter] <= predicted[letter] - FAR_LESS else None


def _lower_rate(config: Mapping[str, Any]) -> str:
    return f"`learning_rate={config['learning_rate'] / 5:.1g}`"


def _about_collapse(metrics: Metrics, config: Mapping[str, Any]) -> Iterator[Advice]:
    letter = collapsed_letter(metrics.letters)
    if letter is None:
        return
    predicted, true = metrics.letters.overall.predicted[letter], metrics.letters.overall.truth[letter]
    yield Advice(
        f"The model collapsed: {predicted:.0%} of its answers are ({LETTERS[letter]}), which is right in {true:.0%} of the rows. "
        f"Usual causes: a learning rate that is too high (try {_lower_rate(config)}), too few rows or too few steps.",
        f"모델이 한 글자로 쏠렸습니다. 답의 {predicted:.0%}가 ({LETTERS[letter]})인데, 실제 정답 중에서는 {true:.0%}뿐입니다. "
        f"흔한 원인은 너무 높은 학습률({_lower_rate(config)}로 낮춰 보세요)과 너무 적은 행 또는 스텝입니다.",
    )


def _about_model(config: Mapping[str, Any]) -> Iterator[Advice]:
    if Path(config["model_id"]).name == "tiny":
        yield Advice(
            "This run used the built-in model tiny, which only knows drawn shapes. For photographs, use your own data and "
            "`model_id=Qwen/Qwen2.5-VL-3B-Instruct`.",
            "자동 생성한 도형 그림만 아는 내장 소형 모델 tiny를 썼습니다. 실제 사진에는 자신의 데이터와 "
            "`model_id=Qwen/Qwen2.5-VL-3B-Instruct`를 쓰세요.",
        )


def _about_pictures(metrics: Metrics, config: Mapping[str, Any]) -> Iterator[Advice]:
    gain, rate = metrics.over_blind, _lower_rate(config)
    if gain is None or gain.is_better:
        return
    if gain.is_worse:
        yield Advice(
            f"The model is significantly worse than the texts alone ({gain.in_points} points), so it has not learned the task. "
            f"Likely causes: the learning rate (try {rate}), a collapse to one letter (see the section Letters), too few rows.",
            f"텍스트만 볼 때보다 유의하게 나쁩니다({gain.in_points}점). 모델이 과제를 배우지 못했습니다. "
            f"유력한 원인: 학습률({rate}로 낮춰 보세요), 한 글자로의 쏠림('답 글자' 참고), 너무 적은 행.",
        )
    else:
        yield Advice(
            f"The photographs add nothing significant ({gain.in_points} points over the texts alone). "
            "Check in eda/ that they are the right ones, then use more rows, more epochs and a pretrained model.",
            f"사진을 보아도 정확도가 유의하게 오르지 않았습니다(텍스트만 볼 때보다 {gain.in_points}점). "
            "eda/에서 사진이 맞는지 확인하고, 행과 에폭을 늘리고, 사전 학습된 모델을 쓰세요.",
        )


def _about_rows(config: Mapping[str, Any]) -> Iterator[Advice]:
    if config["use_sample"]:
        yield Advice(
            f"Only a sample of {config['sample_size']:,} rows was used. To use all rows: preset `single` (`use_sample=false`).",
            f"{config['sample_size']:,}행만 뽑아 학습했습니다. 모든 행으로 학습하려면: PRESET `single` (`use_sample=false`).",
        )
    elif not config["use_kfold"]:
        yield Advice(
            "Only one split was trained. Three folds use every row and are averaged: preset `ensemble` (`use_kfold=true`).",
            "한 번만 나누어 학습했습니다. 3폴드는 모든 행을 학습에 쓰고 결과를 합칩니다: PRESET `ensemble` (`use_kfold=true`).",
        )


def _about_epochs(config: Mapping[str, Any], curves: LearningCurves) -> Iterator[Advice]:
    epochs = config["num_epochs"]
    if curves.is_overfitted:
        fewer = f"`num_epochs={epochs - 1}` or " if epochs > 1 else ""
        fewer_ko = f"`num_epochs={epochs - 1}`이나 " if epochs > 1 else ""
        yield Advice(
            f"The model overfits: its training loss ({curves.training:.2f}) is far below the validation loss. Try "
            f"{fewer}`lora_dropout=0.1`, `use_augmentation=true`.",
            f"과적합입니다. 학습 손실({curves.training:.2f})이 검증 손실보다 훨씬 낮습니다. 시도해 볼 것: "
            f"{fewer_ko}`lora_dropout=0.1`, `use_augmentation=true`.",
        )
    elif curves.is_falling:
        yield Advice(
            f"The validation loss was still falling in the last epoch: try `num_epochs={epochs + 2}`.",
            f"마지막 에폭에서도 검증 손실이 줄었습니다: `num_epochs={epochs + 2}`.",
        )
    elif epochs == 1:
        yield Advice(
            "Only one epoch was trained: use `num_epochs=3` to 5 for a real run.",
            "에폭 하나만 학습했습니다. 제대로 학습하려면 `num_epochs=3`~5로 하세요.",
        )


def _about_selection(selection: Selection | None) -> Iterator[Advice]:
    if selection is not None and selection.optimism >= OPTIMISM_MATTERS:
        yield Advice(
            f"The best of {selection.epochs} epochs was chosen on the rows it is evaluated on, so the accuracy is "
            f"{spell_optimism(selection)} too high. For an unbiased figure: `keep=last`.",
            f"에폭 {selection.epochs}개 중 가장 좋은 것을 평가에 쓰는 행에서 골랐으므로 정확도가 "
            f"약 {100 * selection.optimism:.1f}점 높게 나왔습니다. 치우침 없는 값을 원하면: `keep=last`.",
        )


def _about_letters(metrics: Metrics, config: Mapping[str, Any]) -> Iterator[Advice]:
    bias = metrics.letters
    if bias.p_value >= SIGNIFICANT or bias.overall.distance < LETTERS_MATTER or collapsed_letter(bias) is not None:
        return
    change = "`train_orders=2`" if config["use_tta"] else "`use_tta=true`"
    evidence = f"{bias.overall.distance:.2f}, {spell_p_value(bias.p_value)}"
    yield Advice(
        f"Some letters are answered too often (distance {evidence}). Several option orders even that out: {change}.",
        f"특정 글자를 너무 자주 답합니다(거리 {evidence}). 보기 순서를 바꿔 가며 물으면 고르게 됩니다: {change}.",
    )


def _about_techniques(gains: Mapping[str, Gain]) -> Iterator[Advice]:
    """Yield advice on techniques with a significant gain or loss."""
    for name, gain in gains.items():
        points = gain.in_points
        if gain.is_better:
            yield Advice(f"{name} helped ({points} points): keep it.", f"{name}: 도움이 되었습니다({points}점). 계속 쓰세요.")
        elif gain.is_worse:
            off = f" (`{WITHOUT[name]}`)" if name in WITHOUT else ""
            yield Advice(
                f"{name} hurt ({points} points): turn it off{off}.",
                f"{name}: 오히려 나빠졌습니다({points}점). 빼세요{off}.",
            )


def _about_resources(config: Mapping[str, Any], curves: LearningCurves, seconds: float) -> Iterator[Advice]:
    if curves.memory_bound and config["batch_size"] * config["grad_accum_steps"] > 1:
        yield Advice(
            "Only one row at a time fits into GPU memory. To fit more: `quantization=4bit`, a smaller `image_size=256`, "
            "the 3B model.",
            "GPU 메모리에 한 번에 한 행만 들어갑니다. 더 넣으려면: `quantization=4bit`, 더 작은 `image_size=256`, 3B 모델.",
        )
    if seconds > SLOW:
        slower = " `use_tta=false`," if config["use_tta"] else ""
        yield Advice(
            f"The run took {seconds / 3600:.0f} hours. To speed it up:{slower} `image_size=256`, fewer epochs or folds.",
            f"{seconds / 3600:.0f}시간 걸렸습니다. 더 빠르게 하려면:{slower} `image_size=256`, 에폭이나 폴드 줄이기.",
        )
