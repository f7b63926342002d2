"""Checks everything that can be known before hours of training are spent (`mcvqa check`). It changes nothing."""
import contextlib
import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mcvqa.base.budget import Work, spell_duration
from mcvqa.base.files import DamagedFile, existing_folder
from mcvqa.base.informing import counted, one_line
from mcvqa.base.versions import version_notes
from mcvqa.config import EXPERTS, Config, ConfigError, McvqaError
from mcvqa.data.answers import ANSWER_STYLES
from mcvqa.data.folds import FoldError
from mcvqa.data.language import with_prompt
from mcvqa.data.meta_choices import fixed_positions
from mcvqa.data.questions import Problem
from mcvqa.model.adapters import vision_is_frozen
from mcvqa.model.content import local_folder, require_model_folder
from mcvqa.model.coverage import adapter_coverage
from mcvqa.model.device import GIB, DeviceError, DevicePlan, plan_device
from mcvqa.model.download import planned_download
from mcvqa.model.families.family import FamilyError, feature_width, image_tokens
from mcvqa.model.family_choice import path_note
from mcvqa.model.load import load_encoder
from mcvqa.model.memory import MARGIN, less_memory, settings_plan
from mcvqa.model.placement import place_model
from mcvqa.model.plain import PlainEncoder, PlainMaker
from mcvqa.model.rows import Maker, RowMaker, training_orders
from mcvqa.model.size import ModelSize, measure_model
from mcvqa.model.source import ModelError, read_model_config, require_whole_model, weights_are_here, without_hub
from mcvqa.model.start import require_start_fits
from mcvqa.model.text.encode import Encoder
from mcvqa.model.text.template import AlignmentError
from mcvqa.run.alignment import check_alignment, maker_without_weights, print_line, print_section
from mcvqa.run.beginning import print_beside, prints_of_base, why_not_measured
from mcvqa.run.dataset import RunData, read_data, require_photographs
from mcvqa.run.division import dividing_processes, too_small_to_divide
from mcvqa.run.folds import fold_summary, split_rows
from mcvqa.run.lengths import kept_values, length_problems, memory_of, trains_in_blocks
from mcvqa.run.paths import RunPaths
from mcvqa.run.project import Project, RunStopped, open_project, with_kept_prompt
from mcvqa.run.results import require_members, require_members_fit
from mcvqa.run.space import disk_need, free_space
from mcvqa.run.start import start_folder
from mcvqa.run.takeover import output_with
from mcvqa.run.workers.processes import worker_gpus
from mcvqa.scoring.orders import tta_plan

SHOWN_PROBLEMS = 10  # photographs
SAMPLED_ROWS = 200


def check_run(config: Config) -> bool:
    """Print the pre-flight of a run.

    Returns:
        Whether the run can start.
    """
    config = with_kept_prompt(config)
    with tempfile.TemporaryDirectory() as scratch:
        project = open_project(config.replace(output_dir=scratch))
        data = read_data(project)
        ready = _check_data(project, data) & _check_other_runs(project, config, data)
        config, why = with_prompt(config, data.train)
        print_line(True, f"instruction of the prompt: {why}")
        project = replace(project, config=config.replace(output_dir=scratch))
        undecided = plan_device(config)
        whole, model = _check_model(project.config, undecided)
        if model is None:
            _check_without_model(config, undecided, data)
            print("\nnot ready: see the lines marked with !")
            return False
        ready &= whole
        ready &= _check_start(project, data, model.loaded[-1])
        print_section("device")
        print("\n".join(f"  {note}" for note in [*model.plan.reasons, *version_notes()]))
        maker = maker_without_weights(config, data, *model.loaded)
        check_alignment(maker, model.loaded[0], data.train[int(data.with_image.argmax())])
        tokens = _check_rows(maker, data, config)
        refused, said = length_problems(maker, config, data, model.plan, model.loaded[-1], model.size)
        for problem in filter(None, (refused, said)):
            print_line(False, problem)
        ready &= not refused
        ready &= _check_resources(config, model, maker, data, tokens)
    marked = bool(said or data.doubts or data.broken([*data.train, *data.test]))
    verdict = "ready; check the lines marked with ! first" if marked else "ready: no problems found"
    print("\n" + (verdict if ready else "not ready: see the lines marked with !"))
    return ready


