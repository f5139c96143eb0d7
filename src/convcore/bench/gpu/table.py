"""A record of a run as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convcore.tables import text_table

__all__ = ["printed"]

_HEAD = (
    "workload",
    "batch",
    "precision",
    "ours, ms",
    "PyTorch, ms",
    "ratio",
    "TFLOP/s",
    "GB/s",
    "of copy",
    "of matrix",
)
_BARS = ("aim", "batch", "precision", "limit", "measured", "met")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def printed(record: Mapping[str, Any]) -> str:
    """Return the ceilings, every workload, every aim, and what was not measured with the reason.

    Examples
    --------
    >>> print(printed({"status": "nothing", "bars": [], "parts": {"memory": {"status": "not reached"}}}))
    memory: not reached
    nothing
    """
    parts, lines = record["parts"], []
    ceilings = parts.get("ceilings", {})
    copied = ceilings.get("copy", {}).get("bytes_per_s")
    if copied:
        lines.append(
            f"copy on the GPU: {copied / 1e9:.0f} GB/s, both ways counted, by {ceilings['copy']['by']}"
        )
    for precision, found in ceilings.get("matrix", {}).items():
        rate = found.get("flops_per_s")
        said = f"{rate / 1e12:.1f} TFLOP/s, by {found['by']}" if rate else found.get("reason", "")
        lines.append(f"matrix product, {precision}: {said}")
    rows = [_row(w) for part in parts.values() for w in part.get("workloads", ())]
    if rows:
        lines.append(text_table(_HEAD, rows, left=(0, 2)))
    for part in parts.values():
        for w in part.get("workloads", ()):
            where = f"{w['case']}, batch {w['batch']}, {w['precision']}"
            if w.get("reason"):
                lines.append(f"{where}: {w['reason']}")
            for name, found in w.get("candidates", {}).items():
                if found.get("status") != "timed":
                    lines.append(f"{where}: {name}: {found.get('status')}: {found.get('reason')}")
    bars = [
        (b["case"], b["batch"], b["precision"], f"{'<=' if b['of'] == 'ratio' else '>='} {b['limit']}",
         _number(b["value"], "{:.3f}"), {True: "yes", False: "no", None: "-"}[b["met"]])
        for b in record["bars"]
    ]  # fmt: skip
    if any(b["value"] is not None for b in record["bars"]):
        lines.append(text_table(_BARS, bars, left=(0, 2)))
    for name, part in parts.items():
        if part["status"] not in ("measured", "passed", "not asked for"):
            reason = f" ({part['reason']})" if part.get("reason") else ""
            lines.append(f"{name}: {part['status']}{reason}")
    return "\n".join([*lines, record["status"]])


def _row(w: Mapping[str, Any]) -> tuple[str, ...]:
    times = w.get("candidates", {})
    ours, peer = (times.get(w.get(name) or "", {}).get("median_ms") for name in ("ours", "fastest_peer"))
    flops, moved = w.get("flops_per_s"), w.get("bytes_per_s")
    return (
        w["case"],
        str(w["batch"]),
        w["precision"],
        _number(ours, "{:.4f}"),
        _number(peer, "{:.4f}"),
        _number(w.get("ratio_to_fastest_peer"), "{:.3f}"),
        _number(flops / 1e12 if flops else None, "{:.1f}"),
        _number(moved / 1e9 if moved else None, "{:.0f}"),
        _number(w.get("share_of_copy_bandwidth"), "{:.2f}"),
        _number(w.get("share_of_matrix_rate"), "{:.2f}"),
    )
