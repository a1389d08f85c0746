"""The negative control of the quantizer study: a model with a part of it taken away."""

from torch import nn

from benchsuite.models.architecture import architecture_of


def zero_first_mlp(model: nn.Module) -> None:
    """Let the first block's MLP add nothing, in place on the module tree; tensors stay as given."""
    architecture = architecture_of(model)
    block = architecture.block_list(model)[0]
    last = block.get_submodule(architecture.groups[-1].linears[-1])
    assert isinstance(last, nn.Linear)
    last.weight = nn.Parameter(last.weight.new_zeros(last.weight.shape), requires_grad=False)
