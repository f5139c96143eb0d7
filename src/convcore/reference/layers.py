"""Dense, batch normalisation, scale and offset, softmax, PReLU."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convcore.errors import ArgumentError

Array = NDArray[np.float64]


def dense(x: ArrayLike, kernel: ArrayLike, bias: ArrayLike | None = None) -> Array:
    """Return ``x @ kernel + bias`` over the last axis: x (..., in), kernel (in, out), bias (out,).

    Examples
    --------
    >>> dense([[1.0, 2.0]], [[1.0], [10.0]], [0.5])
    array([[21.5]])
    """
    y = np.asarray(x, np.float64) @ np.asarray(kernel, np.float64)
    return y if bias is None else y + np.asarray(bias, np.float64)


def batch_norm(
    x: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-3,
) -> Array:
    """Return ``gamma (x - mean) / sqrt(variance + epsilon) + beta``, the inference form.

    The four vectors have the length of `axis`, which counts with the batch axis. Missing `gamma` is
    1, missing `beta` is 0.

    Examples
    --------
    >>> batch_norm([[3.0]], mean=[1.0], variance=[4.0], epsilon=0.0)
    array([[1.]])
    """
    x = np.asarray(x, np.float64)
    along = [1] * x.ndim
    along[axis] = x.shape[axis]

    def vector(values: ArrayLike, name: str) -> Array:
        v = np.asarray(values, np.float64)
        if v.shape != (x.shape[axis],):
            raise ArgumentError(
                "reference.batch_norm",
                f"{name} does not fit axis {axis}",
                got=v.shape,
                expected=(x.shape[axis],),
            )
        return v.reshape(along)

    y = (x - vector(mean, "mean")) / np.sqrt(vector(variance, "variance") + epsilon)
    if gamma is not None:
        y = y * vector(gamma, "gamma")
    return y if beta is None else y + vector(beta, "beta")


def affine(x: ArrayLike, scale: ArrayLike, offset: ArrayLike) -> Array:
    """Return ``x * scale + offset``; both broadcast from the last axis.

    Examples
    --------
    >>> affine([-1000.0, 400.0], 1 / 1400, 1000 / 1400)
    array([0., 1.])
    """
    return np.asarray(
        np.asarray(x, np.float64) * np.asarray(scale, np.float64) + np.asarray(offset, np.float64)
    )


def softmax(x: ArrayLike, axis: int = -1) -> Array:
    """Return ``exp(x) / sum(exp(x))`` along `axis`.

    The maximum is subtracted first, so no finite input overflows. A row that holds a NaN or +inf, or
    nothing but -inf, is NaN.

    Examples
    --------
    >>> softmax([0.0, 0.0])
    array([0.5, 0.5])
    """
    x = np.asarray(x, np.float64)
    with np.errstate(invalid="ignore"):
        e = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(e / e.sum(axis=axis, keepdims=True))


def prelu(x: ArrayLike, alpha: ArrayLike) -> Array:
    """Return x where x >= 0 and ``alpha * x`` below; `alpha` broadcasts against `x`.

    alpha 0 gives NaN at -inf, as in Keras and as 0 times infinity does.

    Examples
    --------
    >>> prelu([-4.0, 4.0], 0.25)
    array([-1.,  4.])
    """
    x = np.asarray(x, np.float64)
    with np.errstate(invalid="ignore"):
        return np.where(x >= 0, x, np.asarray(alpha, np.float64) * x)
