"""Adds training targets besides the rows' own answers: `row_weights`, `pseudo` and `teacher`.

No label of a fold's validation rows may reach its training rows this way: a fold's pseudo labels come from a model that was not
trained on these rows, and other runs must have split the same rows into the same folds.
"""
import csv
import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from mcvqa.base.files import DamagedFile, from_spreadsheet_cell, read_json, read_yaml
from mcvqa.base.informing import counted
from mcvqa.config import Config, ConfigError
from mcvqa.data.folds import FINAL, fold_title
from mcvqa.data.labelled import SOURCES
from mcvqa.data.questions import Question
from mcvqa.data.table import DataError, column_of_ids, read_cells
from mcvqa.data.targets import Guidance, answer_target
from mcvqa.ensemble.blend import LETTER_CONFIDENCE, BlendError, read_predictions
from mcvqa.run.dataset import RunData
from mcvqa.run.other_runs import OtherRun, other_run
from mcvqa.scoring.scores import Scores, joined, log_softmax, plain_scores

WEIGHT_COLUMNS = ("weight", "confidence", "가중치", "신뢰도", "확신도")
CONFIDENCE_COLUMNS = WEIGHT_COLUMNS[1:]
SETTINGS_OF_ROWS = ("data_dir", "use_dev", "min_votes", "soft_votes", "fixes", "use_sample", "sample_size", "seed")


def guidance_of(data: RunData, config: Config) -> Guidance:
    """Collect the weights, targets and pseudo-labelled rows that the settings ask for.

    Args:
        data: rows with folds.
        config: all settings.

    Raises:
        ConfigError: a run or a file cannot be used.
        RunStopped: the other run is unfinished.
    """
    notes: list[str] = []
    weights, given, strange = _weights(data, config) if config.row_weights else ({}, 0, [])
    if weights:
        low, high = min(weights.values()), max(weights.values())
        rest = len(weights) - given
        notes += [
            f"{Path(config.row_weights).name}: {counted(len(strange), 'id is', 'ids are')} not of rows that are trained on, such "
            f"as {strange[0]!r}: not used"
        ] if strange else []
        others = f"; {counted(rest, 'row without one counts', 'rows without one count')} as 1" if rest else ""
        if zeros := sum(not weight for weight in weights.values()):
            others += f"; {counted(zeros, 'row is', 'rows are')} not trained on: the weight is 0"
        notes.append(
            f"row_weights={config.row_weights}: {counted(given, 'row has', 'rows have')} a weight, from {low:.2g} to {high:.2g} "
            f"where the mean is 1{others}"
        )
    targets, said = _taught(data, config) if config.teacher else ({}, [])
    pseudo, more = _pseudo_labelled(data, config) if config.pseudo else ({}, [])
    guidance = Guidance(weights, targets, pseudo, (*notes, *said, *more))
    for fold in config.folds_to_train if weights else ():
        if not guidance.guided(data.learned_rows(fold), fold):
            raise ConfigError(
                f"row_weights={config.row_weights}: {fold_title(fold)} has no rows to train on, as all of its rows have weight "
                "0. Give more rows a weight above 0."
            )
    return guidance


# %% weights
def _weights(data: RunData, config: Config) -> tuple[dict[str, float], int, list[str]]:
    """Map ids to weights, divided by their mean over all training rows so that the learning rate keeps its meaning.

    Returns:
        The weights; how many rows were given one, where the others count as 1 before the division; ids of a file that are not
        of training rows.
    """
    strange: list[str] = []
    if config.row_weights == "votes":
        given = {
            q.id: (max(q.votes) if q.answer is None else q.votes[q.answer]) / sum(q.votes)
            for q in data.train if q.votes is not None and any(q.votes)
        }
        if not given:
            raise ConfigError("row_weights=votes: no training row has votes. Omit it, or name a file with id and weight.")
    elif config.row_weights == "confidence":
        given = {}
        for source, file in zip(SOURCES, (data.files.train, data.files.dev), strict=True):
            if file and (rows := [q for q in data.train if q.source == source]):
                given |= _table_of_weights(file, rows, CONFIDENCE_COLUMNS, f"{source}:")[0]
    else:
        given, strange = _table_of_weights(Path(config.row_weights), data.train, WEIGHT_COLUMNS)
    mean = np.mean([given.get(q.id, 1.0) for q in data.train])
    if not mean:
        raise ConfigError(f"row_weights={config.row_weights}: all weights are 0, so there is nothing to learn from.")
    return {q.id: float(given.get(q.id, 1.0) / mean) for q in data.train}, len(given), strange


