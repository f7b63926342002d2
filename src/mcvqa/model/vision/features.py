"""Computes image features once, if the vision tower is frozen, and stores them on disk."""
import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
import torch
import transformers

from mcvqa.base.files import LONG_WAITS, atomic_path, patiently
from mcvqa.base.informing import counted
from mcvqa.data.images import DECODER_VERSION
from mcvqa.data.table import DataError
from mcvqa.model.batches import Batches
from mcvqa.model.distributed import Output, progress
from mcvqa.model.families.family import Grid, feature_width, image_tokens
from mcvqa.model.fast.overflow import OverflowInModel, cast_weights
from mcvqa.model.load import BaseModel
from mcvqa.model.memory import free_memory
from mcvqa.model.vision.patches import ImageInputs, Pictures, cut_patches
from mcvqa.model.vision.tower import aligned, tower_features

# %% on disk
FEATURES_VERSION = 3  # raised whenever a change in this package changes features
NAMED_PHOTOGRAPHS = 5  # at most, in a message
MOST_PIXELS = 16 * 1024**2  # of a batch, whose patches take 12 bytes each in half precision
AT_ONCE = {"cuda": 64}  # images of a batch: a GPU waits for the launches of fewer
FEW, PART = 16, 4  # images of a batch elsewhere, and of what a loader process makes at a time


