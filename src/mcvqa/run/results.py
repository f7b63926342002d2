"""Steps 9 and 10: members combined into one submission; what it is worth measured, drawn and printed."""
import dataclasses
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from mcvqa.base.files import read_json
from mcvqa.base.informing import informing
from mcvqa.base.uncertainty import Accuracy
from mcvqa.data.images import open_image
from mcvqa.data.prior import Prior
from mcvqa.ensemble.blend import Blend, Member, blend_members, read_predictions
from mcvqa.model.device import DevicePlan
from mcvqa.report.advice import Advice, choose_advice, read_learning_curves
from mcvqa.report.experiments import record_experiment, update_index
from mcvqa.report.figures import draw_figures
from mcvqa.report.metrics import Metrics, leaderboard_estimate, measure, read_epochs, spell_selection
from mcvqa.report.page import ReportInput, write_report
from mcvqa.run.dataset import RunData, prior_of_train, without_test
from mcvqa.run.project import CurrentLog, Project, RunPaths, RunStopped, attempts_of, heading
from mcvqa.run.score import scored_folds, splits_of, valid_scores
from mcvqa.run.submissions import ENSEMBLE_FILE, Answers, Submitted, hand_in, image_groups_of, validate_file
from mcvqa.run.tasks import MADE_BY_0_1, TaskRecords
from mcvqa.scoring.scores import Scores, joined, load_scores


# %% step 9: ensemble
def run_member(project: Project, data: RunData) -> Member:
    """The folds of this run as one member: a row out of fold by its own fold's model, test rows by all of them.

    Raises:
        CheckpointError, RunStopped: a fold has no weights, or no scores of these weights, rows and settings.
    """
    folds = scored_folds(project, data)
    if not folds:
        raise RunStopped(f"The run {project.config.run!r} has no scores: finish it first (mcvqa run).")
    parts = [valid_scores(project, data, fold) for fold in folds]
    old = any(project.records.is_of_0_1(f"score fold {fold} oof") for fold in folds)
    return Member(
        project.config.run, joined([oof for oof, _ in parts]), tuple(test for _, test in parts),
        f"The scores of {project.config.run} were {MADE_BY_0_1}." if old else "",
    )


def other_member(project: Project, data: RunData, name: str) -> Member:
    """A member of the ensemble named in the settings: 'prior', a prediction file, or another run in this folder.

    Raises:
        RunStopped: another run is not finished, or is of other data.
    """
    if name == "prior":
        scores = [load_scores(project.paths.scores / f"prior-{split}.npz") for split in ("oof", "test")]
        return Member("prior", scores[0], (scores[1],))
    if name.lower().endswith(".csv"):
        return read_predictions(name, data.test, data.tables[0].convention)
    paths = RunPaths(project.paths.root, name)
    records = TaskRecords(paths.experiment / "tasks", paths.experiment / "steps", paths.root)
    _require_same_data(project, data, paths)
    splits = splits_of(data)
    folds = sorted(int(f.stem.removeprefix("fold").removesuffix("-oof")) for f in paths.scores.glob("fold*-oof.npz"))
    folds = [fold for fold in folds if _is_valid_elsewhere(records, paths, fold, splits)]
    if not folds:
        raise RunStopped(f"The run {name!r} has no scores of the weights it has now: finish it first (mcvqa run).")
    found = {split: [load_scores(paths.scores / f"fold{f}-{split}.npz") for f in folds] for split in splits}
    oof = joined(found["oof"])
    return Member(name, oof, tuple(found.get("test", [oof.rows(np.arange(0))])))


def _is_valid_elsewhere(records: TaskRecords, paths: RunPaths, fold: int, splits: Sequence[str]) -> bool:
    """Whether another run's scores of a fold are those that its records speak of, by the weights that it has now."""
    if not all((paths.scores / f"fold{fold}-{split}.npz").exists() for split in splits):
        return False
    train = records.read(f"train fold {fold}")
    if not train:  # of version 0.1, or no longer there
        return paths.fold(fold).exists()
    for split in splits:
        scored = records.read(f"score fold {fold} {split}")
        if not scored.get("finished") or scored["used"].get(f"train fold {fold}") != records.print_of(f"train fold {fold}"):
            return False
    return True