# %% data
def _check_other_runs(project: Project, config: Config, data: RunData) -> bool:
    """Check that `resume_from` has the run, and that all members of the ensemble exist and answer the same test rows."""
    written_to = replace(project, config=config, paths=RunPaths(Path(config.output_dir), config.run))
    try:
        if config.resume_from and not written_to.paths.checkpoints.exists():
            output_with(config.run, Path(config.resume_from))
        require_members(written_to)
        require_members_fit(written_to, data)
    except McvqaError as error:
        print_line(False, str(error))
        return False
    return True


def _check_data(project: Project, data: RunData) -> bool:
    print_section("data")
    files, tables = data.files, data.tables
    paths = [files.train, *([files.dev] if project.config.use_dev and files.dev else []), *([files.test] if files.test else [])]
    for path, table in zip(paths, tables, strict=True):
        delimiter = f", delimiter {table.delimiter!r}" if table.delimiter else ""
        columns = ", ".join(f"{part}={name}" for part, name in table.columns.items())
        print_line(True, f"{path}: {counted(len(table.questions), 'row')}, {table.read_as}{delimiter}; {columns}")
    if fixed := [(q, at[0]) for q in (*data.train, *data.test) if (at := fixed_positions(q.choices))]:
        question, position = fixed[0]
        rows = counted(len(fixed), "row has", "rows have")
        print_line(True, f"{rows} choices that refer to other choices and keep their position in every order, "
                   f"first in {question.id!r}: {question.choices[position]!r}")
    for note in data.notes:
        print_line(True, note)
    for doubt in data.doubts:
        print_line(False, f"{doubt}. If they are valid answers, set answer_style={'|'.join(ANSWER_STYLES[1:])}")
    for line in _lines_of_problems(data):
        print_line(True, line)
    broken = data.broken([*data.train, *data.test])
    print_line(not broken, f"photographs: {len(data.records):,}, of which {len(broken):,} cannot be read")
    for record in broken[:SHOWN_PROBLEMS]:
        print_line(False, f"{one_line(record.written)}: {record.problem}")
    if len(broken) > SHOWN_PROBLEMS:
        print_line(False, f"and {len(broken) - SHOWN_PROBLEMS:,} more")
    try:
        require_photographs(project, data)
        print(fold_summary(split_rows(data, project.config), project.config.n_folds))
    except (RunStopped, FoldError, ConfigError) as error:
        print_line(False, str(error).splitlines()[0])
        return False
    return True


def _lines_of_problems(data: RunData) -> list[str]:
    """Make one line per kind of odd cell: the first one, and the number of others."""
    kinds: dict[tuple[str, str, str], list[Problem]] = {}
    for problem in data.problems:
        if not problem.of_answer:
            kinds.setdefault((problem.file, problem.field, problem.message.partition(":")[0]), []).append(problem)
    return [
        str(first) + (f"; {len(more):,} more of this kind (mcvqa eda lists them all)" if more else "")
        for first, *more in kinds.values()
    ]


# %% model
@dataclass(frozen=True)
class WeightlessModel:
    """Holds what is known about a model without its weights.

    Attributes:
        loaded: result of `load_encoder`.
        plan: with the choice of weights made.
    """

    loaded: tuple[Encoder | PlainEncoder, Any, Any]
    size: ModelSize
    plan: DevicePlan


def _check_model(config: Config, plan: DevicePlan) -> tuple[bool, WeightlessModel | None]:
    """Check that the model is complete; also return what is known about it, if that could be loaded."""
    print_section(f"model {config.model_id}")
    try:
        require_model_folder(config)
        offline = without_hub(config)
        download = _check_download(offline)
        loaded = load_encoder(offline)
        size = measure_model(loaded[-1], offline)
        model = WeightlessModel(loaded, size, place_model(offline, plan, loaded[-1], size))
    except (ModelError, AlignmentError, FamilyError, DeviceError) as error:
        print_line(False, str(error).replace("\n", "\n    "))
        return False, None
    if offline is not config:
        print_line(True, f"the hub cannot be reached; checked the cached copy in {offline.model_id}")
    fast = "fast path: image features are computed once, option orders share a prompt"
    print_line(True, path_note(loaded[-1], offline) or fast)
    try:
        require_whole_model(offline, loaded[-1])
    except ModelError as error:
        print_line(False, str(error).replace("\n", "\n    "))
        return False, model
    if weights_are_here(offline):
        print_line(True, "the weights are complete and match the configuration (names and shapes; values are not read)")
    else:
        print_line(True, "the weights are not downloaded yet; the run downloads them when it starts")
    return download, model


