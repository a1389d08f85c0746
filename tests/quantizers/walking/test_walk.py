"""The walk: what the method sees must be what the model computes."""

import pytest
import torch
from torch import nn

from benchsuite.errors import UsageError
from benchsuite.models.architecture import architecture_of
from benchsuite.models.replicas import share_work
from benchsuite.quantizers.layers import replace, stacked_rows
from benchsuite.quantizers.walking import visit as visiting
from benchsuite.quantizers.walking.hidden_states import HiddenStates, WorkingMemory, capture
from benchsuite.quantizers.walking.remembered import Remembered
from benchsuite.quantizers.walking.walk import walk, walk_blocks

FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "opt"]


class Keep:
    """A statistic that keeps its inputs."""

    def __init__(self):
        self.parts = []

    def update(self, inputs):
        self.parts.append(inputs.clone())

    def merge(self, later):
        self.parts += later.parts


class Hold:
    """A statistic that keeps its inputs as they are given, and copies of what they held then."""

    def __init__(self):
        self.parts, self.copies = [], []

    def update(self, inputs):
        self.parts.append(inputs)
        self.copies.append(inputs.clone())


class Pair:
    """A statistic that keeps its inputs and the original model's."""

    def __init__(self):
        self.parts, self.originals = [], []

    def update(self, inputs, original):
        self.parts.append(inputs.clone())
        self.originals.append(original.clone())

    def merge(self, later):
        self.parts += later.parts
        self.originals += later.originals


class Watch:
    """A method that keeps every group's inputs and replaces each linear by a changed copy."""

    def __init__(self, factor=1.0):
        self.factor, self.seen, self.calls = factor, {}, []

    def statistic(self, here, group, device):
        return Keep()

    def quantize(self, here, group, statistic):
        yield
        self.seen[f"{here.name}.{group.name}"] = torch.cat(statistic.parts)
        self.calls.append(f"{here.name}.{group.name}")
        return {path: self.changed(linear) for path, linear in here.linears(group).items()}

    def changed(self, linear):
        other = nn.Linear(linear.in_features, linear.out_features, linear.bias is not None)
        other.weight = nn.Parameter(linear.weight.detach() * self.factor)
        other.bias = linear.bias
        return other


def true_inputs(model, tokens):
    """The inputs of every group, from ordinary forwards of the whole model."""
    architecture = architecture_of(model)
    seen = {}

    def hook_for(key):
        def hook(module, args):
            seen[key] = args[0].reshape(-1, args[0].shape[-1]).clone()

        return hook

    handles = []
    for index, block in enumerate(architecture.block_list(model)):
        for group in architecture.groups:
            key = f"{architecture.block_name(index)}.{group.name}"
            linear = block.get_submodule(group.linears[0])
            handles.append(linear.register_forward_pre_hook(hook_for(key)))
    with torch.no_grad():
        model(input_ids=tokens)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tokens_per_step", [48, 3 * 48, 10**6])
def test_a_method_sees_the_inputs_of_an_ordinary_forward(
    family, tokens_per_step, make_model, tokens
):
    model = make_model(family)
    expected = true_inputs(model, tokens)
    method = Watch()
    walk(model, tokens, method, memory=WorkingMemory(tokens_per_step))
    assert method.calls == list(expected)
    for key, inputs in expected.items():
        torch.testing.assert_close(method.seen[key], inputs, rtol=1e-4, atol=1e-5)


def test_mixed_full_and_sliding_attention_get_their_own_masks(make_model, tokens):
    model = make_model(
        "qwen3",
        use_sliding_window=True,
        sliding_window=8,
        layer_types=["full_attention", "sliding_attention"],
    )
    expected = true_inputs(model, tokens)
    method = Watch()
    walk(model, tokens, method)
    for key, inputs in expected.items():
        torch.testing.assert_close(method.seen[key], inputs, rtol=1e-4, atol=1e-5)


def test_later_blocks_see_the_replaced_earlier_ones(make_model, tokens):
    model = make_model()
    method = Watch(factor=0.9)
    walk(model, tokens, method)
    after = true_inputs(model, tokens)
    first, second = "model.layers.0.qkv", "model.layers.1.qkv"
    torch.testing.assert_close(method.seen[first], after[first])
    torch.testing.assert_close(method.seen[second], after[second], rtol=1e-4, atol=1e-5)
    # Inside a block, the statistics come from the block as it was.
    assert not torch.allclose(
        method.seen["model.layers.1.down"], after["model.layers.1.down"], rtol=1e-3
    )


