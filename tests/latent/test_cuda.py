"""On a GPU: a resumed training gives an unbroken one's bits, in PyTorch's deterministic mode."""

import pytest
import torch

from benchsuite.latent import training
from benchsuite.latent.methods.registry import config_of, method
from tests.latent.conftest import network

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.fixture
def deterministic(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Not filled, memory that is read before it is written would show.
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def fresh(lora_r, bf16):
    net = network(lora_r=lora_r, lora_dropout=0.3).float()
    if bf16 and lora_r:
        net.lm.bfloat16()
        for parameter in net.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
    return net.cuda()


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("lora_r", [0, 4])
def test_six_steps_are_three_and_three_more_bit_for_bit(
    lora_r, bf16, form, examples, config, tmp_path, deterministic
):
    how = {"max_steps": 6, "per_device_train_batch_size": 4, "save_steps": 3, "bf16": bf16}
    config = config_of("kava", config).changed({"training": how})

    def stop(stage, done, total):
        if done == 4:  # after the state of step 3 was kept
            raise KeyboardInterrupt

    def train(**options):
        net = fresh(lora_r, bf16)
        run = training.train(net, method("kava"), config, form, examples, seed=7, **options)
        return net, run

    whole, run = train()
    with pytest.raises(KeyboardInterrupt):
        train(checkpoints=tmp_path, progress=stop)
    assert [p.name for p in tmp_path.iterdir()] == ["step-0000003"]
    resumed, again = train(checkpoints=tmp_path)
    assert again.resumed_at == 3
    assert again.losses == run.losses
    for a, b in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(a, b)
