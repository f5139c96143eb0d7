"""load_model and Model: the objects that people hold."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from convcore import reference
from convcore.engine import Model, load_model
from convcore.errors import ArgumentError, ConvcoreError, DeviceError, DTypeError, ModelError
from convcore.plan import Device

from .graphs import GraphBuilder, convnet
from .judges import import_keras


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(convnet(), Device())


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(5).standard_normal((8, 12, 13, 5), np.float32)


def two_ends() -> Model:
    b = GraphBuilder()
    left, right = b.input(4, 3), b.input(4, 3)
    total = b.add("add", [left, right])
    return Model(b.graph(total, b.activation(total, "relu")), Device())


def test_predict_and_call_give_the_same_bits(model: Model, x: np.ndarray) -> None:
    expected = model(x)
    assert expected.shape == (8, 7)
    assert expected.dtype == np.float32
    for batch_size in (1, 3, 8, 100):
        assert np.array_equal(model.predict(x, batch_size=batch_size), expected)
    assert np.array_equal(model(x[3:4])[0], expected[3])


def test_inputs_may_be_strided_and_of_other_types(model: Model, x: np.ndarray) -> None:
    expected = model(x)
    assert np.array_equal(model(np.asfortranarray(x)), expected)
    assert np.array_equal(model(x.astype(np.float64)), expected)
    assert np.array_equal(model(x[::-1])[::-1], expected)
    integers = (x * 10).astype(np.int16)
    assert np.array_equal(model(integers), model(integers.astype(np.float32)))


def test_the_short_way_takes_what_it_is_bound_to_and_nothing_else(model: Model, x: np.ndarray) -> None:
    expected = model(x)
    assert x.shape in model._calls
    bound = model._calls[x.shape]
    read_only = x.copy()
    read_only.flags.writeable = False
    assert np.array_equal(bound(x), expected) and np.array_equal(bound(read_only), expected)
    others = (
        x.astype(">f4"), x.astype(np.float64), np.asfortranarray(x), x[:, ::-1], x[:3], x.view(np.int32),
        x[..., None], x.astype("datetime64[s]"), x.astype(object), "text", None,
    )  # fmt: skip
    for other in others[:-2]:
        assert bound(other) is None
    for other in others[-2:]:
        with pytest.raises(TypeError):
            bound(other)
    # Whatever does not fit goes the long way, with the same numbers and the same errors.
    assert np.array_equal(model(x.astype(">f4")), expected)
    assert np.array_equal(model(x[:, ::-1]), model(x[:, ::-1].copy()))
    with pytest.raises(DTypeError, match="real numbers"):
        model(x.astype(np.complex64))
    with pytest.raises(ArgumentError, match="shape"):
        model(x[:0])


def test_every_call_gives_an_array_of_its_own(model: Model, x: np.ndarray) -> None:
    first, second = model(x), model(-x)
    kept = first.copy()
    assert not np.shares_memory(first, second)
    model(2 * x)
    assert np.array_equal(first, kept)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers")
def test_a_signal_ends_a_long_call_on_the_short_way() -> None:
    b = GraphBuilder()
    value = b.input(256, 256, 32)
    for _ in range(40):
        value = b.conv(value, 32, (3, 3))
        value = b.activation(value, "sigmoid")
    model = Model(b.graph(value), Device(accuracy="direct"))
    x = np.ones((1, 256, 256, 32), np.float32)
    start = time.perf_counter()
    expected = model(x)
    whole = time.perf_counter() - start
    assert x.shape in model._calls

    class Stop(Exception):  # noqa: N818
        pass

    def stop(*_: object) -> None:
        raise Stop

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, whole / 10)
        start = time.perf_counter()
        with pytest.raises(Stop):
            model(x)
        assert time.perf_counter() - start < 0.8 * whole + 0.1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert np.array_equal(model(x), expected)


def test_many_shapes_keep_few_programs(model: Model, x: np.ndarray) -> None:
    for n in (*range(1, 9), 3):
        assert np.array_equal(model(x[:n]), model.predict(x[:n]))
        assert len(model._calls) <= 4


def test_several_inputs_and_outputs() -> None:
    model = two_ends()
    a, b = (np.random.default_rng(i).standard_normal((2, 4, 3), np.float32) for i in (0, 1))
    for given in ([a, b], (a, b), dict(zip(model.input_names, (a, b), strict=True))):
        total, positive = model.predict(given)
        assert np.array_equal(total, a + b)
        assert np.array_equal(positive, np.maximum(a + b, 0))


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        (np.zeros((2, 12, 13, 4), np.float32), ArgumentError, "shape"),
        (np.zeros((12, 13, 5), np.float32), ArgumentError, "shape"),
        (np.zeros((0, 12, 13, 5), np.float32), ArgumentError, "shape"),
        (np.zeros((2, 12, 13, 5), np.complex64), DTypeError, "real numbers"),
        (np.array([["a"]]), DTypeError, "real numbers"),
        ({"other": np.zeros((2, 12, 13, 5), np.float32)}, ArgumentError, "by name"),
    ],
)
def test_bad_input_is_refused(model: Model, given: object, error: type[ConvcoreError], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        model.predict(given)  # type: ignore[arg-type]
    assert model.name in caught.value.where


def test_wrong_number_of_inputs_is_refused() -> None:
    with pytest.raises(ArgumentError, match="inputs"):
        two_ends().predict([np.zeros((1, 4, 3), np.float32)] * 3)
    with pytest.raises(ArgumentError, match="length"):
        two_ends().predict([np.zeros((1, 4, 3), np.float32), np.zeros((2, 4, 3), np.float32)])


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, "a"])
def test_bad_batch_size_is_refused(model: Model, x: np.ndarray, batch_size: object) -> None:
    with pytest.raises(ArgumentError, match="batch_size"):
        model.predict(x, batch_size=batch_size)  # type: ignore[arg-type]


def test_batch_size_may_be_left_to_the_default(model: Model, x: np.ndarray) -> None:
    assert np.array_equal(model.predict(x, batch_size=None), model(x))
    assert np.array_equal(model.predict(x, batch_size=np.int64(3)), model(x))


def test_unknown_device_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="abacus"):
        load_model(tmp_path / "m.keras", device="abacus")


def test_many_threads_share_a_model(model: Model, x: np.ndarray) -> None:
    expected = model(x)
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(50):
            if not np.array_equal(model(x[i : i + 1]), expected[i : i + 1]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_trace_has_every_layer_and_agrees(model: Model, x: np.ndarray) -> None:
    trace = model.trace(x)
    assert set(trace) == {layer.name for layer in model.layers}
    for layer in model.layers:
        assert trace[layer.name].shape == (8, *layer.shape)
    assert np.abs(trace[model.output_names[0]] - model(x)).max() < 2**-24 * 2000


def test_trace_never_hands_back_the_callers_array(model: Model, x: np.ndarray) -> None:
    for value in model.trace(x).values():
        assert not np.shares_memory(value, x)


def test_profile_names_every_step(model: Model, x: np.ndarray) -> None:
    result = model.profile(x, repeats=3)
    assert [s.operation for s in result.steps] == [s.operation for s in model.plan.steps if s.computes]
    assert all(s.ms > 0 for s in result.steps)
    assert "GFLOP/s" in str(result)
    assert result.as_dict()["batch"] == 8


def test_verify_finds_the_model_right_and_a_planted_error(
    x: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model(convnet(), Device())
    result = model.verify(x[:1])
    assert result.ok
    assert "right" in str(result)
    # A kernel that is off by one part in 10,000 is found, and named.
    exact = reference.evaluate_node
    monkeypatch.setattr(
        reference, "evaluate_node", lambda n, *v: exact(n, *v) * (1.0001 if n.operation == "dense" else 1.0)
    )
    result = model.verify(x[:1])
    assert not result.ok
    assert {c.operation for c in result.nodes if c.worst > 1} == {"dense"}
    assert "WRONG" in str(result)


def test_summary_lists_layers_and_parameters(model: Model) -> None:
    text = model.summary()
    assert all(layer.name in text for layer in model.layers)
    assert f"{model.graph.parameters:,}" in text


def test_a_model_without_a_file_does_not_pickle(model: Model) -> None:
    with pytest.raises(ArgumentError, match="file"):
        pickle.dumps(model)


def test_a_shipped_model_pickles_small_and_notices_change(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[1] / "src" / "convcore" / "data" / "sonar.keras"
    path = tmp_path / "m.keras"
    path.write_bytes(shipped.read_bytes())
    model = load_model(path)
    row = np.full((1, 60), 0.25, np.float32)
    data = pickle.dumps(model)
    assert len(data) < 2000
    assert np.array_equal(pickle.loads(data)(row), model(row))
    path.write_bytes(shipped.read_bytes() + b" ")
    with pytest.raises(ModelError, match="changed"):
        pickle.loads(data)


def test_a_model_pickles_into_a_new_process() -> None:
    path = Path(__file__).parents[1] / "src" / "convcore" / "data" / "sonar.keras"
    model = load_model(path)
    row = np.full((1, 60), 0.25, np.float32)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert np.array_equal(pool.apply(model.predict, (row,)), model.predict(row))


def test_keras_agrees_end_to_end(tmp_path: Path) -> None:
    keras = import_keras()
    layers = keras.layers
    keras.utils.set_random_seed(3)
    network = keras.Sequential(
        [
            layers.Input((20, 21, 3)),
            layers.Conv2D(8, 3, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.DepthwiseConv2D(3, strides=2, padding="same"),
            layers.Conv2DTranspose(5, 3, strides=2, padding="same"),
            layers.MaxPooling2D(3, padding="same"),
            layers.Flatten(),
            layers.Dense(4, activation="softmax"),
        ]
    )
    path = tmp_path / "n.keras"
    network.save(path)
    model = load_model(path)
    result = model.verify(np.random.default_rng(0).standard_normal((3, 20, 21, 3), np.float32))
    assert result.keras
    assert result.ok, str(result)
    assert model.graph.parameters == network.count_params()


def test_open_shapes_are_planned_per_shape(tmp_path: Path) -> None:
    keras = import_keras()
    layers = keras.layers
    network = keras.Sequential(
        [layers.Input((None, None, 2)), layers.Conv2D(4, 3, padding="same"), layers.GlobalAveragePooling2D()]
    )
    path = tmp_path / "n.keras"
    network.save(path)
    model = load_model(path)
    with pytest.raises(ArgumentError, match="open"):
        _ = model.plan
    for size in ((5, 9), (8, 8)):
        x = np.random.default_rng(1).standard_normal((2, *size, 2), np.float32)
        np.testing.assert_allclose(model(x), network.predict(x, verbose=0), atol=1e-5)
        assert "conv" in str(model.plan)


@pytest.mark.parametrize(
    "name",
    [
        "lung/ct2d_vigneshannaraj_lungs.h5",
        "lung/dsb2017_dhammack_model_LUNA_64_v29_14.h5",
        "misc/mlperftiny_resnet8_cifar10.h5",
        "misc/fer2013_mini_XCEPTION.110-0.65.hdf5",
        "misc/unet_afiliot.h5",
        "dogscats/JeanXL_cats_vs_dogs.h5",
    ],
)
def test_real_models_verify(data_dir: Path, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = load_model(data_dir / "models" / name)
        result = model.verify()
    assert result.ok, str(result)


def test_neither_keras_nor_tensorflow_is_imported() -> None:
    code = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "import convcore\n"
        "path = Path(convcore.__file__).parent / 'data' / 'sonar.keras'\n"
        "convcore.load_model(path).predict(np.zeros((1, 60), np.float32))\n"
        "found = {'keras', 'tensorflow', 'torch', 'jax'} & set(sys.modules)\n"
        "assert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
