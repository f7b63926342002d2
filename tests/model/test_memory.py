"""What fits: the search against a simulated memory, and what is done where memory runs out."""
import dataclasses

import pytest
import torch

from mcvqa.config import Config
from mcvqa.model import rows as rows_module
from mcvqa.model.device import GIB, plan_device
from mcvqa.model.memory import (
    MemoryPlan,
    Trial,
    fastest_fitting,
    less_memory,
    measure_pass,
    random_state,
    reason_for,
    row_counts,
    set_random_state,
    settings_plan,
)
from mcvqa.model.rows import KnownPasses, longest_first, longest_training_rows, rows_per_pass


class SimulatedGpu:
    """Each row takes 1 GiB, or 0.1 with checkpointing, beside 2 for the weights; a pass costs a launch and its rows."""

    def __init__(self, size: float, launch: float = 1.0) -> None:
        self.size, self.launch, self.tried = size, launch, []

    def measure(self, rows: int, checkpointing: bool) -> Trial | None:
        self.tried.append((rows, checkpointing))
        needed = 2 + rows * (0.1 if checkpointing else 1.0)
        seconds = self.launch + rows * (0.13 if checkpointing else 0.1)
        return Trial(rows, checkpointing, seconds, int(needed * GIB)) if needed <= self.size else None


def choice(gpu: SimulatedGpu, rows: int = 16, setting: str = "auto") -> tuple[int, bool]:
    best = fastest_fitting(row_counts(rows), setting, gpu.measure)[0]
    return best.rows, best.checkpointing


def test_counts_go_down_to_one_row():
    assert row_counts(16) == [16, 8, 6, 4, 3, 2, 1] and row_counts(11) == [11, 6, 4, 3, 2, 1]
    assert row_counts(4) == [4, 2, 1] and row_counts(1) == [1]


def test_with_memory_to_spare_one_trial_is_enough():
    gpu = SimulatedGpu(80)
    assert choice(gpu) == (16, False) and gpu.tried == [(16, False)], "recomputing the same rows can only be slower"


@pytest.mark.parametrize(("size", "launch", "chosen"), [
    (10.5, 0.0, (8, False)),  # 16 rows fit with checkpointing, but nothing is gained by more rows at once
    (10.5, 5.0, (16, True)),  # a pass of any size costs much: half as many passes are worth the recomputing
    (8.5, 0.0, (6, False)),  # three passes where two do not fit
    (3.5, 1.0, (8, True)),
    (2.1, 1.0, (1, True)),
])
def test_checkpointing_only_where_it_pays(size, launch, chosen):
    gpu = SimulatedGpu(size, launch)
    assert choice(gpu) == chosen
    kept = max((rows for rows, checkpointing in gpu.tried if not checkpointing and 2 + rows <= size), default=0)
    assert all(rows > kept for rows, checkpointing in gpu.tried if checkpointing)


def test_what_is_set_is_kept():
    assert choice(SimulatedGpu(80), setting="always") == (16, True)
    never = SimulatedGpu(5.5, launch=5.0)
    assert choice(never, setting="never") == (3, False) and not any(checkpointing for _, checkpointing in never.tried)
    assert fastest_fitting(row_counts(16), "never", SimulatedGpu(2.5).measure) == []
    assert fastest_fitting(row_counts(16), "auto", SimulatedGpu(2.05).measure) == []


def test_the_reason_names_figures_of_both():
    found = fastest_fitting(row_counts(16), "auto", SimulatedGpu(10.5, 0.0).measure)
    assert reason_for(found, 16, 412) == (
        "micro-batch 8 of 16 rows without checkpointing: 10.0 GiB at the longest rows (up to 412 tokens), 10.0 rows/s; "
        "with checkpointing 16 fit and are 23% slower"
    )


# %% a real pass, with the GPU's counters replaced
@pytest.fixture
def counters(monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda gpu: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda gpu: None)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", {None: 9 * GIB, "cuda:1": 6 * GIB}.get)


def test_a_pass_is_measured_warm_and_against_the_limit(counters):
    runs = []
    trial = measure_pass(4, True, lambda: runs.append(1), GIB, {None: 11 * GIB})
    assert (trial.rows, trial.checkpointing, trial.peak) == (4, True, 10 * GIB) and trial.seconds > 0 and len(runs) == 2
    assert measure_pass(4, True, lambda: None, 2 * GIB, {None: 11 * GIB}) is None, "with what the optimizer keeps it is too much"


def test_a_pass_fits_if_it_does_on_every_gpu(counters):
    trial = measure_pass(4, True, lambda: None, GIB, {None: 11 * GIB, "cuda:1": 8 * GIB})
    assert trial and trial.peak == 10 * GIB
    assert measure_pass(4, True, lambda: None, GIB, {None: 11 * GIB, "cuda:1": 7 * GIB}) is None


def test_a_pass_that_runs_out_of_memory_does_not_fit(counters):
    def full() -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    assert measure_pass(4, False, full, 0, {None: 10 * GIB}) is None


def test_random_numbers_can_be_drawn_again():
    before = random_state()
    first = torch.rand(3)
    set_random_state(before)
    assert torch.equal(first, torch.rand(3))


# %% where it runs out all the same
def test_memory_is_saved_step_by_step():
    plan, seen = MemoryPlan(11), []
    while plan.shrink(Config()):
        seen.append((plan.rows, plan.checkpointing))
    assert seen == [(6, False), (3, False), (2, False), (1, False), (1, True)]
    assert not MemoryPlan(1).shrink(Config(gradient_checkpointing="never")), "what is set is kept"


