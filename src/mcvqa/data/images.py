"""Opens any image file as an upright RGB picture, or raises an error with the reason. Never replaces a picture silently."""
import contextlib
import ctypes
import functools
import hashlib
import io
import os
import re
import tempfile
import threading
import unicodedata
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from filelock import FileLock
from PIL import Image, ImageFile
from tqdm.auto import tqdm

from mcvqa.base.files import SHORT_WAITS, patiently
from mcvqa.base.informing import counted
from mcvqa.config import McvqaError, UnusualFile, read_user_file, special_file

DECODER_VERSION = 2  # increase it when decoding or formats change: surveys and features are then recomputed
MAX_PIXELS = 64_000_000  # larger pictures are refused before decoding: a 24 KB PNG can ask for gigabytes
LARGE_PIXELS = 25_000_000  # larger ones take up to a gigabyte: they are decoded one after the other
MAX_FILE_BYTES = 256 * 2**20
MAX_ASPECT = 190  # long side over short side; Qwen's processor refuses more than 200
# Raster formats that Pillow itself decodes: no EPS or WMF, which start other programs. TGA has no signature, so it is last.
IMAGE_FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO", "PPM", "JPEG2000", "AVIF", "HEIF"),
    *("ICO", "CUR", "ICNS", "PSD", "PCX", "DCX", "QOI", "DDS", "SGI", "SUN", "XBM", "XPM", "MSP", "FLI", "TGA"),
)
NESTED_FORMATS = ("ICO", "ICNS")  # contain pictures whose sizes their headers may not state
# Other files that people name .jpg: first bytes -> description
OTHER_CONTENT = {
    rb"version https://git-lfs": "a Git LFS pointer, not the picture; run: git lfs pull",
    rb"\s*<(!doctype html|html|head|body)": "a web page (HTML), not a picture; download it again",
    rb"\s*<(svg|[?!].{,3000}<svg)": "an SVG drawing; save it as PNG",
    rb"\s*<[?!]": "an XML file, not a picture",
    rb"%!PS|\xc5\xd0\xd3\xc6": "a PostScript (EPS) drawing; save it as PNG",
    rb"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF": "a Windows metafile (WMF, EMF); save it as PNG",
    rb"%PDF": "a PDF document; save its page as PNG",
    rb"PK\x03\x04": "a ZIP archive; unpack it",
    rb"\x1f\x8b|7z\xbc\xaf|Rar!|BZh|\xfd7zXZ|.{257}ustar": "a packed archive; unpack it",
    rb".{4}ftyp(?!hei|hev|mif|msf|avi)|\x1aE\xdf\xa3|RIFF.{4}AVI ": "a video, not a picture",
    rb"\xff\x0a|\0\0\0\x0cJXL ": "a JPEG XL picture, which Pillow does not read; save it as PNG",
    rb"\s*[{[]\s*[\"\d{}[\]]": "a JSON file, not a picture",
    rb"\x93NUMPY|\x89HDF": "an array of numbers, not a picture",
    rb"[^\0-\x08\x0e-\x1a\x7f]{4,}$": "a text, not a picture",
    rb"\x89PNG|\xff\xd8\xff|GIF8|BM|II\*|MM\0\*|RIFF|8BPS": "a damaged picture",
}
# EXIF orientation -> what makes the picture upright (EXIF 2.32, tag 274)
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(McvqaError, ValueError):
    """Raised for a picture that cannot be used.

    Args:
        path: the file.
        reason: why it cannot be used, in a few words.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(str(path), reason)  # these two, so that it survives the way back from a worker process
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.args[0]}: {self.reason}"


# %% one file -> one picture
def open_image(path: str | Path) -> Image.Image:
    """Decode a whole picture: upright, RGB, transparency on white, at most MAX_ASPECT times as long as wide.

    Raises:
        ImageError: anything is wrong with the file; all of Pillow's own errors become this one.
    """
    return open_with_hash(path)[0]


def open_with_hash(path: str | Path) -> tuple[Image.Image, str]:
    """Open an image as `open_image` does, and hash exactly the decoded bytes: the file is read only once."""
    data = _image_bytes(Path(path))
    return open_image_bytes(data, str(path)), hashlib.sha256(data).hexdigest()


def open_image_bytes(data: bytes, name: str) -> Image.Image:
    """Open an image as `open_image` does, from the content of a file.

    Args:
        data: the bytes.
        name: name for messages.
    """
    if len(data) > MAX_FILE_BYTES:
        raise ImageError(name, f"{len(data) / 2**20:.0f} MiB; at most {MAX_FILE_BYTES >> 20} are read")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the survey has named them with their file
        return _decoded_image(name, data)


def _image_bytes(path: Path) -> bytes:
    try:
        return patiently(lambda: read_user_file(path, MAX_FILE_BYTES), f"reading {path}", SHORT_WAITS)
    except FileNotFoundError:
        raise ImageError(path, "no such file") from None
    except UnusualFile as error:
        raise ImageError(path, str(error.strerror)) from None
    except OSError as error:
        raise ImageError(path, f"cannot be read ({error.strerror or error})") from None


def _decoded_image(path: str | Path, data: bytes) -> Image.Image:
    if not data:
        raise ImageError(path, "empty file")
    _let_heic_in(path, data[:12])
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # another library may have turned it on: half of a picture is no picture
    try:
        Image.init()
        opened = Image.open(io.BytesIO(data), formats=[name for name in IMAGE_FORMATS if name in Image.OPEN])
    except Image.DecompressionBombError:
        raise ImageError(path, f"far more than {MAX_PIXELS / 1e6:.0f} megapixels") from None
    except Exception as error:  # damaged headers make Pillow raise OSError, ValueError, SyntaxError, struct.error, ...
        unknown = f"not a picture that Pillow can read ({type(error).__name__})"
        raise ImageError(path, _other_content(data[:4096]) or unknown) from None
    _require_size(path, opened)
    if opened.format == "TIFF":
        _libtiff_warns()
    large = opened.width * opened.height > LARGE_PIXELS or opened.format in NESTED_FORMATS
    with _one_after_the_other() if large else contextlib.nullcontext():
        try:
            deep = opened.format in ("PNG", "TIFF", "SGI") and ";16" in str(opened.tile)
            opened.load()
            _require_size(path, opened)
            picture = _on_white(_stretched_colors(opened) if deep else _eight_bits(opened))
            picture = picture.transpose(UPRIGHT[turn]) if (turn := _orientation(opened)) in UPRIGHT else picture
        except ImageError:
            raise
        except Exception as error:
            raise ImageError(path, f"truncated or damaged ({error or type(error).__name__})") from None
    picture.info.clear()  # an orientation kept there would make the next library turn the picture again
    return _padded_to_aspect(path, picture)


def _require_size(path: str | Path, opened: Image.Image) -> None:
    if (pixels := opened.width * opened.height) > MAX_PIXELS:
        raise ImageError(path, f"{pixels / 1e6:.0f} megapixels; at most {MAX_PIXELS / 1e6:.0f} are decoded")


@contextlib.contextmanager
def _one_after_the_other() -> Iterator[None]:
    """Within the block, run only one thread of all the user's processes at a time, unless one takes a minute or locks do not
    work."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, NotImplementedError):  # filelock's Timeout is an OSError
            user = os.getuid() if hasattr(os, "getuid") else "user"
            stack.enter_context(FileLock(Path(tempfile.gettempdir()) / f"mcvqa-large-picture-{user}.lock", timeout=60))
        yield