class FeatureStore:
    """Stores one file per image under `folder`, named by everything the features depend on.

    Files are written under a temporary name and renamed, so several processes may fill the store at once and an interrupted run
    continues where it stopped. Features under a photograph's hash were computed from exactly the bytes with this hash.

    Args:
        folder: folder of the store.
        base: model whose vision tower computes the features.
        images: the photographs.
        code: hash of the code that computes features, where users can edit it, as in a notebook.
    """

    def __init__(self, folder: str | Path, base: BaseModel, images: ImageInputs, code: str = "") -> None:
        self.folder, self.images = Path(folder), images
        self.dtype = base.plan.dtype
        self.width = feature_width(base.model.config)
        self.overflowed = 0  # images of the last fill() that overflowed half precision
        # no reference to the model: loader processes get a copy of this object
        versions = [*([code] if code else []), FEATURES_VERSION, DECODER_VERSION, transformers.__version__, PIL.__version__]
        self._depends_on = json.dumps(
            [versions, weights_hash(base.vision), str(self.dtype), images.processor.to_dict()], sort_keys=True, default=str
        )

    def path(self, image: str, scale: float = 1.0) -> Path:
        record = self.images.records[image]
        pixels = self.images.pixels(scale)
        key = hashlib.sha256(f"{self._depends_on}|{record.content_hash}|{pixels}".encode()).hexdigest()[:32]
        return self.folder / key[:2] / f"{key}.npy"

    def missing(self, images: Iterable[str], scale: float = 1.0) -> list[str]:
        """List readable images without a complete file, each content once."""
        wanted = {self.path(i, scale): i for i in images if not self.images.records[i].problem}
        return [image for path, image in wanted.items() if not _is_whole(path)]

    def fill(
        self, base: BaseModel, images: Iterable[str], scale: float = 1.0, *, batch: int = 0, share: tuple[int, int] = (0, 1),
        only: Iterable[str] | None = None,
    ) -> int:
        """Compute missing features with the tower of `base`.

        The last bit of an image's features depends on the other images of its batch. So the composition of batches is always the
        same, whichever process computes them and whatever is stored already.

        Args:
            base: model whose vision tower computes the features.
            images: the photographs.
            scale: image scale.
            batch: images per batch, fewer if they are large; 0: as many as suit the device.
            share: (i, n): every n-th batch, from the i-th on, for n processes that divide the work.
            only: only the batches that contain these images; None: all batches.

        Returns:
            Number of images that were missing in these batches.

        Raises:
            DataError: photographs have changed since the survey; the features of all others are stored.
        """
        self.overflowed = 0
        wanted = {self.path(image, scale): image for image in images if not self.images.records[image].problem}
        batch = max(1, min(batch or AT_ONCE.get(base.plan.device, FEW), MOST_PIXELS // self.images.pixels(scale)))
        every = sorted(wanted.values(), key=lambda image: self.images.grid(image, scale) or ())  # equal grids together
        batches = [tuple(every[start : start + batch]) for start in range(0, len(every), batch)]
        if only is not None:
            selected = {wanted[self.path(image, scale)] for image in only if not self.images.records[image].problem}
            batches = [names for names in batches if selected.intersection(names)]
        batches = batches[share[0] :: share[1]]
        missing = {*self.missing((image for names in batches for image in names), scale)}
        batches = [names for names in batches if missing.intersection(names)]
        if not batches:
            return 0
        parts = [names[start : start + PART] for names in batches for start in range(0, len(names), PART)]
        loader = Batches(
            Pictures(self.images, scale), parts, min(base.plan.workers, len(parts)), pin=base.plan.device == "cuda"
        )
        kept = [weight.data.cpu() for weight in base.vision.parameters()]  # not to be copied back
        base.vision.to(base.plan.device)
        parts_made = progress(loader, desc=f"image features x{scale:g}", unit="batch")
        changed: list[str] = []
        writing: list[Future] = []  # at most one batch, as the disk may be as slow as the GPU
        with aligned(base.vision), ThreadPoolExecutor(8) as writers:
            cut = self._patches(base, batches, parts_made, scale, changed)
            begun = (start_encoding(base, patches, grids, names) for names, grids, patches in cut)
            for encoding in one_behind(begun):  # while the GPU computes the next ones
                features, again = finished(base, encoding)
                self.overflowed += len(missing.intersection(again))
                _wait_for(writing)
                computed = zip(encoding.names, features, strict=True)
                writing = [writers.submit(self._write, *each, scale) for each in computed if each[0] in missing]
            _wait_for(writing)
        for weight, value in zip(base.vision.parameters(), kept, strict=True):
            weight.data = value
        base.vision.to("cpu")  # frees GPU memory: it is not needed until other images are encoded
        if changed:
            raise DataError(
                f"{counted(len(changed), 'photograph has', 'photographs have')} changed since the data was examined, first "
                f"{', '.join(changed[:NAMED_PHOTOGRAPHS])}. Restore the originals, or run the same command again to use the "
                "new ones. If this message appears again, delete pictures-*.json in cache/ of the output folder."
            )
        return len(missing)

    def _patches(
        self, base: BaseModel, batches: Sequence[tuple[str, ...]], parts: Iterable[tuple[torch.Tensor, tuple[str, ...]]],
        scale: float, changed: list[str],
    ) -> Iterator[tuple[list[str], list[Grid], torch.Tensor]]:
        """Cut the pictures of each batch on the device; images that have changed since the survey are added to `changed` instead.

        Yields:
            Names and grids of the images of a batch, and their patches (P, values).
        """
        levels, parts = self.images.levels.to(base.plan.device, base.plan.dtype), iter(parts)
        patch, merge = self.images.patch, self.images.merge
        for batch in batches:
            made = [*itertools.islice(parts, math.ceil(len(batch) / PART))]
            changed += [image for _, others in made for image in others]
            names = [image for image in batch if image not in changed]
            grids = [grid for image in names if (grid := self.images.grid(image, scale))]
            pictures = torch.cat([pixels.to(base.plan.device, non_blocking=True) for pixels, _ in made])
            sides = [(rows * patch, columns * patch) for _, rows, columns in grids]
            each = zip(pictures.split([height * width * 3 for height, width in sides]), sides, strict=True)
            if names:
                yield names, grids, torch.cat([cut_patches(one.view(*size, 3), levels, patch, merge) for one, size in each])
        next(parts, None)  # ends the loader

    def _write(self, image: str, features: torch.Tensor, scale: float) -> None:
        def attempt() -> None:
            with atomic_path(self.path(image, scale)) as path, open(path, "wb") as handle:
                np.save(handle, _as_numpy(features))

        patiently(attempt, f"writing the features of {image}", LONG_WAITS)

    def load(self, image: str, scale: float = 1.0) -> torch.Tensor:
        """Load features (tokens, width) in the precision of the model, memory-mapped."""
        stored = patiently(
            lambda: np.load(self.path(image, scale), mmap_mode="c", allow_pickle=False), f"reading the features of {image}",
            LONG_WAITS,
        )
        return torch.from_numpy(np.asarray(stored)).view(self.dtype)


def _is_whole(path: Path) -> bool:
    """Return whether a file exists and is as long as its header says; a mounted drive or an aborted copy can truncate it.

    On a drive that is unavailable for a while, a file is not missing.
    """
    try:
        patiently(lambda: np.load(path, mmap_mode="r", allow_pickle=False), f"reading {path}", LONG_WAITS)
    except (OSError, ValueError, EOFError):
        return False
    return True


def _wait_for(writing: Iterable[Future]) -> None:
    """Wait for the writers and raise their errors, such as a full disk."""
    for future in writing:
        future.result()


def _as_numpy(features: torch.Tensor) -> np.ndarray:
    """Convert to numpy, which has no bfloat16: two-byte formats are stored as int16 bits, and the key names the format."""
    features = features.contiguous()
    return features.view(torch.int16).numpy() if features.dtype.itemsize == 2 else features.numpy()


def weights_hash(module: torch.nn.Module) -> str:
    """Hash the names and values of all weights of a module (SHA-256)."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


# %% the vision tower
@dataclass(frozen=True)
class ImageEncoding:
    """Holds images whose features a GPU may still be computing.

    Attributes:
        names: names of the images, for messages.
        patches: (P, values) of all images.
        grids: patches (time, rows, columns) of each image.
        features: (sum of tokens, width) in CPU memory, valid once `done` has occurred.
        finite: (sum of tokens,) whether all features of a token are finite, likewise.
        done: event after the copies to the CPU; None: they are complete.
    """

    names: Sequence[str]
    patches: torch.Tensor
    grids: Sequence[Grid]
    features: torch.Tensor
    finite: torch.Tensor
    done: torch.cuda.Event | None


@torch.no_grad()
def start_encoding(base: BaseModel, patches: torch.Tensor, grids: Sequence[Grid], names: Sequence[str]) -> ImageEncoding:
    """Start to compute features without waiting for the GPU.

    Args:
        base: model whose vision tower computes the features.
        patches, grids, names: see ImageEncoding.
    """
    computed = _tower_in_parts(base, patches, grids)
    finite = torch.isfinite(computed).all(-1)
    features, finite = (tensor.to("cpu", non_blocking=computed.is_cuda) for tensor in (computed, finite))
    done = torch.cuda.Event() if computed.is_cuda else None
    if done:
        done.record()
    return ImageEncoding(names, patches, grids, features, finite, done)


@torch.no_grad()
def finished(base: BaseModel, encoding: ImageEncoding) -> tuple[list[torch.Tensor], list[str]]:
    """Wait for the features of an encoding; images that overflow half precision are encoded again in float32.

    Qwen2.5-VL's last blocks overflow float16 for some images; the NaN would spread to an answer that looks valid.

    Returns:
        Features (tokens, width) of each image, and the names of those encoded again.

    Raises:
        OverflowInModel: the features are not finite even in float32.
    """
    if encoding.done:
        encoding.done.synchronize()
    tokens = [image_tokens(grid, base.merge) for grid in encoding.grids]
    features = list(encoding.features.split(tokens))
    broken = [i for i, finite in enumerate(encoding.finite.split(tokens)) if not finite.all()]
    if broken:
        each = encoding.patches.split([math.prod(grid) for grid in encoding.grids])
        limit = torch.finfo(base.plan.dtype).max
        cast_weights(base.vision, torch.float32)
        try:
            for i in broken:
                full = _tower(base, each[i], encoding.grids[i : i + 1]).cpu()
                features[i] = full.clamp(-limit, limit).to(base.plan.dtype)
                if not torch.isfinite(features[i]).all():
                    raise OverflowInModel(
                        f"{encoding.names[i]} has no finite features, not even in float32: the model's weights are damaged."
                    )
        finally:
            cast_weights(base.vision, base.plan.dtype)
    return features, [encoding.names[i] for i in broken]


def one_behind(items: Iterable[Output]) -> Iterator[Output]:
    """Yield the same items, each one delayed until the next has arrived."""
    before: list[Output] = []
    for item in items:
        yield from before
        before = [item]
    yield from before


def _tower_in_parts(base: BaseModel, patches: torch.Tensor, grids: Sequence[Grid]) -> torch.Tensor:
    """Compute the features of all images, in halves if the GPU's memory does not hold them at once."""
    try:
        return _tower(base, patches, grids)
    except torch.cuda.OutOfMemoryError:
        if len(grids) == 1:
            raise
    free_memory()
    middle = len(grids) // 2
    cut = sum(math.prod(grid) for grid in grids[:middle])
    halves = (patches[:cut], grids[:middle]), (patches[cut:], grids[middle:])
    return torch.cat([_tower_in_parts(base, *half) for half in halves])


def _tower(base: BaseModel, patches: torch.Tensor, grids: Sequence[Grid]) -> torch.Tensor:
    """Compute the features (sum of tokens, width) of all images."""
    weight = next(base.vision.parameters())
    on_device = patches.to(weight.device, non_blocking=True)  # a combined cast would run on the CPU and block
    return tower_features(base.vision, on_device.to(weight.dtype), grids)


def bytes_needed(store: FeatureStore, images: Iterable[str], scale: float = 1.0) -> int:
    """Compute the size of the features of `images` on disk.

    Args:
        store: the store.
        images: the photographs.
        scale: image scale.
    """
    grids = [store.images.grid(image, scale) for image in images]
    tokens = sum(image_tokens(grid, store.images.merge) for grid in grids if grid)
    return tokens * store.width * store.dtype.itemsize
