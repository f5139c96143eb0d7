"""What a user without a GPU, or without numba-cuda, is told."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from convcore import data
from convcore.cli import main
from convcore.errors import ArgumentError, DeviceError, DTypeError, OutOfMemoryError

RELU = "import numpy as np, convcore.cuda as g; g.relu(np.ones(3, np.float32))"


def complaint(code: str, **environment: str) -> str:
    """The last line on stderr of a Python that runs `code`, without the simulator."""
    variables = {**os.environ, "NUMBA_ENABLE_CUDASIM": "0", **environment}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=variables, check=False
    )
    assert run.returncode == 1, run.stderr
    return run.stderr.strip().splitlines()[-1]


def test_without_numba_cuda_the_extra_is_named() -> None:
    blocked = "import sys; sys.modules['numba_cuda'] = None; sys.modules['numba'] = None; "
    said = complaint(blocked + RELU)
    assert said.startswith("convcore.errors.MissingExtraError: convcore.cuda: needs numba-cuda")
    assert said.endswith('Install it with: pip install "convcore[cuda]"')


@pytest.mark.slow
def test_tests_pass_without_the_extra(tmp_path: Path) -> None:
    """Those that need it are skipped, wherever they ask for it; all others pass."""
    block = (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.split('.')[0] in ('numba', 'numba_cuda', 'llvmlite', 'cuda'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
    )
    (tmp_path / "sitecustomize.py").write_text(block)  # for the processes that tests start, too
    tests = Path(__file__).parent
    files = [p for pattern in ("test_cuda*.py", "test_gpu.py", "test_ptx*.py") for p in tests.glob(pattern)]
    files += [tests / f"test_{name}.py" for name in ("bfloat16", "docstrings", "import", "layering", "plan")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    run = subprocess.run(
        [*command, *map(str, sorted(files))], capture_output=True, text=True, cwd=tests.parent,
        env={**os.environ, "PYTHONPATH": path}, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-4000:]
    assert {"passed", "skipped"} == set(re.findall(r"\d+ (passed|failed|skipped|error)", run.stdout[-200:]))


def test_the_extra_pins_one_version_of_cuda_and_a_numpy_that_numba_cuda_works_with() -> None:
    project = Path(__file__).parents[1] / "pyproject.toml"
    requirements = pytest.importorskip("packaging.requirements")
    extra = tomllib.loads(project.read_text())["project"]["optional-dependencies"]["cuda"]
    pins = {made.name: made for made in map(requirements.Requirement, extra)}
    assert {"numba-cuda", "numba", "numpy", "cuda-toolkit", "nvidia-nvjitlink"} == set(pins)
    assert pins["numba-cuda"].extras == {"cu13"} and str(pins["numba-cuda"].specifier) == "==0.30.4"
    # It asks for names that NumPy 2.5 no longer has.
    numpy = pins["numpy"].specifier
    assert numpy.contains("2.4.9") and not numpy.contains("2.5.0") and not numpy.contains("3.0")
    # PTX of a newer CUDA is refused by an older one's linker.
    assert {str(pins[name].specifier) for name in ("cuda-toolkit", "nvidia-nvjitlink")} == {"==13.0.*"}
    assert pins["cuda-toolkit"].extras >= {"nvvm", "nvrtc", "cudart"}
    for name, made in pins.items():
        assert not made.specifier.contains("999"), name


def test_without_a_gpu_the_reason_is_given() -> None:
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    import convcore.cuda as cuda

    code = "import convcore.cuda as g; print(g.is_available()); assert not g.is_available()"
    variables = {**os.environ, "NUMBA_ENABLE_CUDASIM": "0"}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=variables, check=False
    )
    if run.returncode:
        pytest.skip("this machine has a GPU")
    assert run.stdout == "False\n"
    for call in (RELU, "import numpy as np, convcore.cuda as g; g.to_device(np.ones(3))"):
        said = complaint(call)
        assert said.startswith("convcore.errors.DeviceError: ")
        assert "driver" in said or "no GPU" in said or "compute capability" in said
        assert said.endswith("expected an NVIDIA GPU of the Ampere generation or later")
    assert cuda.is_available()  # the simulator, in this process


def test_numpy_without_row_stack_is_no_obstacle() -> None:
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    code = (
        "import numpy as np, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "if 'row_stack' in vars(np): del np.row_stack\n"
        "import convcore.cuda.toolkit as t\n"
        "print('row_stack' in vars(np), t.cuda.__name__)"
    )
    variables = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=variables, check=False
    )
    assert run.stdout == "False numba.cuda\n", run.stderr


def test_numba_does_not_warn_of_small_arrays_unless_it_is_asked_to() -> None:
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    asks = "d.config.CUDA_LOW_OCCUPANCY_WARNINGS"
    code = f"import convcore.cuda.toolkit, numba.cuda.dispatcher as d; print({asks})"
    for asked, found in ((None, 0), ("1", 1)):
        variables = {**os.environ, "NUMBA_ENABLE_CUDASIM": "0"}
        variables.pop("NUMBA_CUDA_LOW_OCCUPANCY_WARNINGS", None)
        variables |= {} if asked is None else {"NUMBA_CUDA_LOW_OCCUPANCY_WARNINGS": asked}
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=variables, check=False
        )
        assert run.stdout == f"{found}\n", run.stderr


# ---- what a driver complains of, by a stand-in for it


class CudaAPIError(Exception):
    """As Numba raises it."""

    __module__ = "numba.cuda.cudadrv.driver"


OUT_OF_MEMORY = "[2] Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY"


class Context:
    """A context of a GPU on which every allocation fails, as `message` says."""

    def __init__(self, message: str) -> None:
        self.message = message

    def memalloc(self, nbytes: int) -> None:
        raise CudaAPIError(self.message)

    def get_memory_info(self) -> tuple[int, int]:
        return 1_000, 2_000_000


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module convcore.cuda.device, on a GPU that fails to allocate."""
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    from convcore.cuda import arrays, device

    context = Context(OUT_OF_MEMORY)
    fake = SimpleNamespace(
        current_context=lambda: context,
        get_current_device=lambda: SimpleNamespace(id=0),
        external_stream=lambda handle: SimpleNamespace(handle=handle),
    )
    for module in (arrays, device):
        monkeypatch.setattr(module, "cuda", fake)
        monkeypatch.setattr(module, "simulated", False)
    monkeypatch.setattr(device, "_why_unusable", lambda number: "")
    device.context = context
    yield device
    del device.context


