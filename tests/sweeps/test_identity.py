"""What a run computes, and so its name in a sweep, changes with every key but those of a list."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

from tests.conftest import mostly_slow
from vae_runner.config.checks import check
from vae_runner.config.composition import content_of
from vae_runner.config.fingerprint import fingerprint
from vae_runner.config.keys import leaves, typed_keys
from vae_runner.schema import register_schemas
from vae_runner.sweeps.names import _known, _run_name

# Where files are, what is drawn and kept, what only the command is told, and what of the hardware changes numbers by no
# more than their rounding.
NOT_COMPUTED = {
    *(
        "data_dir",
        "dataset.data_dir",
        "dataset.factors",
        "profile",
        "resume",
        "trust",
        "sweep.resume",
        "sweep.dir",
        "sweep.metric",
        "sweep.unfit",
    ),
    *("checkpoint.every", "checkpoint.every_minutes", "checkpoint.keep"),
    *("hardware.device", "hardware.gpus", "hardware.distribution", "hardware.logical_cpus", "hardware.workers"),
    *("hardware.worker", "hardware.memory_growth", "hardware.memory_limit_mb", "hardware.xla", "hardware.fuse"),
    "hardware.custom_ops",
    *("hardware.tensor_float32", "hardware.deterministic", "hardware.intra_op_threads", "hardware.inter_op_threads"),
}
COMPOSITIONS = [
    *("dataset=folder", "model=mlp", "schedule=cosine"),
    *("dataset=digits", "dataset=fashion", "dataset=mnist", "dataset=cartoon"),
    *("loss=ae", "optimizer=adamw", "schedule=exponential", "hardware=mirrored"),
    *("loss=iwae", "loss=rae", "prior=mixture", "likelihood=gaussian", "method=beta_tcvae"),
]
# Where neither the type nor the values that are allowed say what else there may be.
OTHERS = {
    "model.filters": 7,
    "model.depth": 3,
    "model.widths": [7],
    "model.downsamplings": 1,
    "dataset.image_size": 32,
    "dataset.binarize": "dynamic",
    "dataset.background": "black",
    "dataset.limit": 9,
    "dataset.factors": __file__,
    "dataset.labels": "folders",
    "hardware.sync_batch_norm": True,
    "hardware.gpus": [0],
    "hardware.workers": ["a:1"],
    "hardware.worker": 0,
    "hardware.memory_limit_mb": 100,
    "optimizer.weight_decay": 0.5,
    "optimizer.ema": 0.9,
    "optimizer.skip_norm_above": 9.0,
    "init_parts": ["encoder"],
    "loss.reconstruction_weight": 7.0,
    "loss.kl_warmup_epochs": 2.0,
    "loss.kl_cycle_epochs": 3.0,
    "loss.kl_capacity": 5.0,
    "loss.free_bits": 0.5,
    "loss.sparsity_target": 0.1,
    "loss.sparsity_weight": 0.2,
    "likelihood.scale": 0.1,
    "trust": ["a"],
}


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    register_schemas()
    with initialize_config_module("vae_runner.conf", version_base="1.3"):
        yield


def another(key: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    """A value that the key may have too."""
    if key in OTHERS:
        return OTHERS[key]
    if allowed:
        return next(choice for choice in allowed if choice != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 0.9 or 0.25
    return 0.25 if "clip" in key else f"{value or 'test/loss'}_"


def keys(config: DictConfig) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Every key of a configuration, without those of figures and evaluation, and the values that its schema names."""
    named = {
        path: field.metadata.get("choices", ()) for path, _, field in typed_keys(config, "")
    }  # a key of a part that has no schema may have any value
    for path, _ in leaves(OmegaConf.to_container(config), into_lists=False):
        if not path.startswith(("figures.", "evaluation.")):
            yield path, named.get(path, ())


@pytest.mark.parametrize("chosen", mostly_slow(COMPOSITIONS, quick=3))
def test_a_runs_identity_changes_with_every_key_but_those_that_compute_nothing(chosen: str) -> None:
    config = compose("config", overrides=[chosen])
    OmegaConf.resolve(config)
    ours = fingerprint(content_of(config))
    for key, allowed in keys(config):
        other = config.copy()
        OmegaConf.update(other, key, another(key, OmegaConf.select(config, key), allowed), force_add=True)
        if key in ("checkpoint.models", "checkpoint.metric"):  # which have a test of their own
            continue
        assert OmegaConf.select(other, key) != OmegaConf.select(config, key)
        assert (fingerprint(content_of(other)) == ours) == (key in NOT_COMPUTED), key


def test_the_values_that_are_tried_are_values_that_a_run_takes() -> None:
    config = compose("config", overrides=["dataset=folder", "dataset.root=photos"])
    together = {"optimizer.clipnorm", "optimizer.clipvalue", "loss.free_bits"}  # exclude others, or each other
    for key, allowed in keys(config):
        if not key.startswith("hardware.") and not key.endswith("_target_") and key not in together:
            OmegaConf.update(config, key, another(key, OmegaConf.select(config, key), allowed))
    check(config)


@pytest.mark.parametrize("chosen", ["checkpoint.models=last", "checkpoint.metric=validation/kl"])
def test_which_models_are_kept_is_computed_where_there_are_validation_images_to_choose_them_by(chosen: str) -> None:
    def of(*overrides: str) -> str:
        return fingerprint(content_of(compose("config", overrides=list(overrides))))

    assert of() == of(chosen) == of("checkpoint.models=last", "checkpoint.metric=test/loss")
    assert of("dataset.validation_fraction=0.2") != of("dataset.validation_fraction=0.2", chosen)


@pytest.mark.parametrize("chosen", ["figures=none", "evaluation=all"])
def test_figures_and_evaluation_change_nothing_that_a_run_computes(chosen: str) -> None:
    config = compose("config", overrides=[chosen])
    assert fingerprint(content_of(config)) == fingerprint(content_of(compose("config")))


@pytest.mark.parametrize("written", ["photos", "./photos", "~/photos/", "../{name}/photos", "{cwd}/photos"])
def test_an_identity_does_not_depend_on_how_a_folder_is_written(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def of(root: str) -> str:
        return fingerprint(content_of(compose("config", overrides=["dataset=folder", f"dataset.root='{root}'"])))

    assert of(written.format(cwd=tmp_path, name=tmp_path.name)) == of(f"{tmp_path}/photos")
    assert of(written.format(cwd=tmp_path, name=tmp_path.name)) != of(f"{tmp_path}/others")


def test_trials_that_differ_in_nothing_that_is_computed_have_one_folder(tmp_path: Path) -> None:
    searched = ("latent", "hardware", "hardware.xla", "hardware.precision", "figures", "checkpoint.models")
    sweeper = {"params": dict.fromkeys(searched, "choice(…)")}
    hydra = {"sweep": {"dir": str(tmp_path)}, "sweeper": sweeper, "runtime": {"choices": {}}}

    def name(*overrides: str) -> str:
        return _run_name(_root_=OmegaConf.merge({"hydra": hydra}, compose("config", overrides=list(overrides))))

    first = name("latent=3", "hardware.xla=true")
    assert first.startswith("latent_3-")
    _known.cache_clear()  # as in another process
    assert name("latent=3", "hardware.xla=false") == first
    assert name("latent=2", "hardware.xla=false").startswith("latent_2-")
    assert name("hardware.precision=mixed_float16").startswith("latent_2-precision_mixed_float16-")
