"""Scores: what a model says about every question, in one small file. Everything after scoring reads only these."""
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
    """Letter log-probabilities of one model on N questions, each asked in up to K ways, with up to C choices.

    Attributes:
        ids: (N,) text.
        logprobs: (N, K, C) float32, natural logarithm, in the order of the original choices. -inf where the row has no
            such choice; NaN in all C places where the row was not asked in the k-th way (fewer choices, fewer orders).
        orders: (N, K, C) int8, `orders[n, k, slot]` is the original choice shown in that slot; -1 where there is none.
            Kept per row because rows with 2, 3 and 4 choices need different orders.
        scales: (K,) float32, factor of the image size in the k-th way.
        provenance: where the figures come from: run, fold, split, hashes of configuration and adapter; once they are saved also
            `content`, a digest of the arrays, so that figures that were edited afterwards are not believed.
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
        """(N,) number of choices of each row."""
        return (self.orders >= 0).any(1).sum(-1)

    def per_way(self) -> np.ndarray:
        """(N, K, C) log-probabilities renormalised among the row's own choices; -inf and NaN stay where they are."""
        return log_softmax(self.logprobs)

    def mean(self) -> np.ndarray:
        """(N, C) geometric mean over the ways a row was asked, renormalised: the TTA average."""
        asked = ~np.isnan(self.logprobs[:, :, 0])  # (N, K)
        total = np.where(asked[:, :, None], self.per_way(), 0.0).sum(1)
        return log_softmax(total / asked.sum(1)[:, None])

    def predictions(self) -> np.ndarray:
        """(N,) most probable choice after averaging the ways."""
        return self.mean().argmax(-1)

    def rows(self, index: np.ndarray) -> "Scores":
        """The rows at `index` only, in that order."""
        return Scores(self.ids[index], self.logprobs[index], self.orders[index], self.scales, self.provenance)

    def ways(self, chosen: np.ndarray) -> "Scores":
        """Only the ways (K,) that are chosen. Rows must have been asked in at least one of them."""
        return Scores(self.ids, self.logprobs[:, chosen], self.orders[:, chosen], self.scales[chosen], self.provenance)

    @property
    def content(self) -> str:
        """SHA-256 of the arrays, as they are saved."""
        digest = hashlib.sha256(json.dumps([self.ids.tolist(), self.logprobs.shape]).encode())
        for array, kind in ((self.logprobs, "<f4"), (self.orders, "i1"), (self.scales, "<f4")):
            digest.update(array.astype(kind).tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path) -> None:
        """A drive that is away is waited for."""
        patiently(lambda: self._write(path), f"writing {path}", LONG_WAITS)

    def _write(self, path: str | Path) -> None:
        with atomic_path(path) as part, open(part, "wb") as handle:
            np.savez_compressed(
                handle, ids=self.ids.astype(np.str_), logprobs=self.logprobs.astype(np.float32),
                orders=self.orders.astype(np.int8), scales=self.scales.astype(np.float32),
                provenance=np.array(json.dumps({"content": self.content} | self.provenance, ensure_ascii=False, default=str)),
            )


DAMAGE = (  # as a cut-off or changed .npz file shows it
    ValueError, KeyError, TypeError, AttributeError, NotImplementedError, EOFError, zipfile.BadZipFile, zlib.error,
)


def load_scores(path: str | Path) -> Scores:
    """Read a Scores file; nothing in it is ever executed (allow_pickle is off).

    Raises:
        DamagedFile: it was cut off or changed.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            scores = Scores(
                file["ids"], file["logprobs"], file["orders"], file["scales"], json.loads(str(file["provenance"]))
            )
        written = scores.provenance.get("content", scores.content)  # version 0.1 noted none
    except DAMAGE as error:
        raise DamagedFile(path, str(error)) from None
    if written != scores.content:
        raise DamagedFile(path, "its figures were changed after it was written")
    return scores


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-softmax over the last axis in float64; -inf entries stay out of it."""
    logits = logits.astype(np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def plain_scores(ids: np.ndarray, logprobs: np.ndarray, n_choices: np.ndarray, provenance: dict[str, Any]) -> Scores:
    """Scores of a model asked once per row, in the original order. Args: logprobs (N, C); n_choices (N,)."""
    slots = np.arange(logprobs.shape[1])
    orders = np.where(slots < np.asarray(n_choices)[:, None], slots, -1).astype(np.int8)
    known = np.where(orders >= 0, logprobs, -np.inf).astype(np.float32)
    return Scores(np.asarray(ids).astype(np.str_), known[:, None], orders[:, None], np.ones(1, np.float32), provenance)


def joined(parts: list[Scores]) -> Scores:
    """Rows of several Scores one after the other (the folds of an out-of-fold set).

    Folds may have been asked in different ways, where there was no time for all. The joined scores have every way that some part
    has, by image scale and number of the order; a row that was not asked so has NaN there. Ways that all parts share come first.
    """
    ways_of = [_named_ways(part.scales) for part in parts]
    every = dict.fromkeys(way for ways in ways_of for way in ways)
    ways = sorted(every, key=lambda way: not all(way in each for each in ways_of))  # a stable sort
    c = max(part.logprobs.shape[2] for part in parts)

    def widened(part: Scores, own: list[tuple[float, int]]) -> tuple[np.ndarray, np.ndarray]:
        n, _, c0 = part.logprobs.shape
        at = [ways.index(way) for way in own]
        logprobs = np.full((n, len(ways), c), np.nan, np.float32)
        logprobs[:, at] = -np.inf
        logprobs[:, at, :c0] = part.logprobs
        logprobs[np.isnan(logprobs).any(-1)] = np.nan
        orders = np.full((n, len(ways), c), -1, np.int8)
        orders[:, at, :c0] = part.orders
        return logprobs, orders

    logprobs, orders = zip(*map(widened, parts, ways_of), strict=True)
    return Scores(
        np.concatenate([p.ids for p in parts]), np.concatenate(logprobs), np.concatenate(orders),
        np.array([scale for scale, _ in ways], np.float32), {"joined": [p.provenance for p in parts]},
    )


def _named_ways(scales: np.ndarray) -> list[tuple[float, int]]:
    """Each way as its image scale and its number among the ways of that scale."""
    seen: dict[float, int] = {}
    named = []
    for scale in map(float, scales):
        named.append((scale, seen.get(scale, 0)))
        seen[scale] = named[-1][1] + 1
    return named
