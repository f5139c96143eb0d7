# %% [markdown]
# # Theano's figure, then and now
#
# The article shows bars in which Theano beats everyone, on the CPU and more so on a GPU. We look up what
# was measured, run the same kinds of work on this machine, and see how much of such bars is the device,
# how much the precision, and how much the size.
#
# ## What the bars were
#
# They come from the paper by Theano's authors (Bergstra et al., SciPy 2010), and were seven years old when
# the article showed them. Their unit is examples a second. The CPU was a Core 2 Duo of 3.16 GHz, one thread
# of it; the GPU a GeForce GTX 285. There were three kinds of work, and the paper's text has ratios:
#
# - a perceptron: 784 inputs, 500 tanh, 10 softmax, 60 examples at a time. Theano on the CPU did 1.8 times
#   as many as NumPy, 1.6 times as many as MATLAB, 7.5 times as many as Torch 5; on the GPU 5.8 times as many
#   as on the CPU, which is 11 times NumPy;
# - a convolutional network: images of 256x256, filters of 7x7. On the CPU it did 2.2 times as many as
#   EBLearn and 5.8 times as many as SciPy; on the GPU 4.9 times as many as on the CPU;
# - elementwise formulas on arrays of growing size. Theano was behind NumPy if they were small, and first if
#   they were large.
#
# > **Two precisions in one figure.** The CPU calculated in **float64**, the GPU in **float32**. SciPy did
# > the forward half alone, and still counted. And all of it is *training*: forward, backward and update.
# > Of this the article says nothing. Theano's development ended in 2017, the year of the article.

# %%
from functools import partial
from textwrap import fill

import numpy as np
from matplotlib import pyplot as plt

import convcore as cc
from convcore.bench import interleaved, machine
from convcore.bench.chart import label
from convcore.bench.kernels import measured, no_gpu

# %%
here = machine("scipy", "opencv-python-headless")
print(f"CPU: {here['cpu']}, {here['isa']}, {here['cores']} cores")
print("GPU:", fill(no_gpu() or "there is one", 88, subsequent_indent="     "))
print("with:", ", ".join(f"{name} {version}" for name, version in here["versions"].items()))

# %% [markdown]
# ## The first two, today
#
# The same sizes, in float32 for everyone, in one thread, forward only: convcore does not train. Every
# library has a process of its own, they take turns, and those whose answer differs are not timed.

# %%
workloads = {
    "mlp_784_500_10": ("perceptron", 60),
    "convolve:ih256kh7": ("7x7 filter, 256x256 pixels", 1),
}
peers = ("convcore", "numpy", "scipy_ndimage", "opencv")
results = list(measured(list(workloads), devices=("cpu", "cuda"), peers=peers, threads=1, rounds=6))
bars = {}
for result in results:
    title, examples = workloads[result.comparison.case]
    device = {"cpu": "CPU", "cuda": "GPU"}[result.device]
    for name, one in result.comparison.peers.items():
        if one.median is not None:
            speed = examples / (1e-3 * one.median)
            bars.setdefault(title, []).append((f"{label(name)}, {device}", speed))
            print(f"{title}: {label(name)} on the {device}: {speed:,.0f} examples a second")
        elif device == "GPU" and name == "convcore":
            bars.setdefault(title, []).append((f"{name}, {device}", None))
            print(f"{title}: {name} on the {device}: {one.status}")

