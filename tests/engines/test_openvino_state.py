"""A hub model keeps its cache as OpenVINO state: one token a step, and a fresh state a batch."""

import math

import pytest

openvino = pytest.importorskip("openvino", reason="pip install 'benchsuite[openvino]'")

VOCABULARY = 11


@pytest.fixture
def folder(tmp_path):
    """A model whose logits favour the sum of all ids read so far, held as state."""
    from openvino import Type
    from openvino import opset13 as ops
    from openvino.op.util import Variable, VariableInfo

    ids = ops.parameter([-1, -1], Type.i64, name="input_ids")
    mask = ops.parameter([-1, -1], Type.i64, name="attention_mask")
    positions = ops.parameter([-1, -1], Type.i64, name="position_ids")
    beam = ops.parameter([-1], Type.i32, name="beam_idx")
    for port, name in ((ids, "input_ids"), (mask, "attention_mask")):
        port.output(0).set_names({name})
    positions.output(0).set_names({"position_ids"})
    beam.output(0).set_names({"beam_idx"})
    info = VariableInfo()
    info.data_shape, info.data_type, info.variable_id = (
        openvino.PartialShape([-1, 1]),
        Type.f32,
        "sum",
    )
    variable = Variable(info)
    zero = ops.broadcast(
        ops.constant(0, Type.f32),
        ops.concat(
            [
                ops.gather(ops.shape_of(ids), ops.constant([0]), ops.constant(0)),
                ops.constant([1], Type.i64),
            ],
            0,
        ),
    )
    past = ops.gather(ops.read_value(zero, variable), beam, ops.constant(0))
    summed = ops.reduce_sum(ops.convert(ids, Type.f32), ops.constant([1]), keep_dims=True)
    total = ops.add(past, summed)
    kept = ops.assign(total, variable)
    chosen = ops.convert(ops.mod(total, ops.constant(VOCABULARY, Type.f32)), Type.i64)
    logits = ops.one_hot(
        chosen,
        ops.constant(VOCABULARY),
        ops.constant(2.0, Type.f32),
        ops.constant(0.0, Type.f32),
        -1,
    )
    inputs = [ids, mask, positions, beam]
    model = openvino.Model([ops.result(logits)], [kept], inputs, "running_sum")
    openvino.save_model(model, tmp_path / "openvino_model.xml", compress_to_fp16=False)
    return tmp_path


def test_the_cache_is_used_and_begins_empty_for_every_batch(folder):
    from benchsuite.engines.openvino_engine import Engine

    engine = Engine()
    engine.load(checkpoint_folder=str(folder))
    prompts = [[1, 2, 3], [4, 4, 4]]
    made = [engine.generate(prompts, 4) for _ in range(2)]
    assert made[0] == made[1]
    for prompt, tokens in zip(prompts, made[0]["tokens"], strict=True):
        read = list(prompt)
        for token in tokens:
            assert token == sum(read) % VOCABULARY
            read.append(token)
    expected = 2 - math.log(math.exp(2) + VOCABULARY - 1)
    assert made[0]["logprobs"][0] == pytest.approx([expected] * 4, abs=1e-6)
