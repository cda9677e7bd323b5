"""What every key of conf/ is, and what it may be, written down once more: an independent answer for both.

A key whose value or bounds change is changed here too, on purpose.
"""

import copy
import dataclasses
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

from vae_runner.config import registry
from vae_runner.config.checks import check
from vae_runner.config.keys import typed_keys
from vae_runner.errors import UserError
from vae_runner.schema import register_schemas

CONF = Path(__file__).parents[1] / "conf"
INFINITY = float("inf")

# What a choice makes of its keys, and of others that it sets; "" is what belongs to no group.
DEFAULTS: dict[str, dict[str, Any]] = {
    "": {
        "latent": 2,
        "epochs": 20,
        "batch_size": 64,
        "seed": 0,
        "data_dir": "${oc.env:VAE_RUNNER_DATA,'~/.cache/vae-runner'}",
        "early_stopping.metric": None,
        "early_stopping.patience": 5,
        "early_stopping.min_delta": 0.0,
        "checkpoint.every": 1,
        "checkpoint.every_minutes": 10.0,
        "checkpoint.keep": 2,
        "checkpoint.metric": "test/loss",
        "resume": None,
        "trust": [],
    },
    "dataset=cartoon": {
        "latent": 200,
        "epochs": 50,
        "batch_size": 128,
        "dataset._target_": "vae_runner.datasets.cartoon.load",
        "dataset.limit": None,
        "dataset.validation_fraction": 0.0,
        "dataset.root": None,
        "dataset.data_dir": "${data_dir}",
        "dataset.image_size": 256,
        "dataset.channels": 3,
        "dataset.background": "white",
        "dataset.crop": False,
        "dataset.labels": None,
        "dataset.test_fraction": 0.1,
        "dataset.on_error": "stop",
        "dataset.variant": "10k",
        "dataset.url": "https://storage.googleapis.com/cartoonset_public_files",
    },
    "dataset=digits": {
        "latent": 2,
        "epochs": 20,
        "batch_size": 64,
        "dataset._target_": "vae_runner.datasets.digits.load",
        "dataset.limit": None,
        "dataset.validation_fraction": 0.0,
        "dataset.test_fraction": 0.2,
    },
    "dataset=fashion": {
        "latent": 2,
        "epochs": 10,
        "batch_size": 128,
        "dataset._target_": "vae_runner.datasets.fashion.load",
        "dataset.limit": None,
        "dataset.validation_fraction": 0.0,
        "dataset.root": None,
        "dataset.data_dir": "${data_dir}",
        "dataset.url": "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",
    },
    "dataset=folder": {
        "latent": 64,
        "epochs": 20,
        "batch_size": 128,
        "dataset._target_": "vae_runner.datasets.folder.load",
        "dataset.limit": None,
        "dataset.validation_fraction": 0.0,
        "dataset.root": None,
        "dataset.data_dir": "${data_dir}",
        "dataset.image_size": 64,
        "dataset.channels": 3,
        "dataset.background": "white",
        "dataset.crop": False,
        "dataset.labels": None,
        "dataset.test_fraction": 0.1,
        "dataset.on_error": "stop",
    },
    "dataset=mnist": {
        "latent": 2,
        "epochs": 10,
        "batch_size": 128,
        "dataset._target_": "vae_runner.datasets.mnist.load",
        "dataset.limit": None,
        "dataset.validation_fraction": 0.0,
        "dataset.root": None,
        "dataset.data_dir": "${data_dir}",
        "dataset.url": "https://ossci-datasets.s3.amazonaws.com/mnist",
    },
    "model=conv": {
        "model._target_": "vae_runner.models.conv.build",
        "model.conditional": False,
        "model.depth": None,
        "model.downsamplings": None,
        "model.filters": None,
        "model.kernel_size": 3,
        "model.normalization": "batch",
        "model.batch_norm_momentum": 0.9,
        "model.leaky_relu_slope": 0.2,
    },
    "model=mlp": {
        "model._target_": "vae_runner.models.mlp.build",
        "model.conditional": False,
        "model.depth": 2,
        "model.width": 512,
        "model.normalization": "none",
        "model.batch_norm_momentum": 0.9,
        "model.leaky_relu_slope": 0.2,
    },
    "posterior=gaussian": {
        "posterior._target_": "vae_runner.posteriors.gaussian.Gaussian",
    },
    "posterior=point": {
        "posterior._target_": "vae_runner.posteriors.point.Point",
    },
    "prior=normal": {"prior._target_": "vae_runner.priors.normal.Normal"},
    "prior=class_conditional": {"prior._target_": "vae_runner.priors.class_conditional.ClassConditional"},
    "likelihood=mse": {"likelihood._target_": "vae_runner.likelihoods.mse.MeanSquaredError"},
    "loss=ae": {
        "loss._target_": "vae_runner.losses.reconstruction.Reconstruction",
        "loss.reconstruction_weight": None,
        "posterior._target_": "vae_runner.posteriors.point.Point",
    },
    "loss=vae": {
        "loss._target_": "vae_runner.losses.elbo.Elbo",
        "loss.reconstruction_weight": None,
        "loss.kl_weight": 1.0,
        "loss.kl_warmup_epochs": 0.0,
        "posterior._target_": "vae_runner.posteriors.gaussian.Gaussian",
    },
    "optimizer=adam": {
        "optimizer._target_": "vae_runner.acceleration.optimizers.Adam",
        "optimizer.learning_rate": 0.0005,
        "optimizer.beta_1": 0.9,
        "optimizer.beta_2": 0.999,
        "optimizer.epsilon": 1e-07,
        "optimizer.weight_decay": None,
        "optimizer.clipnorm": None,
        "optimizer.clipvalue": None,
        "optimizer.global_clipnorm": None,
    },
    "optimizer=adamw": {
        "optimizer._target_": "vae_runner.acceleration.optimizers.AdamW",
        "optimizer.learning_rate": 0.0005,
        "optimizer.beta_1": 0.9,
        "optimizer.beta_2": 0.999,
        "optimizer.epsilon": 1e-07,
        "optimizer.weight_decay": 0.004,
        "optimizer.clipnorm": None,
        "optimizer.clipvalue": None,
        "optimizer.global_clipnorm": None,
    },
    "schedule=constant": {
        "schedule._target_": "vae_runner.training.schedules.constant",
        "schedule._partial_": True,
        "schedule.warmup_epochs": 0.0,
    },
    "schedule=cosine": {
        "schedule._target_": "vae_runner.training.schedules.cosine",
        "schedule._partial_": True,
        "schedule.warmup_epochs": 0.0,
        "schedule.final_factor": 0.0,
    },
    "schedule=exponential": {
        "schedule._target_": "vae_runner.training.schedules.exponential",
        "schedule._partial_": True,
        "schedule.warmup_epochs": 0.0,
        "schedule.decay": 0.95,
    },
    "hardware=auto": {
        "hardware.device": "auto",
        "hardware.gpus": None,
        "hardware.distribution": "none",
        "hardware.logical_cpus": 1,
        "hardware.sync_batch_norm": None,
        "hardware.workers": None,
        "hardware.worker": None,
        "hardware.memory_growth": True,
        "hardware.memory_limit_mb": None,
        "hardware.xla": "auto",
        "hardware.fuse": True,
        "hardware.custom_ops": "auto",
        "hardware.precision": "float32",
        "hardware.tensor_float32": True,
        "hardware.deterministic": False,
        "hardware.intra_op_threads": 0,
        "hardware.inter_op_threads": 0,
    },
    "hardware=cpu": {
        "hardware.device": "cpu",
        "hardware.gpus": None,
        "hardware.distribution": "none",
        "hardware.logical_cpus": 1,
        "hardware.sync_batch_norm": None,
        "hardware.workers": None,
        "hardware.worker": None,
        "hardware.memory_growth": True,
        "hardware.memory_limit_mb": None,
        "hardware.xla": "auto",
        "hardware.fuse": True,
        "hardware.custom_ops": "auto",
        "hardware.precision": "float32",
        "hardware.tensor_float32": True,
        "hardware.deterministic": False,
        "hardware.intra_op_threads": 0,
        "hardware.inter_op_threads": 0,
    },
    "hardware=gpu": {
        "hardware.device": "gpu",
        "hardware.gpus": None,
        "hardware.distribution": "none",
        "hardware.logical_cpus": 1,
        "hardware.sync_batch_norm": None,
        "hardware.workers": None,
        "hardware.worker": None,
        "hardware.memory_growth": True,
        "hardware.memory_limit_mb": None,
        "hardware.xla": "auto",
        "hardware.fuse": True,
        "hardware.custom_ops": "auto",
        "hardware.precision": "float32",
        "hardware.tensor_float32": True,
        "hardware.deterministic": False,
        "hardware.intra_op_threads": 0,
        "hardware.inter_op_threads": 0,
    },
    "hardware=gpu_xla": {
        "hardware.device": "gpu",
        "hardware.gpus": None,
        "hardware.distribution": "none",
        "hardware.logical_cpus": 1,
        "hardware.sync_batch_norm": None,
        "hardware.workers": None,
        "hardware.worker": None,
        "hardware.memory_growth": True,
        "hardware.memory_limit_mb": None,
        "hardware.xla": True,
        "hardware.fuse": True,
        "hardware.custom_ops": "auto",
        "hardware.precision": "float32",
        "hardware.tensor_float32": True,
        "hardware.deterministic": False,
        "hardware.intra_op_threads": 0,
        "hardware.inter_op_threads": 0,
    },
    "hardware=mirrored": {
        "hardware.device": "auto",
        "hardware.gpus": None,
        "hardware.distribution": "mirrored",
        "hardware.logical_cpus": 1,
        "hardware.sync_batch_norm": None,
        "hardware.workers": None,
        "hardware.worker": None,
        "hardware.memory_growth": True,
        "hardware.memory_limit_mb": None,
        "hardware.xla": "auto",
        "hardware.fuse": True,
        "hardware.custom_ops": "auto",
        "hardware.precision": "float32",
        "hardware.tensor_float32": True,
        "hardware.deterministic": False,
        "hardware.intra_op_threads": 0,
        "hardware.inter_op_threads": 0,
    },
    "hardware=multi_worker": {
        "hardware.device": "auto",
        "hardware.gpus": None,
        "hardware.distribution": "multi_worker",
        "hardware.logical_cpus": 1,
        "hardware.sync_batch_norm": None,
        "hardware.workers": None,
        "hardware.worker": None,
        "hardware.memory_growth": True,
        "hardware.memory_limit_mb": None,
        "hardware.xla": "auto",
        "hardware.fuse": True,
        "hardware.custom_ops": "auto",
        "hardware.precision": "float32",
        "hardware.tensor_float32": True,
        "hardware.deterministic": False,
        "hardware.intra_op_threads": 0,
        "hardware.inter_op_threads": 0,
    },
    "figures=default": {
        "figures.every": 5,
        "figures.periodic.samples._target_": "vae_runner.figures.samples.samples",
        "figures.periodic.samples._partial_": True,
        "figures.periodic.samples.rows": 8,
        "figures.periodic.samples.columns": 8,
        "figures.periodic.reconstructions._target_": "vae_runner.figures.reconstructions.reconstructions",
        "figures.periodic.reconstructions._partial_": True,
        "figures.periodic.reconstructions.images": 10,
        "figures.final.latent_space._target_": "vae_runner.figures.latent_space.latent_space",
        "figures.final.latent_space._partial_": True,
        "figures.final.samples_uniform._target_": "vae_runner.figures.samples.samples_uniform",
        "figures.final.samples_uniform._partial_": True,
        "figures.final.samples_uniform.rows": 5,
        "figures.final.samples_uniform.columns": 5,
        "figures.final.samples_normal._target_": "vae_runner.figures.samples.samples_normal",
        "figures.final.samples_normal._partial_": True,
        "figures.final.samples_normal.rows": 5,
        "figures.final.samples_normal.columns": 5,
        "figures.final.manifold._target_": "vae_runner.figures.manifold.manifold",
        "figures.final.manifold._partial_": True,
        "figures.final.manifold.side": 20,
        "figures.final.traversals._target_": "vae_runner.figures.traversals.traversals",
        "figures.final.traversals._partial_": True,
        "figures.final.traversals.rows": 10,
        "figures.final.traversals.columns": 11,
        "figures.final.interpolations._target_": "vae_runner.figures.interpolations.interpolations",
        "figures.final.interpolations._partial_": True,
        "figures.final.interpolations.rows": 6,
        "figures.final.interpolations.columns": 11,
        "figures.final.loss_curves._target_": "vae_runner.figures.loss_curves.loss_curves",
        "figures.final.loss_curves._partial_": True,
    },
    "figures=none": {
        "figures.every": 0,
        "figures.periodic": {},
        "figures.final": {},
    },
    "sweep=new": {
        "sweep.resume": False,
        "sweep.dir": None,
        "sweep.metric": "test/loss",
    },
    "sweep=resume": {
        "sweep.resume": True,
        "sweep.dir": None,
        "sweep.metric": "test/loss",
    },
}

