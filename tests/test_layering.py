"""Imports go one way. The arrows are the house's plan; an import against them fails here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import convcore

ROOT = Path(convcore.__file__).parent

#: What each room may import from, beside itself. Rooms are the top-level modules and packages.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "bfloat16": set(),
    "memory": set(),
    "tables": set(),
    "activations": {"errors"},
    "extras": {"errors"},
    "drawing": {"extras"},
    "shapes": {"errors"},
    "data": {"errors"},
    "_native": set(),  # Cython, and not read here: it imports errors alone
    "writers": {"errors", "extras"},
    "machine_code": {"errors", "writers"},
    "reference": {"errors", "shapes"},
    "gpu": set(),
    "threads": {"_native", "errors", "threadpool"},
    "threadpool": {"_native", "threads"},
    "config": {"_native", "errors", "gpu"},
    "linking": {"errors"},
    "_capi": set(),  # Cython, and not read here: it imports nothing
    "numba_api": {"_capi", "errors", "linking"},
    "scipy_api": {"_capi", "_native", "activations", "errors"},
    "ops": {"_native", "activations", "errors", "memory", "shapes", "threads"},
    "cuda": {"_native", "bfloat16", "errors", "gpu", "machine_code", "ops"},
    "loader": {"errors", "shapes"},
    "plan": {"_native", "activations", "cuda", "errors", "loader", "memory", "tables", "writers"},
    "run": {"_native", "cuda", "errors", "loader", "memory", "plan", "reference", "tables"},
    # "study" is imported when a model is asked for a report: it is given what the engine has computed.
    "engine": {"errors", "loader", "plan", "run", "study", "tables"},
    "study": {
        "_native",
        "drawing",
        "errors",
        "extras",
        "gpu",
        "loader",
        "medical",
        "run",
        "writers",
    },
    "inputs": {"errors", "extras"},
    "medical": {"data", "errors", "extras", "inputs", "ops", "writers"},
    "bench": {
        "_native",
        "activations",
        "bfloat16",
        "config",
        "cuda",
        "drawing",
        "engine",
        "errors",
        "extras",
        "gpu",
        "loader",
        "machine_code",
        "memory",
        "ops",
        "plan",
        "reference",
        "run",
        "shapes",
        "tables",
        "writers",
    },
    "cli": {
        "_native",
        "bench",
        "config",
        "data",
        "engine",
        "errors",
        "inputs",
        "linking",
        "loader",
        "medical",
        "study",
        "tables",
        "writers",
    },
    "__main__": {"cli"},
    "__init__": set(),  # it names modules in a table and imports each when it is first used
}
#: The one room each of these libraries may be imported in.
ONLY_IN = {
    "h5py": "loader/hdf5.py",
    "pyfive": "loader/hdf5.py",
    "numba_cuda": "cuda/toolkit.py",
    "llvmlite": "cuda/instructions.py",
}
#: Judges and peers are never needed to run; the verifier asks for Keras if it happens to be installed.
JUDGES = {
    "keras": {"run/verify.py", "bench/array_peers.py"},
    "onnx": {"bench/formats.py"},
    **{name: {"bench/peers.py"} for name in ("onnxruntime", "openvino", "ai_edge_litert", "ncnn", "MNN")},
    "tensorflow": {"bench/peers.py", "bench/array_peers.py"},
    "torch": {"bench/peers.py", "bench/gpu/torch_peer.py"},
}


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        if path.parent.name == "chapters":
            continue  # programs that use the package, as a reader's do
        yield path.relative_to(ROOT), ast.parse(path.read_text())


def room(path: Path) -> str:
    return path.parts[0] if len(path.parts) > 1 else path.stem


def imported(tree: ast.Module) -> Iterator[str]:
    """Full names of everything a module imports, lazily or not; type-checking imports are free."""
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_room_is_on_the_plan() -> None:
    assert {room(p) for p, _ in modules()} <= set(ALLOWED)


def arrows(path: Path, tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(room that is imported, full name) of everything that a module imports from another room."""
    for name in imported(tree):
        parts = name.split(".")
        if parts[0] != "convcore" or len(parts) == 1 or parts[1] == room(path):
            continue
        # Otherwise a name of convcore/__init__.py, such as __version__.
        if (ROOT / parts[1]).is_dir() or list(ROOT.glob(f"{parts[1]}.*")):
            yield parts[1], name


def test_imports_follow_the_arrows() -> None:
    wrong = [
        f"{path} imports {name}"
        for path, tree in modules()
        for target, name in arrows(path, tree)
        if target not in ALLOWED[room(path)]
    ]
    assert not wrong


def test_every_arrow_is_needed() -> None:
    used = {(room(path), target) for path, tree in modules() for target, _ in arrows(path, tree)}
    assert {(here, target) for here, targets in ALLOWED.items() for target in targets} == used


def test_libraries_stay_in_their_room() -> None:
    wrong = []
    for path, tree in modules():
        for name in imported(tree):
            library = name.split(".")[0]
            if library in ONLY_IN and path.as_posix() != ONLY_IN[library]:
                wrong.append(f"{path} imports {library}")
            if library in JUDGES and path.as_posix() not in JUDGES[library]:
                wrong.append(f"{path} imports {library}")
    assert not wrong


def test_a_wrong_arrow_is_caught() -> None:
    """The tests can fail: a module of `loader` that reached up to `engine` would be named."""
    tree = ast.parse("from convcore.engine import load_model")
    assert {target for target, _ in arrows(Path("loader/wrong.py"), tree)} - ALLOWED["loader"] == {"engine"}
