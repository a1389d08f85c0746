"""Configurations: the document's four, a user's own in YAML and TOML, and what is wrong in one."""

import pytest

from benchsuite.errors import UsageError
from benchsuite.latent.asking import CONFIGURATIONS, task_of
from benchsuite.latent.config import FOLDER, load_config
from benchsuite.latent.methods.registry import METHODS, config_of
from benchsuite.study import study

# KaVa's hyper-parameters, as the source lists them.
LISTED = {
    "llama1b_aug": (10, 1, "smooth_l1", True, 8e-4, 0.1, 10),
    "llama1b_aug_nl": (10, 1, "mse", True, 8e-4, 0.1, 10),
    "qwen05b_aug": (10, 1, "mse", False, 5e-4, 0.01, 10),
    "llama3b_aug": (20, 2, "smooth_l1", False, 2e-4, 0.1, 5),
}


@pytest.mark.parametrize("name", LISTED)
def test_the_documents_configurations_are_the_listed_ones(name):
    config = config_of("kava", load_config(name))
    how, training = config.loss, config.training
    loss = how.codi_weight, how.kv_weight, how.kv_distance, how.layer_std
    rest = training.learning_rate, training.weight_decay, training.num_train_epochs
    assert (*loss, *rest) == LISTED[name]
    assert training.per_device_train_batch_size * training.gradient_accumulation_steps == 128
    assert (config.lora.r, config.lora.alpha, config.lora.dropout) == (128, 32, 0.1)
    assert (config.latent.n_latents, config.latent.passes) == (24, 3)
    assert training.max_grad_norm == 2


def test_codis_settings_are_those_of_its_scripts():
    """Of train_llama1b_gsm8k-aug.sh and train_llama1b_gsm8k-aug-nl.sh."""
    for name, epochs, tokens in (("llama1b_aug", 10, 200), ("llama1b_aug_nl", 3, 256)):
        config = config_of("codi", load_config(name))
        assert config.training.num_train_epochs == epochs
        assert (config.data.max_tokens, config.data.digit_answers) == (tokens, True)
        assert config.latent.projection_dropout == 0
        assert (config.latent.n_latents, config.loss.codi_weight) == (6, 20)
        assert config_of("kava", load_config(name)).data.max_tokens == 0


DOCUMENTED = ("llama3_2_1b", "qwen2_5_0_5b", "llama3_2_3b")


def test_the_grid_is_twelve_trainings_and_thirty_six_evaluations_of_kava_on_the_hub():
    for name, count in (("latent_training", 12), ("latent_reasoning", 36)):
        cells = [c for c in study(name).cells() if c.model in DOCUMENTED and c.method == "kava"]
        of_the_guide = [c for c in cells if c.axes.get("asked") != "multi_arith"]
        assert len(of_the_guide) == count


def test_svamp_is_asked_whole():
    assert task_of("llama3_2_1b", "asked", "svamp") == "svamp_all"
    assert task_of("llama3_2_1b", "asked", "multi_arith") == "multi_arith"


def test_every_configuration_is_of_the_cells_that_take_it():
    for cell in study("latent_training").cells(seeds=[42]):
        config = load_config(CONFIGURATIONS[cell.model, cell["steps"]])
        if not cell.model.startswith("tiny"):
            assert (config.model, config.data.task) == (
                cell.model,
                task_of(cell.model, "steps", cell["steps"]),
            )


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_file_holds_for_every_method(path):
    for name in METHODS:
        assert config_of(name, load_config(path)).name == load_config(path).name


def test_toml_and_yaml_say_the_same(tmp_path):
    toml = "[training]\nper_device_train_batch_size = 2\n[methods.codi.latent]\nn_latents = 6\n"
    yaml = "training: {per_device_train_batch_size: 2}\nmethods: {codi: {latent: {n_latents: 6}}}\n"
    (tmp_path / "mine.toml").write_text('name = "a"\nmodel = "tiny_llama_1m"\n' + toml)
    (tmp_path / "mine.yaml").write_text("name: a\nmodel: tiny_llama_1m\n" + yaml)
    a, b = (load_config(tmp_path / f"mine.{kind}") for kind in ("toml", "yaml"))
    assert a == b
    assert config_of("codi", a).latent.n_latents == 6
    assert config_of("kava", a).latent.n_latents == 24


def test_an_ablation_takes_what_the_file_says_of_kava(tmp_path):
    text = "name: a\nmodel: tiny_llama_1m\nmethods: {kava: {latent: {n_latents: 7}}}\n"
    (tmp_path / "mine.yaml").write_text(text)
    config = config_of("kava_lambda0", load_config(tmp_path / "mine.yaml"))
    assert (config.latent.n_latents, config.loss.importance_mix) == (7, 0.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: m\ntraining: {batch_size: 4}", "unknown key of training"),
        ("model: m\ntrainin: {}", "did you mean 'training'"),
        ("model: m\ntraining: {max_steps: many}", "training.max_steps is 'many'"),
        ("model: m\nloss: {kv_distance: l3}", "one of l1, smooth_l1, mse"),
        ("training: {}", "no model is named"),
        ("model: [", "cannot be parsed"),
        ("model: m\ntraining: 3", "training is a section"),
        ("model: m\ntraining:", "training is a section"),
        ("model: m\nmethods: [kava]", "methods is a section"),
        ("model: m\nmethods: {kava: 3}", "methods.kava is a section"),
        ("model: m\n3: {a: 1}", "unknown section"),
        ("model: m\ntraining: {3: 1}", "unknown key of training"),
        ("model: m\ntraining: {save_steps: 0}", "it is above 0"),
        ("model: m\ntraining: {max_steps: -1}", "it is at least 0"),
        ("model: m\ntraining: {learning_rate: .nan}", "it is at least 0"),
        ("model: m\nlatent: {removed_at: 1.5}", "it is above 0 and at most 1"),
        ("model: m\nmethods: {kava: {latent: {n_latents: 0}}}", "it is above 0"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(text, said, tmp_path):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"mine\.yaml") as raised:
        load_config(tmp_path / "mine.yaml")
    assert said.lower() in str(raised.value).lower()


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "mine.yaml").write_bytes(b"model: \xff\xfe")
    with pytest.raises(UsageError, match=r"mine\.yaml cannot be parsed"):
        load_config(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("methods: {kavva: {}}", "'kavva'. Did you mean 'kava'"),
        ("methods: {kava_crop: {loss: {kv_weight: 2}}}", "unknown method .*'kava_crop'"),
        ("training: {start_from: full_cott}", "'full_cott'. Did you mean 'full_cot'"),
        ("training: {start_from: kava}", "no beginning: kava from kava"),
        ("training: {start_from: codi}", "no beginning: kava from codi from codi"),
    ],
)
def test_a_method_that_is_not_or_never_begins_is_refused(text, said, tmp_path):
    (tmp_path / "mine.yaml").write_text(f"model: m\n{text}")
    with pytest.raises(UsageError, match=said):
        config_of("kava", load_config(tmp_path / "mine.yaml"))


def test_an_unknown_shipped_configuration_names_the_nearest():
    with pytest.raises(UsageError, match=r"'tiny_lon'\. Did you mean 'tiny_long'"):
        load_config("tiny_lon")


def test_a_number_that_yaml_reads_as_a_text_is_a_number(tmp_path):
    (tmp_path / "mine.yaml").write_text("model: m\ntraining: {learning_rate: 8e-4}")
    assert load_config(tmp_path / "mine.yaml").training.learning_rate == 8e-4
