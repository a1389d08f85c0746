"""One model on several devices: the same bits, and tensors of the model that are only read.

Two devices of a CPU are one processor under two names: all the code that shares out work runs.
"""

import importlib

import pytest
import torch
from torch import nn

from benchsuite.errors import UsageError
from benchsuite.models.architecture import architecture_of
from benchsuite.models.replicas import Counterparts, replica, share_work
from benchsuite.quantizers import gptq
from benchsuite.quantizers.linear import quantized_linears
from benchsuite.quantizers.walking.hessian import Hessian
from benchsuite.quantizers.walking.hidden_states import WorkingMemory
from benchsuite.quantizers.walking.lanes import Merging, alternating, lane_sizes, places_of
from benchsuite.quantizers.walking.visit import shared_out

METHODS = ["smoothquant", "adaround", "awq", "quarot"]
METHODS += [
    pytest.param(name, marks=pytest.mark.stress)
    for name in ("gptaq", "qronos", "wanda", "sparsegpt")
]
EIGHT = WorkingMemory(lanes=8)


def gptq_on(n_devices, model, tokens, **options):
    share_work(model, ["cpu"] * n_devices)
    return gptq.quantize(model, tokens, group_size=32, memory=EIGHT, **options)


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("llama", {}),
        ("llama", {"desc_act": True, "sym": False}),
        ("qwen2", {"true_sequential": True}),
        ("opt", {}),
        ("mixtral", {}),
        ("llama", {"hessian_permutation_seed": 5}),
    ],
    ids=["llama", "act order", "sequential", "biases", "experts", "shuffled"],
)
def test_any_number_of_devices_gives_the_same_codes(family, options, make_model, tokens):
    one = gptq_on(1, make_model(family), tokens, **options)
    for n_devices in (2, 3, 4):
        more = gptq_on(n_devices, make_model(family), tokens, **options)
        assert more.weights_sha256 == one.weights_sha256
        assert [line.name for line in more.layers] == [line.name for line in one.layers]
        assert [line.error for line in more.layers] == [line.error for line in one.layers]
        assert [line.details for line in more.layers] == [line.details for line in one.layers]