def _require_same_data(project: Project, data: RunData, paths: RunPaths) -> None:
    """Raises RunStopped where another run was made on other questions: the same ids may mean other choices."""
    file = paths.experiment / "data.json"
    if not file.exists():
        raise RunStopped(f"members: the run {paths.run!r} has no {file}: finish it first (mcvqa run).")
    try:
        other = read_json(file)
        same_test = other.get("test_content", data.test_print) == data.test_print
    except (ValueError, AttributeError):
        raise RunStopped(f"members: {file} is damaged, so the data of the run {paths.run!r} are not known.") from None
    if not same_test:
        raise RunStopped(
            f"members: the run {paths.run!r} answered other test rows ({other.get('folder', 'elsewhere')}): questions, choices "
            f"or photographs differ. Score it on these (mcvqa predict {paths.run} --data {project.config.data_dir}), or leave it "
            "out."
        )


def member_name(name: str) -> str:
    """How a member is called: a run by its name, a prediction file by its name without .csv."""
    return Path(name).stem if name.lower().endswith(".csv") else name


def require_members(project: Project) -> None:
    """Raises RunStopped, before any training, for members that will not be there after it."""
    for name in project.config.members:
        there = Path(name) if name.lower().endswith(".csv") else project.paths.experiment.parent / name / "scores"
        if name != "prior" and not there.exists():
            raise RunStopped(f"members: there is no {there}. Name 'prior', a prediction file (.csv) or a run in this folder.")
    names = [member_name(name) for name in (project.config.run, *project.config.members)]
    if len(set(names)) < len(names):
        raise RunStopped(f"members: two have the same name ({', '.join(names)}). Rename a file.")


@dataclass(frozen=True)
class Combined:
    """The ensemble of a run.

    Attributes:
        own: this run as a member.
        submitted: what outputs/submission_ensemble.csv holds now; None where there are no test rows.
        names: of the members, for people.
    """

    blend: Blend
    own: Member
    submitted: Submitted | None
    names: str


def combine(project: Project, data: RunData, prior: Prior, *, force: bool = False) -> Combined:
    """Combine the folds and the other members, and write the submission.

    Args:
        force: hand it in even where the file to hand in holds better answers.
    """
    heading("ensemble", project.config.ensemble)
    own = run_member(project, data)
    # without test rows nothing is known of a file with predictions of them
    others = [name for name in project.config.members if data.test or not name.lower().endswith(".csv")]
    members = [own, *(other_member(project, data, name) for name in others)]
    answers = {q.id: q.answer for q in data.train if q.answer is not None}
    groups = image_groups_of(data)
    blend = blend_members(members, answers, project.config.ensemble, seed=project.config.seed, groups=groups)
    names = ", ".join(f"{m.name} ({len(m.test)} folds)" if len(m.test) > 1 else m.name for m in members)
    print(f"  members: {names}\n  method: {blend.method}. {blend.reason}")
    print("\n".join(_accuracy_lines(blend)))
    project.log.write(
        "ensemble", method=blend.method, members=names, accuracies={k: a.record for k, a in blend.table.items()},
    )
    truth = np.array([answers[name] for name in blend.oof_ids.tolist()], dtype=int)
    made = Answers(
        f"{blend.method} of {names}", blend.predictions, blend.oof_ids,
        blend.oof_predictions == truth if len(blend.oof_predictions) == len(truth) else np.empty(0, bool),
    )
    return Combined(blend, own, hand_in(project, data, made, prior, force=force), names)


def _accuracy_lines(blend: Blend) -> list[str]:
    """Of each member alone and of every method; with a single member all methods answer alike, so one line says it."""
    if len(blend.alone) < 2:
        return [f"  out of fold: {accuracy}" for accuracy in blend.alone.values()]
    named = {f"{name} alone": accuracy for name, accuracy in blend.alone.items()} | blend.table
    width = max(map(len, named))
    return [f"  {name:{width}} {accuracy}" for name, accuracy in named.items()]


# %% step 10: report
@dataclass(frozen=True)
class Outcome:
    """What a finished run leaves behind.

    Attributes:
        accuracy: of the answers in `submission`, on rows that their models have not seen.
        submission: the CSV file to hand in; None where there is no test file.
        submitted: what it holds: another run's answers, where these are better.
        report: the page to read.
        metrics: of this run.
        advice: what to try next.
    """

    run: str
    accuracy: Accuracy
    submission: Path | None
    submitted: Submitted | None
    report: Path
    metrics: Metrics
    advice: tuple[Advice, ...]


