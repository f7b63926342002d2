"""Unpacks tables that are each compressed alone (train.csv.gz, train.csv.zip)."""
import io
import zipfile
from importlib import import_module
from typing import IO

PACKERS = {"gz": "gzip", "bz2": "bz2", "xz": "lzma"}  # kind of file -> module, of which a Python may lack some


def unpacked_table(raw: bytes, kind: str, most: int) -> bytes:
    """Unpack the only file in packed bytes.

    Args:
        raw: the packed bytes.
        kind: "zip" or one of PACKERS.
        most: maximum size after unpacking, in bytes.

    Raises:
        ValueError: the file is damaged, encrypted or too large, or contains several files; the message describes it.
    """
    try:
        with _only_file(raw) if kind == "zip" else import_module(PACKERS[kind]).open(io.BytesIO(raw)) as opened:
            content: bytes = opened.read(most + 1)
    except Exception as error:  # each module raises its own errors for damaged files
        raise ValueError(f"cannot be unpacked: {error}. Copy it again, or unpack it by hand.") from None
    if len(content) > most:
        raise ValueError(f"is more than {most >> 30} GiB when unpacked. Unpack it by hand if you trust it.")
    return content


def _only_file(raw: bytes) -> IO[bytes]:
    archive = zipfile.ZipFile(io.BytesIO(raw))
    names = [name for name in archive.namelist() if not name.startswith("__MACOSX/")]
    if len(names) != 1:
        raise ValueError(f"it holds {len(names)} files, so it is an archive of several or a document of another program")
    return archive.open(names[0])
