"""See inside a network: every layer of one run, every number behind a value, as one HTML file or as figures.

:func:`study` runs a model on one input and returns a :class:`Report`. The ``plot_*`` functions draw single
things as matplotlib figures.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from convcore.study.parts import Selection
from convcore.study.record import InputFacts, Run, check, make_record
from convcore.study.report import Report

if TYPE_CHECKING:
    from convcore.study.plots import (
        plot_curves,
        plot_devices,
        plot_feature_maps,
        plot_kernels,
        plot_roofline,
        plot_times,
    )

_PLOTS = (
    "plot_curves",
    "plot_devices",
    "plot_feature_maps",
    "plot_kernels",
    "plot_roofline",
    "plot_times",
)

__all__ = [
    "InputFacts",
    "Report",
    "Run",
    "Selection",
    "check",
    "plot_curves",
    "plot_devices",
    "plot_feature_maps",
    "plot_kernels",
    "plot_roofline",
    "plot_times",
    "study",
]


def study(run: Run, facts: InputFacts | None = None, selection: Selection | None = None) -> Report:
    """Make a report of one run; :meth:`convcore.Model.study` is how to get one.

    Parameters
    ----------
    run
        What the engine computed and measured.
    facts
        What is known about the input.
    selection
        Which layers, channels and positions are kept exactly.

    Raises
    ------
    ArgumentError
        Names for another number of classes, or a layer, channel or position that the network does not have.
    """
    return Report(*make_record(run, facts or InputFacts(), selection or Selection()))


def __getattr__(name: str) -> Any:
    """Import the plots when one is asked for: reports need no matplotlib."""
    if name in _PLOTS:
        return getattr(import_module("convcore.study.plots"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
