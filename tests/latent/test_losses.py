"""Losses against loops over their definitions, and where their gradients go."""

import pytest
import torch

from benchsuite.latent import losses

LAYERS, BATCH, KV, M, WIDTH = 2, 3, 2, 4, 5


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_token_loss_weighs_every_sequence_the_same():
    logits, targets = drawn(2, 3, 7), torch.tensor([[1, 2, 3], [4, 5, 6]])
    wanted = torch.tensor([[1, 1, 1], [0, 1, 0]]).bool()
    logp = logits.log_softmax(-1)
    first = -sum(logp[0, t, targets[0, t]] for t in range(3)) / 3
    second = -logp[1, 1, 5]
    got = losses.token_loss(lambda hidden: hidden, logits, targets, wanted)
    assert float(got) == pytest.approx(float(first + second) / 2, rel=1e-6)


def smooth(a, b):
    d = abs(a - b)
    return d * d / 2 if d < 1 else d - 0.5


def test_codi_loss_is_smooth_l1_over_the_teachers_deviation():
    student, teacher = drawn(LAYERS, BATCH, WIDTH), 3 * drawn(LAYERS, BATCH, WIDTH, seed=1)
    expected = 0.0
    for layer in range(LAYERS):
        pairs = list(zip(student[layer].flatten(), teacher[layer].flatten(), strict=True))
        distance = sum(smooth(float(a), float(b)) for a, b in pairs) / len(pairs)
        values = teacher[layer].flatten()
        deviation = float(((values - values.mean()) ** 2).mean().sqrt())
        expected += distance / deviation / LAYERS
    assert float(losses.codi_loss(student, teacher)) == pytest.approx(expected, rel=1e-5)


DISTANCE = {"l1": lambda a, b: abs(a - b), "smooth_l1": smooth, "mse": lambda a, b: (a - b) ** 2}


@pytest.fixture
def caches():
    shape = LAYERS, BATCH, KV, M, WIDTH
    mask = torch.ones(LAYERS, BATCH, KV, M).bool()
    mask[:, 1, :, 2:] = False
    return [2 * drawn(*shape, seed=i) for i in range(4)], mask


@pytest.mark.parametrize("layer_std", [False, True])
@pytest.mark.parametrize("kind", ["l1", "smooth_l1", "mse"])
def test_kv_loss_is_half_the_keys_and_half_the_values_distance(caches, kind, layer_std):
    (keys, values, other_keys, other_values), mask = caches
    expected = 0.0
    for student, teacher in ((keys, other_keys), (values, other_values)):
        total, count = 0.0, 0
        for layer in range(LAYERS):
            real = teacher[layer][mask[layer]]
            # One number scales both: the teacher's deviation, over what is not masked.
            scale = float(((real - real.mean()) ** 2).mean().sqrt()) if layer_std else 1.0
            pairs = zip(student[layer][mask[layer]].flatten(), real.flatten(), strict=True)
            for a, b in pairs:
                total += DISTANCE[kind](float(a) / scale, float(b) / scale)
                count += 1
        expected += total / count / 2
    got = losses.kv_loss(
        keys, values, other_keys, other_values, mask, kind=kind, layer_std=layer_std
    )
    assert float(got) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("layer_std", [False, True])
def test_kv_loss_moves_the_student_alone_and_only_where_the_teacher_has_tokens(caches, layer_std):
    tensors, mask = caches
    leaves = [tensor.requires_grad_() for tensor in tensors]
    losses.kv_loss(*leaves, mask, kind="mse", layer_std=layer_std).backward()
    keys, values, other_keys, other_values = leaves
    assert other_keys.grad is None
    assert other_values.grad is None
    for student in (keys, values):
        assert student.grad[~mask].abs().max() == 0
        assert (student.grad[mask].abs() > 0).all()


def test_codi_loss_moves_the_student_alone():
    student = drawn(LAYERS, BATCH, WIDTH).requires_grad_()
    teacher = drawn(LAYERS, BATCH, WIDTH, seed=1).requires_grad_()
    losses.codi_loss(student, teacher).backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


def test_a_batch_without_any_kept_token_costs_nothing(caches):
    tensors, mask = caches
    nothing = torch.zeros_like(mask)
    assert float(losses.kv_loss(*tensors, nothing, kind="mse", layer_std=True)) == 0
