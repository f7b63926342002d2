"""Combines members into one submission (step 9), then measures, draws and reports the result (step 10)."""
import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mcvqa.base.informing import informing
from mcvqa.base.uncertainty import Accuracy, without_measure
from mcvqa.data.language import language_of_pages
from mcvqa.data.prior import Prior
from mcvqa.ensemble.blend import BLEND_NAMES, Blend, Member, blend_members
from mcvqa.ensemble.predictions import is_of_run, write_run_predictions
from mcvqa.report.advice import Advice, choose_advice, read_learning_curves
from mcvqa.report.content import ReportInput
from mcvqa.report.experiments import record_experiment, update_index
from mcvqa.report.figures import draw_figures
from mcvqa.report.metrics import Metrics, leaderboard_estimate, measure, own_figures, read_epochs, spell_selection
from mcvqa.report.page import write_report
from mcvqa.run.dataset import RunData, prior_of_train, without_test
from mcvqa.run.exploration import data_findings
from mcvqa.run.members import other_member, run_member
from mcvqa.run.other_runs import require_same_test
from mcvqa.run.pages import Explained, thumbnails_in_report
from mcvqa.run.project import CurrentLog, Project, RunStopped, attempts_of, heading, seconds_of
from mcvqa.run.provenance import environment
from mcvqa.run.score import scored_folds, unmeasured_folds, valid_scores, variant_scores
from mcvqa.run.submissions import ENSEMBLE_FILE, Answers, Submitted, hand_in, image_groups_of, submission_files, validate_file
from mcvqa.run.tasks import Task
from mcvqa.scoring.scores import Scores, joined


# %% step 9: ensemble
def run_members(project: Project, data: RunData) -> tuple[Member, ...]:
    """List the run, its other seeds, then the members that it names; without test rows, prediction files cannot be used."""
    run, seeds = run_member(project, data), list[Member]()
    if project.config.n_seeds > 1:
        from mcvqa.run.seeds import seed_members

        seeds = seed_members(project, data)
    others = [name for name in project.config.members if data.test or not name.lower().endswith(".csv")]
    return run, *seeds, *(other_member(project, data, name) for name in others)


def member_name(name: str) -> str:
    """Return the name of a member: the run's name, or the prediction file's without .csv."""
    if is_of_run(Path(name)):
        return Path(name).absolute().parent.name
    return Path(name).stem if name.lower().endswith(".csv") else name


def require_members(project: Project) -> None:
    """Check before training that all members of the ensemble exist and have distinct names.

    Raises:
        RunStopped: they do not.
    """
    if project.config.n_seeds > 1:
        from mcvqa.run.seeds import seed_runs

        seed_runs(project.config)
    for name in project.config.members:
        path = Path(name) if name.lower().endswith(".csv") else project.paths.experiment.parent / name / "scores"
        if name != "prior" and not path.exists():
            raise RunStopped(f"members: {path} does not exist. Name 'prior', a prediction file (.csv) or a run in this folder.")
    names = [member_name(name) for name in (project.config.run, *project.config.members)]
    if len(set(names)) < len(names):
        raise RunStopped(f"members: names must be distinct ({', '.join(names)}). Rename a file.")


def require_members_fit(project: Project, data: RunData) -> None:
    """Check before training that the other members answer the same test rows.

    For another run only its rows are compared: it may still be in progress.

    Raises:
        BlendError, DataError, RunStopped: a member does not match.
    """
    for name in project.config.members if data.test else ():
        if name.lower().endswith(".csv"):
            other_member(project, data, name)
        elif name != "prior":
            require_same_test(data, project.config, name, "members")


@dataclass(frozen=True)
class Combined:
    """Holds the ensemble of a run.

    Attributes:
        blend: the combined answers.
        members: this run, then the others.
        submitted: content of outputs/submission_ensemble.csv; None: there are no test rows.
        names: names of the members, for display.
    """

    blend: Blend
    members: tuple[Member, ...]
    submitted: Submitted | None
    names: str


