"""Trains one model on all labelled rows after the folds (`final_fit`)."""
from mcvqa.base.budget import seconds_for_end, spell_duration
from mcvqa.base.files import read_json
from mcvqa.base.informing import counted
from mcvqa.data.folds import FINAL
from mcvqa.model.distributed import by_main
from mcvqa.run.execution import Execution
from mcvqa.run.final import final_tasks
from mcvqa.run.final_steps import final_steps

TIME_OF_FINAL = 1.5  # time of the final model relative to that of its training


def fit_finally(execution: Execution) -> None:
    """Train the final model on all rows and score the test rows with it; within a time budget only if it fits.

    The accuracy of this model cannot be measured.
    """
    project, data = execution.project, execution.data
    if not by_main(_can_begin, execution):
        return
    before = execution.training()
    tasks = by_main(final_tasks, project, data, [task.name for task in before if task.kind == "features"])
    execution.run([*before, *tasks], [task.name for task in tasks])
    train, _ = data.fold_rows(FINAL)
    pseudo = sum(q.source == "pseudo" for q in train)
    rows = counted(len(train) - pseudo, "labelled row") + (f" and {counted(pseudo, 'pseudo-labelled row')}" if pseudo else "")
    print(f"  final model: trained on {rows}, so its accuracy cannot be measured; see that of the folds")


def _can_begin(execution: Execution) -> bool:
    """Check that all folds are trained and the time suffices; print a line if not."""
    project, schedule = execution.project, execution.schedule
    if missing := [fold for fold in project.config.folds_to_train if fold not in execution.trained]:
        print(f"  no final model: fold {missing[0]}, which determines how long to train it, is not trained")
        return False
    if schedule is None or project.paths.fold(FINAL).exists():
        return True
    folds = [read_json(project.paths.fold(fold) / "result.json", dict) for fold in project.config.folds_to_train]
    pace = sum(fold["seconds"] for fold in folds) / max(1, sum(fold["steps"] for fold in folds))
    needed = TIME_OF_FINAL * pace * final_steps(project, execution.data)[1]
    left = project.seconds_until(seconds_for_end(project.config.budget_seconds))
    if needed > left:
        print(f"  no final model: it would take about {spell_duration(needed)}, and {spell_duration(left)} are left")
    return needed <= left
