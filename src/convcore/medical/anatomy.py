"""A thorax as signed distances: the shapes that the CT phantom is painted with.

A signed distance is negative inside a shape and grows outwards in mm. Shapes combine by minimum
(union) and maximum (intersection); a voxel's coverage is read off the distance, so edges get the
partial volume that a scanner gives them. Coordinates are the patient's: x to the left, y to the back,
z to the head, in mm, (0, 0, 0) between the lungs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Grid", "Thorax", "Tube", "grow_vessels", "paint_tube"]

Field = NDArray[np.floating[Any]]

AIR_HU = -1000.0
FAT_HU = -95.0
MUSCLE_HU = 48.0


@dataclass(frozen=True, slots=True)
class Grid:
    """Voxel centres of a volume: coordinates in mm along each axis, and the edge length that blurs edges."""

    z: Field
    y: Field
    x: Field
    pixel: float

    @property
    def voxel(self) -> float:
        """Volume of a voxel in cubic mm."""
        return float((self.z[1] - self.z[0]) * (self.y[1] - self.y[0]) * (self.x[1] - self.x[0]))

    @property
    def open(self) -> tuple[Field, Field, Field]:
        """Coordinates that broadcast to (z, y, x)."""
        return self.z[:, None, None], self.y[None, :, None], self.x[None, None, :]


@dataclass(frozen=True, slots=True)
class Tube:
    """A straight piece of a vessel or airway: ends x, y, z in mm, and radius in mm."""

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    radius: float


class Thorax:
    """One person's chest, drawn from a random generator, on a grid.

    Attributes
    ----------
    hu
        float32 HU, shape (z, y, x), without vessels, nodules and noise.
    lung_distance
        Signed distance to the lungs in mm (approximate away from the edge), same shape.
    """

    def __init__(self, grid: Grid, rng: np.random.Generator) -> None:
        self.grid = grid
        self.build = float(rng.uniform(0.92, 1.04))
        self.blood = float(rng.choice([rng.uniform(40, 60), rng.uniform(120, 220)]))
        self.rib_phase = float(rng.uniform(0, 26))
        self.dome = float(rng.uniform(-105, -80))
        z, y, x = (v / np.float32(self.build) for v in grid.open)
        self._x, self._y, self._z = x, y, z
        self.hu = np.full((len(grid.z), len(grid.y), len(grid.x)), AIR_HU, np.float32)
        self.lung_distance = self._lungs()
        self._soft_tissue(rng)
        self._bones()
        self._airways()

    def paint(self, distance: Field, value: float | Field) -> None:
        """Blend `value` into the volume where `distance` is negative, softly at its edge."""
        share = np.clip(np.float32(0.5) - distance * np.float32(self.build / self.grid.pixel), 0, 1)
        self.hu += share * (value - self.hu)

    def _lungs(self) -> Field:
        x, y, z = self._x, self._y, self._z
        # The chest narrows towards the top; the diaphragm rises in two domes from below.
        taper = 1 - 0.30 * np.clip((z - 10) / 110, 0, 1) ** 2
        cavity: Field = _ellipse(x / taper, y / taper, (0, 0), (122, 86), 2.1) * taper
        cavity = _f32(np.maximum(cavity, z - 125))
        domes = np.maximum(
            38 * np.exp(-(((x + 62) / 48) ** 2) - ((y + 12) / 55) ** 2) + 8,
            30 * np.exp(-(((x - 66) / 46) ** 2) - ((y + 12) / 55) ** 2),
        )
        self._cavity = cavity
        # How far below the diaphragm; the factor makes up for the slope of the domes' sides.
        self._below = _f32((self.dome + domes - z) * 0.8)
        return _f32(np.maximum(np.maximum(cavity, self._below), -self._middle()))

    def _middle(self) -> Field:
        """Signed distance to everything between the lungs: vessels, heart, oesophagus, spine."""
        x, y, z = self._x, self._y, self._z
        self._heart = _ellipsoid(x, y, z, (24, -30, -48), (60, 46, 54))
        width = 33 + 7 * np.clip(-(z + 5) / 60, -0.6, 1)
        core = _ellipse(x * 33 / width, y, (1, -8), (33, 58), 2.0)
        front = np.maximum(np.abs(x + 2) - 5, y)
        spine = _ellipse(x, y, (0, 72), (27, 30), 2.2)
        aorta = _ellipse(x, y, (23, 44), (15, 15), 2.0)
        return _f32(np.minimum.reduce(np.broadcast_arrays(self._heart, core, front, spine, aorta)))

    def _soft_tissue(self, rng: np.random.Generator) -> None:
        x, y, z = self._x, self._y, self._z
        skin = _ellipse(x, y, (0, 6), (160, 116), 2.15)
        wall = _ellipse(x, y, (0, 4), (149, 105), 2.15)
        couch = np.maximum(np.abs(y - 131 + 0.0011 * x**2) - 3, np.abs(x) - 185)
        self.paint(_f32(np.broadcast_to(couch, self.hu.shape)), -450.0)
        self.paint(skin, FAT_HU)
        self.paint(wall, MUSCLE_HU)
        # Fat lies between the muscles of the chest wall and the ribs, and fills the mediastinum.
        shell = _ellipse(x, y, (0, 2), (138, 96), 2.12)
        self.paint(_f32(np.abs(shell + 1) - 1.2), -40.0)
        inside = self._cavity
        self.paint(_f32(inside + 2), -75.0)
        # Below the diaphragm: liver to the right (60 HU), stomach and spleen to the left.
        self.paint(_f32(np.maximum(inside, -self._below)), 58.0)
        self.paint(self._heart, FAT_HU)
        self.paint(_f32(self._heart + 4), 45.0)
        for centre, axes in (((30, -34, -50), (24, 26, 34)), ((2, -36, -44), (20, 24, 30))):
            self.paint(_ellipsoid(x, y, z, centre, axes), self.blood)
        self._great_vessels()
        slope = _f32(-862 + 0.28 * y + 0 * z + 0 * x)
        lobes = _texture(self.hu.shape, rng)
        self.paint(self.lung_distance, _f32(slope + 14 * lobes))

    def _great_vessels(self) -> None:
        x, y, z = self._x, self._y, self._z
        descending = _f32(_ellipse(x, y, (23, 44), (12, 12), 2.0) + 0 * z)
        ascending = np.maximum(_ellipse(x, y, (-9, -28), (16, 16), 2.0), np.abs(z - 12) - 40)
        # The arch: half a ring that joins the two, at the height of 52 mm.
        along = ((x + 9) * 32 + (y + 28) * 72) / np.hypot(32, 72)
        across = ((x + 9) * 72 - (y + 28) * 32) / np.hypot(32, 72)
        ring = np.hypot(np.hypot(along - 39, np.maximum(z - 40, 0)) - 39, across) - 12.5
        arch = np.where(z > 36, ring, 1e3)
        cava = np.maximum(_ellipse(x, y, (-30, -22), (10, 9), 2.0), -22 - z)
        trunk = _ellipsoid(x, y, z, (14, -34, 4), (15, 14, 16))
        right = _capsule(x, y, z, (8, -22, 2), (-40, 0, -4), 9.5)
        left = _capsule(x, y, z, (16, -26, 8), (42, 6, 6), 9.5)
        gullet = _f32(_ellipse(x, y, (5, 33), (7, 5), 2.0) + 0 * z)
        for distance in (descending, ascending, arch, cava, trunk, right, left):
            self.paint(_f32(np.broadcast_to(distance, self.hu.shape)), self.blood)
        self.paint(gullet, 35.0)

    def _bones(self) -> None:
        x, y, z = self._x, self._y, self._z
        # Vertebrae of 22 mm with discs between them.
        height = np.abs(np.mod(z + self.rib_phase, 26) - 13)
        body = _f32(np.maximum(_ellipse(x, y, (0, 66), (19, 15), 2.4), height - 10.5))
        self.paint(_f32(_ellipse(x, y, (0, 66), (18, 14), 2.4) + 0 * z), 85.0)
        arch = np.maximum(_ellipse(x, y, (0, 90), (17, 13), 2.0), height - 9)
        spinous = np.maximum(np.maximum(np.abs(x) - 3.5, np.abs(y - 107) - 10), height - 8)
        side = np.maximum(np.maximum(np.abs(x) - 36, np.abs(y - 88 + 0.25 * np.abs(x)) - 4), height - 6)
        for shape in (arch, spinous, side, body):
            # Bone pushes into no lung, so that the truth about the lungs stays true.
            part = _f32(np.maximum(shape, -self.lung_distance))
            self.paint(part, 480.0)
            self.paint(_f32(part + 2.2), 190.0)
        self.paint(_f32(_ellipse(x, y, (0, 90), (9.5, 8), 2.0) + 0 * z), 28.0)
        self._ribs()
        sternum = _f32(_ellipse(x, y, (0, -93), (19, 5.5), 2.6) + 0 * z)
        self.paint(sternum, 340.0)
        self.paint(_f32(sternum + 2), 130.0)

    def _ribs(self) -> None:
        x, y, z = self._x, self._y, self._z
        # Measured from the spine round to the front; a rib falls by 70 mm on its way.
        angle = np.arctan2(np.abs(x) / 132, (y - 2) / 94)
        drop = 72 * (angle / np.pi) ** 1.2
        shell = _ellipse(x, y, (0, 2), (130, 92), 2.12)
        height = np.mod(z + drop + self.rib_phase + 13, 26) - 13
        rib = np.hypot(shell * 1.5, height) - 6.5
        blade = np.maximum(np.abs(_ellipse(x, y, (0, 2), (141, 99), 2.12)) - 1.6, np.abs(angle - 0.80) - 0.26)
        blade = np.maximum(blade, -12 - z)
        # The last fifth towards the breastbone is cartilage.
        bone, cartilage = np.where(angle < 2.45, rib, 1e3), np.where(angle >= 2.45, rib, 1e3)
        self.paint(_f32(np.broadcast_to(cartilage, self.hu.shape)), 95.0)
        for part, hard in ((bone, 560.0), (blade, 420.0)):
            part = _f32(np.broadcast_to(part, self.hu.shape))
            self.paint(part, hard)
        self.paint(_f32(np.broadcast_to(bone + 2.4, self.hu.shape)), 170.0)

    def _airways(self) -> None:
        x, y, z = self._x, self._y, self._z
        trachea = np.maximum(_ellipse(x, y, (0, 8), (9, 8.5), 2.0), 16 - z)
        pipes = [_f32(np.broadcast_to(trachea, self.hu.shape))]
        pipes.append(_capsule(x, y, z, (0, 8, 20), (-34, 12, -6), 7.0))
        pipes.append(_capsule(x, y, z, (0, 8, 20), (38, 14, -10), 6.0))
        airway = _f32(np.minimum.reduce(pipes))
        # The main bronchi enter the lungs' outline but are not lung.
        self.lung_distance = np.maximum(self.lung_distance, 1.8 - airway)
        self.paint(_f32(airway - 1.8), 20.0)
        self.paint(airway, -985.0)


def grow_vessels(thorax: Thorax, rng: np.random.Generator) -> list[Tube]:
    """Grow a tree of vessels from each hilum to places all over the lung, thickest at the root."""
    inside = np.argwhere(thorax.lung_distance < -3)
    grid = thorax.grid
    places = np.stack([grid.x[inside[:, 2]], grid.y[inside[:, 1]], grid.z[inside[:, 0]]], axis=1)
    tubes: list[Tube] = []
    for side in (-1.0, 1.0):
        half = places[places[:, 0] * side > 0]
        # One tip for so many cubic millimetres: fine vessels are a density, not a number.
        litres = len(half) * grid.voxel / 1e6
        count = min(len(half), int(320 * litres))
        if count:
            root = np.array([side * 38, 4, 0]) * thorax.build
            tubes += _tree(root, half[rng.choice(len(half), count, replace=False)].astype(np.float64), rng)
    return tubes


def _tree(root: NDArray[np.float64], tips: NDArray[np.float64], rng: np.random.Generator) -> list[Tube]:
    """Join every tip to the tree at the point that makes its way to the root short; return the branches."""
    tips = tips[np.argsort(np.linalg.norm(tips - root, axis=1), kind="stable")]
    nodes, parents, ways = [root], [-1], [0.0]
    for tip in tips:
        gap = np.linalg.norm(np.array(nodes) - tip, axis=1)
        at = int(np.argmin(gap + 0.45 * np.array(ways)))
        pieces = max(1, int(gap[at] / 7))
        start = nodes[at]
        for piece in range(1, pieces + 1):
            place = start + (tip - start) * (piece / pieces)
            if piece < pieces:
                place = place + rng.normal(0, 1.0, 3)
            ways.append(ways[at] + float(np.linalg.norm(place - nodes[at])))
            nodes.append(place)
            parents.append(at)
            at = len(nodes) - 1
    # Murray's law: the cube of a vessel's radius is the sum of its branches' cubes.
    cubes = np.zeros(len(nodes))
    children = np.bincount(np.array(parents[1:]), minlength=len(nodes))
    cubes[children == 0] = rng.uniform(0.7, 1.1, int(np.count_nonzero(children == 0))) ** 3
    for index in range(len(nodes) - 1, 0, -1):
        cubes[parents[index]] += cubes[index]
    radii = np.minimum(np.cbrt(cubes), 5.5)
    return [Tube(nodes[parents[i]], nodes[i], float(radii[i])) for i in range(1, len(nodes))]


def paint_tube(hu: Field, grid: Grid, tube: Tube, value: float) -> None:
    """Blend a tube (or, with equal ends, a ball) into `hu` in place, touching only the voxels around it."""
    reach = tube.radius + 1.5 * grid.pixel
    low, high = np.minimum(tube.start, tube.end) - reach, np.maximum(tube.start, tube.end) + reach
    window = []
    for axis, a, b in zip((grid.z, grid.y, grid.x), low[::-1], high[::-1], strict=True):
        window.append(slice(int(np.searchsorted(axis, a)), int(np.searchsorted(axis, b))))
    box = (window[0], window[1], window[2])
    region = hu[box]
    if not region.size:
        return
    z, y, x = grid.z[box[0], None, None], grid.y[None, box[1], None], grid.x[None, None, box[2]]
    distance = _capsule(x, y, z, tuple(tube.start), tuple(tube.end), tube.radius)
    share = np.clip(0.5 - distance / grid.pixel, 0, 1)
    # A tube thinner than a pixel fills only part of it.
    share *= min(1.0, 2 * tube.radius / grid.pixel)
    region += share * np.maximum(np.float32(value) - region, 0)


def _ellipse(
    x: Field, y: Field, centre: tuple[float, float], axes: tuple[float, float], power: float
) -> Field:
    """Approximate signed distance to a (super)ellipse: exact on its edge to first order."""
    u, v = np.abs(x - centre[0]) / axes[0], np.abs(y - centre[1]) / axes[1]
    level = (u**power + v**power) ** (1 / power) + 1e-6
    slope = np.hypot((u / level) ** (power - 1) / axes[0], (v / level) ** (power - 1) / axes[1]) + 1e-6
    return _f32((level - 1) / slope)


def _ellipsoid(
    x: Field, y: Field, z: Field, centre: tuple[float, float, float], axes: tuple[float, float, float]
) -> Field:
    u, v, w = ((c - m) / a for c, m, a in zip((x, y, z), centre, axes, strict=True))
    level = np.sqrt(u**2 + v**2 + w**2) + 1e-6
    slope = np.sqrt((u / axes[0]) ** 2 + (v / axes[1]) ** 2 + (w / axes[2]) ** 2) / level + 1e-6
    return _f32((level - 1) / slope)


def _capsule(
    x: Field, y: Field, z: Field, start: tuple[float, ...], end: tuple[float, ...], radius: float
) -> Field:
    """Signed distance to a tube with round ends: exact."""
    way = np.subtract(end, start)
    length = float(way @ way) or 1.0
    dx, dy, dz = x - np.float32(start[0]), y - np.float32(start[1]), z - np.float32(start[2])
    t = np.clip((dx * way[0] + dy * way[1] + dz * way[2]) / length, 0, 1)
    return _f32(np.sqrt((dx - t * way[0]) ** 2 + (dy - t * way[1]) ** 2 + (dz - t * way[2]) ** 2) - radius)


def _texture(shape: tuple[int, ...], rng: np.random.Generator) -> Field:
    """Smooth random field of unit variance: coarse noise, enlarged linearly along each axis."""
    field = rng.standard_normal([max(2, n // 5 + 1) for n in shape])
    for axis, n in enumerate(shape):
        old = np.linspace(0, 1, field.shape[axis])
        at = np.linspace(0, 1, n)
        low = np.minimum(np.searchsorted(old, at, side="right") - 1, len(old) - 2)
        share = (at - old[low]) / (old[low + 1] - old[low])
        share = share.reshape([-1 if a == axis else 1 for a in range(len(shape))])
        field = np.take(field, low, axis) * (1 - share) + np.take(field, low + 1, axis) * share
    return _f32(field / field.std())


def _f32(values: NDArray[Any]) -> Field:
    return np.asarray(values, np.float32)
