from collections.abc import Callable, Sequence
from contextvars import Token
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import TypeVar

Out = TypeVar("Out", default=NDArray[np.float32])

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
def build() -> dict[str, str]: ...
def get_num_threads() -> int: ...
def num_threads_origin() -> str: ...
def set_num_threads(threads: int) -> None: ...
def settings() -> tuple[str | None, int | None]: ...
def enter_settings(isa: str | None, threads: int | None) -> Token[tuple[str | None, int | None] | None]: ...
def leave_settings(token: Token[tuple[str | None, int | None] | None]) -> None: ...

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

class Replayer:
    @property
    def remembered(self) -> tuple[int, int]: ...
    def forget(self) -> None: ...

class Recorded(Replayer):
    def __init__(
        self,
        function: Callable[..., Any],
        names: tuple[str, ...],
        positional: int,
        arrays: Sequence[str],
        *,
        array_type: type,
        record: Callable[..., tuple[Any, Any]],
    ) -> None: ...
    @property
    def __wrapped__(self) -> Callable[..., Any]: ...
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

class Prepared(Replayer):
    def __init__(
        self,
        *,
        array_type: type,
        checked: Callable[..., tuple[Any, Any]],
        adapt: Callable[..., tuple[Any, Any]],
        threads: int,
    ) -> None: ...
    def __call__(self, x: Any, out: Out | None = None, *, num_threads: int | None = None) -> Out: ...
    def programs(self) -> list[tuple[tuple[int, ...], Program]]: ...
