"""Engines that are servers: how they are started, asked over HTTP, and ended."""

import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchsuite.engines import EngineError, EngineProcess, engine
from benchsuite.records.environment import version_of_program

SERVERS = Path(__file__).parent / "servers"
PROMPTS = [[1, 2, 3], [40, 50], [7]]
sys.path.insert(0, str(SERVERS))
try:
    from serving import served
finally:
    sys.path.remove(str(SERVERS))


@pytest.fixture
def sglang(tmp_path):
    """The engine over a package of SGLang's name; no model, no GPU."""
    entry = replace(engine("sglang"), environment={"PYTHONPATH": str(SERVERS)})
    with EngineProcess("sglang", entry, log=tmp_path / "log") as process:
        yield process


@pytest.fixture
def llama(tmp_path):
    with EngineProcess("llama_server", engine("llama_server"), log=tmp_path / "log") as process:
        yield process


def load_llama(process, **more):
    settings = {"checkpoint_folder": "/models/m", "batch": 33, "sample_tokens": 128, **more}
    return process.load(program=str(SERVERS / "llama-server"), **settings)


def expected(steps):
    return [served(prompt, steps) for prompt in PROMPTS]


def started_with(process):
    """Return the words that the server was last started with."""
    words = re.findall(r"asked for \[(.*)\]", process.log.read_text())[-1]
    return re.findall(r"'([^']*)'", words)


def test_sglang_is_started_as_its_documentation_says(sglang):
    told = sglang.load(
        checkpoint_folder="/models/q", quantization="gptq_marlin", max_model_len=4096, seed=3
    )
    words = started_with(sglang)
    assert words[words.index("--port") + 1].isdigit()
    words[words.index("--port") + 1] = "PORT"
    assert " ".join(words) == (
        "--model-path /models/q --host 127.0.0.1 --port PORT --skip-tokenizer-init "
        "--dtype float16 --context-length 4096 --tp-size 1 --random-seed 3 "
        "--mem-fraction-static 0.9 --disable-radix-cache --disable-cuda-graph "
        "--quantization gptq_marlin"
    )
    assert told["attention_backend"] == "fa3"
    assert told["deterministic"] is False
    sglang.load(checkpoint_folder="/models/q", deterministic=True)
    assert started_with(sglang)[-1] == "--enable-deterministic-inference"


def test_sglangs_tokens_and_log_probs_arrive_as_it_told_them(sglang):
    sglang.load(checkpoint_folder="/models/q")
    made = sglang.generate(PROMPTS, 5)
    assert made.tokens.tolist() == [tokens for tokens, _ in expected(5)]
    assert made.logprobs.tolist() == [logprobs for _, logprobs in expected(5)]
    sglang.load(checkpoint_folder="/models/q", temperature=0.7, seed=11)
    assert np.array_equal(sglang.generate(PROMPTS, 5).tokens, made.tokens + 11)


def test_llama_server_has_a_slot_and_room_for_every_prompt_of_a_batch(llama):
    told = load_llama(llama, threads=2)
    port = re.search(r"--port (\d+)", told["build"]).group(1)
    assert told["build"].replace(port, "PORT") == (
        "--model /models/m/model.gguf --host 127.0.0.1 --threads 2 --threads-batch 2 "
        "--parallel 33 --ctx-size 4224 --device none --port PORT"
    )
    assert "--gpu-layers 999 --port" in load_llama(llama, device="cuda:0")["build"]


def test_llama_servers_answers_stand_in_the_order_of_the_prompts(llama):
    load_llama(llama)
    made = llama.generate(PROMPTS, 4)
    assert made.tokens.tolist() == [tokens for tokens, _ in expected(4)]
    assert made.logprobs.tolist() == [logprobs for _, logprobs in expected(4)]


def test_what_a_server_refuses_or_cannot_do_is_told(llama):
    with pytest.raises(EngineError, match="no deterministic mode"):
        load_llama(llama, deterministic=True)
    load_llama(llama)
    with pytest.raises(EngineError, match=r"server answered 400: .*no prompt"):
        llama.ask("generate", prompts=[], max_tokens=2)
    with pytest.raises(EngineError, match="not profiled"):
        llama.kernels(PROMPTS, 2)
    ends = {"program": "/bin/false", "checkpoint_folder": "", "batch": 1, "sample_tokens": 1}
    with pytest.raises(EngineError, match="ended with status 1 before it was ready"):
        llama.load(**ends)


def test_a_server_ends_with_its_engine(llama):
    load_llama(llama)
    children = Path(f"/proc/{llama._process.pid}")
    assert children.exists()
    servers = [pid for pid in os.listdir("/proc") if pid.isdigit() and serves(pid, llama)]
    assert servers
    llama.close()
    assert not any(Path(f"/proc/{pid}").exists() and serves(pid, llama) for pid in servers)


def serves(pid, process):
    """Say whether a process is a server in the engine's session."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text()
        return "llama-server" in words and os.getsid(int(pid)) == process._process.pid
    except OSError:
        return False


def test_a_programs_version_is_its_own_word(tmp_path):
    assert version_of_program(str(SERVERS / "llama-server")) == "version: 7 (abc)"
    assert version_of_program(str(tmp_path / "none")) == "absent"
    assert version_of_program("/bin/false") == "absent"