def _check_download(config: Config) -> bool:
    """Check that there is enough space for the download; True for a folder, and if the hub cannot be reached."""
    if config.model_id == "tiny" or Path(config.model_id).is_dir():
        return True
    planned = planned_download(config)
    if planned.size:
        print_line(planned.fits, str(planned))
    return planned.fits


def _check_without_model(config: Config, plan: DevicePlan, data: RunData) -> None:
    """Print what is known about device and disk, and the model's sizes if its configuration is in the cache."""
    print_section("device")
    print("\n".join(f"  {reason}" for reason in plan.reasons))
    print_section("memory, disk, time")
    folder = local_folder(config)
    if folder:
        with contextlib.suppress(ModelError):
            known = config.replace(model_id=str(folder))
            _check_disk(known, measure_model(read_model_config(known), known), plan, data)
            return
    free = free_space(Path(config.output_dir) / "checkpoints")
    print_line(True, f"disk: {free / GIB:.1f} GiB free")
    _check_writable(config)
    print_line(True, "memory, disk and time cannot be estimated without the model's config.json")


def _check_start(project: Project, data: RunData, model_config: Any) -> bool:
    """Check that folds can start from the adapters in the settings; print what is not measured then."""
    config, folders = project.config, {}
    try:
        prints = prints_of_base(config)
        if not prints and not config.start_from:
            return True
        print_section("start")
        data = split_rows(data, config)
        if config.start_from:
            folders = {fold: start_folder(config, fold) for fold in config.folds_to_train}
        for folder in dict.fromkeys(folders.values()):
            require_start_fits(folder, config, model_config)
        for fold in config.folds_to_train:
            before = [*prints, *([print_beside(folders[fold])] if fold in folders else [])]
            reason, begins = why_not_measured(before, data, fold), folders.get(fold, config.model_id)
            print_line(not reason, f"fold {fold} starts from {begins}{f'; not measured: {reason}' if reason else ''}")
    except (ConfigError, ModelError, FoldError, DamagedFile) as error:
        print_line(False, str(error))
        return False
    return True


# %% rows
def _check_rows(maker: Maker, data: RunData, config: Config) -> np.ndarray:
    """Count the tokens of a sample of the training rows, (rows,)."""
    print_section("rows")
    chosen = np.random.default_rng(config.seed).permutation(len(data.train))[:SAMPLED_ROWS]
    start = time.monotonic()
    rows = [data.train[i] for i in chosen]
    orders = [training_orders(q.choices, config, np.random.default_rng(0)) for q in rows]
    tokens = np.array([maker.tokens(maker.row(q, o)) for q, o in zip(rows, orders, strict=True)])
    rate = len(chosen) / (time.monotonic() - start)
    usable = int(data.with_image.sum())
    left_out = f" ({len(data.train) - usable} left out, their photographs cannot be read)" if usable < len(data.train) else ""
    print_line(True, f"{counted(usable, 'training row')}{left_out}, {counted(len(data.test), 'test row')}")
    seen = counted(len(tokens), "row")
    print_line(True, f"tokens per row: mean {tokens.mean():.0f}, longest {tokens.max()} (sample of {seen})")
    print_line(True, f"encoding: {rate:.0f} rows/s in one process")
    return tokens


