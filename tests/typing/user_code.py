"""What a user writes, with every public name; tests/test_typing.py has mypy read it in strict mode."""

from __future__ import annotations

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import convcore as cc

Floats = NDArray[np.float32]


class Tensor:
    """An array of another package."""

    def __dlpack__(self, **options: Any) -> Any:
        raise NotImplementedError

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


x: Floats = np.zeros((1, 8, 8, 4), np.float32)
y: Floats = np.zeros((1, 8, 8, 4), np.float32)
w: Floats = np.zeros((3, 3, 4, 4), np.float32)
b: Floats = np.zeros(4, np.float32)
tensor = Tensor()

# A new array, or `out` with its own type.
assert_type(cc.conv2d(x, w, b), Floats)
assert_type(cc.conv2d(x, w, b, out=None), Floats)
assert_type(cc.conv2d(x, w, b, out=y), Floats)
assert_type(cc.conv2d(tensor, w, b, out=tensor), Tensor)
assert_type(cc.conv2d(x, w, strides=(1, 2), padding=[(1, 1), (0, 2)], dilation_rate=2, groups=1), Floats)
assert_type(cc.conv2d(x, w, data_format="channels_first", flip=True, activation="relu"), Floats)
assert_type(cc.conv2d(x.astype(np.float64), w, num_threads=2, dtype="float32"), Floats)
assert_type(cc.conv1d(x, w, padding="causal", out=tensor), Tensor)
assert_type(cc.conv3d(x, w, padding=1), Floats)
assert_type(cc.conv1d_transpose(x, w, output_padding=1), Floats)
assert_type(cc.conv2d_transpose(x, w, output_padding=(1, 0), out=tensor), Tensor)
assert_type(cc.conv3d_transpose(x, w), Floats)
assert_type(cc.depthwise_conv1d(x, w), Floats)
assert_type(cc.depthwise_conv2d(x, w, num_threads=1), Floats)
assert_type(cc.separable_conv1d(x, w, w), Floats)
assert_type(cc.separable_conv2d(x, w, w, b, out=tensor), Tensor)
assert_type(cc.dense(x, w, b, activation="tanh"), Floats)
assert_type(cc.batch_norm(x, b, b, b, b, axis=1, epsilon=1e-5), Floats)
assert_type(cc.softmax(x, -1, out=tensor), Tensor)
assert_type(cc.max_pool(x, (2, 2), strides=1, padding="same_lower"), Floats)
assert_type(cc.average_pool(x, 2, include_padding=True), Floats)
assert_type(cc.global_max_pool(x, keepdims=True), Floats)
assert_type(cc.global_average_pool(x), Floats)
assert_type(cc.relu(x, negative_slope=0.1, max_value=6, threshold=0), Floats)
assert_type(cc.leaky_relu(x, negative_slope=0.1), Floats)
assert_type(cc.leaky_divide(x, a=5), Floats)
assert_type(cc.rrelu(x, lower=3, upper=8, training=True, seed=1), Floats)
assert_type(cc.noisy_relu(x, training=True, seed=1), Floats)
assert_type(cc.prelu(x, b), Floats)
assert_type(cc.elu(x, alpha=1), Floats)
assert_type(cc.celu(x, alpha=1), Floats)
assert_type(cc.selu(x), Floats)
assert_type(cc.gelu(x, approximate=True), Floats)
assert_type(cc.silu(x), Floats)
assert_type(cc.softplus(x), Floats)
assert_type(cc.softsign(x), Floats)
assert_type(cc.sigmoid(x, out=tensor), Tensor)
assert_type(cc.hard_sigmoid(x, slope=0.2), Floats)
assert_type(cc.hard_silu(x), Floats)
assert_type(cc.tanh(x), Floats)
assert_type(cc.exponential(x), Floats)
assert_type(cc.mish(x), Floats)
assert_type(cc.zero_pad(x, [(1, 2), (0, 0)]), Floats)
assert_type(cc.crop(x, 1), Floats)
assert_type(cc.upsample(x, (2, 2)), Floats)
assert_type(cc.resample(x, (4, 4, 4)), Floats)
assert_type(cc.resize(x, (4, 4), interpolation="nearest"), Floats)
hu: NDArray[Any] = cc.hu_rescale(np.zeros(3, np.int16), 1, -1024, padding_to=-1000, dtype="int16")
assert_type(cc.hu_rescale(np.zeros(3, np.int16), 1, -1024, out=tensor), Tensor)
filtered: Floats = cc.correlate(x, w, mode="nearest")
filtered = cc.convolve(x, w, mode="constant", cval=1.0)

# Prepared kernels.
k: cc.PreparedKernel = cc.prepare_conv2d(w, b, padding="same", accuracy="fast", num_threads=2)
assert_type(k(x), Floats)
assert_type(k(x, num_threads=1), Floats)
assert_type(k(x, out=y), Floats)
assert_type(k(tensor, out=tensor), Tensor)
assert_type(k.algorithm, str | None)
assert_type(k.algorithms, dict[tuple[int, ...], str])
assert_type(k.operation, str)
assert_type(k.num_threads, int | None)
assert_type(k.nbytes, int)
assert_type(cc.prepare_conv1d(w), cc.PreparedKernel)
assert_type(cc.prepare_conv3d(w), cc.PreparedKernel)
assert_type(cc.prepare_conv1d_transpose(w), cc.PreparedKernel)
assert_type(cc.prepare_conv2d_transpose(w, output_padding=1), cc.PreparedKernel)
assert_type(cc.prepare_conv3d_transpose(w), cc.PreparedKernel)
assert_type(cc.prepare_depthwise_conv1d(w), cc.PreparedKernel)
assert_type(cc.prepare_depthwise_conv2d(w), cc.PreparedKernel)
assert_type(cc.prepare_separable_conv1d(w, w), cc.PreparedKernel)
assert_type(cc.prepare_separable_conv2d(w, w, b), cc.PreparedKernel)
assert_type(cc.prepare_dense(w, b, activation="relu"), cc.PreparedKernel)
assert_type(cc.prepare_batch_norm(b, b, axis=1), cc.PreparedKernel)

# Threads, the installation, models.
cc.set_num_threads(2)
assert_type(cc.get_num_threads(), int)
with cc.num_threads(1):
    pass
assert_type(cc.show_config("dicts"), dict[str, Any])
cc.show_config()
assert_type(cc.get_include(), str)
assert_type(cc.get_library(), str)
assert_type(cc.get_library_dir(), str)
assert_type(cc.get_cmake_dir(), str)
assert_type(cc.get_pkgconfig_dir(), str)
assert_type(cc.__version__, str)
model: cc.Model = cc.load_model("model.keras", accuracy="fast")
