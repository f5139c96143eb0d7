# %% [markdown]
# # Activations, and where they stop learning
#
# Between two linear layers there has to be something that is not linear, or the two are one. We draw
# all the functions that the article names with their derivatives, find where those vanish, and send a
# gradient through twenty layers to see what comes of it.
#
# > The text calls this a *differential equation* that carries a volume from layer to layer. What is meant
# > is a *differentiable function*: training multiplies by its derivative.

# %%
import math

import numpy as np
from matplotlib import pyplot as plt

import convcore as cc

# %% [markdown]
# ## All of them, with derivatives
#
# | | function | derivative |
# |---|---|---|
# | sigmoid | $\sigma(x) = 1 / (1 + e^{-x})$ | $\sigma(x) (1 - \sigma(x))$ |
# | tanh | $2 \sigma(2x) - 1$ | $1 - \tanh^2 x$ |
# | ReLU | $\max(0, x)$ | 1, or 0 |
# | ELU | $x$, or $\alpha (e^x - 1)$ | 1, or $\alpha e^x$ |
# | leaky ReLU | $x$, or $x / a$ with a fixed $a > 1$ | 1, or $1 / a$ |
# | PReLU | the same with a slope that is learnt | 1, or the slope |
# | RReLU | the same with a random $a$ | 1, or $1 / a$ |
# | noisy ReLU | $\max(0, x + z)$, $z \sim N(0, \sigma(x))$ | 1, or 0 |
#
# Where there are two, the first is for $x > 0$.

# %%
x = np.linspace(-6, 6, 1201, dtype=np.float32)
slope = np.float32(0.25)  # where PReLU's authors start from
functions = {
    "sigmoid": cc.sigmoid,
    "tanh": cc.tanh,
    "ReLU": cc.relu,
    "ELU": cc.elu,
    "leaky, a = 5.5": cc.leaky_divide,
    "PReLU at 0.25": lambda x: cc.prelu(x[:, None], np.array([slope]))[:, 0],
    "RReLU": cc.rrelu,
    "noisy ReLU": cc.noisy_relu,
}
derivatives = {
    "sigmoid": lambda x: cc.sigmoid(x) * cc.sigmoid(-x),
    "tanh": lambda x: 1 / np.cosh(x) ** 2,
    "ReLU": lambda x: (x > 0) * 1.0,
    "ELU": lambda x: np.where(x > 0, 1, np.exp(x)),
    "leaky, a = 5.5": lambda x: np.where(x > 0, 1, 1 / 5.5),
    "PReLU at 0.25": lambda x: np.where(x > 0, 1, slope),
    "RReLU": lambda x: np.where(x > 0, 1, 1 / 5.5),
    "noisy ReLU": lambda x: (x > 0) * 1.0,
}

# %%
rng = np.random.default_rng(6)
figure, axes = plt.subplots(
    4, 2, figsize=(5, 7.6), sharex=True, num="Each function (blue), its derivative (dashed)"
)
for ax, (name, function) in zip(axes.flat, functions.items()):
    if name == "RReLU":  # anywhere between x / 3 and x / 8
        ax.fill_between(x[x < 0], x[x < 0] / 3, x[x < 0] / 8, color="C0", alpha=0.3)
    if name == "noisy ReLU":
        some = x[::8]
        drawn = cc.noisy_relu(some, training=True, seed=6)
        ax.plot(some, drawn, ".", color="C0", alpha=0.5, markersize=4)
    ax.plot(x, function(x), color="C0")
    ax.plot(x, derivatives[name](x), "--", color="C1")
    ax.set(ylim=(-1.6, 2.6), title=name)
    ax.grid(True)
plt.show()

# %% [markdown]
# Are these the derivatives? The difference over a small step, divided by it, should say the same.

# %%
step = np.float32(2**-7)
at = np.array([-4.0, -1.5, -0.3, 0.3, 1.5, 4.0], np.float32)
for name, function in functions.items():
    slopes = (function(at + step) - function(at - step)) / (2 * step)
    off = np.abs(slopes - derivatives[name](at)).max()
    print(f"{name:15} differs by {off:.5f} at most")

# %% [markdown]
# ## Where they vanish
#
# A unit whose derivative is nothing learns nothing. How much of the range from -8 to 8 is lost to each,
# if a derivative below one hundredth counts as nothing?

# %%
wide = np.linspace(-8, 8, 1601, dtype=np.float32)
for name, derivative in derivatives.items():
    lost = np.abs(derivative(wide)) < 0.01
    left, right = wide[lost & (wide <= 0)], wide[lost & (wide > 0)]
    places = [f"x <= {left.max():.2f}"] if len(left) else []
    places += [f"x >= {right.min():.2f}"] if len(right) else []
    print(f"{name:15} {lost.mean():4.0%}  {', '.join(places) or 'nowhere'}")

