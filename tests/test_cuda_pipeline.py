"""Batches in a row on a GPU: right in every order that streams allow, and wrong without any one of the waits.

The double of a GPU has streams that are queues. It takes from them in random order, as slowly as it may: only
what an event or a stream's order demands is done when the host goes on.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from convcore.run.pipeline import Batch, Slot, Streams, run_batches

SHAPE = (2, 3)


class Mark:
    """An event. `passed` counts the records that streams have come past, `asked` those that were queued."""

    def __init__(self, gpu: FakeGpu, name: str) -> None:
        self.gpu, self.name, self.asked, self.passed = gpu, name, 0, 0

    def record(self, stream: FakeStream) -> None:
        self.asked += 1
        number = self.asked
        stream.queue.append(lambda: self._pass(number))

    def _pass(self, number: int) -> bool:
        self.passed = max(self.passed, number)
        return True

    def wait(self, stream: FakeStream) -> None:
        if (self.name, Streams._fields[self.gpu.streams.index(stream)]) != self.gpu.forgets:
            number = self.asked
            stream.queue.append(lambda: self.passed >= number)

    def synchronize(self) -> None:
        if (self.name, "host") != self.gpu.forgets:
            number = self.asked
            self.gpu.work_until(lambda: self.passed >= number)


class FakeStream:
    """What is to be done, in order; each returns False if it cannot be done yet."""

    def __init__(self, gpu: FakeGpu) -> None:
        self.gpu = gpu
        self.queue: deque[Callable[[], bool]] = deque()
        self.synchronised = 0

    def do(self, work: Callable[[], None]) -> None:
        def done() -> bool:
            work()
            return True

        self.queue.append(done)

    def synchronize(self) -> None:
        self.synchronised += 1
        self.gpu.work_until(lambda: not self.queue)


class FakeGpu:
    """Stands in for the module convcore.cuda.transfer.

    `forgets` names an event, and who does not wait for it: a stream or the host.
    """

    def __init__(self, seed: int = 0, forgets: tuple[str, str] | None = None) -> None:
        self.random = random.Random(seed)
        self.forgets = forgets
        self.streams = [FakeStream(self) for _ in Streams._fields]
        self._names = ("copied_in", "computed", "copied_out")
        self._events = 0

    def event(self) -> Mark:
        self._events += 1
        return Mark(self, self._names[(self._events - 1) % 3])

    def pinned(self, shape: Sequence[int]) -> np.ndarray:
        return np.full(shape, np.nan, np.float32)

    def array(self) -> FakeArray:
        return FakeArray(SHAPE)

    def work_until(self, enough: Callable[[], bool]) -> None:
        while not enough():
            stuck = True
            for stream in self.random.sample(self.streams, len(self.streams)):
                if stream.queue and stream.queue[0]():
                    stream.queue.popleft()
                    stuck = False
                    break
            assert not stuck, "streams wait for each other for ever"

    def idle(self) -> bool:
        return not any(s.queue for s in self.streams)


class FakeArray:
    """Device memory."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)
        self.elements = np.full(shape, np.nan, np.float32)

    def put(self, host: np.ndarray, on: FakeStream) -> None:
        on.do(lambda: np.copyto(self.elements, host))

    def get(self, host: np.ndarray, on: FakeStream) -> None:
        on.do(lambda: np.copyto(host, self.elements))


def slots(gpu: FakeGpu, count: int) -> list[Slot]:
    """Slots whose network doubles its input, by way of an arena that all of them share."""
    arena = np.empty(SHAPE, np.float32)
    compute = gpu.streams[1]

    def slot() -> Slot:
        x, y = gpu.array(), gpu.array()

        def replay() -> None:
            compute.do(lambda: np.copyto(arena, x.elements))
            compute.do(lambda: np.copyto(y.elements, 2 * arena))

        return Slot([x], [y], replay, gpu)

    return [slot() for _ in range(count)]


