"""Records the photographs that weights were trained on, as compact prints stored with them, and finds others among these."""
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping

import numpy as np

from mcvqa.data.images import (
    MAX_CELL_DIFFERENCE,
    MAX_CONTRAST_RATIO,
    MAX_DIFFERENCE,
    MAX_HASH_DISTANCE,
    MAX_MEAN_SHIFT,
    THUMBNAIL_SIDE,
    ImageRecord,
)

TRAINED_ON = "trained_on.json"  # beside weights
# of a photograph: the beginning of its SHA-256, its difference hash, the contrast and the mean colours of 4 x 4 cells
CONTENT, HASH, CELLS = 8, 8, 4
PRINT_BYTES = CONTENT + HASH + 1 + CELLS * CELLS * 3


def photographs_print(records: Iterable[ImageRecord]) -> str:
    """Make prints of photographs as text; 3,887 of them take 340 KB.

    Args:
        records: records of readable photographs.
    """
    return b64encode(b"".join(sorted({_print_of(record) for record in records}))).decode()


def are_prints(text: object) -> bool:
    """Return whether something is a result of `photographs_print`."""
    try:
        return isinstance(text, str) and len(b64decode(text, validate=True)) % PRINT_BYTES == 0
    except ValueError:
        return False


def joined_prints(prints: Iterable[str]) -> str:
    """Join several prints."""
    decoded = map(b64decode, prints)
    every = {whole[i : i + PRINT_BYTES] for whole in decoded for i in range(0, len(whole), PRINT_BYTES)}
    return b64encode(b"".join(sorted(every))).decode()


def _print_of(record: ImageRecord) -> bytes:
    pixels, side = np.frombuffer(record.thumbnail, np.uint8), THUMBNAIL_SIDE // CELLS
    cells = pixels.reshape(CELLS, side, CELLS, side, 3).mean((1, 3)).round().astype(np.uint8)
    contrast = min(255, round(float(pixels.std())))
    content, hashed = bytes.fromhex(record.content_hash[: 2 * CONTENT]), record.dhash.to_bytes(HASH, "big")
    return content + hashed + bytes([contrast]) + cells.tobytes()


def seen_photographs(text: str, records: Mapping[str, ImageRecord]) -> set[str]:
    """Find the photographs that may be among those of a print: the same file, or a near-duplicate.

    A print contains 4 x 4 cells of each thumbnail, so this finds every pair that `near_duplicate_groups` finds, and some more.

    Args:
        text: result of `photographs_print`.
        records: name -> record of readable photographs.

    Returns:
        Their names.
    """
    known = _unpacked_prints(b64decode(text))
    return {name for name, record in records.items() if _is_among(_unpacked_prints(_print_of(record)), known)}


def _unpacked_prints(prints: bytes) -> dict[str, np.ndarray]:
    table = np.frombuffer(prints, np.uint8).reshape(-1, PRINT_BYTES)
    cells = table[:, CONTENT + HASH + 1 :].astype(np.float32)
    mean, contrast = cells.mean(1), np.maximum(table[:, CONTENT + HASH], 10).astype(np.float32)
    return {
        "content": table[:, :CONTENT], "bits": np.unpackbits(table[:, CONTENT : CONTENT + HASH], axis=1), "mean": mean,
        "contrast": contrast, "looks": (cells - mean[:, None]) / contrast[:, None],
    }


def _is_among(one: dict[str, np.ndarray], known: dict[str, np.ndarray]) -> bool:
    shift, rounded = np.abs(one["looks"] - known["looks"]), 1 / known["contrast"]  # rounding to bytes may widen a difference
    alike = (
        ((one["bits"] != known["bits"]).sum(1) <= MAX_HASH_DISTANCE)
        & (np.abs(one["mean"] - known["mean"]) <= MAX_MEAN_SHIFT + 1)
        & (np.abs(np.log(one["contrast"] / known["contrast"])) <= np.log(MAX_CONTRAST_RATIO) + rounded)
        & (np.sqrt(np.square(shift).mean(1)) <= MAX_DIFFERENCE + rounded)
        & (shift.max(1) <= MAX_CELL_DIFFERENCE + 2 * rounded)
    )
    return bool(alike.any() or (one["content"] == known["content"]).all(1).any())
