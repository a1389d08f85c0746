"""Several processes: one step is theirs together.

By torchrun: ``accelerate launch --cpu --num_processes 2`` starts a single one on a lone machine.
"""

import subprocess
import sys

import pytest
import torch

from tests.latent.two_processes import train


@pytest.mark.stress
def test_two_processes_train_as_one_with_twice_the_accumulation(tmp_path, pytestconfig):
    pytest.importorskip("accelerate")
    run = ["torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    script = ["-m", "tests.latent.two_processes", str(tmp_path / "found.pt")]
    subprocess.run(
        [sys.executable, "-m", *run, *script],
        cwd=pytestconfig.rootpath,
        check=True,
        timeout=300,
    )
    n_processes, losses, weights = torch.load(tmp_path / "found.pt")
    alone_losses, alone = train(None, accumulation=2)
    assert n_processes == 2
    assert len(losses) == len(alone_losses) == 6
    for step, expected in zip(losses, alone_losses, strict=True):
        assert step == pytest.approx(expected, rel=1e-5)
    for name, weight in weights.items():
        assert torch.allclose(weight, alone[name], atol=1e-7), name
