"""One optimizer step: what processes exchange, and what is averaged."""
import time

import pytest
import torch

from mcvqa.training import evaluate
from mcvqa.training.job import StepPlan
from tests.model.test_distributed import side_by_side


def batches_of(fold, rows=(0, 1)):
    return [(fold.maker.batch([fold.maker.row(fold.train[i]) for i in rows]), True)]


# %% averages
def test_swa_averages_one_window_where_the_plan_shrinks_and_grows(make_trainer):
    """Once it averaged the steps at the end of the short plan together with those at the end of the long one."""
    fold = make_trainer(use_swa=True, use_ema=False)
    stepper, weights = fold.ready, []
    for total in (4, 4, 4, 4, 8, 8, 8, 8):
        stepper.plan.total = total
        assert stepper.step(batches_of(fold), 2).done
        weights.append(fold.weights())
    average = fold.state.averages["swa"]
    assert average.updates == 2
    found = torch.cat([value.flatten() for value in average.values.values()])
    torch.testing.assert_close(found, (weights[6] + weights[7]) / 2)


# %% the plan
class StepBudget:
    """A schedule of so many steps, of which the last number holds.

    Attributes:
        asked: what it was asked.
    """

    def __init__(self, *totals: int, rows: int = 1000) -> None:
        self.totals, self.rows, self.asked, self.learn, self.read = totals, rows, [], 0.0, 0.0

    @property
    def pace(self):
        return self

    def steps_total(self, done: int, per_epoch: int) -> int:
        self.asked.append((done, per_epoch))
        return self.totals[min(len(self.asked), len(self.totals)) - 1]

    def validation_rows(self, available: int) -> int:
        return self.rows


def test_a_fold_of_less_than_an_epoch(make_trainer):
    """Five steps of twelve: the learning rate ends there, and the weights are validated and saved."""
    fold = make_trainer(num_epochs=3, batch_size=2, warmup_ratio=0.2, save_minutes=0.0)
    schedule = StepBudget(5)
    result = fold.change(schedule=schedule).run()
    rates = [event["lr"] for event in fold.log.events("step")]
    assert result.steps == len(rates) == 5 and schedule.asked == [(0, 12)]
    assert rates == [StepPlan.learning_rate(fold.stepper.plan, step, 0) for step in range(5)] and rates[-1] < 0.2 * rates[0]
    assert set(result.variants) == {"raw", "ema"} and all((fold.folder / name).exists() for name in ("best", "last"))
    assert result.best_epoch == 0 and result.right.shape == (1, 8) and schedule.read > 0


def test_the_plan_is_revised_as_steps_are_measured(make_trainer):
    fold = make_trainer(num_epochs=2, batch_size=2)
    schedule = StepBudget(24, 24, 22)
    result = fold.change(schedule=schedule).run()
    assert result.steps == 22 and [done for done, _ in schedule.asked] == [0, 10, 22] and schedule.learn > 0


def test_no_schedule_trains_longer_than_the_settings_ask_for(make_trainer):
    fold = make_trainer(num_epochs=1)
    assert fold.change(schedule=StepBudget(100)).run().steps == 3


def test_a_sample_is_validated_the_same_after_each_epoch_and_after_a_resume(make_trainer):
    fold = make_trainer(num_epochs=2, keep="last")
    every = fold.train
    result = fold.change(validation=every, schedule=StepBudget(6, rows=5)).run()
    assert len(result.validated) == 5 and set(result.validated) < set(every) and result.right.shape == (2, 5)
    answers = [question.answer for question in result.validated]
    for values in result.variants.values():
        assert len(values.logprobs) == 5 == values.accuracy.n
    chosen = result.variants["ema"]
    assert result.right[-1].tolist() == [v.argmax() == a for v, a in zip(chosen.logprobs, answers, strict=True)]
    again = make_trainer(num_epochs=2, keep="last")
    again.change(validation=every, folder=fold.folder, schedule=StepBudget(6, rows=7))
    resumed = again.run()
    assert resumed.validated == result.validated and resumed.right.tolist() == result.right.tolist()


def test_validation_does_not_count_as_training(make_trainer, monkeypatch):
    """On a clock that goes on in validation alone."""
    fold, hour = make_trainer(num_epochs=1), 3600.0
    plain, passed = evaluate.read_rows, [0.0]

    def slow(*given, **named):
        passed[0] += hour
        return plain(*given, **named)

    monkeypatch.setattr(evaluate, "read_rows", slow)
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + passed[0])
    result = fold.run()
    assert result.seconds > hour and result.rows_per_second > 24 / hour


# %% several processes
EXCHANGING = """
import os, torch
from torch import nn
from mcvqa.config import Config
from mcvqa.model.distributed import join_processes
from mcvqa.training.step import Exchange, Requests
rank = int(os.environ["RANK"])
join_processes(Config(device="cpu"))
parameters = [nn.Parameter(torch.zeros(2, 3)), nn.Parameter(torch.zeros(4))]
exchange = Exchange(parameters, 2)
torch.cat = None  # nothing is put together anew: memory could run out
stop = Requests(stop=rank == 0, time_up=rank == 1)
for fits, requests in ((True, Requests()), (rank == 0, Requests(save=rank == 1)), (True, stop)):
    parameters[0].grad, parameters[1].grad = torch.full((2, 3), 1.0 + rank), None if rank else torch.ones(4)
    found = exchange(fits, False, requests, torch.tensor(0.5 + rank))
    print(found.fits, found.failed, *found.requests, found.loss.item(), [p.grad.unique().tolist() for p in parameters])
assert exchange(True, rank == 1, Requests(), torch.zeros(())).failed
"""


@pytest.mark.nightly
def test_all_processes_know_what_each_of_them_met_and_asks_for(tmp_path):
    script = tmp_path / "exchanging.py"
    script.write_text(EXCHANGING, encoding="utf-8")
    ended = side_by_side(str(script))
    said = ("True False False False False False 2.0 [[3.0], [1.0]]\n"
            "False False True False False False 2.0 [[1.0], [1.0]]\n"
            "True False False True True False 2.0 [[3.0], [1.0]]\n")
    assert [(status, out) for status, out, _ in ended] == [(0, said)] * 2, ended