def _table_of_weights(
    file: Path, rows: Sequence[Question], columns: Sequence[str], prefix: str = ""
) -> tuple[dict[str, float], list[str]]:
    """Read the weights of the rows in a table, by id.

    Args:
        file: the table.
        rows: the rows.
        columns: names of the column with weights, the first that is there counts.
        prefix: what the ids of `rows` may begin with that those of the table do not, as of dev.csv.

    Returns:
        The weights, and the table's other ids, whose weights are not read.

    Raises:
        ConfigError: a cell cannot be used; the message names its row and column.
    """
    if not file.is_file():
        raise ConfigError(f"row_weights={file}: there is no such file. Write votes, confidence, or a file with id and weight.")
    table, written = read_cells(file), {q.id: _ids_in_table(q.id, prefix) for q in rows}
    known = {name for names in written.values() for name in names}
    names = [name.strip().lower() for name in table.header]
    column = next((names.index(name) for name in columns if name in names), None)
    id_column = column_of_ids(table.header, table.records, known)
    if column is None or id_column is None:
        missing = f"column {' or '.join(columns)}" if column is None else "column with the ids of training rows"
        raise ConfigError(f"row_weights: {file} has no {missing}; its columns are {', '.join(table.header)}.")
    weights: dict[str, float] = {}
    strange: dict[str, None] = {}
    for number, record in enumerate(table.records, 1):
        cells = [*record, *[""] * (len(names) - len(record))]
        name, weight = from_spreadsheet_cell(cells[id_column]), _as_weight(cells[column])
        if name not in known:
            strange[name] = None
            continue
        where = f"row_weights: {file.name}, row {number} (id {name!r}), column {table.header[column]}"
        if weight is None:
            raise ConfigError(f"{where}: {cells[column]!r} is not a number of at least 0.")
        if weights.setdefault(name, weight) != weight:
            raise ConfigError(
                f"{where}: {weight:g}, but an earlier row with this id has {weights[name]:g}. Give both one weight, or "
                f"name them apart in a file, row_weights=FILE: {name}, {name}#2.")
    found = {name: [weights[one] for one in names if one in weights] for name, names in written.items()}
    return {name: some[0] for name, some in found.items() if some}, list(strange)


def _ids_in_table(name: str, prefix: str) -> tuple[str, ...]:
    """List the ids that a row may have in a table: its own, that without the prefix, and the one that several rows share."""
    return name, name.removeprefix(prefix), name.removeprefix(prefix).split("#")[0]


def _as_weight(cell: str) -> float | None:
    try:
        weight = float(cell.strip().removesuffix("%")) / (100 if cell.strip().endswith("%") else 1)
    except ValueError:
        return None
    return weight if 0 <= weight < np.inf else None


# %% a run of the same folds
def _run_of_same_folds(data: RunData, config: Config, name: str, setting: str) -> OtherRun:
    """Find another run whose models were not trained on the rows that this run's folds validate on.

    Raises:
        ConfigError: its folds differ.
        RunStopped: it is unfinished.
    """
    name = Path(name).name  # experiments/<run> is a name too
    if name == config.run:
        raise ConfigError(f"{setting}={name!r} names this run itself. Choose another run_name for this run.")
    other = other_run(data, config, name, setting)
    same = "the same data, seed, n_folds, use_kfold and validate_on"
    try:
        with open(other.paths.experiment / "folds.csv", newline="", encoding="utf-8") as handle:
            theirs = {from_spreadsheet_cell(row["id"]): int(row["fold"]) for row in csv.DictReader(handle)}
        content = read_json(other.paths.experiment / "data.json", dict)["content"]
    except (OSError, ValueError, KeyError, DamagedFile) as error:
        raise ConfigError(f"{setting}: the folds of the run {name!r} are unknown ({error}): run it again.") from None
    if content != data.train_print:
        raise ConfigError(
            f"{setting}: the run {name!r} was trained on other rows, labels or photographs, so its models may have been "
            f"trained on rows that this run validates on. Train it with {same} as this run."
            f"{_other_settings_of_rows(other, config)}"
        )
    for fold in config.folds_to_train:
        for question in data.validation_rows(fold):
            if theirs.get(question.id) != fold:
                raise ConfigError(
                    f"{setting}: row {question.id!r} is in fold {fold} here but in fold {theirs.get(question.id)} of the run "
                    f"{name!r}, whose models may therefore have been trained on rows that this run validates on. Give both "
                    f"runs {same}."
                )
    return other


def _other_settings_of_rows(other: OtherRun, config: Config) -> str:
    """Name the settings that choose rows and labels in which the other run differs; empty: none does, or they are unknown."""
    try:
        theirs = read_yaml(other.paths.experiment / "config.yaml", dict)
    except (OSError, DamagedFile):
        return ""
    ours = config.model_dump(mode="json")
    differ = [key for key in SETTINGS_OF_ROWS if theirs.get(key, ours[key]) != ours[key]]
    return f" Now they differ in {', '.join(differ)}." if differ else ""


