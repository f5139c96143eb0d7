"""``convcore inspect`` and ``convcore verify``."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convcore import data
from convcore.cli import main
from convcore.loader.flops import node_flops
from convcore.loader.graph import Node

from .judges import import_keras
from .small_models import dense, flatten, write_sequential

Capture = pytest.CaptureFixture[str]


def run_json(capsys: Capture, *words: object, code: int = 0) -> Any:
    assert main([*map(str, words), "--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).standard_normal((12, 5), np.float32)
    return write_sequential(tmp_path / "m.h5", (2, 2, 3), [flatten(), dense(values, [0] * 5, "softmax")])


# ---- inspect


def test_a_model_that_runs(model: Path, capsys: Capture) -> None:
    found = run_json(capsys, "inspect", model)
    assert found["runs"] and found["unsupported"] == []
    assert (found["format"], found["keras_version"], found["backend"]) == ("h5", "2.4.0", "tensorflow")
    assert [x["class"] for x in found["layers"]] == ["InputLayer", "Flatten", "Dense"]
    assert found["parameters"] == 12 * 5 + 5
    # Multiply-adds, bias, softmax (maximum and subtraction, exponential, division).
    assert found["flops"] == 2 * 12 * 5 + 5 + 3 * 5
    assert main(["inspect", str(model), "--plan"]) == 0
    out = capsys.readouterr().out
    assert "parameters   65" in out and "unsupported  nothing" in out


def test_the_plan_has_the_columns_that_the_document_explains(capsys: Capture) -> None:
    document = (Path(__file__).parents[1] / "docs" / "cli.md").read_text()
    section = document.split("\n## inspect\n")[1].split("\n## ")[0]
    explained = [
        name for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for name in row.split(", ")
    ]
    shipped = Path(data.__path__[0]) / "lung_segmentation.keras"
    assert main(["inspect", str(shipped), "--plan"]) == 0
    lines = capsys.readouterr().out.split("\n\n")[-1].splitlines()
    assert [f"`{title}`" for title in lines[1].split()] == explained
    assert lines[0] in section and lines[1] in section
    # What the document shows of single steps, but for what depends on the instruction set.
    shown = [line.split("  ")[0].strip() for line in section.splitlines() if "down3" in line]
    assert shown and all(any(line.startswith(step) for line in lines) for step in shown)


def test_open_sizes_have_no_flops(tmp_path: Path, capsys: Capture) -> None:
    pool = ("GlobalAveragePooling2D", {"data_format": "channels_last"}, {})
    path = write_sequential(tmp_path / "o.h5", (None, None, 3), [pool, dense(np.eye(3), [0] * 3, "linear")])
    found = run_json(capsys, "inspect", path)
    assert found["inputs"][0]["shape"] == [None, None, 3]
    assert found["flops"] is None
    assert [x["flops"] for x in found["layers"]] == [0, None, 2 * 9 + 3]
    assert main(["inspect", str(path), "--plan"]) == 0
    out, err = capsys.readouterr()
    assert "? x ? x 3" in out and "no plan" in err


def kernel(*shape: int) -> dict[str, np.ndarray]:
    return {"kernel": np.zeros(shape, np.float32)}


@pytest.mark.parametrize(
    ("node", "inputs", "flops"),
    [
        (Node("c", "conv", ("x",), (4, 4, 8), {}, kernel(3, 3, 2, 8)), (6, 6, 2), 2 * 128 * 18),
        (Node("d", "depthwise_conv", ("x",), (4, 4, 6), {}, kernel(3, 3, 3, 2)), (6, 6, 3), 2 * 96 * 9),
        (Node("t", "conv_transpose", ("x",), (4, 8), {}, kernel(2, 8, 3)), (2, 3), 2 * 6 * 16),
        (Node("p", "max_pool", ("x",), (2, 2, 3), {"pool_size": (2, 2)}), (4, 4, 3), 48),
        (Node("g", "global_average_pool", ("x",), (3,), {"keepdims": False}), (4, 4, 3), 48),
        (Node("i", "identity", ("x",), (9,)), (9,), 0),
        (Node("r", "reshape", ("x",), (None,)), (None,), 0),
        (Node("a", "activation", ("x",), (None,), {"kind": "relu"}), (None,), None),
    ],
)
def test_flops(node: Node, inputs: tuple[int | None, ...], flops: int | None) -> None:
    assert node_flops(node, [inputs]) == flops


def test_every_unsupported_layer_is_named(tmp_path: Path, capsys: Capture) -> None:
    path = write_sequential(
        tmp_path / "u.h5",
        (4,),
        [
            dense(np.eye(4), [0] * 4, "relu"),
            ("MadeUp", {}, {}),
            ("Lambda", {"function": ["gA==", None, None], "function_type": "lambda"}, {}),
            ("SpatialTransformer", {}, {}),
        ],
    )
    found = run_json(capsys, "inspect", path, code=1)
    assert not found["runs"]
    assert [x["class"] for x in found["layers"]] == [
        "InputLayer",
        "Dense",
        "MadeUp",
        "Lambda",
        "SpatialTransformer",
    ]
    assert {"madeup_1", "spatialtransformer_3"} <= {x["name"] for x in found["unsupported"]}
    assert main(["inspect", str(path)]) == 1
    out, err = capsys.readouterr()
    assert "MadeUp" in out and "convcore inspect:" in err


@pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b'{"a": 1}'])
def test_files_that_are_no_models(content: bytes, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "bad.h5").write_bytes(content)
    assert main(["inspect", str(tmp_path / "bad.h5")]) == 1
    assert "bad.h5" in capsys.readouterr().err


def test_a_real_model_with_an_unsupported_layer(data_dir: Path, capsys: Capture) -> None:
    found = run_json(capsys, "inspect", data_dir / "models" / "lung" / "cxr_tthanh_full_model.h5", code=1)
    assert [x["class"] for x in found["unsupported"]] == ["Dense2DSpatialTransformer"]
    assert any(x["name"].startswith("UnetEncoder/") for x in found["layers"])


def test_a_real_model(data_dir: Path, capsys: Capture) -> None:
    found = run_json(capsys, "inspect", data_dir / "models" / "dogscats" / "JeanXL_cats_vs_dogs.h5")
    assert found["parameters"] == 44_466
    assert found["outputs"][0]["shape"] == [2]


# ---- verify


def test_verify(model: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["verify", str(model)]) == 0
    assert "right" in capsys.readouterr().out
    np.save(tmp_path / "x.npy", np.ones((1, 2, 2, 3)))
    found = run_json(capsys, "verify", model, "--input", tmp_path / "x.npy")
    assert found["ok"] and all(n["worst"] <= 1 for n in found["nodes"])


def test_verify_with_the_wrong_number_of_inputs(model: Path, tmp_path: Path, capsys: Capture) -> None:
    np.save(tmp_path / "x.npy", np.ones((1, 2, 2, 3)))
    x = str(tmp_path / "x.npy")
    assert main(["verify", str(model), "--input", x, "--input", x]) == 2
    assert "1 inputs" in capsys.readouterr().err


def test_tensorflow_does_not_greet(model: Path) -> None:
    import_keras()
    code = "import sys; from convcore.cli import main; sys.exit(main())"
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", code, "verify", str(model)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "Judge: Keras" in done.stdout
