"""A whole run: what is missing is said first, then part by part, each in a process, within a budget."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from convcore import machine_code
from convcore.bench.gpu import bars, making, preflight
from convcore.bench.gpu.parts import MEASURED
from convcore.bench.machine import machine
from convcore.errors import DeviceError, printable
from convcore.writers import write_json

__all__ = ["NOT_ASKED", "NOT_YET", "PARTS", "SANITIZERS", "Run", "UnmeasuredError", "run", "unmeasured"]

#: What a results file says where no GPU has run it.
NOT_YET = "not yet measured on hardware"
#: The status of a part that this run was not told to run.
NOT_ASKED = "not asked for"
#: The tools of compute-sanitizer that the tests can be run under; only when asked for, since it takes long.
SANITIZERS = ("memcheck", "racecheck")
#: All parts that are run unless others are named, in the order in which they are run.
PARTS = ("tests", *MEASURED)
#: The share of the budget that tests may take before what is measured gets its turn.
_SHARE_OF_TESTS = 0.4
#: A part is not begun with less time than that, in seconds: starting one and compiling takes as much.
_LEAST_SECONDS = 20.0
_TAIL_LINES = 40
#: Tests whose kernels run in the emulator even where there is a GPU, and those of measuring.
_EMULATED = ("test_cuda_simple", "test_cuda_samples", "test_cuda_bench")
#: The exit code that compute-sanitizer is told to end with if it finds something.
_SANITIZER_FOUND = 86
#: The exit code of pytest where a whole file was skipped.
_NOTHING_TO_TEST = 5


@dataclass(frozen=True)
class Run:
    """What to do.

    Parameters
    ----------
    parts
        Names among :data:`PARTS` and :data:`SANITIZERS`; they are run in that order.
    rounds
        Rounds of timing.
    budget
        Seconds for everything; what does not fit is "not reached". None: as long as it takes.
    peers
        Whether PyTorch is measured beside.
    tests
        The folder of the tests, for the part of that name.
    path
        The JSON file, written anew after every part; None writes none.
    keep
        Parts of that file that are not measured now stay, if they are of the same GPU, driver and sources.
    """

    parts: Sequence[str] = PARTS
    rounds: int = 20
    budget: float | None = None
    peers: bool = True
    tests: Path | None = None
    path: Path | None = None
    keep: bool = False


def unmeasured(found: preflight.Facts, sentences: Sequence[str]) -> dict[str, Any]:
    """Return the record of a machine that cannot measure: the reasons, and every bar without a value."""
    return {
        "status": NOT_YET,
        "reason": " ".join(sentences),
        "machine": machine(),
        "found": asdict(found),
        "parts": {name: {"status": "not measured", "reason": "see above"} for name in PARTS},
        "bars": bars.against({}),
    }


def run(what: Run, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> dict[str, Any]:
    """Measure and return the record, with a status for every part.

    Raises
    ------
    DeviceError
        Nothing can be measured; the sentences say why.
    """
    end = None if what.budget is None else clock() + what.budget
    found = preflight.facts()
    for line in described(found):
        say(line)
    problems = preflight.problems(found)
    fatal = [problem.sentence for problem in problems if problem.fatal]
    for problem in problems:
        if not problem.fatal:
            say(problem.sentence)
    if fatal:
        raise UnmeasuredError(found, fatal)
    record: dict[str, Any] = {
        "status": "",
        "machine": machine(),
        "found": asdict(found),
        "sources": machine_code.sources(),
        "settings": {"rounds": what.rounds, "budget_s": what.budget, "parts": list(what.parts)},
        "parts": {
            **{name: {"status": NOT_ASKED, "reason": ""} for name in PARTS},
            **(_kept(what, found) if what.keep else {}),
        },
    }
    with contextlib.ExitStack() as stack:
        folder = os.environ.get(machine_code.VARIABLE) or ""
        measured = [name for name in MEASURED if name in what.parts]
        if folder:
            record["kernels"] = {"status": "ready-made", "made_with": machine_code.Folder(folder).made_with}
        elif measured:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="convcore-cubins-"))
            record["kernels"] = _make(folder, found, measured, _left(end, clock), say)
        ordered = [name for name in (*PARTS, *SANITIZERS) if name in what.parts]
        _run_parts(ordered, what, record, folder, end, clock, say)
    return record


class UnmeasuredError(DeviceError):
    """Nothing can be measured: `found` is what there is, `sentences` say what is not."""

    def __init__(self, found: preflight.Facts, sentences: Sequence[str]) -> None:
        super().__init__("GPU", "; ".join(sentence.rstrip(".") for sentence in sentences))
        self.found = found
        self.sentences = tuple(sentences)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.found, self.sentences)


def described(found: preflight.Facts) -> list[str]:
    """Return the versions and the GPU, in lines."""
    versions = ", ".join(f"{name} {number}" for name, number in found.versions.items())
    lines = [f"versions: {versions}"]
    if found.gpu:
        gpu, smi = found.gpu, found.smi
        driver = smi.get("driver_version", f"for CUDA {gpu['driver_supports_cuda']}")
        memory = gpu["memory_bytes"] / 2**30
        lines.append(
            f"GPU: {gpu['name']}, compute capability {gpu['compute_capability']}, {memory:.0f} GiB, "
            f"driver {driver}"
        )
    return lines


def _left(end: float | None, clock: Callable[[], float]) -> float | None:
    return None if end is None else end - clock()


def _make(
    folder: str,
    found: preflight.Facts,
    parts: Sequence[str],
    seconds: float | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Compile all kernels; what failed is in the record, and shows again where it is missed."""
    major, minor = (int(n) for n in found.gpu["compute_capability"].split("."))
    start = time.perf_counter()
    say("compiling the kernels")
    try:
        said = making.make_apart(folder, machine_code.architecture((major, minor)), parts, seconds=seconds)
    except DeviceError as error:
        say(str(error))
        return {"status": "failed", "reason": str(error)}
    for line in said:
        say(line)
    made = machine_code.Folder(folder)
    return {
        "status": "compiled here",
        "wall_s": time.perf_counter() - start,
        "compile_s": made.seconds,
        "failed": said,
    }