def combine(project: Project, data: RunData, prior: Prior, *, force: bool = False) -> Combined:
    """Combine the folds and the other members, and write the submission.

    Args:
        project: the run.
        data: its rows, with folds.
        prior: the text-only prior.
        force: replace the file to hand in even if it holds better answers.

    Raises:
        BlendError, CheckpointError, RunStopped: a member is missing or does not match.
    """
    heading("ensemble", project.config.ensemble)
    members = run_members(project, data)
    write_run_predictions(project.paths.experiment, members[0], data.train, data.folds, data.test, data.style)
    blend = blended(project, data, members)
    names = ", ".join(m.models for m in members)
    print("\n".join((f"  members: {names}\n  method: {BLEND_NAMES[blend.method]}. {blend.reason}", *_accuracy_lines(blend))))
    project.log.write(
        "ensemble", method=blend.method, members=names, accuracies={k: a.record for k, a in blend.table.items()},
    )
    answers = {q.id: q.answer for q in data.train}
    truth = np.array([answers[name] for name in blend.oof_ids.tolist()], dtype=int)
    combined = Answers(
        f"{BLEND_NAMES[blend.method]} of {' + '.join(m.models for m in members)}", blend.predictions, blend.oof_ids,
        blend.oof_predictions == truth if len(blend.oof_predictions) == len(truth) else np.empty(0, bool),
        next((a.not_measured for a in blend.alone.values()), ""),
    )
    return Combined(blend, members, hand_in(project, data, combined, prior, force=force), names)


def blended(project: Project, data: RunData, members: Sequence[Member]) -> Blend:
    """Combine the members' answers; accuracies that are not measured are marked."""
    answers = {q.id: q.answer for q in data.train if q.answer is not None}
    groups = image_groups_of(data)
    blend = blend_members(members, answers, project.config.ensemble, seed=project.config.seed, groups=groups)
    if reason := next(iter(unmeasured_folds(project, data).values()), ""):
        blend = dataclasses.replace(blend, alone=without_measure(blend.alone, reason), table=without_measure(blend.table, reason))
    return blend


def _accuracy_lines(blend: Blend) -> list[str]:
    """Make one line per member and method; with a single member all methods agree, so one line suffices."""
    if len(blend.alone) < 2:
        return [f"  out of fold: {accuracy}" for accuracy in blend.alone.values()]
    named = {f"{name} alone": accuracy for name, accuracy in blend.alone.items()} | blend.table
    width = max(map(len, named))
    return [f"  {name:{width}} {accuracy}" for name, accuracy in named.items()]


