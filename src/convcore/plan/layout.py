"""Which values have blocked channels.

Convolutions read and write maps whose channels lie in blocks of 16, with a halo of zeros around, without
rearranging anything; a map in any other layout they copy first. Operations on each channel alone do not
mind, as long as all that they read and write is laid out alike. So a map is blocked where everything that
touches it agrees and a convolution reads it; graph outputs and whatever else is read as it is stand in
plain channels-last order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from convcore.loader.graph import Node
from convcore.plan.fuse import Group, is_depthwise

#: Channels of a block; CC_BLOCK of the library.
BLOCK = 16

#: Operations whose inputs and result must be laid out alike.
_ALIKE = frozenset(
    {"max_pool", "average_pool", "activation", "add", "subtract", "multiply", "average", "maximum"}
    | {"minimum", "concatenate", "upsample", "resize"}
)
#: Operations that read each channel alone and write a vector of channels.
_READS = frozenset({"global_max_pool", "global_average_pool"})


def _is_convolution(node: Node) -> bool:
    """Whether `node` reads and writes blocked channels by itself."""
    if node.operation == "conv_transpose":
        return True
    if node.operation != "conv" or is_depthwise(node):
        return False
    groups = int(node.attributes["groups"])
    kernel = node.weights["kernel"]
    return groups == 1 or (kernel.shape[-2] % BLOCK == 0 and kernel.shape[-1] // groups % BLOCK == 0)


def _agrees(group: Group, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether an operation on each channel alone can have all its sides blocked."""
    node = group.node
    shape = shapes[group.output]
    if node.operation == "concatenate":
        whole_blocks = all(shapes[i][-1] % BLOCK == 0 for i in node.inputs)
        return whole_blocks and node.attributes["axis"] % len(shape) == len(shape) - 1
    if any(shapes[i][-1] % BLOCK for i in node.inputs) or shape[-1] % BLOCK:
        return False
    merges = len(node.inputs) > 1
    return not merges or all(shapes[i] == shape for i in node.inputs)


def blocked_values(
    groups: Iterable[Group], shapes: Mapping[str, tuple[int, ...]], outputs: Sequence[str]
) -> frozenset[str]:
    """Return the names of the values that are blocked.

    Parameters
    ----------
    groups
        In order.
    shapes
        Of every value, without the batch axis.
    outputs
        Of the graph; never blocked.
    """
    groups = [g for g in groups if g.node.operation != "input"]
    candidates = {
        g.output for g in groups if len(shapes[g.output]) >= 2 and shapes[g.output][-1] >= BLOCK
    } - set(outputs)
    wanted: set[str] = set()
    alike: list[set[str]] = []
    for group in groups:
        node = group.node
        inputs = set(node.inputs)
        if _is_convolution(node):
            wanted |= inputs
        elif node.operation in _ALIKE and _agrees(group, shapes):
            alike.append({*inputs, group.output})
        elif node.operation in _READS and all(shapes[i][-1] % BLOCK == 0 for i in inputs):
            candidates.discard(group.output)
        else:
            candidates -= {*inputs, group.output}
    # Where one side of an operation cannot be blocked, none is; and blocks that no convolution reads serve
    # nobody. Both spread from operation to operation, until nothing changes.
    changed = True
    while changed:
        changed = False
        for sides in alike:
            if not sides <= candidates and sides & candidates:
                candidates -= sides
                changed = True
            if sides & wanted and not sides <= wanted:
                wanted |= sides
                changed = True
    return frozenset(candidates & wanted)
