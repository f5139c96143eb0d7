"""The plan as a table that a person can read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convcore.memory import asks_for_huge_pages
from convcore.plan.arena import align, lifetimes, place
from convcore.plan.words import size_text
from convcore.tables import text_table

if TYPE_CHECKING:
    from convcore.plan.data import Plan, PlanStep, Value

_HEAD = ("operation", "algorithm", "input", "output", "halo", "FLOP", "moved", "weights", "layers")
_LEFT = (0, 1, 2, 3, 4, 8)


def plan_text(plan: Plan) -> str:
    """Return one row a step, a `border` being part of the row of its map, and below it the memory."""
    rows = []
    for row in plan.rows:
        steps = [plan.steps[i] for i in row]
        main = steps[-1]
        result = plan.values[main.output.value]
        rows.append(
            (
                " + ".join(main.computes),
                _algorithm(main),
                _layouts(plan, main),
                f"{size_text(result.shape)} {_layout(result)}",
                _halo(result),
                _scaled(main.flops),
                _bytes(sum(s.bytes_read + s.bytes_written for s in steps) + main.weight_bytes),
                _bytes(main.weight_bytes) if main.weight_bytes else "",
                layer_span(main.layers),
            )
        )
    ends = (", ".join(size_text(shape) for _, shape in end) for end in (plan.inputs, plan.outputs))
    return "\n".join(
        [f"Plan of {plan.name}: {' to '.join(ends)}", text_table(_HEAD, rows, left=_LEFT), *_totals(plan)]
    )


def layer_span(layers: tuple[str, ...]) -> str:
    """The layers of a step, in short: of more than two, the first and the last.

    Examples
    --------
    >>> layer_span(("conv1", "bn1", "relu1"))
    'conv1 .. relu1'
    """
    return ", ".join(layers) if len(layers) <= 2 else f"{layers[0]} .. {layers[-1]}"


def _totals(plan: Plan) -> list[str]:
    device = plan.device
    blocks = lifetimes(plan, [s.workspace_bytes for s in plan.steps])
    size = place(blocks)[1]
    arena = f"{_bytes(size)} for one image, in place of {_bytes(sum(align(b.size) for b in blocks))} unshared"
    work = max((s.workspace_bytes for s in plan.steps), default=0)
    if work:
        arena += f"; up to {_bytes(work)} of it are a step's workspace"
    if asks_for_huge_pages(size):
        arena += "; huge pages asked for"
    return [
        f"arithmetic  {_scaled(plan.flops)}FLOP for one image, {device.precision}, accuracy "
        f"{device.accuracy}, on {device.name} ({plan.isa})",
        f"weights     {_weights(plan)}",
        f"arena       {arena}",
    ]


def _weights(plan: Plan) -> str:
    text = f"{_bytes(plan.weight_bytes)} packed"
    if plan.weights_from:
        return f"{text}, mapped from {plan.weights_from}"
    huge = sum(s.weight_bytes for s in plan.steps if asks_for_huge_pages(s.weight_bytes))
    if huge:
        text += f"; huge pages asked for, for {_bytes(huge)} of them"
    return f"{text}; kept in {plan.weights_kept}" if plan.weights_kept else text


def _layouts(plan: Plan, step: PlanStep) -> str:
    """How what the step reads is laid out; constants apart."""
    values = [plan.values[v.value] for v in step.inputs if v.value in plan.values]
    return ", ".join(dict.fromkeys(_layout(v) for v in values))


def _layout(value: Value) -> str:
    layout = "blocked" if value.blocked else "plain"
    return layout if value.dtype == "float32" else f"{layout} {value.dtype}"


def _halo(value: Value) -> str:
    """Cells of zeros before and after each axis, in as few numbers as say it."""
    if not any(n for pair in value.halo for n in pair):
        return ""
    pairs = value.halo[4 - len(value.shape) :]
    sides = [str(low) if low == high else f"{low}:{high}" for low, high in pairs]
    return sides[0] if len(set(sides)) == 1 else " x ".join(sides)


def _algorithm(step: PlanStep) -> str:
    return f"binary {step.options['binary']}" if step.operation == "binary" else step.algorithm


def _bytes(count: float) -> str:
    return f"{_scaled(count)}B"


def _scaled(number: float) -> str:
    """Three digits that count, and the prefix of a unit.

    Examples
    --------
    >>> _scaled(3699376128), _scaled(96), _scaled(999.6e3)
    ('3.70 G', '96 ', '1.00 M')
    """
    prefixes = ("", "k", "M", "G", "T")
    power = 0
    while number >= 999.5 and power < len(prefixes) - 1:
        number, power = number / 1000, power + 1
    digits = 0 if power == 0 or number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{number:.{digits}f} {prefixes[power]}"
