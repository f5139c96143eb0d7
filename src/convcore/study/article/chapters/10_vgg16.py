# %% [markdown]
# # VGG16, cats and dogs
#
# The article ends with photographs: VGG16, which knows a thousand kinds of things, and how to make it
# tell cats from dogs. We write the network down, count it, prepare pictures for it, ask it (and a
# network 291 times smaller) about photographs, and look inside.
#
# ## Twenty lines for a famous network
#
# VGG16 is five blocks of 3x3 convolutions, each block followed by a 2x2 maximum, and three dense
# layers. Keras describes a network as JSON; a few helpers write ours.

# %%
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from matplotlib import cbook
from matplotlib import pyplot as plt

import convcore as cc
from convcore.inputs import preprocess, read_labels, read_picture
from convcore.study.article import find


# %%
def layer(kind, name, **settings):
    return {"class_name": kind, "config": {"name": name, **settings}}


def convolution(name, filters, size, stride=1, padding="same", bias=True, activation="linear"):
    settings = {"kernel_size": [size, size], "strides": [stride, stride], "padding": padding}
    settings |= {"use_bias": bias, "activation": activation}
    return layer("Conv2D", name, filters=filters, **settings)


picture_input = layer("InputLayer", "input", batch_input_shape=[None, 224, 224, 3])

vgg16 = [picture_input]
for block, (filters, repeats) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), 1):
    for i in range(1, repeats + 1):
        vgg16.append(convolution(f"block{block}_conv{i}", filters, 3, activation="relu"))
    vgg16.append(layer("MaxPooling2D", f"block{block}_pool", pool_size=[2, 2], strides=[2, 2]))
vgg16 += [
    layer("Flatten", "flatten"),
    layer("Dense", "fc1", units=4096, activation="relu"),
    layer("Dense", "fc2", units=4096, activation="relu"),
    layer("Dense", "predictions", units=1000, activation="softmax"),
]
print(len(vgg16), "layers")

# %% [markdown]
# ## Counting
#
# A 3x3 convolution from $c$ to $f$ channels has $9cf + f$ weights, and multiplies $9cf$ numbers at
# every pixel. A dense layer multiplies once for each weight.

# %%
side, channels, rows = 224, 3, []
for entry in vgg16[1:]:
    settings = entry["config"]
    if entry["class_name"] == "Conv2D":
        kernel = 9 * channels * settings["filters"]
        channels = settings["filters"]
        rows.append((settings["name"], kernel + channels, kernel * side * side))
    elif entry["class_name"] == "MaxPooling2D":
        side //= 2
    elif entry["class_name"] == "Flatten":
        channels = channels * side * side
    else:
        kernel = channels * settings["units"]
        channels = settings["units"]
        rows.append((settings["name"], kernel + channels, kernel))
names, parameters, products = zip(*rows)
print(f"{sum(parameters):,} parameters, {sum(products):,} multiplications a picture")

figure, (left, right) = plt.subplots(
    1, 2, sharey=True, num="Where VGG16 has its weights, and where it has its work"
)
left.barh(names, np.array(parameters) / 1e6)
left.set_xlabel("million parameters")
left.invert_yaxis()
right.barh(names, np.array(products) / 1e9, color="C1")
right.set_xlabel("billion multiplications")
plt.show()

# %% [markdown]
# Three quarters of the weights are in the first dense layer, nearly all work is in the convolutions.
#
# > The article says that VGG **won** ImageNet 2014. It was second in classification and first in
# > localisation; GoogLeNet won the classification. And fast.ai's `Vgg16` puts a layer of zeros round
# > each map and then convolves without padding. That is the same as Keras's `same` padding, for 3x3.
#
# ## Preparing pictures
#
# VGG was trained with Caffe: blue first, and the mean colour of ImageNet taken away. fast.ai subtracts
# and then reverses the channels; Keras reverses and then subtracts. It makes no difference:

# %%
random = np.random.default_rng(1).uniform(0, 255, (4, 4, 3)).astype(np.float32)
fast_ai = (random - np.array([123.68, 116.779, 103.939], np.float32))[..., ::-1]
keras = preprocess(random, "caffe")
print("equal:", np.array_equal(fast_ai, keras))

# %% [markdown]
# > In fast.ai's file this step is a layer of the network, a `Lambda`. A `Lambda` is Python code inside
# > a model file; Keras 3 refuses to run it unless it is told to, and convcore never does.
#
# Pictures are squeezed to 224x224, whatever their shape was.

