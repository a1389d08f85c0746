"""How well the scheduler fills its workers, with cells that take the time that they took."""

import random

import pytest

from benchsuite import catalog
from benchsuite.harness.scheduling.affinity import DRAWN_BYTES_PER_SECOND
from benchsuite.harness.scheduling.times import model_of
from tests.harness.scheduling.clock import simulate

METHODS = ("gptq_default", "random", "cola_zero")
# Seconds of one cell without its selection, measured on an H200 (docs/clusters.md).
CELL = {"llama2_7b": 30.7, "llama2_13b": 63.1, "opt_6_7b": 31.1}
SELECTION = {"gptq_default": 0.0, "random": 0.0, "cola_zero": 9.5}
TOKENS, FEATURES = 15.0, 38.0


def grid(models, methods, seeds):
    return [f"b.py::t[{m}-{x}-seed{s}]" for m in models for x in methods for s in range(seeds)]


def method_of(nodeid):
    return nodeid.split("[")[1].split("-")[1]


def measured(nodeid):
    return CELL[model_of(nodeid)] + SELECTION[method_of(nodeid)]


def shared(nodeid):
    yield "tokens", TOKENS
    if method_of(nodeid) == "cola_zero":
        yield "features", FEATURES


def rehearse(n_workers, seeds=5):
    cells = grid(CELL, METHODS, seeds)
    workers = simulate(
        cells,
        n_workers,
        measured,
        load=lambda model: 2.0,
        needs=shared,
        start_up=20.0,
        load_rate=DRAWN_BYTES_PER_SECOND,
    )
    work = sum(map(measured, cells)) + TOKENS + FEATURES
    return workers, work / n_workers / max(worker.free_at for worker in workers)


@pytest.mark.parametrize(("n_workers", "seeds"), [(2, 2), (2, 5), (3, 5), (4, 5)])
def test_the_calibration_suite_keeps_its_workers_busy(n_workers, seeds):
    _, efficiency = rehearse(n_workers, seeds)
    assert efficiency > 0.9


def test_workers_do_not_wait_for_features_that_one_of_them_computes():
    workers, _ = rehearse(4)
    assert sum(worker.waited for worker in workers) == pytest.approx(3 * TOKENS)


@pytest.mark.parametrize("seed", range(30))
def test_no_schedule_is_much_longer_than_it_must_be(seed):
    draw = random.Random(seed)
    models = draw.sample(["a", "b", "c", "d", "e", "f"], draw.randint(1, 6))
    methods = draw.sample(["w", "x", "y", "z"], draw.randint(1, 4))
    base = {model: draw.uniform(1, 60) for model in models}
    factor = {method: draw.uniform(1, 1.5) for method in methods}

    def seconds(nodeid):
        return base[model_of(nodeid)] * factor[method_of(nodeid)]

    cells = grid(models, methods, draw.randint(1, 8))
    n_workers = draw.randint(1, 8)
    end = max(worker.free_at for worker in simulate(cells, n_workers, seconds))
    longest = max(map(seconds, cells))
    # Greedy schedules of unknown times end by sum / n + longest; a worker commits one cell ahead.
    assert end <= sum(map(seconds, cells)) / n_workers + longest * 1.5


@pytest.mark.parametrize("seed", range(10))
def test_with_many_cells_the_schedule_is_nearly_full(seed):
    draw = random.Random(seed)
    base = {model: draw.uniform(20, 60) for model in ("a", "b", "c")}

    def seconds(nodeid):
        return base[model_of(nodeid)] * draw.uniform(0.97, 1.03)

    cells = grid(base, METHODS, 20)
    workers = simulate(cells, 4, seconds)
    ends = [worker.free_at for worker in workers]
    assert max(ends) - sum(ends) / 4 < 0.03 * max(ends)


def test_models_are_loaded_again_only_where_that_brings_the_end_forward():
    rate = 1e9

    def load(model):
        return catalog.model(model).weight_bytes / rate

    cells = grid(CELL, METHODS, 5)
    workers = simulate(cells, 4, measured, load=load, load_rate=rate)
    changes = 0
    for worker in workers:
        held = [model_of(nodeid) for nodeid in worker.ran]
        changes += sum(a != b for a, b in zip(["", *held], held, strict=False))
    assert changes <= len(CELL) + 4
    once = sum(map(load, CELL))
    assert max(w.free_at for w in workers) < 1.08 * (sum(map(measured, cells)) + once) / 4


@pytest.mark.parametrize("seed", range(40))
def test_every_cell_runs_though_the_clock_goes_on_while_it_is_looked_at(seed):
    draw = random.Random(seed)
    cells = grid(["a", "b", "c"][: draw.randint(1, 3)], ["x", "y"], draw.randint(2, 9))
    took = {cell: draw.uniform(0.9, 1.1) for cell in cells}
    workers = simulate(cells, draw.randint(2, 4), took.__getitem__, look=draw.uniform(0.001, 0.05))
    assert sorted(cell for worker in workers for cell in worker.ran) == sorted(cells)
