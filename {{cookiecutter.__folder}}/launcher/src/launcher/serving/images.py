"""From the bytes of a picture to the pixels that a model takes."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("PNG", "JPEG")
MOST_PIXELS = 16_000_000
GREY, COLOUR = 1, 3  # channels of images that people can send


class InputError(Exception):
    """An instance is not what the model takes; the text says what it is."""


def read(content: bytes, channels: int, height: int, width: int) -> np.ndarray:
    """Give the pixels of an image, uint8 (channels, height, width), brought to this size.

    Raises:
        InputError: it is no image, or too large.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as file:  # which reads no pixel yet
            if file.width * file.height > MOST_PIXELS:
                raise InputError(
                    f"it has {file.width} x {file.height} pixels; {MOST_PIXELS:,} are the most"
                )
            image = _upright(file).convert("L" if channels == GREY else "RGB")
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - Pillow has many kinds, and a broken file may meet each
        raise InputError(
            f"it is no whole image of {' or '.join(FORMATS)} ({type(error).__name__})"
        ) from None
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return pixels[None] if channels == GREY else pixels.transpose(2, 0, 1)


def _upright(file: Image.Image) -> Image.Image:
    """Give an image as people see it: turned as its camera was held, and of 16 bits the upper ones, which Pillow would cut off."""
    if file.mode.startswith("I"):
        wide = np.asarray(file).astype(np.float32)
        return Image.fromarray(np.rint(wide.clip(0, 65535) / 257).astype(np.uint8))
    ImageOps.exif_transpose(file, in_place=True)
    return file