def test_out_of_memory_says_how_much_was_asked_for_and_is_free(device: Any) -> None:
    from convcore.cuda import empty

    with pytest.raises(OutOfMemoryError) as caught:
        empty((1000, 500))
    assert str(caught.value) == (
        "convcore.cuda: no memory on the GPU, got 2,000,000 bytes asked for, expected at most 1,000 bytes, "
        "which are free of 2,000,000. A smaller batch needs less."
    )
    assert isinstance(caught.value, MemoryError) and isinstance(caught.value, DeviceError)
    device.context.get_memory_info = lambda: 1 / 0  # a driver that answers nothing any more
    with pytest.raises(OutOfMemoryError, match="2,000,000 bytes asked for, expected enough free"):
        empty((1000, 500))


def test_other_failures_of_an_allocation_are_errors_of_the_device(device: Any) -> None:
    from convcore.cuda import empty

    device.context.message = "[700] Call to cuMemAlloc results in CUDA_ERROR_ILLEGAL_ADDRESS"
    with pytest.raises(DeviceError, match=r"CUDA failed, got .*ILLEGAL_ADDRESS.*start the process again"):
        empty((3,))


def test_what_a_launch_fails_with_names_the_operation(device: Any) -> None:
    message = "[222] Call to cuModuleLoad results in CUDA_ERROR_UNSUPPORTED_PTX_VERSION"
    expected = r"^conv2d: CUDA failed.*UNSUPPORTED_PTX_VERSION.*update it"
    with pytest.raises(DeviceError, match=expected), device.launching(None, "conv2d"):
        raise CudaAPIError(message)
    with pytest.raises(ZeroDivisionError), device.launching(None, "conv2d"):
        1 / 0  # noqa: B018 - no error of CUDA
    assert device.stream.get() == 0


