"""A seeded CT thorax phantom whose truth is known: where the lungs are, where the nodules are, how large."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convcore.errors import ArgumentError
from convcore.medical.anatomy import Grid, Thorax, Tube, grow_vessels, paint_tube
from convcore.medical.volume import Volume

__all__ = ["Nodule", "Phantom", "make_phantom"]

FIELD_OF_VIEW = 360.0
LOWEST_HU, HIGHEST_HU = -1024, 3071


@dataclass(frozen=True, slots=True)
class Nodule:
    """A ball of soft tissue in a lung: centre x, y, z in patient mm, diameter in mm, HU."""

    centre_mm: tuple[float, float, float]
    diameter_mm: float
    hu: float


@dataclass(frozen=True, slots=True, eq=False)
class Phantom:
    """A made-up CT of the chest and the truth about it.

    Attributes
    ----------
    hu
        int16 HU, shape (z, y, x). Outside the scan circle -1000.
    spacing
        Distance between voxel centres along z, y, x in mm.
    origin
        Patient coordinates x, y, z in mm of the centre of voxel (0, 0, 0).
    lungs
        bool, shape (z, y, x): both lungs with their vessels and nodules.
    outside
        bool, shape (y, x): pixels outside the scan circle.
    nodules
        The nodules, largest first.
    nodule_free
        As many places x, y, z in patient mm, inside the lungs and far from every nodule.
    seed
        What it was made from.
    """

    hu: NDArray[np.int16]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    lungs: NDArray[np.bool_]
    outside: NDArray[np.bool_]
    nodules: tuple[Nodule, ...]
    nodule_free: tuple[tuple[float, float, float], ...]
    seed: int

    def volume(self) -> Volume:
        """Return the phantom as a float32 HU volume, without the way through DICOM files."""
        return Volume(self.hu.astype(np.float32), self.spacing, self.origin)


def make_phantom(
    seed: int = 0,
    *,
    shape: tuple[int, int, int] = (48, 128, 128),
    slice_step: float = 2.5,
    n_nodules: int = 3,
    diameters: tuple[float, float] = (9.0, 22.0),
    noise_hu: float | None = None,
) -> Phantom:
    """Make a CT of a chest: body, lungs with vessels and airways, heart, bones, couch, nodules, noise.

    Parameters
    ----------
    seed
        Equal seeds and arguments give equal phantoms (another NumPy or CPU may round a voxel differently).
    shape
        Voxels along z, y, x. The field of view is always 360 mm, so y and x set the pixel spacing.
    slice_step
        Distance between slices in mm.
    n_nodules
        How many nodules to place; fewer if the lungs in view have no room for them.
    diameters
        Smallest and largest nodule in mm.
    noise_hu
        Standard deviation of the noise; by default drawn from 10 to 26 HU.

    Returns
    -------
    Phantom

    Examples
    --------
    >>> from convcore.medical import make_phantom
    >>> p = make_phantom(seed=7, shape=(16, 64, 64), n_nodules=1)
    >>> p.hu.dtype, p.hu.shape, len(p.nodules)
    (dtype('int16'), (16, 64, 64), 1)
    """
    if len(shape) != 3 or min(shape) < 2 or not slice_step > 0 or n_nodules < 0:
        raise ArgumentError(
            "make_phantom", got=(shape, slice_step, n_nodules), expected="(z, y, x) of at least 2, step > 0"
        )
    if not 0 < diameters[0] <= diameters[1]:
        raise ArgumentError("make_phantom", "diameters", got=diameters, expected="smallest and largest in mm")
    rng = np.random.default_rng(seed)
    spacing = (float(slice_step), FIELD_OF_VIEW / shape[1], FIELD_OF_VIEW / shape[2])
    middle = float(rng.uniform(-12, 12))
    z, y, x = ((np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True))
    z = z + middle
    grid = Grid(z.astype(np.float32), y.astype(np.float32), x.astype(np.float32), max(spacing[1:]))
    thorax = Thorax(grid, rng)
    lungs = thorax.lung_distance < 0
    hu = thorax.hu
    for tube in grow_vessels(thorax, rng):
        paint_tube(hu, grid, tube, thorax.blood)
    nodules = _place_nodules(thorax, rng, n_nodules, diameters)
    for nodule in nodules:
        centre = np.array(nodule.centre_mm)
        paint_tube(hu, grid, Tube(centre, centre, nodule.diameter_mm / 2), nodule.hu)
    free = _places(thorax, rng, len(nodules), 12.0, [(n.centre_mm, n.diameter_mm / 2 + 26) for n in nodules])
    hu += _noise(hu.shape, rng, float(rng.uniform(10, 26)) if noise_hu is None else noise_hu)
    outside = np.hypot(y[:, None], x[None, :]) > FIELD_OF_VIEW / 2
    hu[:, outside] = -1000
    return Phantom(
        hu=np.clip(np.rint(hu), LOWEST_HU, HIGHEST_HU).astype(np.int16),
        spacing=spacing,
        origin=(float(x[0]), float(y[0]), float(z[0])),
        lungs=lungs,
        outside=outside,
        nodules=tuple(sorted(nodules, key=lambda n: -n.diameter_mm)),
        nodule_free=tuple(free),
        seed=seed,
    )


def _place_nodules(
    thorax: Thorax, rng: np.random.Generator, count: int, diameters: tuple[float, float]
) -> list[Nodule]:
    nodules: list[Nodule] = []
    for _ in range(count):
        diameter = float(rng.uniform(*diameters))
        apart = [(n.centre_mm, n.diameter_mm / 2 + diameter / 2 + 24) for n in nodules]
        hu = float(rng.uniform(0, 45))
        nodules += [Nodule(place, diameter, hu) for place in _places(thorax, rng, 1, diameter / 2 + 1, apart)]
    return nodules


def _places(
    thorax: Thorax,
    rng: np.random.Generator,
    count: int,
    depth: float,
    apart: list[tuple[tuple[float, float, float], float]],
) -> list[tuple[float, float, float]]:
    """Draw places at least `depth` mm inside the lungs and in view, and away from the places in `apart`."""
    grid = thorax.grid
    inside = np.argwhere(thorax.lung_distance < -depth)
    ends = (grid.z[0] + depth, grid.z[-1] - depth)
    # Thousands of tries are more than any list of places can use up, unless there is no room at all.
    inside = inside[rng.permutation(len(inside))[:5000]]
    found: list[tuple[float, float, float]] = []
    for k, j, i in inside.tolist():
        place = (float(grid.x[i]), float(grid.y[j]), float(grid.z[k]))
        if len(found) == count:
            break
        far = all(np.linalg.norm(np.subtract(place, other)) > gap for other, gap in apart)
        if far and ends[0] <= place[2] <= ends[1]:
            found.append(place)
            apart = [*apart, (place, 16.0)]
    return found


def _noise(shape: tuple[int, ...], rng: np.random.Generator, level: float) -> NDArray[np.float32]:
    """Noise of standard deviation `level`, correlated between neighbours as reconstruction leaves it."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    for axis in (1, 2):
        noise = noise + np.float32(0.45) * (np.roll(noise, 1, axis) + np.roll(noise, -1, axis))
    return noise * np.float32(level / noise.std())
