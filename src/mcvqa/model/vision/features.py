"""Images as the model takes them: patches, and, because the vision tower is frozen, features computed once and kept on disk."""
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
import transformers
from torch.utils.data import Dataset

from mcvqa.base.files import LONG_WAITS, atomic_path, patiently
from mcvqa.base.informing import counted
from mcvqa.data.images import DECODER_VERSION, ImageError, ImageRecord, open_with_hash
from mcvqa.data.table import DataError
from mcvqa.model.batches import Batches
from mcvqa.model.distributed import Made, progress
from mcvqa.model.families.family import Grid, feature_width, image_grid, image_tokens
from mcvqa.model.fast.overflow import OverflowInModel, cast_weights
from mcvqa.model.load import BaseModel
from mcvqa.model.memory import free_memory
from mcvqa.model.text.encode import Encoder
from mcvqa.model.vision.tower import aligned, tower_features


class ImageInputs:
    """The photographs of a run in the form the vision tower takes.

    Args:
        records: what the survey found, by the path written in the CSV; broken or missing images have a problem there.
        processor: the model's image processor.
        image_size: side in pixels of the square whose area an image is scaled to.
        patch, merge: side of a patch in pixels; side of the square of patches that becomes one token.
    """

    def __init__(
        self, records: dict[str, ImageRecord], processor: Any, *, image_size: int, patch: int, merge: int
    ) -> None:
        self.records, self.processor = records, processor
        self.image_size, self.patch, self.merge = image_size, patch, merge

    @classmethod
    def of_model(
        cls, records: dict[str, ImageRecord], encoder: Encoder, processor: Any, model_config: Any, image_size: int
    ) -> "ImageInputs":
        """As a model takes them. Args: encoder, processor, model_config: as `load_encoder` gives them."""
        return cls(
            records, processor, image_size=image_size, patch=model_config.vision_config.patch_size, merge=encoder.merge
        )

    def grid(self, image: str, scale: float = 1.0) -> Grid | None:
        """Patches (time, rows, columns), or None for an image that cannot be read."""
        record = self.records[image]
        if record.problem:
            return None
        return image_grid(record.width, record.height, self.pixels(scale), patch=self.patch, merge=self.merge)

    def patches(self, image: str, scale: float = 1.0) -> torch.Tensor:
        """(P, 3 * 2 * patch**2) float32, normalised. Raises ImageError when the file changed for the worse meanwhile."""
        return self.patches_and_hash(image, scale)[0]

    def patches_and_hash(self, image: str, scale: float = 1.0) -> tuple[torch.Tensor, str]:
        """As `patches`, and the SHA-256 of the bytes that they were made from."""
        path = self.records[image].path
        assert path is not None, f"{image} has a problem: ask grid() first"
        picture, content = open_with_hash(path)
        pixels = self.pixels(scale)
        size = {"shortest_edge": pixels, "longest_edge": pixels}
        return self.processor(images=[picture], size=size, return_tensors="pt")["pixel_values"], content

    def pixels(self, scale: float = 1.0) -> int:
        """Area an image is scaled to."""
        return round((self.image_size * scale) ** 2)


class PatchBatches(Dataset):
    """Patches (P, values) of some images, one image after the other, by their names; and the names of those that are left out,
    because their files are not those that the survey saw.
    """

    def __init__(self, images: ImageInputs, scale: float) -> None:
        self.images, self.scale = images, scale

    def __getitem__(self, part: tuple[str, ...]) -> tuple[torch.Tensor, tuple[str, ...]]:
        patches, changed = [torch.empty(0)], []
        for image in part:
            try:
                made, content = self.images.patches_and_hash(image, self.scale)
            except ImageError:  # the survey could read it
                content = ""
            if content == self.images.records[image].content_hash:
                patches.append(made)
            else:
                changed.append(image)
        return torch.cat(patches[1:] or patches), tuple(changed)


# %% features kept on disk
FEATURES_VERSION = 1  # raised whenever a change in this package changes features
NAMED_PHOTOGRAPHS = 5  # in a message
MOST_PIXELS = 16 * 1024**2  # of a batch, whose patches take 24 bytes each


