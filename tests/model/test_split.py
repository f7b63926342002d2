"""A model over several devices: the same losses, gradients and answers, and layers where there is room for them.

Stages do not know what a device is; here all of them lie on the CPU.
"""
import dataclasses
import functools
import itertools

import numpy as np
import pytest
import torch
from accelerate.utils import check_device_map
from peft import LoraConfig, get_peft_model

from mcvqa.config import Config
from mcvqa.model import load, split, split_recorded
from mcvqa.model.device import GIB, DeviceError, DevicePlan
from mcvqa.model.families.registry import FAMILIES
from mcvqa.model.fast.forward import AnswerModel, collate, letter_logprobs
from mcvqa.model.halving import HalvingReader
from mcvqa.model.memory import Trial
from mcvqa.model.placement import Stage, Weights, divide
from mcvqa.model.rows import read_rows
from mcvqa.model.source import ModelError, empty_model
from mcvqa.model.split import SplitAnswerModel
from mcvqa.model.vision.tower import tower_features
from mcvqa.training.step import weighted_loss
from tests.model.model_sizes import SIZES
from tests.model.small import GRIDS, IMAGE, ROWS, batch_of, small_model, small_pictures

PLAN = DevicePlan("cpu", torch.float32, 0, False, False, 0, ())
T4 = DevicePlan("cuda", torch.float16, 15 * GIB, True, True, 0, ())


def over(*ends: int, plan: DevicePlan = PLAN) -> DevicePlan:
    """Layers up to each of `ends`, on the CPU all."""
    return dataclasses.replace(plan, stages=tuple(
        Stage("cpu", range(start, end), 0, 0) for start, end in itertools.pairwise((0, *ends))))


@pytest.fixture
def one_thread():
    """Sums over several threads differ in the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained(name: str, ends: tuple[int, ...], *, rounded: bool = False, recorded: bool = False):
    """Losses, gradients of each step, and logits after them; over stages up to `ends`, or whole."""
    model, family = small_model(name).requires_grad_(False), FAMILIES[name]
    torch.manual_seed(3)
    adapted = get_peft_model(model, LoraConfig(
        r=4, lora_dropout=0.2, target_modules=family.adapter_pattern(("all-linear",)), init_lora_weights=False))
    answers = SplitAnswerModel(adapted, family, IMAGE, over(*ends)) if ends else AnswerModel(adapted, family, IMAGE)
    pictures = small_pictures(model)
    if rounded:  # recordings take image features only
        tower = model.get_submodule(family.vision)
        features = {name: tower_features(tower, patches, (GRIDS[name],)) for name, patches in pictures.items()}
        batches = [
            collate(ROWS[i : i + 2], lambda row: features[row.image], IMAGE, recurrent=family.recurrent).rounded()
            for i in (0, 2, 4, 0)
        ]
    else:
        batches = [batch_of(ROWS[i : i + 2], pictures, family.recurrent) for i in (0, 2, 4, 0)]
    parameters = [p for p in adapted.parameters() if p.requires_grad]
    optimizer, losses, gradients = torch.optim.AdamW(parameters, lr=1e-2), [], []
    torch.manual_seed(7)
    answers.train()
    for _ in range(3):
        weighted = [(batch, 1 / 8) for batch in batches]
        if ends:
            loss_of = functools.partial(weighted_loss, config=Config())
            loss = answers.gradients(loss_of, lambda loss: 1024 * loss, weighted, recorded=recorded)
        else:
            loss = torch.zeros(())
            for batch, weight in weighted:
                part = weighted_loss(answers, Config(), batch, weight)
                (1024 * part).backward()
                loss += part.detach()
        losses.append(loss.item())
        gradients += [p.grad.clone() for p in parameters]
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        return losses, gradients, answers.eval()(batches[0])


@pytest.mark.parametrize(("name", "ends"), [
    ("qwen2_5_vl", (2, 3)), ("qwen3_vl", (1, 3)), ("qwen3_vl", (1, 2, 3)), ("qwen3_5", (1, 3)), ("qwen3_5", (2, 3)),
    pytest.param("qwen2_vl", (1, 2, 3), marks=pytest.mark.nightly), pytest.param("qwen3_5", (1, 2, 3), marks=pytest.mark.nightly),
])
def test_a_divided_model_learns_bit_for_bit_as_a_whole_one(one_thread, name, ends):
    """Dropout, deepstack over the boundary, a recurrent family's state, scaled losses, several micro-batches."""
    (losses, gradients, logits), (whole_losses, whole_gradients, whole_logits) = trained(name, ends), trained(name, ())
    assert losses == whole_losses and losses[0] != losses[1]
    assert all(torch.equal(*pair) for pair in zip(gradients, whole_gradients, strict=True))
    assert any(gradient.any() for gradient in gradients) and torch.equal(logits, whole_logits)


