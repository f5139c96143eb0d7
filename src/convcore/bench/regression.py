"""A result against an earlier one: by how much a kernel has become slower, beside a peer if there is one.

Times of two runs differ by what else the machine did. Where a peer of the same version was timed in both,
what is compared is our time over the peer's; our times alone only where there is none, and only on the same
machine.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from convcore.bench.peers import OWN, PEERS
from convcore.errors import InputError

__all__ = ["Change", "Changes", "changes"]

#: What two machines must have in common; the rest of their context is for people.
_MACHINE = ("cpu", "cores", "isa", "system")
#: A case, images, threads, a device, an instruction set.
Key = tuple[str, int, int, str, str]


@dataclass(frozen=True)
class Change:
    """One case: `ratio` above 1 is slower than before; None is not comparable, for the `reason`.

    `by` says what was compared: the names of the peers beside whom, or "time".
    """

    key: Key
    ours: str
    ratio: float | None
    by: str
    reason: str = ""


@dataclass(frozen=True)
class Changes:
    """All cases of the new result, and in what the machines `differ`."""

    rows: tuple[Change, ...]
    differ: tuple[str, ...] = ()
    missing: tuple[str, ...] = field(default=())

    def slower(self, threshold: float) -> list[Change]:
        """Those that take more than `threshold` times as long."""
        return [row for row in self.rows if row.ratio is not None and row.ratio > threshold]

    @property
    def compared(self) -> int:
        """How many could be compared."""
        return sum(row.ratio is not None for row in self.rows)


def _entries(record: Mapping[str, Any]) -> Iterator[tuple[Key, Mapping[str, Any]]]:
    """Every comparison that a record of ``convcore bench`` holds."""
    isa = record["machine"]["isa"]
    for one in [*record.get("results", ()), *record.get("peers", ())]:
        device = one.get("device", "cpu")
        on = one.get("isa", isa if device == "cpu" else "")
        yield (one["case"], one["batch"], one["threads"], device, on), one["peers"]


def _medians(peers: Mapping[str, Any]) -> dict[str, float]:
    return {name: one["median"] for name, one in peers.items() if one.get("median")}


def _versions(record: Mapping[str, Any], peer: str) -> dict[str, Any]:
    known = record["machine"]["versions"]
    return {name: known.get(name) for name in (PEERS[peer].packages if peer in PEERS else ())}


def _change(
    key: Key, old: Mapping[str, float], new: Mapping[str, float], peers: list[str], same: bool
) -> Iterator[Change]:
    for ours in (name for name in new if name.partition(" ")[0] == "convcore"):
        if ours not in old:
            yield Change(key, ours, None, "", "not timed in the old result")
        elif peers:
            ratios = [(new[ours] / new[p]) / (old[ours] / old[p]) for p in peers]
            yield Change(key, ours, statistics.median(ratios), ", ".join(peers))
        elif same:
            yield Change(key, ours, new[ours] / old[ours], "time")
        else:
            reason = "another machine and no peer of the same version in both: times are not comparable"
            yield Change(key, ours, None, "", reason)


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Changes:
    """Compare two records that ``convcore bench --json`` has written.

    Raises
    ------
    InputError
        One is no such record.

    Examples
    --------
    >>> machine = {"cpu": "x", "cores": 2, "isa": "avx2", "system": "Linux", "versions": {}}
    >>> def result(ms):
    ...     timed = {"convcore": {"median": ms}, "numpy": {"median": 2.0}}
    ...     return {"machine": machine, "peers": [{"case": "a", "batch": 1, "threads": 1, "peers": timed}]}
    >>> changes(result(1.0), result(1.5)).rows[0].ratio
    1.5
    """
    try:
        before, after = dict(_entries(old)), dict(_entries(new))
        context = [record["machine"] for record in (old, new)]
        differ = [f"{n}: {context[0][n]} before, {context[1][n]} now" for n in _MACHINE
                  if context[0][n] != context[1][n]]  # fmt: skip
        gpus = [(record.get("gpu") or {}).get("name") for record in (old, new)]
        rows: list[Change] = []
        for key, peers in after.items():
            then, now = _medians(before.get(key, {})), _medians(peers)
            if not any(name.partition(" ")[0] == "convcore" for name in now):
                continue
            if key not in before:
                rows.append(Change(key, "convcore", None, "", _why_missing(key, before)))
                continue
            common = [p for p in now if p in then and p.partition(" ")[0] not in ("convcore", *OWN)]
            common = [p for p in common if _versions(old, p) == _versions(new, p)]
            same = not differ if key[3] == "cpu" else gpus[0] == gpus[1]
            rows += _change(key, then, now, common, same)
    except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise InputError(
            "bench --compare", "this is no result of convcore bench --json", got=repr(error)
        ) from None
    gone = tuple(", ".join(map(str, key)) for key in before if key not in after)
    return Changes(tuple(rows), tuple(differ), gone)


def _why_missing(key: Key, before: Mapping[Key, Any]) -> str:
    for other in before:
        if other[0] == key[0]:
            names = ("batch", "threads", "device", "instruction set")
            pairs = zip(names, other[1:], key[1:], strict=True)
            return "; ".join(f"{n}: {a} before, {b} now" for n, a, b in pairs if a != b)
    return "not in the old result"
