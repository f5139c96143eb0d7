"""Activations and other functions of one element at a time."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

from numpy.typing import DTypeLike

from convcore import activations
from convcore.errors import ArgumentError
from convcore.ops.arrays import ArrayInput, Float, FloatOut, Out, Output, as_float, broadcast, finite, overlap
from convcore.ops.call import Call
from convcore.ops.replay import replayed

__all__ = [
    "celu",
    "elu",
    "exponential",
    "gelu",
    "hard_sigmoid",
    "hard_silu",
    "leaky_divide",
    "leaky_relu",
    "mish",
    "noisy_relu",
    "prelu",
    "relu",
    "rrelu",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "softsign",
    "tanh",
]

_MOST_AXES = 8


def fused(activation: str | None, where: str) -> activations.Native:
    """Return what an ``activation=`` argument means: a function of the output, with its defaults."""
    if activation is None:
        return activations.LINEAR
    if activation == "softmax":
        raise ArgumentError(
            where,
            "activation",
            got=activation,
            remedy="Softmax mixes elements: call convcore.softmax on the result.",
        )
    return activations.native(activation, {}, where)


def _rows(x: Float, y: Float, where: str) -> tuple[Float, Float]:
    """Return input and output as the library takes them: one long row if possible, else 1 to 8 axes."""
    if x.flags.c_contiguous and y.flags.c_contiguous:
        return x.reshape(-1), y.reshape(-1)
    _check_rank(x, where)
    return x, y


def _check_rank(x: Float, where: str) -> None:
    if x.ndim > _MOST_AXES:
        raise ArgumentError(
            where,
            "number of axes",
            got=x.ndim,
            expected=f"at most {_MOST_AXES} where arrays are not contiguous",
        )


def _elementwise(
    operation: str, x: ArrayInput, where: str, out: FloatOut, dtype: DTypeLike | None, **fields: Any
) -> Any:
    a = as_float(x, "x", where, dtype)
    result = Output(out, a.shape, where, (a,), in_place=True)
    if a.size:
        a, y = _rows(a, result.array, where)
        call = Call()
        call.step(operation, x=call.view(a), out=call.view(y), **fields)
        call.run()
    return result.finish()


def _activate(
    kind: str,
    x: ArrayInput,
    out: FloatOut,
    dtype: DTypeLike | None,
    parameters: Mapping[str, Any] | None = None,
) -> Any:
    native = activations.native(kind, parameters or {}, kind)
    return _elementwise("activation", x, kind, out, dtype, activation=native)


def _positive(value: Any, name: str, where: str) -> float:
    number = finite(value, name, where)
    if number <= 0:
        raise ArgumentError(where, name, got=value, expected="a number > 0")
    return number


def _seed(seed: Any, where: str) -> int:
    if seed is None:
        raise ArgumentError(where, "training=True needs a seed", expected="an integer from 0 to 2**64 - 1")
    try:
        number = operator.index(seed)
    except TypeError:
        raise ArgumentError(
            where, "seed", got=repr(seed), expected="an integer from 0 to 2**64 - 1"
        ) from None
    if not 0 <= number < 2**64:
        raise ArgumentError(where, "seed out of range", got=number, expected="0 to 2**64 - 1")
    return number


@replayed("x")
def relu(
    x: ArrayInput,
    *,
    negative_slope: float = 0.0,
    max_value: float | None = None,
    threshold: float = 0.0,
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """Rectified linear unit: max(x, 0), and Keras's general form.

    Definition: docs/operations/activations.md#relu

    Parameters
    ----------
    x
        Array of float32, any shape.
    negative_slope
        Values at and below the threshold become ``negative_slope * (x - threshold)``.
    max_value
        Values above it become it; None: no ceiling. Not negative.
    threshold
        Values above it are kept. Not negative.
    out
        Array of float32 of the shape of `x` to write to; it may be `x`.
    dtype
        ``"float32"``: convert other real types first. Without it they are refused.

    Returns
    -------
    ndarray
        float32, the shape of `x`; `out` if given. NaN stays NaN.

    Raises
    ------
    DTypeError
        `x` is no array of float32.
    ArgumentError
        A parameter outside its range, or `out` does not fit.

    Examples
    --------
    >>> relu(np.array([-1.0, 2.0, 9.0], np.float32), max_value=6)
    array([0., 2., 6.], dtype=float32)
    """
    if negative_slope == 0 and max_value is None and threshold == 0:
        return _activate("relu", x, out, dtype)
    ceiling = None if max_value is None else finite(max_value, "max_value", "relu")
    lowest = finite(threshold, "threshold", "relu")
    if lowest < 0 or (ceiling is not None and ceiling < 0):
        raise ArgumentError(
            "relu", got=f"max_value {max_value}, threshold {threshold}", expected="numbers >= 0"
        )
    parameters = {
        "negative_slope": finite(negative_slope, "negative_slope", "relu"),
        "max_value": ceiling,
        "threshold": lowest,
    }
    return _activate("relu", x, out, dtype, parameters)


@replayed("x")
def leaky_relu(
    x: ArrayInput,
    *,
    negative_slope: float = 0.2,
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """x where x >= 0, ``negative_slope * x`` below (Maas et al. 2013).

    Keras's function has the default 0.2, its layer 0.3. See :func:`relu` for `x`, `out`, `dtype`.

    Definition: docs/operations/activations.md#leaky_relu

    Examples
    --------
    >>> leaky_relu(np.array([-1.0, 2.0], np.float32), negative_slope=0.5)
    array([-0.5,  2. ], dtype=float32)
    """
    slope = finite(negative_slope, "negative_slope", "leaky_relu")
    return _activate("leaky_relu", x, out, dtype, {"negative_slope": slope})


@replayed("x")
def leaky_divide(
    x: ArrayInput,
    *,
    a: float = 5.5,
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """x where x >= 0, ``x / a`` below: the leaky ReLU as Xu et al. 2015 write it.

    `a` is in (1, inf); 5.5 is their "very leaky" one, 100 the usual. See :func:`relu` for `x`, `out`,
    `dtype`.

    Definition: docs/operations/activations.md#leaky_divide

    Examples
    --------
    >>> leaky_divide(np.array([-5.5, 1.0], np.float32))
    array([-1.,  1.], dtype=float32)
    """
    divisor = finite(a, "a", "leaky_divide")
    if divisor <= 1:
        raise ArgumentError("leaky_divide", "a", got=a, expected="a number > 1")
    return _activate("leaky_divide", x, out, dtype, {"a": divisor})


@replayed("x")
def rrelu(
    x: ArrayInput,
    *,
    lower: float = 3.0,
    upper: float = 8.0,
    training: bool = False,
    seed: int | None = None,
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """Randomised leaky ReLU (Xu et al. 2015): x where x >= 0, ``x / a`` below.

    Definition: docs/operations/activations.md#rrelu

    Parameters
    ----------
    x, out, dtype
        See :func:`relu`.
    lower, upper
        Range of a, ``0 < lower <= upper``.
    training
        False: a is the middle of the range. True: each element draws its own from U(lower, upper).
    seed
        Of the counter-based generator, 0 to 2**64 - 1: element number i (in C order) always draws
        number i, whatever the threads and the strides.

    Examples
    --------
    >>> rrelu(np.array([-5.5, 1.0], np.float32))
    array([-1.,  1.], dtype=float32)
    """
    low, high = _positive(lower, "lower", "rrelu"), _positive(upper, "upper", "rrelu")
    if low > high:
        raise ArgumentError("rrelu", got=f"lower {lower}, upper {upper}", expected="lower <= upper")
    if not training:
        return _activate("rrelu", x, out, dtype, {"lower": low, "upper": high})
    return _elementwise(
        "sample",
        x,
        "rrelu",
        out,
        dtype,
        sample="rrelu",
        seed=_seed(seed, "rrelu"),
        activation=("linear", (low, high)),
    )


@replayed("x")
def noisy_relu(
    x: ArrayInput,
    *,
    training: bool = False,
    seed: int | None = None,
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """Noisy ReLU (Nair and Hinton 2010): ``max(0, x + z)``, z normal with variance sigmoid(x).

    Without `training`, z is its mean, 0: the ReLU. See :func:`rrelu` for `seed` and :func:`relu` for
    the rest.

    Definition: docs/operations/activations.md#noisy_relu

    Examples
    --------
    >>> noisy_relu(np.array([-1.0, 2.0], np.float32))
    array([0., 2.], dtype=float32)
    """
    if not training:
        return _activate("noisy_relu", x, out, dtype)
    return _elementwise(
        "sample", x, "noisy_relu", out, dtype, sample="noisy_relu", seed=_seed(seed, "noisy_relu")
    )


@replayed("x")
def elu(
    x: ArrayInput,
    *,
    alpha: float = 1.0,
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """x where x > 0, ``alpha * (e**x - 1)`` below (Clevert et al. 2015). See :func:`relu` for the rest.

    Definition: docs/operations/activations.md#elu

    Examples
    --------
    >>> elu(np.array([-100.0, 2.0], np.float32))
    array([-1.,  2.], dtype=float32)
    """
    return _activate("elu", x, out, dtype, {"alpha": finite(alpha, "alpha", "elu")})


@replayed("x")
def celu(
    x: ArrayInput,
    *,
    alpha: float = 1.0,
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """x where x > 0, ``alpha * (e**(x / alpha) - 1)`` below, alpha > 0. See :func:`relu` for the rest.

    Definition: docs/operations/activations.md#celu

    Examples
    --------
    >>> celu(np.array([-100.0, 2.0], np.float32), alpha=2.0)
    array([-2.,  2.], dtype=float32)
    """
    return _activate("celu", x, out, dtype, {"alpha": _positive(alpha, "alpha", "celu")})


@replayed("x")
def selu(
    x: ArrayInput, *, out: Out | None = None, num_threads: int | None = None, dtype: DTypeLike | None = None
) -> Out:
    """``1.0507 * elu(x, 1.6733)``, self-normalising (Klambauer et al. 2017). See :func:`relu`.

    Definition: docs/operations/activations.md#selu

    Examples
    --------
    >>> selu(np.array([0.0, 1.0], np.float32))
    array([0.      , 1.050701], dtype=float32)
    """
    return _activate("selu", x, out, dtype)


@replayed("x")
def gelu(
    x: ArrayInput,
    *,
    approximate: bool = False,
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """``x * Phi(x)`` with the normal distribution function, or its tanh approximation. See :func:`relu`.

    Definition: docs/operations/activations.md#gelu

    Examples
    --------
    >>> gelu(np.array([0.0, 100.0], np.float32))
    array([  0., 100.], dtype=float32)
    """
    return _activate("gelu", x, out, dtype, {"approximate": bool(approximate)})


@replayed("x")
def silu(
    x: ArrayInput, *, out: Out | None = None, num_threads: int | None = None, dtype: DTypeLike | None = None
) -> Out:
    """``x * sigmoid(x)``, also called swish. See :func:`relu`.

    Definition: docs/operations/activations.md#silu-hard_silu

    Examples
    --------
    >>> silu(np.array([0.0, 100.0], np.float32))
    array([  0., 100.], dtype=float32)
    """
    return _activate("silu", x, out, dtype)


@replayed("x")
def softplus(
    x: ArrayInput, *, out: Out | None = None, num_threads: int | None = None, dtype: DTypeLike | None = None
) -> Out:
    """``log(1 + e**x)``. See :func:`relu`.

    Definition: docs/operations/activations.md#softplus-softsign

    Examples
    --------
    >>> softplus(np.array([-200.0, 100.0], np.float32))
    array([  0., 100.], dtype=float32)
    """
    return _activate("softplus", x, out, dtype)


@replayed("x")
def softsign(
    x: ArrayInput, *, out: Out | None = None, num_threads: int | None = None, dtype: DTypeLike | None = None
) -> Out:
    """``x / (1 + |x|)``. See :func:`relu`.

    Definition: docs/operations/activations.md#softplus-softsign

    Examples
    --------
    >>> softsign(np.array([-1.0, 3.0], np.float32))
    array([-0.5 ,  0.75], dtype=float32)
    """
    return _activate("softsign", x, out, dtype)


@replayed("x")
def sigmoid(
    x: ArrayInput, *, out: Out | None = None, num_threads: int | None = None, dtype: DTypeLike | None = None
) -> Out:
    """``1 / (1 + e**-x)``. See :func:`relu`.

    Definition: docs/operations/activations.md#sigmoid

    Examples
    --------
    >>> sigmoid(np.array([0.0, 100.0], np.float32))
    array([0.5, 1. ], dtype=float32)
    """
    return _activate("sigmoid", x, out, dtype)


@replayed("x")
def hard_sigmoid(
    x: ArrayInput,
    *,
    slope: float = 1 / 6,
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """``slope * x + 0.5`` cut to [0, 1]. Keras before 3.3 has slope 0.2. See :func:`relu`.

    Definition: docs/operations/activations.md#hard_sigmoid

    Examples
    --------
    >>> hard_sigmoid(np.array([-9.0, 0.0, 9.0], np.float32))
    array([0. , 0.5, 1. ], dtype=float32)
    """
    return _activate("hard_sigmoid", x, out, dtype, {"slope": finite(slope, "slope", "hard_sigmoid")})


@replayed("x")
def hard_silu(
    x: ArrayInput, *, out: Out | None = None, num_threads: int | None = None, dtype: DTypeLike | None = None
) -> Out:
    """``x * hard_sigmoid(x)``. See :func:`relu`.

    Definition: docs/operations/activations.md#silu-hard_silu

    Examples
    --------
    >>> hard_silu(np.array([-9.0, 0.0, 9.0], np.float32))
    array([-0.,  0.,  9.], dtype=float32)
    """
    return _activate("hard_silu", x, out, dtype)


@replayed("x")
def tanh(
    x: ArrayInput, *, out: Out | None = None, num_threads: int | None = None, dtype: DTypeLike | None = None
) -> Out:
    """Hyperbolic tangent. See :func:`relu`.

    Definition: docs/operations/activations.md#tanh

    Examples
    --------
    >>> tanh(np.array([0.0, 100.0], np.float32))
    array([0., 1.], dtype=float32)
    """
    return _activate("tanh", x, out, dtype)


@replayed("x")
def exponential(
    x: ArrayInput, *, out: Out | None = None, num_threads: int | None = None, dtype: DTypeLike | None = None
) -> Out:
    """``e**x``. See :func:`relu`.

    Definition: docs/operations/activations.md#exponential

    Examples
    --------
    >>> exponential(np.array([0.0, -np.inf], np.float32))
    array([1., 0.], dtype=float32)
    """
    return _activate("exponential", x, out, dtype)


@replayed("x")
def mish(
    x: ArrayInput, *, out: Out | None = None, num_threads: int | None = None, dtype: DTypeLike | None = None
) -> Out:
    """``x * tanh(softplus(x))``. See :func:`relu`.

    Definition: docs/operations/activations.md#mish

    Examples
    --------
    >>> mish(np.array([0.0, 100.0], np.float32))
    array([  0., 100.], dtype=float32)
    """
    return _activate("mish", x, out, dtype)


@replayed("x", "alpha")
def prelu(
    x: ArrayInput,
    alpha: ArrayInput,
    *,
    out: Out | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> Out:
    """x where x >= 0, ``alpha * x`` below, alpha learned (He et al. 2015).

    Definition: docs/operations/activations.md#prelu

    Parameters
    ----------
    x, out, dtype
        See :func:`relu`.
    alpha
        Array of float32 that broadcasts to the shape of `x`, such as one number per channel.

    Examples
    --------
    >>> prelu(np.array([-4.0, 4.0], np.float32), np.array([0.25], np.float32))
    array([-1.,  4.], dtype=float32)
    """
    where = "prelu"
    a, slopes = as_float(x, "x", where, dtype), as_float(alpha, "alpha", where, dtype)
    try:
        slopes = broadcast(slopes, a.shape)
    except ValueError:
        raise ArgumentError(
            where, "alpha does not broadcast to x", got=slopes.shape, expected=f"a shape that fits {a.shape}"
        ) from None
    result = Output(out, a.shape, where, (a,), in_place=True)
    if overlap(result.array, slopes):
        slopes = slopes.copy()
    if a.size:
        _check_rank(a, where)
        y = result.array
        if a.ndim == 0:
            a, slopes, y = a.reshape(1), slopes.reshape(1), y.reshape(1)
        call = Call()
        call.step("binary", binary="prelu", x=call.view(a), x2=call.view(slopes), out=call.view(y))
        call.run()
    return result.finish()
