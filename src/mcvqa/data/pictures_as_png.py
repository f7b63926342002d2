"""Encodes pictures in memory as PNG files, for tables in memory and for questions of the answerer."""
import io

from PIL import Image, ImageOps

from mcvqa.data.images import ImageError

MODES_OF_PNG = ("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA")


def picture_as_png(image: Image.Image) -> bytes:
    """Encode an image as PNG, upright, as the same picture would be read from its file.

    Raises:
        ImageError: its file is damaged, or it has no pixels.
    """
    content = io.BytesIO()
    try:
        upright = ImageOps.exif_transpose(image)  # PNG files of Pillow do not keep the orientation
        (upright if upright.mode in MODES_OF_PNG else _for_png(upright)).save(content, "PNG")
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageError(getattr(image, "filename", "") or "a PIL image", f"truncated or damaged ({error})") from None
    return content.getvalue()


def _for_png(image: Image.Image) -> Image.Image:
    return image.convert("RGBA" if image.mode in ("PA", "RGBa") else "LA" if image.mode == "La" else "RGB")