def test_true_sequential_sees_the_replaced_earlier_groups(make_model, tokens):
    model = make_model()
    method = Watch(factor=0.9)
    walk(model, tokens, method, true_sequential=True)
    for key, inputs in true_inputs(model, tokens).items():
        torch.testing.assert_close(method.seen[key], inputs, rtol=1e-4, atol=1e-5)


def test_blocks_hooks_mode_and_tensors_are_put_back(make_model, tokens):
    model = make_model()
    model.train()
    architecture = architecture_of(model)
    before = list(architecture.block_list(model))
    versions = [(p, p._version) for p in model.parameters()]
    walk(model, tokens, Watch())
    assert model.training
    assert list(architecture.block_list(model)) == before
    assert all(not m._forward_pre_hooks for m in model.modules())
    assert all(p._version == version for p, version in versions)


def test_a_failing_method_leaves_the_blocks_in_place(make_model, tokens):
    model = make_model()
    before = list(architecture_of(model).block_list(model))

    class Broken(Watch):
        def quantize(self, here, group, statistic):
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        walk(model, tokens, Broken())
    assert list(architecture_of(model).block_list(model)) == before
    assert all(not m._forward_pre_hooks for m in model.modules())


def test_captured_inputs_are_the_first_block_s(make_model, tokens):
    model = make_model("opt", word_embed_proj_dim=64)
    (hidden,) = capture(model, architecture_of(model), tokens, WorkingMemory(5 * 48))
    seen = []
    handle = model.model.decoder.layers[0].register_forward_pre_hook(
        lambda module, args: seen.append(args[0])
    )
    with torch.no_grad():
        model(input_ids=tokens)
    handle.remove()
    torch.testing.assert_close(hidden.states, seen[0])
    assert sorted(hidden.arguments) == [3, 5]


def test_progress_counts_the_blocks(make_model, tokens):
    seen = []
    walk(make_model(), tokens, Watch(), progress=lambda *args: seen.append(args))
    assert seen == [("quantize", 0, 2), ("quantize", 1, 2), ("quantize", 2, 2)]


@pytest.mark.parametrize(
    "batch",
    [torch.zeros(4, dtype=torch.int64), torch.zeros(2, 4), torch.zeros(0, 4, dtype=torch.int64)],
    ids=["one dimension", "not integers", "empty"],
)
def test_a_malformed_batch_is_a_usage_error(batch, make_model):
    with pytest.raises(UsageError, match="calibration batch"):
        walk(make_model(), batch, Watch())


def test_rows_of_stacked_linears_follow_each_other():
    linears = {"a": nn.Linear(2, 3), "b": nn.Linear(2, 5)}
    stacked = torch.cat([linear.weight for linear in linears.values()])
    for path, linear, rows in stacked_rows(linears):
        assert linear is linears[path]
        assert torch.equal(stacked[rows], linear.weight)


def test_replace_puts_a_module_at_a_path():
    root = nn.ModuleDict({"a": nn.ModuleList([nn.Identity()])})
    new = nn.Linear(1, 1)
    replace(root, "a.0", new)
    assert root["a"][0] is new


@pytest.mark.parametrize("advance", [True, False])
@pytest.mark.parametrize("pre_norm", [True, False])
def test_what_a_statistic_was_given_is_never_overwritten(make_model, tokens, pre_norm, advance):
    held = []

    def visit(here):
        fresh = {group.name: lambda device: Hold() for group in here.groups}
        statistics = here.collect(fresh, advance=advance)
        held.extend(statistics.values())

    walk_blocks(make_model("opt", do_layer_norm_before=pre_norm), tokens, visit)
    assert held
    for statistic in held:
        for given, copy in zip(statistic.parts, statistic.copies, strict=True):
            assert torch.equal(given, copy)


class WatchBoth(Watch):
    """A method that keeps every group's inputs and the original model's beside them."""

    def __init__(self, factor):
        super().__init__(factor)
        self.original = {}

    def statistic(self, here, group, device):
        return Pair()

    def quantize(self, here, group, statistic):
        self.original[f"{here.name}.{group.name}"] = torch.cat(statistic.originals)
        return (yield from super().quantize(here, group, statistic))