# What stands in the files that are no part's, and in config.yaml, which datasets and experiments change.
FILES: dict[str, dict[str, Any]] = {
    "hydra/job_logging/vae_run": {
        "version": 1,
        "formatters.console.format": "${run_prefix:}%(message)s",
        "formatters.file.format": "[%(asctime)s][%(name)s][%(levelname)s] %(message)s",
        "handlers.console.class": "vae_runner.runtime.console.ConsoleHandler",
        "handlers.console.formatter": "console",
        "handlers.file.class": "vae_runner.runtime.console.LogFile",
        "handlers.file.formatter": "file",
        "handlers.file.filename": "${hydra.runtime.output_dir}/vae-run.log",
        "handlers.file.encoding": "utf-8",
        "handlers.file.delay": True,
        "root.level": "INFO",
        "root.handlers": ["console", "file"],
        "loggers.tensorflow.level": "WARNING",
        "disable_existing_loggers": False,
    },
    "hydra/launcher/joblib": {
        "defaults": ["joblib_plugin", "_self_"],
        "n_jobs": 2,
        "batch_size": 1,
    },
    "hydra/launcher/ray": {
        "defaults": ["ray_plugin@hydra.launcher", "_self_"],
        "hydra.launcher.ray.init.address": "local",
        "hydra.launcher.ray.init.include_dashboard": False,
        "hydra.launcher.ray.init.object_store_memory": None,
        "hydra.launcher.ray.remote.num_cpus": 1,
        "hydra.launcher.ray.remote.num_gpus": 0,
        "hydra.launcher.ray.remote.max_retries": 3,
        "hydra.callbacks.cluster._target_": "vae_runner.sweeps.ray.JoinCluster",
    },
    "hydra/launcher/slurm": {
        "defaults": ["submitit_slurm", "_self_"],
        "timeout_min": 1440,
        "cpus_per_task": 4,
        "gpus_per_node": None,
        "mem_gb": None,
        "partition": None,
        "array_parallelism": 64,
        "signal_delay_s": 120,
        "max_num_timeout": 100,
        "submitit_folder": "${hydra.sweep.dir}/.submitit",
    },
    "hydra/launcher/submitit_local": {
        "defaults": ["submitit_local_plugin", "_self_"],
        "submitit_folder": "${hydra.sweep.dir}/.submitit",
    },
    "hydra/sweeper/optuna": {
        "defaults": ["optuna_plugin@hydra.sweeper", "_self_"],
        "hydra.sweeper.sampler.seed": "${seed}",
        "hydra.sweeper.n_trials": 20,
        "hydra.sweeper.n_jobs": 1,
        "hydra.sweeper.params.optimizer.learning_rate": "tag(log, interval(1e-4, 5e-3))",
        "hydra.sweeper.params.batch_size": "choice(32, 64, 128, 256)",
        "hydra.sweeper.params.latent": "choice(2, 4, 8, 16, 32)",
        "hydra.sweeper.direction": "minimize",
        "hydra.sweeper.study_name": "vae-run",
        "hydra.sweeper.storage": "sqlite:///${hydra.sweep.dir}/study.db",
        "hydra.sweeper.max_failure_rate": 1.0,
        "hydra.callbacks.study._target_": "vae_runner.sweeps.study.ResumeStudy",
    },
    "config": {
        "defaults": [
            "/schema/config@_global_",
            "_self_",
            {"dataset": "digits"},
            {"model": "conv"},
            {"posterior": "gaussian"},
            {"prior": "normal"},
            {"likelihood": "mse"},
            {"loss": "vae"},
            {"optimizer": "adam"},
            {"schedule": "constant"},
            {"hardware": "auto"},
            {"figures": "default"},
            {"sweep": "new"},
            {"experiment": None},
            {"override hydra/job_logging": "vae_run"},
        ],
        "latent": 2,
        "epochs": 10,
        "batch_size": 128,
        "seed": 0,
        "data_dir": "${oc.env:VAE_RUNNER_DATA,'~/.cache/vae-runner'}",
        "early_stopping.metric": None,
        "early_stopping.patience": 5,
        "early_stopping.min_delta": 0.0,
        "checkpoint.every": 1,
        "checkpoint.every_minutes": 10,
        "checkpoint.keep": 2,
        "checkpoint.metric": "test/loss",
        "resume": None,
        "trust": [],
        "hydra.output_subdir": None,
        "hydra.job.name": "vae-run",
        "hydra.run.dir": "${next_folder:outputs/${now:%Y-%m-%d}/${now:%H-%M-%S}}",
        "hydra.sweep.dir": "outputs/${now:%Y-%m-%d}/${now:%H-%M-%S}",
        "hydra.sweep.subdir": "${run_name:}",
    },
}

