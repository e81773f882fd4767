"""Synthetic scenes for segmentation and depth estimation: shapes that hide one another in haze."""

from collections.abc import Iterator

import numpy as np
from launcher import UserError

from .base import SPLITS, Arrays, ImageData

TARGETS = ("mask", "depth")
CLASSES = ("background", "disc", "square", "triangle")
OBJECTS = 5  # at most, in a scene
# Objects of a class lean towards a colour, by less than they differ among themselves.
TINTS = np.array([[1.0, 0.3, 0.3], [0.3, 1.0, 0.3], [0.3, 0.3, 1.0]], dtype=np.float32)
HAZE = np.array([0.75, 0.8, 0.9], dtype=np.float32)  # what everything far away turns into


class Shapes(ImageData):
    """Seeded RGB scenes, each with a class mask and a depth map.

    A scene is a striped plane, slanted away from the camera, with two to five striped objects in
    front of it, the near ones hiding the far ones. Colour only hints at the class; what is farther
    is smaller and hazier, so that depth can be estimated. Depth has no unit: 0 is the
    nearest that anything can be, 1 the farthest.

    Args:
        target: which target `split` gives: `mask` or `depth`.
        scenes: how many scenes in all; a twelfth each is for validation and for the test.
        seed: other scenes with each seed.
        settings: what every data set has, see `ImageData`.
    """

    def __init__(self, target: str, scenes: int, seed: int = 0, **settings) -> None:
        super().__init__(**settings)
        if target not in TARGETS:
            raise UserError(f"data.target is {target}; choose one of {' and '.join(TARGETS)}.")
        if scenes < 12:
            raise UserError(f"data.scenes is {scenes}; give at least 12.")
        self.target = target
        self.scenes = scenes
        self.seed = seed

    def make(self) -> tuple[dict[str, Iterator[Arrays]], dict]:
        """Render each split from a random stream of its own."""
        held_out = self.scenes // 12
        counts = (self.scenes - 2 * held_out, held_out, held_out)
        splits = {
            name: render(count, self.size, np.random.default_rng([self.seed, number]))
            for number, (name, count) in enumerate(zip(SPLITS, counts, strict=True))
        }
        return splits, {"source": "rendered", "seed": self.seed, "classes": CLASSES}


def render(count: int, size: int, rng: np.random.Generator) -> Iterator[Arrays]:
    """Render scenes, a few hundred at a time so that memory does not grow with their number.

    Yields:
        inputs uint8 (count, 3, size, size); mask uint8 (count, size, size), 0 for the background;
        depth float16 (count, 1, size, size) in [0, 1].
    """
    for done in range(0, count, 256):
        yield _render(min(256, count - done), size, rng)


def _render(count: int, size: int, rng: np.random.Generator) -> Arrays:
    def draw(low: float, high: float, *more: int) -> np.ndarray:
        return rng.uniform(low, high, (count, *more, 1, 1)).astype(np.float32)

    side = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = side[np.newaxis, np.newaxis, :], side[np.newaxis, :, np.newaxis]

    angle = draw(0, 2 * np.pi)
    depth = 0.8 + draw(0.05, 0.14) * (np.cos(angle) * x + np.sin(angle) * y)
    mask = np.zeros((count, size, size), dtype=np.uint8)
    image = _striped(x, y, draw)

    # The painter's order: from far to near, each object drawn over what is there.
    layers = np.sort(rng.uniform(0.05, 0.55, (count, OBJECTS)).astype(np.float32))[:, ::-1]
    numbers = rng.integers(2, OBJECTS + 1, (count, 1, 1))
    for layer in range(OBJECTS):
        kind = rng.integers(1, len(CLASSES), (count, 1, 1))
        far = layers[:, layer, np.newaxis, np.newaxis]
        rim = _rim(kind, (x - draw(-0.8, 0.8), y - draw(-0.8, 0.8)), far, draw)
        inside = (rim < 1) & (layer < numbers)
        depth = np.where(inside, far, depth)
        mask = np.where(inside, kind, mask).astype(np.uint8)
        # Lit from the camera: darker towards the rim, which tells a disc from a square inside too.
        colour = 0.5 * _striped(x, y, draw) + 0.5 * TINTS[kind[:, 0, 0] - 1, :, None, None]
        shaded = colour * (1 - 0.6 * rim.clip(0, 1)[:, np.newaxis])
        image = np.where(inside[:, np.newaxis], shaded, image)

    haze = 0.7 * depth[:, np.newaxis]
    image = image * (1 - haze) + HAZE[:, np.newaxis, np.newaxis] * haze
    image += rng.normal(0, 0.05, image.shape).astype(np.float32)
    return {
        "inputs": (image.clip(0, 1) * 255).round().astype(np.uint8),
        "mask": mask,
        "depth": depth[:, np.newaxis].clip(0, 1).astype(np.float16),
    }


def _striped(x: np.ndarray, y: np.ndarray, draw) -> np.ndarray:
    """Two random colours in random waves: (count, 3, size, size)."""
    angle, frequency, phase = draw(0, np.pi), draw(2, 14), draw(0, 2 * np.pi)
    waves = np.sin(frequency * (np.cos(angle) * x + np.sin(angle) * y) + phase)
    colour, contrast = draw(0.15, 1, 3), draw(-0.15, 0.15, 3)
    return colour + contrast * waves[:, np.newaxis]


def _rim(kind: np.ndarray, place: tuple, far: np.ndarray, draw) -> np.ndarray:
    """How near each pixel is to the rim of a randomly turned object: 0 in its middle, 1 at the rim.

    `kind` (count, 1, 1) is a class, `place` the pixels' x and y from the middle; nearer is larger.
    """
    radius = (0.55 - 0.5 * far) * draw(0.85, 1.15)
    angle = draw(0, 2 * np.pi)
    (x, y), cos, sin = place, np.cos(angle) / radius, np.sin(angle) / radius
    u, v = cos * x + sin * y, cos * y - sin * x
    disc = np.hypot(u, v)
    square = np.maximum(abs(u), abs(v)) / 0.85
    triangle = np.maximum(-v, (v + np.sqrt(np.float32(3)) * abs(u)) / 2) / 0.65
    return np.choose(kind - 1, (disc, square, triangle))