def test_the_settings_say_where_to_begin():
    cpu = plan_device(Config(device="cpu"))
    gpu = dataclasses.replace(cpu, device="cuda", memory=15 * GIB)
    assert settings_plan(Config(batch_size=4), cpu) == MemoryPlan(4, False)
    assert settings_plan(Config(batch_size=4, micro_batch=2, gradient_checkpointing="always"), cpu) == MemoryPlan(2, True)
    assert settings_plan(Config(batch_size=4), gpu) == MemoryPlan(1, True)
    assert settings_plan(Config(batch_size=4, micro_batch=2, gradient_checkpointing="never"), gpu) == MemoryPlan(2, False)


def test_advice_leaves_out_what_is_so_already():
    assert less_memory(Config()).startswith("To use less memory: --set quantization=4bit, a smaller image_size (now 384), a")
    message = less_memory(Config(train_orders=4, gradient_checkpointing="never"), four_bit=True)
    assert "4bit" not in message and "gradient_checkpointing=auto" in message and "train_orders=1 (now 4)" in message


# %% the longest rows
def test_the_longest_training_rows_are_found(maker, questions, tiny_config):
    longest = longest_training_rows(maker, questions, tiny_config)
    assert len(longest[0]) == max(len(maker.row(question)) for question in questions) and longest[0].id == "q3"
    assert sorted(row.id for row in longest) == sorted(question.id for question in questions)


@dataclasses.dataclass(frozen=True)
class RowOf:
    image: str | None
    length: int

    def __len__(self) -> int:
        return self.length


def test_rows_on_a_photograph_that_a_longer_row_has_come_last():
    """They share its tokens, so that they are no measure of what as many others take."""
    rows = [RowOf("a", 5), RowOf("a", 9), RowOf("b", 7), RowOf(None, 3), RowOf(None, 8), RowOf("b", 6)]
    assert [(row.image, row.length) for row in longest_first(rows)] == [
        ("a", 9), (None, 8), ("b", 7), (None, 3), ("b", 6), ("a", 5)]


# %% rows of a pass when scoring
class Reader:
    """A simulated GPU: a pass costs a launch and its rows; `most` of them fit."""

    def __init__(self, launch: float, most: int) -> None:
        self.launch, self.most, self.tried = launch, most, []

    def measure(self, rows, checkpointing, run, kept, limit) -> Trial | None:
        run()
        self.tried.append(rows)
        return Trial(rows, checkpointing, self.launch + rows * 0.01, GIB) if rows <= self.most else None


@pytest.mark.parametrize(("launch", "most", "found", "tried"), [
    (0.2, 999, 64, [8, 16, 32, 64]),  # sixteen passes of the 1,200 rows
    (0.08, 999, 64, [8, 16, 32, 64]),
    (0.03, 999, 32, [8, 16, 32]),  # 32 are 9 % faster than 16, so 64 cannot be 5 % faster than 32
    (0.01, 999, 16, [8, 16]),
    (0.2, 40, 32, [8, 16, 32, 64]),
    (0.2, 4, 8, [8]),  # they are halved later
])
def test_as_many_rows_are_scored_at_a_time_as_pay(base, maker, questions, monkeypatch, capsys, launch, most, found, tried):
    reader, plan = Reader(launch, most), dataclasses.replace(base.plan, device="cuda", amp=False)
    monkeypatch.setattr(rows_module, "measure_pass", reader.measure)
    monkeypatch.setattr(rows_module, "read_letters", lambda model, batches, device: [])
    rows = [maker.row(dataclasses.replace(questions[i % 4], id=str(i))) for i in range(1200)]
    assert rows_per_pass(base.answers(base.model), maker, rows, Config(), plan) == found and reader.tried == tried
    assert ("rows at a time" in capsys.readouterr().out) == (most >= 8)


def test_rows_of_a_pass_are_measured_again_only_where_more_rows_could_make_larger_passes(base, maker, questions, monkeypatch):
    reader, plan = Reader(0.2, 999), dataclasses.replace(base.plan, device="cuda", amp=False)
    monkeypatch.setattr(rows_module, "measure_pass", reader.measure)
    monkeypatch.setattr(rows_module, "read_letters", lambda model, batches, device: [])
    rows = [maker.row(dataclasses.replace(questions[i % 4], id=str(i))) for i in range(2200)]
    known, answers, sizes = KnownPasses(), base.answers(base.model), []
    for count, most in ((200, 999), (1200, 999), (1000, 999), (2048, 64), (2000, 64), (2200, 64)):
        reader.most = most
        sizes.append((known.rows(answers, maker, rows[:count], Config(), plan), len(reader.tried)))
    assert sizes == [(8, 0), (64, 4), (64, 4), (64, 9), (64, 9), (64, 9)]  # 1,200 rows have no sixteen passes of 128


def test_rows_of_a_pass_are_not_measured_where_they_are_set_few_or_on_a_cpu(base, maker, questions):
    rows, gpu = [maker.row(question) for question in questions] * 20, dataclasses.replace(base.plan, device="cuda")
    answers = base.answers(base.model)
    assert rows_per_pass(answers, maker, rows, Config(eval_batch_size=5), gpu) == 5
    assert rows_per_pass(answers, maker, rows[:20], Config(), gpu) == 8
    assert rows_per_pass(answers, maker, rows, Config(), base.plan) == 8