# %% memory, disk, time
def _check_resources(
    config: Config, model: WeightlessModel, maker: PlainMaker | RowMaker, data: RunData, tokens: np.ndarray
) -> bool:
    print_section("memory, disk, time (estimates)")
    plan, size, model_config = model.plan, model.size, model.loaded[-1]
    if config.lora_r > 0:
        print_line(True, str(adapter_coverage(model_config, config)))
    print_line(True, f"parameters: {size.language_linears + size.experts + size.rest:,}, trained {size.trained:,}")
    if size.experts:
        bits = 4 if plan.four_bit else 8 * plan.dtype.itemsize
        adapted = "" if EXPERTS in config.target_modules else " and without adapters"
        print_line(True, f"experts: {size.experts:,} of them, in {bits} bits{adapted}")
    rows = settings_plan(config, plan).rows
    activations = rows * int(tokens.max()) * kept_values(maker, config, plan, model_config) * plan.dtype.itemsize
    fits = check_memory(config, plan, size, activations)
    features, patches, anew = 0, 0, 0.0
    again = (AGAIN_IN_BLOCKS if trains_in_blocks(maker, config) else 1.0) * settings_plan(config, plan).checkpointing
    if isinstance(maker, RowMaker):
        images = maker.images
        grids = [images.grid(image) for image in dict.fromkeys(q.image for q in (*data.train, *data.test))]
        per_image = [image_tokens(grid, images.merge) for grid in grids if grid]
        of_row = float(np.mean(per_image or [0])) * images.merge**2
        if vision_is_frozen(config):
            tokens_seen = int(sum(per_image) * sum(s * s for s in {1.0, *tta_plan(config)[1]}))
            features, patches = tokens_seen * feature_width(model_config) * plan.dtype.itemsize, tokens_seen * images.merge**2
            anew = of_row if config.image_augmentation else 0.0
        else:  # there is no store: features are computed in every step, and gradients too
            anew = (3 + again) * of_row
    on_disk = _check_disk(config, size, plan, data, features)
    step = _estimate_time(config, plan, size, tokens, data, patches, again, anew)
    layers = model_config.get_text_config().num_hidden_layers
    if small := too_small_to_divide(config, plan, dividing_processes(config, plan), step, layers):
        print_line(True, small)
    if isinstance(maker, PlainMaker):
        print_line(True, f"the vision tower of {model_config.model_type} runs for every prompt, which this estimate "
                   "does not include")
    return fits and on_disk


def check_memory(config: Config, plan: DevicePlan, size: ModelSize, activations: int) -> bool:
    """Estimate whether a step fits into memory, and print what to do if it does not.

    Args:
        config: all settings.
        plan: device and precision.
        size: size of the model.
        activations: bytes of a step's activations.
    """
    weights, there = size.weight_bytes(plan), memory_of(plan)
    needed, usable = weights + size.training_bytes + activations, there * (MARGIN if plan.memory else 1)
    print_line(needed < usable, f"memory: {needed / GIB:.1f} of {there / GIB:.1f} GiB (weights {weights / GIB:.1f}, "
               f"training state {size.training_bytes / GIB:.1f}, activations {activations / GIB:.1f}: "
               f"{settings_plan(config, plan)}{'; training tests whether more fits' if plan.memory else ''})")
    if needed >= usable:
        larger = f"a GPU with {needed / MARGIN / GIB:.0f} GiB" if plan.memory else f"{needed / GIB:.0f} GiB of memory"
        several = " or several smaller ones (gpus_per_model)" if plan.memory and not plan.stages else ""
        print_line(False, f"it does not fit: it needs {larger} or more{several}. {less_memory(config, four_bit=plan.four_bit)} "
                   "mcvqa models lists what fits here.")
    return needed < usable


def _check_disk(config: Config, size: ModelSize, plan: DevicePlan, data: RunData, features: int = 0) -> bool:
    """Check that the disk has space for the run's files.

    Args:
        features: bytes of the image features, which may be omitted.
    """
    at_once = len(worker_gpus(config, plan.device, len(plan.limits)))
    models = (len(config.folds_to_train) + config.final_fit) * config.n_seeds
    need = disk_need(config, size.trained, data, models, at_once)
    free = free_space(Path(config.output_dir) / "checkpoints")
    enough = need.total <= free
    print_line(enough, f"disk: {need.total / GIB:.2f} of {free / GIB:.1f} GiB free ({need})")
    if features and enough:
        kept = need.total + features <= free
        unfit = "" if kept else " do not fit as well: recomputed in every step"
        print_line(kept, f"disk: image features {features / GIB:.2f} GiB{unfit}")
    return _check_writable(config) and enough


