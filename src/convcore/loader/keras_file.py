"""Keras's files, all of them: which kind a path is, where its configuration and its weights are.

``load_graph`` reads as data what it finds, and runs and imports nothing of it.
"""

from __future__ import annotations

import json
import os
import stat
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convcore.errors import ConvcoreWarning, ModelFormatError, WeightsError, printable
from convcore.loader import limits
from convcore.loader.build import build
from convcore.loader.call import Era
from convcore.loader.check import check_graph
from convcore.loader.graph import Graph, Source
from convcore.loader.hdf5 import SIGNATURE, Hdf5File
from convcore.loader.layers import parameters_of
from convcore.loader.precision import least_precise
from convcore.loader.topology import ModelRecord, read_model
from convcore.loader.weights import attach_listed, attach_pathed, variables

__all__ = ["load_graph"]

_ZIP = b"PK\x03\x04"
_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights"


class _Opened(ExitStack):
    """What is open, and which files were: path, size and time of each."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, tuple[str, int, int]] = {}


@dataclass
class _Found:
    """What the files say. `attach` gives the layers their stored arrays."""

    where: str
    format: str
    config: Any = None
    version: str | None = None
    backend: str | None = None
    attach: Callable[[ModelRecord], None] | None = None
    #: Version of the Keras that wrote the weights, which decides the order of kernels.
    weights_version: str | None = None


def load_graph(
    path: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    architecture: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    kernel_flip: bool | None = None,
) -> Graph:
    """Read a model that Keras 1, 2 or 3 saved.

    Parameters
    ----------
    path
        A ``.keras`` file or the folder it was unzipped to, an HDF5 file under any name (a whole model,
        or weights beside their configuration), or a JSON architecture beside its weights.
    weights
        HDF5 file of the weights, if `path` holds none or others are wanted.
    architecture
        JSON file or dictionary of the configuration, if `path` holds weights only.
    kernel_flip
        Whether convolution kernels are turned by half a turn on loading, as those that were trained
        with Theano must be. By default the file's ``backend`` attribute decides.

    Returns
    -------
    Graph
        Checked, with float32 weights; channels-first layers stand between ``permute`` nodes.

    Raises
    ------
    ModelFormatError
        No file, or not one of these, or damaged.
    UnsupportedLayerError, UnsafeModelError, WeightsError
        As their names say; each message names the file and the layer.

    Warns
    -----
    ConvcoreWarning
        Theano-ordered kernels in a file that does not say whether Theano trained them; or layers that
        Keras would compute in half precision.

    Examples
    --------
    >>> from convcore import data
    >>> graph = load_graph(data.path("sonar_baseline.keras"))
    >>> [(node.operation, node.shape) for node in graph.nodes][:2], graph.parameters
    ([('input', (60,)), ('dense', (60,))], 3721)
    """
    with _Opened() as stack:
        found = _open(Path(path), stack)
        if architecture is not None:
            _take_architecture(found, architecture, stack)
        elif found.config is None:
            _take_architecture(found, _beside(Path(path), _architectures(Path(path)), "architecture"), stack)
        if weights is not None or found.attach is None:
            _take_weights(found, weights, Path(path), stack)
        return _graph(found, kernel_flip, stack)


def _graph(found: _Found, kernel_flip: bool | None, stack: _Opened) -> Graph:
    model = read_model(found.config, found.where)
    needy = any(parameters_of(layer) for layer in model.walk())
    if found.attach is not None:
        found.attach(model)
    elif needy:
        raise WeightsError(found.where, "has no weights", remedy="Give the file that has them as weights=.")
    unsaid = kernel_flip is None and found.backend is None and _is_old(found.weights_version)
    theano = bool(kernel_flip) if found.backend is None else found.backend == "theano"
    era = Era(
        version=_version(found.version or found.weights_version),
        theano=theano,
        flip=theano if kernel_flip is None else kernel_flip,
        old_kernels=_is_old(found.weights_version),
    )
    notes = []
    if unsaid and any(_theano_ordered(layer) for layer in model.walk()):
        notes.append("Theano-ordered kernels, taken as stored: the file does not name its backend")
        warnings.warn(
            f"{found.where}: {notes[0]}. If Theano trained it, load it with kernel_flip=True;"
            " kernel_flip=False says that it did not.",
            ConvcoreWarning,
            stacklevel=4,
        )
    precision, policy = least_precise(layer.settings.values for layer in model.walk())
    if precision != "float32":
        notes.append(f"its policy is {policy}; convcore computes it in float32")
        warnings.warn(f"{found.where}: {notes[-1]}", ConvcoreWarning, stacklevel=4)
    source = Source(
        found.where,
        found.format,
        found.version or "",
        found.backend,
        tuple(notes),
        precision,
        tuple(stack.files.values()),
    )
    graph = build(model, era, source)
    check_graph(graph)
    return graph


def _theano_ordered(layer: Any) -> bool:
    return "Conv" in layer.class_name and layer.settings.values.get("data_format") == "channels_first"


def _version(text: str | None) -> tuple[int, ...]:
    """The leading numbers of a version: "2.2.4-tf" is (2, 2, 4)."""
    numbers = []
    for part in (text or "").split("-")[0].split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part[:6]))
    return tuple(numbers)


def _is_old(weights_version: str | None) -> bool:
    """Keras 1 wrote no version beside the weights."""
    return weights_version is None or _version(weights_version)[:1] == (1,)


# Files


def _open(path: Path, stack: _Opened) -> _Found:
    where = str(path)
    if path.is_dir():
        return _open_folder(path, stack)
    start = _first_bytes(path, stack)
    if start.startswith(SIGNATURE):
        return _open_hdf5(path, stack)
    if start.startswith(_ZIP):
        return _open_zip(path, stack)
    if start.lstrip()[:1] == b"{":
        found = _Found(where, "json")
        _take_architecture(found, path, stack)
        return found
    raise ModelFormatError(
        where, "no Keras file", got=start[:8] or "an empty file", expected="HDF5, a .keras archive, or JSON"
    )


def _first_bytes(path: Path, stack: _Opened) -> bytes:
    """The first bytes of a regular file. Opening anything else, such as a pipe, could wait for ever."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ModelFormatError(str(path), "not a regular file")
        limits.check_size(status.st_size, limits.FILE_BYTES, str(path), "file")
        name = str(path.absolute())
        stack.files[name] = (name, status.st_size, status.st_mtime_ns)
        with path.open("rb") as file:
            return file.read(64)
    except OSError as error:
        raise ModelFormatError(str(path), error.strerror or "cannot be opened") from error