@pytest.fixture
def replays(monkeypatch) -> list[str]:
    """Imitates CUDA graphs on the CPU: passes are computed again from what stands in their own tensors; lists each replay."""
    replayed: list[str] = []

    def imitated(work, pool, stream):
        return lambda: (replayed.append(work.__name__), work())

    monkeypatch.setattr(split_recorded, "capture", imitated)
    return replayed


@pytest.mark.parametrize(("name", "ends"), [("qwen2_5_vl", (2, 3)), ("qwen3_vl", (1, 2, 3)), ("qwen3_5", (1, 3))])
def test_recorded_stages_learn_bit_for_bit_as_computed_ones(one_thread, replays, name, ends):
    """Shapes that recur and new ones, larger than those before; two micro-batches at a time in a stage."""
    recorded, whole = trained(name, ends, rounded=True, recorded=True), trained(name, (), rounded=True)
    assert recorded[0] == whole[0] and torch.equal(recorded[2], whole[2])
    assert all(torch.equal(*pair) for pair in zip(recorded[1], whole[1], strict=True))
    passes = 2 * 4 * len(ends)  # of three steps of four micro-batches; the first step is not recorded
    assert replays.count("forward") == replays.count("backward") == passes


def test_a_stage_that_cannot_be_recorded_is_computed(one_thread, monkeypatch, capsys):
    def refused(work, pool, stream):
        raise RuntimeError("an old driver")

    monkeypatch.setattr(split_recorded, "capture", refused)
    recorded, whole = trained("qwen2_5_vl", (1, 3), rounded=True, recorded=True), trained("qwen2_5_vl", (), rounded=True)
    assert recorded[0] == whole[0] and capsys.readouterr().out.count("CUDA graphs are not used: an old driver") == 1


def divided_small(ends: tuple[int, ...]) -> SplitAnswerModel:
    model, family = small_model("qwen2_vl").requires_grad_(False), FAMILIES["qwen2_vl"]
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=family.adapter_pattern(("q_proj",))))
    return SplitAnswerModel(adapted, family, IMAGE, over(*ends)).train()


def test_a_stage_holds_few_micro_batches_and_alternates(monkeypatch):
    answers, seen = divided_small((1, 2, 3)), []
    run, backward = SplitAnswerModel.run_stage, split.Pipeline._backward
    monkeypatch.setattr(SplitAnswerModel, "run_stage", lambda self, stage, passing: (
        seen.append((stage, "F")), run(self, stage, passing))[1])
    monkeypatch.setattr(split.Pipeline, "_backward", lambda self, stage: (seen.append((stage, "B")), backward(self, stage))[1])
    batch = batch_of(ROWS[:1], small_pictures(answers.model.get_base_model()))
    answers.gradients(lambda answers, batch, weight: answers(batch).sum() * weight, lambda loss: loss, [(batch, 1.0)] * 5)
    orders = ["".join(kind for at, kind in seen if at == stage) for stage in range(3)]
    assert orders == ["FFFBFBFBBB", "FFBFBFBFBB", "FBFBFBFBFB"]


def test_no_micro_batch_is_no_loss():
    assert divided_small((1, 3)).gradients(None, lambda loss: loss, []).item() == 0


