"""Random windows, strides, paddings, dilations and groups against the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import convcore as cc
from convcore import _native, reference, shapes
from convcore.errors import ArgumentError
from convcore.ops.call import instruction_set

from .tolerance import assert_within, dot_bound

isas = st.sampled_from(_native.isas())
channels = st.sampled_from([1, 2, 3, 4, 7, 16, 17, 33])


@st.composite
def windows(draw: st.DrawFn, words: tuple[str, ...], dilated: bool = True) -> dict[str, Any]:
    """Sizes, kernel, strides, dilation and padding of 1 to 3 axes, not always possible."""
    rank = draw(st.integers(1, 3))

    def axes(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    pairs = st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * rank)
    return {
        "sizes": axes(1, (40, 12, 6)[rank - 1]),
        "kernel": axes(1, 4),
        "strides": axes(1, 4),
        "dilation": axes(1, 3 if dilated else 1),
        "padding": draw(st.one_of(st.sampled_from(words), pairs)),
    }


def random(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@settings(max_examples=150, deadline=None)
@given(
    windows(("valid", "same", "same_lower", "full")), isas, st.integers(1, 3), channels, channels,
    st.integers(1, 3), st.booleans(), st.integers(0, 2**31),
)  # fmt: skip
def test_convolution(
    w: dict[str, Any], isa: str, n: int, ic: int, oc: int, groups: int, flip: bool, seed: int
) -> None:
    rank = len(w["sizes"])
    geometry = (w["sizes"], w["kernel"], w["strides"], w["dilation"])
    pairs = shapes.conv_padding(w["padding"], *geometry, "test")
    try:
        shapes.conv_output(*geometry, pairs, "test")
    except ArgumentError:
        assume(False)
    x = random(seed, n, *w["sizes"], ic * groups)
    kernel, bias = random(seed + 1, *w["kernel"], ic, oc * groups), random(seed + 2, oc * groups)
    fixed = {
        "strides": w["strides"], "dilation": w["dilation"], "groups": groups, "padding": pairs, "flip": flip,
    }  # fmt: skip
    with instruction_set(isa):
        got = getattr(cc, f"conv{rank}d")(
            x, kernel, bias, strides=w["strides"], padding=w["padding"], dilation_rate=w["dilation"],
            groups=groups, flip=flip,
        )  # fmt: skip
    length = int(np.prod(w["kernel"])) * ic + 1
    bound = dot_bound(length, reference.conv(abs(x), abs(kernel), abs(bias), **fixed))
    assert_within(got, reference.conv(x, kernel, bias, **fixed), bound)


@settings(max_examples=100, deadline=None)
@given(windows(("valid", "same")), isas, st.integers(1, 2), channels, channels, st.integers(0, 2**31))
def test_transposed_convolution(w: dict[str, Any], isa: str, n: int, ic: int, oc: int, seed: int) -> None:
    rank = len(w["sizes"])
    try:
        crop, size = shapes.conv_transpose_geometry(
            w["sizes"], w["kernel"], w["strides"], w["dilation"], w["padding"], None, "test"
        )
    except ArgumentError:
        assume(False)
    x, kernel, bias = (
        random(seed, n, *w["sizes"], ic),
        random(seed + 1, *w["kernel"], oc, ic),
        random(seed, oc),
    )
    fixed = {"strides": w["strides"], "dilation": w["dilation"], "padding": crop, "output_size": size}
    with instruction_set(isa):
        got = getattr(cc, f"conv{rank}d_transpose")(
            x, kernel, bias, strides=w["strides"], padding=w["padding"], dilation_rate=w["dilation"]
        )
    length = int(np.prod(w["kernel"])) * ic + 1
    bound = dot_bound(length, reference.conv_transpose(abs(x), abs(kernel), abs(bias), **fixed))
    assert_within(got, reference.conv_transpose(x, kernel, bias, **fixed), bound)


@settings(max_examples=100, deadline=None)
@given(windows(("valid", "same")), isas, channels, st.integers(1, 3), st.integers(0, 2**31))
def test_depthwise_convolution(w: dict[str, Any], isa: str, ic: int, multiplier: int, seed: int) -> None:
    rank = len(w["sizes"])
    assume(rank < 3)
    geometry = (w["sizes"], w["kernel"], w["strides"], w["dilation"])
    pairs = shapes.conv_padding(w["padding"], *geometry, "test")
    try:
        shapes.conv_output(*geometry, pairs, "test")
    except ArgumentError:
        assume(False)
    x, kernel = random(seed, 2, *w["sizes"], ic), random(seed + 1, *w["kernel"], ic, multiplier)
    fixed = {"strides": w["strides"], "dilation": w["dilation"], "padding": pairs}
    with instruction_set(isa):
        got = getattr(cc, f"depthwise_conv{rank}d")(
            x, kernel, strides=w["strides"], padding=w["padding"], dilation_rate=w["dilation"]
        )
    bound = dot_bound(int(np.prod(w["kernel"])), reference.depthwise_conv(abs(x), abs(kernel), **fixed))
    assert_within(got, reference.depthwise_conv(x, kernel, **fixed), bound)


@settings(max_examples=100, deadline=None)
@given(windows(("valid", "same"), dilated=False), isas, channels, st.booleans(), st.integers(0, 2**31))
def test_pooling(w: dict[str, Any], isa: str, c: int, include: bool, seed: int) -> None:
    try:
        pairs = shapes.pool_padding(w["padding"], w["sizes"], w["kernel"], w["strides"], "test")
        shapes.pool_output(w["sizes"], w["kernel"], w["strides"], pairs, "test")
    except ArgumentError:
        assume(False)
    x = random(seed, 2, *w["sizes"], c)
    fixed = (w["kernel"], w["strides"], pairs)
    # A window that a large stride puts wholly into the padding has neither maximum nor mean.
    real = reference.average_pool(np.ones_like(x), *fixed, True)
    assume((real > 0).all())
    options = {"strides": w["strides"], "padding": w["padding"]}
    with instruction_set(isa):
        largest = cc.max_pool(x, w["kernel"], **options)
        mean = cc.average_pool(x, w["kernel"], include_padding=include, **options)
    np.testing.assert_array_equal(largest, reference.max_pool(x, *fixed))
    bound = dot_bound(int(np.prod(w["kernel"])) + 1, reference.average_pool(abs(x), *fixed, include))
    assert_within(mean, reference.average_pool(x, *fixed, include), bound)
