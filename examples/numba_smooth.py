"""Smooths an image again and again in compiled code, until it hardly changes."""

import numpy as np
from numba import njit

from convcore.numba_api import cc_conv2d_f32


@njit(cache=True)
def smooth(image, kernel, bias, tolerance):
    """Return `image` (h, w), smoothed, and how often it was."""
    h, w = image.shape
    kh, kw = kernel.shape
    smoothed = np.empty_like(image)
    count, change = 0, np.inf
    while change > tolerance:
        status = cc_conv2d_f32(
            image.ctypes, 1, h, w, 1, kernel.ctypes, kh, kw, 1, bias.ctypes, 1, kh // 2, kw // 2, 0,
            smoothed.ctypes, h, w,
        )  # fmt: skip
        if status != 0:
            raise ValueError("cc_conv2d_f32 refused the shapes")
        change = np.abs(smoothed - image).max()
        image, smoothed, count = smoothed, image, count + 1
    return image, count


image = np.zeros((32, 32), np.float32)
image[16, 16] = 1
kernel = np.outer([1, 2, 1], [1, 2, 1]).astype(np.float32) / 16
result, count = smooth(image.copy(), kernel, np.zeros(1, np.float32), 1e-4)
print(f"{count} times, {result.max():.4f} at most, {result.sum():.4f} in all")
