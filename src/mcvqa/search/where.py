"""Decides where a search works: on a Ray cluster, in processes of this machine, or in this process."""
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcvqa.search.searchers import Tell, search_here, search_in_processes
from mcvqa.search.study import SearchPlan, SearchStudy


def search_with(study: SearchStudy, parallel: int, tell: Tell) -> None:
    """Do the trials of a study.

    Args:
        study: the study.
        parallel: number of trials at the same time.
        tell: called repeatedly.

    Raises:
        ConfigError, RunStopped, Interrupted, TimeUp: see the functions that do it.
    """
    if study.plan.config.executor == "ray":
        from mcvqa.search.on_ray import search_on_ray

        search_on_ray(study, parallel, tell)
    elif parallel > 1:
        search_in_processes(study, parallel, {}, tell)
    else:
        search_here(study, output_here(study.plan), tell)


def confirm_with(study: SearchStudy, parallel: int, best: Mapping[int, Mapping[str, Any]]) -> None:
    """Train the other folds of the best with several workers; this process alone trains them when it reads the results.

    Args:
        study: the study.
        parallel: number of trials at the same time.
        best: number of the trial -> values of the searched settings.

    Raises:
        ConfigError, RunStopped, Interrupted, TimeUp: see the functions that do it.
    """
    if study.plan.config.executor == "ray":
        from mcvqa.search.on_ray import confirm_on_ray

        confirm_on_ray(study.plan, best, parallel)
    elif parallel > 1:
        search_in_processes(study, min(parallel, len(best)), {"best": [dict(values) for values in best.values()]}, lambda _: None)


def output_here(plan: SearchPlan) -> Path:
    """Return the file for the output of the runs that this process does."""
    return plan.paths.log.with_name(f"{plan.name}-search.txt")