# %% [markdown]
# Functions that flatten on both sides are called *saturating*. ELU and ReLU flatten on the left alone,
# and ReLU at once and completely: a unit that is negative for every picture is dead, and stays so. The
# leaky ones are made against that.
#
# > The article files under "saturating" the *hyperbolic and the hyperbolic tangent*: the first is a
# > slip of translation for the **sigmoid**. Of ReLU and its variants it says that they do not saturate.
# > On the left two of them do, as the list shows.
#
# ## Sigmoid and tanh in float32
#
# The article says the sigmoid squeezes into $[0, 1]$. Among real numbers the ends are never reached; in
# float32 one of them is.

# %%
wide = np.arange(16, 17, 2**-16, dtype=np.float32)
print("sigmoid is exactly 1 from x =", wide[cc.sigmoid(wide) == 1].min())
with np.errstate(over="ignore"):
    print("1 / (1 + exp(100)), as written:", np.float32(1) / (1 + np.exp(np.float32(100))))
print("sigmoid(-100) by convcore:     ", cc.sigmoid(np.array([-100], np.float32))[0])

# %% [markdown]
# > $\tanh x = 2 \sigma(2x) - 1$ is true, and a poor way to compute it: near 0 the sigmoid is near one
# > half, and taking 1 away leaves what rounding has left.

# %%
small = np.geomspace(1e-6, 1, 400, dtype=np.float32)
exact = np.tanh(small.astype(np.float64))
figure, axes = plt.subplots(figsize=(5, 2.9), num="Relative error of tanh near 0, in float32")
ways = {"2 sigmoid(2x) - 1": 2 * cc.sigmoid(2 * small) - 1, "convcore.tanh": cc.tanh(small)}
for colour, (name, y) in zip(("C1", "C0"), ways.items()):
    error = np.abs(y - exact) / exact
    axes.loglog(small, error, ".", markersize=3, color=colour, label=name)
    print(f"{name:18} is off by {error.max():.1e} at most")
axes.set(xlabel="x", ylabel="relative error", ylim=(1e-9, 1))
axes.legend()
plt.show()

# %% [markdown]
# ## ReLU
#
# > The article says that Hinton discussed it first in *his Nature paper*. Nair and Hinton's paper on
# > rectified units is from **ICML 2010**. It also reads ReLU as *monotone* linear unit; the R is for
# > **rectified**.
# >
# > **Keras's layer** has three more numbers: `negative_slope`, `max_value` and `threshold`. The
# > threshold is strict: what equals it becomes 0.

# %%
print(cc.relu(np.array([-1, 0.5, 1, 1.5, 9], np.float32), threshold=1, max_value=6))
print(cc.relu(np.array([-1, 0.5, 1, 1.5, 9], np.float32), threshold=1, negative_slope=0.1))

# %% [markdown]
# ## ELU
#
# The article: ELUs bring the mean of what comes out near 0, and that speeds up learning. The first half
# can be computed. What goes in here is normal, with mean 0 and deviation 1.

# %%
normal = rng.standard_normal(1_000_000).astype(np.float32)
for name in ("ReLU", "leaky, a = 5.5", "ELU"):
    print(f"{name:15} mean {functions[name](normal).mean():.3f}")

# %% [markdown]
# > Keras's documentation calls $\alpha$ a *slope*: of the negative part at the layer, of the positive part
# > at the function. It is the depth: far to the left ELU is $-\alpha$. With any $\alpha$ but 1 the
# > derivative jumps at 0.
#
# ## Leaky, parametric, randomised
#
# > **Division or multiplication.** The article follows Xu et al. (2015), where leaky ReLU is $x / a$ with
# > $a$ above 1: 100 for the usual one, 5.5 for a *very leaky* one. Everyone else multiplies by a slope.
# > In Keras the layer's default slope is 0.3, and that of the function of the same name 0.2.
# >
# > **PReLU.** He et al. multiply too, with a slope that begins at 0.25. In Keras it begins at **0**, so
# > that an untrained PReLU is a ReLU; and there is one slope for every *position* of a map, not one for a
# > channel, unless `shared_axes=[1, 2]` says so.
# >
# > **The acoustic model.** Leaky ReLU comes from a paper on speech (Maas et al. 2013). The article's
# > *phonon model* is an *acoustic model* that was lost in translation. And its comparison *of ReLU, leaky
# > ReLU, PReLU and ReLU* means RReLU at the end.

# %%
numbers = np.array([-5.5, -1, 2], np.float32)
print("leaky, a = 5.5:    ", cc.leaky_divide(numbers))
print("leaky, slope 0.2:  ", cc.leaky_relu(numbers))
twice = np.stack([numbers, numbers], axis=1)
print("PReLU, 0 and 0.25: ", *cc.prelu(twice, np.array([0, 0.25], np.float32)).T)

