"""transformers with what it needs seldom put off: nothing is loaded, and all is there when asked.

One process of its own imports it; what it saw is asserted here.
"""

import importlib.util
import json
import subprocess
import sys

import pytest

# A process that imports everything anew takes ten seconds; the others are forked.
pytestmark = pytest.mark.stress

SEEN = """
import json, pickle, sys

from benchsuite.models.light_imports import LATE, import_transformers

seen = {}
import_transformers()
from transformers import AutoModelForCausalLM, LlamaForCausalLM
import transformers.generation.candidate_generator as tuning

seen["early"] = [name for name in (*LATE, "sklearn", "hqq", "torchao") if name in sys.modules]
curve = tuning.roc_curve
seen["instance"] = isinstance(1, curve)
seen["waits"] = "sklearn" not in sys.modules
seen["curve"] = [column.tolist() for column in curve([0, 1, 1], [0.1, 0.5, 0.7])]
import sklearn.metrics
seen["real"] = tuning.roc_curve is sklearn.metrics.roc_curve
seen["pickled"] = pickle.loads(pickle.dumps(curve)) is sklearn.metrics.roc_curve
import transformers.loss.loss_rt_detr as matching
import scipy.optimize
seen["matching"] = matching.linear_sum_assignment is scipy.optimize.linear_sum_assignment
seen["loader"] = type(sklearn.metrics.__loader__).__name__ == type(sklearn.__loader__).__name__
try:
    import hqq.core.quantize
except ImportError:
    pass
else:
    import transformers.cache_utils as caches, transformers.quantizers.quantizer_hqq as quantizer
    real = hqq.core.quantize
    seen["hqq"] = [
        caches.HQQQuantizer is real.Quantizer,
        quantizer.HQQLinear is real.HQQLinear,
        isinstance(real.HQQLinear.weight, property),
    ]
import_transformers()  # again: there is nothing left to put off
waiting = [finder for finder in sys.meta_path if type(finder).__module__.endswith("light_imports")]
seen["waiting"] = [finder.name for finder in waiting]
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def seen() -> dict:
    done = subprocess.run([sys.executable, "-c", SEEN], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_model_class_loads_none_of_the_libraries(seen):
    assert seen["early"] == []


def test_asking_about_an_instance_loads_nothing(seen):
    assert not seen["instance"]
    assert seen["waits"]


def test_what_was_put_off_answers_as_the_real_one(seen):
    from sklearn.metrics import roc_curve

    expected = [column.tolist() for column in roc_curve([0, 1, 1], [0.1, 0.5, 0.7])]
    assert seen["curve"] == expected


def test_the_real_one_takes_its_place_once_it_is_loaded(seen):
    assert seen["real"]
    assert seen["matching"]
    assert seen["pickled"]
    assert seen["loader"]
    assert "sklearn.metrics" not in seen["waiting"]


@pytest.mark.skipif(importlib.util.find_spec("hqq") is None, reason="hqq is not installed")
def test_hqq_gets_what_transformers_gives_it_whoever_loads_it(seen):
    assert seen["hqq"] == [True, True, True]
