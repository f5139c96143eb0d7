"""Profiles of whole networks and of single layers, for the command line and for `benchmarks/`."""

from __future__ import annotations

import numpy as np

from convcore.bench.cases import case
from convcore.loader import specialise
from convcore.loader.graph import Graph
from convcore.plan import Device, build
from convcore.run.cpu import CpuRunner
from convcore.run.profile import Profile, profile
from convcore.run.verify import draw_inputs

__all__ = ["profile_case", "profile_graph"]


def profile_graph(graph: Graph, *, batch: int = 1, isa: str | None = None, repeats: int = 20) -> Profile:
    """Time every step of the plan of `graph` on seeded input, beside the machine's roofline.

    Parameters
    ----------
    graph
        A network; sizes that it leaves open become 64.
    batch, repeats
        Images in a call, and calls: their medians are returned.
    isa
        An instruction set; the process's own by default.

    Examples
    --------
    >>> from convcore.bench import sonar_mlp
    >>> profile_graph(sonar_mlp(), repeats=2).steps[0].operation
    'dense'
    """
    inputs = [np.repeat(x, batch, axis=0) for x in draw_inputs(graph)]
    graph = specialise(graph, {name: x.shape[1:] for name, x in zip(graph.inputs, inputs, strict=True)})
    return profile(CpuRunner(build(graph, Device(isa=isa))), inputs, repeats)


def profile_case(name: str, *, batch: int = 1, isa: str | None = None, repeats: int = 20) -> Profile:
    """Time every step of a case of :data:`convcore.bench.CASES`: :func:`profile_graph` of its graph.

    Where the case says how many images a call has, `batch` is not asked.

    Examples
    --------
    >>> profile_case("sonar_mlp", repeats=2).batch
    1
    """
    one = case(name)
    return profile_graph(one.build(), batch=one.batch or batch, isa=isa, repeats=repeats)