# %%
files = [find(name, default=None) for name in ("chelsea.png", "tfjs_cat.jpg", "jetson_dog_2.jpg")]
files = [file for file in files if file]
files.append(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
pictures = np.stack([read_picture(file, (224, 224), interpolation="bilinear") for file in files])


def show(axes, picture):
    axes.imshow(picture.astype(np.uint8))
    axes.axis("off")


figure, panels = plt.subplots(
    1, len(files), figsize=(6.6, 2), squeeze=False, num="The photographs, as the networks get them"
)
for axes, picture in zip(panels[0], pictures):
    show(axes, picture)
plt.show()

# %% [markdown]
# ## Asking VGG16
#
# The trained weights are a file of 553 MB, which is not part of convcore.


# %%
def load(layers, weights):
    """A network from its layers, as Keras's JSON, and a file of weights."""
    network = {"class_name": "Sequential", "config": {"name": "network", "layers": layers}}
    with tempfile.TemporaryDirectory() as folder:
        description = Path(folder, "network.json")
        network |= {"keras_version": "2.3.1", "backend": "tensorflow"}
        description.write_text(json.dumps(network))
        return cc.load_model(weights, architecture=description)


# %%
labels = read_labels(find("imagenet_class_index.json"))


def best(row, count=3):
    order = np.argsort(row)[::-1][:count]
    return "  ".join(f"{labels[i]} {row[i]:.3f}" for i in order)


# %%
network = load(vgg16, find("vgg16_weights_tf_dim_ordering_tf_kernels.h5"))
print(f"{network.graph.parameters:,} parameters")
answers = network.predict(preprocess(pictures, "caffe"))
for file, row in zip(files, answers):
    print(f"{Path(file).name:18}", best(row))

# %%
one = preprocess(pictures[:1], "caffe")
network(one)  # the first call finds out how to compute best
start = time.perf_counter()
network(one)
seconds = time.perf_counter() - start
print(f"{seconds * 1000:.0f} ms a picture: {2 * sum(products) / seconds / 1e9:.0f} GFLOP/s")

# %% [markdown]
# ## Asking a small one
#
# MobileNet of width 0.25 was trained on the same thousand classes. Its trick: a convolution for each
# channel by itself, then one of 1x1 across channels. Layer by layer, as
# Keras has it:


# %%
def normalised(name):
    return [
        layer("BatchNormalization", f"{name}_bn", axis=-1, epsilon=0.001),
        layer("ReLU", f"{name}_relu", max_value=6.0),
    ]


def zeros(name):
    return layer("ZeroPadding2D", name, padding=[[0, 1], [0, 1]])


mobilenet = [picture_input, zeros("conv1_pad"), convolution("conv1", 8, 3, 2, "valid", bias=False)]
mobilenet += normalised("conv1")
widths = (16, 32, 32, 64, 64, *(128,) * 6, 256, 256)
strides = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
for i, (filters, stride) in enumerate(zip(widths, strides), 1):
    padding = "same"
    if stride == 2:
        mobilenet.append(zeros(f"conv_pad_{i}"))
        padding = "valid"
    sizes = {"kernel_size": [3, 3], "strides": [stride, stride], "padding": padding}
    mobilenet.append(layer("DepthwiseConv2D", f"conv_dw_{i}", use_bias=False, **sizes))
    mobilenet += normalised(f"conv_dw_{i}")
    mobilenet.append(convolution(f"conv_pw_{i}", filters, 1, bias=False))
    mobilenet += normalised(f"conv_pw_{i}")
mobilenet += [
    layer("GlobalAveragePooling2D", "average"),
    layer("Reshape", "reshape_1", target_shape=[1, 1, 256]),
    convolution("conv_preds", 1000, 1),
    layer("Reshape", "reshape_2", target_shape=[1000]),
    layer("Activation", "act_softmax", activation="softmax"),
]
print(len(mobilenet), "layers")

# %%
weights = find("mobilenet_2_5_224_tf.h5", "mobilenet_0.25_224_weights_from_tfjs.h5")
small = load(mobilenet, weights)
size = small.graph.parameters
print(f"{size:,} parameters, {sum(parameters) / size:.0f} times fewer than VGG16")
answers = small.predict(preprocess(pictures, "tf"))
for file, row in zip(files, answers):
    print(f"{Path(file).name:18}", best(row))

# %% [markdown]
# ImageNet has no class for people: whoever is shown a portrait gets its clothes.
#
# ## Looking inside
#
# `trace` returns what every layer gave. Early maps are still pictures, of edges and colours; with depth
# they become coarse, and say *whether* and *where about*. `convcore study MODEL PICTURE -o report.html`
# shows all maps of all layers, and the numbers behind each value.

# %%
trace = small.trace(preprocess(pictures[:1], "tf"))
figure, panels = plt.subplots(
    3, 8, figsize=(6.6, 2.7), num="Eight maps of an early, a middle and a late layer"
)
for line, name in zip(panels, ("conv_pw_1_relu", "conv_pw_5_relu", "conv_pw_11_relu")):
    maps = trace[name][0]
    strongest = np.argsort(maps.max(axis=(0, 1)))[::-1][:8]
    for axes, channel in zip(line, strongest):
        axes.imshow(maps[:, :, channel], cmap="viridis")
        axes.set(xticks=[], yticks=[])
    line[0].set_ylabel("{}x{}".format(*maps.shape[:2]))
plt.show()

# %% [markdown]
# ## Cats and dogs without training
#
# Of the thousand classes 118 are dogs (151 to 268) and five are cats (281 to 285). We add
# up, and see which sum is larger. The photographs are Kaggle's, from its competition *Dogs vs. Cats*.

# %%
folder = find("dogs-vs-cats", "kaggle")
photos = [sorted(folder.rglob(f"{animal}.*.jpg"))[:5] for animal in ("cat", "dog")]
photos = [*photos[0], *photos[1]]
is_dog = np.array([file.name.startswith("dog") for file in photos])
print(len(photos), "photographs")

# %%
batch = np.stack([read_picture(file, (224, 224), interpolation="bilinear") for file in photos])
answers = small.predict(preprocess(batch, "tf"))
cat, dog = answers[:, 281:286].sum(axis=1), answers[:, 151:269].sum(axis=1)
print("right:", np.count_nonzero((dog > cat) == is_dog), "of", len(photos))

# %% [markdown]
# ## Networks for cats and dogs
#
# Two small networks that other people have trained for just this, with Keras 2.10 and 2.4. One takes
# colours and ends in a softmax; the other takes grey pictures and ends in plain numbers, whose
# softmax we take ourselves.

# %%
coloured = cc.load_model(find("engineer0940_cats_vs_dogs.keras"))
grey = cc.load_model(find("JeanXL_cats_vs_dogs.h5"))


def dogness(files):
    """Probability of a dog by each of the two networks, shape (photographs, 2)."""
    colours = np.stack([read_picture(file, (150, 150)) for file in files])
    greys = np.stack([read_picture(file, (112, 112), channels=1) for file in files])
    first = coloured.predict(preprocess(colours, "scale"))[:, 1]
    second = cc.softmax(grey.predict(preprocess(greys, "scale")))[:, 1]
    return np.stack([first, second], axis=1)


p = dogness(photos)
for name, column in zip(("coloured", "grey"), p.T):
    print(f"{name:9} right: {np.count_nonzero((column > 0.5) == is_dog)} of {len(photos)}")

figure, panels = plt.subplots(
    2, 5, figsize=(6.6, 3.4), num="Probability of a dog: from colours, and from greys"
)
for axes, file, (first, second) in zip(panels.ravel(), photos, p):
    show(axes, read_picture(file, (150, 150), interpolation="bilinear"))
    axes.set_title(f"{first:.3f}   {second:.3f}")
plt.show()

# %% [markdown]
# All right? Kaggle's photographs are what such networks are trained on, these among them, perhaps. A
# test has to be new to the network. Photographs from elsewhere:

# %%
names = ["chelsea.png", "tfjs_cat.jpg", "caffe_cat.jpg", *(f"jetson_cat_{i}.jpg" for i in range(3))]
names += [*(f"jetson_dog_{i}.jpg" for i in (1, 2, 3)), "darknet_dog.jpg"]
others = [file for name in names if (file := find(name, default=None))]
truth = np.array(["dog" in file.name for file in others])
p = dogness(others) if others else np.empty((0, 2))
for file, row in zip(others, p):
    print(f"{file.name:18} dog: {row[0]:.3f} {row[1]:.3f}")
for name, column in zip(("coloured", "grey"), p.T):
    print(f"{name:9} right: {np.count_nonzero((column > 0.5) == truth)} of {len(others)}")

# %% [markdown]
# ## Teaching VGG16 something new
#
# The article's recipe, fast.ai's seven lines: take VGG16 with its ImageNet weights, take off the last
# layer, freeze the rest, put on a dense layer with two outputs, and train that one for an epoch. How
# much is there to train?

# %%
frozen = sum(parameters[:-1])
new = 4096 * 2 + 2
print(f"{frozen + new:,} parameters, {new:,} of them trained")

# %% [markdown]
# The course reports 98 % on 2,000 photographs after that one epoch. Training is Keras's business, not
# convcore's: `examples/finetune_vgg16.py` does it, and convcore runs what comes out.
#
# > Class folders are numbered in the order of their names: cats 0, dogs 1.
