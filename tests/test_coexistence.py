"""convcore's thread pool beside other libraries' pools, in either order of import."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

OURS = """
import numpy as np, convcore as cc
cc.set_num_threads(4)
x = np.random.default_rng(0).standard_normal((1, 56, 56, 64), np.float32)
w = np.random.default_rng(1).standard_normal((3, 3, 64, 64), np.float32)
expected = cc.conv2d(x, w, padding="same")
"""
THEIRS = {
    "tensorflow": """
import os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(4)
theirs = lambda x, w: tf.nn.conv2d(x, w, 1, "SAME").numpy()
""",
    "torch": """
import torch
torch.set_num_threads(4)
def theirs(x, w):
    y = torch.nn.functional.conv2d(
        torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(w).permute(3, 2, 0, 1), padding=1)
    return y.permute(0, 2, 3, 1).numpy()
""",
}
# Turn by turn, then both at once from two threads.
BOTH = """
import threading
bound = 2 * 577 * 2.0**-24 * cc.conv2d(np.abs(x), np.abs(w), padding="same")  # 2 k u sum|a b|
for _ in range(5):
    assert np.array_equal(cc.conv2d(x, w, padding="same"), expected)
    assert (np.abs(theirs(x, w) - expected) <= 2 * bound).all()  # each of us is within one
wrong = []
def work():
    for _ in range(20):
        if not np.array_equal(cc.conv2d(x, w, padding="same"), expected):
            wrong.append(1)
thread = threading.Thread(target=work)
thread.start()
for _ in range(20):
    theirs(x, w)
thread.join()
assert not wrong
"""


@pytest.mark.parametrize("first", ["ours", "theirs"])
@pytest.mark.parametrize("library", THEIRS)
def test_pools_live_side_by_side(library: str, first: str) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    parts = [OURS, THEIRS[library]] if first == "ours" else [THEIRS[library], OURS]
    code = "".join([*parts, BOTH])
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr[-2000:]