# The same as these choices and keys on the command line.
EXPERIMENTS = {
    "tutorial_cartoon": ["dataset=cartoon", "loss=vae", "latent=200", "batch_size=128", "epochs=50", "model.depth=5"],
    "tutorial_cartoon_ae": ["dataset=cartoon", "loss=ae", "latent=200", "batch_size=128", "epochs=50", "model.depth=5"],
    "tutorial_fashion": ["dataset=fashion", "loss=vae", "latent=2", "batch_size=128", "epochs=10", "model.depth=4"],
    "tutorial_fashion_ae": ["dataset=fashion", "loss=ae", "latent=2", "batch_size=128", "epochs=10", "model.depth=4"],
}

# From where to where a number may go: with a square bracket the end belongs to it, with a round one not. Those with a
# point are fractions.
BOUNDS = {
    "": {
        "latent": "[1, 65536]",
        "epochs": "[1, inf)",
        "batch_size": "[1, inf)",
        "seed": "[0, 4294967295]",
        "early_stopping.patience": "[1, inf)",
        "early_stopping.min_delta": "[0.0, inf)",
        "checkpoint.every": "[0, inf)",
        "checkpoint.every_minutes": "[0.0, inf)",
        "checkpoint.keep": "[1, inf)",
    },
    **{
        f"dataset={name}": {"dataset.limit": "[1, inf)", "dataset.validation_fraction": "[0.0, 1.0)"}
        for name in ("fashion", "mnist")
    },
    **{
        f"dataset={name}": {
            "dataset.limit": "[1, inf)",
            "dataset.validation_fraction": "[0.0, 1.0)",
            "dataset.test_fraction": "(0.0, 1.0)",
        }
        for name in ("cartoon", "digits", "folder")
    },
    "model=conv": {
        "model.depth": "[1, 32]",
        "model.downsamplings": "[0, 32]",
        "model.kernel_size": "[1, 15]",
        "model.batch_norm_momentum": "[0.0, 1.0)",
        "model.leaky_relu_slope": "[0.0, 1.0]",
    },
    "model=mlp": {
        "model.depth": "[1, 32]",
        "model.width": "[1, 65536]",
        "model.batch_norm_momentum": "[0.0, 1.0)",
        "model.leaky_relu_slope": "[0.0, 1.0]",
    },
    "loss=ae": {"loss.reconstruction_weight": "[0.0, inf)"},
    "loss=vae": {
        "loss.reconstruction_weight": "[0.0, inf)",
        "loss.kl_weight": "[0.0, inf)",
        "loss.kl_warmup_epochs": "[0.0, inf)",
    },
    **{
        f"optimizer={name}": {
            "optimizer.learning_rate": "(0.0, inf)",
            "optimizer.beta_1": "[0.0, 1.0)",
            "optimizer.beta_2": "[0.0, 1.0)",
            "optimizer.epsilon": "(0.0, inf)",
            "optimizer.weight_decay": "[0.0, inf)",
            "optimizer.clipnorm": "(0.0, inf)",
            "optimizer.clipvalue": "(0.0, inf)",
            "optimizer.global_clipnorm": "(0.0, inf)",
        }
        for name in ("adam", "adamw")
    },
    "schedule=constant": {"schedule.warmup_epochs": "[0.0, inf)"},
    "schedule=cosine": {"schedule.warmup_epochs": "[0.0, inf)", "schedule.final_factor": "[0.0, 1.0]"},
    "schedule=exponential": {"schedule.warmup_epochs": "[0.0, inf)", "schedule.decay": "(0.0, 1.0]"},
    "hardware=auto": {
        "hardware.logical_cpus": "[1, 16]",
        "hardware.worker": "[0, inf)",
        "hardware.memory_limit_mb": "[1, inf)",
        "hardware.intra_op_threads": "[0, 1024]",
        "hardware.inter_op_threads": "[0, 1024]",
    },
    "figures=default": {
        "figures.every": "[0, inf)",
        "figures.periodic.samples.rows": "[1, 200]",
        "figures.periodic.samples.columns": "[1, 200]",
        "figures.periodic.reconstructions.images": "[1, 200]",
        "figures.final.samples_uniform.rows": "[1, 200]",
        "figures.final.samples_uniform.columns": "[1, 200]",
        "figures.final.samples_normal.rows": "[1, 200]",
        "figures.final.samples_normal.columns": "[1, 200]",
        "figures.final.manifold.side": "[1, 200]",
        "figures.final.traversals.rows": "[1, 200]",
        "figures.final.traversals.columns": "[1, 200]",
        "figures.final.interpolations.rows": "[1, 200]",
        "figures.final.interpolations.columns": "[1, 200]",
    },
}

