"""Makes tables and figures of a run's data, and the part of the report about them."""
import csv
import dataclasses
from collections import defaultdict
from itertools import zip_longest
from pathlib import Path

from mcvqa.base.files import write_text
from mcvqa.base.informing import printable
from mcvqa.config import settings_hash
from mcvqa.data.agreement import agreements_of
from mcvqa.data.explore import Exploration, explore
from mcvqa.data.prior import Prior
from mcvqa.report.content import DataFindings, LookAlike
from mcvqa.run.dataset import RunData, prior_of_train
from mcvqa.run.project import Project
from mcvqa.run.tasks import Task

EDA_FIGURES = ("kinds", "letters", "lengths", "options", "blind", "images")
DUPLICATES_IN_REPORT = (
    "id", "question, normalised", "question and choices", "photograph, path", "photograph, content", "photograph, alike",
)
GROUPS_IN_REPORT, PHOTOGRAPHS_OF_GROUP = 8, 4


# %% step 3
def exploration_task(project: Project, data: RunData) -> Task:
    """Describe the task that makes the tables and figures of these data."""
    return Task("eda", "eda", settings_hash({"train": data.train_print, "test": data.test_print}), (
        f"experiments/{project.config.run}/eda/summary.txt",
    ))


def explore_files(project: Project, data: RunData, prior: Prior) -> Exploration:
    """Write tables, figures and summary.txt of the data in experiments/<run>/eda/."""
    folder = project.paths.experiment / "eda"
    prior = dataclasses.replace(prior, oof_logprobs=prior_of_train(data, prior))
    notes = (*data.notes, *data.doubts)
    agreements = agreements_of(data.tables[:-1], data.image_groups)
    exploration = explore(
        data.train, data.test, data.problems, data.records, data.image_groups, prior, folder, notes, agreements
    )
    write_text(folder / "summary.txt", printable(exploration.summary()) + "\n")
    project.records.finish(exploration_task(project, data))
    return exploration


# %% step 10
def data_findings(project: Project, data: RunData) -> DataFindings:
    """Collect the report's part about the data; empty if the tables and figures were made from other data."""
    folder = project.paths.experiment / "eda"
    if not project.records.is_done(exploration_task(project, data)):
        return DataFindings()
    files = {name: folder / f"{name}.png" for name in EDA_FIGURES}
    return DataFindings(
        (folder / "summary.txt").read_text(encoding="utf-8"), {name: file for name, file in files.items() if file.exists()},
        _counted_duplicates(folder / "duplicates.csv"), look_alike_groups(data),
    )


def _counted_duplicates(file: Path) -> tuple[tuple[str, int, int, int], ...]:
    if not file.exists():
        return ()
    with open(file, newline="", encoding="utf-8-sig") as handle:
        rows = {row["shared"]: row for row in csv.DictReader(handle)}
    shown = [rows[name] for name in DUPLICATES_IN_REPORT if name in rows]
    return tuple((row["shared"], int(row["groups"]), int(row["members"]), int(row["groups_in_both"])) for row in shown)


def look_alike_groups(data: RunData) -> list[list[LookAlike]]:
    """Return the first photographs of some groups of near-duplicates, groups that span both splits first."""
    first_rows: dict[tuple[str, str], str] = {}
    for split, questions in (("train", data.train), ("test", data.test)):
        for q in questions:
            if not data.records[q.image].problem:
                first_rows.setdefault((split, q.image), q.id)
    groups: dict[int | str, dict[str, list[LookAlike]]] = defaultdict(lambda: defaultdict(list))
    for (split, image), row in first_rows.items():
        groups[data.image_groups.get(image, image)][split].append(LookAlike(image, split, row))
    several = [of for of in groups.values() if len({one.image for members in of.values() for one in members}) > 1]
    several.sort(key=lambda of_split: -len(of_split))
    in_turn = [[one for ones in zip_longest(*of.values()) for one in ones if one] for of in several[:GROUPS_IN_REPORT]]
    return [group[:PHOTOGRAPHS_OF_GROUP] for group in in_turn]
