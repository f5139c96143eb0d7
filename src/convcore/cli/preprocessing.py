"""How pictures become a network's input: as the caller says, or as the model file shows."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from convcore.inputs import PREPROCESSING

if TYPE_CHECKING:
    from convcore.loader.graph import Graph

__all__ = ["add_picture_options", "known_preprocessing"]

#: Layers that scale their input themselves: a model that starts with one takes plain 0..255 pixels.
_SCALING_LAYERS = frozenset({"Rescaling", "Normalization", "Lambda"})
#: How the networks of keras.applications were trained, by the names that they give themselves.
_TRAINED_WITH = {
    "vgg16": "caffe", "vgg19": "caffe", "resnet50": "caffe", "resnet101": "caffe", "resnet152": "caffe",
    "resnet50v2": "tf", "resnet101v2": "tf", "resnet152v2": "tf", "mobilenet": "tf", "mobilenetv2": "tf",
    "xception": "tf", "inception_v3": "tf", "inception_resnet_v2": "tf", "nasnet": "tf",
    "densenet121": "torch", "densenet169": "torch", "densenet201": "torch",
}  # fmt: skip


def add_picture_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options that say how pictures become a model's input, and what its classes are called."""
    parser.add_argument(
        "--labels", metavar="FILE", help="class names: .txt, one a line, or .json as ImageNet's index"
    )
    parser.add_argument(
        "--preprocess",
        choices=list(PREPROCESSING),
        metavar="MODE",
        help="what the network was trained on: caffe (BGR minus mean: VGG, ResNet), tf (-1..1: "
        "MobileNet), torch, scale (0..1) or none; known for models that scale by themselves or are named as "
        "in keras.applications",
    )
    parser.add_argument(
        "--interpolation",
        choices=["nearest", "bilinear"],
        help="how pictures are resized (default nearest, as Keras's load_img)",
    )
    parser.add_argument(
        "--size", type=_size, metavar="HxW", help="picture size, for models that leave it open"
    )


def known_preprocessing(graph: Graph) -> str | None:
    """Return the preprocessing that the file itself makes certain, or None."""
    early = [layer.layer_class for layer in graph.layers if layer.layer_class != "InputLayer"][:2]
    if _SCALING_LAYERS & set(early):
        return "none"
    name = (
        re.sub(r"_?[\d.]+_\d{3}$", "", graph.name.lower())
        if graph.name.lower().startswith("mobilenet")
        else graph.name
    )
    return _TRAINED_WITH.get(name.lower())


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text.lower())
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no HEIGHTxWIDTH, such as 224x224")
    return int(match[1]), int(match[2])
