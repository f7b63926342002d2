"""Reads the questions for a trained run: rows of a table without answers, or a photograph, a question and its choices."""
import contextlib
import hashlib
import zipfile
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from mcvqa.base.files import atomic_path, file_stamp
from mcvqa.config import Config
from mcvqa.data.answers import LETTERS
from mcvqa.data.image_paths import SplitRows, find_photographs
from mcvqa.data.images import ImageError, ImageRecord, survey_files, web_address
from mcvqa.data.locate import find_data, unpack_archive
from mcvqa.data.pictures_as_png import picture_as_png
from mcvqa.data.questions import Question, read_questions
from mcvqa.data.table import TABLE_NAME, DataError, table_stem
from mcvqa.run.dataset import named_columns_of
from mcvqa.run.survey import survey_photographs


# %% a table
@dataclass(frozen=True)
class NewRows:
    """Holds rows to be answered.

    Attributes:
        questions: every row, in the file's order.
        records: survey of their photographs, by the rows' paths.
        file: the table.
        sample: sample_submission.csv next to it; None: there is none.
        notes: how the file was read.
    """

    questions: tuple[Question, ...]
    records: dict[str, ImageRecord]
    file: Path
    sample: Path | None
    notes: tuple[str, ...]

    def problem(self, question: Question) -> str:
        """Return why the photograph of a row cannot be read; empty if it can."""
        return self.records[question.image].problem


def read_asked(source: Path, config: Config, cache: Path) -> NewRows:
    """Read the rows to be answered, ignoring any answers in the file.

    Args:
        source: a table, or a folder or .zip archive with one.
        config: settings with names of columns.
        cache: folder for unpacked archives and the survey of photographs.

    Raises:
        DataError: there is no table, several, or one that cannot be read; or most photographs cannot be read.
    """
    root, file, sample = _table_of(source, cache / "data")
    table = read_questions(file, **named_columns_of(config), labelled=False)
    folder, (meant,), notes = find_photographs(root, [SplitRows("test", file, table.questions)], cache / "data")
    records = survey_photographs(cache, folder, [question.image for question in meant.questions], looks=False)
    asked = NewRows(meant.questions, records, file, sample, (*notes, *map(str, table.problems[:NAMED_PROBLEMS])))
    _require_photographs(root, asked)
    return asked


NAMED_PROBLEMS = 5


def _table_of(source: Path, unpack_to: Path) -> tuple[Path, Path, Path | None]:
    """Find the data folder, the table in it, and the sample of a submission."""
    if not source.exists():
        raise DataError(f"There is no {source}. Name a table (CSV, JSON, Parquet, Excel), a folder or a .zip with one.")
    if source.is_file() and not table_stem(source.name):
        if not zipfile.is_zipfile(source):
            raise DataError(f"{source} is neither a table nor a .zip archive.")
        source = unpack_archive(source, unpack_to)
    if source.is_file() and table_stem(source.name) not in ("train", "test"):
        return source.parent, source, None
    with contextlib.suppress(DataError):  # a folder with a table of another name
        files = find_data(source, unpack_to)
        if table := source if source.is_file() else files.test:
            return files.root, table, files.sample_submission
    return source, _only_table(source), None


def _only_table(folder: Path) -> Path:
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and table_stem(path.name))
    first = {match["stem"]: name for name in reversed(names) if (match := TABLE_NAME.fullmatch(name))}  # of a table in parts
    asked = [name for stem, name in first.items() if "submission" not in stem.lower()]
    if len(asked) != 1:
        there = f"several tables: {', '.join(sorted(asked))}" if asked else "no table"
        raise DataError(f"{folder} holds {there}. Name the one to answer: --data FILE.")
    return folder / asked[0]


def _require_photographs(root: Path, asked: NewRows) -> None:
    """Refuse a folder without most photographs, as before training: it is the wrong one."""
    broken = [record for record in asked.records.values() if record.problem]
    if 2 * len(broken) > len(asked.records):
        raise DataError(
            f"{len(broken):,} of {len(asked.records):,} photographs of {asked.file} cannot be read, for example "
            f"{broken[0].written!r}: {broken[0].problem}. They are looked for in {root.absolute()} and its folders."
        )


# %% one question
def asked_question(question: str, choices: Sequence[str], image: str, name: str = "question") -> Question:
    """Make a question with its choices.

    Args:
        question: text of the question.
        choices: 2 to 26 texts.
        image: path of the photograph.
        name: id of the row.

    Raises:
        DataError: there are fewer than 2 choices or more than 26, one is empty, or something is of another type.
    """
    if isinstance(choices, (Mapping, Set)):  # its keys or its order are not meant
        raise DataError(f"The choices are a {type(choices).__name__}; a list of texts is expected.")
    texts = tuple("" if choice is None or choice != choice else str(choice) for choice in choices)  # NaN: no cell in pandas
    if isinstance(choices, str) or not 2 <= len(texts) <= len(LETTERS):
        given = "one text" if isinstance(choices, str) else len(texts)
        raise DataError(f"A question has 2 to {len(LETTERS)} choices, not {given}: give each choice separately.")
    if empty := [letter for letter, text in zip(LETTERS, texts, strict=False) if not text.strip()]:
        raise DataError(f"Choice {empty[0]} is empty.")
    if not isinstance(question, str):
        raise DataError(f"The question is a {type(question).__name__}; a text is expected.")
    return Question(name, image, question, texts)


@dataclass
class Photographs:
    """Surveys photographs of single questions; each is surveyed again only if its file changes.

    Attributes:
        folder: folder for pictures without a file.
    """

    folder: Path
    _surveyed: dict[Path, tuple[list[int], ImageRecord]] = field(default_factory=dict)  # with the file's stamp

    def file_of(self, image: Any) -> Path:
        """Return the file of a photograph, writing one if there is none.

        Args:
            image: a path, the content of a picture file, or a PIL image.

        Raises:
            DataError: it is something else.
            ImageError: it is a web address.
        """
        if isinstance(image, str) and (problem := web_address(image)):
            raise ImageError(image, problem)
        if isinstance(image, (str, Path)):
            return Path(image)
        if not isinstance(image, (bytes, Image.Image)):
            raise DataError(f"image is a {type(image).__name__}; a path, bytes or a PIL image is expected.")
        content = image if isinstance(image, bytes) else picture_as_png(image)
        file = self.folder / hashlib.sha256(content).hexdigest()[:24]
        with atomic_path(file) as part:
            part.write_bytes(content)
        return file

    def records(self, files: Iterable[Path]) -> dict[str, ImageRecord]:
        """Return the record of each file, by its path.

        Raises:
            ImageError: one cannot be read; the message gives the reason.
        """
        stamps = {file: _stamp_of(file) for file in files}
        changed = [file for file, stamp in stamps.items() if self._surveyed.get(file, (None,))[0] != stamp]
        for file, record in survey_files(changed, looks=False).items():
            if record.problem:
                raise ImageError(file, record.problem)
            self._surveyed[file] = stamps[file], replace(record, written=str(file))
        return {str(file): self._surveyed[file][1] for file in stamps}


def _stamp_of(file: Path) -> list[int]:
    """Return the file's stamp; empty if there is no file."""
    try:
        return file_stamp(file)
    except (OSError, ValueError):  # a path that no file can have
        return []
