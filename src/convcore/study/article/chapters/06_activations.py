# %% [markdown]
# # Activations: what bends the line
#
# Layer upon layer of sums is one sum. What makes a network more than a matrix is a bent function
# between its layers. All those that the article names, with their derivatives, and where these vanish:
# sigmoid, tanh, ReLU, ELU, and the leaky, learned, random and noisy ones.

# %%
import numpy as np
from matplotlib import pyplot as plt

import convcore as cc
from convcore.study import plot_curves


def in_float32(function, **settings):
    """convcore's function as one of float64 numbers, for a drawing."""
    return lambda x: function(x.astype(np.float32), **settings).astype(float)


# %% [markdown]
# ## Those that saturate
#
# $\sigma(x) = 1 / (1 + e^{-x})$ goes from 0 to 1, tanh from -1 to 1. Both become flat on both sides. A
# bar below the right picture marks where the slope is less than 0.5 % of its steepest: there a
# network learns next to nothing.

# %%
saturating = {"sigmoid": in_float32(cc.sigmoid), "tanh": in_float32(cc.tanh)}
plot_curves(saturating, low=-8, high=8)

# %% [markdown]
# The steepest slope of the sigmoid is 1/4. Through ten layers, the chain rule multiplies at most
# $(1/4)^{10}$, a millionth: the *vanishing gradient*.

# %%
x = np.linspace(-8, 8, 4001)
s = 1 / (1 + np.exp(-x))
slopes = {"sigmoid": s * (1 - s), "tanh": 1 - np.tanh(x) ** 2}
for name, slope in slopes.items():
    flat = np.abs(x[slope < 0.005 * slope.max()]).min()
    most = slope.max()
    print(f"{name}: steepest {most:.2f}, to the tenth {most**10:.1e}, flat from {flat:.2f}")

# %% [markdown]
# The two are one function: $\tanh x = 2\,\sigma(2x) - 1$. On paper, that is. In float32 the
# subtraction throws digits away where tanh is small, which is why nobody computes it like that.

# %%
small = np.array([1e-4, 1e-3, 1e-2, 0.1, 1.0], np.float32)
exact = np.tanh(small.astype(float))
for name, value in (("tanh", cc.tanh(small)), ("2 sigmoid - 1", 2 * cc.sigmoid(2 * small) - 1)):
    print(f"{name:14} relative errors", *(f"{e:.0e}" for e in np.abs(value / exact - 1)))

# %% [markdown]
# > The article calls the sigmoid a "hyperbolic function", a slip of translation: tanh is one, the
# > sigmoid is *logistic*. And it gives the closed interval [0, 1]: of real numbers the sigmoid reaches
# > neither end, but in float32 it does.

# %%
print("sigmoid(17) == 1:", cc.sigmoid(np.float32([17]))[0] == 1)
print("sigmoid(16) == 1:", cc.sigmoid(np.float32([16]))[0] == 1)
print("sigmoid(-100):", cc.sigmoid(np.float32([-100]))[0], " in float64:", 1 / (1 + np.exp(100)))

# %% [markdown]
# ## Those that do not
#
# ReLU is $\max(x, 0)$: its slope is 1 on the right however far one goes, and 0 on the left. ELU goes on
# to the left as $\alpha(e^x - 1)$ and saturates there, at $-\alpha$.
#
# > The article has ReLU from "Hinton's paper in Nature". It is Nair and Hinton at ICML 2010.

# %%
plot_curves({"ReLU": in_float32(cc.relu), "ELU": in_float32(cc.elu)}, low=-6, high=3)

# %%
tiny = np.float32([-1e-8])
print("ELU at -1e-8:", cc.elu(tiny)[0], " exp(x) - 1 there:", np.exp(tiny)[0] - 1)
print("ELU at -100: ", cc.elu(np.float32([-100]))[0])

# %% [markdown]
# ## A leak on the left
#
# A unit whose sum is always negative has slope 0 for ever: a *dead* ReLU. A small slope on the left
# keeps it alive. Four ways, which the article compares in one figure (where it lists "ReLU" twice; the
# last is RReLU):
#
# | name | on the left | the number |
# |---|---|---|
# | leaky | $x / a$ | fixed, in $(1, \infty)$ |
# | PReLU | $x / a$, in Keras $\alpha x$ | learned |
# | RReLU | $x / a$ | random in training, its middle afterwards |
# | ReLU | 0 | |

# %%
plot_curves(
    {
        "ReLU": in_float32(cc.relu),
        "leaky, a = 100": in_float32(cc.leaky_divide, a=100.0),
        "leaky, a = 5.5": in_float32(cc.leaky_divide, a=5.5),
        "PReLU, 0.25": in_float32(cc.prelu, alpha=np.float32([0.25])),
    },
    low=-6,
    high=3,
)

