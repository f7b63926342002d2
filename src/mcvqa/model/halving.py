"""Halves batches of rows that do not fit into memory."""
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from mcvqa.base.informing import counted
from mcvqa.model.fast.forward import Answering, AskedRows, read_letters
from mcvqa.model.memory import free_memory


@dataclass
class HalvingReader:
    """Scores batches, and halves them once the GPU's memory runs out.

    Attributes:
        model: computes the letters' logits.
        dataset: makes AskedRows from a tuple of row numbers.
        device: where the model is.
        most: largest number of rows in one forward pass.
    """

    model: Answering
    dataset: Dataset
    device: str
    most: int

    def read(self, key: tuple[int, ...], batch: AskedRows | None = None) -> list[np.ndarray]:
        """Compute letter log-probabilities (K, C) of each row of `key`.

        Args:
            key: row numbers.
            batch: the batch of these rows, if it is loaded already.
        """
        logprobs = self._within_memory(key, batch) if len(key) <= self.most else None
        if logprobs is None:
            middle = (len(key) + 1) // 2
            logprobs = self.read(key[:middle]) + self.read(key[middle:])
        return logprobs

    def _within_memory(self, key: tuple[int, ...], batch: AskedRows | None) -> list[np.ndarray] | None:
        try:
            return read_letters(self.model, [self.dataset[key] if batch is None else batch], self.device)
        except torch.cuda.OutOfMemoryError:
            if len(key) == 1:
                raise
        self.most = (len(key) + 1) // 2
        tqdm.write(f"  out of GPU memory: from now on {counted(self.most, 'row')} at a time")
        free_memory()
        return None
