"""What was set as the aim on an H200, and how what was measured stands to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from convcore.bench.gpu.parts import MEMORY_BOUND, NETWORK, PRECISIONS

__all__ = ["BARS", "Bar", "against", "shares"]


class Bar(NamedTuple):
    """An aim.

    `of` says what is limited: "ratio", our time over the fastest peer's, is to be at most `limit`;
    "bandwidth", our share of the measured copy bandwidth, at least.
    """

    case: str
    batch: int
    precision: str
    of: str
    limit: float

    def met(self, value: float) -> bool:
        """Whether a measured value is good enough.

        Examples
        --------
        >>> Bar("vgg16", 32, "float32", "ratio", 0.8).met(0.9)
        False
        >>> Bar("relu_64MiB", 1, "float32", "bandwidth", 0.85).met(0.9)
        True
        """
        return value <= self.limit if self.of == "ratio" else value >= self.limit


BARS = (
    Bar(NETWORK, 32, "float32", "ratio", 0.8),
    Bar(NETWORK, 32, "tf32", "ratio", 1.1),
    Bar(NETWORK, 32, "bfloat16", "ratio", 1.1),
    *(Bar(NETWORK, 1, precision, "ratio", 1.0) for precision in PRECISIONS),
    *(Bar(name, batch, "float32", "bandwidth", 0.85) for name, batch in MEMORY_BOUND.items()),
)


def _workloads(parts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for part in parts.values():
        yield from part.get("workloads", ())


def shares(parts: Mapping[str, Any]) -> None:
    """Write into every workload its shares of the two ceilings, as far as those were measured."""
    ceilings = parts.get("ceilings", {})
    copied = ceilings.get("copy", {}).get("bytes_per_s")
    for workload in _workloads(parts):
        if "bytes_per_s" not in workload:
            continue
        rate = ceilings.get("matrix", {}).get(workload["precision"], {}).get("flops_per_s")
        workload["share_of_copy_bandwidth"] = workload["bytes_per_s"] / copied if copied else None
        counted = rate and workload["multiply_adds"]
        workload["share_of_matrix_rate"] = workload["flops_per_s"] / rate if counted else None


def against(parts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every bar with the value measured and whether it is met; None where there is no value."""
    found = {(w["case"], w["batch"], w["precision"]): w for w in _workloads(parts)}
    rows = []
    for bar in BARS:
        workload = found.get((bar.case, bar.batch, bar.precision), {})
        field = "ratio_to_fastest_peer" if bar.of == "ratio" else "share_of_copy_bandwidth"
        value = workload.get(field)
        met = None if value is None else bar.met(value)
        row = {**bar._asdict(), "value": value, "met": met, "ours": workload.get("ours")}
        if value is None:
            row["reason"] = workload.get("reason") or ("no peer or ceiling" if workload else "not measured")
        rows.append(row)
    return rows
