"""What a run has to do, in which order, and who does it.

The package has the name of its main function: `from mcvqa import run` gives this module, and calling it runs all ten steps.
"""
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcvqa.config import Config


class _CallableModule(ModuleType):
    def __call__(self, config: "Config") -> Any:
        """All ten steps; see `mcvqa.run.steps.run`."""
        from mcvqa.run.steps import run  # brings torch along, so it is imported when it is needed

        return run(config)


sys.modules[__name__].__class__ = _CallableModule
