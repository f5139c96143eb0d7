"""Every value that the engine computes on a GPU, as it is when its step has written it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from convcore.bfloat16 import from_bfloat16
from convcore.cuda import step
from convcore.plan.data import Plan

from .memory import Array

__all__ = ["Values"]


class Values:
    """Watches the steps that run from now on, until it is asked what they have written.

    Reading a value waits for the GPU, which a run that is being recorded may not.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._written: list[Array] = []
        self._watching = True
        run = step.Step.run

        def watched(this: step.Step, buffers: Sequence[Any]) -> None:
            run(this, buffers)
            if not self._watching:  # the second run is recorded, and nothing can be copied meanwhile
                return
            view = this._views[0]
            # In the order of memory: a step may write its axes in another one.
            flat = (*view[:3], (math.prod(view[3]),), (1,))
            bits = step._array(flat, buffers).copy_to_host()
            self._written.append(from_bfloat16(bits) if view[2] == "bfloat16" else bits)

        monkeypatch.setattr(step.Step, "run", watched)

    def of(self, plan: Plan, batch: int) -> dict[str, Array]:
        """By name, all that a plan's steps have written whole in the one run of a batch that was watched."""
        self._watching = False
        assert len(self._written) == len(plan.steps)
        found: dict[str, Array] = {}
        for planned, written in zip(plan.steps, self._written, strict=True):
            name = planned.output.value
            shape = (batch, *plan.values[name].shape)
            if written.size == math.prod(shape):
                found[name] = written.reshape(shape)
        return found
