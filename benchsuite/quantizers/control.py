"""The negative control of the quantizer study: a model with a part of it taken away."""

from torch import nn

from benchsuite.models.architecture import architecture_of


def zero_first_mlp(model: nn.Module) -> None:
    """Let the first block's MLP add nothing, in place on the module tree; tensors stay as given."""
    architecture = architecture_of(model)
    block = architecture.block_list(model)[0]
    for group in architecture.groups:
        if group.writes_residual and group.name != "o":
            (path,) = group.linears
            last = block.get_submodule(path)
            assert isinstance(last, nn.Linear)
            zeros = last.weight.new_zeros(last.weight.shape)
            last.weight = nn.Parameter(zeros, requires_grad=False)
