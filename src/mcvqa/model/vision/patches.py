"""Resizes photographs and cuts them into patches, the vision tower's inputs.

They are those of transformers' processor, bit for bit, which would take twice as long: loader processes only resize.
"""
import math
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from mcvqa.data.images import ImageError, ImageRecord, open_with_hash
from mcvqa.model.families.family import Grid, image_grid
from mcvqa.model.source import ModelError
from mcvqa.model.text.encode import Encoder

FRAMES = 2  # of a still picture, for a tower that also sees videos


def cut_patches(picture: torch.Tensor, levels: torch.Tensor, patch: int, merge: int) -> torch.Tensor:
    """Cut a resized picture into patches, as Qwen2-VL's processor does.

    Args:
        picture: (height, width, 3) of levels from 0 to 255.
        levels: (3, 256) values of each color's levels, on the same device.
        patch, merge: side of a patch in pixels; side of the square of patches that is merged into one token.

    Returns:
        (P, 3 * FRAMES * patch**2): the patches of a square follow each other, and each has equal frames.
    """
    squares = picture.unflatten(1, (-1, merge, patch)).unflatten(0, (-1, merge, patch)).permute(0, 3, 1, 4, 6, 2, 5)
    values = levels[torch.arange(3, device=picture.device)[:, None, None], squares.long()]  # (..., 3, patch, patch)
    return values[..., None, :, :].expand(*(-1,) * 5, FRAMES, -1, -1).flatten(4).flatten(0, 3)


def level_values(processor: Any, patch: int, merge: int) -> torch.Tensor:
    """Look up the model's input (3, 256) for each level of a color by showing them all to the image processor.

    Args:
        processor: the model's image processor.
        patch, merge: see `cut_patches`.
    """
    side = patch * merge
    width = side * math.ceil(256 / side**2)  # room for all levels
    picture = np.repeat(np.arange(side * width).astype(np.uint8).reshape(side, width, 1), 3, axis=2)  # 0, ..., 255, 0, ...
    inputs, raw = (
        processor(images=[Image.fromarray(picture)], do_resize=False, return_tensors="pt", **how)["pixel_values"]
        for how in ({}, dict(do_rescale=False, do_normalize=False))
    )
    levels = torch.empty(3, 256)
    for values, of_levels in zip(inputs.unflatten(1, (3, -1)), raw.unflatten(1, (3, -1)).long(), strict=True):
        levels.scatter_(1, of_levels, values)
    return levels


# %% the photographs of a run
class ImageInputs:
    """Prepares the photographs of a run for the vision tower.

    Args:
        records: survey records by the path written in the CSV; broken or missing images have a `problem`.
        processor: the model's image processor.
        image_size: images are resized to about image_size² pixels.
        patch, merge: side of a patch in pixels; side of the square of patches that is merged into one token.

    Raises:
        ModelError: the processor makes other patches.
    """

    def __init__(
        self, records: dict[str, ImageRecord], processor: Any, *, image_size: int, patch: int, merge: int
    ) -> None:
        self.records, self.processor = records, processor
        self.image_size, self.patch, self.merge = image_size, patch, merge
        try:
            self.levels = level_values(processor, patch, merge)
            same = self._same_as_processor()
        except (ValueError, RuntimeError):  # patches of another size, in the processor or here
            same = False
        if not same:
            raise ModelError(
                f"The image processor ({type(processor).__name__}) does not turn pictures into patches of {patch} "
                f"pixels, {merge} x {merge} to a token, as Qwen's do. Is preprocessor_config.json the model's? Copy or "
                "download the folder again."
            )

    def _same_as_processor(self) -> bool:
        """Return whether a picture of several tokens each way becomes the same patches."""
        side = self.patch * self.merge
        picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6 * side, 9 * side, 3), dtype=np.uint8))
        scale = 4 * side / self.image_size
        area = dict.fromkeys(("shortest_edge", "longest_edge"), self.pixels(scale))
        inputs = self.processor(images=[picture], size=area, return_tensors="pt")["pixel_values"]
        return torch.equal(self.patches_of(picture, scale), inputs)

    @classmethod
    def of_model(
        cls, records: dict[str, ImageRecord], encoder: Encoder, processor: Any, model_config: Any, image_size: int
    ) -> "ImageInputs":
        """Create the inputs for a model.

        Args:
            records: survey records by the path written in the CSV.
            encoder, processor, model_config: results of `load_encoder`.
            image_size: images are resized to about image_size² pixels.
        """
        return cls(
            records, processor, image_size=image_size, patch=model_config.vision_config.patch_size, merge=encoder.merge
        )

    def grid(self, image: str, scale: float = 1.0) -> Grid | None:
        """Compute the patches (time, rows, columns); None: the image cannot be read."""
        record = self.records[image]
        if record.problem:
            return None
        return image_grid(record.width, record.height, self.pixels(scale), patch=self.patch, merge=self.merge)

    def patches(self, image: str, scale: float = 1.0) -> torch.Tensor:
        """Compute patches (P, 3 * 2 * patch**2) in float32, normalised.

        Raises:
            ImageError: the file can no longer be read.
        """
        return self.patches_of(self.opened(image)[0], scale)

    def patches_of(self, picture: Image.Image, scale: float = 1.0) -> torch.Tensor:
        """Compute the patches of an upright RGB picture."""
        return cut_patches(self.resized(picture, scale), self.levels, self.patch, self.merge)

    def opened(self, image: str) -> tuple[Image.Image, str]:
        """Return the upright RGB picture, and the SHA-256 of its file. Raises ImageError as `patches` does."""
        path = self.records[image].path
        assert path is not None, f"{image} has a problem: ask grid() first"
        return open_with_hash(path)

    def resized(self, picture: Image.Image, scale: float = 1.0) -> torch.Tensor:
        """Resize an upright RGB picture as the processor does.

        Returns:
            (height, width, 3) levels from 0 to 255.
        """
        width, height = picture.size
        _, rows, columns = image_grid(width, height, self.pixels(scale), patch=self.patch, merge=self.merge)
        resized = picture.resize((columns * self.patch, rows * self.patch), self.processor.resample)
        return torch.from_numpy(np.array(resized))

    def pixels(self, scale: float = 1.0) -> int:
        """Return the target area of a resized image."""
        return round((self.image_size * scale) ** 2)


class Pictures(Dataset):
    """Makes resized pictures, flattened and concatenated (all values,), by the images' names.

    It also returns the names of images that are left out because their files have changed since the survey.
    """

    def __init__(self, images: ImageInputs, scale: float) -> None:
        self.images, self.scale = images, scale

    def __getitem__(self, part: tuple[str, ...]) -> tuple[torch.Tensor, tuple[str, ...]]:
        pictures, changed = [torch.empty(0, dtype=torch.uint8)], []
        for image in part:
            try:
                picture, content = self.images.opened(image)
            except ImageError:  # readable at the survey
                content = ""
            if content == self.images.records[image].content_hash:
                pictures.append(self.images.resized(picture, self.scale).flatten())
            else:
                changed.append(image)
        return torch.cat(pictures), tuple(changed)