def _other_content(head: bytes) -> str:
    """Describe a file by its first bytes; empty if they are not known."""
    head = head.removeprefix(b"\xef\xbb\xbf")
    return next((name for begin, name in OTHER_CONTENT.items() if re.match(begin, head, re.DOTALL | re.IGNORECASE)), "")


def _let_heic_in(path: str | Path, head: bytes) -> None:
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"hevc", b"heim", b"mif1", b"msf1"):
        try:
            from pillow_heif import register_heif_opener
        except ImportError:
            raise ImageError(path, "HEIC picture; to read it: pip install pillow-heif") from None
        register_heif_opener()


@functools.cache
def _libtiff_warns() -> Any:
    """Turn errors that libtiff would print to the terminal, without the file's name, into Python warnings.

    Returns:
        An object that must stay in memory meanwhile.
    """
    @ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
    def warn(module: bytes | None, form: bytes, values: Any) -> None:
        line = ctypes.create_string_buffer(200)
        ctypes.CDLL(None).vsnprintf(line, len(line), form, ctypes.c_void_p(values))
        warnings.warn(line.value.decode("utf-8", "replace"), stacklevel=2)

    with contextlib.suppress(AttributeError, OSError):  # in Pillow for Windows libtiff is hidden
        ctypes.CDLL(getattr(Image.core, "__file__", "")).TIFFSetErrorHandler(warn)
    return warn


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1 (upright) if it is missing or unreadable, since the picture itself is fine."""
    try:
        return int(image.getexif().get(274, 1))
    except Exception:  # broken metadata raises as many kinds of errors as broken pictures
        return 1


def _eight_bits(image: Image.Image) -> Image.Image:
    """Convert grey pictures of 16 bits, 32 bits or floats to 8 bits; Pillow's own conversion makes all above 255 white.

    A sensor's 10, 12 or 14 bits in a file of 16 would be black: if the file is deeper than its content and declares no range, the
    range in use is stretched to the full one.
    """
    if image.mode[0] not in "IF":
        return image
    values = np.array(image, dtype=np.float32)
    np.nan_to_num(values, copy=False, posinf=0, neginf=0)
    low, high = 0.0, 65535.0
    least, most = float(values.min()), float(values.max())
    if image.mode == "F" or least < low or most > high or least < most < 2**14:
        low, high = least, most
    values -= low  # in place: a large picture fills a quarter of a gigabyte
    values /= max(high - low, 1e-9)
    values *= 255
    return Image.fromarray(np.round(values, out=values).astype(np.uint8))


def _stretched_colors(image: Image.Image) -> Image.Image:
    """Stretch colours of 16 bits, of which Pillow keeps the upper 8, by the same rule."""
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        return _eight_bits(image)
    bands = image.getbands()
    limits = np.array(image.getextrema()).reshape(-1, 2)[: len(bands) - ("A" in bands)]
    low, high = int(limits[:, 0].min()), int(limits[:, 1].max())
    if not low < high < 64:
        return image
    table = [round(255 * min(max((value - low) / (high - low), 0), 1)) for value in range(256)]
    return image.point([value for band in bands for value in (range(256) if band == "A" else table)])


def _on_white(image: Image.Image) -> Image.Image:
    """Convert to RGB; transparent areas become white instead of the colour hidden below."""
    if {"A", "a"} & set(image.getbands()) or "transparency" in image.info:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _padded_to_aspect(path: str | Path, picture: Image.Image) -> Image.Image:
    """Add white next to (or below) the middle of a strip that is too narrow for the model's processor."""
    width, height = picture.size
    least = -(-max(picture.size) // MAX_ASPECT)
    if min(picture.size) >= least:
        return picture
    if max(picture.size) * least > MAX_PIXELS:
        raise ImageError(path, f"a strip of {width} x {height} pixels")
    padded = Image.new("RGB", (max(width, least), max(height, least)), "white")
    padded.paste(picture, ((padded.width - width) // 2, (padded.height - height) // 2))
    return padded


# %% what a CSV says -> a file inside the data folder
NEUTRAL_FOLDERS = {"image", "images", "img", "imgs", "photo", "photos"}  # folders that say nothing about the split
JPEG_SUFFIXES = (".jpg", ".jpeg")
OUTSIDE = "points outside the data folder"  # how the reason of a refused path starts


def web_address(written: str) -> str:
    """Return what is wrong with a path that is a web address; empty for others."""
    return "a web address; download the picture and write its file name" if re.match(r"\s*https?://", written) else ""


class ImageFolder:
    """Lists the files below a data folder once, and finds them by the paths in a CSV."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).resolve()
        # (name or stem, folded) -> paths relative to the root
        self.by_name: dict[str, list[PurePosixPath]] = {}
        self.by_stem: dict[str, list[PurePosixPath]] = {}
        self.unpacked: dict[PurePosixPath, tuple[Path, PurePosixPath]] = {}  # path relative to the root -> folder, path in it
        for file in _files_below(self.root):
            self._enter(file)

    def _enter(self, file: PurePosixPath) -> None:
        self.by_name.setdefault(_folded(file.name), []).append(file)
        self.by_stem.setdefault(_folded(file.stem), []).append(file)

    def add(self, unpacked: Path, at: PurePosixPath) -> None:
        """List the files of an unpacked archive as if they were in the folder `at` of the root; existing files take
        precedence."""
        for inside in _files_below(unpacked.resolve()):
            if not self.holds(str(at / inside)):
                self._enter(at / inside)
                self.unpacked[at / inside] = (unpacked.resolve(), inside)

    def folders(self) -> set[PurePosixPath]:
        """Return all folders with files, relative to the root."""
        return {file.parent for files in self.by_name.values() for file in files} - {PurePosixPath(".")}

    def holds(self, path: str) -> bool:
        """Return whether there is a file of exactly this path from the root."""
        file = PurePosixPath(path)
        return file in self.by_name.get(_folded(file.name), ())

    def find(self, written: str) -> Path:
        """Find the file meant by a CSV's path or id.

        Case, backslashes and the extension may differ (none at all, or .jpeg for .jpg). The file may lie deeper than written
        (train/train/1.jpg for train/1.jpg), or directly in the root or a neutral folder such as images/; but never in another
        named folder, since train/1.jpg and test/1.jpg are different pictures.

        Raises:
            ImageError: no file matches, several do, or the path leaves the data folder.
        """
        file = self.match(written) or PurePosixPath(*self._parts(written))
        base, inside = self.unpacked.get(file, (self.root, file))
        path = base / inside
        try:
            real = path.resolve()
            kind = special_file(real) if real.is_relative_to(base) else f"{OUTSIDE} through a link"
        except (OSError, RuntimeError):  # a name that is too long, links in a circle
            kind = "no such file"
        if kind:
            raise ImageError(written, (kind == "no such file" and web_address(written)) or kind)
        return path

    def match(self, written: str) -> PurePosixPath | None:
        """Return the path from the root of the listed file that is meant; None without one. Raises the errors of `find`."""
        parts = self._parts(written)
        fits = self._fitting(parts)
        exact = [file for file in fits if file.parts == parts]
        if len(exact or fits) > 1:
            raise ImageError(written, f"several files fit: {', '.join(str(file) for file in sorted(fits)[:4])}")
        return next(iter(exact or fits), None)

    def _parts(self, written: str) -> tuple[str, ...]:
        text = written.strip().replace("\\", "/")
        if not text:
            raise ImageError(repr(written), "no path")
        parts = tuple(part for part in text.split("/") if part not in ("", "."))
        if text.startswith("/") or re.match(r"[A-Za-z]:", text) or ".." in parts or "\0" in text or not parts:
            raise ImageError(repr(written), f"{OUTSIDE}; paths must be relative to it")
        return parts

    def _fitting(self, parts: tuple[str, ...]) -> list[PurePosixPath]:
        """Return the best matches: full names before stems, at the written depth or deeper before higher up."""
        above, name = tuple(map(_folded, parts[:-1])), _folded(parts[-1])
        stem, dot, extension = name.rpartition(".")
        jpegs = [f for f in self.by_stem.get(stem, []) if f.suffix.lower() in JPEG_SUFFIXES]
        swapped = jpegs if dot + extension in JPEG_SUFFIXES else []
        number = name.removesuffix(".0")  # 17, or 17.0 as pandas writes it, may be 000017.jpg
        padded = [f for n in range(len(number), 17) for f in self.by_stem.get(number.zfill(n), [])] if number.isdigit() else []
        for files in (self.by_name.get(name, []), self.by_stem.get(name, []), swapped, padded):
            folders = {file: tuple(map(_folded, file.parts[:-1])) for file in files}
            fits = (
                [file for file, folder in folders.items() if folder == above]
                or [file for file, folder in folders.items() if folder[len(folder) - len(above) :] == above]
                or [file for file, folder in folders.items() if folder == above[len(above) - len(folder) :]]
                or [file for file, folder in folders.items() if set(folder) <= NEUTRAL_FOLDERS]
            )
            if fits:
                return fits
        return []


def _files_below(root: Path) -> Iterator[PurePosixPath]:
    """Yield all visible files relative to the root, without following linked folders."""
    for folder, below, files in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith((".", "__MACOSX")))
        inside = PurePosixPath(Path(folder).relative_to(root).as_posix())
        yield from (inside / name for name in sorted(files) if not name.startswith("."))


def _folded(name: str) -> str:
    """Normalise a name for comparison: archives made on a Mac contain decomposed Hangul."""
    return unicodedata.normalize("NFC", name).casefold()


# %% all pictures of a data set, each decoded once
@dataclass(frozen=True)
class ImageRecord:
    """Describes the picture named by a CSV.

    Attributes:
        written: the path in the CSV.
        path: the file; None if none was found.
        problem: why the picture cannot be used; empty if it can.
        width, height: in pixels, upright; 0 if there is a problem.
        content_hash: SHA-256 of the file, or empty.
        dhash: 64 signs of brightness steps between neighbours on a 9 x 8 grid; 0 if looks are not surveyed.
        thumbnail: 16 x 16 RGB bytes; empty likewise.
    """

    written: str
    path: Path | None = None
    problem: str = ""
    width: int = 0
    height: int = 0
    content_hash: str = ""
    dhash: int = 0
    thumbnail: bytes = b""


THUMBNAIL_SIDE = 16
THREADS = min(8, os.cpu_count() or 2)  # of a survey; more of them wait for each other


def survey_images(
    folder: ImageFolder, written_paths: Iterable[str], workers: int = THREADS, *, looks: bool = True
) -> dict[str, ImageRecord]:
    """Find and fully decode every distinct picture once (Pillow decodes outside of the GIL).

    Args:
        folder: files of the data folder.
        written_paths: paths in the CSV files.
        workers: number of threads.
        looks: whether to describe looks, by which near-duplicates are found.

    Returns:
        Written path -> record, in the order of first occurrence. Broken and missing pictures have records too.
    """
    records = {written: _found_image(folder, written) for written in dict.fromkeys(written_paths)}
    by_path = survey_files([record.path for record in records.values() if record.path is not None], workers, looks=looks)
    return {w: replace(by_path[r.path], written=w) if r.path is not None else r for w, r in records.items()}


def survey_files(paths: Iterable[Path], workers: int = THREADS, *, looks: bool = True) -> dict[Path, ImageRecord]:
    """Survey files as `survey_images` does; `written` is empty in the records."""
    files = list(dict.fromkeys(paths))
    with _warnings_by_file() as (of_file, warned), ThreadPoolExecutor(max(1, workers)) as pool:

        def surveyed(path: Path) -> ImageRecord:
            of_file.path = path
            return surveyed_image(path, looks)

        bar = tqdm(pool.map(surveyed, files), total=len(files), desc="pictures", disable=len(files) < 2)
        by_path = dict(zip(files, bar, strict=True))
    _name_warnings({text: [p for p in dict.fromkeys(of) if not by_path[p].problem] for text, of in warned.items()})
    return by_path


NAMED_WARNINGS = 5  # of each survey


@contextlib.contextmanager
def _warnings_by_file() -> Iterator[tuple[threading.local, dict[str, list[Path]]]]:
    """Collect Pillow's warnings within the block: its own lines name no file.

    Yields:
        An object whose `path` a thread sets to the file it decodes, and the files by warning.
    """
    of_file, by_message = threading.local(), defaultdict[str, list[Path]](list)

    def note(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if hasattr(of_file, "path"):
            by_message[" ".join(str(message).split())].append(of_file.path)
        else:
            before(message, category, *where, **more)

    with warnings.catch_warnings():
        before = warnings.showwarning
        warnings.simplefilter("always")
        warnings.showwarning = note
        yield of_file, by_message


def _name_warnings(warned: dict[str, list[Path]]) -> None:
    """Print Pillow's warnings with the names of the pictures that are used; refused ones have a reason anyway."""
    named = {text: paths for text, paths in warned.items() if paths}
    for text, paths in list(named.items())[:NAMED_WARNINGS]:
        tqdm.write(f"  {min(paths)}{f' and {len(paths) - 1:,} more' if len(paths) > 1 else ''}: {text}")
    if len(named) > NAMED_WARNINGS:
        tqdm.write(f"  ... and {counted(len(named) - NAMED_WARNINGS, 'other warning')} about pictures")


def _found_image(folder: ImageFolder, written: str) -> ImageRecord:
    try:
        return ImageRecord(written, folder.find(written))
    except ImageError as error:
        return ImageRecord(written, problem=error.reason)


def surveyed_image(path: Path, looks: bool = True) -> ImageRecord:
    """Survey one file; `written` is empty."""
    record = ImageRecord("", path)
    try:
        data = _image_bytes(path)
        record = replace(record, content_hash=hashlib.sha256(data).hexdigest())
        picture = _decoded_image(path, data)
    except ImageError as error:
        return replace(record, problem=error.reason)
    record = replace(record, width=picture.width, height=picture.height)
    if not looks:
        return record
    thumbnail = picture.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX).tobytes()
    return replace(record, dhash=_difference_hash(picture), thumbnail=thumbnail)


def _difference_hash(picture: Image.Image) -> int:
    """Compute a hash whose bits are set where the right neighbour is clearly brighter; flat areas give 0, not the sign of
    noise."""
    grey = np.asarray(picture.resize((9, 8), Image.Resampling.BOX).convert("L"), dtype=np.int16)  # (8, 9)
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1] + 2).tobytes(), "big")


