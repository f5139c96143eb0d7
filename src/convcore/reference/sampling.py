"""The sampling forms of RReLU and noisy ReLU, on a counter-based generator.

Element number j of an array always draws number j of the stream, so any division of the work among
threads or GPU blocks gives the same result.

References
----------
Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3. SC 2011 (Philox).
Wichura: Algorithm AS 241: the percentage points of the normal distribution. Appl. Stat. 37 (1988).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convcore.reference.activations import ACTIVATIONS

Array = NDArray[np.float64]

_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10

# Coefficients of AS 241's PPND16, constant term first: the centre, the tails, the far tails.
_CENTRE = (
    (
        3.3871328727963666080e0,
        1.3314166789178437745e2,
        1.9715909503065514427e3,
        1.3731693765509461125e4,
        4.5921953931549871457e4,
        6.7265770927008700853e4,
        3.3430575583588128105e4,
        2.5090809287301226727e3,
    ),
    (
        1.0,
        4.2313330701600911252e1,
        6.8718700749205790830e2,
        5.3941960214247511077e3,
        2.1213794301586595867e4,
        3.9307895800092710610e4,
        2.8729085735721942674e4,
        5.2264952788528545610e3,
    ),
)
_TAIL = (
    (
        1.42343711074968357734e0,
        4.63033784615654529590e0,
        5.76949722146069140550e0,
        3.64784832476320460504e0,
        1.27045825245236838258e0,
        2.41780725177450611770e-1,
        2.27238449892691845833e-2,
        7.74545014278341407640e-4,
    ),
    (
        1.0,
        2.05319162663775882187e0,
        1.67638483018380384940e0,
        6.89767334985100004550e-1,
        1.48103976427480074590e-1,
        1.51986665636164571966e-2,
        5.47593808499534494600e-4,
        1.05075007164441684324e-9,
    ),
)
_FAR_TAIL = (
    (
        6.65790464350110377720e0,
        5.46378491116411436990e0,
        1.78482653991729133580e0,
        2.96560571828504891230e-1,
        2.65321895265761230930e-2,
        1.24266094738807843860e-3,
        2.71155556874348757815e-5,
        2.01033439929228813265e-7,
    ),
    (
        1.0,
        5.99832206555887937690e-1,
        1.36929880922735805310e-1,
        1.48753612908506148525e-2,
        7.86869131145613259100e-4,
        1.84631831751005468180e-5,
        1.42151175831644588870e-7,
        2.04426310338993978564e-15,
    ),
)


def _philox(counter: list[NDArray[np.uint64]], key: tuple[int, int]) -> list[NDArray[np.uint64]]:
    """Philox4x32-10: four 32-bit words of counter and two of key to four random words."""
    c = counter
    for step in range(_ROUNDS):
        k = [np.uint64((word + step * weyl) & 0xFFFFFFFF) for word, weyl in zip(key, _WEYL, strict=True)]
        first, second = _MULTIPLIERS[0] * c[0], _MULTIPLIERS[1] * c[2]
        c = [(second >> _SHIFT) ^ c[1] ^ k[0], second & _LOW, (first >> _SHIFT) ^ c[3] ^ k[1], first & _LOW]
    return c


def philox_uniform(seed: int, n: int, offset: int = 0) -> Array:
    """Return numbers `offset` to ``offset + n - 1`` of the uniform stream of `seed`, in (0, 1).

    Number j is lane ``j mod 4`` of Philox4x32-10 with the key (low, high 32 bits of `seed`) and the
    counter (low, high 32 bits of ``j // 4``, 0, 0). Its upper 23 bits r give
    ``(r + 0.5) / 2**23``: exact in float32, and never 0 or 1.

    Examples
    --------
    >>> bool((philox_uniform(7, 8)[4:] == philox_uniform(7, 4, offset=4)).all())
    True
    """
    index = np.uint64(offset) + np.arange(n, dtype=np.uint64)
    block = index // np.uint64(4)
    zero = np.zeros_like(block)
    words = _philox([block & _LOW, block >> _SHIFT, zero, zero], (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF))
    word = np.choose((index % np.uint64(4)).astype(np.intp), words)
    return ((word >> np.uint64(9)).astype(np.float64) + 0.5) * 2.0**-23


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], r: Array) -> Array:
    above, below = (np.polynomial.polynomial.polyval(r, np.array(c)) for c in coefficients)
    return np.asarray(above / below)


def _normal_quantile(p: Array) -> Array:
    """Return the inverse of the normal distribution function for p in (0, 1), to about 1e-16."""
    q = p - 0.5
    r = np.sqrt(-np.log(np.minimum(p, 1 - p)))
    tail = np.copysign(np.where(r <= 5, _ratio(_TAIL, r - 1.6), _ratio(_FAR_TAIL, r - 5)), q)
    return np.where(np.abs(q) <= 0.425, q * _ratio(_CENTRE, 0.180625 - q * q), tail)


def philox_normal(seed: int, n: int, offset: int = 0) -> Array:
    """Return standard normal numbers: the quantiles of :func:`philox_uniform`'s.

    Examples
    --------
    >>> philox_normal(7, 3).shape
    (3,)
    """
    return _normal_quantile(philox_uniform(seed, n, offset))


def rrelu_sample(x: ArrayLike, lower: float, upper: float, seed: int) -> Array:
    """Return RReLU's training form: ``x / a`` below 0 with a drawn from U(lower, upper) per element.

    Elements draw in C order, those that are not negative too.

    Examples
    --------
    >>> y = rrelu_sample([-1.0, 2.0], lower=3.0, upper=8.0, seed=7)
    >>> bool(-1 / 3 <= y[0] <= -1 / 8), float(y[1])
    (True, 2.0)
    """
    x = np.asarray(x, np.float64)
    a = lower + (upper - lower) * philox_uniform(seed, x.size).reshape(x.shape)
    return np.where(x >= 0, x, x / a)


def noisy_relu_sample(x: ArrayLike, seed: int) -> Array:
    """Return noisy ReLU's training form: ``max(0, x + z)`` with z drawn from N(0, sigmoid(x)).

    sigmoid(x) is the variance (Nair and Hinton 2010). Elements draw in C order.

    Examples
    --------
    >>> bool((noisy_relu_sample([-1.0, 0.0, 1.0], seed=7) >= 0).all())
    True
    """
    x = np.asarray(x, np.float64)
    z = philox_normal(seed, x.size).reshape(x.shape)
    return np.maximum(0.0, x + np.sqrt(ACTIVATIONS["sigmoid"](x)) * z)
