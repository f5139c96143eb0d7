"""Builds a plan: fuse, lower, let the library choose and pack."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from convcore import _native
from convcore.errors import ArgumentError, ConvcoreWarning, ModelFormatError
from convcore.loader.graph import Graph
from convcore.loader.lazy import FileArray, LazyArray
from convcore.memory import aligned_floats
from convcore.plan.data import Device, Plan, PlanStep, Value, View
from convcore.plan.fuse import Group, fuse
from convcore.plan.layout import blocked_values
from convcore.plan.lower import NO_HALO, Draft, Halo, Lowering
from convcore.plan.words import computes

if TYPE_CHECKING:
    from convcore.plan.cache import WeightCache

_ACCURACIES = ("direct", "standard", "fast")


def build(
    graph: Graph,
    device: Device | None = None,
    *,
    fused: bool = True,
    outputs: Sequence[str] | None = None,
    cache: WeightCache | None = None,
) -> Plan:
    """Return the plan of `graph` on `device`.

    Parameters
    ----------
    graph
        Every shape in it must be known.
    device
        What to plan for; the CPU by default.
    fused
        False keeps every node's result in memory of its own, for traces.
    outputs
        Nodes to return instead of the graph's own outputs; only with ``fused=False``. In the plan, an
        output that is itself an input is called ``NAME/output``, and none is listed twice.
    cache
        Where packed weights are taken from, and put where they are not there yet.
    """
    device = device or Device()
    if device.accuracy not in _ACCURACIES:
        raise ArgumentError("plan", "unknown accuracy", got=device.accuracy, expected=_ACCURACIES)
    wanted = tuple(outputs) if outputs is not None else graph.outputs
    library = library_of(device)

    lowering = _lower(graph, fuse(graph, enabled=fused), wanted, device.accuracy, library)
    wanted = _apart_from_inputs(lowering, graph.inputs, wanted)
    drafts = _own_storage(lowering, graph.inputs, wanted)
    values = lowering.values
    if library.narrow:
        _narrow(drafts, values, {*graph.inputs, *wanted})
    chosen = [library_step(d, library) for d in drafts]
    packed, found, kept = _packed(drafts, chosen, cache)
    steps = tuple(_planned(*one) for one in zip(drafts, chosen, packed, strict=True))

    return Plan(
        name=graph.name,
        device=device,
        isa=library.isa,
        steps=steps,
        values=values,
        inputs=tuple((name, lowering.shapes[name]) for name in graph.inputs),
        outputs=tuple((name, lowering.shapes[name]) for name in wanted),
        constants=lowering.constants,
        weights_from=cache.path if cache and found else None,
        weights_kept=cache.path if cache and kept else None,
    )


class Library(NamedTuple):
    """Who computes the steps: ``step`` makes them (see ``_native.Step``), and `isa` says with what.

    `blocks` says whether its convolutions read and write maps with blocked channels, and `narrow` whether
    values between steps are bfloat16.
    """

    step: Callable[..., Any]
    isa: str
    blocks: bool
    narrow: bool = False


def library_of(device: Device) -> Library:
    """Return the library that computes on `device`.

    Raises
    ------
    ArgumentError
        The device does not compute in that precision.
    """
    if device.name == "cuda":
        from convcore.cuda.step import PRECISIONS, Step  # loads Numba

        if device.precision not in PRECISIONS:
            raise ArgumentError("plan", "precision", got=device.precision, expected=" or ".join(PRECISIONS))
        narrow = device.precision == "bfloat16"
        return Library(partial(Step, precision=device.precision), "cuda", False, narrow)
    if device.precision != "float32":
        raise ArgumentError("plan", "the CPU computes in float32", got=device.precision)
    isa = device.isa or _native.default_isa()
    return Library(partial(_native.Step, isa=isa), isa, True)


def _lower(
    graph: Graph, groups: Sequence[Group], wanted: Sequence[str], accuracy: str, library: Library
) -> Lowering:
    """Lower twice: first to learn how wide a halo each blocked map needs, then with those."""
    for name in graph.inputs:
        if None in graph.node(name).shape:
            raise ArgumentError(name, "the model leaves this input's shape open", got=graph.node(name).shape)
    shapes = {n.name: tuple(int(d) for d in n.shape if d is not None) for n in graph.nodes}
    blocked = blocked_values(groups, shapes, (*graph.outputs, *wanted)) if library.blocks else frozenset()
    halos: dict[str, Halo] = {}

    def accepts(draft: Draft) -> bool:
        try:
            library_step(draft, library)
        except ArgumentError:
            return False
        return True

    def lower() -> Lowering:
        lowering = Lowering(accuracy, blocked, halos, accepts)
        for group in groups:
            if group.node.operation == "input":
                lowering.shapes[group.output] = shapes[group.output]
                lowering.storage[group.output] = group.output
            else:
                lowering.add(group)
        return lowering

    lowering = lower()
    for draft in lowering.drafts:
        if not draft.inputs or not draft.inputs[0].ld_block:
            continue
        low, high = library_step(draft, library).need
        name = draft.inputs[0].value
        before = halos.get(name, NO_HALO)
        halo = tuple((max(a, c), max(b, d)) for (a, b), c, d in zip(before, low, high, strict=True))
        if halo != NO_HALO:
            halos[name] = halo
    return lower() if halos else lowering


def _apart_from_inputs(lowering: Lowering, inputs: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """Outputs without repetition, and none that is an input: such a one gets a value of its own."""
    names = []
    for name in dict.fromkeys(wanted):
        if name in inputs:
            lowering.shapes[f"{name}/output"] = lowering.shapes[name]
            lowering.storage[f"{name}/output"] = name
            name = f"{name}/output"
        names.append(name)
    return tuple(names)


def _own_storage(lowering: Lowering, inputs: Sequence[str], wanted: Sequence[str]) -> list[Draft]:
    """Make every output a value with storage of its own.

    An output that shares floats with another value (a Flatten at the end, say) takes the storage over
    if nobody else has a claim on it, and is copied otherwise.
    """
    drafts = lowering.drafts
    owner: dict[str, str] = {name: name for name in inputs}
    owner.update({name: name for name in wanted if lowering.storage[name] == name})
    renamed: dict[str, str] = {}
    for name in wanted:
        storage = lowering.storage[name]
        if storage == name:
            continue
        if storage not in owner:
            owner[storage] = name
            renamed[storage] = name
            continue
        shape = (1, math.prod(lowering.shapes[name]))
        source = View(storage, shape, (shape[1], 1))
        drafts.append(Draft("copy", (source,), View(name, shape, (shape[1], 1)), None))
        lowering.storage[name] = name

    def rename(view: View) -> View:
        return view._replace(value=renamed.get(view.value, view.value))

    for value, storage in lowering.storage.items():
        lowering.storage[value] = renamed.get(storage, storage)
    for draft in drafts:
        draft.inputs = tuple(rename(v) for v in draft.inputs)
        draft.output = rename(draft.output)
    return drafts


def _narrow(drafts: Sequence[Draft], values: dict[str, Value], ends: Collection[str]) -> None:
    """Make values bfloat16, but not inputs and outputs, nor what a softmax reads.

    An exponential makes of its argument's absolute error a relative one: logits keep all their digits.
    """
    exact = {v.value for draft in drafts if draft.operation == "softmax" for v in draft.inputs}.union(ends)
    for name, value in values.items():
        if name not in exact:
            values[name] = value._replace(dtype="bfloat16")

    def typed(view: View) -> View:
        value = values.get(view.value)  # None for a constant
        return view if value is None else view._replace(dtype=value.dtype)

    for draft in drafts:
        draft.inputs = tuple(typed(v) for v in draft.inputs)
        draft.output = typed(draft.output)


def library_step(
    step: PlanStep | Draft,
    library: Library,
    batch: int = 1,
    locate: Callable[[str], tuple[int, int]] | None = None,
) -> Any:
    """Return the library's step for `batch` images.

    `locate` says for the name of a value which buffer it is in and at which multiple of four bytes; without
    it the step can be asked what it needs, but not run.
    """

    def view(v: View) -> _native.View:
        buffer, offset = locate(v.value) if locate else (0, 0)
        shape = (v.shape[0] * batch, *v.shape[1:])
        low, high = zip(*v.halo, strict=True)
        begin = offset * 4 // v.itemsize + v.offset
        return buffer, begin, v.dtype, shape, v.ld, v.ld_block, low, high

    inputs = [view(v) for v in step.inputs]
    return library.step(
        step.operation,
        x=inputs[0] if inputs else None,
        x2=inputs[1] if len(inputs) > 1 else None,
        out=view(step.output),
        **step.options,
    )


def _packed(
    drafts: Sequence[Draft], steps: Sequence[Any], cache: WeightCache | None
) -> tuple[list[np.ndarray | None], bool, bool]:
    """Every step's weights in its kernel's order, from the cache if there is one that has them.

    Beside them whether they were found in the cache, and whether they are kept there from now on.
    """
    with_weights = [i for i, draft in enumerate(drafts) if draft.weights is not None]
    wanted = [
        (steps[i].operation, steps[i].algorithm, drafts[i].output.value, steps[i].packed_floats)
        for i in with_weights
    ]
    arrays = cache.load(wanted) if cache else None
    found, kept = arrays is not None, False
    if arrays is None:
        notes: list[str] = []
        arrays = [_pack(drafts[i], steps[i], notes) for i in with_weights]
        if cache:
            kept = cache.save(wanted, arrays, notes)
    result: list[np.ndarray | None] = [None] * len(drafts)
    for i, array in zip(with_weights, arrays, strict=True):
        result[i] = array
    return result, found, kept


def _pack(draft: Draft, step: Any, notes: list[str]) -> np.ndarray:
    """The draft's weights in the kernel's order; those still in a file go there piece by piece."""
    weights = draft.weights
    assert weights is not None
    packed = aligned_floats(step.packed_floats)
    bias = None if draft.bias is None else np.ascontiguousarray(draft.bias, dtype=np.float32)
    reads_files = isinstance(step, _native.Step)
    if reads_files and isinstance(weights, FileArray) and draft.operation in ("conv", "dense"):
        try:
            finite = step.pack_file(weights.file.descriptor(), weights.offset, bias, packed)
        except OSError as error:
            raise ModelFormatError(weights.where, f"damaged or truncated: {error}") from error
        weights.file.descriptor()  # unchanged, while it was read
    else:
        array = np.ascontiguousarray(weights, dtype=np.float32)
        finite = not isinstance(weights, LazyArray) or bool(np.isfinite(array).all())
        step.pack(array, bias, packed)
    if not finite and draft.group is not None:
        node = draft.group.node
        notes.append(f"layer {node.layer!r} ({node.layer_class}): weight 'kernel' holds NaN or infinity")
        warnings.warn(notes[-1], ConvcoreWarning, stacklevel=5)
    return packed


def _planned(draft: Draft, step: Any, packed: np.ndarray | None) -> PlanStep:
    nodes = draft.group.nodes if draft.group else ()
    return PlanStep(
        operation=draft.operation,
        inputs=draft.inputs,
        output=draft.output,
        layers=tuple(dict.fromkeys(n.layer for n in nodes if n.layer)),
        nodes=tuple(n.name for n in nodes),
        computes=computes(draft),
        options=draft.options,
        weights=packed,
        algorithm=step.algorithm,
        flops=step.flops,
        bytes=step.bytes,
        workspace_bytes=step.workspace_bytes,
    )