def batches(
    in_turn: Sequence[Slot], total: int, results: list[np.ndarray], *, fails_at: int | None = None
) -> Iterator[Batch]:
    for i in range(total):
        if i == fails_at:
            raise KeyboardInterrupt
        yield Batch(in_turn[i % len(in_turn)], [np.full(SHAPE, i + 1, np.float32)], [results[i]])


def outcome(gpu: FakeGpu, *, slot_count: int = 2, total: int = 7, one_stream: bool = False) -> bool:
    """Whether every batch has come out right."""
    results = [np.zeros(SHAPE, np.float32) for _ in range(total)]
    streams = Streams(*((gpu.streams[1],) * 3 if one_stream else gpu.streams))
    run_batches(batches(slots(gpu, slot_count), total, results), streams)
    return all(np.all(y == 2 * (i + 1)) for i, y in enumerate(results)) and gpu.idle()


@pytest.mark.parametrize("slot_count", [1, 2, 3])
@pytest.mark.parametrize("total", [1, 2, 7])
def test_results_are_right_in_every_order(slot_count: int, total: int) -> None:
    for seed in range(50):
        assert outcome(FakeGpu(seed), slot_count=slot_count, total=total)
        assert outcome(FakeGpu(seed), slot_count=slot_count, total=total, one_stream=True)


@pytest.mark.parametrize(
    "wait",
    [
        ("copied_in", "host"),
        ("computed", "copy_in"),
        ("copied_in", "compute"),
        ("copied_out", "compute"),
        ("computed", "copy_out"),
        ("copied_out", "host"),
    ],
)
def test_no_wait_can_be_left_out(wait: tuple[str, str]) -> None:
    assert not all(outcome(FakeGpu(seed, wait)) for seed in range(200))


def test_three_batches_are_in_flight_at_a_time() -> None:
    """While a batch is copied in, the one before may be computed and the one before that copied out."""

    def together(seed: int) -> bool:
        gpu = FakeGpu(seed)
        out_marks: list[Mark] = []
        seen = []

        class Watched(FakeArray):
            def put(self, host: np.ndarray, on: FakeStream) -> None:
                copied_out = out_marks[int(host[0, 0] + 1) % 2]
                seen.append(copied_out.passed < copied_out.asked and bool(gpu.streams[1].queue))
                super().put(host, on)

        gpu.array = lambda: Watched(SHAPE)  # type: ignore[method-assign]
        in_turn = slots(gpu, 2)
        out_marks += [s._copied_out for s in in_turn]
        results = [np.zeros(SHAPE, np.float32) for _ in range(5)]
        run_batches(batches(in_turn, 5, results), Streams(*gpu.streams))
        return any(seen)

    assert any(together(seed) for seed in range(50))


@pytest.mark.parametrize("fails_at", [0, 1, 2, 3, 5])
def test_after_an_error_nothing_is_in_flight_and_the_slots_are_good(fails_at: int) -> None:
    for seed in range(20):
        gpu = FakeGpu(seed)
        in_turn = slots(gpu, 2)
        results = [np.zeros(SHAPE, np.float32) for _ in range(6)]
        with pytest.raises(KeyboardInterrupt):
            run_batches(batches(in_turn, 6, results, fails_at=fails_at), Streams(*gpu.streams))
        assert gpu.idle() and all(s.synchronised for s in gpu.streams)
        before = [y.copy() for y in results]
        again = [np.zeros(SHAPE, np.float32) for _ in range(3)]
        run_batches(batches(in_turn, 3, again), Streams(*gpu.streams))
        assert [y[0, 0] for y in again] == [2, 4, 6]
        assert all(np.array_equal(a, b) for a, b in zip(results, before, strict=True))


def test_an_error_of_the_network_is_the_one_that_is_raised() -> None:
    gpu = FakeGpu()
    x, y = gpu.array(), gpu.array()

    def fail() -> None:
        gpu.streams[2].synchronize = fail  # type: ignore[method-assign]
        raise ArithmeticError

    slot = Slot([x], [y], fail, gpu)
    with pytest.raises(ArithmeticError):
        run_batches(batches([slot], 1, [np.zeros(SHAPE, np.float32)]), Streams(*gpu.streams))