class FeatureStore:
    """One file per image under `folder`, named by everything the features depend on.

    A file is written beside its name and renamed, so several processes may fill the store at once and a run that was cut
    off goes on where it stopped. What is stored under a photograph's hash was made from the very bytes that have this hash.

    Args:
        code: changes with the code that computes features, where that can be edited, as in a notebook.
    """

    def __init__(self, folder: str | Path, base: BaseModel, images: ImageInputs, code: str = "") -> None:
        self.folder, self.images = Path(folder), images
        self.dtype = base.plan.dtype
        self.width = feature_width(base.model.config)
        self.overflowed = 0  # of the images that fill() computed last, those that half precision did not hold
        # the model itself is not kept: loader processes get a copy of this object
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
        """Readable images without a whole file yet, each content once."""
        wanted = {self.path(i, scale): i for i in images if not self.images.records[i].problem}
        return [image for path, image in wanted.items() if not _is_whole(path)]

    def bytes_needed(self, images: Iterable[str], scale: float = 1.0) -> int:
        grids = [self.images.grid(image, scale) for image in images]
        tokens = sum(image_tokens(grid, self.images.merge) for grid in grids if grid)
        return tokens * self.width * self.dtype.itemsize

    def fill(
        self, base: BaseModel, images: Iterable[str], scale: float = 1.0, *, batch: int = 16, share: tuple[int, int] = (0, 1),
        only: Iterable[str] | None = None,
    ) -> int:
        """Compute what is missing with the tower of `base`.

        An image's features differ in the last bit with the images beside it in a batch. So batches are always made of the same
        images, whoever computes them and whatever is there already.

        Args:
            share: (i, n): every n-th batch, from the i-th on, for n workers that share the work.
            only: no other batches than those in which these images are; None: all.

        Returns:
            How many images were missing in these batches.

        Raises:
            DataError: photographs have changed since they were surveyed; the features of all others are stored.
        """
        self.overflowed = 0
        wanted = {self.path(image, scale): image for image in images if not self.images.records[image].problem}
        batch = max(1, min(batch, MOST_PIXELS // self.images.pixels(scale)))
        every = sorted(wanted.values(), key=lambda image: self.images.grid(image, scale) or ())  # equal ones together
        own = [tuple(every[start : start + batch]) for start in range(0, len(every), batch)]
        if only is not None:
            asked = {wanted[self.path(image, scale)] for image in only if not self.images.records[image].problem}
            own = [names for names in own if asked.intersection(names)]
        own = own[share[0] :: share[1]]
        missing = {*self.missing((image for names in own for image in names), scale)}
        parts = [names for names in own if missing.intersection(names)]
        if not parts:
            return 0
        made = Batches(
            PatchBatches(self.images, scale), parts, min(base.plan.workers, len(parts)), pin=base.plan.device == "cuda"
        )
        base.vision.to(base.plan.device)
        changed: list[str] = []
        writing: list[Future] = []  # at most one batch waits for the disk, which may take as long as the GPU
        with aligned(base.vision), ThreadPoolExecutor(8) as writers:
            batches = zip(parts, progress(made, desc=f"image features x{scale:g}", unit="batch"), strict=True)
            begun = (
                start_encoding(base, patches, [grid for image in names if (grid := self.images.grid(image, scale))], names)
                for names, patches in self._unchanged(batches, changed)
            )
            for encoding in one_behind(begun):  # while the GPU computes the next ones
                features, again = finished(base, encoding)
                self.overflowed += len(missing.intersection(again))
                _wait_for(writing)
                made_now = zip(encoding.names, features, strict=True)
                writing = [writers.submit(self._write, *each, scale) for each in made_now if each[0] in missing]
            _wait_for(writing)
        base.vision.to("cpu")  # on a GPU its memory is better used: nobody looks at it again before other images are asked for
        if changed:
            raise DataError(
                f"{counted(len(changed), 'photograph has', 'photographs have')} changed since the survey, first "
                f"{', '.join(changed[:NAMED_PHOTOGRAPHS])}. Put the originals back, or run the same command again to use the new "
                "ones; if this message comes again, delete pictures-*.json in cache/ of the output folder."
            )
        return len(missing)

    @staticmethod
    def _unchanged(
        batches: Iterable[tuple[tuple[str, ...], tuple[torch.Tensor, tuple[str, ...]]]], changed: list[str]
    ) -> Iterator[tuple[tuple[str, ...], torch.Tensor]]:
        """Names and patches of the images that are as they were surveyed; the names of the others join `changed`."""
        for part, (patches, others) in batches:
            changed += others
            if names := tuple(image for image in part if image not in others):
                yield names, patches

    def _write(self, image: str, features: torch.Tensor, scale: float) -> None:
        def attempt() -> None:
            with atomic_path(self.path(image, scale)) as path, open(path, "wb") as handle:
                np.save(handle, _as_numpy(features))

        patiently(attempt, f"writing the features of {image}", LONG_WAITS)

    def load(self, image: str, scale: float = 1.0) -> torch.Tensor:
        """(tokens, width) in the precision of the model, memory-mapped until it is used."""
        stored = patiently(
            lambda: np.load(self.path(image, scale), mmap_mode="c", allow_pickle=False), f"reading the features of {image}",
            LONG_WAITS,
        )
        return torch.from_numpy(np.asarray(stored)).view(self.dtype)


def _is_whole(path: Path) -> bool:
    """Whether a file is there and has the size it tells: one that a mounted drive or a copied folder cut off is made again."""
    try:
        np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    return True


def _wait_for(writing: Iterable[Future]) -> None:
    """Waits; an error of a writer, such as a full disk, is raised here."""
    for future in writing:
        future.result()


def _as_numpy(features: torch.Tensor) -> np.ndarray:
    """numpy has no bfloat16: two-byte formats are stored by their bits, the format is part of the key."""
    features = features.contiguous()
    return features.view(torch.int16).numpy() if features.dtype.itemsize == 2 else features.numpy()


def weights_hash(module: torch.nn.Module) -> str:
    """SHA-256 over all names and values of a module's weights."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


# %% the vision tower
@dataclass(frozen=True)
class ImageEncoding:
    """Images whose features a GPU may still be computing.

    Attributes:
        names: of the images, for messages.
        patches: (P, values) of all images; grids: patches (time, rows, columns) of each.
        features: (sum of tokens, width) and finite: (sum of tokens,), in the memory of the CPU, there when `done` is.
    """

    names: Sequence[str]
    patches: torch.Tensor
    grids: Sequence[Grid]
    features: torch.Tensor
    finite: torch.Tensor
    done: torch.cuda.Event | None


@torch.no_grad()
def start_encoding(base: BaseModel, patches: torch.Tensor, grids: Sequence[Grid], names: Sequence[str]) -> ImageEncoding:
    """Does not wait for the GPU. Args: as in ImageEncoding."""
    made = _tower_in_parts(base, patches, grids)
    finite = torch.isfinite(made).all(-1)
    features, finite = (tensor.to("cpu", non_blocking=made.is_cuda) for tensor in (made, finite))
    done = torch.cuda.Event() if made.is_cuda else None
    if done:
        done.record()
    return ImageEncoding(names, patches, grids, features, finite, done)


@torch.no_grad()
def finished(base: BaseModel, encoding: ImageEncoding) -> tuple[list[torch.Tensor], list[str]]:
    """Features (tokens, width) of each image, and the names of those that overflow half precision: these are done again in
    float32.

    Qwen2.5-VL's last blocks overflow float16 for some images; the NaN would spread to an answer that looks valid.

    Raises:
        OverflowInModel: not even float32 gives finite features.
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


def one_behind(items: Iterable[Made]) -> Iterator[Made]:
    """The same items, each when the next one is there."""
    before: list[Made] = []
    for item in items:
        yield from before
        before = [item]
    yield from before


def _tower_in_parts(base: BaseModel, patches: torch.Tensor, grids: Sequence[Grid]) -> torch.Tensor:
    """In halves where the GPU's memory does not hold all at once."""
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
    """(sum of tokens, width)"""
    weight = next(base.vision.parameters())
    there = patches.to(weight.device, non_blocking=True)  # in one call with the cast, a CPU would do that, and wait
    return tower_features(base.vision, there.to(weight.dtype), grids)