@pytest.mark.parametrize("sequential", [False, True])
@pytest.mark.parametrize("family", ["llama", "opt"])
def test_the_original_s_inputs_come_beside_those_of_the_replaced(
    family, sequential, make_model, tokens
):
    model, method, alone = make_model(family), WatchBoth(factor=0.9), Watch(factor=0.9)
    expected = true_inputs(model, tokens)
    memory = WorkingMemory(3 * 48)
    walk(make_model(family), tokens, alone, true_sequential=sequential, memory=memory)
    options = {"true_sequential": sequential, "beside_original": True, "memory": memory}
    walk(model, tokens, method, **options)
    for key, inputs in expected.items():
        torch.testing.assert_close(method.original[key], inputs, rtol=1e-4, atol=1e-5)
        assert torch.equal(method.seen[key], alone.seen[key])
    first, *_, last = expected
    assert torch.equal(method.original[first], method.seen[first])
    assert not torch.allclose(method.original[last], method.seen[last], rtol=1e-2)


@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_the_original_s_inputs_are_the_same_where_they_have_no_room(
    family, make_model, tokens, monkeypatch
):
    """Kept of one run of each block, or made anew for each group; on a CPU and on two devices."""
    runs, found = [], []
    whole = HiddenStates.run
    monkeypatch.setattr(HiddenStates, "run", lambda *given: runs.append(0) or whole(*given))
    for share, n_devices in ((0.25, 1), (0.25, 2), (0, 1)):
        monkeypatch.setattr(visiting, "KEPT_SHARE", share)
        model, method = make_model(family), WatchBoth(factor=0.9)
        share_work(model, ["cpu"] * n_devices)
        runs.clear()
        memory = WorkingMemory(3 * 48, lanes=2)
        walk(model, tokens, method, true_sequential=True, beside_original=True, memory=memory)
        found.append((method, len(runs)))
    (kept, few), (shared, _), (anew, many) = found
    assert few < 0.8 * many
    for method in (shared, anew):
        assert method.original.keys() == kept.original.keys()
        for key, inputs in kept.original.items():
            assert torch.equal(method.original[key], inputs)
            assert torch.equal(method.seen[key], kept.seen[key])


class Counted(nn.Module):
    """A linear that counts its calls; ``spoil`` writes to what it puts out, as a block might."""

    def __init__(self, linear, factor):
        super().__init__()
        self.linear, self.factor, self.calls = linear, factor, 0
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = linear.weight

    def forward(self, inputs):
        self.calls += 1
        return self.linear(inputs) * self.factor


class Counting(Watch):
    """A method whose new linears count their calls."""

    def __init__(self, factor):
        super().__init__(factor)
        self.made = []

    def changed(self, linear):
        self.made.append(Counted(linear, self.factor))
        return self.made[-1]


@pytest.mark.parametrize("family", ["llama", "opt"])
def test_a_replaced_linear_is_called_once_for_each_micro_batch(
    family, make_model, tokens, monkeypatch
):
    memory = WorkingMemory(3 * 48, lanes=2)
    found = {}
    for share in (0.25, 0):
        monkeypatch.setattr(visiting, "KEPT_SHARE", share)
        method = found[share] = Counting(0.9)
        walk(make_model(family), tokens, method, true_sequential=True, memory=memory)
    once, anew = found[0.25], found[0]
    assert once.seen.keys() == anew.seen.keys()
    for key, inputs in anew.seen.items():
        assert torch.equal(once.seen[key], inputs)
    # The last block is not advanced, so that its last group is never called.
    calls = {linear.calls for linear in once.made}
    assert max(calls) == min(calls - {0})
    assert sum(linear.calls for linear in anew.made) > 1.8 * sum(m.calls for m in once.made)


class Doubled(nn.Module):
    """A block's linear that is called twice in each run, with other inputs the second time."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear

    def forward(self, inputs):
        return self.linear(inputs) + self.linear(inputs.flip(-1))


class Spoiled(Doubled):
    """A linear whose outputs are written to."""

    def forward(self, inputs):
        return self.linear(inputs).mul_(3)


@pytest.mark.parametrize("around", [nn.Sequential, Doubled, Spoiled])
def test_what_cannot_be_remembered_is_called_anew(around):
    torch.manual_seed(0)
    block, remembered = nn.Sequential(around(nn.Linear(4, 4))), Remembered()
    (path,) = [name for name, module in block.named_modules() if isinstance(module, nn.Linear)]
    parts = [(slice(start, start + 2), torch.randn(2, 4)) for start in (0, 2)]
    with torch.no_grad():
        expected = [block(inputs) for _, inputs in parts]
        for _ in range(3):
            for (part, inputs), outputs in zip(parts, expected, strict=True):
                remembered.begin(0, part)
                with remembered.answering(block, [path]):
                    assert torch.equal(block(inputs), outputs)
    assert "forward" not in vars(block.get_submodule(path))