# Which words, or few numbers, a key may have.
CHOICES: dict[str, dict[str, tuple[Any, ...]]] = {
    "dataset=folder": {
        "dataset.channels": (1, 3),
        "dataset.labels": ("folders",),
        "dataset.on_error": ("stop", "skip"),
    },
    "dataset=cartoon": {
        "dataset.channels": (1, 3),
        "dataset.labels": ("folders",),
        "dataset.on_error": ("stop", "skip"),
        "dataset.variant": ("10k", "100k"),
    },
    "model=conv": {"model.normalization": ("batch", "layer", "none")},
    "model=mlp": {"model.normalization": ("batch", "layer", "none")},
    "hardware=auto": {
        "hardware.device": ("auto", "cpu", "gpu"),
        "hardware.distribution": ("none", "mirrored", "multi_worker"),
        "hardware.xla": ("auto", True, False),
        "hardware.custom_ops": ("auto", True, False),
        "hardware.precision": ("float32", "mixed_bfloat16", "mixed_float16"),
    },
}

GROUPS = (
    "dataset",
    "model",
    "posterior",
    "prior",
    "likelihood",
    "loss",
    "optimizer",
    "schedule",
    "hardware",
    "figures",
    "sweep",
)


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    register_schemas()
    with initialize_config_module("vae_runner.conf", version_base="1.3"):
        yield