def technique_variants(
    project: Project, data: RunData, scores: Scores, answers: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Right or wrong (N,) with and without each technique, on the out-of-fold rows of `scores`."""
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    folds, attempts = scored_folds(project, data), attempts_of(project)
    by_variant = {name: _variant_scores_of(project, folds, name, attempts) for name in ("raw", "ema", "swa")}
    rows = {name: joined(parts) for name, parts in by_variant.items() if parts}
    predicted = {name: _predictions_by_id(part, scores.ids) for name, part in rows.items()}
    right = {name: choices == answers for name, choices in predicted.items() if (choices >= 0).all()}
    found |= {name.upper(): (right[name], right["raw"]) for name in right if name != "raw" and "raw" in right}
    if len({valid_scores(project, data, fold)[0].scales.tobytes() for fold in folds}) > 1:
        return found  # some folds were read in more ways than there was time for with the others
    scales = set(scores.scales.tolist())
    orders = len(scores.scales) // len(scales)
    # the plain question: the first order at the scale nearest to 1
    at_scale = scores.scales == scores.scales[np.abs(scores.scales - 1).argmin()]
    plain = scores.views(np.arange(len(at_scale)) == at_scale.argmax()).predictions() == answers
    every_order, everything = scores.views(at_scale).predictions() == answers, scores.predictions() == answers
    if orders > 1:
        found["TTA orders"] = (every_order, plain)
    if len(scales) > 1:
        found["TTA scales"] = (everything, every_order)
    if orders > 1 and len(scales) > 1:
        found["TTA"] = (everything, plain)
    return found


def _variant_scores_of(project: Project, folds: Sequence[int], name: str, attempts: Mapping[int, str]) -> list[Scores]:
    """Scores at the end of training by one kind of weights, of the attempts whose weights are there; none if one is missing."""
    files = [project.paths.scores / f"fold{fold}-{name}.npz" for fold in folds]
    if not all(file.exists() for file in files):
        return []
    parts = [load_scores(file) for file in files]
    current = all(part.provenance.get("attempt", "") == attempts[fold] for part, fold in zip(parts, folds, strict=True))
    return parts if current else []


def _predictions_by_id(scores: Scores, ids: np.ndarray) -> np.ndarray:
    """(N,) predicted choices of the rows `ids`; -2 where a row has none."""
    known = dict(zip(scores.ids.tolist(), scores.predictions().tolist(), strict=True))
    return np.array([known.get(name, -2) for name in ids.tolist()])


def measure_run(project: Project, data: RunData, prior: Prior, combined: Combined) -> Metrics:
    """Everything the report says in figures about this run."""
    scores = combined.own.oof
    assert scores is not None
    index = {q.id: i for i, q in enumerate(data.train)}
    rows = [index[name] for name in scores.ids.tolist()]
    questions = [data.train[i] for i in rows]
    answers = np.array([-1 if q.answer is None else q.answer for q in questions])
    variants = technique_variants(project, data, scores, answers)
    if project.config.members:
        blend = combined.blend
        blended = dict(zip(blend.oof_ids.tolist(), blend.oof_predictions.tolist(), strict=True))
        if all(q.id in blended for q in questions):
            variants["ensemble"] = (np.array([blended[q.id] for q in questions]) == answers, scores.predictions() == answers)
    log = CurrentLog(project.log, attempts_of(project))
    return measure(
        questions, scores, data.folds[rows], groups=data.groups[rows], prior=prior_of_train(data, prior)[rows],
        temperature=combined.blend.temperatures[project.config.run], variants=variants, test_size=len(data.test),
        epochs=read_epochs(log.events("epoch")) if project.config.keep == "best" else None,
    )


def render_report(
    project: Project, data: RunData, combined: Combined, metrics: Metrics, surroundings: Mapping[str, str], seconds: float
) -> tuple[Path, Path, tuple[Advice, ...]]:
    """Write metrics.json, figures, REPORT.md, report.html and the index of runs.

    Args:
        surroundings: versions, commit and device; see `environment`.
        seconds: time the run took.

    Returns:
        The page, the index, and what to try next.
    """
    folder, config = project.paths.experiment, project.config.as_dict()
    record_experiment(folder, status="finished", seconds=seconds, metrics=metrics)
    log = CurrentLog(project.log, attempts_of(project))
    advice = choose_advice(metrics, config, read_learning_curves(log), seconds)
    page, index = folder / "report.html", folder.parent / "README.md"
    with informing("the report"):
        figures = draw_figures(metrics, log, folder, lambda written: open_image(data.records[written].path or written))
        summary, blend, held = folder / "eda" / "summary.txt", combined.blend, combined.submitted or Submitted("", "")
        write_report(folder, ReportInput(
            run=project.config.run, config=config, metrics=metrics, methods=blend.table if len(blend.alone) > 1 else {},
            data_summary=summary.read_text(encoding="utf-8") if summary.exists() else "", method=blend.method,
            method_reason=blend.reason, figures=figures, submitted=held.source,
            submitted_run=held.run, submitted_accuracy=held.accuracy,
            submissions={str(f): validate_file(f, data) for f in submission_files(project, data)},
            not_submitted="" if data.test else without_test(project), advice=advice,
            environment=surroundings, seconds=seconds,
        ))
    with informing("the index of runs"):
        index = update_index(folder.parent)
    return page, index, advice


def submission_files(project: Project, data: RunData) -> list[Path]:
    """Those of the run and of its output folder; none without test rows."""
    found = [*sorted(project.paths.outputs.glob("submission_*.csv")), project.paths.experiment / "submission.csv"]
    return found if data.test else []


def print_result(project: Project, combined: Combined, metrics: Metrics, page: Path, index: Path) -> None:
    """The last lines of a run: what was reached, and which file is what."""
    held, path = combined.submitted, project.paths.outputs / ENSEMBLE_FILE
    accuracy = ", ".join(filter(None, (str(metrics.overall.accuracy), spell_selection(metrics.selection))))
    print(f"  this run, out of fold: {accuracy}; without the photographs: {metrics.overall.blind}")
    for name, gain in metrics.gains.items():
        print(f"  {name:12} {gain}")
    if held is None:
        print("\nsubmission  none: there is no test.csv")
    else:
        accuracy = f", accuracy {held.accuracy}" if held.accuracy else ""
        print(f"\nsubmission  {path}\n            {held.source} of the run {held.run!r}{accuracy}")
    print(f"accuracies  {project.paths.experiment / 'REPORT.md'}\nreport      {page}\nall runs    {index}")


def write_results(project: Project, data: RunData, prior: Prior, combined: Combined, device: str, started: float) -> Outcome:
    """Measure, render, print.

    Args:
        device: what was computed on, for people.
        started: time.time() at the start of this session.
    """
    heading("report")
    metrics = measure_run(project, data, prior, combined)
    handed_in = combined.submitted
    if handed_in and handed_in.accuracy is not None:
        own = handed_in.run == project.config.run and handed_in.source != "prior"  # what this run's epochs were chosen for
        estimate = leaderboard_estimate(handed_in.accuracy, len(data.test), metrics.selection if own else None)
        metrics = dataclasses.replace(metrics, leaderboard=estimate)
    seconds = seconds_of(project) + time.time() - started
    page, index, advice = render_report(project, data, combined, metrics, environment(device), seconds)
    accuracy = metrics.overall.accuracy
    project.log.write(
        "result", accuracy=accuracy.value, standard_error=accuracy.standard_error, n=accuracy.n, seconds=round(seconds, 1),
        gains={name: gain.value for name, gain in metrics.gains.items()},
    )
    print_result(project, combined, metrics, page, index)
    file = project.paths.outputs / ENSEMBLE_FILE if handed_in else None
    return Outcome(
        project.config.run, (handed_in and handed_in.accuracy) or accuracy, file, handed_in, page, metrics, advice,
    )


def seconds_of(project: Project) -> float:
    """Time spent on a run by the sessions before this one, those of attempts that were started over left out."""
    now = project.log.facts.get("attempt", "")
    return sum(event["seconds"] for event in project.log.events("session") if event.get("attempt", "") == now)


# %% provenance
def environment(device: str) -> dict[str, str]:
    """Versions, commit and device: the provenance of a result."""
    packages = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "numpy", "scikit-learn", "pillow")
    found = {"python": platform.python_version(), "system": platform.platform(), "mcvqa": _version_of("mcvqa")}
    found |= {name: _version_of(name) for name in packages}
    return found | {"commit": code_commit(), "device": device}


def device_named(plan: DevicePlan) -> str:
    """What was computed on, for people."""
    return plan.reasons[0].split(":")[0].removeprefix("device ")


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def code_commit() -> str:
    """Of the checkout that the package is run from; 'unknown' without one.

    A repository that merely holds the environment in which the package is installed is none.
    """
    spec = find_spec("mcvqa")
    if spec is None or not spec.origin:
        return "unknown"
    source = Path(spec.origin)
    git = ["git", "-C", str(source.parent)]
    try:
        subprocess.run([*git, "ls-files", "--error-unmatch", source.name], capture_output=True, timeout=5, check=True)
        return subprocess.run(
            [*git, "describe", "--always", "--dirty"], capture_output=True, text=True, timeout=5, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