# %% near-duplicates: the same photograph saved again, resized, or a little brighter
MAX_HASH_DISTANCE = 12  # of 64 bits, in at most three of the four blocks: copies differ in few places, often in none
MAX_MEAN_SHIFT = 40  # grey levels between the mean brightness of two copies
MAX_CONTRAST_RATIO = 1.3  # a black and a grey square on white differ in contrast only
MAX_DIFFERENCE = 0.15  # root mean square between normalised 8 x 8 thumbnails, in standard deviations
MAX_CELL_DIFFERENCE = 0.75  # the same for the worst of the 16 x 16 cells: one moved object is another picture


def near_duplicate_groups(records: dict[str, ImageRecord]) -> dict[str, int]:
    """Number the groups of pictures with the same content or the same look; most pictures are alone in theirs.

    Candidates share a 16-bit block of their difference hash (certain for up to three differing bits, usual beyond). A pair counts
    if its hashes differ in at most MAX_HASH_DISTANCE bits and its colour thumbnails, normalised for brightness and contrast,
    agree overall and in each cell: plain backgrounds alone make no duplicates.

    Args:
        records: written path -> record.

    Returns:
        Written path -> group, numbered by first occurrence.
    """
    usable = {record.content_hash: record for record in records.values() if record.thumbnail}
    labels = dict(zip(usable, _similarity_labels(list(usable.values())).tolist(), strict=True))
    numbers: dict[int | str, int] = {}  # label, or content if it is not a picture, or path if there is no file
    groups = {}
    for written, record in records.items():
        key = labels.get(record.content_hash, record.content_hash or f"missing {written}")
        groups[written] = numbers.setdefault(key, len(numbers))
    return groups


