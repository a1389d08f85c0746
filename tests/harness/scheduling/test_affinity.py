"""The xdist scheduler, driven as xdist drives it, with workers that only note what they get."""

import random

import pytest

from benchsuite import catalog
from benchsuite.harness.scheduling.affinity import AffinityScheduling
from benchsuite.harness.scheduling.times import kind_of, model_of
from tests.harness.scheduling.clock import Worker, config_of, started


def cells(**counts):
    return [f"b.py::t[{m}-x-seed{i}]" for m, n in counts.items() for i in range(n)]


def step(scheduler, worker, seconds=1.0):
    index = worker.queue.pop(0)
    worker.ran.append(index)
    scheduler.mark_test_complete(worker, index, seconds)


def finish(scheduler, workers, draw):
    while scheduler.has_pending:
        ready = [worker for worker in workers if worker.can_run()]
        assert ready, "work is left and nobody can run"
        step(scheduler, draw.choice(ready))


@pytest.mark.parametrize("seed", range(20))
def test_every_cell_runs_exactly_once_whatever_the_order(seed):
    draw = random.Random(seed)
    collection = cells(a=draw.randrange(9), b=draw.randrange(9), c=draw.randrange(9))
    if not collection:
        collection = cells(a=1)
    scheduler, workers = started(collection, 2)
    finish(scheduler, workers, draw)
    ran = sorted(index for worker in workers for index in worker.ran)
    assert ran == list(range(len(collection)))
    assert scheduler.tests_finished
    assert all(worker.shutting_down for worker in workers)


def test_a_worker_holds_one_running_and_one_queued():
    _, workers = started(cells(a=9, b=9), 2)
    assert [len(worker.queue) for worker in workers] == [2, 2]


def test_each_worker_stays_with_its_model_while_it_has_cells():
    collection = cells(a=6, b=6)
    scheduler, workers = started(collection, 2)
    for worker in workers * 6:
        step(scheduler, worker)
    models = [{model_of(collection[i]) for i in worker.ran} for worker in workers]
    assert sorted(map(sorted, models)) == [["a"], ["b"]]


def test_an_idle_worker_takes_cells_of_anothers_model_when_loading_is_cheap():
    scheduler, workers = started(cells(a=12), 2)
    finish(scheduler, workers, random.Random(1))
    assert all(worker.ran for worker in workers)


def test_loading_a_large_model_a_second_time_must_be_worth_it():
    load_seconds = catalog.model("llama2_13b").weight_bytes / 1e9
    scheduler, (first, second) = started(cells(llama2_13b=4, tiny_llama_1m=2), 2)
    step(scheduler, first, load_seconds / 100)
    while second.can_run():
        step(scheduler, second, 0.1)
    assert second.shutting_down
    assert all(i >= 4 for i in second.ran), "the second worker loaded the large model for nothing"


@pytest.mark.parametrize("cached", [True, False])
def test_cached_cells_do_not_pass_for_quick_ones(cached):
    collection = cells(llama2_13b=12, tiny_llama_1m=2)
    scheduler, (first, second) = started(
        collection, 2, cached=lambda nodeid: cached and "13b" in nodeid
    )
    for _ in range(3):
        step(scheduler, first, 0.01)
    while second.can_run() and len(second.ran) < 2:
        step(scheduler, second, 1.0)
    # Ten milliseconds a cell are not worth loading 26 GB a second time; unknown seconds may be.
    assert second.shutting_down != cached


def test_a_crashing_cell_is_not_tried_again_and_its_workers_queue_is():
    scheduler, workers = started(cells(a=3, b=3), 2)
    crashed = workers[0].queue[0]
    assert scheduler.remove_node(workers[0]) == scheduler.collection[crashed]
    replacement = Worker("gw2")
    scheduler.add_node(replacement)
    scheduler.add_node_collection(replacement, scheduler.collection)
    scheduler.schedule()
    finish(scheduler, [workers[1], replacement], random.Random(0))
    ran = sorted(workers[1].ran + replacement.ran)
    assert ran == [i for i in range(6) if i != crashed]


def test_the_last_worker_crashing_leaves_the_rest_to_its_replacement():
    scheduler, workers = started(cells(a=5), 1)
    scheduler.remove_node(workers[0])
    replacement = Worker("gw1")
    scheduler.add_node(replacement)
    scheduler.add_node_collection(replacement, scheduler.collection)
    scheduler.schedule()
    finish(scheduler, [replacement], random.Random(0))
    assert len(replacement.ran) == 4


def test_a_method_is_tried_on_a_model_before_another_is_repeated():
    collection = [f"b.py::t[{m}-{x}-seed{i}]" for m in "ab" for x in ("u", "v") for i in (1, 2)]
    scheduler, (worker,) = started(collection, 1)
    finish(scheduler, [worker], random.Random(0))
    kinds = [kind_of(collection[i]) for i in worker.ran]
    for model in "ab":
        first, second, *_ = [kind for kind in kinds if kind.model == model]
        assert first != second


def test_workers_that_collected_different_cells_are_refused():
    scheduler = AffinityScheduling(config_of(2))
    for name, collection in (("gw0", cells(a=2)), ("gw1", cells(b=2))):
        worker = Worker(name)
        scheduler.add_node(worker)
        scheduler.add_node_collection(worker, collection)
    with pytest.raises(pytest.UsageError, match="never from sets"):
        scheduler.schedule()


def test_ordinary_tests_have_no_model():
    assert model_of("tests/test_x.py::test_y[a-b]") == ""
    assert model_of("b.py::test_c[llama2_7b-cola_zero-seed42]") == "llama2_7b"