def _open_folder(path: Path, stack: _Opened) -> _Found:
    """An unzipped ``.keras`` file."""
    if not (path / _CONFIG).exists():
        raise ModelFormatError(
            str(path), "is a folder, not a model", expected=f"a file, or an unzipped .keras with {_CONFIG}"
        )
    found = _Found(str(path), "keras-folder")
    _first_bytes(path / _CONFIG, stack)
    found.config = _json(_bounded_text(path / _CONFIG), found.where)
    if (path / _METADATA).exists():
        _first_bytes(path / _METADATA, stack)
        found.version = _keras_version(_json(_bounded_text(path / _METADATA), found.where))
    h5, npz = path / f"{_WEIGHTS}.h5", path / f"{_WEIGHTS}.npz"
    if h5.exists():
        _first_bytes(h5, stack)
        _pathed(found, variables(stack.enter_context(Hdf5File(h5, str(h5)))))
    elif npz.exists():
        from convcore.loader.archive import npz_variables

        _first_bytes(npz, stack)
        _pathed(found, npz_variables(npz.read_bytes(), str(npz)))
    return found


def _open_zip(path: Path, stack: _Opened) -> _Found:
    from convcore.loader.archive import Archive, npz_variables  # zipfile is slow to import

    found = _Found(str(path), "keras")
    archive = stack.enter_context(Archive(path, found.where))
    if _CONFIG not in archive.names:
        raise ModelFormatError(found.where, "a zip file, but no Keras model", expected=f"a member {_CONFIG}")
    found.config = _json(archive.read(_CONFIG, limits.CONFIG_BYTES), found.where)
    if _METADATA in archive.names:
        found.version = _keras_version(_json(archive.read(_METADATA, limits.CONFIG_BYTES), found.where))
    for suffix in ("h5", "npz"):
        member = f"{_WEIGHTS}.{suffix}"
        if member in archive.names:
            where = f"{found.where}: {member}"
            if suffix == "h5":
                file = archive.open(member, limits.FILE_BYTES)
                _pathed(found, variables(stack.enter_context(Hdf5File(file, where))))
            else:
                _pathed(found, npz_variables(archive.read(member, limits.FILE_BYTES), where))
            break
    return found


def _pathed(found: _Found, arrays: dict[str, Any]) -> None:
    # The file may be of a version that says nothing; the format itself is Keras 3's.
    found.weights_version = found.version or "3"
    found.attach = lambda model: attach_pathed(arrays, model, found.where)