def _run_parts(
    ordered: Sequence[str],
    what: Run,
    record: dict[str, Any],
    folder: str,
    end: float | None,
    clock: Callable[[], float],
    say: Callable[[str], None],
) -> None:
    parts = record["parts"]
    for name in ordered:
        parts[name] = {"status": "not reached", "reason": "the run was cut off"}
    for name in ordered:
        left = _left(end, clock)
        if left is not None and left < _LEAST_SECONDS:
            parts[name] = {"status": "not reached", "reason": f"{max(left, 0):.0f} s of the budget were left"}
            say(f"{name}: not reached, {parts[name]['reason']}")
            continue
        say(f"{name}{'' if left is None else f', {left:.0f} s left'}")
        start = clock()
        try:
            if name == "tests":
                share = 1.0 if ordered == ["tests"] else _SHARE_OF_TESTS
                parts[name] = _tests(what.tests, None if left is None else left * share)
            elif name in SANITIZERS:
                parts[name] = _tests(what.tests, left, tool=name)
            else:
                parts[name] = _part(name, what, folder, left)
        except Exception as error:
            parts[name] = {"status": "failed", "reason": printable(f"{type(error).__name__}: {error}", 500)}
        parts[name]["seconds"] = round(clock() - start, 1)
        reason = parts[name].get("reason")
        say(f"{name}: {parts[name]['status']}{f' ({reason})' if reason else ''}")
        _finish(what, record)
    _finish(what, record)


def _finish(what: Run, record: dict[str, Any]) -> None:
    """Put shares, bars and status of the parts so far into the record, and write it."""
    parts = record["parts"]
    bars.shares(parts)
    record["bars"] = bars.against(parts)
    done = [parts.get(name, {}).get("status") == "measured" for name in MEASURED]
    some = any(parts.get(name, {}).get("status") in ("measured", "partly measured") for name in MEASURED)
    record["status"] = "measured" if all(done) else "partly measured" if some else NOT_YET
    if what.path is not None:
        write_json(what.path, record)


def _kept(what: Run, found: preflight.Facts) -> dict[str, Any]:
    """Parts of an older file that were measured on the same GPU and driver, with the same sources."""
    try:
        older = json.loads(what.path.read_text()) if what.path is not None else {}
        gpu, smi = older["found"]["gpu"], older["found"]["smi"]
        alike = older["sources"] == machine_code.sources() and gpu.get("name") == found.gpu.get("name")
        alike = alike and smi.get("driver_version") == found.smi.get("driver_version")
        return dict(older["parts"]) if alike else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


# ------------------------------------------------------------------------------- parts, in processes


def _ran(
    command: Sequence[str], seconds: float | None, environment: Mapping[str, str], folder: Path | None = None
) -> tuple[int | None, str]:
    """Run a command: its exit code, None if it took too long and was ended, and what it said."""
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **environment}, cwd=folder,
            start_new_session=True,
        )  # fmt: skip
        code: int | None = None
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            making.end(process)
        except BaseException:
            making.end(process)
            raise
        log.seek(0)
        return code, log.read()


def _tail(said: str) -> list[str]:
    return [printable(line, 300) for line in said.splitlines()[-_TAIL_LINES:]]