@pytest.mark.parametrize("family", ["llama", "opt", "mixtral"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_the_same_codes_on_three_devices(method, family, make_model, tokens):
    if (method, family) == ("quarot", "mixtral"):
        pytest.skip("QuaRot rotates no mixture of experts")
    options = {"iterations": 30} if method == "adaround" else {}
    found = []
    for n_devices in (1, 3):
        model = make_model(family)
        share_work(model, ["cpu"] * n_devices)
        quantize = importlib.import_module(f"benchsuite.quantizers.{method}").quantize
        found.append(quantize(model, tokens, memory=EIGHT, **options))
    one, three = found
    assert three.weights_sha256 == one.weights_sha256
    assert [line.name for line in three.layers] == [line.name for line in one.layers]
    assert [line.error for line in three.layers] == [line.error for line in one.layers]
    assert [line.details for line in three.layers] == [line.details for line in one.layers]


def test_lanes_change_no_more_than_the_order_of_sums(make_model, tokens):
    whole = gptq.quantize(make_model(), tokens, group_size=32)
    lanes = gptq_on(2, make_model(), tokens)
    for one, other in zip(whole.layers, lanes.layers, strict=True):
        assert other.error == pytest.approx(one.error, rel=0.02)


def test_a_model_worked_on_by_several_devices_keeps_its_own_tensors(make_model, tokens):
    model = make_model("opt")
    before = {name: (p, p._version) for name, p in model.named_parameters()}
    gptq_on(3, model, tokens)
    assert all(p._version == version for p, version in before.values())
    after = dict(model.named_parameters())
    assert all(after[name] is before[name][0] for name in after)
    for name, linear in quantized_linears(model).items():
        assert linear.bias.data_ptr() == before[f"{name}.bias"][0].data_ptr()


def test_a_failed_factorisation_is_repeated_on_its_own_device(make_model, tokens):
    # Fewer tokens than columns: H is singular, and without damping it has no factor.
    few = tokens[:4, :8]
    one, two = (gptq_on(n, make_model(), few, damp_percent=0.0) for n in (1, 2))
    assert one.raised_damping
    assert two.raised_damping == one.raised_damping
    assert two.weights_sha256 == one.weights_sha256


def test_devices_of_another_kind_or_order_are_refused(make_model):
    for devices in (["meta", "cpu"], ["cpu", "meta"], []):
        with pytest.raises(UsageError, match="cannot be worked on"):
            share_work(make_model(), devices)


def test_a_replica_has_modules_and_hooks_of_its_own():
    block = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    block.scale = torch.ones(3)
    twin = replica(block, Counterparts(torch.device("meta")))
    assert {p.device.type for p in twin.parameters()} == {"meta"}
    assert twin.scale.is_meta
    twin[0] = nn.Identity()
    twin[1].weight = None
    twin[1].register_forward_pre_hook(lambda module, args: None)
    assert isinstance(block[0], nn.Linear)
    assert block[1].weight is not None
    assert not block[1]._forward_pre_hooks
    assert block.scale.device.type == "cpu"


def test_what_is_one_piece_of_memory_is_moved_once_and_tensors_without_any_stay_apart():
    to, shared = Counterparts(torch.device("cpu")), nn.Linear(2, 2)
    twin = replica(nn.Sequential(shared, nn.Sequential(shared)), to)
    assert twin[0] is twin[1][0]
    to.of(shared.weight.detach())
    assert len(to.moved()) == 2  # weight and bias
    to.of(shared.weight.t())
    assert len(to.moved()) == 3  # read in another way
    away = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).to("meta")
    nowhere = Counterparts(torch.device("meta"))
    replica(away, nowhere)
    assert len(nowhere.moved()) == 4


def test_arguments_are_moved_once_and_keep_their_form():
    to, mask, cosine = Counterparts(torch.device("meta")), torch.ones(2), torch.ones(3)
    first = to.of_all({"mask": mask, "turn": (cosine, [cosine]), "cache": None, "flag": True})
    moved = to.moved()
    second = to.of_all({"mask": mask})
    assert [id(tensor) for tensor in to.moved()] == [id(tensor) for tensor in moved]
    assert len(moved) == 2
    assert first["mask"].is_meta
    assert first["turn"][1][0].is_meta
    assert (first["cache"], first["flag"]) == (None, True)
    assert isinstance(first["turn"], tuple)
    assert isinstance(second["mask"], torch.Tensor)


class Order:
    """A statistic that tells in which order it was merged."""

    def __init__(self, device, told):
        self.device, self.told = device, told

    def merge(self, later):
        self.told = f"({self.told}{later.told})"

    def to(self, device):
        return Order(device, self.told)


@pytest.mark.parametrize(
    ("n_lanes", "expected"),
    [
        (1, "0"),
        (2, "(01)"),
        (3, "((01)2)"),
        (5, "(((01)(23))4)"),
        (6, "(((01)(23))(45))"),
        (8, "(((01)(23))((45)(67)))"),
    ],
)
@pytest.mark.parametrize("n_devices", [1, 2, 3, 4, 8])
def test_lanes_are_merged_in_one_order_wherever_they_are(n_lanes, expected, n_devices):
    devices = [torch.device("cuda", number) for number in range(n_devices)]
    places = places_of(n_lanes, n_devices)
    for target in devices:
        merging = Merging(n_lanes)
        for lane in alternating(places):
            device = devices[places[lane]]
            merging.add(lane, Order(device, str(lane)), device)
        merged = merging.merged(target)
        assert merged.told == expected
        assert merged.device == target


def test_one_device_holds_few_statistics_at_a_time():
    merging, device = Merging(8), torch.device("cpu")
    held = []
    for lane in range(8):
        merging.add(lane, Order(device, str(lane)), device)
        held.append(len(merging._waiting))
    assert max(held) <= 3


def test_every_sample_is_in_one_lane_and_every_lane_on_one_device():
    assert lane_sizes(128, 8) == [16] * 8
    assert lane_sizes(3, 8) == [1, 1, 1]
    assert sum(lane_sizes(21, 8)) == 21
    assert places_of(8, 4) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert places_of(8, 3) == [0, 0, 0, 1, 1, 1, 2, 2]
    assert alternating([0, 0, 1, 1]) == [0, 2, 1, 3]


def test_the_longest_work_goes_to_the_least_busy_device(make_model):
    model = make_model(intermediate_size=512)
    architecture = architecture_of(model)
    block = architecture.block_list(model)[0]
    places = shared_out(block, architecture.groups, 4)
    assert sorted(places.values()) == [0, 1, 2, 3]
    assert places["down"] == 0
    assert shared_out(block, architecture.groups, 2)["down"] == 0
    assert set(shared_out(block, architecture.groups, 1).values()) == {0}


def test_merged_hessians_are_the_hessian_of_all_inputs():
    x = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    whole, first, later = (Hessian(8, "cpu") for _ in range(3))
    whole.update(x)
    first.update(x[:25])
    later.update(x[25:])
    first.merge(later)
    assert first.n_vectors == 60
    torch.testing.assert_close(first.mean(), whole.mean())
