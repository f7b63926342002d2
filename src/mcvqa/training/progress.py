"""Everything that optimizer steps change, as tensors and JSON and back again, bit for bit."""
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from mcvqa.model.memory import random_state, set_random_state
from mcvqa.training.average import WeightAverage


@dataclass(frozen=True)
class Learned:
    """What a fold has learned so far.

    Attributes:
        parameters: the trained ones, by name.
        optimizer: its learning rate is set anew in every step and is not kept.
        averages: by name.
        scaler: of float16 gradients, or None.
    """

    parameters: dict[str, nn.Parameter]
    optimizer: Any
    averages: dict[str, WeightAverage]
    scaler: Any

    def tensors(self) -> dict[str, torch.Tensor]:
        """By place, for example 'optimizer/3/exp_avg' of the fourth parameter."""
        found = {f"weights/{name}": p.detach() for name, p in self.parameters.items()}
        for name, average in self.averages.items():
            found |= {f"{name}/{parameter}": value for parameter, value in average.values.items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            found |= {f"optimizer/{number}/{kind}": value for kind, value in moments.items()}
        return found

    def facts(self) -> dict[str, Any]:
        """The rest, for JSON."""
        return {
            "updates": {name: average.updates for name, average in self.averages.items()},
            "scaler": self.scaler.state_dict() if self.scaler else {},
        }

    @torch.no_grad()
    def restore(self, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        """Take over what `tensors` and `facts` gave."""
        for name, p in self.parameters.items():
            p.copy_(tensors[f"weights/{name}"])
        for name, average in self.averages.items():
            average.updates = facts["updates"][name]
            for parameter, value in average.values.items():
                value.copy_(tensors[f"{name}/{parameter}"])
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for place, value in tensors.items():
            kind, number, *rest = place.split("/")
            if kind == "optimizer":
                moments.setdefault(int(number), {})[rest[0]] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        if self.scaler and facts["scaler"]:
            self.scaler.load_state_dict(facts["scaler"])


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
    """Args: states: as `generator_states` gives them, also after a way through JSON; a GPU that is not here is passed over."""
    on_gpu = _from_hex(states["gpu"]) if states["gpu"] and torch.cuda.is_available() else None
    set_random_state((_from_hex(states["cpu"]), on_gpu))
    np.random.set_state(tuple(states["numpy"]))
    version, numbers, spare = states["python"]
    random.setstate((version, tuple(numbers), spare))


def _as_hex(state: torch.Tensor) -> str:
    return state.numpy().tobytes().hex()


def _from_hex(written: str) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(written), dtype=torch.uint8)