# %% step 10: report
@dataclass(frozen=True)
class Outcome:
    """Holds the outcome of a finished run.

    Attributes:
        run: name of the run.
        accuracy: accuracy of the answers in `submission`, on rows that their models have not seen; if they may have seen
            them, its `not_measured` says why.
        submission: the CSV file to hand in; None: there is no test file.
        submitted: record of that file, which may hold another run's better answers.
        report: path of report.html.
        metrics: all figures of this run's report.
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
    """Compare each technique with the run without it, on the out-of-fold rows.

    Args:
        project: the run.
        data: its rows, with folds.
        scores: out-of-fold scores of N rows.
        answers: (N,) choice indices.

    Returns:
        Technique -> (after, before), each (N,) booleans: right with and without it.
    """
    variants: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    folds, attempts = scored_folds(project, data), attempts_of(project)
    by_variant = {name: variant_scores(project, folds, name, attempts) for name in ("raw", "ema", "swa")}
    rows = {name: joined(parts) for name, parts in by_variant.items() if parts}
    predicted = {name: _predictions_by_id(part, scores.ids) for name, part in rows.items()}
    right = {name: choices == answers for name, choices in predicted.items() if (choices >= 0).all()}
    variants |= {name.upper(): (right[name], right["raw"]) for name in right if name != "raw" and "raw" in right}
    if len({valid_scores(project, data, fold)[0].scales.tobytes() for fold in folds}) > 1:
        return variants  # there was no time to score all folds in the same views
    scales = set(scores.scales.tolist())
    orders = len(scores.scales) // len(scales)
    # without TTA: the first order at the scale nearest to 1
    at_scale = scores.scales == scores.scales[np.abs(scores.scales - 1).argmin()]
    single_view = scores.views(np.arange(len(at_scale)) == at_scale.argmax()).predictions() == answers
    every_order, all_views = scores.views(at_scale).predictions() == answers, scores.predictions() == answers
    if orders > 1:
        variants["TTA orders"] = (every_order, single_view)
    if len(scales) > 1:
        variants["TTA scales"] = (all_views, every_order)
    if orders > 1 and len(scales) > 1:
        variants["TTA"] = (all_views, single_view)
    return variants


def _predictions_by_id(scores: Scores, ids: np.ndarray) -> np.ndarray:
    """Return the predicted choices (N,) of the rows `ids`; -2: none."""
    known = dict(zip(scores.ids.tolist(), scores.predictions().tolist(), strict=True))
    return np.array([known.get(name, -2) for name in ids.tolist()])


def measure_run(project: Project, data: RunData, prior: Prior, combined: Combined) -> Metrics:
    """Measure all figures of this run's report."""
    scores = combined.members[0].oof
    assert scores is not None
    index = {q.id: i for i, q in enumerate(data.train)}
    rows = [index[name] for name in scores.ids.tolist()]
    questions = [data.train[i] for i in rows]
    answers = np.array([-1 if q.answer is None else q.answer for q in questions])
    variants = technique_variants(project, data, scores, answers)
    if len(combined.members) > 1:
        blend = combined.blend
        blended = dict(zip(blend.oof_ids.tolist(), blend.oof_predictions.tolist(), strict=True))
        if {q.id for q in questions} <= blended.keys():
            variants["ensemble"] = (np.array([blended[q.id] for q in questions]) == answers, scores.predictions() == answers)
    log, own_metrics = CurrentLog(project.log, attempts_of(project)), {}
    if project.metrics:
        from mcvqa.report.own_metrics import measure_own

        own_metrics = measure_own(project.metrics, questions, scores.mean(), data.groups[rows])
    return measure(
        questions, scores, data.folds[rows], groups=data.groups[rows], prior=prior_of_train(data, prior)[rows],
        temperature=combined.blend.temperatures[project.config.run], variants=variants, test_size=len(data.test),
        epochs=read_epochs(log.events("epoch")) if project.config.keep == "best" else None,
        not_measured=unmeasured_folds(project, data), own=own_metrics,
    )


def render_report(
    project: Project, data: RunData, combined: Combined, metrics: Metrics, provenance: Mapping[str, str], seconds: float,
    explained: Explained,
) -> tuple[Path, Path, tuple[Advice, ...]]:
    """Write metrics.json, figures, REPORT.md, report.html and the index of runs.

    Args:
        project: the run.
        data: its rows, with folds.
        combined: the ensemble.
        metrics: of the run.
        provenance: versions, commit and device; see `environment`.
        seconds: duration of the run.
        explained: what the evidence per row adds.

    Returns:
        Paths of the page and the index, and what to try next.
    """
    folder, config = project.paths.experiment, project.config.as_dict()
    record_experiment(folder, status="finished", seconds=seconds, metrics=metrics)
    log = CurrentLog(project.log, attempts_of(project))
    measured = not metrics.overall.accuracy.not_measured
    advice = choose_advice(metrics, config, read_learning_curves(log), seconds) if measured else ()
    page, index = folder / "report.html", folder.parent / "README.md"
    with informing("the report"):
        figures, findings = draw_figures(metrics, log, folder), data_findings(project, data)
        findings = dataclasses.replace(findings, summary=findings.summary + explained.labels)
        blend, current = combined.blend, combined.submitted or Submitted("", "")
        write_report(folder, ReportInput(
            run=project.config.run, config=config, metrics=metrics, methods=blend.table if len(blend.alone) > 1 else {},
            data=findings, method=blend.method, method_reason=blend.reason, figures=figures, tags=explained.tags,
            thumbnails=thumbnails_in_report(data, metrics.errors, findings), explorer=explained.explorer,
            submitted=current.source, submitted_run=current.run, submitted_accuracy=current.accuracy,
            submissions={str(f): validate_file(f, data) for f in submission_files(project, data)},
            not_submitted="" if data.test else without_test(project), advice=advice,
            environment=provenance, seconds=seconds, language=language_of_pages(data.train), more=explained.more,
            korean=explained.korean,
        ))
    with informing("the index of runs"):
        index = update_index(folder.parent)
    return page, index, advice


