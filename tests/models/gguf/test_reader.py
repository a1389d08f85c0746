"""GGUF files are read whole, or refused in one paragraph that says what is wrong."""

import struct
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("gguf")

import gguf

from benchsuite.catalog import is_gguf
from benchsuite.corpora.file_digests import FileDigests
from benchsuite.errors import BenchsuiteError, CellCannotRun
from benchsuite.models.gguf import dequantized_folder, describe
from benchsuite.models.gguf.reader import Gguf
from tests.models.gguf import files

KINDS = [kind.name for kind in gguf.quants._type_traits]


@pytest.fixture(scope="module")
def built():
    return files.model("llama")


@pytest.fixture(scope="module")
def whole(built, tmp_path_factory):
    return files.write(tmp_path_factory.mktemp("whole") / "a.gguf", built, "Q8_0")


@pytest.mark.parametrize("kind", ["F32", "F16", *KINDS])
def test_every_type_that_the_package_dequantizes_is_read(kind, tmp_path):
    """Its own reader finds the same bytes, and they are the same numbers."""
    as_type = gguf.GGMLQuantizationType[kind]
    _, size = gguf.GGML_QUANT_SIZES[as_type]
    generator = np.random.default_rng(0)
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    for name, rows in (("first", 3), ("second", 5)):
        raw = generator.integers(0, 60, (rows, 2 * size), np.uint8)  # no byte of a NaN
        plain = {"F32": np.float32, "F16": np.float16}.get(kind, np.uint8)
        writer.add_tensor(name, raw.view(plain), raw_dtype=as_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    read, theirs = Gguf(tmp_path / "a.gguf"), gguf.GGUFReader(tmp_path / "a.gguf")
    assert read.kinds() == {kind: 2}
    for tensor in theirs.tensors:
        expected = gguf.dequantize(tensor.data, tensor.tensor_type)
        assert read.tensors[tensor.name].shape == tuple(tensor.shape[::-1]) == expected.shape
        found = read.values(tensor.name)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)


