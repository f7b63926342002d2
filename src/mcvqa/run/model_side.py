"""Holds the model of a run in the process that computes: base model, rows and image features, loaded once for all tasks."""
import bisect
import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from torch import nn

from mcvqa.base.informing import counted
from mcvqa.config import Config
from mcvqa.data.images import ImageRecord
from mcvqa.model.adapters import vision_is_frozen
from mcvqa.model.device import DevicePlan
from mcvqa.model.distributed import by_each, by_main, is_main_process, process_share
from mcvqa.model.families.family import feature_width, image_tokens
from mcvqa.model.family_choice import path_note
from mcvqa.model.load import BaseModel, load_base, read_model_config, remove_adapters
from mcvqa.model.memory import MemoryPlan, free_memory
from mcvqa.model.placement import place_model
from mcvqa.model.plain import PlainEncoder, PlainMaker
from mcvqa.model.rows import Maker, RowMaker
from mcvqa.model.text.encode import Encoder
from mcvqa.model.vision.features import FeatureStore
from mcvqa.model.vision.patches import ImageInputs
from mcvqa.run.dataset import RunData
from mcvqa.run.project import Project
from mcvqa.run.space import DiskNeed, free_space
from mcvqa.run.tasks import Task, code_print, notebook_cells
from mcvqa.scoring.orders import tta_plan
from mcvqa.training.checkpoint import adapter_hash, load_trained

CODE_OF_FEATURES = ("data/images", "model/vision", "model/families")  # modules that image features depend on


@dataclass(frozen=True)
class LoadedModel:
    """Holds a loaded model; `store` is None if image features are not kept on disk."""

    base: BaseModel
    maker: Maker
    store: FeatureStore | None


def with_photographs(
    base: BaseModel, records: dict[str, ImageRecord], config: Config, features: Path | None
) -> LoadedModel:
    """Attach photographs to a base model.

    Args:
        base: the base model.
        records: survey of the photographs; may grow later.
        config: all settings.
        features: folder of their features; None: features are recomputed each time.
    """
    if isinstance(base.encoder, PlainEncoder):
        return LoadedModel(base, PlainMaker(base.encoder, records), None)
    images = ImageInputs.of_model(records, base.encoder, base.processor, base.model.config, config.image_size)
    edited = code_print(CODE_OF_FEATURES) if notebook_cells() else ""
    store = FeatureStore(features, base, images, edited) if features else None
    return LoadedModel(base, RowMaker(base.encoder, images, store, base.family.recurrent), store)


@dataclass
class ModelSide:
    """Provides the model to tasks.

    Attributes:
        plan: with the choice between full and 4-bit weights made.
        keep_features: whether image features are computed once and kept on disk.
        memory: the division of a step into passes; found by the first fold, used by the next ones.
        schedule: schedule of a session with a time budget.
        unencoded: photographs without features after the last task that encoded some.
        loaded: None until `load` is called.
    """

    project: Project
    data: RunData
    plan: DevicePlan
    keep_features: bool
    schedule: Any = None
    memory: MemoryPlan = field(default_factory=MemoryPlan)
    unencoded: int = 0
    loaded: LoadedModel | None = None
    _adapters: tuple[str, nn.Module] | None = None
    _known: set[tuple[str, float]] = field(default_factory=set)  # photographs and scales whose features are there

    def load(self) -> LoadedModel:
        """Load the base model, unless it is loaded."""
        if self.loaded is None:
            base = by_each(load_base, self.project.config, self.plan)
            features = self.project.paths.cache / "features" if self.keep_features else None
            self.loaded = with_photographs(base, self.data.records, self.project.config, features)
        return self.loaded

    def unload(self) -> None:
        """Free the memory of the model."""
        self.release()
        self.loaded = None
        gc.collect()
        free_memory()

    # %% weights on top of the base
    def with_weights(self, folder: Path) -> nn.Module:
        """Return the model with the weights of a checkpoint; the last ones stay loaded for the next task."""
        wanted = adapter_hash(folder)
        if self._adapters is None or self._adapters[0] != wanted:
            self.release()
            self._adapters = wanted, load_trained(self.load().base, folder)
        return self._adapters[1]

    def release(self) -> None:
        """Remove the last loaded weights from the base model."""
        if self._adapters is not None:
            model, self._adapters = self._adapters[1], None
            self.free_base(model)

    def free_base(self, model: nn.Module) -> None:
        """Remove adapters from the base model; if its own weights were changed (lora_r=0), it is reloaded when needed."""
        if self.loaded is not None:
            remove_adapters(self.loaded.base, model)
        if self.project.config.lora_r == 0:
            self.loaded = None

    # %% image features
    def without_features(self, images: Sequence[str], scale: float) -> list[str]:
        """List the readable `images` that have no features yet; empty if no features are kept."""
        store = self.load().store
        asked = [image for image in dict.fromkeys(images) if (image, scale) not in self._known]
        if store is None or not asked:
            return []
        missing = by_main(store.missing, asked, scale)
        if not missing:
            self._known.update((image, scale) for image in asked)
        return missing

    def make_features(
        self, images: Sequence[str], scale: float, share: tuple[int, int] | None = None, among: Sequence[str] | None = None
    ) -> None:
        """Compute the features of photographs that have none.

        Args:
            images: the photographs.
            scale: image scale.
            share: (i, n): the i-th of n workers; None: the share of this process among those of a launcher.
            among: photographs from which batches are formed, so that batches do not depend on the request; None: only `images`.
        """
        if not self.without_features(images, scale):
            return
        loaded = self.load()
        store = loaded.store
        assert store is not None
        self.release()
        started = time.monotonic()
        here = by_each(lambda: store.fill(loaded.base, among or images, scale, share=share or process_share(), only=images))
        encoded, overflowed = (sum(gather_object([count])) for count in (here, store.overflowed))
        if not encoded:
            return
        if overflowed:
            print(f"  {overflowed} of {encoded} images overflow float16: their features were computed in float32")
        if is_main_process():
            rate = encoded / max(time.monotonic() - started, 1e-9)
            self.project.log.write(
                "features", scale=scale, images=encoded, images_per_s=round(rate, 1), in_float32=overflowed)
            if self.schedule:
                self.schedule.pace.encode = 1 / (rate * scale * scale)