# %% [markdown]
# > **Divide or multiply?** Xu and others (2015), whom the article follows, divide: $x / a$ with $a > 1$.
# > Keras multiplies, and has two defaults: 0.3 in the layer `LeakyReLU`, 0.2 in the function
# > `leaky_relu`. Its PReLU multiplies too, begins with 0, which is a ReLU, and learns one number for
# > each *position* unless `shared_axes` says otherwise.

# %%
x = np.float32([-5.5, -1, 2])
print("divided by 5.5:  ", *cc.leaky_divide(x, a=5.5))
print("times 1 / 5.5:   ", *cc.leaky_relu(x, negative_slope=1 / 5.5))
print("times 0.3 (Keras)", *cc.leaky_relu(x, negative_slope=0.3))

# %% [markdown]
# ## Random ones
#
# RReLU draws its $a$ from 3 to 8 for each number, as long as it trains; afterwards it takes the middle,
# 5.5. Noisy ReLU adds a normal number before the bend: $\max(0, x + z)$, where the *variance* of $z$ is
# $\sigma(x)$; afterwards none.

# %%
x = np.linspace(-6, 3, 1500, dtype=np.float32)
figure, panels = plt.subplots(
    1, 2, figsize=(6.6, 3), num="Points: in training, each draws its own number; lines: afterwards"
)
for axes, name, function in zip(panels, ("RReLU", "noisy ReLU"), (cc.rrelu, cc.noisy_relu)):
    axes.plot(x, function(x, training=True, seed=1), ".", color="C0", markersize=2, alpha=0.6)
    axes.plot(x, function(x), color="C1")
    axes.set(title=name, xlabel="x")
panels[0].set_ylabel("f(x)")
plt.show()

# %% [markdown]
# > **What is RReLU's slope afterwards?** The paper contradicts itself: its equation multiplies, its
# > text and its test rule divide. There are three numbers in use, and a file has to say which.
# > Keras has no RReLU at all.

# %%
draws = 1 / np.random.default_rng(3).uniform(3, 8, 1_000_000)
print(f"the paper's, one over the mean of a: 1 / 5.5 = {1 / 5.5:.4f}")
print(f"the mean of 1 / a: ln(8 / 3) / 5 = {np.log(8 / 3) / 5:.4f}, drawn {draws.mean():.4f}")
print(f"PyTorch's, which draws the slope from 1/8 to 1/3: {(1 / 8 + 1 / 3) / 2:.4f}")
one = np.full(1_000_000, -1, np.float32)
print(f"convcore in training, mean: {-cc.rrelu(one, training=True, seed=2).mean():.4f}")

# %%
for value in (-0.5, 0.0, 2.0):
    many = np.full(400_000, value, np.float32)
    z = np.random.default_rng(4).normal(scale=(1 / (1 + np.exp(-value))) ** 0.5, size=many.size)
    ours = cc.noisy_relu(many, training=True, seed=5).mean()
    numpy = np.maximum(0, value + z).mean()
    print(f"noisy ReLU at {value:4.1f}: mean {ours:.3f}, by NumPy's draws {numpy:.3f}")

# %% [markdown]
# ## All of them
#
# "Saturating" means that the slope goes to 0 on *both* sides. ELU does so on the left only, and that is
# why the article lists it apart. That the others "solve" vanishing gradients says too much: a slope of
# 1 neither shrinks nor grows, but the weights between still do.

# %%
functions = {
    "sigmoid": cc.sigmoid, "tanh": cc.tanh, "ReLU": cc.relu, "ELU": cc.elu,
    "leaky": cc.leaky_divide,
    "PReLU": lambda x: cc.prelu(x, np.float32([0.25])), "RReLU": cc.rrelu, "noisy": cc.noisy_relu,
}  # fmt: skip
print(f"{'':8} {'f(-30)':>8} {'f(30)':>8} {'slope left':>11} {'slope right':>12}")
for name, function in functions.items():
    a, b, c, d = function(np.float32([-30, -29, 29, 30])).astype(float)
    print(f"{name:8} {a:8.4g} {d:8.4g} {b - a:11.3f} {d - c:12.3f}")

# %% [markdown]
# > Names do not protect: Keras's `hard_sigmoid` was $0.2x + 0.5$, cut at 0 and 1, until version 3.2,
# > and is $x/6 + 0.5$ since 3.3. A file that was trained with one is wrong by up to 1/12 with the
# > other. Whoever reads files must look at the version in them.

# %%
x = np.linspace(-4, 4, 8001)
before, since = np.clip(0.2 * x + 0.5, 0, 1), cc.hard_sigmoid(x.astype(np.float32))
worst = np.abs(before - since).argmax()
print(f"largest difference {np.abs(before - since)[worst]:.5f} at x = {x[worst]:.2f}")
print(f"1/12 = {1 / 12:.5f}")