def test_every_kind_of_metadata_is_read(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    values = {
        "uint8": 200,
        "int8": -100,
        "uint16": 60000,
        "int16": -30000,
        "uint32": 2**32 - 1,
        "int32": -(2**31),
        "uint64": 2**64 - 1,
        "int64": -(2**63),
        "float32": 0.5,
        "float64": 1e300,
        "bool": True,
        "string": "日本語",
        "array": ["a", "", "é"],
    }
    for kind, value in values.items():
        getattr(writer, f"add_{kind}")(f"a.{kind}", value)
    writer.add_array("a.numbers", [1, 2, 3])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    read = Gguf(tmp_path / "a.gguf").metadata
    assert {key: read[f"a.{key}"] for key in values} == values
    assert read["a.numbers"] == [1, 2, 3]


def test_a_file_is_described_by_what_it_holds(whole, built):
    found = describe(whole)
    assert (found.architecture, found.name) == ("llama", "Tiny llama")
    assert found.n_parameters == sum(p.numel() for p in built.parameters())
    assert found.types == {"Q8_0": 16, "F32": 5}
    assert (found.vocabulary_size, found.context) == (300, 512)
    assert found.sha256 == FileDigests().sha256(whole)


def test_a_file_is_described_without_torch(whole):
    code = (
        "import sys; from pathlib import Path; from benchsuite.models.gguf import describe; "
        "describe(Path(sys.argv[1])); print([m for m in sys.modules if m in "
        "('torch', 'transformers', 'tokenizers')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, whole], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_file_named_gguf_is_one_and_a_folder_is_none(tmp_path):
    (tmp_path / "folder.gguf").mkdir()
    assert is_gguf(tmp_path / "absent.gguf")
    assert is_gguf(tmp_path / "LOUD.GGUF")
    assert not is_gguf(tmp_path / "folder.gguf")
    assert not is_gguf(tmp_path)


def refused(path, cache, words):
    with pytest.raises(BenchsuiteError, match=words) as raised:
        dequantized_folder(path, cache)
    assert str(path) in raised.value.where
    assert raised.value.fix
    assert "\n" not in str(raised.value)
    assert not list(cache.glob("*/"))  # nothing half-written stays


def test_a_file_cut_anywhere_is_refused(whole, tmp_path):
    content, cut = whole.read_bytes(), tmp_path / "cut.gguf"
    end = max(tensor.offset + tensor.n_bytes for tensor in Gguf(whole).tensors.values())
    for length in (*range(0, 400, 37), end // 2, end - 1):  # what follows the end only fills up
        cut.write_bytes(content[:length])
        words = "truncated" if length >= 4 or not length else "does not begin"
        refused(cut, tmp_path / "cache", words)


def test_what_is_no_gguf_or_of_another_version_is_refused(whole, tmp_path):
    content, path = whole.read_bytes(), tmp_path / "a.gguf"
    for head, words in (
        (b"GGML" + content[4:8], "no GGUF file"),
        (b"GGUF" + struct.pack("<I", 1), "version 1; versions 2 and 3"),
        (b"GGUF" + struct.pack(">I", 3), "big-endian"),
    ):
        path.write_bytes(head + content[8:])
        refused(path, tmp_path / "cache", words)
    refused(tmp_path / "absent.gguf", tmp_path / "cache", "No such file")


def test_tensors_that_lie_over_one_another_are_refused(whole, tmp_path):
    """An offset that was damaged into another tensor's: its values would be that one's."""
    content, path = whole.read_bytes(), tmp_path / "a.gguf"
    tensor = Gguf(whole).tensors["blk.1.ffn_down.weight"]
    start = min(other.offset for other in Gguf(whole).tensors.values())
    # name, number of dimensions, two lengths, type; then the offset
    at = content.index(tensor.name.encode()) + len(tensor.name) + 4 + 2 * 8 + 4
    assert struct.unpack_from("<Q", content, at) == (tensor.offset - start,)
    path.write_bytes(content[:at] + struct.pack("<Q", 0) + content[at + 8 :])
    refused(path, tmp_path / "cache", "lie over one another")


def test_a_part_of_a_split_model_is_refused(built, tmp_path):
    path = files.write(
        tmp_path / "a-00002-of-00003.gguf", built, keys={"split.count": 3, "split.no": 1}
    )
    refused(path, tmp_path / "cache", "part 2 of 3")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"without": ["blk.1.ffn_up.weight"]}, "lacks tensors that llama needs: blk.1.ffn_up"),
        ({"without": ["output_norm.weight"]}, "lacks tensors that llama needs: output_norm"),
        ({"without": ["token_embd.weight"]}, "any model needs: token_embd"),
        (
            {"extra": [("blk.0.attn_sinks.weight", np.ones(4, np.float32))]},
            "not known to have: blk.0.attn_sinks.weight",
        ),
        ({"extra": [("blk.2.attn_norm.weight", np.ones(64, np.float32))]}, "blk.2.attn_norm"),
        ({"keys": {"llama.expert_count": 8}}, "llama.expert_count is 8"),
        ({"keys": {"llama.logit_scale": 0.5}}, "llama.logit_scale is 0.5"),
        ({"keys": {"llama.rope.scaling.type": "su"}}, "llama.rope.scaling.type is 'su'"),
        ({"keys": {"llama.rope.dimension_count": 8}}, "llama.rope.dimension_count is 8"),
        ({"keys": {"llama.context_length": None}}, "has no llama.context_length"),
        ({"keys": {"llama.block_count": "two"}}, "llama.block_count is 'two'"),
        ({"keys": {"llama.feed_forward_length": [96, 32]}}, r"is \[96, 32\]"),
        ({"keys": {"llama.feed_forward_length": 128}}, r"has shape \[96, 64\].*say \[128, 64\]"),
        ({"keys": {"llama.attention.value_length": 8}}, "llama.attention.value_length is"),
        ({"keys": {"general.type": "adapter"}}, "no model but a adapter"),
        ({"keys": {"llama.rope.freq_base": 0.0}}, "llama.rope.freq_base is 0"),
    ],
)
def test_what_is_unknown_or_missing_is_refused_by_name(options, words, built, tmp_path):
    refused(files.write(tmp_path / "a.gguf", built, **options), tmp_path / "cache", words)


def test_an_architecture_that_is_not_known_is_refused_with_those_that_are(tmp_path):
    path = tmp_path / "a.gguf"
    writer = gguf.GGUFWriter(path, "mamba")
    writer.add_tensor("token_embd.weight", np.ones((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(BenchsuiteError, match=r"architecture 'mamba'.*Known: llama, qwen2"):
        describe(path)


def test_a_type_that_is_not_dequantized_is_refused_by_tensor(built, tmp_path):
    path = tmp_path / "a.gguf"
    for number, words in ((24, "type I8"), (99, "type number 99")):
        files.write(path, built)
        content = bytearray(path.read_bytes())
        name = content.index(b"blk.0.attn_q.weight") + len(b"blk.0.attn_q.weight")
        struct.pack_into("<I", content, name + 4 + 16, number)
        path.write_bytes(content)
        refused(path, tmp_path / "cache", f"tensor blk.0.attn_q.weight is of {words}")


def test_numbers_that_are_none_are_refused_by_tensor(tmp_path):
    built = files.model("llama")
    built.model.layers[1].mlp.up_proj.weight.data[3, 5] = float("nan")
    path = files.write(tmp_path / "a.gguf", built)
    refused(path, tmp_path / "cache", "tensor blk.1.ffn_up.weight holds NaN")


def test_without_the_package_the_cell_says_what_to_install(whole, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(CellCannotRun, match=r"pip install 'benchsuite\[gguf\]'"):
        describe(whole)
