"""Kernels with their weights packed once: ``k = prepare_conv2d(w, ...)``, then ``k(x, out=y)``."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from convcore import _native
from convcore.errors import ArgumentError
from convcore.ops.arrays import ArrayInput, Axes, Float, as_float, backend
from convcore.ops.convolution import conv
from convcore.ops.depthwise import depthwise as depthwise_conv
from convcore.ops.depthwise import separable
from convcore.ops.layers import batch_norm, dense
from convcore.ops.replay import PackedWeights, Program, recording
from convcore.ops.transposed import transpose
from convcore.shapes import MOST_ELEMENTS, Padding
from convcore.threads import settings, threads_argument

__all__ = [
    "PreparedKernel",
    "prepare_batch_norm",
    "prepare_conv1d",
    "prepare_conv1d_transpose",
    "prepare_conv2d",
    "prepare_conv2d_transpose",
    "prepare_conv3d",
    "prepare_conv3d_transpose",
    "prepare_dense",
    "prepare_depthwise_conv1d",
    "prepare_depthwise_conv2d",
    "prepare_separable_conv1d",
    "prepare_separable_conv2d",
]

_ACCURACIES = ("direct", "standard", "fast")


class _Operation:
    """A function on arrays with everything but ``x`` and ``out`` fixed."""

    __slots__ = ("_arrays", "_dtype", "_function", "_options", "packed", "where")

    def __init__(
        self,
        where: str,
        function: Callable[..., Float],
        arrays: tuple[Float | None, ...],
        options: Mapping[str, Any],
        dtype: DTypeLike | None,
    ) -> None:
        self.where = where
        self.packed = PackedWeights()
        self._function = function
        self._arrays = arrays
        self._options = options
        self._dtype = dtype

    def __call__(
        self, x: ArrayInput, out: Any, num_threads: int | None
    ) -> tuple[NDArray[Any], Program | None]:
        threads = threads_argument(num_threads, self.where)
        with settings(threads=threads), recording(self.packed) as made:
            result = self._function(x, *self._arrays, **self._options, out=out, dtype=self._dtype)
        return result, made.program()

    def adapt(self, x: ArrayInput, out: Any) -> tuple[Float, NDArray[Any] | None]:
        """Return `x` and `out` as NumPy arrays that share their memory; of another type, `x` converted."""
        target = None if out is None else backend.get().target(out, self.where)
        return as_float(x, "x", self.where, self._dtype), target


class PreparedKernel(_native.Prepared):
    """An operation whose weights are packed: made by ``prepare_conv2d`` and its like.

    ``k(x)`` returns a new array, ``k(x, out=y)`` writes to `y` and returns it; ``num_threads=`` is for this
    call. `x` may have any shape that the weights fit. The first call with a shape (and strides) chooses the
    algorithm and packs; later ones take about as long as NumPy's own functions. The last few shapes are kept,
    and their working memory with them.

    The numbers are those of the function of the same name, bit for bit, unless ``accuracy`` allows others.
    A kernel may be called from many threads at once, and can be pickled and copied.
    """

    def __init__(
        self,
        maker: Callable[..., PreparedKernel],
        arguments: dict[str, Any],
        operation: _Operation,
        num_threads: int | None,
    ) -> None:
        threads = threads_argument(num_threads, operation.where)
        super().__init__(
            array_type=np.ndarray, checked=operation, adapt=operation.adapt, threads=threads or 0
        )
        self._maker = maker
        self._arguments = arguments
        self._operation = operation
        self._num_threads = threads

    @property
    def operation(self) -> str:
        """Name of the function that it computes."""
        return self._operation.where

    @property
    def num_threads(self) -> int | None:
        """Threads of a call that does not say otherwise; None: the context's."""
        return self._num_threads

    @property
    def algorithms(self) -> dict[tuple[int, ...], str]:
        """The algorithm, or one for each step, chosen for each shape of input that is kept."""
        return {shape: " + ".join(s.algorithm for s in program.steps) for shape, program in self.programs()}

    @property
    def algorithm(self) -> str | None:
        """The algorithm, or one for each step, of the latest new shape; None before the first call."""
        return next(reversed(self.algorithms.values()), None)

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights."""
        return self._operation.packed.nbytes

    def __repr__(self) -> str:
        def shown(value: Any) -> str:
            return f"array of shape {value.shape}" if isinstance(value, np.ndarray) else repr(value)

        defaults = self._maker.__kwdefaults__ or {}
        given = {
            n: v for n, v in self._arguments.items() if isinstance(v, np.ndarray) or v != defaults.get(n)
        }
        arguments = ", ".join(f"{n}={shown(v)}" for n, v in given.items())
        return f"<{self._maker.__name__}({arguments}): {self.algorithm or 'not called yet'}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self._maker, self._arguments, self._num_threads)


def _again(
    maker: Callable[..., PreparedKernel], arguments: dict[str, Any], num_threads: int | None
) -> PreparedKernel:
    return maker(**arguments, num_threads=num_threads)


def _owned(a: ArrayInput | None, name: str, where: str, dtype: DTypeLike | None) -> Float | None:
    """Return a copy of the caller's weights, which may change afterwards."""
    if a is None:
        return None
    copy = np.array(as_float(a, name, where, dtype), order="C")
    copy.flags.writeable = False
    return copy


