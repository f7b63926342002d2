"""mcvqa: fine-tune vision-language models on multiple-choice visual question answering and hand in a submission.

    from mcvqa import Config, run
    run(Config(data_dir="data"))
"""
from typing import Any

from mcvqa.config import Config, load_config

__version__ = "0.1.0"
__all__ = ["Config", "__version__", "load_config", "run"]


def __getattr__(name: str) -> Any:
    """`run` brings torch along, so it is imported when it is asked for."""
    if name == "run":
        import mcvqa.run

        return mcvqa.run
    raise AttributeError(f"module 'mcvqa' has no attribute {name!r}")
