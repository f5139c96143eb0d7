"""Every public operation as a case: its name and a problem string are a workload.

    conv2d:mb1ic64ih56oc128oh56kh3ph1      softmax:4096x1000

A case is a graph of one operation (a separable convolution: two) with seeded weights, like those of
networks, so that the same adapters build it in other libraries. Here it is computed by the public function,
on arrays and with ``out=``, which :func:`public_call` calls in :mod:`convcore` or in :mod:`convcore.cuda`.

A few operations are nodes of no network: ``correlate``, ``convolve`` (with zeros beyond the edge, which all
libraries know), ``resample`` and ``hu_rescale``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from convcore.activations import NAMES as ACTIVATIONS
from convcore.bench.building import Builder, Case
from convcore.bench.formats import UnsupportedError
from convcore.bench.problem import Problem, parse, parse_dimensions
from convcore.errors import ArgumentError
from convcore.loader.graph import Graph, Node

__all__ = ["OPERATIONS", "OPERATION_CASES", "Operation", "is_call", "operation_case", "public_call", "sweep"]

GROUP = "operation"
#: What the source of a graph says that is a call of a public function.
_FORM = "operation"
#: Lengths of an array that is in the caches, and of one that is in none: 4 KiB and 64 MiB.
_SMALL, _LARGE = "1000", "4096x4096"


@dataclass(frozen=True)
class Operation:
    """A public operation: how its problem strings are read, and the problems that it is measured on.

    `fields` are those of :mod:`.problem`; none: lengths such as 4096x1000. `add` puts its nodes behind the
    input.
    """

    name: str
    family: str
    problems: tuple[str, ...]
    add: Callable[[Builder, Any], Builder]
    fields: tuple[str, ...] = ()
    rank: int | None = None
    geometry: str = ""
    batched: bool = True

    def read(self, text: str) -> Problem | tuple[int, ...]:
        """Return the sizes of a problem string, or raise an ArgumentError that says what is wrong."""
        if not self.fields:
            return parse_dimensions(self.name, text)
        defaults: dict[str, int] = {name: 1 for name in ("mb", "g") if name in self.fields}
        found = parse(self.name, text, self.fields, rank=self.rank, geometry=self.geometry, defaults=defaults)
        if self.rank is None and not found.rank and "k" in self.fields:
            raise ArgumentError(f"bench {self.name}", f"problem {text!r}", expected="axes, such as ih64")
        return found


def _window(p: Problem) -> dict[str, Any]:
    return {
        "strides": p.along["s"],
        "dilation": tuple(d + 1 for d in p.along["d"]),
        "padding": p.padding,
    }


def _conv(b: Builder, p: Problem) -> Builder:
    groups, ic, oc = p["g"], p["ic"], p["oc"]
    if ic % groups or oc % groups:
        raise ArgumentError(
            f"bench {p.operation}", "channels", got=f"ic{ic} oc{oc}", expected=f"g{groups} parts"
        )
    weights = b.weights(*p.along["k"], ic // groups, oc, biases=oc)
    return b.add("conv", (*p.along["o"], oc), weights, groups=groups, **_window(p))


def _depthwise(b: Builder, p: Problem) -> Builder:
    ic = p["ic"]
    weights = b.weights(*p.along["k"], ic, 1, biases=ic)
    return b.add("depthwise_conv", (*p.along["o"], ic), weights, **_window(p))


def _separable(b: Builder, p: Problem) -> Builder:
    ic, oc, window = p["ic"], p["oc"], _window(p)
    ones = (1,) * p.rank
    depthwise = b.weights(*p.along["k"], ic, 1, biases=ic)
    depthwise["bias"] = np.zeros_like(depthwise["bias"])  # the layer has one bias, the last
    b.add("depthwise_conv", (*p.along["o"], ic), depthwise, **window)
    alone = {"strides": ones, "dilation": ones, "padding": ((0, 0),) * p.rank, "groups": 1}
    return b.add("conv", (*p.along["o"], oc), b.weights(*ones, ic, oc, biases=oc), **alone)


def _transposed(b: Builder, p: Problem) -> Builder:
    weights = b.weights(*p.along["k"], p["oc"], p["ic"], biases=p["oc"])
    return b.add("conv_transpose", (*p.along["o"], p["oc"]), weights, output_size=p.along["o"], **_window(p))


def _pool(kind: str) -> Callable[[Builder, Problem], Builder]:
    def add(b: Builder, p: Problem) -> Builder:
        window = {"pool_size": p.along["k"], "strides": p.along["s"], "padding": p.padding}
        more = {"include_padding": False} if kind == "average_pool" else {}
        return b.add(kind, (*p.along["o"], p["ic"]), **window, **more)

    return add


def _global_pool(kind: str) -> Callable[[Builder, Problem], Builder]:
    return lambda b, p: b.add(kind, (p["ic"],), keepdims=False)


def _resize(b: Builder, p: Problem) -> Builder:
    return b.add("resize", (*p.along["o"], p["ic"]), size=p.along["o"], interpolation="bilinear")


def _upsample(b: Builder, p: Problem) -> Builder:
    inputs, outputs = p.along["i"], p.along["o"]
    if any(o % i for i, o in zip(inputs, outputs, strict=True)):
        raise ArgumentError("bench upsample", "output", got=outputs, expected=f"whole multiples of {inputs}")
    size = tuple(o // i for i, o in zip(inputs, outputs, strict=True))
    return b.add("upsample", (*outputs, p["ic"]), size=size)


def _pad(b: Builder, p: Problem) -> Builder:
    out = tuple(i + 2 * n for i, n in zip(p.along["i"], p.along["p"], strict=True))
    return b.add("pad", (*out, p["ic"]), padding=(*p.padding, (0, 0)))


def _crop(b: Builder, p: Problem) -> Builder:
    out = tuple(i - 2 * n for i, n in zip(p.along["i"], p.along["p"], strict=True))
    if min(out) < 1:
        raise ArgumentError("bench crop", "output", got=out, expected="at least 1 sample")
    return b.add("crop", (*out, p["ic"]), cropping=(*p.padding, (0, 0)))


def _filter(kind: str) -> Callable[[Builder, Problem], Builder]:
    def add(b: Builder, p: Problem) -> Builder:
        kernel = b.weights(*p.along["k"], 1, biases=1)["kernel"][..., 0]
        return b.add(kind, p.along["i"], {"kernel": kernel})

    return add


def _prelu(b: Builder, sizes: tuple[int, ...]) -> Builder:
    return b.add("prelu", sizes, {"alpha": b.weights(sizes[-1], 1, biases=1)["kernel"][:, 0]})


def _activation(kind: str) -> Callable[[Builder, tuple[int, ...]], Builder]:
    return lambda b, sizes: b.activation(kind)


#: Fields of the families: see :mod:`.problem`.
_CONV = ("mb", "g", "ic", "i", "oc", "o", "k", "s", "d", "p")
_DEPTHWISE = ("mb", "ic", "i", "o", "k", "s", "d", "p")
_SEPARABLE = ("mb", "ic", "i", "oc", "o", "k", "s", "d", "p")
_POOL = ("mb", "ic", "i", "o", "k", "s", "p")
_MAP = ("mb", "ic", "i")


def _operations() -> dict[str, Operation]:
    def many(
        family: str, add: Any, fields: tuple[str, ...], geometry: str, problems: Mapping[str, tuple[str, ...]]
    ) -> Iterator[Operation]:
        for name, texts in problems.items():
            rank = next(r for r in (1, 2, 3) if f"{r}d" in name)
            yield Operation(name, family, texts, add, fields, rank, geometry)

    volume = "ic32id32"
    found = [
        *many("convolution", _conv, _CONV, "window", {
            "conv1d": ("ic64iw4096oc64ow4096kw5", "ic1iw16384oc16ow16384kw9"),
            "conv2d": ("ic64ih56oc128oh56kh3", "ic256ih28oc256oh28kh1", "ic3ih224oc64oh112kh7sh2ph3",
                       "ic64ih56oc64oh56kh3dh1", "g4ic64ih56oc64oh56kh3", "ic1ih8oc1oh8kh3"),
            "conv3d": (f"{volume}oc32od32kd3", "ic1id64oc16od64kd3"),
        }),
        *many("convolution", _depthwise, _DEPTHWISE, "window", {
            "depthwise_conv1d": ("ic64iw4096ow4096kw9",),
            "depthwise_conv2d": ("ic128ih56oh56kh3", "ic240ih28oh28kh5"),
        }),
        *many("convolution", _separable, _SEPARABLE, "window", {
            "separable_conv1d": ("ic64iw4096oc64ow4096kw9",),
            "separable_conv2d": ("ic128ih56oc128oh56kh3",),
        }),
        *many("convolution", _transposed, _SEPARABLE, "transposed", {
            "conv1d_transpose": ("ic64iw2048oc32ow4096kw4sw2",),
            "conv2d_transpose": ("ic64ih56oc32oh112kh4sh2", "ic64ih56oc32oh112kh2sh2"),
            "conv3d_transpose": ("ic32id16oc16od32kd2sd2",),
        }),
        *(Operation(name, "convolution", ("iw100000kw31", "ih256kh7", "ih1024kh3", "ih1024kh11", "id64kd5"),
                    _filter(name), ("i", "k"), batched=False) for name in ("convolve", "correlate")),
        Operation("dense", "dense", ("mb1ic4096oc1000", "mb60ic784oc500"),
                  lambda b, p: b.dense(p["oc"]), ("mb", "ic", "oc"), 0),
        *(Operation(name, "pooling", ("ic64ih112oh56kh2sh2", "ic64ih112oh56kh3sh2ph1", f"{volume}od16kd2sd2"),
                    _pool(name), _POOL, geometry="window") for name in ("max_pool", "average_pool")),
        *(Operation(name, "pooling", ("ic512ih7", "mb8ic64ih112"), _global_pool(name), _MAP)
          for name in ("global_max_pool", "global_average_pool")),
        Operation("batch_norm", "elementwise", ("ic64ih112", "ic64ih512"), lambda b, p: b.batch_norm(), _MAP),
        Operation("softmax", "elementwise", ("64x1000", "4096x1000"), lambda b, p: b.softmax()),
        Operation("prelu", "elementwise", ("64x64", _LARGE), _prelu),
        *(Operation(name, "elementwise", (_SMALL, _LARGE), _activation(name))
          for name in ACTIVATIONS if name != "linear"),
        Operation("hu_rescale", "moving samples", ("16x512x512",),
                  lambda b, sizes: b.add("hu_rescale", sizes, slope=1.0, intercept=-1024.0)),
        Operation("resample", "moving samples", ("id64od96",), lambda b, p: b.add("resample", p.along["o"]),
                  ("i", "o"), 3, batched=False),
        Operation("resize", "moving samples", ("ic3ih512oh224", "ic64ih56oh112"), _resize,
                  ("mb", "ic", "i", "o"), 2),
        Operation("upsample", "moving samples", ("ic64ih56oh112", "ic32id16od32"), _upsample,
                  ("mb", "ic", "i", "o")),
        Operation("zero_pad", "moving samples", ("ic64ih112ph1",), _pad, ("mb", "ic", "i", "p")),
        Operation("crop", "moving samples", ("ic64ih112ph8",), _crop, ("mb", "ic", "i", "p")),
    ]  # fmt: skip
    return {one.name: one for one in found}


#: Every public operation by name.
OPERATIONS: Mapping[str, Operation] = _operations()


def operation_case(name: str, text: str, group: str = GROUP) -> Case:
    """Return the case of an operation and a problem string.

    Raises
    ------
    ArgumentError
        There is no such operation, or the string does not fit it.

    Examples
    --------
    >>> found = operation_case("conv2d", "ic64ih56oc128kh3ph1")
    >>> found.name, found.batch, found.shape
    ('conv2d:mb1ic64ih56oc128oh56kh3ph1', 1, (56, 56, 64))
    """
    if name not in OPERATIONS:
        raise ArgumentError("bench", "no such operation", got=name, expected=", ".join(OPERATIONS))
    operation = OPERATIONS[name]
    found = operation.read(text)
    if isinstance(found, tuple):
        batch, shape, text = 1, found, "x".join(map(str, found))
    elif operation.batched:
        batch, shape, text = found["mb"], (*found.along.get("i", ()), found["ic"]), found.text
    else:
        batch, shape, text = 1, found.along["i"], found.text
    full = f"{name}:{text}"

    def build() -> Graph:
        return operation.add(Builder(full, shape), found).graph(_FORM)

    build()  # what does not fit is said now, and not in another process
    return Case(full, group, shape, build, False, "int16" if name == "hu_rescale" else "float32", batch)


#: Every operation with the problems that are measured unless others are asked for: (name, problem string).
OPERATION_CASES = tuple((name, text) for name, one in OPERATIONS.items() for text in one.problems)


def sweep(case: Case, scales: tuple[float, ...] = (0.25, 0.5, 1, 2)) -> list[Case]:
    """Return the case at several sizes of its input: along every axis, or of the only length, times `scales`.

    Sizes at which the problem cannot be, such as windows larger than the input, are left out.

    Examples
    --------
    >>> [c.name for c in sweep(operation_case("correlate", "ih256kh7"), (0.5, 1))]
    ['correlate:ih128kh7', 'correlate:ih256kh7']
    """
    name, _, text = case.name.partition(":")
    operation, found = OPERATIONS[name], []
    problem = operation.read(text)
    for scale in scales:
        if isinstance(problem, tuple):
            sizes = (max(1, round(problem[0] * scale)), *problem[1:])
            scaled = "x".join(map(str, sizes))
        else:
            words = {"i": [max(1, round(n * scale)) for n in problem.along.get("i", ())]}
            if "o" in problem.along:  # as many outputs for each input as before
                words["o"] = [
                    max(1, round(i * o / n))
                    for i, o, n in zip(words["i"], problem.along["o"], problem.along["i"], strict=True)
                ]
            scaled = _rewritten(operation, problem, words)
        try:
            found.append(operation_case(name, scaled, case.group))
        except ArgumentError:
            continue
    return list({one.name: one for one in found}.values())


def _rewritten(operation: Operation, problem: Problem, changed: Mapping[str, list[int]]) -> str:
    axes = "dhw"[3 - problem.rank :]
    # Where padding is alike on both sides the output follows from it, at any size.
    follows = bool(operation.geometry) and all(low == high for low, high in problem.padding)
    words = []
    for field in operation.fields:
        if field in problem.numbers:
            words.append(f"{field}{problem.numbers[field]}")
        elif field in problem.along and not (field == "o" and follows):
            words += [
                f"{field}{a}{n}" for a, n in zip(axes, changed.get(field, problem.along[field]), strict=True)
            ]
    return "".join(words)


# ---------------------------------------------------------------------------------- the public functions


def is_call(graph: Graph) -> bool:
    """Whether a graph stands for a call of a public function on arrays."""
    return graph.source.format == _FORM


def public_call(
    graph: Graph, module: Any, x: Any, y: Any, put: Callable[[Any], Any], **more: Any
) -> Callable[[], object]:
    """Return a call of the public function that the graph stands for, from `x` to `y`.

    Parameters
    ----------
    graph
        Of a case of this module.
    module
        :mod:`convcore`, or :mod:`convcore.cuda`.
    x, y
        Arrays of that module, (n, ...).
    put
        Makes an array of that module of a NumPy one: the weights.
    more
        Further arguments of the function, such as ``stream=``.
    """
    name, arrays, options = _arguments(graph, put)
    function = getattr(module, name)
    if not OPERATIONS[name].batched:
        x, y = x[0], y[0]
    return lambda: function(x, *arrays, **options, out=y, **more)


def prepared_call(graph: Graph, module: Any, x: Any, y: Any) -> Callable[[], object]:
    """Return a call of the prepared kernel (``prepare_conv2d(w, ...)`` and its like): weights are packed.

    Raises
    ------
    UnsupportedError
        The operation has none.
    """
    name, arrays, options = _arguments(graph, lambda array: array)
    prepare = getattr(module, f"prepare_{name}", None)
    if prepare is None:
        raise UnsupportedError(f"convcore has no prepare_{name}")
    kernel = prepare(*arrays, **options)
    return lambda: kernel(x, out=y)


def _arguments(graph: Graph, put: Callable[[Any], Any]) -> tuple[str, list[Any], dict[str, Any]]:
    """The public function's name, its arrays behind x, and its options."""
    name = graph.name.partition(":")[0]
    node: Node = graph.nodes[-1]
    w = {key: put(np.asarray(array)) for key, array in node.weights.items()}
    at = node.attributes
    match node.operation:
        case "conv" if name.startswith("separable"):
            first = graph.nodes[-2]
            depthwise = put(np.asarray(first.weights["kernel"]))
            return name, [depthwise, w["kernel"], w["bias"]], _window_options(first)
        case "conv" | "depthwise_conv" | "conv_transpose":
            return name, [w["kernel"], w["bias"]], _window_options(node)
        case "correlate" | "convolve":
            return name, [w["kernel"]], {"mode": "constant"}
        case "resample":
            return name, [tuple(n or 0 for n in node.shape)], {}
        case "dense":
            return name, [w["kernel"], w["bias"]], {}
        case "max_pool" | "average_pool":
            return name, [at["pool_size"]], {key: at[key] for key in ("strides", "padding")}
        case "batch_norm":
            arrays = [w[key] for key in ("mean", "variance", "gamma", "beta")]
            return name, arrays, {"epsilon": at["epsilon"]}
        case "prelu":
            return name, [w["alpha"]], {}
        case "hu_rescale":
            return name, [at["slope"], at["intercept"]], {}
        case "resize" | "upsample":
            return name, [at["size"]], {}
        case "pad":
            return name, [at["padding"][:-1]], {}
        case "crop":
            return name, [at["cropping"][:-1]], {}
    return name, [], {}


def _window_options(node: Node) -> dict[str, Any]:
    at = node.attributes
    found = {"strides": at["strides"], "dilation_rate": at["dilation"], "padding": at["padding"]}
    return found | ({"groups": at["groups"]} if at.get("groups", 1) > 1 else {})