def _similarity_labels(records: list[ImageRecord]) -> np.ndarray:
    """Label (N,) pictures, equally if they look alike, directly or through others."""
    n, side = len(records), THUMBNAIL_SIDE
    thumbnails = np.frombuffer(b"".join(r.thumbnail for r in records), np.uint8).reshape(n, side * side * 3)
    mean = thumbnails.mean(1, dtype=np.float32)  # (N,)
    normalised = thumbnails - mean[:, None]  # (N, 768)
    contrast = np.maximum(normalised.std(1), 10)  # (N,), with a minimum, so that noise does not distinguish plain pictures
    normalised /= contrast[:, None]
    coarse = normalised.reshape(n, side // 2, 2, side // 2, 2, 3).mean((2, 4))
    coarse = coarse.reshape(n, side * side * 3 // 4)  # (N, 192)
    blocks = np.array([r.dhash for r in records], dtype=">u8").view(">u2").reshape(n, 4)
    bits = np.unpackbits(blocks.view(np.uint8).reshape(n, 8), axis=1)  # (N, 64)
    labels = np.arange(n)

    def alike(one: int, others: np.ndarray) -> np.ndarray:
        return (
            ((bits[others] != bits[one]).sum(1) <= MAX_HASH_DISTANCE)
            & (np.abs(mean[others] - mean[one]) <= MAX_MEAN_SHIFT)
            & (np.abs(np.log(contrast[others] / contrast[one])) <= np.log(MAX_CONTRAST_RATIO))
            & (np.abs(normalised[others] - normalised[one]).max(1) <= MAX_CELL_DIFFERENCE)
        )

    for bucket in _sharing_a_block(blocks):
        for one, others in _near_pairs(bucket, coarse):
            others = others[labels[others] != labels[one]]  # pictures known to be alike are not compared again
            if len(hits := others[alike(one, others)]):
                labels[np.isin(labels, labels[hits])] = labels[one]
    return labels


def _sharing_a_block(blocks: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the indices of pictures with the same value in one of the blocks (N, 4); the same set only once."""
    seen = set()
    for values in blocks.T:
        order = np.argsort(values, kind="stable")
        for bucket in np.split(order, np.flatnonzero(np.diff(values[order].astype(np.int32))) + 1):
            if len(bucket) > 1 and bucket.tobytes() not in seen:
                seen.add(bucket.tobytes())
                yield bucket


def _near_pairs(bucket: np.ndarray, coarse: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (one, similar ones) by coarse thumbnails (N, 192); one matrix product per 1024 pictures bounds the memory."""
    inside = coarse[bucket]
    squares = np.square(inside).sum(1)
    limit = (MAX_DIFFERENCE**2) * coarse.shape[1]
    for start in range(0, len(bucket), 1024):
        rows = slice(start, start + 1024)
        near = squares[rows, None] + squares - 2 * inside[rows] @ inside.T <= limit + 1e-3  # (rows, bucket)
        for row in np.flatnonzero(near.sum(1) > 1):
            yield int(bucket[start + row]), bucket[near[row]]
