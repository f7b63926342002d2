"""Pictures as they really come: turned, transparent, truncated, huge, or no pictures at all."""
import contextlib
import io
import os
import pickle
import socket
import struct
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFile, ImageOps

from mcvqa.data.images import (
    MAX_ASPECT,
    MAX_PIXELS,
    ImageError,
    ImageFolder,
    ImageRecord,
    near_duplicate_groups,
    open_image,
    open_image_bytes,
    survey_images,
)
from tests.conftest import examples

EASY = Path(__file__).parents[3] / "shared" / "data" / "easyvqa"


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def corner_picture() -> Image.Image:
    """48 x 32, black, with a red top left corner."""
    image = Image.new("RGB", (48, 32))
    image.paste((255, 0, 0), (0, 0, 16, 16))
    return image


def landscape(seed: int, side: int = 160) -> Image.Image:
    """Noise with the spectrum of photographs (amplitude about 1/f), in colour."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side))) + 1 / side
    noise = random.standard_normal((3, side, side)) * 0.5 + random.standard_normal((side, side))
    smooth = np.fft.ifft2(np.fft.fft2(noise) / frequency**1.1).real
    scaled = (smooth - smooth.mean()) / smooth.std() * 40 + random.uniform(90, 140)
    return Image.fromarray(np.clip(scaled, 0, 255).astype(np.uint8).transpose(1, 2, 0).copy())


def reason(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        open_image(path)
    assert caught.value.reason in str(caught.value) and path.name in str(caught.value)
    return caught.value.reason


# %% opening
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_exif_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Image.Transpose numbers: how the camera held the picture
    stored = corner_picture()
    if orientation > 1:
        stored = stored.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[274] = orientation
    upright = open_image(saved(tmp_path / f"photo{suffix}", stored, exif=exif))
    assert upright.size == (48, 32) and upright.getpixel((4, 4))[0] > 200 and upright.getpixel((40, 24))[0] < 50
    assert ImageOps.exif_transpose(upright).size == upright.size  # nothing is left that turns it a second time


def test_sixteen_bits_are_rescaled(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    for name in ("ramp.png", "ramp.tif"):
        grey = np.asarray(open_image(saved(tmp_path / name, Image.fromarray(ramp))))[..., 0]
        assert np.abs(grey - ramp / 257.0).max() <= 1
    for values in (ramp.astype(np.float32) / 65535, ramp.astype(np.int32) * 30000):
        grey = np.asarray(open_image(saved(tmp_path / "wide.tif", Image.fromarray(values))))[..., 0]
        assert np.abs(grey - ramp / 257.0).max() <= 1


@pytest.mark.parametrize("name", ["grey.png", "grey.tif"])
@pytest.mark.parametrize(("low", "high"), [(0, 4095), (291, 694), (100, 16383), (0, 20)])
def test_grey_of_fewer_bits_than_its_file_is_not_black(tmp_path: Path, name: str, low: int, high: int) -> None:
    ramp = np.linspace(low, high, 64).round().astype(np.uint16).reshape(8, 8)
    grey = np.asarray(open_image(saved(tmp_path / name, Image.fromarray(ramp))))[..., 0]
    assert np.abs(grey - (ramp - float(low)) / (high - low) * 255).max() <= 1


def test_sixteen_bits_that_are_used_keep_their_brightness(tmp_path: Path) -> None:
    for level in (0, 3000, 20_000, 65_535):  # of a plain picture, and of the darkest point of another
        plain = np.full((8, 8), level, np.uint16)
        assert open_image(saved(tmp_path / "plain.png", Image.fromarray(plain))).getpixel((4, 4))[0] == round(level / 257)
        plain[0, 0] = 30_000
        assert open_image(saved(tmp_path / "dim.png", Image.fromarray(plain))).getpixel((4, 4))[0] == round(level / 257)


@pytest.mark.parametrize("alpha", [False, True])
def test_colours_of_twelve_bits_in_sixteen_are_not_black(tmp_path: Path, alpha: bool) -> None:
    """Pillow writes no such PNG: made by hand. Red to the right, blue downwards, 0 to 4095."""
    red, blue = np.meshgrid(np.linspace(0, 4095, 8), np.linspace(0, 4095, 8))
    bands = [red, np.zeros((8, 8)), blue, *([np.full((8, 8), 65535)] if alpha else [])]
    lines = b"".join(b"\0" + row.tobytes() for row in np.stack(bands, -1).astype(">u2"))
    header = struct.pack(">IIBBBBB", 8, 8, 16, 6 if alpha else 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    png = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    (tmp_path / "colours.png").write_bytes(b"\x89PNG\r\n\x1a\n" + png)
    picture = open_image(tmp_path / "colours.png")
    assert picture.getpixel((7, 0)) == (255, 0, 0) and picture.getpixel((0, 7)) == (0, 0, 255)
    assert abs(picture.getpixel((4, 0))[0] - 146) <= 17  # of 16 levels


@pytest.mark.parametrize("kind", ["ICO", "ICNS", "PCX", "QOI", "DDS", "SGI", "TGA", "XBM", "MSP"])
def test_other_formats_are_read(tmp_path: Path, kind: str) -> None:
    picture = Image.new("RGB", (64, 64), "white")
    picture.paste((255, 0, 0), (0, 0, 32, 32))
    if kind in ("XBM", "MSP"):
        picture = picture.convert("L").point(lambda v: 255 if v > 200 else 0).convert("1")
    sizes = {"sizes": [(64, 64)]} if kind == "ICO" else {}
    try:
        saved(tmp_path / "photo.jpg", picture, format=kind, **sizes)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow writes no {kind}")
    opened = open_image(tmp_path / "photo.jpg")
    side = opened.width  # an ICNS has several, up to 1024
    assert opened.mode == "RGB" and opened.size == (side, side)
    corner, rest = opened.getpixel((side // 8, side // 8)), opened.getpixel((side * 7 // 8, side * 7 // 8))
    assert corner != rest and (kind in ("XBM", "MSP") or (corner[0] > 200 > 60 > corner[1] and min(rest) > 200))


def test_photoshop_and_sun_files_are_read(tmp_path: Path) -> None:
    """The merged picture of a PSD (three planes), and a Sun raster (rows of BGR): Pillow writes neither."""
    size, planes = 8, np.zeros((3, 8, 8), np.uint8)
    planes[0, :, :4] = 255
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, size, size, 8, 3)
    (tmp_path / "a.psd").write_bytes(head + struct.pack(">IIIH", 0, 0, 0, 0) + planes.tobytes())
    sun = struct.pack(">IIIIIIII", 0x59A66A95, size, size, 24, size * size * 3, 1, 0, 0)
    (tmp_path / "a.ras").write_bytes(sun + np.ascontiguousarray(planes[::-1].transpose(1, 2, 0)).tobytes())
    for name in ("a.psd", "a.ras"):
        assert open_image(tmp_path / name).getpixel((1, 1)) == (255, 0, 0), name
        assert open_image(tmp_path / name).getpixel((6, 6)) == (0, 0, 0), name


def test_a_huge_picture_inside_an_icon_is_refused(tmp_path: Path) -> None:
    """The icon says 64 x 64, the PNG in it has 81 megapixels of one colour in 10 KB."""
    inner = io.BytesIO()
    Image.new("1", (9000, 9000)).save(inner, "PNG")
    entry = struct.pack("<BBBBHHII", 64, 64, 0, 0, 1, 32, len(inner.getvalue()), 22)
    (tmp_path / "icon.ico").write_bytes(struct.pack("<HHH", 0, 1, 1) + entry + inner.getvalue())
    assert "81 megapixels" in reason(tmp_path / "icon.ico")


def test_large_pictures_are_decoded_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcvqa.data.images.LARGE_PIXELS", 100)
    names = [f"{n}.png" for n in range(6)]
    for number, name in enumerate(names):
        saved(tmp_path / name, Image.new("RGB", (64, 64), (number, 0, 0)))
    working, most = [], []
    decode = ImageFile.ImageFile.load

    def load(self: ImageFile.ImageFile) -> object:
        working.append(self)
        most.append(len(working))
        threading.Event().wait(0.01)
        try:
            return decode(self)
        finally:
            working.remove(self)

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    records = survey_images(ImageFolder(tmp_path), names, workers=6)
    assert not any(r.problem for r in records.values()) and set(most) == {1}


def test_pictures_from_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(tmp_path / "a.png", corner_picture()).read_bytes()
    assert open_image_bytes(data, "train.csv, row 3").tobytes() == open_image(tmp_path / "a.png").tobytes()
    with pytest.raises(ImageError, match=r"train\.csv, row 3: a PDF document"):
        open_image_bytes(b"%PDF-1.7", "train.csv, row 3")
    with pytest.raises(ImageError, match="row 3: empty file"):
        open_image_bytes(b"", "row 3")
    monkeypatch.setattr("mcvqa.data.images.MAX_FILE_BYTES", 2**20)
    with pytest.raises(ImageError, match="row 3: 2 MiB; at most 1 are read"):
        open_image_bytes(bytes(2**21), "row 3")


def tiff(path: Path, damage: slice | None = None, value: int = 0, **options: object) -> None:
    saved(path, landscape(1, 64), **options)
    content = bytearray(path.read_bytes())
    if damage:
        content[damage] = bytes([value]) * len(content[damage])
    path.write_bytes(content)


def test_warnings_of_pillow_and_libtiff_name_their_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("odd1.tif", "odd2.tif"):
        tiff(tmp_path / name, compression="tiff_lzw", tiffinfo={34665: 10**6})  # EXIF behind the end
    tiff(tmp_path / "cut.tif", slice(200, -200, 97), compression="tiff_lzw")
    tiff(tmp_path / "noisy.tif", slice(700, 701), 0xFF, compression="jpeg")
    names = ["odd1.tif", "odd2.tif", "cut.tif", "noisy.tif"]
    records = survey_images(ImageFolder(tmp_path), names, workers=2)
    said = capfd.readouterr()
    assert [bool(record.problem) for record in records.values()] == [False, False, True, False]
    assert f"{tmp_path / 'odd1.tif'} and 1 more: Corrupt EXIF data" in said.out and "cut.tif" not in said.out
    assert f"{tmp_path / 'noisy.tif'}: Unsupported marker type" in said.out
    lines = said.err.replace("\r", "\n").splitlines()
    assert all(line.startswith("pictures:") for line in lines if line), said.err
    for name in names:  # as the survey has named them, nobody else does
        with contextlib.suppress(ImageError):
            open_image(tmp_path / name)
    assert capfd.readouterr() == ("", "")


def test_transparency_is_white(tmp_path: Path) -> None:
    hidden = Image.new("RGBA", (8, 8), (200, 0, 0, 0))
    hidden.paste((0, 0, 200, 255), (0, 0, 4, 8))
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 200, 200, 0, 0])
    palette.paste(0, (0, 0, 4, 8))
    key = Image.new("RGB", (8, 8), (200, 0, 0))
    key.paste((0, 0, 200), (0, 0, 4, 8))
    for path in (
        saved(tmp_path / "rgba.png", hidden), saved(tmp_path / "rgba.webp", hidden, lossless=True),
        saved(tmp_path / "palette.png", palette, transparency=1),
        saved(tmp_path / "palette.gif", palette, transparency=1),
        saved(tmp_path / "key.png", key, transparency=(200, 0, 0)),
    ):
        picture = open_image(path)
        assert picture.mode == "RGB" and picture.getpixel((6, 4)) == (255, 255, 255), path
        assert picture.getpixel((1, 4)) == (0, 0, 200), path
    grey = saved(tmp_path / "la.png", Image.new("LA", (8, 8), (10, 0)))
    assert open_image(grey).getpixel((0, 0)) == (255, 255, 255)


def test_cmyk_animation_and_heic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cmyk = open_image(saved(tmp_path / "cmyk.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0))))
    assert cmyk.getpixel((4, 4))[0] > 200 and cmyk.getpixel((4, 4))[1] < 60
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    for name in ("film.gif", "film.png", "film.webp"):
        first = open_image(saved(tmp_path / name, frames[0], save_all=True, append_images=frames[1:], lossless=True))
        assert first.getpixel((4, 4)) == (255, 0, 0), name
    heic = tmp_path / "phone.heic"
    heic.write_bytes(struct.pack(">I", 24) + b"ftypheic" + bytes(12))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
        assert reason(heic).endswith("pip install pillow-heif")
    heif = pytest.importorskip("pillow_heif")
    assert reason(heic)  # a header alone
    heif.register_heif_opener()
    exif = Image.Exif()
    exif[274] = 6
    turned = corner_picture().transpose(Image.Transpose.ROTATE_90)
    upright = open_image(saved(heic, turned, exif=exif.tobytes()))
    assert upright.size == (48, 32) and upright.getpixel((4, 4))[0] > 200


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".gif", ".bmp", ".tif"])
def test_truncated_files(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # some libraries do that
    path = saved(tmp_path / f"photo{suffix}", landscape(0))
    whole = path.read_bytes()
    for share in (0.05, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        assert reason(path)
    path.write_bytes(whole)
    assert open_image(path).size == (160, 160)


def test_progressive_jpeg_cut_between_scans(tmp_path: Path) -> None:
    path = saved(tmp_path / "photo.jpg", landscape(0), progressive=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "truncated" in reason(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b"<!DOCTYPE html><html>", "HTML"), (b"\xef\xbb\xbf\n <html lang=ko>", "HTML"),
     (b"<?xml version='1.0'?>\n<!-- x -->\n<svg xmlns='http://www.w3.org/2000/svg'>", "SVG"), (b" <svg>", "SVG"),
     (b"<!DOCTYPE svg PUBLIC><svg>", "SVG"), (b"<?xml version='1.0'?><dataset/>", "XML"),
     (b"hello", "a text"), ("안녕하세요, 그림".encode(), "a text"), (b'{"images": []}', "JSON"), (b"[1, 2]", "JSON"),
     (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"), (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
     (b"\xd7\xcd\xc6\x9a" + bytes(40), "WMF"), (b"%PDF-1.7\n", "PDF"), (b"PK\x03\x04" + bytes(40), "ZIP"),
     (b"\x1f\x8b\x08" + bytes(40), "archive"), (b"\0\0\0\x20ftypisom" + bytes(40), "video"),
     (b"\x1aE\xdf\xa3" + bytes(40), "video"), (b"\xff\x0a" + bytes(40), "JPEG XL"), (b"\x93NUMPY\1\0" + bytes(40), "array"),
     (bytes(40), "not a picture that Pillow can read"), (b"\x89PNG\r\n\x1a\n" + bytes(40), "a damaged picture")],
)
def test_files_that_are_no_pictures(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "photo.jpg").write_bytes(content)
    assert words in reason(tmp_path / "photo.jpg")


def test_files_that_cannot_be_read_or_are_too_long(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"cannot be read \(File name too long\)"):
        open_image(tmp_path / ("x" * 300))
    with open(tmp_path / "long.jpg", "wb") as handle:
        handle.truncate(257 * 2**20)  # takes no room on the disk
    with pytest.raises(ImageError, match="file of 257 MiB; at most 256 are read"):
        open_image(tmp_path / "long.jpg")


def test_an_orientation_that_is_no_number_is_none(tmp_path: Path) -> None:
    """EXIF with one entry: orientation, of type text, 'abc'."""
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHI4sI", 8, 1, 274, 2, 4, b"abc\0", 0)
    landscape(1, 32).save(tmp_path / "a.jpg", exif=exif)
    assert open_image(tmp_path / "a.jpg").size == landscape(1, 32).size


def test_addresses_are_not_called_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"1\.jpg\?x=1: a web address; download the picture"):
        ImageFolder(tmp_path).find("https://example.com/1.jpg?x=1")


def test_missing_files_and_folders(tmp_path: Path) -> None:
    assert reason(tmp_path / "none.jpg") == "no such file" and reason(tmp_path) == "a folder, not a file"


def test_pipes_devices_and_folders_are_named_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(tmp_path / "socket.jpg"))
    (tmp_path / "folder.jpg").mkdir()
    assert reason(tmp_path / "pipe.jpg") == "a named pipe, not a file"
    with pytest.raises(ImageError, match="/dev/zero: a device, not a file"):
        open_image("/dev/zero")
    records = survey_images(ImageFolder(tmp_path), ["pipe.jpg", "socket.jpg", "folder.jpg"])
    assert [r.problem for r in records.values()] == [f"a {kind}, not a file" for kind in ("named pipe", "socket", "folder")]


@pytest.mark.parametrize(("width", "height"), [(14_000, 14_000), (8001, 8000), (2**31 - 1, 2**31 - 1)])
def test_huge_pictures_are_refused_before_decoding(tmp_path: Path, width: int, height: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")))
    assert "megapixels" in reason(tmp_path / "huge.png")  # decoding would say "truncated"


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (4000, 3), (2000, 9)])
def test_strips_are_padded(tmp_path: Path, size: tuple[int, int]) -> None:
    picture = open_image(saved(tmp_path / "strip.png", Image.new("RGB", size, "red")))
    assert max(picture.size) == max(size) and max(picture.size) <= MAX_ASPECT * min(picture.size)
    assert (np.asarray(picture) == (255, 0, 0)).all(-1).sum() == size[0] * size[1]  # the whole picture is still there
    thin = saved(tmp_path / "thin.png", Image.new("L", (MAX_PIXELS // 100, 1)))
    assert "strip" in reason(thin)


FORMATS = {"JPEG": {}, "PNG": {}, "WEBP": {"lossless": True}, "GIF": {}, "TIFF": {"compression": "tiff_lzw"}, "BMP": {}}
CLEAN = {}
for kind, options in FORMATS.items():
    buffer = io.BytesIO()
    landscape(1, 32).save(buffer, kind, **options)
    CLEAN[kind] = buffer.getvalue()


DAMAGE = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=12)


@examples(150)
@given(st.sampled_from(sorted(CLEAN)), DAMAGE, st.floats(0.1, 1))
@pytest.mark.filterwarnings("ignore")
def test_any_damage_gives_a_picture_or_an_image_error(tmp_path_factory, kind, damage, share) -> None:  # type: ignore
    data = bytearray(CLEAN[kind])
    for place, value in damage:
        data[int(place**3 * (len(data) - 1))] = value  # mostly in the header
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(data[: int(len(data) * share)])
    try:
        picture = open_image(path)
        assert picture.mode == "RGB" and max(picture.size) <= MAX_ASPECT * min(picture.size)
    except ImageError as error:
        assert error.reason


def test_errors_come_back_from_worker_processes() -> None:
    error = pickle.loads(pickle.dumps(ImageError("a.jpg", "empty file")))
    assert error.reason == "empty file" and str(error) == "a.jpg: empty file"


# %% finding
@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("train/1.jpg", "test/1.jpg", "train/2.JPG", "images/3.jpeg", "4.png", "train/train/5.jpg",
                 "train/6.jpg.jpg", "train/7.jpg", "train/7.png", "test/8.jpg", "train/사진.jpg", "images/train/9.jpg",
                 "train/000017.jpg"):
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text("x")
    (tmp_path / "secret.jpg").write_text("x")
    return tmp_path / "root"


@pytest.mark.parametrize(
    ("written", "file"),
    [("train/1.jpg", "train/1.jpg"), ("test\\1.jpg", "test/1.jpg"), ("./train//1", "train/1.jpg"),
     (" train/2.jpg ", "train/2.JPG"), ("TRAIN/2", "train/2.JPG"), ("3", "images/3.jpeg"), ("3.jpg", "images/3.jpeg"),
     ("train/3.jpg", "images/3.jpeg"), ("train/4.png", "4.png"), ("train/5.jpg", "train/train/5.jpg"),
     ("6.jpg", "train/6.jpg.jpg"), ("7.png", "train/7.png"), ("data/test/8.jpg", "test/8.jpg"),
     ("17", "train/000017.jpg"), ("17.0", "train/000017.jpg"), ("0017", "train/000017.jpg"),
     ("사진", "train/사진.jpg"), ("사진.jpg", "train/사진.jpg"), ("train/9.jpg", "images/train/9.jpg")],
)
def test_find(root: Path, written: str, file: str) -> None:
    assert ImageFolder(root).find(written) == root / file


@pytest.mark.parametrize(
    ("written", "words"),
    [("1.jpg", "several files fit: test/1.jpg, train/1.jpg"), ("train/7", "several files fit"),
     ("train/8.jpg", "no such file"), ("4.jpg", "no such file"), ("train", "a folder"), ("x" * 5000, "no such"),
     ("../secret.jpg", "must be relative"), ("train/../../secret.jpg", "must be relative"), ("", "no path"),
     ("/etc/passwd", "must be relative"), ("C:\\secret.jpg", "must be relative"), ("..\\x.jpg", "must be relative"),
     ("a\0b", "must be relative"), (".", "must be relative")],
)
def test_find_refuses(root: Path, written: str, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        ImageFolder(root).find(written)


def test_links(root: Path) -> None:
    (root / "out.jpg").symlink_to(root.parent / "secret.jpg")
    (root / "away").symlink_to(root.parent)
    (root / "in.jpg").symlink_to(root / "4.png")
    (root / "circle.jpg").symlink_to(root / "circle.jpg")
    folder = ImageFolder(root)
    for written in ("out.jpg", "out", "away/secret.jpg"):
        with pytest.raises(ImageError, match="through a link"):
            folder.find(written)
    with pytest.raises(ImageError, match="no such file"):
        folder.find("circle.jpg")
    assert folder.find("in.jpg").read_text() == "x"
    (root.parent / "door").symlink_to(root)
    assert ImageFolder(root.parent / "door").find("4.png") == root / "4.png"  # the data folder itself may be a link


# %% surveying
def test_survey_and_groups(tmp_path: Path) -> None:
    photo = landscape(0)
    saved(tmp_path / "train" / "1.png", photo)
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "same.png").write_bytes((tmp_path / "train" / "1.png").read_bytes())
    saved(tmp_path / "train" / "other.png", landscape(1))
    (tmp_path / "train" / "cut.jpg").write_bytes(saved(tmp_path / "whole.jpg", landscape(2)).read_bytes()[:2000])
    written = ["train/1.png", "train/1", "test/same.png", "train/other.png", "train/cut.jpg", "gone.jpg", "lost.jpg"]
    records = survey_images(ImageFolder(tmp_path), [*written, "gone.jpg"], workers=2)
    assert list(records) == written and all(name == record.written for name, record in records.items())
    fine, cut = records["train/1.png"], records["train/cut.jpg"]
    assert (fine.width, fine.height, fine.problem) == (160, 160, "") and records["train/1"].path == fine.path
    assert "truncated" in cut.problem and cut.path and cut.width == 0
    assert records["gone.jpg"].problem == "no such file" and records["gone.jpg"].path is None
    assert list(near_duplicate_groups(records).values()) == [0, 0, 0, 1, 2, 3, 4]
    lost = {name: records[name] for name in ("gone.jpg", "lost.jpg")}  # a competition without its photographs
    assert near_duplicate_groups(lost) == {"gone.jpg": 0, "lost.jpg": 1} and near_duplicate_groups({}) == {}


@pytest.mark.parametrize("edit", ["jpeg", "webp", "half", "double", "brighter", "darker", "squashed"])
def test_copies_of_photographs_are_found(tmp_path: Path, edit: str) -> None:
    for number in range(12):
        photo = landscape(number)
        copy = {
            "half": photo.resize((80, 80)),
            "double": photo.resize((320, 320)),
            "squashed": photo.resize((160, 120)),
            "brighter": ImageEnhance.Brightness(photo).enhance(1.1),
            "darker": ImageEnhance.Brightness(photo).enhance(0.85),
        }.get(edit, photo)
        saved(tmp_path / f"{number}.png", photo)
        if edit == "webp":
            saved(tmp_path / f"copy{number}", copy, format="WEBP", quality=60)
        else:
            saved(tmp_path / f"copy{number}", copy, format="JPEG", quality=50 if edit == "jpeg" else 85)
    names = [f"{n}.png" for n in range(12)] + [f"copy{n}" for n in range(12)]
    groups = near_duplicate_groups(survey_images(ImageFolder(tmp_path), names))
    assert list(groups.values()) == [*range(12), *range(12)]


def test_shapes_on_plain_backgrounds_are_not_chained(tmp_path: Path) -> None:
    """Other colours and other places are other pictures, although most of their pixels are the same."""
    names = []
    for color in ("red", "green", "blue", "black", "gray"):
        for left in range(4, 44, 3):
            image = Image.new("RGB", (64, 64), (230, 230, 235))
            image.paste(color, (left, 20, left + 16, 36))
            names.append(f"{color}{left}.png")
            saved(tmp_path / names[-1], image)
    groups = near_duplicate_groups(survey_images(ImageFolder(tmp_path), names))
    assert len(set(groups.values())) == len(names)


def test_a_moved_object_makes_another_photograph(tmp_path: Path) -> None:
    for name, place in (("left.png", (30, 100)), ("right.png", (110, 100))):
        photo = landscape(3)
        photo.paste("yellow", (*place, place[0] + 5, place[1] + 5))
        saved(tmp_path / name, photo)
    groups = near_duplicate_groups(survey_images(ImageFolder(tmp_path), ["left.png", "right.png"]))
    assert groups == {"left.png": 0, "right.png": 1}


def test_thousands_of_like_pictures_make_one_group_in_bounded_memory() -> None:
    """Frames of a still video: every pair is alike, and the pairs are never all held at once."""
    noise = np.random.default_rng(0).integers(225, 228, (2500, 768), dtype=np.uint8)
    names = [str(number) for number in range(len(noise))]
    records = {n: ImageRecord(n, content_hash=n, thumbnail=t.tobytes()) for n, t in zip(names, noise, strict=True)}
    assert set(near_duplicate_groups(records).values()) == {0}


@pytest.mark.skipif(not EASY.is_dir(), reason="the real data is not on this machine")
def test_real_shapes_are_mostly_alone() -> None:
    groups = near_duplicate_groups(survey_images(ImageFolder(EASY), [f"train/{n}.png" for n in range(1000)]))
    assert len(set(groups.values())) >= 990