def plan_weights(project: Project, plan: DevicePlan) -> DevicePlan:
    """Complete the plan with choices that depend on the model: full or 4-bit weights, and the GPUs of its layers."""
    if plan.four_bit is not None and plan.device != "cuda" and project.config.gpus_at_least == 1:
        return plan
    placed = place_model(project.config, plan, read_model_config(project.config))
    for reason in placed.reasons:
        if reason not in plan.reasons:
            print(f"  {reason}")
    return placed


def images_seen(data: RunData) -> list[str]:
    """List the readable photographs of both splits, as written in the CSV files."""
    return list(dict.fromkeys(q.image for q in (*data.train, *data.test) if not data.records[q.image].problem))


@dataclass
class FeaturesAhead:
    """Computes image features as training reaches their rows, if there is no time for all of them.

    Args:
        first_read: photograph -> number of epochs of the fold before it is first read.
    """

    side: ModelSide
    first_read: Mapping[str, float]

    def __post_init__(self) -> None:
        self._update()

    def __call__(self, images: Sequence[str]) -> None:
        """Compute the missing features of `images`, which are about to be read."""
        self.side.make_features(images, 1.0)
        self._update()

    def _update(self) -> None:
        self.left = sorted(self.first_read[image] for image in self.side.without_features([*self.first_read], 1.0))

    def unencoded(self, epochs: float) -> int:
        """Count the photographs still to be encoded for a number of epochs."""
        return bisect.bisect_right(self.left, epochs)


def features_fit(
    project: Project, data: RunData, plan: DevicePlan, need: DiskNeed, loaded: tuple[Encoder | PlainEncoder, Any, Any]
) -> bool:
    """Decide whether to keep image features on disk, and print the decision. Does not load the model.

    They are not kept if the vision tower is trained, or if they do not fit next to files that cannot be recomputed.

    Args:
        project: the run.
        data: its rows.
        plan: device and precision.
        need: space for the other files of the run.
        loaded: result of `load_encoder`.
    """
    config = project.config
    encoder, processor, model_config = loaded
    if note := path_note(model_config, config):
        print(f"  {note}")
    if isinstance(encoder, PlainEncoder):
        return False
    if not vision_is_frozen(config):
        print("  image features are recomputed in every step: the vision tower is trained")
        return False
    images = ImageInputs.of_model(data.records, encoder, processor, model_config, config.image_size)
    width, folder, seen = feature_width(model_config) * plan.dtype.itemsize, project.paths.cache / "features", images_seen(data)
    scales = {1.0, *tta_plan(config)[1]}
    grids = [grid for scale in scales for image in seen if (grid := images.grid(image, scale))]
    size = sum(image_tokens(grid, encoder.merge) for grid in grids) * width
    there = min(size, sum(file.stat().st_size for file in folder.glob("*/*.npy")))  # maybe another model's, made room for in vain
    if size - there > free_space(folder) - need.total:
        print(f"  image features are recomputed in every step: {size / 2**30:.1f} GiB do not fit on the disk")
        return False
    at = f"{len(scales)} scales" if len(scales) > 1 else "one scale"
    print(f"  image features: {counted(len(seen), 'photograph')} at {at}, {size / 2**20:.0f} MiB in {folder}")
    return True


# %% the task
def feature_tasks(scale: float, parts: int, rows: str = "all", sample: int = 0) -> list[Task]:
    """List the tasks that encode images at one scale, divided among workers.

    Nothing is recorded: the features' own keys show which are missing.

    Args:
        scale: image scale.
        parts: number of tasks.
        rows: 'all', 'test', or 'scored': test rows and the validation rows of the folds.
        sample: number of validation rows per fold; 0: all.
    """
    which = f"of {rows} rows {f'({sample}) ' if sample else ''}" if rows != "all" else ""
    return [
        Task("features", f"features {which}x{scale:g} {part + 1} of {parts}", "", arguments=dict(
            scale=scale, part=part, parts=parts, rows=rows, sample=sample,
        ))
        for part in range(parts)
    ]


def do_features(side: ModelSide, task: Task) -> None:
    part, parts, every = task.arguments["part"], task.arguments["parts"], images_seen(side.data)
    share = (part, parts) if parts > 1 else None
    side.make_features(_images_of(side, task), task.arguments["scale"], share, among=every)
    if side.schedule:
        side.unencoded = len(side.without_features(every, 1.0))


def _images_of(side: ModelSide, task: Task) -> list[str]:
    """List the photographs of a task's rows."""
    data, config = side.data, side.project.config
    if task.arguments["rows"] == "all":
        return images_seen(data)
    folds = config.folds_to_train if task.arguments["rows"] == "scored" else ()
    read = [data.validation_rows(fold, task.arguments["sample"], config.seed) for fold in folds]
    return list(dict.fromkeys(q.image for rows in (data.test, *read) for q in rows))