def _prepare(
    maker: Callable[..., PreparedKernel],
    function: Callable[..., Float],
    arguments: Mapping[str, Any],
    trial: Callable[[tuple[Any, ...]], tuple[int, ...]],
) -> PreparedKernel:
    """Return a kernel made of `maker`'s own `arguments`; before ``*`` stand arrays, behind it options.

    `trial` says, from the arrays, the shape of an input without images to try it on.
    """
    where = maker.__name__.removeprefix("prepare_")
    named = dict(arguments)
    num_threads, dtype = named.pop("num_threads"), named.pop("dtype")
    arrays = list(named)[: maker.__code__.co_argcount]
    owned = {name: _owned(named.pop(name), name, where, dtype) for name in arrays}
    fixed = {n: tuple(v) if isinstance(v, list) else v for n, v in named.items()}
    if fixed.get("accuracy", "direct") not in _ACCURACIES:
        raise ArgumentError(where, "accuracy", got=repr(fixed["accuracy"]), expected=", ".join(_ACCURACIES))
    operation = _Operation(where, function, tuple(owned.values()), fixed, dtype)
    shape = trial(tuple(owned.values()))
    if math.prod(max(n, 1) for n in shape) <= MOST_ELEMENTS >> 8:
        operation(np.empty(shape, np.float32), None, num_threads)  # every check, and no work
    return PreparedKernel(maker, {**owned, **fixed, "dtype": dtype}, operation, num_threads)


def _prepare_map(
    maker: Callable[..., PreparedKernel],
    function: Callable[..., Float],
    rank: int,
    arguments: Mapping[str, Any],
    *,
    channels: int = -2,
) -> PreparedKernel:
    """Return a kernel for maps of `rank` spatial axes; axis `channels` of w says how many channels."""
    trial = partial(_trial_map, rank=rank, channels=channels, options=arguments)
    return _prepare(maker, partial(function, rank), arguments, trial)


def _largest(value: Any) -> int:
    """The largest integer in an option: one, or one per axis, or pairs; 1 if there is none."""
    if isinstance(value, int):
        return value
    return max((_largest(e) for e in value), default=1) if isinstance(value, (list, tuple)) else 1


def _trial_map(
    arrays: tuple[Any, ...], rank: int, channels: int, options: Mapping[str, Any]
) -> tuple[int, ...]:
    """An input large enough for any padding: no images."""
    w = arrays[0]
    if w.ndim != rank + 2 or 0 in w.shape:
        return (0, *(1,) * rank, 1)  # and so the operation says what is wrong with w
    groups = options.get("groups", 1)
    c = w.shape[channels] * (groups if isinstance(groups, int) and groups > 0 else 1)
    dilation, padding = _largest(options["dilation_rate"]), _largest(options["padding"])
    size = (max(w.shape[:rank]) - 1) * max(dilation, 1) + 1 + 2 * max(padding, 0)
    if options["data_format"] == "channels_first":
        return (0, c, *(size,) * rank)
    return (0, *(size,) * rank, c)