def _part(name: str, what: Run, folder: str, seconds: float | None) -> dict[str, Any]:
    """Measure one part in a process of its own; what it had written when it ended counts."""
    with tempfile.TemporaryDirectory(prefix="convcore-part-") as scratch:
        out = Path(scratch) / "part.json"
        command = [sys.executable, "-m", "convcore.bench.gpu.worker", name, "--out", str(out)]
        command += ["--rounds", str(what.rounds)] + ([] if what.peers else ["--no-peers"])
        variables = {machine_code.VARIABLE: folder, **making.toolkit(), **_QUIET}
        code, said = _ran(command, seconds, variables)
        try:
            record: dict[str, Any] = json.loads(out.read_text())
        except (OSError, ValueError):
            record = {
                "status": "failed",
                "reason": f"the process ended with {code} before anything was measured",
            }
        if code is None:
            record["reason"] = f"ended after {seconds:.0f} s, when the budget was used up"
        elif code and record["status"] == "not finished":
            record |= {"status": "failed", "reason": f"the process ended with {code}"}
        if record["status"] == "not finished":
            record["status"] = "partly measured"
        if record["status"] == "failed":
            record["log"] = _tail(said)
        return record


#: Small grids are what small arrays need; Numba would warn of each.
_QUIET = {"NUMBA_CUDA_LOW_OCCUPANCY_WARNINGS": "0", "NUMBA_ENABLE_CUDASIM": "0"}


def _tests(folder: Path | None, seconds: float | None, tool: str = "") -> dict[str, Any]:
    """Run the GPU's tests. Those that run on the GPU come first, those in the emulator last.

    Under a `tool` of compute-sanitizer those in the emulator are left out.
    """
    if folder is None or not folder.is_dir():
        return {"status": "not measured", "reason": "the tests are not here: they belong to the source tree"}
    files = [path for pattern in ("test_cuda*.py", "test_gpu*.py") for path in sorted(folder.glob(pattern))]
    files.sort(key=lambda path: path.stem in _EMULATED)
    under: list[str] = []
    if tool:
        files = [path for path in files if path.stem not in _EMULATED]
        program = shutil.which("compute-sanitizer") or shutil.which(
            "compute-sanitizer", path="/usr/local/cuda/bin"
        )
        if program is None:
            return {"status": "not measured", "reason": "compute-sanitizer is not installed"}
        under = [
            program,
            "--tool",
            tool,
            "--error-exitcode",
            str(_SANITIZER_FOUND),
            "--target-processes",
            "all",
        ]
    options = ["-q", "-W", "ignore::pytest.PytestConfigWarning", "-p", "no:cacheprovider"]
    end = None if seconds is None else time.monotonic() + seconds
    record: dict[str, Any] = {"status": "passed", "exit_code": 0}
    reasons, log = [], []
    for path in files:  # each in a process: what crashes, or loses the GPU's context, takes no other down
        left = None if end is None else max(0.0, end - time.monotonic())
        command = [*under, sys.executable, "-m", "pytest", *options, str(path)]
        variables = {"CONVCORE_TEST_GPU": "1", **making.toolkit(), **_QUIET}
        code, said = _ran(command, left, variables, folder.parent)
        for word, number in counts(said).items():
            record[word] = record.get(word, 0) + number
        if code in (0, _NOTHING_TO_TEST):
            continue
        log += _tail(said)
        if code is None:
            record |= {"status": "timed out", "exit_code": None}
            reasons.append(f"ended after {seconds:.0f} s, in {path.stem}")
            break
        record |= {"status": "failed", "exit_code": code}
        if code == _SANITIZER_FOUND:
            reasons.append(f"{tool} has found errors")
        elif code != 1:  # one is pytest's word for a test that failed
            reasons.append(f"{path.stem} ended with {code}")
    if reasons:
        record["reason"] = "; ".join(dict.fromkeys(reasons))
    if log:
        record["log"] = log
    return record


def counts(said: str) -> dict[str, int]:
    """Return how many tests passed, failed and so on, by pytest's last line, or by its dots if it was ended.

    Examples
    --------
    >>> counts("..F\\n1 failed, 2 passed, 3 skipped in 0.1s")
    {'failed': 1, 'passed': 2, 'skipped': 3}
    >>> counts("..F. [ 10%]")
    {'passed': 3, 'failed': 1}
    """
    for line in reversed(said.splitlines()):
        if re.search(r"\bin \d+(\.\d+)?s", line):
            return {
                word: int(number)
                for number, word in re.findall(r"(\d+) (passed|failed|skipped|errors?)", line)
            }
    dots = "".join(
        m[1]
        for line in said.splitlines()
        if (m := re.fullmatch(r"([.FEsxX]+)\s*(\[ *\d+%\])?", line.strip()))
    )
    return {"passed": dots.count("."), "failed": dots.count("F") + dots.count("E")}
