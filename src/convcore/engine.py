"""Load a Keras-trained model and run it, without Keras."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from convcore.errors import ArgumentError, DeviceError, DTypeError, ModelError
from convcore.loader import load_graph
from convcore.loader.graph import Graph, Layer
from convcore.loader.infer import specialise
from convcore.plan import Device, Plan, build
from convcore.plan.build import library_of
from convcore.run.cpu import CpuRunner
from convcore.tables import text_table

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from convcore.plan.cache import WeightCache
    from convcore.run.cuda import CudaRunner
    from convcore.run.profile import CudaProfile, Profile
    from convcore.run.verify import Verification
    from convcore.study import InputFacts, Report

    FloatArray = NDArray[np.float32]
    Inputs = ArrayLike | Sequence[ArrayLike] | Mapping[str, ArrayLike]
    Runner = CpuRunner | CudaRunner

__all__ = ["Model", "load_model"]

#: Shapes of inputs that take the short way at the same time.
_KEPT_CALLS = 4


def load_model(
    path: str | Path,
    *,
    device: str = "cpu",
    precision: str = "float32",
    accuracy: str = "standard",
    weights: str | Path | None = None,
    architecture: str | Path | None = None,
    kernel_flip: bool | None = None,
    cache: str | Path | bool | None = None,
    verify_cache: bool = False,
) -> Model:
    """Load a model that Keras 1, 2 or 3 has saved.

    Parameters
    ----------
    path
        ``.keras``, ``.h5``, ``.hdf5`` or an architecture ``.json``.
    device
        ``"cpu"``, or ``"cuda"`` for an NVIDIA GPU of the Ampere generation or later.
    precision
        ``"float32"``; on the GPU also ``"tf32"``, whose products have 10 bits after the point, and
        ``"bfloat16"``: values between the steps, and weights of matrix products, have 7 bits after the point
        and half the size. Inputs, outputs, sums, and what a softmax reads are float32 always.
    accuracy
        ``"direct"``: convolutions are sums of products as their definition states them.
        ``"standard"``: 3x3 and 3x3x3 ones with stride 1 may be computed by Winograd's F(4x4, 3x3), on small
        maps F(2x2, 3x3), which need 1/4 and 4/9 of the products; a NaN or infinity then reaches all outputs
        of its tile. ``"fast"``: by F(6x6, 3x3) too, which needs 1/5 of them and has about four
        times the error of F(4x4, 3x3). ``docs/kernels.md`` has measured errors.
    weights
        Weights file, where `path` holds the architecture alone.
    architecture
        JSON file of the architecture, where `path` holds the weights alone.
    kernel_flip
        For files of the Theano era that do not say which backend trained them: True turns every
        convolution kernel by 180 degrees, False takes them as stored.
    cache
        Folder for packed weights, which make the next start of this model several times faster and are
        shared by all processes that use them; True means the folder that the environment variable
        ``CONVCORE_CACHE`` names, else ``~/.cache/convcore``. By default, what ``CONVCORE_CACHE`` names if
        it is set, else none; False means none in any case. A packed file takes about 1.3 times the space
        of the model's.
    verify_cache
        Check every number of the packed file against its checksum, and not its header alone.

    Returns
    -------
    Model

    Raises
    ------
    ModelError
        The file is damaged, holds a layer that convcore lacks, or would have to be executed.
    ArgumentError
        The device does not compute in that precision.

    Warns
    -----
    ConvcoreWarning
        A packed file is damaged, or of another version or state of the model (it is written anew), or
        cannot be written.

    Examples
    --------
    >>> from convcore import data
    >>> model = load_model(data.path("sonar.keras"))
    >>> model.predict(np.full((2, 60), 0.2, np.float32)).shape
    (2, 1)
    """
    if device not in ("cpu", "cuda"):
        raise DeviceError("load_model", "unknown device", got=device, expected="cpu or cuda")
    chosen = Device(device, None, accuracy, precision)
    library_of(chosen)  # refuses a precision before the file is read
    graph = load_graph(path, weights=weights, architecture=architecture, kernel_flip=kernel_flip)
    options = {
        "device": device,
        "precision": precision,
        "accuracy": accuracy,
        "weights": None if weights is None else str(Path(weights).absolute()),
        "architecture": None if architecture is None else str(Path(architecture).absolute()),
        "kernel_flip": kernel_flip,
    }
    folder = _cache_folder(cache) if device == "cpu" else None
    return Model(
        graph,
        chosen,
        _origin(path, options),
        cache=None if folder is None else _Cache(folder, verify_cache),
    )


def _bind(plan: Plan) -> Runner:
    """Bind a plan to the device that it was made for."""
    if plan.device.name == "cuda":
        from convcore.run.cuda import CudaRunner  # loads Numba

        return CudaRunner(plan)
    return CpuRunner(plan)


class _Cache(NamedTuple):
    folder: Path
    verify: bool


def _cache_folder(cache: str | Path | bool | None) -> Path | None:
    named = os.environ.get("CONVCORE_CACHE")
    if cache is False or (cache is None and not named):
        return None
    if cache is None or cache is True:
        home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
        cache = named or Path(home, "convcore")
    return Path(cache).absolute()


def _digest(path: Path) -> str:
    import hashlib

    if path.is_dir():
        return ""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _origin(path: str | Path, options: dict[str, Any]) -> dict[str, Any]:
    return {"path": str(Path(path).absolute()), **options}


def _restore(origin: dict[str, Any], digest: str) -> Model:
    options = dict(origin)
    path = options.pop("path")
    if _digest(Path(path)) != digest:
        raise ModelError(path, "the file has changed since the model was pickled")
    return load_model(path, **options)


class Model:
    """A network ready to run. Made by :func:`load_model`.

    May be called from many threads at once: each call has its own working memory. Pickles as the
    file's path, its hash and the options, never as weights.

    Attributes
    ----------
    graph
        What the file means, as frozen data.
    device
        What it runs on.

    Examples
    --------
    >>> from convcore import data
    >>> model = load_model(data.path("sonar_baseline.keras"))
    >>> model.input_shapes, [layer.layer_class for layer in model.layers]
    (((60,),), ['InputLayer', 'Dense', 'Dense'])
    >>> sorted(model.trace(np.zeros((1, 60), np.float32))) == sorted(layer.name for layer in model.layers)
    True
    """

    def __init__(
        self,
        graph: Graph,
        device: Device,
        origin: dict[str, Any] | None = None,
        *,
        cache: _Cache | None = None,
    ) -> None:
        self._cache = cache
        self.graph = graph
        self.device = device
        self._origin = origin
        self._runners: dict[tuple[tuple[int, ...], ...], Runner] = {}
        self._calls: dict[tuple[int, ...], Callable[[Any], Any]] = {}
        self._lock = threading.Lock()
        if all(n is not None for s in self.input_shapes for n in s):
            self._runner(tuple(tuple(int(n or 0) for n in s) for s in self.input_shapes))

    # ---- what it is -----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The model's own name."""
        return self.graph.name

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers as the file names them."""
        return self.graph.layers

    @property
    def input_shapes(self) -> tuple[tuple[int | None, ...], ...]:
        """Shape of every input, without the batch axis; None where the model leaves it open."""
        return tuple(self.graph.node(n).shape for n in self.graph.inputs)

    @property
    def output_shapes(self) -> tuple[tuple[int | None, ...], ...]:
        """Shape of every output, without the batch axis."""
        return tuple(self.graph.node(n).shape for n in self.graph.outputs)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, in the order in which a sequence of arrays is taken.

        A model of keyed inputs has Keras's keys here, any other the names of its input layers.
        """
        return self.graph.input_keys or self.graph.inputs

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in the order in which they are returned: their keys where they have any."""
        if self.graph.output_keys is not None:
            return self.graph.output_keys
        layer_of = {layer.node: layer.name for layer in self.graph.layers}
        return tuple(layer_of.get(n, n) for n in self.graph.outputs)

    @property
    def plan(self) -> Plan:
        """The plan in use; print it. For a model with open shapes: the latest one."""
        if not self._runners:
            raise ArgumentError(self.name, "input shapes are open: predict once, then there is a plan")
        return list(self._runners.values())[-1].plan

    def summary(self) -> str:
        """Return a table of layers, output shapes and parameter counts."""
        rows = [
            (layer.name, layer.layer_class, (None, *layer.shape), f"{layer.parameters:,}")
            for layer in self.layers
        ]
        table = text_table(("Layer", "Class", "Output shape", "Parameters"), rows, left=(0, 1, 2))
        source = self.graph.source
        head = f"{self.name}: {source.format}, Keras {source.keras_version or 'version not stated'}"
        return "\n".join([head, table, f"{self.graph.parameters:,} parameters"])

    def __repr__(self) -> str:
        return (
            f"<convcore.Model {self.name!r}: {len(self.layers)} layers, {self.graph.parameters:,} parameters>"
        )

    # ---- running it -----------------------------------------------------------------------------

    def predict(self, x: Inputs, batch_size: int | None = None) -> Any:
        """Return the outputs for all rows of `x`, `batch_size` at a time.

        Parameters
        ----------
        x
            (n, ...) array of numbers, converted to float32; for several inputs a sequence in the order
            of :attr:`input_names`, or a mapping by name.
        batch_size
            Rows computed at once; None means 32. The numbers do not depend on it, bit for bit.

        Returns
        -------
        numpy.ndarray, or list or dict of numpy.ndarray
            float32; a list if the model has several outputs, a dictionary if Keras's has keys for them.

        Raises
        ------
        ArgumentError, DTypeError
            An input of the wrong shape or type, or a `batch_size` that is no whole number from 1 up.
        """
        size = 32 if batch_size is None else batch_size
        if not isinstance(size, int | np.integer) or size < 1:
            raise ArgumentError(self.name, "batch_size", got=size, expected="a whole number from 1 up")
        return self._named(self._run(self._inputs(x), int(size)))

    def __call__(self, x: Inputs) -> Any:
        """Return the outputs for `x` in one batch: the shortest way for a single row."""
        if type(x) is np.ndarray:
            call = self._calls.get(x.shape)
            if call is not None:
                output = call(x)  # None if it is not float32 in C order
                if output is not None:
                    return output
        inputs = self._inputs(x)
        outputs = self._run(inputs, None)
        if len(inputs) == len(outputs) == 1 and self.graph.output_keys is None:
            self._bind(inputs[0].shape)
        return self._named(outputs)

    def _bind(self, shape: tuple[int, ...]) -> None:
        """Let the next call with an array of this shape take the short way."""
        if shape in self._calls:
            return
        runner = self._runner((shape[1:],))
        call = runner.program(shape[0]).bound() if isinstance(runner, CpuRunner) else None
        if call is not None:
            if len(self._calls) >= _KEPT_CALLS:
                self._calls.clear()
            self._calls[shape] = call

    def _named(self, outputs: list[FloatArray]) -> Any:
        """Give the outputs the form in which Keras returns them."""
        if self.graph.output_keys is not None:
            return dict(zip(self.graph.output_keys, outputs, strict=True))
        return outputs[0] if len(outputs) == 1 else outputs

    def _run(self, inputs: list[FloatArray], batch_size: int | None) -> list[FloatArray]:
        runner = self._runner(tuple(i.shape[1:] for i in inputs))
        named = dict(
            zip((n for n, _ in runner.plan.outputs), runner.run(inputs, batch_size=batch_size), strict=True)
        )
        return [named[n if n in named else f"{n}/output"] for n in self.graph.outputs]

    def _runner(self, shapes: tuple[tuple[int, ...], ...]) -> Runner:
        with self._lock:
            runner = self._runners.get(shapes)
            if runner is None:
                runner = _bind(build(self._graph_for(shapes), self.device, cache=self._weight_cache(shapes)))
                self._runners[shapes] = runner
        return runner

    def _weight_cache(self, shapes: tuple[tuple[int, ...], ...]) -> WeightCache | None:
        if self._cache is None or self._origin is None:
            return None
        from convcore.plan.cache import WeightCache

        # "fast" and "standard" may pack alike, and have a file each all the same.
        identity = {**self._origin, "input_shapes": shapes}
        state = [list(file) for file in self.graph.source.files]
        name = Path(self._origin["path"]).stem
        return WeightCache(self._cache.folder, name, identity, state, verify=self._cache.verify)

    def _graph_for(self, shapes: tuple[tuple[int, ...], ...]) -> Graph:
        if shapes == self.input_shapes:
            return self.graph
        return specialise(self.graph, dict(zip(self.graph.inputs, shapes, strict=True)))

    def _inputs(self, x: Inputs) -> list[FloatArray]:
        """Check what the caller gave and make it C-ordered float32, without a copy if it is already."""
        names = self.input_names
        if isinstance(x, Mapping):
            unknown = sorted(set(x) ^ set(names))
            if unknown:
                raise ArgumentError(self.name, "inputs by name", got=sorted(x), expected=sorted(names))
            given: list[Any] = [x[n] for n in names]
        elif len(names) == 1:
            given = [x[0] if isinstance(x, list | tuple) and len(x) == 1 else x]
        else:
            given = list(x) if isinstance(x, list | tuple) else [x]
            if len(given) != len(names):
                raise ArgumentError(self.name, "inputs", got=len(given), expected=f"{len(names)}: {names}")
        arrays = []
        for name, value, shape in zip(names, given, self.input_shapes, strict=True):
            array = np.asarray(value)
            if array.dtype.kind not in "fiub":
                raise DTypeError(f"{self.name}, input {name}", got=str(array.dtype), expected="real numbers")
            fits = array.ndim == len(shape) + 1 and all(
                s in (None, n) for n, s in zip(array.shape[1:], shape, strict=True)
            )
            if not fits or 0 in array.shape:
                raise ArgumentError(
                    f"{self.name}, input {name}", "shape", got=array.shape, expected=("n >= 1", *shape)
                )
            arrays.append(np.ascontiguousarray(array, dtype=np.float32))
        if len({len(a) for a in arrays}) > 1:
            raise ArgumentError(self.name, "inputs of different length", got=[len(a) for a in arrays])
        return arrays

    # ---- looking at it --------------------------------------------------------------------------

    def _trace_nodes(
        self, inputs: Sequence[FloatArray], wanted: Sequence[str] | None
    ) -> tuple[dict[str, FloatArray], dict[str, str]]:
        """Return every wanted node's value, and the algorithm that computed each."""
        graph = self._graph_for(tuple(i.shape[1:] for i in inputs))
        names = (
            tuple(n.name for n in graph.nodes if n.operation != "input") if wanted is None else tuple(wanted)
        )
        values: dict[str, FloatArray] = dict(zip(graph.inputs, inputs, strict=True))
        computed = [n for n in dict.fromkeys(names) if n not in values]
        if not computed:
            return values, {}
        plan = build(graph, self.device, fused=False, outputs=computed)
        values.update(zip(computed, _bind(plan).run(inputs), strict=True))
        return values, plan.algorithms

    def trace(self, x: Inputs) -> dict[str, FloatArray]:
        """Return every layer's output, by the layer's name, from a plan in which nothing is fused."""
        values, _ = self._trace_nodes(self._inputs(x), [layer.node for layer in self.layers])
        # An input layer's value is the caller's own array: not ours to hand out a second time.
        given = set(self.graph.inputs)
        return {
            layer.name: values[layer.node].copy() if layer.node in given else values[layer.node]
            for layer in self.layers
        }

    def profile(self, x: Inputs, *, repeats: int = 20) -> Profile | CudaProfile:
        """Time every step on `x`, in one batch: medians of `repeats` runs.

        On the CPU beside this machine's measured peaks; on a GPU by its own events, and beside the time of
        the whole network as one graph.
        """
        from convcore.run.profile import profile, profile_cuda

        inputs = self._inputs(x)
        runner = self._runner(tuple(i.shape[1:] for i in inputs))
        if isinstance(runner, CpuRunner):
            return profile(runner, inputs, repeats)
        return profile_cuda(runner, inputs, repeats)

    def study(
        self,
        x: Inputs,
        *,
        layers: Sequence[str] = (),
        channels: Sequence[int] = (),
        at: Sequence[Sequence[int]] = (),
        facts: InputFacts | None = None,
        repeats: int = 20,
    ) -> Report:
        """Run one example and return everything that happened, as a page to save or to show in a notebook.

        Every layer has its feature maps, a histogram, and its time beside this machine's roofline; of a part
        of its outputs every number that they were computed from is kept.

        Parameters
        ----------
        x
            One example, as for :meth:`predict`, with the batch axis.
        layers
            Names of the layers of which numbers are kept exactly; by default all.
        channels
            Output channels of which they are kept; by default the first 4 and the 4 with the strongest
            response.
        at
            Output positions to keep beside a corner and the surroundings of the strongest response.
        facts
            What is known about the input: its name, the picture or CT slice that it was made of, the names
            of the classes.
        repeats
            Runs to take median times of.

        Raises
        ------
        ArgumentError, DTypeError
            More than one example, an input of the wrong shape or type, or a layer, channel or position that
            the network does not have.
        MissingExtraError
            OpenCV, which draws the feature maps, is not installed.

        Examples
        --------
        >>> from convcore import data
        >>> model = load_model(data.path("sonar.keras"))
        >>> report = model.study(np.full((1, 60), 0.2, np.float32), repeats=2)
        >>> report.record["layers"][1]["summary"]
        'standardise (Normalization) makes 60 of 60: affine. It has 121 parameters.'
        """
        from convcore.study import InputFacts, Run, Selection, check, study

        inputs = self._inputs(x)
        if len(inputs[0]) != 1:
            raise ArgumentError(f"{self.name}, study", "examples", got=len(inputs[0]), expected="one")
        graph = self._graph_for(tuple(i.shape[1:] for i in inputs))
        facts, selection = facts or InputFacts(), Selection(layers, channels, at)
        check(graph, facts, selection)  # before the work
        values, algorithms = self._trace_nodes(inputs, None)
        run = Run(graph, values, algorithms, self.profile(inputs, repeats=repeats), self.device.name)
        return study(run, facts, selection)

    def verify(self, x: Inputs | None = None) -> Verification:
        """Check every layer against float64, and the outputs against Keras where it is installed.

        Without `x`, one image of seeded normal numbers is used, or of whole ones where the input's type
        is an integer; open dimensions become 64.
        """
        from convcore.run.bounds import operand_loss
        from convcore.run.verify import Verification, check_against_keras, check_nodes, draw_inputs

        if x is None:
            x = draw_inputs(self.graph)
        inputs = self._inputs(x)
        graph = self._graph_for(tuple(i.shape[1:] for i in inputs))
        checks = check_nodes(graph, *self._trace_nodes(inputs, None), operand_loss(self.device))
        path = self._origin["path"] if self._origin else ""
        outputs = self._run(inputs, None)
        ends, note = check_against_keras(graph, path, inputs, outputs, self.device.precision)
        return Verification(checks, ends, note)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._origin is None:
            raise ArgumentError(self.name, "only a model that was loaded from a file can be pickled")
        return _restore, (self._origin, _digest(Path(self._origin["path"])))
