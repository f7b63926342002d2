"""What a time budget left unfinished: answers to a part of the test rows are handed in with the prior's to the others."""
import numpy as np

from mcvqa.data.prior import Prior
from mcvqa.run.dataset import RunData
from mcvqa.run.parts import parts_folder, read_parts
from mcvqa.run.project import Project
from mcvqa.run.score import score_task
from mcvqa.run.submissions import ENSEMBLE_FILE, Answers, read_submitted, write_answers
from mcvqa.run.train import result_of
from mcvqa.training.checkpoint import CheckpointError

ELSE_PRIOR = ", else prior"  # end of the source of a submission that the prior completes


def hand_in_parts(project: Project, data: RunData | None, prior: Prior | None) -> str:
    """Hand in what the first fold with parts has answered, and the prior's answers to the other test rows.

    Only answers of the prior are replaced, and only by a model that is more accurate.

    Returns:
        A sentence that says so; '' where nothing was handed in.
    """
    if data is None or prior is None or not data.test or not len(data.folds):
        return ""
    path = project.paths.outputs / ENSEMBLE_FILE
    current = read_submitted(path)
    if current is not None and current.source != "prior" and not current.source.endswith(ELSE_PRIOR):
        return ""
    for fold in project.config.folds_to_train:
        try:
            task = score_task(project, data, project.config.replace(use_tta=False), fold, "test")
            parts, accuracy = read_parts(parts_folder(project, task)), result_of(project, fold)
        except (OSError, ValueError, KeyError, CheckpointError):
            continue  # it has no weights yet
        if not parts or accuracy.value <= prior.accuracy.value:
            continue
        answered = {name: choice for part in parts for name, choice in zip(part.ids.tolist(), part.predictions(), strict=True)}
        blind = prior.test_logprobs.argmax(-1).tolist()
        predictions = np.array([answered.get(q.id, guess) for q, guess in zip(data.test, blind, strict=True)])
        share = f"{len(answered):,} of {len(data.test):,} rows"
        nothing = Answers(f"fold {fold} ({share}){ELSE_PRIOR}", predictions, np.empty(0, np.str_), np.empty(0, bool))
        write_answers(project, data, nothing, path)
        return f"{path} holds the answers of fold {fold} to {share} and those of the text-only prior to the others. "
    return ""
