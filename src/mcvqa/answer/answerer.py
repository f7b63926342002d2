"""Answers new questions with a trained run, from Python: one question or a whole table."""
import functools
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcvqa.answer.asked import NewRows, Photographs, asked_question, read_asked
from mcvqa.answer.trained import TrainedModels, TrainedRun, find_trained, fold_number
from mcvqa.config import Config
from mcvqa.data.answers import LETTERS
from mcvqa.data.folds import fold_title
from mcvqa.data.questions import Question
from mcvqa.data.table import DataError
from mcvqa.ensemble.predictions import mean_probabilities, most_probable
from mcvqa.model.distributed import by_main, join_processes
from mcvqa.run.in_memory import with_tables
from mcvqa.run.project import settings_of_run
from mcvqa.run.session import memory_explained
from mcvqa.scoring.scores import Scores


@dataclass(frozen=True)
class Answer:
    """Holds the answer to one question.

    Attributes:
        choice: text of the most probable choice.
        letter: its letter: "a" for the first choice, and so on.
        probabilities: probability of each choice, in the order of the choices.
        id: id of the row; empty for a single question.
        problem: why the photograph could not be read (the row was then answered from its text alone); empty: it was read.
    """

    choice: str
    letter: str
    probabilities: tuple[float, ...]
    id: str = ""
    problem: str = ""


class Answerer:
    """Answers new questions with a trained run; the first question loads the model.

    Probabilities are averaged over the run's folds, and within a fold over the option orders and image scales that the run's
    settings ask for.

    Args:
        run: name of the run, path of experiments/<run>, or its settings.
        fold: number of the only fold to use, which is faster for single questions, or "final"; None: all folds.
        output_dir: folder that contains experiments/; needed if `run` is a name.
        keep_features: whether to keep image features in cache/, so that no photograph is encoded twice.
        changes: settings to change, such as device="cpu", use_tta=True or, if the base model has been moved, model_id=FOLDER.

    Attributes:
        trained: the run, with the folds that answer.
        models: the models of these folds.

    Raises:
        ConfigError: there is no such run, or a setting that its weights depend on was changed.
        RunStopped: a fold is not trained, or the base model consists of other files.
        CheckpointError: weights are missing, damaged, or not those that were recorded.

    >>> answerer = Answerer(run, fold=0)
    >>> answer = answerer.answer(photograph, "What color is it?", ["red", "green", "blue", "yellow"])
    >>> answer.choice, answer.letter, round(sum(answer.probabilities), 6)
    ('red', 'a', 1.0)
    """

    def __init__(
        self, run: str | Path | Config, *, fold: int | str | None = None, output_dir: str = ".", keep_features: bool = True,
        **changes: Any,
    ) -> None:
        if not isinstance(run, Config):
            run = Config().replace(**settings_of_run(str(run), output_dir))
        join_processes(run)
        number = fold_number(fold) if isinstance(fold, str) else fold
        self.trained: TrainedRun = by_main(find_trained, run.replace(**changes), number)
        self.models = TrainedModels(self.trained, keep_features)
        self._pictures = tempfile.TemporaryDirectory(prefix="mcvqa-")  # for images without a file
        self._photographs = Photographs(Path(self._pictures.name))

    def answer(self, image: Any, question: str, choices: Sequence[str]) -> Answer:
        """Answer one question.

        Args:
            image: path of a photograph, the content of its file, or a PIL image.
            question: text of the question.
            choices: 2 to 26 texts.

        Returns:
            The most probable choice, with the probabilities of all choices.

        Raises:
            ImageError: the photograph cannot be read.
            DataError: there are too few or too many choices, or `image` is none of these types.
        """
        return self.answer_all([(image, question, choices)])[0]

    def answer_all(self, rows: Any) -> list[Answer]:
        """Answer many questions in batches.

        Args:
            rows: a pandas DataFrame or `datasets.Dataset` with the columns of test.csv, its paths relative to the current
                folder, or an iterable of (image, question, choices) or of mappings with these keys and an optional id.

        Returns:
            One answer per row. In a table, rows without a readable photograph are answered from their text.

        Raises:
            ImageError: a photograph outside of a table cannot be read.
            DataError: a row cannot be understood.
        """
        if hasattr(rows, "columns") or hasattr(rows, "to_pandas"):
            config = self.trained.project.config
            folder = Path(by_main(functools.partial(with_tables, config.replace(data_dir="."), test=rows)).data_dir)
            asked = by_main(read_asked, folder / "test.csv", config, self.trained.cache)
        else:
            asked = self.asked(rows)
        return answers_from(asked, self.scores(asked)) if asked.questions else []

    def asked(self, rows: Iterable[Any]) -> NewRows:
        """Read questions without answering them.

        Args:
            rows: (image, question, choices), or mappings with these keys and an optional id.

        Returns:
            The rows, with the records of their photographs.

        Raises:
            ImageError: a photograph cannot be read.
            DataError: a row cannot be understood.
        """
        questions, files = [], []
        for row in rows:
            image, text, choices = _asked_parts(row)
            files.append(self._photographs.file_of(image))
            name = str(row.get("id", "")) if isinstance(row, Mapping) else ""
            questions.append(asked_question(text, choices, str(files[-1]), name))
        return NewRows(tuple(questions), self._photographs.records(files), Path(), None, ())

    def scores(self, asked: NewRows) -> list[Scores]:
        """Score rows with every fold.

        Args:
            asked: rows as `asked` returns them.

        Returns:
            One Scores per fold.
        """
        self.models.records.update(asked.records)
        return [self.fold_scores(fold, asked.questions, fold_title(fold)) for fold in self.trained.folds]

    def fold_scores(self, fold: int, questions: Sequence[Question], title: str) -> Scores:
        """Score questions with one fold.

        Args:
            fold: number of the fold.
            questions: questions whose photographs are in `models.records`.
            title: title of the progress bar.

        Returns:
            Log-probabilities of the choices, per question, option order and scale.
        """
        with memory_explained(self.trained.project.config):
            return self.models.score(fold, questions, title)


def _asked_parts(row: Any) -> tuple[Any, Any, Any]:
    """Take a row apart: photograph, question, choices."""
    try:
        image, text, choices = (row[name] for name in ("image", "question", "choices")) if isinstance(row, Mapping) else row
    except (KeyError, TypeError, ValueError):
        raise DataError(
            "A row to be answered is (image, question, choices), or a mapping with these keys. Of one question: answer(), "
            "of a table: answer_all(DataFrame)."
        ) from None
    return image, text, choices


def answers_from(asked: NewRows, folds: Sequence[Scores]) -> list[Answer]:
    """Average the folds' probabilities and choose the most probable answers.

    Args:
        asked: N rows.
        folds: scores of these rows, by each fold.

    Returns:
        N answers.
    """
    probabilities = mean_probabilities(folds)
    chosen = most_probable(probabilities, [question.id for question in asked.questions])
    return [
        Answer(q.choices[i], LETTERS[i], tuple(shares[: len(q.choices)].tolist()), q.id, asked.problem(q))
        for q, i, shares in zip(asked.questions, chosen.tolist(), probabilities, strict=True)
    ]