# %%
quiet = plt.rcParams["axes.edgecolor"]
rows = [len(group) for group in bars.values()]
figure, panels = plt.subplots(
    len(bars), 1, figsize=(5, 1.2 + 0.4 * sum(rows)), height_ratios=rows,
    num="Examples a second on this machine, longer is faster; a dotted bar was not measured",
)  # fmt: skip
for axes, (title, group) in zip(panels, bars.items()):
    longest = max(speed for _, speed in group if speed)
    for row, (name, speed) in enumerate(group):
        look = {"color": "C0" if name.startswith("convcore") else "C1"}
        if speed is None:
            look = {"fill": False, "edgecolor": quiet, "linestyle": ":"}
        axes.barh(row, speed or longest, height=0.7, **look)
        words = f"{speed:,.0f}" if speed else "not measured"
        axes.text((speed or 0) + 0.01 * longest, row, words, va="center", fontsize=9)
    axes.set_yticks(range(len(group)), [name for name, _ in group])
    axes.set(xlim=(0, 1.22 * longest), title=title, xticks=[])
    axes.invert_yaxis()
plt.show()

# %% [markdown]
# A GPU that is not there is *not measured*: no number is carried over from another machine. With one,
# the same cell fills the bar, and the command `convcore bench kernels article --device cpu,cuda` writes
# all of it down, with the machine's context. The project's own run beside more libraries, PyTorch among
# them, is in `benchmarks/results/article.json` of the sources.
#
# ## How much is the precision?
#
# A perceptron spends its time on products of matrices and on tanh. Here are both in NumPy, with nothing
# changed but the type of the numbers. The matrices are so small that NumPy takes one thread for them, and
# the best of forty runs counts, as whatever else this machine does can only make one slower.

# %%
rng = np.random.default_rng(8)
kinds = {"product, 60x64 by 64x64": (60, 64), "tanh of 60x500": (60, 500)}
runs = {}
for kind, shape in kinds.items():
    for dtype in (np.float64, np.float32):
        x, y = rng.standard_normal(shape).astype(dtype), np.empty(shape, dtype)
        w = rng.standard_normal((64, 64)).astype(dtype)
        work = partial(np.matmul, x, w, y) if "product" in kind else partial(np.tanh, x, y)
        runs[kind, dtype.__name__] = lambda work=work: [work() for _ in range(50)]
best = {name: min(ms) for name, ms in interleaved(runs, rounds=40).items()}
gains = {kind: best[kind, "float64"] / best[kind, "float32"] for kind in kinds}
for kind, gain in gains.items():
    print(f"{kind}: float32 is {gain:.1f} times as fast, on the same CPU")

# %% [markdown]
# > So a part of what the old figure credits to the GPU is what the CPU would have gained, too, from
# > numbers of half the length. A register holds twice as many of them, and so does a cache.
#
# ## How much is the size?
#
# The third comparison was of elementwise formulas at growing sizes. Here is tanh, per number. At the left
# the time is that of a call, whatever is called; at the right that of arithmetic, until memory.


# %%
def calls(function, x, y, count):
    """So many calls, as one to be timed."""

    def run():
        for _ in range(count):
            function(x, out=y)

    return run


functions = {"convcore": cc.tanh, "NumPy": np.tanh}
sizes = [10**n for n in range(1, 7)]
per_number = {name: [] for name in functions}
with cc.num_threads(1):
    for size in sizes:
        x = np.linspace(-3, 3, size, dtype=np.float32)
        y, count = np.empty_like(x), max(1, 20_000 // size)
        runs = {name: calls(f, x, y, count) for name, f in functions.items()}
        for name, ms in interleaved(runs, rounds=15).items():
            per_number[name].append(1e6 * np.median(ms) / count / size)

# %%
figure, axes = plt.subplots(figsize=(5, 3), num="Nanoseconds per number of tanh, one thread")
for name, ns in per_number.items():
    axes.loglog(sizes, ns, "o-", markersize=4, label=name)
    print(f"{name}:", ", ".join(f"{t:.3g}" for t in ns), "ns per number")
axes.set(xlabel="numbers in the array", ylabel="ns per number")
axes.legend()
plt.show()

# %% [markdown]
# Theano came behind NumPy at the left, and so does a GPU, where a call takes microseconds before
# anything is calculated. A bar has one size, and stands at one place of this curve. Whoever asks how
# much faster a device is should say on what, in which precision, and how much of it at a time.
