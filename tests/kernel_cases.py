"""One list of calls that reach every kernel of the manifest, each with its exact answer and error bound.

Correctness on every instruction set, forbidden pages, awkward strides, thread counts and batches are
all tested on this list, so that a kernel that is in it is tested in every way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import convcore as cc
from convcore import _native, reference, shapes
from convcore.ops import call as call_module
from convcore.run.bounds import winograd_bound

from .blocked import BlockedMap, run_convolution
from .tolerance import dot_bound, relative_bound

Array = NDArray[Any]

#: Around every vector length and block, and one, and primes.
SIZES = (1, 2, 3, 15, 16, 17, 31, 33, 97)


@dataclass(frozen=True)
class Case:
    """``call(*arrays)`` must be within `bound` of `expected`.

    `kernel` is the manifest's name. `batched`: the first array has a batch axis, and an image's result
    depends on that image alone.
    """

    name: str
    kernel: str
    call: Callable[..., Array]
    arrays: tuple[Array, ...]
    expected: Array
    bound: Any = 0.0
    batched: bool = True
    dtype: Any = field(default=np.float32)


def _spread(expected: Array, ulps: float = 2.0) -> Array:
    """`ulps` units in the last place of `expected`."""
    spacing: Array = np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64)
    return ulps * spacing


def _floats(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(np.float32)


def _conv_cases(rng: np.random.Generator, c: int, n: int, s: int) -> Iterator[Case]:
    oc = c % 37 + 2
    bias = _floats(rng, oc)
    plans: list[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
        ("conv2d same", (s, s + 1), (3, 3), {"padding": "same"}),
        ("conv2d valid", (s, s + 1), (2, 3), {}),
        ("conv2d 1x1", (s, s), (1, 1), {}),
        ("conv2d 1x1 strided", (s, s), (1, 1), {"strides": 2}),
        ("conv2d strided", (s, s + 2), (3, 2), {"padding": "same", "strides": (2, 3)}),
        ("conv2d dilated, flipped", (s, s), (3, 3), {"padding": "full", "dilation_rate": 2, "flip": True}),
        ("conv2d pairs", (s, s), (3, 3), {"padding": ((0, 3), (2, 1))}),
        ("conv1d causal", (4 * s + 3,), (3,), {"padding": "causal"}),
        ("conv3d same", (3, s, s), (2, 3, 3), {"padding": "same", "strides": (1, 1, 2)}),
    ]
    for name, sizes, kernel, options in plans:
        rank = len(sizes)
        x, w = _floats(rng, n, *sizes, c), _floats(rng, *kernel, c, oc)
        strides = shapes.spatial_tuple(options.get("strides", 1), rank, "strides", name)
        dilation = shapes.spatial_tuple(options.get("dilation_rate", 1), rank, "dilation", name)
        pairs = shapes.conv_padding(options.get("padding", "valid"), sizes, kernel, strides, dilation, name)
        exact = partial(
            reference.conv,
            strides=strides,
            dilation=dilation,
            padding=pairs,
            flip=options.get("flip", False),
        )
        bound = dot_bound(int(np.prod(kernel)) * c + 1, exact(abs(x), abs(w), abs(bias)))
        function = getattr(cc, f"conv{rank}d")
        yield Case(
            name, "conv_direct_f32", partial(function, **options), (x, w, bias), exact(x, w, bias), bound
        )
    x, w = _floats(rng, n, s, s, 2 * c), _floats(rng, 3, 3, c, 6)
    exact = partial(reference.conv, strides=(1, 1), dilation=(1, 1), padding=((0, 0),) * 2, groups=2)
    yield Case(
        "conv2d groups",
        "conv_direct_f32",
        partial(cc.conv2d, groups=2),
        (x, w),
        exact(x, w),
        dot_bound(9 * c, exact(abs(x), abs(w))),
    )
    x, w = _floats(rng, n, c), _floats(rng, c, oc)
    yield Case(
        "dense",
        "dense_f32",
        cc.dense,
        (x, w, bias),
        reference.dense(x, w, bias),
        dot_bound(c + 1, reference.dense(abs(x), abs(w), abs(bias))),
    )


def _planned(
    x: Array, w: Array, bias: Array, *, algorithm: str, out: Array | None = None, **fields: Any
) -> Array:
    """A convolution as a plan makes it; the functions on arrays never lay out maps or weights this way."""
    y, chosen = run_convolution(x, w, bias, isa=call_module.current_isa(), out=out, **fields)
    assert chosen == algorithm, chosen
    return y


def _planned_cases(rng: np.random.Generator, c: int, n: int, s: int) -> Iterator[Case]:
    """Blocked maps on either side, every algorithm, pooling behind it."""
    few, ic, oc = c, 16 + c % 31, 16 + c % 37
    many, flat = 112 + 16 * (c % 2), (1, 3, 3)
    # name, algorithm, accuracy, (d, h, w, ic, oc), kernel, more
    plans: list[tuple[str, str, str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
        ("few tiles", "Winograd 4x4", "standard", (1, 8 + s, 13, many, many + 20), flat, {}),
        ("many tiles", "Winograd 4x4", "standard", (1, 34 + s, 31, ic, oc), flat, {}),
        ("many tiles", "Winograd 4x4", "standard", (1, 34 + s, 31, ic, oc), flat, {"pool": 2, "flip": True}),
        ("few tiles", "Winograd 4x4", "standard", (1, 16, 13, many, many), flat, {"pool": 2}),
        ("small", "Winograd 2x2", "standard", (1, 9, 8, ic, oc), flat, {"pool": 2}),
        ("small, many weights", "Winograd 2x2", "standard", (1, 7, 8, 2 * many, 160), flat, {"flip": True}),
        ("large tiles", "Winograd 6x6", "fast", (1, 18 + s, 35, ic, oc), flat, {"pool": 2}),
        ("large tiles", "Winograd 6x6", "fast", (1, 23, 17 + s, many, many), flat, {"flip": True}),
        ("volume", "Winograd 4x4", "standard", (7, 12, 11, ic, oc), (3, 3, 3), {"flip": True}),
        ("volume", "Winograd 4x4", "standard", (2, 12, 15, ic, oc), (2, 3, 3), {}),
        ("direct", "direct", "direct", (1, 6 + s, 9, few, oc), flat, {}),
        ("direct, long rows", "direct", "direct", (1, 3, 90, few, oc), (1, 1, 1), {}),
        ("direct, volume", "direct", "direct", (3, 5, 4, few, oc), (2, 3, 1), {"flip": True}),
        ("direct, strided", "direct", "direct", (1, 6 + s, 9, few, oc), flat, {"stride": (1, 2, 2)}),
        ("direct, dilated", "direct", "direct", (1, 9, 9, few, oc), flat, {"dilation": (1, 2, 3)}),
    ]
    for name, algorithm, accuracy, (*sizes, cin, cout), kernel, more in plans:
        more = dict(more)
        stride, dilation = more.setdefault("stride", (1, 1, 1)), more.setdefault("dilation", (1, 1, 1))
        pool, flip = more.get("pool", 1), more.get("flip", False)
        low = [k // 2 for k in kernel]
        reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
        full = [(z + 2 * a - r) // t + 1 for z, a, r, t in zip(sizes, low, reach, stride, strict=True)]
        output = (full[0], full[1] // pool, full[2] // pool)
        x, w, bias = _floats(rng, n, *sizes, cin), _floats(rng, *kernel, cin, cout), _floats(rng, cout)
        turned = w[::-1, ::-1, ::-1] if flip else w
        pairs = [(a, a) for a in low]
        exact = reference.conv(x, turned, bias, strides=stride, dilation=dilation, groups=1, padding=pairs)
        if algorithm == "direct":
            magnitude = reference.conv(
                abs(x), abs(turned), abs(bias), strides=stride, dilation=dilation, groups=1, padding=pairs
            )
            bound = dot_bound(w[..., 0].size + 1, magnitude)
        else:
            doubles = (a.astype(np.float64) for a in (x, turned, bias))
            bound = winograd_bound(*doubles, pairs, full, int(algorithm[-1]))
        if pool == 2:  # the largest is off by no more than the worst of the four
            exact, bound = (_squares(a).max(axis=(3, 5)) for a in (exact, bound))
        tested = _KERNEL_OF[algorithm[0]]
        for sides in ((True, True), (False, True), (True, False)):
            fields = {"kernel": kernel, "pad_low": low, "accuracy": accuracy, "output": output, **more}
            call = partial(_planned, algorithm=algorithm, blocked=sides, **fields)
            label = f"{algorithm}, {name}, {more}, blocked {sides}"
            yield Case(label, tested, call, (x, w, bias), exact, bound)
        call = partial(_planned, algorithm=algorithm, enough_halo=False, **fields)
        yield Case(
            f"{algorithm}, {name}, no halo", _KERNEL_OF[algorithm[0]], call, (x, w, bias), exact, bound
        )


_KERNEL_OF = {"W": "conv_winograd_f32", "d": "conv_direct_f32"}


def _squares(a: Array) -> Array:
    """(n, d, h, w, c) with h and w cut into pairs; what does not make a pair is left off."""
    n, d, h, w, c = a.shape
    return a[:, :, : h // 2 * 2, : w // 2 * 2].reshape(n, d, h // 2, 2, w // 2, 2, c)


def _border(shape: tuple[int, ...], x: Array, out: Array | None = None) -> Array:
    """The cells of x in a map, with a halo that the kernel clears."""
    isa = call_module.current_isa()
    a_map = BlockedMap((len(x), *shape), ((1, 0), (2, 1), (0, 3)))
    a_map.fill(x)
    step = _native.Step("border", out=a_map.view(0), isa=isa)
    _native.Program([step]).run([a_map.buffer])
    y = np.moveaxis(a_map.memory, 1, -2).reshape(len(x), *a_map.sides, -1)[..., : shape[-1]]
    if out is None:
        return y
    out[...] = y
    return out


def _border_cases(rng: np.random.Generator, c: int, n: int, s: int) -> Iterator[Case]:
    shape = (2, s, s + 1, c)
    x = _floats(rng, n, *shape)
    exact = np.pad(x, ((0, 0), (1, 0), (2, 1), (0, 3), (0, 0))).astype(np.float64)
    yield Case("border", "border_f32", partial(_border, shape), (x,), exact)


def _transpose_cases(rng: np.random.Generator, c: int, n: int, s: int) -> Iterator[Case]:
    oc = c % 35 + 2
    bias = _floats(rng, oc)
    plans: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
        ((s, s), (3, 3), {"strides": 2, "padding": "same"}),
        ((s, s), (2, 3), {"strides": (3, 1)}),
        ((s, s), (3, 3), {"dilation_rate": 2}),
        ((2 * s,), (4,), {"strides": 3, "padding": "same", "output_padding": 1}),
        ((2, s, s), (2, 2, 2), {"strides": 2}),
    ]
    for sizes, kernel, options in plans:
        rank = len(sizes)
        x, w = _floats(rng, n, *sizes, c), _floats(rng, *kernel, oc, c)
        strides = shapes.spatial_tuple(options.get("strides", 1), rank, "strides", "test")
        dilation = shapes.spatial_tuple(options.get("dilation_rate", 1), rank, "dilation", "test")
        crop, size = shapes.conv_transpose_geometry(
            sizes,
            kernel,
            strides,
            dilation,
            options.get("padding", "valid"),
            options.get("output_padding"),
            "test",
        )
        exact = partial(
            reference.conv_transpose, strides=strides, dilation=dilation, padding=crop, output_size=size
        )
        bound = dot_bound(int(np.prod(kernel)) * c + 1, exact(abs(x), abs(w), abs(bias)))
        function = partial(getattr(cc, f"conv{rank}d_transpose"), **options)
        name = f"conv{rank}d_transpose {options}"
        yield Case(name, "conv_transpose_f32", function, (x, w, bias), exact(x, w, bias), bound)


def _depthwise_cases(rng: np.random.Generator, c: int, n: int, s: int) -> Iterator[Case]:
    for multiplier, options in ((1, {"padding": "same"}), (2, {"strides": 2}), (3, {"dilation_rate": 2})):
        x, w = _floats(rng, n, s, s, c), _floats(rng, 3, 2, c, multiplier)
        bias = _floats(rng, c * multiplier)
        strides, dilation = (options.get("strides", 1),) * 2, (options.get("dilation_rate", 1),) * 2
        pairs = shapes.conv_padding(
            options.get("padding", "valid"), (s, s), (3, 2), strides, dilation, "test"
        )  # type: ignore[arg-type]
        exact = partial(reference.depthwise_conv, strides=strides, dilation=dilation, padding=pairs)
        yield Case(
            f"depthwise_conv2d x{multiplier} {options}",
            "depthwise_f32",
            partial(cc.depthwise_conv2d, **options),  # type: ignore[arg-type]
            (x, w, bias),
            exact(x, w, bias),
            dot_bound(7, exact(abs(x), abs(w), abs(bias))),
        )
    # Windows that slide along a row in tiles of outputs: the ends of the map, and of the last tile.
    for width, stride in ((3, 1), (3, 2), (5, 1), (5, 2), (7, 1)):
        for columns in (3, 7 * s):
            x, w, bias = _floats(rng, n, 3, columns, c), _floats(rng, 2, width, c, 1), _floats(rng, c)
            pairs = shapes.conv_padding("same", (3, columns), (2, width), (stride,) * 2, (1, 1), "test")
            steps = {"strides": (stride,) * 2, "dilation": (1, 1)}
            exact = partial(reference.depthwise_conv, padding=pairs, **steps)
            yield Case(
                f"depthwise_conv2d 2x{width} by {stride} on {columns} columns",
                "depthwise_f32",
                partial(cc.depthwise_conv2d, strides=stride, padding="same"),
                (x, w, bias),
                exact(x, w, bias),
                dot_bound(2 * width + 1, exact(abs(x), abs(w), abs(bias))),
            )


def _pool_cases(rng: np.random.Generator, c: int, n: int, s: int) -> Iterator[Case]:
    plans: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
        ((s, s + 1), (2, 2), {}),
        ((s, s + 1), (3, 3), {"strides": 2, "padding": "same"}),
        ((s, s), (3, 2), {"strides": 1, "padding": ((2, 1), (0, 1))}),
        ((3 * s,), (3,), {"padding": "same"}),
        ((3, s, s), (2, 2, 2), {"padding": "same"}),
    ]
    for sizes, pool, options in plans:
        x = _floats(rng, n, *sizes, c)
        strides = shapes.spatial_tuple(options.get("strides", pool), len(sizes), "strides", "test")
        pairs = shapes.pool_padding(options.get("padding", "valid"), sizes, pool, strides, "test")
        name = f"{len(sizes)}-D {pool} {options}"
        exact = reference.max_pool(x, pool, strides, pairs)
        yield Case(
            f"max_pool {name}", "max_pool_f32", partial(cc.max_pool, pool_size=pool, **options), (x,), exact
        )
        for include in (False, True):
            mean = partial(
                reference.average_pool,
                pool_size=pool,
                strides=strides,
                padding=pairs,
                include_padding=include,
            )
            yield Case(
                f"average_pool {name} {'including' if include else 'without'} padding",
                "average_pool_f32",
                partial(cc.average_pool, pool_size=pool, include_padding=include, **options),
                (x,),
                mean(x),
                dot_bound(int(np.prod(pool)) + 1, mean(abs(x))),
            )
    x = _floats(rng, n, s, s, c)
    yield Case(
        "global_max_pool", "global_max_pool_f32", cc.global_max_pool, (x,), reference.global_max_pool(x)
    )
    yield Case(
        "global_average_pool",
        "global_average_pool_f32",
        cc.global_average_pool,
        (x,),
        reference.global_average_pool(x),
        dot_bound(s * s + 1, reference.global_average_pool(abs(x))),
    )


def _elementwise_cases(rng: np.random.Generator, c: int, n: int, s: int) -> Iterator[Case]:
    x = 3 * _floats(rng, n, s, c)
    for name in (
        "relu",
        "leaky_relu",
        "leaky_divide",
        "elu",
        "selu",
        "gelu",
        "silu",
        "sigmoid",
        "tanh",
        "softplus",
    ):
        exact = reference.ACTIVATIONS[name](x)
        yield Case(name, "activation_f32", getattr(cc, name), (x,), exact, _spread(exact))
    options = {"negative_slope": 0.5, "max_value": 2.0, "threshold": 1.0}
    exact = reference.ACTIVATIONS["relu"](x, **options)
    yield Case("relu general", "activation_f32", partial(cc.relu, **options), (x,), exact, _spread(exact))

    alpha = np.abs(_floats(rng, c))
    exact = reference.prelu(x, alpha)
    yield Case("prelu", "binary_f32", cc.prelu, (x, alpha), exact, _spread(exact, 1))

    mean, variance, gamma, beta = _floats(rng, c), np.abs(_floats(rng, c)), _floats(rng, c), _floats(rng, c)
    scale = np.abs(gamma / np.sqrt(variance.astype(np.float64) + 1e-3))
    magnitude = np.abs(x) * scale + np.abs(mean) * scale + np.abs(beta)
    exact = reference.batch_norm(x, mean, variance, gamma, beta)
    arrays = (x, mean, variance, gamma, beta)
    yield Case("batch_norm", "affine_f32", cc.batch_norm, arrays, exact, relative_bound(3, magnitude))

    exact = reference.softmax(x)
    spread = int(np.ptp(x)) + 1  # x - max is rounded: an error of u |x - max| in the exponent
    yield Case("softmax", "softmax_f32", cc.softmax, (x,), exact, relative_bound(spread + c + 6, exact))

    exact = reference.rrelu_sample(x, 3.0, 8.0, seed=5)
    call = partial(cc.rrelu, training=True, seed=5)
    yield Case("rrelu sample", "sample_f32", call, (x,), exact, relative_bound(4, exact), batched=False)
    exact = reference.noisy_relu_sample(x, seed=6)
    z = np.abs(reference.philox_normal(6, x.size).reshape(x.shape))
    bound = relative_bound(6, np.abs(x) + np.sqrt(reference.ACTIVATIONS["sigmoid"](x)) * z)
    call = partial(cc.noisy_relu, training=True, seed=6)
    yield Case("noisy_relu sample", "sample_f32", call, (x,), exact, bound, batched=False)


def _moving_cases(rng: np.random.Generator, c: int, n: int, s: int) -> Iterator[Case]:
    x = _floats(rng, n, s, s, c)
    yield Case("crop", "copy_f32", partial(cc.crop, cropping=((1, 0), (0, 2))), (x,), x[:, 1:, :-2])
    yield Case("upsample", "copy_f32", partial(cc.upsample, size=(2, 3)), (x,), reference.upsample(x, (2, 3)))
    padded = np.pad(x, ((0, 0), (1, 2), (0, 3), (0, 0)))
    yield Case("zero_pad", "fill_f32", partial(cc.zero_pad, padding=((1, 2), (0, 3))), (x,), padded)
    # Three interpolations, each a difference, a product and a sum with a rounded weight, of values
    # that are at most twice the largest.
    bound = relative_bound(3 * 4, 2 * np.abs(x).max())
    for size in ((2 * s + 1, s + 3), (2, 1)):
        exact = reference.resize(x, size)
        yield Case(f"resize to {size}", "resize_f32", partial(cc.resize, size=size), (x,), exact, bound)
        exact = reference.resize(x, size, "nearest")
        call = partial(cc.resize, size=size, interpolation="nearest")
        yield Case(f"resize to {size}, nearest", "resize_f32", call, (x,), exact)
    volume = _floats(rng, s, s + 1, c)
    bound = relative_bound(3 * 4, 2 * np.abs(volume).max())
    for shape in ((2 * s, 3, c + 2), (1, s, 2)):
        exact = reference.resample_linear(volume, shape)
        call = partial(cc.resample, output_shape=shape)
        yield Case(f"resample to {shape}", "resize_f32", call, (volume,), exact, bound, batched=False)


def _hu_cases(rng: np.random.Generator, c: int, n: int, s: int) -> Iterator[Case]:
    slope, intercept = rng.uniform(0.5, 2.0, n), rng.uniform(-1100.0, 0.0, n)
    for kind in ("int8", "uint8", "int16", "uint16", "int32"):
        limits = np.iinfo(kind)
        x = rng.integers(limits.min, limits.max, (n, s, c), kind, endpoint=True)
        x.reshape(-1)[::3] = -2000 if limits.min <= -2000 else 7
        for to in ("float32", "int16"):
            for padding in ("article", -1000.0):
                options: dict[str, Any] = {"padding_to": padding, "dtype": to}
                if limits.min > -2000:
                    options["padding_value"] = 7
                exact = reference.hu_rescale(x, slope, intercept, **options)
                # Rounded once: half a unit, and what a double cannot say of it.
                bound = _spread(exact, 1) if to == "float32" else 0.0
                yield Case(
                    f"hu_rescale {kind} to {to}, {padding}",
                    "hu_rescale",
                    partial(cc.hu_rescale, slope=slope, intercept=intercept, **options),
                    (x,),
                    exact,
                    bound,
                    batched=False,
                    dtype=np.dtype(to),
                )


def _probe(x: Array, *, out: Array | None = None, kind: str, columns: int, value: float = 0.5) -> Array:
    """One probe of the machine; both sides have neighbouring columns."""
    x = np.ascontiguousarray(x, np.float32)
    own = out is None or out.strides[-1] != out.itemsize
    y = np.empty((len(x), columns), np.float32) if own else out
    assert y is not None
    call = call_module.Call()
    call.step("probe", probe=kind, x=call.view(x), out=call.view(y), value=value)
    call.run()
    if out is None:
        return y
    if own:
        out[...] = y
    return out


def _probe_cases(rng: np.random.Generator, c: int, n: int, s: int) -> Iterator[Case]:
    x = _floats(rng, n, s * c)
    ones = np.ones((n, 1))
    sums = x.sum(axis=1, keepdims=True, dtype=np.float64)
    bound = dot_bound(s * c, np.abs(x).sum(axis=1, keepdims=True, dtype=np.float64))
    # Halving the distance from 1 ends at 1 itself.
    yield Case("probe fma", "probe_f32", partial(_probe, kind="fma", columns=1), (x,), ones)
    yield Case("probe read", "probe_f32", partial(_probe, kind="read", columns=1), (x,), sums, bound)
    yield Case(
        "probe write", "probe_f32", partial(_probe, kind="write", columns=c), (x,), np.full((n, c), 0.5)
    )
    yield Case("probe copy", "probe_f32", partial(_probe, kind="copy", columns=s * c), (x,), x)


def _bordered(x: Array, taps: tuple[int, ...], edge: str, value: float) -> Array:
    """x (n, ...) with what lies beyond the edge of its other axes."""
    pads = [(0, 0), *((k // 2, k - 1 - k // 2) for k in taps)]
    words = {"reflect": "symmetric", "mirror": "reflect", "nearest": "edge", "wrap": "wrap"}
    if edge == "constant":
        return np.pad(x.astype(np.float64), pads, constant_values=value)
    return np.pad(x.astype(np.float64), pads, words[edge])  # type: ignore[call-overload, no-any-return]


def _filter_cases(rng: np.random.Generator, c: int, n: int, s: int) -> Iterator[Case]:
    plans: list[tuple[tuple[int, ...], tuple[int, ...], str]] = [
        ((4 * s + c,), (5,), "wrap"),
        ((s + 8, 3 * c), (1, 4), "mirror"),
        ((s + 8, 3 * c), (2, 3), "reflect"),
        ((s + 8, 6 * c), (3, 3), "nearest"),
        ((7 * s, c), (4, 1), "constant"),
        ((2 * s, 2 * c + 70), (5, 2), "reflect"),
        ((5 * s, c + 3), (6, 5), "constant"),
        ((3 * s, c + 70), (9, 9), "mirror"),
        ((3, s, c), (3, 2, 3), "nearest"),
        ((s, 2, c), (4, 1, 3), "wrap"),
    ]
    kinds: dict[str, tuple[tuple[str, str], ...]] = {
        "filter_f32": (("float32", "float32"), ("uint8", "float32"), ("int16", "int16"), ("int8", "uint16")),
        "filter_f64": (("float32", "float64"), ("int16", "float64")),
    }
    for sizes, taps, edge in plans:
        axes = tuple(range(1, len(sizes) + 1))
        w = _floats(rng, *taps)
        for kernel, pairs in kinds.items():
            for kind, to in pairs:
                x = _floats(rng, n, *sizes) if kind == "float32" else rng.integers(0, 120, (n, *sizes), kind)
                windows = np.lib.stride_tricks.sliding_window_view(_bordered(x, taps, edge, -1.5), taps, axes)
                last = tuple(range(-len(taps), 0))
                exact = (windows * w.astype(np.float64)).sum(last)
                bound = dot_bound(
                    w.size,
                    (np.abs(windows) * np.abs(w)).sum(last),
                    {"filter_f32": np.float32, "filter_f64": np.float64}[kernel],
                )
                if np.dtype(to).kind != "f":  # to the other side of a half, at most
                    limits = np.iinfo(to)
                    low, high = (np.clip(np.rint(exact + b), limits.min, limits.max) for b in (-bound, bound))
                    exact, bound = (low + high) / 2, (high - low) / 2
                options: dict[str, Any] = {"axes": axes, "border": edge, "cval": -1.5, "method": "direct"}
                yield Case(
                    f"correlate {kind} to {to}, {sizes} by {taps}, {edge}",
                    kernel,
                    partial(cc.correlate, dtype=to, **options),
                    (x, w),
                    exact,
                    bound,
                    dtype=np.dtype(to),
                )
    for sizes, taps, edge in (((3 * s, c + 40), (5, 7), "reflect"), ((s + 90, 2 * c), (33, 4), "constant")):
        w = _floats(rng, *taps)
        for kind, to in (("float32", "float32"), ("uint8", "float32"), ("int16", "int16")):
            x = _floats(rng, n, *sizes) if kind == "float32" else rng.integers(0, 120, (n, *sizes), kind)
            padded = _bordered(x, taps, edge, -1.5)
            exact = np.einsum(
                "nyxij,ij->nyx",
                np.lib.stride_tricks.sliding_window_view(padded, taps, (1, 2)),
                w.astype(np.float64),
            )
            # 4 u log2(n) |x| |w|, n the points of two tiles, of 256 x 256 at most.
            bound = (
                4 * 2.0**-24 * 17 * np.linalg.norm(padded.reshape(n, -1), axis=1).max() * np.linalg.norm(w)
            )
            bound = np.full(exact.shape, bound)
            if to != "float32":
                limits = np.iinfo(to)
                low, high = (np.clip(np.rint(exact + b), limits.min, limits.max) for b in (-bound, bound))
                exact, bound = (low + high) / 2, (high - low) / 2
            options = {"axes": (1, 2), "border": edge, "cval": -1.5, "method": "fft"}
            call = partial(cc.correlate, dtype=to, **options)
            name = f"correlate by transforms, {kind} to {to}, {sizes} by {taps}, {edge}"
            yield Case(name, "filter_fourier_f32", call, (x, w), exact, bound, dtype=np.dtype(to))


def _double_cases(rng: np.random.Generator, c: int, n: int, s: int) -> Iterator[Case]:
    """Convolution and depthwise convolution in float64; the bound allows for the reference's own rounding."""
    oc, bias = c % 37 + 2, rng.standard_normal(2 * c)
    options: dict[str, Any]
    for rank, sizes, kernel, options in (
        (1, (2 * s + 3,), (3,), {"padding": "causal"}),
        (2, (s, s + 1), (3, 2), {"padding": "same", "strides": (1, 2), "flip": True}),
        (2, (s + 2, s), (2, 3), {"padding": "full", "dilation_rate": 2}),
        (3, (3, s, 2), (2, 3, 1), {"padding": 1}),
    ):
        strides = shapes.spatial_tuple(options.get("strides", 1), rank, "strides", "case")
        dilation = shapes.spatial_tuple(options.get("dilation_rate", 1), rank, "dilation", "case")
        pairs = shapes.conv_padding(options["padding"], sizes, kernel, strides, dilation, "case")
        more: dict[str, Any] = {"strides": strides, "dilation": dilation, "padding": pairs}
        more["flip"] = options.get("flip", False)
        x, taps = rng.standard_normal((n, *sizes, c)), int(np.prod(kernel))
        w = rng.standard_normal((*kernel, c, oc))
        exact = partial(reference.conv, **more)
        call = partial(getattr(cc, f"conv{rank}d"), dtype="float64", **options)
        arrays = (x, w, np.resize(bias, oc))
        bound = dot_bound(taps * c + 1, exact(abs(x), abs(w), abs(arrays[2])), np.float64)
        name = f"conv{rank}d, double, {options}"
        yield Case(name, "conv_f64", call, arrays, exact(*arrays), bound, dtype=np.float64)
        if rank < 3:
            w = rng.standard_normal((*kernel, c, 2))
            turned = np.flip(w, tuple(range(rank))) if more.pop("flip") else w
            exact = partial(reference.depthwise_conv, **more)
            bound = dot_bound(taps + 1, exact(abs(x), abs(turned), abs(bias)), np.float64)
            call = partial(getattr(cc, f"depthwise_conv{rank}d"), dtype="float64", **options)
            name, expected = f"depthwise_conv{rank}d, double, {options}", exact(x, turned, bias)
            yield Case(name, "depthwise_f64", call, (x, w, bias), expected, bound, dtype=np.float64)
    x, w = rng.standard_normal((n, s, s, 2 * c)), rng.standard_normal((3, 3, c, 38))
    exact = partial(reference.conv, strides=(1, 1), dilation=(1, 1), padding=((0, 0),) * 2, groups=2)
    call = partial(cc.conv2d, groups=2, dtype="float64")
    bound = dot_bound(9 * c, exact(abs(x), abs(w)), np.float64)
    yield Case("conv2d, double, groups", "conv_f64", call, (x, w), exact(x, w), bound, dtype=np.float64)


_FAMILIES = (
    _conv_cases, _planned_cases, _transpose_cases, _depthwise_cases, _pool_cases, _elementwise_cases,
    _moving_cases, _border_cases, _hu_cases, _probe_cases, _filter_cases, _double_cases,
)  # fmt: skip


def cases(channels: int, *, batch: int = 2, size: int = 5) -> list[Case]:
    """Return the whole list for maps of about `size` by `size` pixels with `channels` channels."""
    rng = np.random.default_rng((channels, batch, size))
    return [case for family in _FAMILIES for case in family(rng, channels, batch, size)]
