"""Prepares the parts of a run's report besides its figures.

These are photographs of errors with their probable cause, and the data.
"""
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcvqa.data.images import ImageError, open_image
from mcvqa.data.language import language_of_pages
from mcvqa.report.content import DataFindings, ReportBlock
from mcvqa.report.gallery import ErrorTag, Thumbnail, error_cards, gallery_as_html, thumbnails_of
from mcvqa.report.metrics import WrongAnswer
from mcvqa.run.dataset import RunData


@dataclass(frozen=True)
class Explained:
    """Holds the evidence per row for the report.

    Attributes:
        labels: text about fixed labels and other targets of training.
        tags: id of each wrongly answered row -> its probable cause.
        more: language -> blocks that follow the accuracies.
        explorer: name of the explorer's page; empty: there is none for these scores.
        korean: see `ReportInput`.
    """

    labels: str = ""
    tags: Mapping[str, ErrorTag] = field(default_factory=dict)
    more: Mapping[str, Sequence[ReportBlock]] = field(default_factory=dict)
    explorer: str = ""
    korean: Callable[[str], str] = str


def thumbnails_in_report(data: RunData, errors: Sequence[WrongAnswer], findings: DataFindings) -> dict[str, Thumbnail]:
    """Make thumbnails of all photographs in the report."""
    look_alikes = (one.image for group in findings.look_alikes for one in group)
    return _thumbnails(data, (*(error.image for error in errors), *look_alikes))


def gallery_of_errors(data: RunData, errors: Sequence[WrongAnswer]) -> str:
    """Show the most confident errors as HTML, for a notebook."""
    cards = error_cards(errors, _thumbnails(data, (error.image for error in errors)), {})
    return gallery_as_html(cards, language_of_pages(data.train))


def _thumbnails(data: RunData, images: Iterable[str]) -> dict[str, Thumbnail]:
    """Make thumbnails of photographs, given by their paths as written."""
    def opened(written: str) -> Any:
        record = data.records[written]
        if record.problem or record.path is None:
            raise ImageError(written, record.problem or "no such file")
        return open_image(record.path)

    return thumbnails_of(images, opened)
