"""What CUDA graphs rest on, without a GPU: rounded shapes change nothing, and all that differs
between two batches passes ``transfer.send``."""

import pytest
import torch

from benchsuite.embedded import tasks
from benchsuite.latent import graphs, training
from benchsuite.latent.examples import Widths
from benchsuite.latent.methods.base import Moment
from benchsuite.latent.methods.registry import METHODS, config_of, method
from benchsuite.latent.transfer import Route, taken
from tests.latent.conftest import network

LARGE = 128  # rounds every reading of these batches up


def moment(progress=0.5):
    return Moment(progress, torch.Generator().manual_seed(5))


def gradients(net, loss, batch):
    net.zero_grad()
    parts = loss(net)(batch, moment())
    torch.stack(list(parts.values())).sum().backward()
    found = {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
    return parts, found


def assert_same(a, b):
    for these, those in zip(a, b, strict=True):
        assert these.keys() == those.keys()
        for name, value in these.items():
            assert torch.allclose(value, those[name], atol=1e-9), name


@pytest.fixture(scope="module")
def many(form):
    return form.encode(tasks.items("word_problems", "train")[:64])


@pytest.fixture(params=METHODS)
def case(request, config):
    """A method's network, in float64, and its loss."""
    config = config_of(request.param, config)
    auxiliary = config.loss.step_weight > 0
    net = network(projection=config.latent.projection, auxiliary=auxiliary)
    return net, lambda net: training._Objective(net, method(request.param), config)


def test_padding_that_is_read_along_changes_neither_losses_nor_gradients(case, form, many):
    net, loss = case
    plain = gradients(net, loss, form.batch(many[:5]))
    with taken(Route(multiple=LARGE)):
        rounded = gradients(net, loss, form.batch(many[:5], Widths.of(many)))
    assert_same(plain, rounded)


def test_another_batchs_feed_gives_its_losses_and_gradients(case, form, many):
    """Which is what a graph does: the first batch's steps on what the second one sends."""
    net, loss = case
    read, widths = loss(graphs.outline(net)), Widths.of(many)
    batches = [form.batch(many[n : n + 5], widths) for n in range(0, 60, 5)]
    sent = [graphs.sent(read, batch, moment(), LARGE) for batch in batches]
    shapes = [[(t.shape, t.dtype) for t in each] for each in sent]
    other = next(n for n in range(1, len(shapes)) if shapes[n] == shapes[0])
    feed = graphs.Feed(sent[0], net.device)
    feed.fill(sent[other])
    with taken(feed.route(LARGE)):
        fed = gradients(net, loss, batches[0])
    assert_same(fed, gradients(net, loss, form.batch(many[other * 5 : other * 5 + 5])))


def test_an_outline_has_no_numbers_and_leaves_the_network_as_it_is():
    pytest.importorskip("peft")
    net = network(lora_r=2)
    outlined = graphs.outline(net)
    assert {str(t.device) for t in [*outlined.parameters(), *outlined.buffers()]} == {"meta"}
    assert {str(t.device) for t in [*net.parameters(), *net.buffers()]} == {"cpu"}
    assert net.projection is not None