def print_result(project: Project, combined: Combined, metrics: Metrics, page: Path, index: Path) -> None:
    """Print the last lines of a run: its result and files."""
    submitted, path = combined.submitted, project.paths.outputs / ENSEMBLE_FILE
    accuracy = ", ".join(filter(None, (str(metrics.overall.accuracy), spell_selection(metrics.selection))))
    print(f"  this run, out of fold: {accuracy}; without the photographs: {metrics.overall.blind}")
    for name, figure in {**metrics.gains, **own_figures(metrics)}.items():
        print(f"  {name:12} {figure}")
    if submitted is None:
        print("\nsubmission  none: there is no test.csv")
    else:
        accuracy = f", accuracy {submitted.accuracy}" if submitted.accuracy else ""
        print(f"\nsubmission  {path}\n            {submitted.source} of the run {submitted.run!r}{accuracy}")
    print(f"accuracies  {project.paths.experiment / 'REPORT.md'}\nreport      {page}\nall runs    {index}")


def write_results(project: Project, data: RunData, prior: Prior, combined: Combined, device: str, started: float) -> Outcome:
    """Measure the run, render the report and print the result.

    Args:
        project: the run.
        data: its rows, with folds.
        prior: the text-only prior.
        combined: the ensemble.
        device: name of the device.
        started: time.monotonic() at the start of this session.
    """
    heading("report")
    metrics = measure_run(project, data, prior, combined)
    submitted = combined.submitted
    if submitted and submitted.accuracy is not None and not submitted.accuracy.not_measured:
        is_own = submitted.run == project.config.run and submitted.source != "prior"  # has the optimism of this run's epochs
        estimate = leaderboard_estimate(submitted.accuracy, len(data.test), metrics.selection if is_own else None)
        metrics = dataclasses.replace(metrics, leaderboard=estimate)
    seconds = seconds_of(project) + time.monotonic() - started
    explained = Explained()
    if Task.__module__ != "__main__":  # evidence per row stays in the package
        with informing("evidence.csv"):
            explained = explain_rows(project, data, prior, combined)
    page, index, advice = render_report(project, data, combined, metrics, environment(device), seconds, explained)
    accuracy = metrics.overall.accuracy
    project.log.write(
        "result", accuracy=accuracy.value, standard_error=accuracy.standard_error, n=accuracy.n, seconds=round(seconds, 1),
        gains={name: gain.value for name, gain in metrics.gains.items()}, not_measured=accuracy.not_measured,
    )
    print_result(project, combined, metrics, page, index)
    file = project.paths.outputs / ENSEMBLE_FILE if submitted else None
    return Outcome(
        project.config.run, (submitted and submitted.accuracy) or accuracy, file, submitted, page, metrics, advice,
    )


def explain_rows(project: Project, data: RunData, prior: Prior, combined: Combined) -> Explained:
    """Write evidence.csv and collect the evidence for the report."""
    from mcvqa.base.translation import korean_translator
    from mcvqa.run.beside import beside_folds
    from mcvqa.run.explorer import explorer_beside_report
    from mcvqa.run.insights import accuracy_before_fixes, tags_of_errors, targets_besides_answers, write_run_evidence

    rows = write_run_evidence(project, data, prior, combined.members, combined.blend.temperatures[project.config.run])
    said = accuracy_before_fixes(data, combined.members[0]) + targets_besides_answers(data)
    more = beside_folds(project, combined.blend, combined.members[0])
    return Explained(said, tags_of_errors(rows), more, explorer_beside_report(project, data), korean_translator().console)
