"""What fits: the search against a simulated memory, and what is done where memory runs out."""
import dataclasses

import pytest
import torch

from mcvqa.config import Config
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
from mcvqa.model.rows import longest_row


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
        "micro-batch 8 of 16 rows without checkpointing: 10.0 GiB at the longest row (412 tokens), 10.0 rows/s; "
        "with checkpointing 16 fit and are 23% slower"
    )


# %% a real pass, with the GPU's counters replaced
@pytest.fixture
def counters(monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 9 * GIB)


def test_a_pass_is_measured_warm_and_against_the_limit(counters):
    runs = []
    trial = measure_pass(4, True, lambda: runs.append(1), GIB, 10 * GIB)
    assert (trial.rows, trial.checkpointing, trial.peak) == (4, True, 10 * GIB) and trial.seconds > 0 and len(runs) == 2
    assert measure_pass(4, True, lambda: None, 2 * GIB, 10 * GIB) is None, "with what the optimizer keeps it is too much"


def test_a_pass_that_runs_out_of_memory_does_not_fit(counters):
    def full() -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    assert measure_pass(4, False, full, 0, 10 * GIB) is None


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
    assert less_memory(Config()).startswith("Use less: --set quantization=4bit, a smaller image_size (now 384), a smaller")
    told = less_memory(Config(train_orders=4, gradient_checkpointing="never"), four_bit=True)
    assert "4bit" not in told and "gradient_checkpointing=auto" in told and "train_orders=1 (now 4)" in told


def test_the_longest_row_is_found(maker, questions, tiny_config):
    assert len(longest_row(maker, questions, tiny_config)) == max(len(maker.row(question)) for question in questions)
    assert longest_row(maker, questions, tiny_config).id == "q3"