# %% scoring
def test_rows_are_scored_alike_in_whatever_batches(base, maker, questions, one_thread):
    rows = [maker.row(questions[i % len(questions)]) for i in range(11)]
    divided = dataclasses.replace(base, plan=over(3, 8, plan=base.plan))
    answers = divided.answers(base.model)
    assert isinstance(answers, SplitAnswerModel)
    found = read_rows(answers, maker, rows, 3, divided.plan)
    wanted = read_rows(base.answers(base.model), maker, rows, 3, base.plan)
    assert len(found) == len(wanted) == 11
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_batches_that_do_not_fit_are_read_in_halves_and_overflow_is_mended(monkeypatch):
    answers, pictures = divided_small((1, 3)), small_pictures(small_model("qwen2_vl"))
    halving = HalvingReader(answers, [], "cpu", 4)
    alone = []
    monkeypatch.setattr(HalvingReader, "read", lambda self, key, batch: alone.append(key) or [np.zeros((1, 1))] * len(key))
    logits, results = SplitAnswerModel.logits, iter(["fits", "full", "fits", "overflows"])

    def limited(self, batch):
        result = next(results)
        if result == "full":
            raise torch.cuda.OutOfMemoryError
        return logits(self, batch) * (float("nan") if result == "overflows" else 1)

    monkeypatch.setattr(SplitAnswerModel, "logits", limited)
    keys = [(0, 1), (2, 3), (4,), (5,), (0, 1, 2, 3, 4)]
    batches = [batch_of([ROWS[i] for i in key], pictures) for key in keys]
    found = [*answers.read_ahead(keys, batches, halving)]
    assert alone == [(2, 3), (5,), (0, 1, 2, 3, 4)] and [*map(len, found)] == [2, 2, 1, 1, 5]
    with torch.no_grad():
        wanted = letter_logprobs(logits(answers.eval(), batches[2]), batches[2].letters)
    np.testing.assert_array_equal(found[2][0], wanted[0, : len(found[2][0])].numpy())


# %% the micro-batch
def test_the_time_of_a_step_counts_the_stages_that_wait(monkeypatch):
    answers, batch = divided_small((1, 3)), batch_of(ROWS[:1], small_pictures(small_model("qwen2_vl")))
    passes = []

    def measure(rows, checkpointing, run, kept, limits, recorded):
        run()
        return Trial(rows, checkpointing, 5.0, GIB)

    monkeypatch.setattr(split, "measure_pass", measure)
    trial = answers.try_passes(lambda batches: passes.append(len(batches)) or [], batch, 4, True, 40, 8)
    assert passes == [4] and trial.seconds == pytest.approx(5.0 * (11 / 5) * 4 / 40)  # 4 passes took 5 s, with one of waiting
    assert trial.rate == pytest.approx(40 / 11), "ten passes take eleven times as long as one, not ten times"
    answers.try_passes(lambda batches: passes.append(len(batches)) or [], batch, 40, True, 40, 8)
    assert passes == [4, 1]


@pytest.mark.parametrize(("setting", "best"), [("auto", (8, False)), ("always", (8, True)), ("never", (8, False))])
def test_neither_the_largest_nor_the_smallest_pass_is_fastest(setting, best):
    tried = []

    def measure(rows, checkpointing):
        tried.append((rows, checkpointing))
        seconds = (0.1 * rows + 0.5) * (64 / rows + 1) * rows / 64 * (1.3 if checkpointing else 1.0)
        return Trial(rows, checkpointing, seconds, GIB) if rows <= (32 if checkpointing else 16) else None

    found = SplitAnswerModel.fastest_fitting([64, 32, 22, 16, 13, 11, 10, 8, 7, 6, 5, 4, 3, 2, 1], setting, measure)
    rates = {trial.rows: trial.rate for trial in found}
    assert (found[0].rows, found[0].checkpointing) == best or found[0].rate >= 0.97 * max(rates.values())
    assert {way for _, way in tried} == {"auto": {False, True}, "always": {True}, "never": {False}}[setting]
    assert len(tried) < 15 and found[0].rate == max(trial.rate for trial in found)


