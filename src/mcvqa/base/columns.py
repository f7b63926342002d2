"""Measures and wraps text by the columns of a terminal, of which a Korean letter takes two."""
import re
import unicodedata

SECOND_COLUMN = "\0"  # behind each Korean letter while text is wrapped


def columns_of(text: str) -> int:
    """Return how many columns of a terminal a text takes: two for Hangul, none for combining marks."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else not unicodedata.combining(char) for char in text)


def with_second_columns(text: str) -> str:
    """Make each Korean letter two characters, for code that wraps text by characters; undone by `without_second_columns`."""
    return re.sub("([ㄱ-ㆎ가-힣])", rf"\1{SECOND_COLUMN}", text)


def without_second_columns(text: str) -> str:
    """Undo `with_second_columns` after wrapping."""
    return text.replace(SECOND_COLUMN, "")