def _trial_rows(arrays: tuple[Any, ...]) -> tuple[int, int]:
    """No rows of as many columns as w has rows."""
    return (0, arrays[0].shape[0] if arrays[0].ndim == 2 else 1)


def _trial_norm(arrays: tuple[Any, ...], axis: Any) -> tuple[int, ...]:
    """No samples of a rank that has the axis."""
    if not isinstance(axis, int) or isinstance(axis, bool):
        return (0, 1)
    channels = arrays[0].size
    rank = max(axis + 1, -axis, 2)
    shape = [0] * rank
    shape[axis] = channels
    return tuple(shape)


def prepare_conv1d(
    w: ArrayInput,
    bias: ArrayInput | None = None,
    *,
    strides: Axes = 1,
    padding: Padding = "valid",
    dilation_rate: Axes = 1,
    groups: int = 1,
    data_format: str = "channels_last",
    flip: bool = False,
    activation: str | None = None,
    accuracy: str = "direct",
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> PreparedKernel:
    """Pack the weights of :func:`conv1d` once. See :func:`prepare_conv2d`.

    Definition: docs/operations/convolution.md#conv1d-conv2d-conv3d

    Examples
    --------
    >>> k = prepare_conv1d(np.ones((3, 1, 1), np.float32), padding="full")
    >>> k(np.ones((1, 2, 1), np.float32)).ravel()
    array([1., 2., 2., 1.], dtype=float32)
    """
    return _prepare_map(prepare_conv1d, conv, 1, locals())


def prepare_conv2d(
    w: ArrayInput,
    bias: ArrayInput | None = None,
    *,
    strides: Axes = 1,
    padding: Padding = "valid",
    dilation_rate: Axes = 1,
    groups: int = 1,
    data_format: str = "channels_last",
    flip: bool = False,
    activation: str | None = None,
    accuracy: str = "direct",
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> PreparedKernel:
    """Pack the weights of :func:`conv2d` once.

    Definition: docs/operations/convolution.md#conv1d-conv2d-conv3d

    Parameters
    ----------
    w, bias
        As for :func:`conv2d`; copied, so they may change afterwards.
    strides, padding, dilation_rate, groups, data_format, flip, activation
        As for :func:`conv2d`.
    accuracy
        "direct": the bits of :func:`conv2d`. "standard", "fast": Winograd's algorithm where it is faster, as
        in :func:`load_model`, with up to 6 and 19 times the error.
    num_threads
        Threads of a call that does not say otherwise; None: the context's.
    dtype
        ``"float32"``: convert weights, and later inputs, of other real types.

    Returns
    -------
    PreparedKernel
        Called as ``k(x)`` or ``k(x, out=y)``.

    Raises
    ------
    ArgumentError, DTypeError
        The weights or an option are not as :func:`conv2d` wants them.

    Examples
    --------
    >>> k = prepare_conv2d(np.ones((3, 3, 1, 1), np.float32), padding="same")
    >>> x, y = np.ones((1, 4, 4, 1), np.float32), np.empty((1, 4, 4, 1), np.float32)
    >>> k(x, out=y) is y
    True
    >>> y[0, 0]
    array([[4.],
           [6.],
           [6.],
           [4.]], dtype=float32)
    >>> k.algorithm
    'direct'
    """
    return _prepare_map(prepare_conv2d, conv, 2, locals())


def prepare_conv3d(
    w: ArrayInput,
    bias: ArrayInput | None = None,
    *,
    strides: Axes = 1,
    padding: Padding = "valid",
    dilation_rate: Axes = 1,
    groups: int = 1,
    data_format: str = "channels_last",
    flip: bool = False,
    activation: str | None = None,
    accuracy: str = "direct",
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> PreparedKernel:
    """Pack the weights of :func:`conv3d` once. See :func:`prepare_conv2d`.

    Definition: docs/operations/convolution.md#conv1d-conv2d-conv3d

    Examples
    --------
    >>> k = prepare_conv3d(np.ones((3, 3, 3, 2, 1), np.float32), padding="same")
    >>> k(np.ones((1, 4, 4, 4, 2), np.float32))[0, 1, 1, 1, 0]
    np.float32(54.0)
    """
    return _prepare_map(prepare_conv3d, conv, 3, locals())


def prepare_depthwise_conv1d(
    w: ArrayInput,
    bias: ArrayInput | None = None,
    *,
    strides: Axes = 1,
    padding: Padding = "valid",
    dilation_rate: Axes = 1,
    data_format: str = "channels_last",
    flip: bool = False,
    activation: str | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> PreparedKernel:
    """Pack the weights of :func:`depthwise_conv1d` once. See :func:`prepare_conv2d`.

    Definition: docs/operations/convolution.md#depthwise_conv1d-depthwise_conv2d

    Examples
    --------
    >>> prepare_depthwise_conv1d(np.ones((3, 2, 1), np.float32))(np.ones((1, 4, 2), np.float32)).shape
    (1, 2, 2)
    """
    return _prepare_map(prepare_depthwise_conv1d, depthwise_conv, 1, locals())


def prepare_depthwise_conv2d(
    w: ArrayInput,
    bias: ArrayInput | None = None,
    *,
    strides: Axes = 1,
    padding: Padding = "valid",
    dilation_rate: Axes = 1,
    data_format: str = "channels_last",
    flip: bool = False,
    activation: str | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> PreparedKernel:
    """Pack the weights of :func:`depthwise_conv2d` once. See :func:`prepare_conv2d`.

    Definition: docs/operations/convolution.md#depthwise_conv1d-depthwise_conv2d

    Examples
    --------
    >>> k = prepare_depthwise_conv2d(np.ones((3, 3, 2, 2), np.float32))
    >>> k(np.ones((1, 3, 3, 2), np.float32)).ravel()
    array([9., 9., 9., 9.], dtype=float32)
    """
    return _prepare_map(prepare_depthwise_conv2d, depthwise_conv, 2, locals())


def prepare_separable_conv1d(
    depthwise: ArrayInput,
    pointwise: ArrayInput,
    bias: ArrayInput | None = None,
    *,
    strides: Axes = 1,
    padding: Padding = "valid",
    dilation_rate: Axes = 1,
    data_format: str = "channels_last",
    flip: bool = False,
    activation: str | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> PreparedKernel:
    """Pack the weights of :func:`separable_conv1d` once. See :func:`prepare_conv2d`.

    Definition: docs/operations/convolution.md#separable_conv1d-separable_conv2d

    Examples
    --------
    >>> dw, pw = np.ones((3, 2, 1), np.float32), np.ones((1, 2, 1), np.float32)
    >>> prepare_separable_conv1d(dw, pw)(np.ones((1, 3, 2), np.float32)).ravel()
    array([6.], dtype=float32)
    """
    return _prepare_map(prepare_separable_conv1d, separable, 1, locals())


def prepare_separable_conv2d(
    depthwise: ArrayInput,
    pointwise: ArrayInput,
    bias: ArrayInput | None = None,
    *,
    strides: Axes = 1,
    padding: Padding = "valid",
    dilation_rate: Axes = 1,
    data_format: str = "channels_last",
    flip: bool = False,
    activation: str | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> PreparedKernel:
    """Pack the weights of :func:`separable_conv2d` once. See :func:`prepare_conv2d`.

    Definition: docs/operations/convolution.md#separable_conv1d-separable_conv2d

    Examples
    --------
    >>> dw, pw = np.ones((3, 3, 2, 1), np.float32), np.ones((1, 1, 2, 1), np.float32)
    >>> prepare_separable_conv2d(dw, pw)(np.ones((1, 3, 3, 2), np.float32)).ravel()
    array([18.], dtype=float32)
    """
    return _prepare_map(prepare_separable_conv2d, separable, 2, locals())


def prepare_conv1d_transpose(
    w: ArrayInput,
    bias: ArrayInput | None = None,
    *,
    strides: Axes = 1,
    padding: Padding = "valid",
    output_padding: Axes | None = None,
    dilation_rate: Axes = 1,
    data_format: str = "channels_last",
    flip: bool = False,
    activation: str | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> PreparedKernel:
    """Pack the weights of :func:`conv1d_transpose` once. See :func:`prepare_conv2d`.

    Definition: docs/operations/convolution.md#conv1d_transpose-conv2d_transpose-conv3d_transpose

    Examples
    --------
    >>> k = prepare_conv1d_transpose(np.ones((2, 3, 2), np.float32), strides=2)
    >>> k(np.ones((1, 2, 2), np.float32)).shape
    (1, 4, 3)
    """
    return _prepare_map(prepare_conv1d_transpose, transpose, 1, locals(), channels=-1)


def prepare_conv2d_transpose(
    w: ArrayInput,
    bias: ArrayInput | None = None,
    *,
    strides: Axes = 1,
    padding: Padding = "valid",
    output_padding: Axes | None = None,
    dilation_rate: Axes = 1,
    data_format: str = "channels_last",
    flip: bool = False,
    activation: str | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> PreparedKernel:
    """Pack the weights of :func:`conv2d_transpose` once. See :func:`prepare_conv2d`.

    Definition: docs/operations/convolution.md#conv1d_transpose-conv2d_transpose-conv3d_transpose

    Examples
    --------
    >>> k = prepare_conv2d_transpose(np.ones((2, 2, 3, 2), np.float32), strides=2)
    >>> k(np.ones((1, 2, 2, 2), np.float32)).shape
    (1, 4, 4, 3)
    """
    return _prepare_map(prepare_conv2d_transpose, transpose, 2, locals(), channels=-1)


def prepare_conv3d_transpose(
    w: ArrayInput,
    bias: ArrayInput | None = None,
    *,
    strides: Axes = 1,
    padding: Padding = "valid",
    output_padding: Axes | None = None,
    dilation_rate: Axes = 1,
    data_format: str = "channels_last",
    flip: bool = False,
    activation: str | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> PreparedKernel:
    """Pack the weights of :func:`conv3d_transpose` once. See :func:`prepare_conv2d`.

    Definition: docs/operations/convolution.md#conv1d_transpose-conv2d_transpose-conv3d_transpose

    Examples
    --------
    >>> k = prepare_conv3d_transpose(np.ones((2, 2, 2, 3, 2), np.float32), strides=2)
    >>> k(np.ones((1, 2, 2, 2, 2), np.float32)).shape
    (1, 4, 4, 4, 3)
    """
    return _prepare_map(prepare_conv3d_transpose, transpose, 3, locals(), channels=-1)


def prepare_dense(
    w: ArrayInput,
    bias: ArrayInput | None = None,
    *,
    activation: str | None = None,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> PreparedKernel:
    """Pack the weights of :func:`dense` once. See :func:`prepare_conv2d`.

    Definition: docs/operations/linear.md#dense

    Examples
    --------
    >>> k = prepare_dense(np.array([[1.0], [10.0]], np.float32), np.array([0.5], np.float32))
    >>> k(np.array([[1.0, 2.0]], np.float32))
    array([[21.5]], dtype=float32)
    """
    return _prepare(prepare_dense, inspect.unwrap(dense), locals(), _trial_rows)


def prepare_batch_norm(
    mean: ArrayInput,
    variance: ArrayInput,
    gamma: ArrayInput | None = None,
    beta: ArrayInput | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-3,
    num_threads: int | None = None,
    dtype: DTypeLike | None = None,
) -> PreparedKernel:
    """Compute scale and offset of :func:`batch_norm` once. See :func:`prepare_conv2d`.

    Definition: docs/operations/normalisation.md#batch_norm

    Examples
    --------
    >>> one = np.ones(1, np.float32)
    >>> prepare_batch_norm(one, 4 * one, epsilon=0)(np.array([[3.0]], np.float32))
    array([[1.]], dtype=float32)
    """
    return _prepare(prepare_batch_norm, inspect.unwrap(batch_norm), locals(), partial(_trial_norm, axis=axis))