def _check_writable(config: Config) -> bool:
    writable = os.access(existing_folder(Path(config.output_dir)), os.W_OK)
    if not writable:
        print_line(False, f"output_dir={config.output_dir!r} is not writable: choose another folder (--set output_dir=FOLDER)")
    return writable


@dataclass(frozen=True)
class TimeEstimate:
    """Holds the estimated seconds of the parts of a run, and of one of its optimizer steps."""

    step: float
    steps: int
    features: float
    training: float
    scoring: float


AGAIN_IN_BLOCKS = 0.65  # of the products of a layer, those in front of attention's and the MLP's middle: see model/block.py


def estimate_time(
    config: Config, size: ModelSize, tokens: float, patches: int, train_rows: int, test_rows: int, rate: float,
    again: float, anew: float = 0.0,
) -> TimeEstimate:
    """Estimate seconds from the number of multiplications and additions alone; kernels of small models are slower.

    Args:
        config: all settings.
        size: size of the model.
        tokens: mean tokens per row.
        patches: patches of all images at all scales that are encoded once.
        train_rows, test_rows: numbers of rows.
        rate: FLOP/s that the device sustains.
        again: share of a forward pass that checkpointing recomputes.
        anew: patches per training row that pass through the vision tower in each step; a backward pass counts as two.
    """
    forward = 2 * (size.language_linears + size.routed * size.experts) * tokens  # of a row
    passes = 2 if config.lora_r else 3  # adapters: no gradient for the frozen weights
    step = config.effective_batch * (forward * (passes + again) + 2 * size.vision * anew) / rate
    folds, finals = len(config.folds_to_train) * config.n_seeds, config.final_fit * config.n_seeds
    of_fold, of_final = (int(np.ceil(share * train_rows / config.effective_batch)) for share in (1 - 1 / config.n_folds, 1))
    steps = (of_fold * folds + of_final * finals) * config.num_epochs
    validated = train_rows * folds / config.n_folds
    validations = config.num_epochs + config.use_ema + config.use_swa  # of every kind of weights at the end
    row_cost = Work(folds, config.num_epochs, *tta_plan(config)).row_cost
    scored = validated * (validations + row_cost) + (folds + finals) * test_rows * row_cost
    return TimeEstimate(step, steps, 2 * size.vision * patches / rate, steps * step, scored * forward / rate)


def _estimate_time(
    config: Config, plan: DevicePlan, size: ModelSize, tokens: np.ndarray, data: RunData, patches: int, again: float, anew: float
) -> float:
    """Print how long the run takes, and return the seconds of one of its optimizer steps."""
    rate = _matrix_rate(plan) * _stages_at_work(config, plan)
    estimate = estimate_time(
        config, size, float(tokens.mean()), patches, len(data.train), len(data.test), 0.5 * rate, again, anew
    )
    print_line(True, f"time: {estimate.step:.2f} s per step of {config.effective_batch} rows, {estimate.steps} steps; "
               f"image features {spell_duration(estimate.features)}, training {spell_duration(estimate.training)}, "
               f"scoring {spell_duration(estimate.scoring)}, at half of {rate / 1e12:.2f} TFLOP/s")
    if estimate.features + estimate.training + estimate.scoring > config.budget_seconds:
        print_line(True, f"time_budget={config.time_budget} is shorter: the run will leave out the least useful parts "
                   "and report them")
    return estimate.step


def _stages_at_work(config: Config, plan: DevicePlan) -> float:
    """Compute how many GPUs of a divided model work at once, averaged over a step: some are idle at its beginning and end."""
    stages = len(plan.limits)
    return stages * config.effective_batch / (config.effective_batch + stages - 1)


def _matrix_rate(plan: DevicePlan) -> float:
    """Measure the FLOP/s of a large matrix product on this device."""
    n, times = (4096, 8) if plan.device == "cuda" else (1024, 4)
    a = torch.ones(n, n, dtype=plan.dtype, device=plan.device)
    float((a @ a)[0, 0])  # warm-up; reading a value waits for the device
    start = time.perf_counter()
    for _ in range(times):
        product = a @ a
    float(product[0, 0])
    return times * 2 * n**3 / (time.perf_counter() - start)