# %% [markdown]
# RReLU draws $a$ anew for every number while it learns. In use it has to be fixed. To what?
#
# > **Three answers.** Xu et al. test with $a = (3 + 8) / 2$. PyTorch draws the slope itself from
# > $U(1/8, 1/3)$ and tests with its middle. And the mean of $1/a$, if $a$ is drawn from $U(3, 8)$, is
# > neither. The paper is not at one with itself either: its formula multiplies, and its text divides.
# > Keras has no RReLU.

# %%
draws = cc.rrelu(np.full(1_000_000, -1, np.float32), training=True, seed=1)
print(f"the paper's test:         1 / 5.5         = {1 / 5.5:.4f}")
print(f"PyTorch's test:           (1/8 + 1/3) / 2 = {(1 / 8 + 1 / 3) / 2:.4f}")
print(f"mean over U(3, 8):        ln(8/3) / 5     = {math.log(8 / 3) / 5:.4f}")
print(f"mean of a million draws:                    {-draws.mean():.4f}")
print("convcore in use:                           ", -cc.rrelu(np.array([-1], np.float32))[0])

# %% [markdown]
# ## Noise
#
# The article shows one picture of a noisy activation, Nair and Hinton's: noise is added before the
# ReLU, and there is the more of it the larger the sigmoid. $\sigma(x)$ is its **variance**.

# %%
figure, axes = plt.subplots(figsize=(5, 3), num="Outputs of the noisy ReLU for three inputs")
for value in (-1, 0, 2):
    many = np.full(200_000, value, np.float32)
    out = cc.noisy_relu(many, training=True, seed=3)
    variance = 1 / (1 + math.exp(-value))
    axes.hist(out, bins=80, range=(0, 5), density=True, histtype="step", label=f"x = {value}")
    # The mean of max(0, x + z) for a normal z, in closed form.
    t = value / variance**0.5
    bell = math.exp(-t * t / 2) / math.sqrt(2 * math.pi)
    mean = value * (1 + math.erf(t / 2**0.5)) / 2 + variance**0.5 * bell
    print(f"x = {value:2}: mean {out.mean():.3f}, by formula {mean:.3f}, in use {max(value, 0)}")
axes.set(xlabel="output", ylabel="density", ylim=(0, 1.2))
axes.legend()
plt.show()

# %% [markdown]
# > Keras has no such layer. `GaussianNoise` in front of a ReLU is the nearest: its noise has the same
# > spread everywhere, and is gone when the network is in use.
#
# ## Twenty layers deep
#
# > The article says that functions that do not saturate **solve** the exploding or vanishing gradient.
# > Let us see. A gradient goes backwards through twenty layers of 128 units: each multiplies it by the
# > derivative, then by the weights.


# %%
def gradient_sizes(function, derivative, gain, layers=20, units=128, seed=0):
    """Size of the gradient at each layer, last one first, for weights N(0, gain / units)."""
    rng = np.random.default_rng(seed)
    weights = [rng.normal(0, (gain / units) ** 0.5, (units, units)) for _ in range(layers)]
    values, inputs = rng.standard_normal((32, units)), []
    for w in weights:
        inputs.append((values @ w).astype(np.float32))
        values = function(inputs[-1])
    gradient = rng.standard_normal((32, units))
    sizes = [np.linalg.norm(gradient)]
    for w, z in zip(weights[::-1], inputs[::-1]):
        gradient = (gradient * derivative(z)) @ w.T
        sizes.append(np.linalg.norm(gradient))
    return np.array(sizes) / sizes[0]


# %%
figure, axes = plt.subplots(figsize=(5, 3.6), num="A gradient on its way back, twenty layers")
networks = [("sigmoid", 1), ("tanh", 1), ("ELU", 1), ("ReLU", 2), ("ReLU", 1), ("ReLU", 4)]
for name, gain in networks:
    sizes = gradient_sizes(functions[name], derivatives[name], gain)
    style = {1: "-", 2: "--", 4: ":"}[gain] if name == "ReLU" else "-"
    axes.semilogy(sizes, style, label=f"{name}, weights {gain}/n")
    print(f"{name:8} weights of variance {gain}/n: times {sizes[-1]:.1e} after twenty layers")
axes.set(xlabel="layers back", ylabel="size of the gradient", xticks=range(0, 21, 5))
axes.legend(fontsize=8.5)
plt.show()

# %% [markdown]
# The sigmoid's derivative is a quarter at most, and twenty quarters, multiplied, are nothing. ReLU hands
# the gradient on as it came if the weights have the variance $2 / n$ that belongs to it (He et al. 2015).
# With $1 / n$ it vanishes as well; with $4 / n$ it explodes. The function is one half of the remedy.
# How weights begin, and normalisation, which is in the next chapter, are the other.
