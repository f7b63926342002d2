"""Holds scores: one model's log-probabilities for every question, in one file. Everything after scoring reads only these.

A view is one option order at one image scale; test-time augmentation averages the views of a row.
"""
import hashlib
import json
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mcvqa.base.files import LONG_WAITS, DamagedFile, atomic_path, patiently


@dataclass(frozen=True)
class Scores:
    """Holds the letter log-probabilities of one model for N questions with up to C choices, in up to K views.

    Attributes:
        ids: (N,) text.
        logprobs: (N, K, C) float32, natural logarithm, in the original order of the choices. -inf: the row has no such choice;
            NaN in all C entries: the row has no k-th view (fewer choices, fewer orders).
        orders: (N, K, C) int8, `orders[n, k, slot]` is the original choice shown in that slot; -1: none. Stored per row because
            rows with 2, 3 and 4 choices need different orders.
        scales: (K,) float32, factor of the image size in the k-th view.
        provenance: origin of the scores: run, fold, split, hashes of settings and adapter; in a file also `content`, a digest of
            the arrays that reveals later edits.
    """

    ids: np.ndarray
    logprobs: np.ndarray
    orders: np.ndarray
    scales: np.ndarray
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n, k, c = self.logprobs.shape
        if self.ids.shape != (n,) or self.orders.shape != (n, k, c) or self.scales.shape != (k,):
            raise ValueError(
                f"Scores do not fit together: ids {self.ids.shape}, logprobs {self.logprobs.shape}, "
                f"orders {self.orders.shape}, scales {self.scales.shape}."
            )

    @property
    def n_choices(self) -> np.ndarray:
        """Number of choices (N,) of each row."""
        return (self.orders >= 0).any(1).sum(-1)

    def per_view(self) -> np.ndarray:
        """Compute log-probabilities (N, K, C) normalised over the row's choices; -inf and NaN are kept."""
        return log_softmax(self.logprobs)

    def mean(self) -> np.ndarray:
        """Compute the normalised geometric mean (N, C) over the views of each row: the TTA average."""
        has_view = ~np.isnan(self.logprobs[:, :, 0])  # (N, K)
        total = np.where(has_view[:, :, None], self.per_view(), 0.0).sum(1)
        return log_softmax(total / has_view.sum(1)[:, None])

    def predictions(self) -> np.ndarray:
        """Return the most probable choice (N,) after averaging the views."""
        return self.mean().argmax(-1)

    def rows(self, index: np.ndarray) -> "Scores":
        """Select the rows at `index`, in that order."""
        return Scores(self.ids[index], self.logprobs[index], self.orders[index], self.scales, self.provenance)

    def of_ids(self, ids: np.ndarray) -> "Scores":
        """Select the rows with these ids, in that order; rows are matched by id, never by position.

        Raises:
            KeyError: one of them is not there.
        """
        index = {name: row for row, name in enumerate(self.ids.tolist())}
        return self.rows(np.array([index[name] for name in ids.tolist()], dtype=int))

    def views(self, chosen: np.ndarray) -> "Scores":
        """Select views.

        Args:
            chosen: (K,) bool; every row must have at least one of these views.
        """
        return Scores(self.ids, self.logprobs[:, chosen], self.orders[:, chosen], self.scales[chosen], self.provenance)

    @property
    def content(self) -> str:
        """Hash the arrays as they are saved (SHA-256)."""
        digest = hashlib.sha256(json.dumps([self.ids.tolist(), self.logprobs.shape]).encode())
        for array, kind in ((self.logprobs, "<f4"), (self.orders, "i1"), (self.scales, "<f4")):
            digest.update(array.astype(kind).tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the file, waiting up to five minutes for an unavailable drive."""
        patiently(lambda: self._write(path), f"writing {path}", LONG_WAITS)

    def _write(self, path: str | Path) -> None:
        with atomic_path(path) as part, open(part, "wb") as handle:
            np.savez_compressed(
                handle, ids=self.ids.astype(np.str_), logprobs=self.logprobs.astype(np.float32),
                orders=self.orders.astype(np.int8), scales=self.scales.astype(np.float32),
                provenance=np.array(json.dumps({"content": self.content} | self.provenance, ensure_ascii=False, default=str)),
            )


DAMAGE = (  # errors that a truncated or changed .npz file causes
    ValueError, KeyError, TypeError, AttributeError, NotImplementedError, EOFError, zipfile.BadZipFile, zlib.error,
)


def load_scores(path: str | Path) -> Scores:
    """Read a Scores file, as plain arrays (allow_pickle is off).

    Raises:
        DamagedFile: it was truncated or changed.
    """
    try:
        scores = patiently(lambda: _stored_scores(path), f"reading {path}", LONG_WAITS)
        expected = scores.provenance.get("content", scores.content)  # version 0.1 wrote none
    except DAMAGE as error:
        raise DamagedFile(path, str(error)) from None
    if expected != scores.content:
        raise DamagedFile(path, "its contents were changed after it was written")
    return scores


def _stored_scores(path: str | Path) -> Scores:
    with np.load(path, allow_pickle=False) as file:
        return Scores(file["ids"], file["logprobs"], file["orders"], file["scales"], json.loads(str(file["provenance"])))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Compute the log-softmax over the last axis in float64, ignoring -inf entries."""
    logits = logits.astype(np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def plain_scores(ids: np.ndarray, logprobs: np.ndarray, n_choices: np.ndarray, provenance: dict[str, Any]) -> Scores:
    """Make scores of a single view per row, in the original order of the choices.

    Args:
        ids: (N,) text.
        logprobs: (N, C).
        n_choices: (N,) number of choices of each row.
        provenance: stored with the scores.
    """
    slots = np.arange(logprobs.shape[1])
    orders = np.where(slots < np.asarray(n_choices)[:, None], slots, -1).astype(np.int8)
    known = np.where(orders >= 0, logprobs, -np.inf).astype(np.float32)
    return Scores(np.asarray(ids).astype(np.str_), known[:, None], orders[:, None], np.ones(1, np.float32), provenance)


def joined(parts: list[Scores]) -> Scores:
    """Concatenate the rows of several Scores (the folds of an out-of-fold set).

    Folds may have different views if there was no time for all. The result has every view of any part, identified by image
    scale and number of the order, with NaN for rows without it. Views shared by all parts come first.
    """
    views_by_part = [_view_keys(part.scales) for part in parts]
    distinct = dict.fromkeys(view for views in views_by_part for view in views)
    views = sorted(distinct, key=lambda view: not all(view in each for each in views_by_part))  # a stable sort
    c = max(part.logprobs.shape[2] for part in parts)

    def widened(part: Scores, keys: list[tuple[float, int]]) -> tuple[np.ndarray, np.ndarray]:
        n, _, c0 = part.logprobs.shape
        at = [views.index(key) for key in keys]
        logprobs = np.full((n, len(views), c), np.nan, np.float32)
        logprobs[:, at] = -np.inf
        logprobs[:, at, :c0] = part.logprobs
        logprobs[np.isnan(logprobs).any(-1)] = np.nan
        orders = np.full((n, len(views), c), -1, np.int8)
        orders[:, at, :c0] = part.orders
        return logprobs, orders

    logprobs, orders = zip(*map(widened, parts, views_by_part), strict=True)
    return Scores(
        np.concatenate([p.ids for p in parts]), np.concatenate(logprobs), np.concatenate(orders),
        np.array([scale for scale, _ in views], np.float32), {"joined": [p.provenance for p in parts]},
    )


def _view_keys(scales: np.ndarray) -> list[tuple[float, int]]:
    """Identify each view by its image scale and its number among the views of that scale."""
    counts: dict[float, int] = {}
    keys = []
    for scale in map(float, scales):
        keys.append((scale, counts.get(scale, 0)))
        counts[scale] = keys[-1][1] + 1
    return keys