def test_a_call_of_the_driver_fails_by_its_name(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from cuda.bindings import driver

    success, invalid = driver.CUresult.CUDA_SUCCESS, driver.CUresult.CUDA_ERROR_INVALID_HANDLE
    monkeypatch.setattr(driver, "cuGraphLaunch", lambda *a: (invalid,))
    with pytest.raises(DeviceError, match=r"^cuGraphLaunch: CUDA failed, got .*INVALID_HANDLE"):
        device.call("cuGraphLaunch", 1, 2)
    monkeypatch.setattr(driver, "cuGraphLaunch", lambda *a: (success,))
    assert device.call("cuGraphLaunch", 1, 2) == ()
    monkeypatch.setattr(driver, "cuStreamCreate", lambda *a: (success, 7))
    assert device.call("cuStreamCreate", 0) == 7


def test_a_gpu_that_cannot_be_used_is_refused_with_the_reason(
    device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convcore.cuda import is_available

    assert is_available()
    reasons = {None: "", 0: "Tesla V100 has compute capability 7.0; the kernels need 8.0"}
    monkeypatch.setattr(device, "_why_unusable", lambda number: reasons[number])
    with pytest.raises(DeviceError, match=r"^relu: Tesla V100 has compute .*, expected an NVIDIA GPU"):
        device.require_gpu("relu")
    assert not is_available()


def test_a_stream_is_a_stream(device: Any) -> None:
    with pytest.raises(ArgumentError, match=r"^relu: stream, got str, expected a CUDA stream or its handle"):
        device.as_stream("default", "relu")
    assert device.as_stream(None, "relu") == device.as_stream(0, "relu") == 0
    for stream in (7, SimpleNamespace(cuda_stream=7), SimpleNamespace(ptr=7)):
        assert device.handle_of(device.as_stream(stream, "relu")) == 7
    new = SimpleNamespace(__cuda_stream__=lambda: (0, 7))
    assert device.handle_of(device.as_stream(new, "relu")) == 7


# ---- arrays in the wrong place


def test_threads_and_float64_are_the_cpu_s() -> None:
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    import convcore.cuda as cuda

    assert "num_threads" not in inspect.signature(cuda.relu).parameters
    with pytest.raises(TypeError, match="takes no num_threads"):
        cuda.relu(None, num_threads=2)
    if not cuda.is_available():
        pytest.skip("no GPU, and no simulator, to refuse float64")
    x, w = cuda.to_device(np.ones((1, 4, 1))), cuda.to_device(np.ones((2, 1, 1)))
    with pytest.raises(DTypeError, match="dtype, got float64, expected float32, on a GPU"):
        cuda.conv1d(x, w, dtype="float64")


def test_arrays_in_main_memory_are_refused_and_never_copied() -> None:
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    import convcore.cuda as cuda

    x, d_x = np.ones((1, 4, 4, 1), np.float32), cuda.to_device(np.ones((1, 4, 4, 1), np.float32))
    w = np.ones((3, 3, 1, 1), np.float32)
    for call, name in (
        (lambda: cuda.conv2d(d_x, w), "kernel|w"),
        (lambda: cuda.relu(x), "x"),
        (lambda: cuda.relu(d_x, out=x), "out"),
    ):
        with pytest.raises(DeviceError, match=f"({name}) lies in main memory, got ndarray"):
            call()
    with pytest.raises(DTypeError, match="x is no array, got list"):
        cuda.relu([1.0, 2.0])
    with pytest.raises(DTypeError, match="to_device: x, got DeviceArray, expected a NumPy array"):
        cuda.to_device(d_x)
    with pytest.raises(DeviceError, match="its elements lie on the GPU"):
        np.asarray(d_x)


# ---- the command line


def test_predict_and_verify_on_the_gpu(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    model, rows = data.path("sonar_baseline.keras"), tmp_path / "x.npy"
    np.save(rows, np.random.default_rng(0).uniform(0, 1, (2, 60)).astype(np.float32))
    answers = []
    for words in ([], ["--device", "cuda"], ["--device", "cuda", "--precision", "tf32"]):
        assert main(["predict", str(model), str(rows), *words]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1] and len(answers[2].splitlines()) == len(answers[0].splitlines())
    assert main(["inspect", str(model), "--plan", "--device", "cuda"]) == 0
    assert "on cuda" in capsys.readouterr().out
    assert main(["verify", str(model), "--device", "cuda", "--input", str(rows)]) == 0
    assert main(["predict", str(model), str(rows), "--precision", "tf32"]) == 1
    assert "the CPU computes in float32, got tf32" in capsys.readouterr().err


def test_the_command_line_says_in_a_sentence_that_no_gpu_can_be_used() -> None:
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    words = ["verify", str(data.path("sonar_baseline.keras")), "--device", "cuda"]
    code = f"from convcore.cli import main; raise SystemExit(main({words}))"
    said = complaint(code, NUMBA_DISABLE_CUDA="1")
    assert said == (
        "convcore verify: simple: NUMBA_DISABLE_CUDA is set in the environment, "
        "expected an NVIDIA GPU of the Ampere generation or later"
    )
