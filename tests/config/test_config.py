import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

from vae_runner.config import registry
from vae_runner.config.checks import check
from vae_runner.config.choices import help_text
from vae_runner.config.composition import content_of, of_the_run
from vae_runner.config.fingerprint import fingerprint
from vae_runner.config.instantiation import build
from vae_runner.config.registry import Built
from vae_runner.errors import UnfitError, UserError
from vae_runner.figures.pictures import Pictures
from vae_runner.schema import Config, register_schemas

CONF = Path(__file__).parents[2] / "conf"
EXPERIMENTS = [path.stem for path in (CONF / "experiment").glob("*.yaml")]
BESIDE = {  # of what does not fit the defaults of the other groups, or needs a key of the user's
    "loss=iwae": "likelihood=gaussian", "loss=renyi": "likelihood=gaussian", "posterior=point": "loss=ae",
    "posterior=power_spherical": "prior=sphere", "prior=sphere": "posterior=power_spherical",
    "posterior=gumbel": "prior=categorical", "prior=categorical": "posterior=gumbel",
    "prior=learned_categorical": "posterior=gumbel",
    "posterior=fsq": "loss=ae prior=categorical", "posterior=vq": "loss=vq prior=categorical",
    "loss=vq": "posterior=vq prior=categorical", "loss=vq_gan": "posterior=vq prior=categorical",
    "dataset=folder": "dataset.root=photos dataset.image_size=32",
}  # fmt: skip


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    register_schemas()
    with initialize_config_module("vae_runner.conf", version_base="1.3"):
        yield


def composed(*overrides: str) -> DictConfig:
    return compose("config", overrides=list(overrides))


def test_the_defaults_pass() -> None:
    check(composed())


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_passes(experiment: str) -> None:
    cfg = composed(f"experiment={experiment}")
    check(cfg)
    sizes = {
        "compare_fashion": (16, None),
        "race_fashion": (2, 4),
        "tutorial_fashion": (2, 4),
        "tutorial_cartoon": (200, 5),
    }
    assert (cfg.latent, cfg.model.depth) == sizes[experiment.removesuffix("_ae")]
    assert cfg.posterior._target_.endswith("Point") is experiment.endswith("_ae")


def test_command_line_keys_win_over_what_a_dataset_or_experiment_sets() -> None:
    assert composed("dataset=cartoon").latent == 200
    assert composed("dataset=cartoon", "latent=3").latent == 3
    assert composed("experiment=tutorial_fashion", "model.depth=6", "epochs=1").model.depth == 6


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_numbers_that_are_not_finite_are_refused(value: str) -> None:
    with pytest.raises(UserError, match=r"loss\.kl_weight=.*finite"):
        check(composed(f"loss.kl_weight={value}"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("hardware.precision=mixed_float8", r"one of float32, mixed_bfloat16, mixed_float16\. Did you mean"),
        ("hardware.xla=maybe", r"hardware\.xla=maybe: must be one of auto, true, false"),
        ("hardware.xla=1", r"hardware\.xla=1: must be one of"),
        ("model.normalization=bach", r"Did you mean 'batch'\?"),
        ("model.filters=[32,0]", r"model\.filters=.*one such integer a block"),
        ("model.filters=abc", r"model\.filters=abc"),
        ("+nonsense=1", r"there is no key 'nonsense'"),
        ("+model.dpeth=1", r"there is no key 'model\.dpeth'\. Did you mean 'depth'\?"),
        ("~latent", r"latent was removed"),
        ("data_dir=", r"data_dir= is empty"),
        ("figures.final.manifold.side=0", r"figures\.final\.manifold\.side=0: must be from 1 to"),
        ("latent=${nowhere}", r"Interpolation key 'nowhere' not found"),
    ],
)
def test_other_bad_values_are_refused_in_one_line(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as refusal:
        check(composed(override))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "batch_size=9223372036854775808",
            "batch_size=9223372036854775808: must be at most 9223372036854775807 (images)",
        ),
        (f"epochs={10**400}", "must be at most"),
        ("loss.kl_warmup_epochs=1e300", "must be 0, or from 1.2e-38 to 3.4e+38 (epochs)"),
        ("optimizer.epsilon=1e-300", "must be 0, or from 1.2e-38 to 3.4e+38"),
        ("figures.final.manifold=abc", "figures.final.manifold is no figure: it must be null, or"),
    ],
)
def test_numbers_that_no_machine_reckons_with_and_figures_that_are_none_are_refused(
    override: str, message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        check(composed(override))


def test_a_target_that_takes_a_whole_number_is_given_nothing_else() -> None:
    for value in ("x", 2.5, True):
        part = {"_target_": "vae_runner.figures.manifold.manifold", "_partial_": True, "side": value}
        with pytest.raises(UserError, match=f"manifold.side={value}: must be a whole number"):
            build(part, "manifold")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("photos", "{cwd}/photos"),
        ("./a/../photos/", "{cwd}/photos"),
        ("~/photos", "{home}/photos"),
        ("/photos", "/photos"),
        ("s3://bucket/photos", "s3://bucket/photos"),
        ("~nosuchuser/photos", "~nosuchuser/photos"),
    ],
)
def test_a_run_keeps_absolute_paths(given: str, kept: str) -> None:
    keys = ("data_dir", "dataset.root", "dataset.data_dir", "loss.perceptual_model", "evaluation.samples.features")
    own = of_the_run(composed("dataset=folder", "loss=patch_gan", *(f"{key}='{given}'" for key in keys)))
    expected = kept.format(cwd=Path.cwd(), home=Path.home())
    assert {key: OmegaConf.select(own, key) for key in keys} == dict.fromkeys(keys, expected)