# %% a teacher
def _taught(data: RunData, config: Config) -> tuple[dict[str, tuple[float, ...]], list[str]]:
    """Map ids to the mixture of the row's own answer and the teacher's probabilities."""
    teacher = _run_of_same_folds(data, config, config.teacher, "teacher")
    probabilities = dict(_probabilities(joined(list(teacher.scores("oof").values())), config.teacher_temperature))
    targets = {}
    for question in data.train:
        if question.id in probabilities:
            target = answer_target(question, soft_votes=config.soft_votes)
            share = config.teacher_weight if target.any() else 1.0
            mixed = (1 - share) * target + share * probabilities[question.id][: len(target)]
            targets[question.id] = tuple(float(p) for p in mixed)
    rows = counted(len(targets), "row")
    return targets, [
        f"teacher={config.teacher}: {rows} of {len(data.train):,} also learn from its out-of-fold probabilities. These come "
        "from models that were trained on the fold that is validated on here, so this run's accuracies are probably slightly "
        "too high"
    ]


def _probabilities(scores: Scores, temperature: float = 1.0) -> Iterable[tuple[str, np.ndarray]]:
    """Yield the id and the probabilities (C,) of each row."""
    return zip(scores.ids.tolist(), np.exp(log_softmax(scores.mean() / temperature)), strict=True)


# %% pseudo labels
def _pseudo_labelled(data: RunData, config: Config) -> tuple[dict[int, tuple[Question, ...]], list[str]]:
    """Map folds to test rows with a model's answers."""
    if not data.test:
        raise ConfigError("pseudo: there is no test.csv, so there are no rows without labels.")
    said = []
    if config.pseudo.lower().endswith(".csv"):
        scores = dict.fromkeys((*config.folds_to_train, FINAL), _scores_in(Path(config.pseudo), data))
        said.append(
            f"pseudo={config.pseudo}: it is unknown what its model was trained on. If this included this run's validation "
            "rows, the accuracies of this run are too high"
        )
    else:
        run = _run_of_same_folds(data, config, config.pseudo, "pseudo")
        scores = run.scores("test")
        scores[FINAL] = _averaged(list(scores.values()))
        if missing := [fold for fold in config.folds_to_train if fold not in scores]:
            raise ConfigError(f"pseudo: the run {config.pseudo!r} has no test scores of fold {missing[0]}: finish it first.")
    folds = (*config.folds_to_train, *((FINAL,) if config.final_fit else ()))
    rows = {fold: _pseudo_rows(data, config, fold, scores[fold]) for fold in folds}
    if not any(rows.values()):
        most = max(probabilities.max() for one in scores.values() for _, probabilities in _probabilities(one))
        raise ConfigError(
            f"pseudo={config.pseudo}: no test row qualifies. The most probable answer has a probability of {most:.3g} (an "
            f"answer without one counts as {LETTER_CONFIDENCE:g}), but pseudo_min is {config.pseudo_min:g}: lower it."
        )
    said += [
        f"pseudo={config.pseudo}: {fold_title(fold)} also trains on {len(chosen):,} of {counted(len(data.test), 'test row')}: "
        f"those answered with a probability of {config.pseudo_min:g} or more whose photographs do not resemble validation "
        "photographs"
        for fold, chosen in rows.items()
    ]
    return rows, said


def _averaged(folds: list[Scores]) -> Scores:
    """Average all folds, for the final model, which has no validation rows."""
    means = np.mean([scores.of_ids(folds[0].ids).mean() for scores in folds], axis=0)
    return plain_scores(folds[0].ids, means, folds[0].n_choices, {})


def _scores_in(path: Path, data: RunData) -> Scores:
    """Read a prediction file's scores of the test rows.

    Raises:
        ConfigError: it cannot be read, lacks some of them, or contains labelled rows.
    """
    if not path.is_file():
        raise ConfigError(f"pseudo={path}: there is no such file.")
    asked = {q.id for q in data.test}
    labelled = {q.id for table in data.tables if table.answers for q in table.questions} - asked
    try:
        columns = itertools.zip_longest(*read_cells(path).records, fillvalue="")
        ids = next((ids for cells in columns if asked <= (ids := set(map(from_spreadsheet_cell, cells)))), set())
        if known := sorted(ids & labelled):
            rows = counted(len(known), "labelled row")
            raise ConfigError(f"pseudo: {path} has answers to {rows}, such as {known[0]!r}: remove them.")
        return read_predictions(path, data.test, data.tables[0].convention).test[0]
    except (DataError, BlendError) as error:
        raise ConfigError(f"pseudo: {error}") from None


def _pseudo_rows(data: RunData, config: Config, fold: int, scores: Scores) -> tuple[Question, ...]:
    """Make training rows of a fold from confident test rows whose photographs resemble none of its validation photographs."""
    validated = {data.image_groups.get(q.image, q.image) for q in data.validation_rows(fold)}
    probabilities, rows = dict(_probabilities(scores)), []
    for question in data.test:
        shares = probabilities[question.id][: len(question.choices)]
        alike = data.image_groups.get(question.image, question.image) in validated
        if shares.max() < config.pseudo_min or alike or data.records[question.image].problem:
            continue
        rows.append(dataclasses.replace(
            question, id=f"pseudo:{question.id}", source="pseudo", answer=int(shares.argmax()), votes=None,
            targets=tuple(map(float, shares)) if config.pseudo_targets == "soft" else None,
        ))
    return tuple(rows)
