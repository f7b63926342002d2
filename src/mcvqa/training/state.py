"""Everything that optimizer steps change, as tensors and JSON and back again, bit for bit."""
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
    """Where the training of a fold is, and what it has learned so far.

    The order of the rows is a function of seed and epoch, so `step` and `epochs_done` say which rows come next.

    Attributes:
        parameters: the trained ones, by name.
        optimizer: its learning rate is set anew in every step and is not kept.
        averages: of the weights, by name.
        scaler: of float16 gradients, or None.
        step, skipped, skipped_on_end: optimizer steps: total, skipped, skipped in a row up to now.
        epochs_done: epochs that are trained and validated.
        rollbacks: returns to the beginning of an epoch, each with half the learning rate from there on.
        anchor: name of the resume point to go back to: the beginning of the newest epoch that did not begin among lost steps.
        right: of each validated epoch whether each row was answered right, (N,) bool; the weights are those to score with.
        validation_rows: how many rows are validated; 0: not decided yet.
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
        """By name, for example 'optimizer/3/exp_avg' of the fourth parameter."""
        found = {f"weights/{name}": p.detach() for name, p in self.parameters.items()}
        for name, average in self.averages.items():
            found |= {f"{name}/{parameter}": value for parameter, value in average.values.items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            found |= {f"optimizer/{number}/{kind}": value for kind, value in moments.items()}
        return found

    def facts(self) -> dict[str, Any]:
        """The rest, for JSON."""
        return {
            "counters": {name: getattr(self, name) for name in COUNTED},
            "updates": {name: average.updates for name, average in self.averages.items()},
            "scaler": self.scaler.state_dict() if self.scaler else {},
            "right": ["".join("01"[bool(value)] for value in row) for row in self.right],
            "validation_rows": self.validation_rows,
        }

    @torch.no_grad()
    def restore(self, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        """Take over what `tensors` and `facts` gave; points of version 0.1 know nothing of validated rows."""
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
    """Of every generator of this process, for JSON: torch's on the CPU and on the GPU in use, numpy's and Python's."""
    on_cpu, on_gpu = random_state()
    of_numpy: Any = np.random.get_state()
    return {
        "cpu": _as_hex(on_cpu), "gpu": None if on_gpu is None else _as_hex(on_gpu),
        "numpy": [of_numpy[0], of_numpy[1].tolist(), *of_numpy[2:]], "python": random.getstate(),
    }


def set_generator_states(states: dict[str, Any]) -> None:
    """Set every generator of this process; a GPU that is not here is skipped.

    Args:
        states: as `generator_states` gives them, also after a round trip through JSON.
    """
    on_gpu = _from_hex(states["gpu"]) if states["gpu"] and torch.cuda.is_available() else None
    set_random_state((_from_hex(states["cpu"]), on_gpu))
    np.random.set_state(tuple(states["numpy"]))
    version, numbers, spare = states["python"]
    random.setstate((version, tuple(numbers), spare))


def _as_hex(state: torch.Tensor) -> str:
    return state.numpy().tobytes().hex()


def _from_hex(written: str) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(written), dtype=torch.uint8)
