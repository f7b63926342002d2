"""Holds everything that optimizer steps change, serialised to tensors and JSON and restored bit for bit."""
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from mcvqa.model.memory import random_state, set_random_state
from mcvqa.training.average import WeightAverage

COUNTED = ("step", "skipped", "skipped_on_end", "epochs_done", "rollbacks", "anchor")


@dataclass
class TrainingState:
    """Holds progress, weights and optimizer state of a fold in training.

    The order of rows is a function of seed and epoch, so `step` and `epochs_done` determine which rows come next.

    Attributes:
        parameters: the trained parameters by name.
        optimizer: its learning rate is set in every step and not saved.
        averages: weight averages by name.
        scaler: loss scaler for float16, or None.
        step, skipped, skipped_on_end: optimizer steps: total, skipped, skipped in a row.
        epochs_done: epochs trained and validated.
        rollbacks: returns to the beginning of an epoch, each of which halves the learning rate.
        anchor: name of the resume point for a rollback: the newest beginning of an epoch not preceded by skipped steps.
        right: for each validated epoch (N,) bool, whether the weights used for scoring answered each row correctly.
        validation_rows: number of rows that are validated; 0: not decided yet.
    """

    parameters: dict[str, nn.Parameter]
    optimizer: Any
    averages: dict[str, WeightAverage]
    scaler: Any
    step: int = 0
    skipped: int = 0
    skipped_on_end: int = 0
    epochs_done: int = 0
    rollbacks: int = 0
    anchor: str = ""
    right: list[np.ndarray] = field(default_factory=list)
    validation_rows: int = 0

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all tensors by name, such as 'optimizer/3/exp_avg' of the fourth parameter."""
        tensors = {f"weights/{name}": p.detach() for name, p in self.parameters.items()}
        for name, average in self.averages.items():
            tensors |= {f"{name}/{parameter}": value for parameter, value in average.values.items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{kind}": value for kind, value in moments.items()}
        return tensors

    def facts(self) -> dict[str, Any]:
        """Return everything that is not a tensor, for JSON."""
        return {
            "counters": {name: getattr(self, name) for name in COUNTED},
            "updates": {name: average.updates for name, average in self.averages.items()},
            "scaler": self.scaler.state_dict() if self.scaler else {},
            "right": ["".join("01"[bool(value)] for value in row) for row in self.right],
            "validation_rows": self.validation_rows,
        }

    @torch.no_grad()
    def restore(self, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        """Restore the results of `tensors` and `facts`; resume points of version 0.1 have no validated rows."""
        for name, p in self.parameters.items():
            p.copy_(tensors[f"weights/{name}"])
        for name, average in self.averages.items():
            average.updates = facts["updates"][name]
            for parameter, value in average.values.items():
                value.copy_(tensors[f"{name}/{parameter}"])
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            kind, number, *rest = key.split("/")
            if kind == "optimizer":
                moments.setdefault(int(number), {})[rest[0]] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        if self.scaler and facts["scaler"]:
            self.scaler.load_state_dict(facts["scaler"])
        for name in COUNTED:
            setattr(self, name, facts["counters"][name])
        self.right = [np.array([*row]) == "1" for row in facts.get("right", ())]
        self.validation_rows = facts.get("validation_rows", 0)


# %% random numbers
def generator_states() -> dict[str, Any]:
    """Return the states of all random generators of this process, for JSON: torch on the CPU and the GPU in use, numpy and
    Python."""
    on_cpu, on_gpu = random_state()
    numpy_state: Any = np.random.get_state()
    return {
        "cpu": _as_hex(on_cpu), "gpu": None if on_gpu is None else _as_hex(on_gpu),
        "numpy": [numpy_state[0], numpy_state[1].tolist(), *numpy_state[2:]], "python": random.getstate(),
    }


def set_generator_states(states: dict[str, Any]) -> None:
    """Set all random generators of this process; the state of a missing GPU is ignored.

    Args:
        states: from `generator_states`, also after a round trip through JSON.
    """
    on_gpu = _from_hex(states["gpu"]) if states["gpu"] and torch.cuda.is_available() else None
    set_random_state((_from_hex(states["cpu"]), on_gpu))
    np.random.set_state(tuple(states["numpy"]))
    version, numbers, spare = states["python"]
    random.setstate((version, tuple(numbers), spare))


def _as_hex(state: torch.Tensor) -> str:
    return state.numpy().tobytes().hex()


def _from_hex(digits: str) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(digits), dtype=torch.uint8)
