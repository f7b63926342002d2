"""Writes the parts of the report that follow the folds' accuracies: other seeds, the choice of weights, the model on all rows."""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri, stdtrit

from mcvqa.base.translation import korean_translator
from mcvqa.base.uncertainty import spell_error_in_percent, spell_interval
from mcvqa.ensemble.blend import Blend, Member
from mcvqa.report.content import ReportBlock
from mcvqa.run.averages import recorded_average
from mcvqa.run.project import Project
from mcvqa.run.seeds import seed_runs


def beside_folds(project: Project, blend: Blend, member: Member) -> dict[str, list[ReportBlock]]:
    """Make the parts of the report that follow the accuracies, and print how much seeds differ.

    Args:
        project: the run.
        blend: its ensemble.
        member: the run itself as a member.

    Returns:
        Language -> blocks.
    """
    blocks: dict[str, list[ReportBlock]] = {"ko": [], "en": []}
    names = [project.config.run, *(config.run for config in seed_runs(project.config))]
    accuracies = {name: blend.alone[name] for name in names if name in blend.alone}
    measured = [accuracy.value for accuracy in accuracies.values() if not accuracy.not_measured]
    if len(measured) > 1:
        spread = seed_spread(measured)
        error = max(accuracy.standard_error for accuracy in accuracies.values())
        text = spread.in_english(error)
        texts = {"ko": korean_translator().console(text), "en": text}
        rows = tuple(
            (name, spell_error_in_percent(a.value, a.standard_error), spell_interval(100 * low, 100 * high, decimals=1))
            for name, a in accuracies.items() for low, high in [a.interval])
        headers = {"ko": ("시드", "정확도 (%)", "95% 구간"), "en": ("seed", "accuracy, %", "95% interval")}
        for language, parts in blocks.items():
            parts += [ReportBlock("table", header=headers[language], rows=rows, numeric=True),
                      ReportBlock("text", texts[language])]
        print(f"  seeds: {', '.join(f'{name} {value:.3f}' for name, value in zip(accuracies, measured, strict=True))}")
        print(f"  {text}")
    if project.config.average == "auto":
        chosen = f"Weights: {recorded_average(project)}."
        for language, said in (("ko", korean_translator().console(chosen)), ("en", chosen)):
            blocks[language].append(ReportBlock("text", said))
    if member.final:
        for language, said in ABOUT_FINAL.items():
            blocks[language].append(ReportBlock("text", said))
    return blocks


ABOUT_FINAL = {
    "ko": "테스트 행에는 라벨이 있는 모든 행으로 학습한 최종 모델도 폴드와 같은 비중으로 답했습니다. "
    "최종 모델은 검증에 쓸 행이 남아 있지 않아 정확도를 측정할 수 없습니다. 위 정확도는 폴드의 정확도입니다.",
    "en": "Test rows are also answered by the final model, which has learned from all labelled rows and weighs as much as "
    "a fold. No rows are left to measure its accuracy: the accuracies above are those of the folds.",
}


# %% seeds
@dataclass(frozen=True)
class SeedSpread:
    """Describes how much the accuracies of S seeds differ on the same rows, assuming a normal distribution.

    Attributes:
        seeds: S, at least 2.
        deviation: standard deviation between seeds.
        low, high: its 95 % interval.
        difference: difference that two single seeds exceed in 5 of 100 cases, as far as S seeds can tell.
    """

    seeds: int
    deviation: float
    low: float
    high: float
    difference: float

    def in_english(self, error: float) -> str:
        """Describe the spread in a sentence.

        Args:
            error: sampling error of an accuracy.

        Returns:
            The sentence.
        """
        if not self.deviation:
            return (
                f"All {self.seeds} seeds have the same accuracy on these rows, which are too few to show how much seeds "
                f"differ; sampling error of an accuracy: {error:.4f}."
            )
        return (
            f"Standard deviation between {self.seeds} seeds: {self.deviation:.4f} (95 % interval {self.low:.4f} to "
            f"{self.high:.4f}); sampling error of an accuracy: {error:.4f}. Two runs of one seed each may differ by "
            f"{self.difference:.3f} on these rows because of their seeds alone."
        )


def seed_spread(accuracies: Sequence[float]) -> SeedSpread:
    """Compute the spread of the accuracies of at least two seeds."""
    degrees, deviation = len(accuracies) - 1, float(np.std(accuracies, ddof=1))
    low, high = (deviation * np.sqrt(degrees / chdtri(degrees, tail)) for tail in (0.025, 0.975))
    difference = np.sqrt(2) * deviation * stdtrit(degrees, 0.975)
    return SeedSpread(len(accuracies), deviation, float(low), float(high), float(difference))
