from collections.abc import Callable, Sequence
from typing import Any

View = (
    tuple[int, int, str, Sequence[int], Sequence[int]]
    | tuple[int, int, str, Sequence[int], Sequence[int], int, Sequence[int], Sequence[int]]
)

OPERATIONS: dict[str, int]
ACTIVATIONS: dict[str, int]
BINARIES: dict[str, int]
SAMPLES: dict[str, int]
PROBES: dict[str, int]
ACCURACIES: dict[str, int]
TYPES: dict[str, int]
PACKED_VERSION: int

def isas() -> tuple[str, ...]: ...
def default_isa() -> str: ...
def cpu_name() -> str: ...
def get_num_threads() -> int: ...
def set_num_threads(threads: int) -> None: ...

class Step:
    operation: str
    def __init__(
        self,
        operation: str,
        *,
        out: View,
        x: View | None = None,
        x2: View | None = None,
        isa: str | None = None,
        kernel: Sequence[int] = (1, 1, 1),
        stride: Sequence[int] = (1, 1, 1),
        dilation: Sequence[int] = (1, 1, 1),
        pad_low: Sequence[int] = (0, 0, 0),
        groups: int = 1,
        flip: bool = False,
        include_padding: bool = False,
        binary: str = "add",
        sample: str = "rrelu",
        probe: str = "fma",
        linear: bool = True,
        accuracy: str = "direct",
        pool: int = 1,
        value: float = 0.0,
        edge: str = "constant",
        edge_value: float = 0.0,
        seed: int = 0,
        resize_scale: Sequence[float] = (1.0, 1.0, 1.0),
        resize_offset: Sequence[float] = (0.0, 0.0, 0.0),
        activation: tuple[str, Sequence[float]] = ("linear", ()),
        padding_value: int | None = None,
        padding_to: float | None = None,
        slope: Any = None,
        intercept: Any = None,
    ) -> None: ...
    @property
    def isa(self) -> str: ...
    @property
    def algorithm(self) -> str: ...
    @property
    def packed_floats(self) -> int: ...
    @property
    def workspace_bytes(self) -> int: ...
    @property
    def need(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]: ...
    @property
    def flops(self) -> float: ...
    @property
    def bytes(self) -> float: ...
    def pack(self, weights: Any, bias: Any, packed: Any) -> None: ...
    def pack_file(self, file: int, offset: int, bias: Any, packed: Any) -> bool: ...
    def set_weights(self, packed: Any) -> None: ...
    def set_workspace(self, buffer: int, offset: int) -> None: ...

class Call:
    def __init__(
        self,
        program: Program,
        constants: Sequence[Any],
        shape: tuple[int, ...],
        *,
        arenas: list[Any],
        allocate: Callable[[], Any],
        empty: Callable[[], Any],
    ) -> None: ...
    def __call__(self, x: Any) -> Any: ...

class Program:
    steps: tuple[Step, ...]
    def __init__(self, steps: Sequence[Step]) -> None: ...
    def run(
        self, buffers: Sequence[Any], *, threads: int = 0, seconds: list[float] | None = None
    ) -> None: ...