def test_words_that_stand_where_a_file_may_are_no_paths() -> None:
    words = ("loss.perceptual_model=classifier", "evaluation.samples.features=random")
    own = of_the_run(composed("loss=patch_gan", *words))
    assert (own.loss.perceptual_model, own.evaluation.samples.features) == ("classifier", "random")


def test_two_ways_of_clipping_are_refused() -> None:
    with pytest.raises(UserError, match=r"optimizer\.clipnorm and optimizer\.clipvalue exclude each other"):
        check(composed("optimizer.clipnorm=1", "optimizer.clipvalue=1"))


@pytest.mark.parametrize("part", ["posterior", "prior"])
def test_too_few_latent_dimensions_for_a_component_are_seen_in_the_configuration(part: str) -> None:
    check(composed(f"{part}=real_nvp", "latent=2"))
    with pytest.raises(
        UnfitError, match=f"^latent=1: {part}=real_nvp needs at least 2 dimensions of z: choose latent=2"
    ):
        check(composed(f"{part}=real_nvp", "latent=1"))


def test_a_partial_with_a_key_it_does_not_take_is_refused() -> None:
    with pytest.raises(UserError, match=r"figures\.final\.manifold: .* 'sides'"):
        Pictures(Config.of(composed("+figures.final.manifold.sides=3")).figures)


def test_gpus_without_a_gpu_device_are_refused() -> None:
    with pytest.raises(UserError, match=r"hardware\.gpus chooses GPUs"):
        check(composed("hardware=cpu", "hardware.gpus=[0]"))


def test_help_names_every_choice_of_every_group() -> None:
    text = help_text()
    for path in CONF.glob("*/*.yaml"):
        group, name = path.parent.name, path.stem
        listed = re.search(rf"^  {group}=(.*?)(?=^  \S|\Z)", text, re.MULTILINE | re.DOTALL)
        assert listed is not None, group
        assert re.search(rf"\b{name}\b", listed[1]), f"{group}={name}"


def test_help_names_the_folder_of_recipes() -> None:
    assert re.search(r"^  experiment=[^=]*\sreproduce/…$", help_text(), re.MULTILINE)  # whichever line it is in


def made(**keys: Any) -> dict[str, Any]:
    """Something to build."""
    return keys


def test_build_calls_the_target_with_its_keys_and_the_arguments() -> None:
    assert build({"_target_": f"{__name__}.made", "a": 1, "b": [2]}, "part", c=(3,)) == {"a": 1, "b": [2], "c": (3,)}


@pytest.mark.parametrize("target", ["builtins.dict", "builtins.int"])
def test_a_target_without_a_signature_is_refused(target: str) -> None:
    with pytest.raises(UserError, match=rf"^loss\._target_={target} cannot be used: no signature found"):
        build({"_target_": target}, "loss")


def test_build_of_a_partial_gives_the_target_or_fills_its_keys_in() -> None:
    assert build({"_target_": f"{__name__}.made", "_partial_": True}, "part") is made
    assert build({"_target_": f"{__name__}.made", "_partial_": True, "a": 1}, "part")(b=2) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"a": 1}, r"part names nothing to build"),
        ({"_target_": "nowhere.Thing"}, r"part\._target_=nowhere\.Thing cannot be found"),
        ({"_target_": "vae_runner.models.conv.nothing"}, r"cannot be found"),
        ({"_target_": "vae_runner.losses.elbo.Elbo", "kl": 1}, r"does not fit its configuration: .*'kl'"),
    ],
)
def test_build_refuses_what_it_cannot_build(node: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(node, "part")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("hardware.logical_cpus=2", r"hardware\.logical_cpus=2 needs hardware=mirrored"),
        ("hardware.workers=[a:1]", r"hardware\.workers and hardware\.worker need hardware=multi_worker"),
        ("hardware.worker=0", r"hardware\.workers and hardware\.worker need hardware=multi_worker"),
    ],
)
def test_keys_of_distributed_training_need_it(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(composed(override))


def test_a_machine_that_does_not_write_draws_nothing_and_computes_the_same() -> None:
    config = Config.of(composed("seed=3"))
    other = config.without_output()
    assert (other.figures.every, other.figures.periodic, other.figures.final) == (0, {}, {})
    assert (other.checkpoint.every, other.checkpoint.every_minutes, other.checkpoint.metric) == (0, 0, None)
    assert other.checkpoint.models == "last"
    assert config.figures.final  # the original stays
    assert fingerprint(other.content, ["checkpoint"]) == fingerprint(config.content, ["checkpoint"])


@pytest.mark.parametrize("choice", [f"{file.parent.name}={file.stem}" for file in CONF.glob("*/*.yaml")])
def test_every_yaml_of_a_group_passes_and_its_objects_have_its_content_to_the_order_of_its_keys(choice: str) -> None:
    config = composed(choice, *BESIDE.get(choice, "").split())
    check(config)
    made = Config.of(config)
    assert (
        OmegaConf.to_yaml(made.content)
        == OmegaConf.to_yaml(content_of(config))
        == OmegaConf.to_yaml(of_the_run(config))
    )
    assert all(isinstance(getattr(made, part), Built) for part in registry.parts())


def test_a_part_without_a_schema_is_a_dictionary() -> None:
    made = Config.of(composed("~loss", f"+loss={{_target_: {__name__}.made, weight: 3}}"))
    assert made.loss == {"_target_": f"{__name__}.made", "weight": 3}
    assert made.content["loss"] == made.loss