def _open_hdf5(path: Path, stack: _Opened) -> _Found:
    found = _Found(str(path), "h5")
    file = stack.enter_context(Hdf5File(path, found.where))
    config = file.attribute("", "model_config")
    if config is not None:
        if not isinstance(config, str):
            raise ModelFormatError(found.where, "model_config", got=type(config).__name__, expected="text")
        found.config = _json(config, found.where)
    _read_weights(found, file)
    return found


def _read_weights(found: _Found, file: Hdf5File) -> None:
    """Take the weights of an HDF5 file, in whichever of the two layouts."""
    root = "model_weights" if file.is_group("model_weights") else ""
    if file.names(root, "layer_names") is not None:
        version = _text(file, root, "keras_version")
        found.weights_version = version or _text(file, "", "keras_version")
        found.version = found.version or found.weights_version
        found.backend = found.backend or _text(file, root, "backend") or _text(file, "", "backend")
        found.attach = lambda model: attach_listed(file, root, model)
        return
    arrays = variables(file)
    if arrays:
        _pathed(found, arrays)


def _text(file: Hdf5File, group: str, name: str) -> str | None:
    value = file.attribute(group, name)
    return value if isinstance(value, str) else None


# Configuration and weights that are in files of their own


def _take_architecture(
    found: _Found, given: str | os.PathLike[str] | Mapping[str, Any], stack: _Opened
) -> None:
    if isinstance(given, Mapping):
        config: Any = given
    else:
        path = Path(given)
        _first_bytes(path, stack)
        config = _json(_bounded_text(path), str(path))
    found.config = config
    if isinstance(config, Mapping):
        found.version = _keras_version(config) or found.version
        backend = config.get("backend")
        found.backend = found.backend or (backend if isinstance(backend, str) else None)


def _take_weights(found: _Found, given: str | os.PathLike[str] | None, path: Path, stack: _Opened) -> None:
    if given is None:
        candidates = [c for c in _weight_files(path) if c.is_file()] if path.suffix == ".json" else []
        if not candidates:
            return
        given = candidates[0]
    target = Path(given)
    if not _first_bytes(target, stack).startswith(SIGNATURE):
        raise ModelFormatError(str(target), "weights", expected="an HDF5 file (.h5)")
    found.attach = None
    _read_weights(found, stack.enter_context(Hdf5File(target, str(target))))
    if found.attach is None:
        found.attach = lambda model: _attach_none(model, str(target))


def _attach_none(model: ModelRecord, where: str) -> None:
    """Keras writes an empty file for a model without weights; for any other it is the wrong file."""
    if any(parameters_of(layer) for layer in model.walk()):
        raise WeightsError(where, "holds no weights of Keras")


def _architectures(path: Path) -> list[Path]:
    """Where the configuration of a weights-only file is looked for."""
    stem = path.name.removesuffix(path.suffix)
    stems = dict.fromkeys((stem, stem.removesuffix(".weights"), stem.removesuffix("_weights")))
    beside = [path.with_name(f"{s}.json") for s in stems]
    return [*beside, path.with_name(_CONFIG)] if path.name == f"{_WEIGHTS}.h5" else beside


def _weight_files(path: Path) -> list[Path]:
    return [path.with_name(path.stem + end) for end in (".h5", "_weights.h5", ".weights.h5", ".hdf5")]


def _beside(path: Path, candidates: list[Path], option: str) -> Path:
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    looked = ", ".join(printable(c.name) for c in candidates)
    raise ModelFormatError(
        str(path),
        f"holds weights only, and there is no {looked} beside it",
        remedy=f"Give the model's JSON (Keras's model.to_json()) as {option}=.",
    )


def _bounded_text(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(limits.CONFIG_BYTES + 1)


def _json(text: str | bytes, where: str) -> Any:
    """Parse JSON within bounds; a key given twice is an error, as readers differ in which they take."""
    limits.check_size(len(text), limits.CONFIG_BYTES, where, "configuration")
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        limits.check_depth(text, where)
        value = json.loads(text, object_pairs_hook=lambda pairs: _object(pairs, where))
        # Keras's to_json() gives text; some scripts then dump that text as JSON once more.
        return _json(value, where) if isinstance(value, str) and value[:1] == "{" else value
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelFormatError(where, f"the configuration is no JSON ({error})") from error
    except ModelFormatError:
        raise
    except ValueError as error:  # a number with thousands of digits
        raise ModelFormatError(where, f"the configuration ({error})") from error


def _object(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ModelFormatError(where, "a key stands twice in the configuration")
    return result


def _keras_version(config: Any) -> str | None:
    version = config.get("keras_version") if isinstance(config, Mapping) else None
    return version if isinstance(version, str) else None
