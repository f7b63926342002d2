"""Runs the ten steps: their tasks, the order of these, and the workers that execute them.

The package has the name of its main function: `from mcvqa import run` gives this package, and calling it runs all ten steps:

    from mcvqa import Config, run
    outcome = run(Config(data_dir="data"))
    print(outcome.accuracy, outcome.submission)

`run(config)`, or `run(config, train=frame, test=frame)` with tables in memory, takes a `Config` and returns an `Outcome`
(run, accuracy, submission, report, metrics, advice). It raises `McvqaError` if something must be changed first and
`Interrupted` after Ctrl-C or SIGTERM; the same call continues from there.
"""
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mcvqa.config import Config
    from mcvqa.run.steps import Outcome


class _CallableModule(ModuleType):
    def __call__(
        self, config: "Config", *, callbacks: "Sequence[Any]" = (), metrics: "Mapping[str, Any] | None" = None,
        augment: "Any" = None, **tables: Any,
    ) -> "Outcome":
        """Run all ten steps, from the data to the submission.

        Args:
            config: all settings of the run.
            callbacks: objects whose methods are called as the run goes on; see `mcvqa.Callback`.
            metrics: own metrics, name -> function of truth, log-probabilities and questions; see `mcvqa.report.own_metrics`.
            augment: own augmentation of training rows, (image, question) -> (image, question); see `mcvqa.model.augment`.
            tables: train=, test=, dev=, sample_submission= in memory instead of files; see `mcvqa.run.in_memory.with_tables`.

        Returns:
            Paths of the submission and the report, and the accuracy of the submission.

        Raises:
            McvqaError: a setting, the data, the model or the machine must be changed first; the message says how. Finished
                work stays on disk, and the same call continues from there.
            Interrupted: after SIGTERM or SIGINT, a KeyboardInterrupt; the same call continues from there too.
        """
        from mcvqa.run.events import watched
        from mcvqa.run.paths import RunPaths
        from mcvqa.run.steps import run  # imports torch, so only when it is needed

        if tables:
            from mcvqa.run.in_memory import with_tables

            config = with_tables(config, **tables)
        if metrics:
            from mcvqa.report.own_metrics import require_metrics

            require_metrics(metrics)
        if any(name.startswith("search:") for name in config.members):
            from mcvqa.run.of_search import with_members_of_search

            config = with_members_of_search(config)
        own_process = os.environ.get("RANK", "0") == "0"  # among those that torchrun has started
        with watched(RunPaths(Path(config.output_dir), config.run).log, callbacks if own_process else ()) as watch:
            watch.outcome = run(config, metrics, augment)
        return watch.outcome


sys.modules[__name__].__class__ = _CallableModule