@cache
def _composed(*overrides: str) -> DictConfig:
    return compose("config", overrides=list(filter(None, overrides)))


def values(node: Any, prefix: str = "") -> dict[str, Any]:
    """What stands in nested dictionaries, by dotted keys."""
    if not isinstance(node, dict) or not node:
        return {prefix: node}
    found = {}
    for name, value in node.items():
        found |= values(value, f"{prefix}.{name}" if prefix else str(name))
    return found


def rows(table: dict[str, dict[str, Any]]) -> list[tuple[str, str, Any]]:
    return [(choice, path, value) for choice, keys in table.items() for path, value in keys.items()]


def refusal_of(choice: str, path: str, value: Any) -> str:
    """What is said of a value that this key may not have, if so; what it asks of other keys is passed over."""
    config = copy.deepcopy(_composed(choice))
    OmegaConf.update(config, path, value, force_add=True)
    try:
        check(config)
    except UserError as error:
        if re.match(rf"{re.escape(path)}=\S*: must be ", str(error)):
            return str(error)
    return ""


@pytest.mark.parametrize("choice", DEFAULTS)
def test_the_default_of_every_key(choice: str) -> None:
    found = values(OmegaConf.to_container(_composed(choice), resolve=False))
    group = choice.partition("=")[0]
    there = [
        path for path in found if (path.partition(".")[0] == group if group else path.partition(".")[0] not in GROUPS)
    ]
    assert set(there) <= set(DEFAULTS[choice]), "a key that the table has not"
    assert {path: found.get(path, "is missing") for path in DEFAULTS[choice]} == DEFAULTS[choice]


