"""Process start to first prediction, and peak memory: VGG16 and the Sonar network, each from its own format.

    pip install ".[bench-peers]"
    python benchmarks/cold_start.py [--rounds 5] [--networks sonar,sonar_h5,vgg16] [-o RESULT.json]

Linux only. Every sample is a fresh Python that imports one library, loads one file from the page cache and
predicts once. convcore reads what Keras wrote (.h5 for VGG16; .keras, and .h5 as sonar_h5, for Sonar), the
others what was converted for them. The peers take turns; "numpy" does nothing but import NumPy. Byte code is
written before anything is measured, as an installer does.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from convcore import data
from convcore.bench import case, installed, machine, median_ratio
from convcore.bench.formats import write_ncnn, write_onnx
from convcore.cli.terminal import note, print_json
from convcore.loader.graph import Graph
from convcore.writers import write_json

#: What each process runs: `path` is its file, `x` one example, channels last; it leaves the answer in `y`.
PROGRAMS = {
    "numpy": "y = x",  # nothing but the import: the floor of everything here
    "convcore": "import convcore; y = convcore.load_model(path)(x)",
    "onnxruntime": """
import onnxruntime
session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
y = session.run(None, {session.get_inputs()[0].name: first(x)})[0]""",
    "openvino": """
import openvino
hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
core = openvino.Core()
y = core.compile_model(core.read_model(path), "CPU", hints)({0: first(x)})[0]""",
    "litert": """
from ai_edge_litert.interpreter import Interpreter
net = Interpreter(path, num_threads=threads)
net.allocate_tensors()
net.set_tensor(net.get_input_details()[0]["index"], x)
net.invoke()
y = net.get_tensor(net.get_output_details()[0]["index"])""",
    "ncnn": """
import ncnn
net = ncnn.Net()
net.opt.num_threads = threads
net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
net.load_param(path)
net.load_model(path.replace(".param", ".bin"))
run = net.create_extractor()
image = first(x)[0]  # a Mat refers to NumPy's memory and does not keep it
run.input("input", ncnn.Mat(image))
y = np.array(run.extract(net.output_names()[-1])[1])[None]""",
}
#: The networks by the name that the command line takes.
NETWORKS = {"sonar": case("sonar_mlp"), "sonar_h5": case("sonar_mlp"), "vgg16": case("vgg16")}
FRAME = """
import sys
path, threads, x_path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
import numpy as np
x = np.load(x_path)
def first(x):
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)) if x.ndim > 2 else x
{program}
import json, time
now = time.time()
# Not getrusage: it remembers the process that started this one.
lines = open("/proc/self/status").read().splitlines()
peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
print(json.dumps([now, peak, np.asarray(y).ravel()[:1000].tolist()]))
"""


def write_sonar_h5(path: Path) -> None:
    """Write the Sonar example's own network as .h5."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    keras.models.load_model(data.path("sonar.keras")).save(path)


def write_vgg16_h5(path: Path, graph: Graph) -> None:
    """Write VGG16 as Keras 3 does, with the weights of `graph`."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    model = keras.applications.VGG16(weights=None, classifier_activation=None)
    arrays = [node.weights[name] for node in graph.nodes if node.weights for name in ("kernel", "bias")]
    model.set_weights(arrays)
    model.save(path)


def write_litert(path: Path, name: str) -> None:
    """Convert in a process of its own: the converter takes gigabytes and keeps them."""
    code = (
        "import sys; from convcore.bench import case; from convcore.bench.peers import LiteRt; "
        "open(sys.argv[2], 'wb').write(LiteRt(1).convert(case(sys.argv[1]).build(), 1))"
    )
    subprocess.run([sys.executable, "-c", code, name, str(path)], check=True, capture_output=True)


def write_files(folder: Path, network: str, peers: list[str]) -> dict[str, Path]:
    """Write the network in the format of every peer; return its path by peer."""
    graph = NETWORKS[network].build()
    paths = {"numpy": folder}
    if "convcore" in peers:
        # The Sonar example's own network has these sizes; the seeded one has no file of Keras's.
        paths["convcore"] = folder / "model.h5"
        if network == "sonar":
            paths["convcore"] = Path(data.path("sonar.keras"))
        elif network == "sonar_h5":
            write_sonar_h5(paths["convcore"])
        else:
            write_vgg16_h5(paths["convcore"], graph)
    if {"onnxruntime", "openvino"} & {*peers}:
        paths["onnxruntime"] = paths["openvino"] = folder / f"{network}.onnx"
        write_onnx(graph, 1, paths["onnxruntime"])
    if "ncnn" in peers:
        paths["ncnn"], _ = write_ncnn(graph, folder)
    if "litert" in peers:
        paths["litert"] = folder / f"{network}.tflite"
        write_litert(paths["litert"], NETWORKS[network].name)
    return paths


def sample(peer: str, path: Path, x_path: Path, threads: int) -> tuple[float, float, list[float]]:
    """Return seconds, peak MiB and the answer of one fresh process."""
    command = [
        sys.executable,
        "-c",
        FRAME.format(program=PROGRAMS[peer]),
        str(path),
        str(threads),
        str(x_path),
    ]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    start = time.time()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-300:] or f"ended with {done.returncode}")
    now, peak, y = json.loads(done.stdout.splitlines()[-1])
    return now - start, peak, y


def measure(network: str, peers: list[str], rounds: int, threads: int) -> dict[str, Any]:
    """Return medians of every peer, or the reason why there are none."""
    results: dict[str, Any] = {}
    samples: dict[str, list[tuple[float, float]]] = {}
    answers: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_files(folder, network, peers)
        x_path = folder / "x.npy"
        np.save(x_path, NETWORKS[network].inputs())
        for r in range(rounds + 1):  # the first writes byte code and fills the page cache
            for peer in peers:
                if peer in results:
                    continue
                try:
                    seconds, peak, y = sample(peer, paths[peer], x_path, threads)
                except (RuntimeError, KeyError) as error:
                    results[peer] = {"status": "failed", "reason": str(error)}
                    continue
                answers[peer] = np.array(y)
                if r:
                    samples.setdefault(peer, []).append((seconds, peak))
    same = [p for p in answers if p != "numpy" and (network == "vgg16" or p != "convcore")]
    for peer, found in samples.items():
        seconds = [s for s, _ in found]
        results[peer] = {
            "seconds": statistics.median(seconds),
            "peak_mib": statistics.median(p for _, p in found),
            "of_importing_numpy": median_ratio(seconds, [s for s, _ in samples["numpy"]]),
        }
        if peer in same:
            expected = answers[same[0]]
            results[peer]["difference"] = float(
                np.abs(answers[peer] - expected).max() / np.abs(expected).max()
            )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--networks", default="sonar,sonar_h5,vgg16")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("-o", "--output")
    options = parser.parse_args()
    peers = [name for name in PROGRAMS if name in installed()]
    result = {
        "benchmark": "cold_start",
        "threads": options.threads,
        "networks": {
            name: measure(name, peers, options.rounds, options.threads)
            for name in options.networks.split(",")
        },
        "machine": machine("onnxruntime", "openvino", "ai-edge-litert", "ncnn", "keras"),
    }
    print_json(result)
    if options.output:
        note(f"written: {write_json(options.output, result)}")


if __name__ == "__main__":
    main()
