"""Dense layers, batch normalisation and softmax."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from convcore.errors import ArgumentError
from convcore.ops.arrays import (
    ArrayInput,
    Float,
    Out,
    Output,
    as_float,
    axis_of,
    backend,
    contiguous,
    empty,
    finite,
    vector,
)
from convcore.ops.call import Call
from convcore.ops.elementwise import fused
from convcore.ops.replay import replayed

__all__ = ["batch_norm", "dense", "softmax"]


def _as_rows(x: Float) -> Float:
    """Return `x` as rows of its last axis whose elements are neighbours: a view where possible."""
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.shape[1] == 1 or rows.strides[1] == rows.itemsize else contiguous(rows)


@replayed("x", "w", "bias")
def dense(
    x: ArrayInput,
    w: ArrayInput,
    bias: ArrayInput | None = None,
    *,
    activation: str | None = None,
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """``activation(x @ w + bias)`` over the last axis: x (..., ic), w (ic, oc), bias (oc,).

    `activation`, `out` and `dtype` are as for :func:`conv2d`.

    Definition: docs/operations/linear.md#dense

    Examples
    --------
    >>> x, w = np.array([[1.0, 2.0]], np.float32), np.array([[1.0], [10.0]], np.float32)
    >>> dense(x, w, np.array([0.5], np.float32))
    array([[21.5]], dtype=float32)
    """
    where = "dense"
    a, kernel = as_float(x, "x", where, dtype), as_float(w, "w", where, dtype)
    if a.ndim == 0 or kernel.ndim != 2 or 0 in kernel.shape or a.shape[-1] != kernel.shape[0]:
        raise ArgumentError(
            where,
            "shapes do not fit",
            got=f"x {a.shape}, w {kernel.shape}",
            expected="x (..., ic), w (ic, oc)",
        )
    b = None if bias is None else vector(bias, kernel.shape[1], "bias", where, dtype)
    native = fused(activation, where)
    result = Output(out, (*a.shape[:-1], kernel.shape[1]), where, (a,))
    if result.array.size:
        rows, y = _as_rows(a), result.array
        direct = y.flags.c_contiguous
        target = y.reshape(-1, y.shape[-1]) if direct else empty((len(rows), kernel.shape[1]), where)
        call = Call()
        call.step(
            "dense",
            weights=kernel,
            bias=b,
            x=call.view(rows, ld=(rows.strides[0] // rows.itemsize, 1)),
            out=call.view(target, ld=(kernel.shape[1], 1)),
            activation=native,
        )
        call.run()
        if not direct:
            y[...] = target.reshape(y.shape)
    return result.finish()


@replayed("x", "mean", "variance", "gamma", "beta")
def batch_norm(
    x: ArrayInput,
    mean: ArrayInput,
    variance: ArrayInput,
    gamma: ArrayInput | None = None,
    beta: ArrayInput | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-3,
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """Batch normalisation at inference: ``gamma * (x - mean) / sqrt(variance + epsilon) + beta``.

    It is computed as one multiplication and one addition, with the scale
    ``gamma / sqrt(variance + epsilon)`` and the offset ``beta - mean * scale`` taken in float64 and
    rounded once.

    Definition: docs/operations/normalisation.md#batch_norm

    Parameters
    ----------
    x
        float32, any shape.
    mean, variance, gamma, beta
        Vectors of the length of `axis`; no `gamma` means 1, no `beta` 0.
    axis
        The channels' axis: -1, or 1 for channels first.
    epsilon
        1e-3 is Keras's default, PyTorch has 1e-5.
    out, dtype
        As for :func:`relu`.

    Raises
    ------
    ArgumentError
        A vector of another length, or ``variance + epsilon`` not positive.

    Examples
    --------
    >>> one = np.ones(1, np.float32)
    >>> batch_norm(np.array([[3.0]], np.float32), one, 4 * one, epsilon=0)
    array([[1.]], dtype=float32)
    """
    where = "batch_norm"
    a = as_float(x, "x", where, dtype)
    axis = axis_of(axis, a, where)
    c = a.shape[axis]
    scale, offset = backend.get().batch_norm_affine(
        vector(mean, c, "mean", where, dtype),
        vector(variance, c, "variance", where, dtype),
        None if gamma is None else vector(gamma, c, "gamma", where, dtype),
        None if beta is None else vector(beta, c, "beta", where, dtype),
        finite(epsilon, "epsilon", where),
    )
    result = Output(out, a.shape, where, (a,), in_place=True)
    if a.size:
        # The library takes rows of channels; a transposed view has none, so it is copied both ways.
        source, target = np.moveaxis(a, axis, -1), np.moveaxis(result.array, axis, -1)
        rows = source.reshape(-1, c)
        direct = target.flags.c_contiguous
        y = target.reshape(-1, c) if direct else empty(rows.shape, where)
        call = Call()
        call.step(
            "affine",
            weights=scale,
            bias=offset,
            x=call.view(rows),
            out=call.view(y),
        )
        call.run()
        if not direct:
            target[...] = y.reshape(target.shape)
    return result.finish()


@replayed("x")
def softmax(
    x: ArrayInput,
    axis: int = -1,
    *,
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """``exp(x) / sum(exp(x))`` along `axis`.

    A row that holds a NaN or +inf, or nothing but -inf, is NaN. See :func:`relu` for `x`, `out` and
    `dtype`.

    Definition: docs/operations/activations.md#softmax

    Examples
    --------
    >>> softmax(np.array([[0.0, 0.0]], np.float32))
    array([[0.5, 0.5]], dtype=float32)
    """
    where = "softmax"
    a = as_float(x, "x", where, dtype)
    axis = axis_of(axis, a, where)
    if a.shape[axis] == 0:
        raise ArgumentError(where, "the axis is empty", got=a.shape)
    result = Output(out, a.shape, where, (a,), in_place=True)
    if a.size:
        # The library takes rows; any other axis is brought to the end, in a copy where that must be.
        source = np.moveaxis(a, axis, -1)
        target = np.moveaxis(result.array, axis, -1)
        rows = source.reshape(-1, source.shape[-1])
        direct = target.flags.c_contiguous
        y = target.reshape(rows.shape) if direct else empty(rows.shape, where)
        call = Call()
        call.step("softmax", x=call.view(rows), out=call.view(y))
        call.run()
        if not direct:
            target[...] = y.reshape(target.shape)
    return result.finish()