# %% where the layers go
def test_layers_are_equal_where_memory_allows_and_else_as_memory_has_it():
    weights = Weights([GIB // 4] * 64, 3 * GIB // 2, 3 * GIB // 2, GIB)
    assert divide(weights, [24 * GIB] * 2) == [range(32), range(32, 64)]
    assert divide(weights, [24 * GIB] * 3) == [range(21), range(21, 42), range(42, 64)], "the last one holds fewest activations"
    uneven = divide(weights, [13 * GIB, 24 * GIB])
    assert len(uneven[0]) == 29 and uneven[1] == range(29, 64)
    assert divide(weights, [8 * GIB] * 2) is None and divide(weights, [24 * GIB, 3 * GIB]) is None
    assert divide(weights, [23 * GIB]) is None and divide(weights, [24 * GIB]) == [range(64)]


@pytest.fixture
def gpus(monkeypatch):
    """gpus(14.5, 15): two GPUs with so many GiB free."""
    monkeypatch.delenv("LOCAL_RANK", raising=False)

    def make(*free: float) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(free))
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda gpu: (int(free[gpu] * GIB), 15 * GIB))

    return make


def placed(name: str, plan: DevicePlan = T4, **settings) -> DevicePlan:
    return load.place_model(Config(model_id=name, **settings), plan, SIZES[name]())


LARGE = "Qwen/Qwen3-VL-32B-Instruct"


def test_32_billion_weights_in_4_bits_share_two_t4(gpus):
    gpus(15, 15)
    plan = placed(LARGE)
    assert [stage.layers for stage in plan.stages] == [range(32), range(32, 64)]
    assert plan.limits == {"cuda:0": 15 * GIB, "cuda:1": 15 * GIB}
    assert plan.reasons[-2:] == (
        "GPU 0: layers 0 to 31, the embedding and the vision tower: 10.2 of 15.0 GiB",
        "GPU 1: layers 32 to 63, the head: 10.2 of 15.0 GiB",
    )
    model = empty_model(SIZES[LARGE]())
    check_device_map(model, plan.device_map)  # every tensor has a place
    assert set(plan.device_map.values()) == {"cuda:0", "cuda:1"} and plan.device_map["lm_head"] == "cuda:1"
    assert plan.device_map["model.visual"] == plan.device_map["model.language_model.embed_tokens"] == "cuda:0"
    assert plan.device_map["model.language_model.layers.31"] == "cuda:0"
    assert plan.device_map["model.language_model.norm"] == "cuda:1"
    assert load.place_model(Config(model_id=LARGE), plan, SIZES[LARGE]()) is plan, "decided once"


def test_auto_divides_what_one_gpu_does_not_hold_and_nothing_else(gpus):
    small = "Qwen/Qwen3-VL-4B-Instruct"
    gpus(15, 15)
    assert not placed(small).stages and len(placed(small, gpus_per_model="2").stages) == 2
    assert not placed(LARGE, dataclasses.replace(T4, memory=40 * GIB)).stages
    tied = placed(small, gpus_per_model="2").device_map
    assert tied["lm_head"] == "cuda:0", "it is the embedding"
    gpus(15)
    assert not placed(LARGE).stages, "as before: loading tells"


def test_full_weights_are_chosen_where_all_gpus_together_hold_them(gpus):
    gpus(15, 15)
    undecided = dataclasses.replace(T4, four_bit=None)
    assert placed("Qwen/Qwen3-VL-8B-Instruct", undecided).four_bit is True
    assert placed("Qwen/Qwen3-VL-8B-Instruct", undecided, gpus_per_model="2").four_bit is False


def test_what_cannot_be_divided_is_told_with_figures(gpus, monkeypatch):
    gpus(10, 10)
    with pytest.raises(DeviceError, match=r"weights and the training state of its adapters take 20\.5 GiB.* 10\.0 \+ 10\.0 GiB"):
        placed(LARGE)
    with pytest.raises(DeviceError, match="gpus_per_model=3: a process finds 2 GPUs here"):
        placed(LARGE, gpus_per_model="3")
    with pytest.raises(ModelError, match="use_dora=true has no fast path"):
        placed(LARGE, use_dora=True, gpus_per_model="2")
    with pytest.raises(ModelError, match="type qwen3_vl_moe has no fast path"):
        placed("Qwen/Qwen3-VL-30B-A3B-Instruct", gpus_per_model="2")
    with pytest.raises(DeviceError, match="across NVIDIA GPUs, but this run computes on cpu"):
        placed(LARGE, PLAN, gpus_per_model="2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(DeviceError, match="gpus_per_model=2 cannot be combined with torchrun"):
        placed(LARGE, gpus_per_model="2")