@pytest.mark.parametrize("name", FILES)
def test_what_stands_in_every_other_file(name: str) -> None:
    found = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    found.get("hydra", {}).pop("help", None)
    assert values(found) == FILES[name]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_what_its_keys_would_be_on_the_command_line(name: str) -> None:
    assert _composed(f"experiment={name}") == _composed(*EXPERIMENTS[name])


def test_the_tables_have_every_file() -> None:
    tables = {*(choice.replace("=", "/") for choice in DEFAULTS if choice), *FILES}
    tables |= {f"experiment/{name}" for name in EXPERIMENTS}
    assert {str(path.relative_to(CONF).with_suffix("")) for path in CONF.rglob("*.yaml")} == tables


@pytest.mark.parametrize("component", [c for c in registry.components() if c.group in registry.parts()], ids=str)
def test_a_key_that_a_users_own_yaml_leaves_out_is_what_it_is_in_ours(component: registry.Component) -> None:
    expected = DEFAULTS[f"{component.group}={component.name}"]
    for field in dataclasses.fields(component.node):
        assert f"{component.group}.{field.name}" in expected
        default = getattr(component.node, field.name)
        if default != "???":
            assert default == expected[f"{component.group}.{field.name}"], field.name


@pytest.mark.parametrize(("choice", "path", "interval"), rows(BOUNDS))
def test_the_bounds_of_every_number(choice: str, path: str, interval: str) -> None:
    low, high = (float(end) for end in interval[1:-1].split(", "))
    number, step = (float, 1e-3) if "." in interval else (int, 1)
    inside_low, outside_low = (low, low - step) if interval[0] == "[" else (low + step, low)
    inside_high, outside_high = (high, high + step) if interval[-1] == "]" else (high - step, high)
    assert refusal_of(choice, path, number(inside_low)) == ""
    assert f" {int(low)}" in refusal_of(choice, path, number(outside_low))
    if high < INFINITY:
        assert refusal_of(choice, path, number(inside_high)) == ""
        assert f" {int(high)}" in refusal_of(choice, path, number(outside_high))
    else:
        assert refusal_of(choice, path, number(10**9)) == ""


@pytest.mark.parametrize(("choice", "path", "allowed"), rows(CHOICES))
def test_the_words_that_every_choice_has(choice: str, path: str, allowed: tuple[Any, ...]) -> None:
    for value in allowed:
        assert refusal_of(choice, path, value) == ""
    other = 2 if isinstance(allowed[0], int) else "nonsense"
    assert f"must be one of {', '.join(str(word).lower() for word in allowed)}." in refusal_of(choice, path, other)


@pytest.mark.parametrize("choice", DEFAULTS)
def test_the_tables_have_every_number_and_every_key_that_has_choices(choice: str) -> None:
    bounded = {path for keys in BOUNDS.values() for path in keys}
    chosen = {path for keys in CHOICES.values() for path in keys}
    for path, _, field in typed_keys(_composed(choice), ""):
        if field.metadata.get("choices"):
            assert path in chosen
        elif field.type in (int, float, int | None, float | None):
            assert path in bounded
