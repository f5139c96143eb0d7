# %% [markdown]
# # The Theano figure, made again
#
# The article shows a figure from 2010 in which Theano beats everybody, on a CPU and much more on a
# GPU. Its workloads are known, so they can be run again: here, now, on this machine, with the libraries
# that it has. What it does not have, a GPU perhaps, is called "not measured".
#
# ## What was measured then
#
# Bergstra and others, SciPy 2010; a Core 2 Duo of 3.16 GHz, one thread, and a GeForce GTX 285. The
# text gives ratios, not times:
#
# | workload | on the CPU, Theano was faster than | on the GPU, than Theano on the CPU |
# |---|---|---|
# | perceptron: 784, 500 tanh, 10 softmax; 60 a time | NumPy 1.8, MATLAB 1.6, Torch5 7.5 times | 5.8 times |
# | network with 7 x 7 convolutions of 256 x 256 images | EBLearn 2.2, SciPy 5.8 times | 4.9 times |
# | formulas of single numbers, short and long arrays | NumPy, but not on short arrays | |
#
# > **Two things are in one bar.** The CPU computed in float64, the GPU in float32: half the bytes and
# > simpler arithmetic. And "44 times faster" than Torch is a GPU against one thread of a CPU. Below,
# > all is float32.
# >
# > Theano's bars are training: forward, backward, update; only SciPy's convolution did the forward half
# > alone. convcore does not train: what follows is the forward half, for everybody. The new bars
# > compare with each other, not with the old ones.

# %%
import timeit
from functools import partial

import numpy as np
from matplotlib import pyplot as plt

import convcore as cc
from convcore.bench import case, installed, machine
from convcore.bench.kernels import chosen_cases, measured, no_gpu
from convcore.study import plot_devices
from convcore.study.article import find

# %%
here = machine()
print(f"CPU: {here['cpu']}, {here['cores']} cores, {here['isa']}; one thread is used")
print(no_gpu() or "There is a GPU, and it is measured.")

# %% [markdown]
# ## The same workloads today
#
# Each library computes the same numbers, which are compared with ours first; then all take turns, and
# a median of five rounds counts. A library that lacks an operation is not in its panel.

# %%
libraries = [name for name in ("numpy", "scipy_signal", "opencv", "torch") if name in installed()]
names = chosen_cases(["article"])
results = list(measured(names, devices=("cpu", "cuda"), peers=libraries, rounds=5))

titles = {
    "mlp_784_500_10": "perceptron, 60 examples a call",
    "convolve:ih256kh7": "7 x 7 convolution, 256 x 256",
    "tanh:1000": "tanh of 1,000 numbers",
    "tanh:4096x4096": "tanh of 16.8 million numbers",
}
called = {"numpy": "NumPy", "scipy_signal": "SciPy", "opencv": "OpenCV", "torch": "PyTorch"}
units = {}
speeds = {}
for result in results:
    name = result.comparison.case
    one = case(name)
    many, units[titles[name]] = (
        (one.batch, "examples/s") if one.planned
        else (1, "images/s") if name.startswith("convolve")
        else (np.prod(one.shape) / 1e6, "million numbers/s")
    )  # fmt: skip
    who = speeds.setdefault(titles[name], {}).setdefault(result.device, {})
    for library, times in result.comparison.peers.items():
        if times.median:
            who[called.get(library, library)] = 1000 * many / times.median
        elif library == "convcore":
            who[library] = None  # not measured
plot_devices(speeds, units=units, title="One thread of the CPU, and the GPU: higher is better")

# %%
for title, devices in speeds.items():
    cpu = devices["cpu"]
    print(title)
    for library, speed in cpu.items():
        if library != "convcore":
            print(f"    convcore / {library}: {cpu['convcore'] / speed:.2f}")
    gpu = devices["cuda"]["convcore"]
    print("    GPU / CPU:", f"{gpu / cpu['convcore']:.1f}" if gpu else "not measured")

# %% [markdown]
# ## Short arrays, long arrays
#
# Theano lost on short arrays: each call cost more than the arithmetic. That has not changed. Time for
# one number of a tanh, from arrays of ten to a million:

# %%
lengths = [10, 30, 100, 300, 1000, 3000, 10_000, 100_000, 1_000_000]
nanoseconds = {"NumPy": [], "convcore": []}
with cc.num_threads(1):
    for length in lengths:
        x = np.linspace(-3, 3, length, dtype=np.float32)
        out = np.empty_like(x)
        calls = max(3, 300_000 // length)
        for name, function in (("NumPy", np.tanh), ("convcore", cc.tanh)):
            times = timeit.repeat(partial(function, x, out=out), number=calls, repeat=5)
            nanoseconds[name].append(1e9 * min(times) / calls / length)

figure, axes = plt.subplots(num="Time for one number of a tanh: left the call, right the work")
for colour, (name, times) in zip(("C1", "C0"), nanoseconds.items()):
    axes.plot(lengths, times, "o-", color=colour, label=name)
axes.set(xscale="log", yscale="log", xlabel="numbers in the array", ylabel="nanoseconds a number")
axes.grid(True, alpha=0.5)
axes.legend()
plt.show()
for name, times in nanoseconds.items():
    print(f"{name}: a call costs about {times[0] * lengths[0]:.0f} ns, a number {times[-1]:.2f} ns")

# %% [markdown]
# ## A quiet machine
#
# Numbers from a machine that does other things as well are only as good as its quiet. convcore's
# repository has the same comparison from a quieter one, two threads, in `benchmarks/results/article.json`,
# made by `convcore bench kernels --op article`. If that file is in the
# data folder, it is shown here.

# %%
import json

published = find("article.json", default=None)
if published is None:
    print("article.json is not in the data folder")
else:
    record = json.loads(published.read_text())
    print(record["machine"]["cpu"], record["machine"]["threads"], "threads, milliseconds:")
    for one in record["results"]:
        times = {name: peer.get("median") for name, peer in one["peers"].items()}
        shown = [f"{name} {ms:.4g}" for name, ms in times.items() if ms]
        print(f"{one['case']:18} {one['device']:5}", ", ".join(shown) or "not measured")
