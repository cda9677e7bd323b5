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

CONF = Path(__file__).parents[2] / "conf"
INFINITY = float("inf")


def adam(player: str, learning_rate: float, beta_1: float, beta_2: float = 0.999) -> dict[str, Any]:
    """The optimizer of a loss's player."""
    keys = {
        "_target_": "vae_runner.acceleration.optimizers.Adam",
        "learning_rate": learning_rate,
        "beta_1": beta_1,
        "beta_2": beta_2,
        "epsilon": 1e-7,
        **dict.fromkeys(("weight_decay", "clipnorm", "clipvalue", "global_clipnorm", "ema", "skip_norm_above")),
    }
    return {f"loss.players.{player}.{key}": value for key, value in keys.items()}


EVALUATION = {
    "evaluation.every": 0,
    "evaluation.seed": 0,
    "evaluation.likelihood.images": 1000,
    "evaluation.likelihood.samples": 100,
    "evaluation.likelihood.ais_images": 0,
    "evaluation.likelihood.ais_steps": 1000,
    "evaluation.structure.images": 10_000,
    "evaluation.structure.samples": 2000,
    "evaluation.reconstruction.images": 10_000,
    "evaluation.disentanglement.images": 10_000,
    "evaluation.dci.samples": 2000,
    "evaluation.dci.test_samples": 1000,
    "evaluation.probes.train_images": 10_000,
    "evaluation.probes.images": 10_000,
    "evaluation.probes.mlp": False,
    "evaluation.samples.number": 5000,
    "evaluation.samples.features": "classifier",
}
MEASURED = ("likelihood", "structure", "reconstruction", "disentanglement", "probes", "samples")  # groups of metrics

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
        "checkpoint.metric": "validation/loss",
        "checkpoint.models": "best",
        "init_from": None,
        "init_parts": None,
        "profile": False,
        "resume": None,
        "trust": [],
    },
    "dataset=sprites": {
        "latent": 10,
        "epochs": 20,
        "dataset._target_": "vae_runner.datasets.sprites.load",
        "dataset.image_size": 32,
        "dataset.shapes": ["heart", "arrow", "drop"],
        "dataset.scales": 4,
        "dataset.orientations": 16,
        "dataset.orientation_range": 360.0,
        "dataset.positions_x": 16,
        "dataset.positions_y": 16,
        "dataset.limit": None,
        "dataset.validation_fraction": 0.0,
        "dataset.binarize": "none",
        "dataset.augment.flip": False,
        "dataset.augment.shift": 0,
        "dataset.augment.crop": 0.0,
        "dataset.augment.brightness": 0.0,
        "dataset.test_fraction": 0.1,
    },
    "dataset=dsprites": {
        "latent": 10,
        "epochs": 10,
        "dataset._target_": "vae_runner.datasets.dsprites.load",
        "dataset.root": None,
        "dataset.data_dir": "${data_dir}",
        "dataset.url": "https://github.com/deepmind/dsprites-dataset/raw/master",
        "dataset.limit": None,
        "dataset.validation_fraction": 0.0,
        "dataset.binarize": "none",
        "dataset.augment.flip": False,
        "dataset.augment.shift": 0,
        "dataset.augment.crop": 0.0,
        "dataset.augment.brightness": 0.0,
        "dataset.test_fraction": 0.1,
    },
    "dataset=smallnorb": {
        "latent": 10,
        "epochs": 10,
        "dataset._target_": "vae_runner.datasets.smallnorb.load",
        "dataset.root": None,
        "dataset.data_dir": "${data_dir}",
        "dataset.url": "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small",
        "dataset.limit": None,
        "dataset.validation_fraction": 0.0,
        "dataset.binarize": "none",
        "dataset.augment.flip": False,
        "dataset.augment.shift": 0,
        "dataset.augment.crop": 0.0,
        "dataset.augment.brightness": 0.0,
        "dataset.test_fraction": 0.1,
    },
    "dataset=cars3d": {
        "latent": 10,
        "epochs": 10,
        "dataset._target_": "vae_runner.datasets.cars3d.load",
        "dataset.root": None,
        "dataset.data_dir": "${data_dir}",
        "dataset.url": "http://www.scottreed.info/files",
        "dataset.limit": None,
        "dataset.validation_fraction": 0.0,
        "dataset.binarize": "none",
        "dataset.augment.flip": False,
        "dataset.augment.shift": 0,
        "dataset.augment.crop": 0.0,
        "dataset.augment.brightness": 0.0,
        "dataset.test_fraction": 0.1,
    },
    "dataset=shapes3d": {
        "latent": 10,
        "epochs": 10,
        "dataset._target_": "vae_runner.datasets.shapes3d.load",
        "dataset.root": None,
        "dataset.data_dir": "${data_dir}",
        "dataset.url": "https://storage.googleapis.com/3d-shapes",
        "dataset.limit": None,
        "dataset.validation_fraction": 0.0,
        "dataset.binarize": "none",
        "dataset.augment.flip": False,
        "dataset.augment.shift": 0,
        "dataset.augment.crop": 0.0,
        "dataset.augment.brightness": 0.0,
        "dataset.test_fraction": 0.1,
    },
    "dataset=mpi3d": {
        "latent": 10,
        "epochs": 10,
        "dataset._target_": "vae_runner.datasets.mpi3d.load",
        "dataset.variant": "toy",
        "dataset.root": None,
        "dataset.data_dir": "${data_dir}",
        "dataset.url": "https://huggingface.co/datasets/waleedgondal/mpi3d/resolve/main",
        "dataset.limit": None,
        "dataset.validation_fraction": 0.0,
        "dataset.binarize": "none",
        "dataset.augment.flip": False,
        "dataset.augment.shift": 0,
        "dataset.augment.crop": 0.0,
        "dataset.augment.brightness": 0.0,
        "dataset.test_fraction": 0.1,
    },
    "dataset=cartoon": {
        "latent": 200,
        "epochs": 50,
        "batch_size": 128,
        "dataset._target_": "vae_runner.datasets.cartoon.load",
        "dataset.limit": None,
        "dataset.validation_fraction": 0.0,
        "dataset.binarize": "none",
        "dataset.augment.flip": False,
        "dataset.augment.shift": 0,
        "dataset.augment.crop": 0.0,
        "dataset.augment.brightness": 0.0,
        "dataset.root": None,
        "dataset.data_dir": "${data_dir}",
        "dataset.image_size": 256,
        "dataset.channels": 3,
        "dataset.background": "white",
        "dataset.crop": False,
        "dataset.labels": None,
        "dataset.factors": None,
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
        "dataset.image_size": None,
        "dataset.limit": None,
        "dataset.validation_fraction": 0.0,
        "dataset.binarize": "none",
        "dataset.augment.flip": False,
        "dataset.augment.shift": 0,
        "dataset.augment.crop": 0.0,
        "dataset.augment.brightness": 0.0,
        "dataset.test_fraction": 0.2,
    },
    "dataset=fashion": {
        "latent": 2,
        "epochs": 10,
        "batch_size": 128,
        "dataset._target_": "vae_runner.datasets.fashion.load",
        "dataset.image_size": None,
        "dataset.limit": None,
        "dataset.validation_fraction": 0.0,
        "dataset.binarize": "none",
        "dataset.augment.flip": False,
        "dataset.augment.shift": 0,
        "dataset.augment.crop": 0.0,
        "dataset.augment.brightness": 0.0,
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
        "dataset.binarize": "none",
        "dataset.augment.flip": False,
        "dataset.augment.shift": 0,
        "dataset.augment.crop": 0.0,
        "dataset.augment.brightness": 0.0,
        "dataset.root": None,
        "dataset.data_dir": "${data_dir}",
        "dataset.image_size": 64,
        "dataset.channels": 3,
        "dataset.background": "white",
        "dataset.crop": False,
        "dataset.labels": None,
        "dataset.factors": None,
        "dataset.test_fraction": 0.1,
        "dataset.on_error": "stop",
    },
    "dataset=mnist": {
        "latent": 2,
        "epochs": 10,
        "batch_size": 128,
        "dataset._target_": "vae_runner.datasets.mnist.load",
        "dataset.image_size": None,
        "dataset.limit": None,
        "dataset.validation_fraction": 0.0,
        "dataset.binarize": "none",
        "dataset.augment.flip": False,
        "dataset.augment.shift": 0,
        "dataset.augment.crop": 0.0,
        "dataset.augment.brightness": 0.0,
        "dataset.root": None,
        "dataset.data_dir": "${data_dir}",
        "dataset.url": "https://ossci-datasets.s3.amazonaws.com/mnist",
    },
    "model=conv": {
        "model._target_": "vae_runner.models.conv.build",
        "model.conditional": False,
        "model.latent": "vector",
        "model.depth": None,
        "model.downsamplings": None,
        "model.filters": None,
        "model.kernel_size": 3,
        "model.normalization": "batch",
        "model.batch_norm_momentum": 0.9,
        "model.activation": "leaky_relu",
        "model.leaky_relu_slope": 0.2,
        "model.output_bias": "zero",
    },
    "model=resnet": {
        "model._target_": "vae_runner.models.resnet.build",
        "model.latent": "spatial",
        "model.downsamplings": None,
        "model.widths": None,
        "model.blocks": 1,
        "model.attention": False,
        "model.output_bias": "zero",
        "model.conditional": False,
    },
    "model=mlp": {
        "model._target_": "vae_runner.models.mlp.build",
        "model.conditional": False,
        "model.depth": 2,
        "model.width": 512,
        "model.widths": None,
        "model.normalization": "none",
        "model.batch_norm_momentum": 0.9,
        "model.activation": "leaky_relu",
        "model.leaky_relu_slope": 0.2,
        "model.output_bias": "zero",
    },
    "model=gated_mlp": {
        "model._target_": "vae_runner.models.gated_mlp.build",
        "model.depth": 2,
        "model.width": 300,
        "model.widths": None,
        "model.output_bias": "zero",
        "model.conditional": False,
    },
    "model=burgess": {
        "model._target_": "vae_runner.models.burgess.build",
        "model.filters": None,
        "model.widths": [256],
        "model.activation": "relu",
        "model.leaky_relu_slope": 0.2,
        "model.output_bias": "zero",
        "model.conditional": False,
    },
    "model=linear": {
        "model._target_": "vae_runner.models.linear.build",
        "model.output_bias": "zero",
        "model.conditional": False,
    },
    "posterior=gaussian": {
        "posterior._target_": "vae_runner.posteriors.gaussian.Gaussian",
    },
    "posterior=full_gaussian": {"posterior._target_": "vae_runner.posteriors.full_gaussian.FullGaussian"},
    "posterior=laplace": {"posterior._target_": "vae_runner.posteriors.laplace.Laplace"},
    "posterior=power_spherical": {"posterior._target_": "vae_runner.posteriors.power_spherical.PowerSpherical"},
    "posterior=point": {
        "posterior._target_": "vae_runner.posteriors.point.Point",
    },
    "posterior=planar": {
        "posterior._target_": "vae_runner.posteriors.planar.Planar",
        "posterior.steps": 10,
        "posterior.scale": 0.1,
    },
    "posterior=householder": {
        "posterior._target_": "vae_runner.posteriors.householder.Householder",
        "posterior.steps": 10,
    },
    "posterior=vq": {
        "posterior._target_": "vae_runner.posteriors.vq.VectorQuantizer",
        "posterior.codes": 512,
        "posterior.update": "ema",
        "posterior.decay": 0.99,
        "posterior.cosine": False,
        "posterior.kmeans": False,
        "posterior.restart_below": 0.0,
    },
    "posterior=fsq": {"posterior._target_": "vae_runner.posteriors.fsq.FiniteScalarQuantizer", "posterior.levels": 8},
    "posterior=gumbel": {
        "posterior._target_": "vae_runner.posteriors.gumbel.Gumbel",
        "posterior.categories": 10,
        "posterior.temperature": 1.0,
        "posterior.final_temperature": 0.5,
        "posterior.temperature_epochs": 0.0,
        "posterior.straight_through": False,
    },
    "prior=categorical": {"prior._target_": "vae_runner.priors.categorical.Categorical"},
    "prior=learned_categorical": {
        "prior._target_": "vae_runner.priors.learned_categorical.LearnedCategorical",
    },
    "loss=vq_gan": {
        "loss._target_": "vae_runner.losses.vq_gan.VqGan",
        "loss.reconstruction_weight": None,
        "loss.codebook_weight": 1.0,
        "loss.commitment_weight": 0.25,
        "loss.adversarial": "hinge",
        "loss.adversarial_weight": 0.5,
        "loss.weight_by_gradients": True,
        "loss.adversarial_from": 0,
        "loss.discriminator_width": 64,
        "loss.discriminator_depth": 3,
        "loss.perceptual_model": None,
        "loss.perceptual_layers": "all",
        "loss.perceptual_weight": 1.0,
        **adam("discriminator", 1e-4, 0.5, 0.9),
    },
    "loss=vq": {
        "loss._target_": "vae_runner.losses.vector_quantized.VectorQuantized",
        "loss.reconstruction_weight": None,
        "loss.codebook_weight": 1.0,
        "loss.commitment_weight": 0.25,
    },
    "posterior=sylvester": {
        "posterior._target_": "vae_runner.posteriors.sylvester.Sylvester",
        "posterior.steps": 4,
        "posterior.columns": 8,
    },
    "posterior=iaf": {
        "posterior._target_": "vae_runner.posteriors.iaf.Iaf",
        "posterior.steps": 4,
        "posterior.width": 320,
    },
    "posterior=real_nvp": {
        "posterior._target_": "vae_runner.posteriors.real_nvp.RealNvp",
        "posterior.steps": 8,
        "posterior.width": 128,
    },
    "prior=real_nvp": {
        "prior._target_": "vae_runner.priors.real_nvp.RealNvp",
        "prior.steps": 8,
        "prior.width": 128,
    },
    "prior=normal": {"prior._target_": "vae_runner.priors.normal.Normal"},
    "prior=learned_normal": {"prior._target_": "vae_runner.priors.learned_normal.LearnedNormal"},
    "prior=mixture": {"prior._target_": "vae_runner.priors.mixture.Mixture", "prior.components": 10},
    "prior=vamp": {"prior._target_": "vae_runner.priors.vamp.Vamp", "prior.pseudo_inputs": 500},
    "prior=class_conditional": {"prior._target_": "vae_runner.priors.class_conditional.ClassConditional"},
    "prior=sphere": {"prior._target_": "vae_runner.priors.sphere.Sphere"},
    "likelihood=mse": {"likelihood._target_": "vae_runner.likelihoods.mse.MeanSquaredError"},
    "likelihood=ms_ssim": {"likelihood._target_": "vae_runner.likelihoods.ms_ssim.MsSsim"},
    "likelihood=cross_entropy": {"likelihood._target_": "vae_runner.likelihoods.cross_entropy.CrossEntropy"},
    "likelihood=gaussian": {
        "likelihood._target_": "vae_runner.likelihoods.gaussian.Gaussian",
        "likelihood.scale": None,
        "likelihood.squash_mean": True,
    },
    "likelihood=gaussian_per_pixel": {
        "likelihood._target_": "vae_runner.likelihoods.gaussian_per_pixel.GaussianPerPixel",
        "likelihood.squash_mean": True,
    },
    "likelihood=bernoulli": {"likelihood._target_": "vae_runner.likelihoods.bernoulli.Bernoulli"},
    "likelihood=continuous_bernoulli": {
        "likelihood._target_": "vae_runner.likelihoods.continuous_bernoulli.ContinuousBernoulli",
        "likelihood.max_logit": 15.0,
    },
    "likelihood=laplace": {
        "likelihood._target_": "vae_runner.likelihoods.laplace.Laplace",
        "likelihood.scale": None,
        "likelihood.squash_mean": True,
    },
    "likelihood=student_t": {
        "likelihood._target_": "vae_runner.likelihoods.student_t.StudentT",
        "likelihood.squash_mean": True,
    },
    "likelihood=discretized_gaussian": {
        "likelihood._target_": "vae_runner.likelihoods.discretized_gaussian.DiscretizedGaussian",
        "likelihood.squash_mean": True,
    },
    "likelihood=discretized_logistic": {
        "likelihood._target_": "vae_runner.likelihoods.discretized_logistic.DiscretizedLogistic",
        "likelihood.squash_mean": True,
    },
    "likelihood=logistic_mixture": {
        "likelihood._target_": "vae_runner.likelihoods.logistic_mixture.LogisticMixture",
        "likelihood.components": 10,
    },
    "likelihood=categorical": {"likelihood._target_": "vae_runner.likelihoods.categorical.Categorical"},
    "loss=factor": {
        "loss._target_": "vae_runner.losses.factor.Factor",
        "loss.reconstruction_weight": None,
        "loss.total_correlation_weight": 10.0,
        "loss.discriminator_width": 1000,
        "loss.discriminator_depth": 6,
        **adam("discriminator", 1e-4, 0.5, 0.9),
    },
    "loss=aae": {
        "loss._target_": "vae_runner.losses.adversarial.Adversarial",
        "loss.reconstruction_weight": None,
        "loss.adversarial_weight": 10.0,
        "loss.discriminator_width": 1000,
        "loss.discriminator_depth": 2,
        **adam("discriminator", 5e-4, 0.5),
    },
    "loss=vae_gan": {
        "loss._target_": "vae_runner.losses.vae_gan.VaeGan",
        "loss.kl_weight": 1.0,
        "loss.feature_weight": 0.1,
        "loss.discriminator_width": 32,
        **adam("decoder", 3e-4, 0.5),
        **adam("discriminator", 3e-4, 0.5),
    },
    "loss=patch_gan": {
        "loss._target_": "vae_runner.losses.patch_gan.PatchGan",
        "loss.reconstruction_weight": None,
        "loss.kl_weight": 0.0,
        "loss.adversarial": "hinge",
        "loss.adversarial_weight": 0.5,
        "loss.weight_by_gradients": True,
        "loss.adversarial_from": 0,
        "loss.discriminator_width": 64,
        "loss.discriminator_depth": 3,
        "loss.perceptual_model": None,
        "loss.perceptual_layers": "all",
        "loss.perceptual_weight": 1.0,
        **adam("discriminator", 1e-4, 0.5, 0.9),
    },
    "loss=ae": {
        "loss._target_": "vae_runner.losses.reconstruction.Reconstruction",
        "loss.reconstruction_weight": None,
        "loss.noise_scale": 0.0,
        "loss.contractive_weight": 0.0,
        "loss.sparsity_weight": 0.0,
        "loss.sparsity_target": None,
        "posterior._target_": "vae_runner.posteriors.point.Point",
    },
    "loss=rae": {
        "loss._target_": "vae_runner.losses.regularized.Regularized",
        "loss.reconstruction_weight": None,
        "loss.embedding_weight": 1.0,
        "loss.weight_decay": 0.0,
        "loss.gradient_penalty": 0.0,
        "loss.spectral_norm": False,
        "posterior._target_": "vae_runner.posteriors.point.Point",
    },
    "loss=vae": {
        "loss._target_": "vae_runner.losses.elbo.Elbo",
        "loss.reconstruction_weight": None,
        "loss.kl_weight": 1.0,
        "loss.kl_warmup_epochs": 0.0,
        "loss.kl_cycle_epochs": 0.0,
        "loss.free_bits": 0.0,
        "loss.kl_capacity": None,
        "loss.kl_capacity_epochs": 0.0,
        "posterior._target_": "vae_runner.posteriors.gaussian.Gaussian",
    },
    "loss=beta_tc": {
        "loss._target_": "vae_runner.losses.total_correlation.TotalCorrelation",
        "loss.reconstruction_weight": None,
        "loss.mutual_information_weight": 1.0,
        "loss.total_correlation_weight": 6.0,
        "loss.dimension_kl_weight": 1.0,
        "loss.estimator": "stratified",
    },
    "loss=dip": {
        "loss._target_": "vae_runner.losses.disentangled_prior.DisentangledPrior",
        "loss.reconstruction_weight": None,
        "loss.kl_weight": 1.0,
        "loss.off_diagonal_weight": 10.0,
        "loss.diagonal_weight": 100.0,
        "loss.kind": "i",
    },
    "loss=mmd": {
        "loss._target_": "vae_runner.losses.mean_discrepancy.MeanDiscrepancy",
        "loss.reconstruction_weight": None,
        "loss.kl_weight": 0.0,
        "loss.mmd_weight": 10.0,
        "loss.kernel": "imq",
    },
    "loss=iwae": {
        "loss._target_": "vae_runner.losses.importance_weighted.ImportanceWeighted",
        "loss.samples": 5,
        "loss.groups": 1,
        "loss.partial": False,
        "loss.elbo_weight": 0.0,
        "loss.gradient": "iwae",
    },
    "loss=renyi": {
        "loss._target_": "vae_runner.losses.renyi.Renyi",
        "loss.samples": 5,
        "loss.alpha": 0.5,
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
        "optimizer.ema": None,
        "optimizer.skip_norm_above": None,
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
        "optimizer.ema": None,
        "optimizer.skip_norm_above": None,
    },
    "optimizer=adamax": {
        "optimizer._target_": "vae_runner.acceleration.optimizers.Adamax",
        "optimizer.learning_rate": 0.0005,
        "optimizer.beta_1": 0.9,
        "optimizer.beta_2": 0.999,
        "optimizer.epsilon": 1e-07,
        "optimizer.weight_decay": None,
        "optimizer.clipnorm": None,
        "optimizer.clipvalue": None,
        "optimizer.global_clipnorm": None,
        "optimizer.ema": None,
        "optimizer.skip_norm_above": None,
    },
    "optimizer=muon": {
        "optimizer._target_": "vae_runner.acceleration.optimizers.Muon",
        "optimizer.learning_rate": 0.0005,
        "optimizer.momentum": 0.95,
        "optimizer.beta_1": 0.9,
        "optimizer.beta_2": 0.999,
        "optimizer.epsilon": 1e-07,
        "optimizer.weight_decay": None,
        "optimizer.clipnorm": None,
        "optimizer.clipvalue": None,
        "optimizer.global_clipnorm": None,
        "optimizer.ema": None,
        "optimizer.skip_norm_above": None,
    },
    "optimizer=rmsprop": {
        "optimizer._target_": "vae_runner.acceleration.optimizers.RMSprop",
        "optimizer.learning_rate": 0.0001,
        "optimizer.rho": 0.9,
        "optimizer.momentum": 0.0,
        "optimizer.epsilon": 1e-07,
        "optimizer.weight_decay": None,
        "optimizer.clipnorm": None,
        "optimizer.clipvalue": None,
        "optimizer.global_clipnorm": None,
        "optimizer.ema": None,
        "optimizer.skip_norm_above": None,
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
    "schedule=steps": {
        "schedule._target_": "vae_runner.training.schedules.steps",
        "schedule._partial_": True,
        "schedule.warmup_epochs": 0.0,
        "schedule.epochs": [200, 350],
        "schedule.factor": 0.630957,
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
        "figures.animation": False,
        "figures.periodic.samples._target_": "vae_runner.figures.samples.samples",
        "figures.periodic.samples._partial_": True,
        "figures.periodic.samples.rows": 8,
        "figures.periodic.samples.columns": 8,
        "figures.periodic.reconstructions._target_": "vae_runner.figures.reconstructions.reconstructions",
        "figures.periodic.reconstructions._partial_": True,
        "figures.periodic.reconstructions.images": 10,
        "figures.final.latent_space._target_": "vae_runner.figures.latent_space.latent_space",
        "figures.final.latent_space._partial_": True,
        "figures.final.code_usage._target_": "vae_runner.figures.code_usage.code_usage",
        "figures.final.code_usage._partial_": True,
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
        "figures.animation": False,
        "figures.periodic": {},
        "figures.final": {},
    },
    "evaluation=none": {**EVALUATION, "evaluation.metrics": []},
    "evaluation=all": {**EVALUATION, "evaluation.metrics": list(MEASURED)},
    "evaluation=default": {
        **EVALUATION,
        "evaluation.metrics": ["likelihood", "structure", "reconstruction", "probes"],
    },
    **{f"evaluation={group}": {**EVALUATION, "evaluation.metrics": [group]} for group in MEASURED},
    "sweep=new": {
        "sweep.resume": False,
        "sweep.dir": None,
        "sweep.metric": "test/loss",
        "sweep.unfit": "refuse",
    },
    "sweep=resume": {
        "sweep.resume": True,
        "sweep.dir": None,
        "sweep.metric": "test/loss",
        "sweep.unfit": "refuse",
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
        "defaults": ["/schema/hydra/sweeper/optuna@hydra.sweeper", "_self_"],
        "hydra.sweeper.n_trials": 20,
        "hydra.sweeper.n_jobs": 1,
        "hydra.sweeper.params.optimizer.learning_rate": "tag(log, interval(1e-4, 5e-3))",
        "hydra.sweeper.params.batch_size": "choice(32, 64, 128, 256)",
        "hydra.sweeper.params.latent": "choice(2, 4, 8, 16, 32)",
        "hydra.sweeper.sampler": "tpe",
        "hydra.sweeper.pruner": "none",
        "hydra.sweeper.direction": "minimize",
        "hydra.sweeper.study_name": "vae-run",
        "hydra.sweeper.journal": "${hydra.sweep.dir}/study.journal",
        "hydra.sweeper.trial": None,
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
            {"evaluation": "none"},
            {"sweep": "new"},
            {"method": None},
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
        "checkpoint.metric": "validation/loss",
        "checkpoint.models": "best",
        "init_from": None,
        "init_parts": None,
        "profile": False,
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
PRESETS: dict[str, list[str]] = {
    "experiment/race_fashion": [
        "experiment=tutorial_fashion",
        "epochs=2",
        "optimizer=muon",
        "optimizer.learning_rate=0.01",
        "schedule=cosine",
        "schedule.warmup_epochs=0.1",
    ],
    "experiment/compare_fashion": [
        "dataset=fashion",
        "likelihood=gaussian",
        "latent=16",
        "epochs=5",
        "model.filters=16",
        "optimizer.learning_rate=0.001",
        "schedule=cosine",
        "schedule.warmup_epochs=0.5",
        "evaluation.metrics=[likelihood,reconstruction,probes,samples]",
    ],
    "experiment/tutorial_cartoon": [
        "dataset=cartoon",
        "loss=vae",
        "latent=200",
        "batch_size=128",
        "epochs=50",
        "model.depth=5",
    ],
    "experiment/tutorial_cartoon_ae": [
        "dataset=cartoon",
        "loss=ae",
        "latent=200",
        "batch_size=128",
        "epochs=50",
        "model.depth=5",
    ],
    "experiment/tutorial_fashion": [
        "dataset=fashion",
        "loss=vae",
        "latent=2",
        "batch_size=128",
        "epochs=10",
        "model.depth=4",
    ],
    "experiment/tutorial_fashion_ae": [
        "dataset=fashion",
        "loss=ae",
        "latent=2",
        "batch_size=128",
        "epochs=10",
        "model.depth=4",
    ],
    "method/aae": ["loss=aae", "posterior=point"],
    "method/ae": ["loss=ae"],
    "method/annealed_vae": ["loss.kl_warmup_epochs=5"],
    "method/beta_tcvae": ["loss=beta_tc"],
    "method/beta_vae": ["loss.kl_weight=4"],
    "method/capacity_vae": ["loss.kl_weight=1000", "loss.kl_capacity=25", "loss.kl_capacity_epochs=10"],
    "method/cb_vae": ["likelihood=continuous_bernoulli"],
    "method/ciwae": ["likelihood=gaussian", "loss=iwae", "loss.samples=5", "loss.elbo_weight=0.5"],
    "method/cyclical_vae": ["loss.kl_warmup_epochs=2", "loss.kl_cycle_epochs=4"],
    "method/dip_vae_i": ["loss=dip", "loss.off_diagonal_weight=10", "loss.diagonal_weight=100"],
    "method/dip_vae_ii": ["loss=dip", "loss.kind=ii", "loss.off_diagonal_weight=10", "loss.diagonal_weight=10"],
    "method/dreg_iwae": ["likelihood=gaussian", "loss=iwae", "loss.gradient=dreg"],
    "method/factor_vae": ["loss=factor"],
    "method/free_bits_vae": ["loss.free_bits=0.25"],
    "method/full_covariance_vae": ["posterior=full_gaussian"],
    "method/hyperspherical_vae": ["posterior=power_spherical", "prior=sphere"],
    "method/info_vae": ["loss=mmd", "loss.kl_weight=0", "loss.mmd_weight=1000", "loss.kernel=rbf"],
    "method/iwae": ["likelihood=gaussian", "loss=iwae", "loss.samples=5"],
    "method/kl_autoencoder": [
        "model=resnet",
        "latent=4",
        "optimizer.ema=0.999",
        "likelihood=laplace",
        "likelihood.scale=0.5",
        "loss=patch_gan",
        "loss.kl_weight=1e-6",
        "loss.adversarial_from=50001",
    ],
    "method/fsq": [
        "model=resnet",
        "latent=4",
        "posterior=fsq",
        "prior=categorical",
        "posterior.levels=[8,5,5,5]",
        "loss=ae",
    ],
    "method/gumbel_vae": [
        "latent=20",
        "posterior=gumbel",
        "prior=categorical",
        "posterior.temperature_epochs=10",
    ],
    "method/vq_vae": [
        "model=resnet",
        "latent=64",
        "posterior=vq",
        "prior=categorical",
        "posterior.kmeans=true",
        "posterior.restart_below=1",
        "loss=vq",
    ],
    "method/vq_gan": [
        "model=resnet",
        "latent=256",
        "posterior=vq",
        "prior=categorical",
        "posterior.codes=1024",
        "posterior.update=loss",
        "posterior.kmeans=true",
        "likelihood=laplace",
        "likelihood.scale=0.5",
        "loss=vq_gan",
        "loss.commitment_weight=0.25",
        "loss.adversarial_weight=0.8",
        "loss.adversarial_from=10000",
    ],
    "method/laplace_vae": ["posterior=laplace"],
    "method/logistic_vae": ["likelihood=discretized_logistic"],
    "method/miwae": ["likelihood=gaussian", "loss=iwae", "loss.samples=8", "loss.groups=8"],
    "method/mixture_prior": ["prior=mixture", "prior.components=100"],
    "method/pixel_mixture_vae": ["likelihood=logistic_mixture", "likelihood.components=10"],
    "method/rae_gp": ["loss=rae", "loss.embedding_weight=1e-3", "loss.gradient_penalty=1e-6"],
    "method/rae_l2": ["loss=rae", "loss.embedding_weight=1e-6", "loss.weight_decay=1e-3"],
    "method/sigma_vae": ["likelihood=gaussian"],
    "method/stl_vae": ["likelihood=gaussian", "loss=iwae", "loss.samples=1", "loss.gradient=stl"],
    "method/student_t_vae": ["likelihood=student_t"],
    "method/vae_gan": ["loss=vae_gan"],
    "method/wae_gan": ["loss=aae", "posterior=point", "loss.discriminator_width=512", "loss.discriminator_depth=4"],
    "method/vae": [],
    "method/vampprior": ["prior=vamp", "prior.pseudo_inputs=500"],
    "method/vr_vae": ["likelihood=gaussian", "loss=renyi", "loss.samples=5", "loss.alpha=0.5"],
    "method/wae_mmd": ["posterior=point", "loss=mmd", "loss.mmd_weight=10", "loss.kernel=imq"],
    "method/planar_vae": ["posterior=planar", "posterior.steps=10"],
    "method/householder_vae": ["posterior=householder", "posterior.steps=10"],
    "method/sylvester_vae": ["posterior=sylvester", "posterior.steps=4", "posterior.columns=8"],
    "method/iaf_vae": ["posterior=iaf", "posterior.steps=4", "posterior.width=320"],
    "method/real_nvp_prior": ["prior=real_nvp", "loss.kl_warmup_epochs=5", "prior.steps=20", "prior.width=128"],
    "method/class_prior": ["prior=class_conditional", "model.conditional=true"],
    "method/contractive_ae": ["loss=ae", "loss.contractive_weight=0.1"],
    "method/cvae": ["model.conditional=true"],
    "method/denoising_ae": ["loss=ae", "loss.noise_scale=0.3"],
    "method/ms_ssim_vae": ["likelihood=ms_ssim"],
    "method/optimal_sigma_vae": ["likelihood=gaussian", "likelihood.scale=optimal"],
    "method/piwae": ["likelihood=gaussian", "loss=iwae", "loss.samples=8", "loss.groups=8", "loss.partial=true"],
    "method/sparse_ae": ["loss=ae", "loss.sparsity_weight=0.1"],
    "method/rae_sn": ["loss=rae", "loss.embedding_weight=1e-3", "loss.spectral_norm=true"],
}

# From where to where a number may go: with a square bracket the end belongs to it, with a round one not. Those with a
# point are fractions.
ADAM_BOUNDS = {
    "learning_rate": "(0.0, inf)",
    "beta_1": "[0.0, 1.0)",
    "beta_2": "[0.0, 1.0)",
    "epsilon": "(0.0, inf)",
    "weight_decay": "[0.0, inf)",
    "clipnorm": "(0.0, inf)",
    "clipvalue": "(0.0, inf)",
    "global_clipnorm": "(0.0, inf)",
    "ema": "[0.0, 1.0)",
    "skip_norm_above": "(0.0, inf)",
}
BOUNDS = {
    "evaluation=default": {
        "evaluation.every": "[0, inf)",
        "evaluation.seed": "[0, 4294967295]",
        "evaluation.likelihood.images": "[2, inf)",
        "evaluation.likelihood.samples": "[1, inf)",
        "evaluation.likelihood.ais_images": "[0, inf)",
        "evaluation.likelihood.ais_steps": "[2, inf)",
        "evaluation.structure.images": "[10, inf)",
        "evaluation.structure.samples": "[10, inf)",
        "evaluation.reconstruction.images": "[1, inf)",
        "evaluation.disentanglement.images": "[1000, inf)",
        "evaluation.dci.samples": "[1000, inf)",
        "evaluation.dci.test_samples": "[500, inf)",
        "evaluation.probes.train_images": "[10, inf)",
        "evaluation.probes.images": "[10, inf)",
        "evaluation.samples.number": "[100, inf)",
    },
    "posterior=vq": {
        "posterior.codes": "[2, 1000000]",
        "posterior.decay": "[0.0, 1.0)",
        "posterior.restart_below": "[0.0, inf)",
    },
    "posterior=gumbel": {
        "posterior.categories": "[2, 100000]",
        "posterior.temperature": "(0.0, inf)",
        "posterior.final_temperature": "(0.0, inf)",
        "posterior.temperature_epochs": "[0.0, inf)",
    },
    "loss=vq": {"loss.codebook_weight": "[0.0, inf)", "loss.commitment_weight": "[0.0, inf)"},
    "loss=vq_gan": {
        "loss.codebook_weight": "[0.0, inf)",
        "loss.commitment_weight": "[0.0, inf)",
        "loss.adversarial_weight": "[0.0, inf)",
        "loss.adversarial_from": "[0, inf)",
        "loss.discriminator_width": "[1, 4096]",
        "loss.discriminator_depth": "[1, 16]",
        "loss.perceptual_weight": "[0.0, inf)",
    },
    "posterior=planar": {"posterior.steps": "[1, 1000]", "posterior.scale": "(0.0, inf)"},
    "posterior=householder": {"posterior.steps": "[1, 1000]"},
    "posterior=sylvester": {"posterior.steps": "[1, 1000]", "posterior.columns": "[1, 1000]"},
    "posterior=iaf": {"posterior.steps": "[1, 1000]", "posterior.width": "[1, 65536]"},
    "posterior=real_nvp": {"posterior.steps": "[1, 1000]", "posterior.width": "[1, 65536]"},
    "prior=real_nvp": {"prior.steps": "[1, 1000]", "prior.width": "[1, 65536]"},
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
        f"dataset={name}": {
            "dataset.limit": "[1, inf)",
            "dataset.validation_fraction": "[0.0, 1.0)",
            "dataset.augment.shift": "[0, 65536]",
            "dataset.augment.crop": "[0.0, 1.0)",
            "dataset.augment.brightness": "[0.0, 1.0]",
            **more,
        }
        for name, more in {
            **{key: {"dataset.image_size": "[8, 1024]"} for key in ("fashion", "mnist")},
            **{
                key: {"dataset.test_fraction": "(0.0, 1.0)"}
                for key in ("cartoon", "folder", "dsprites", "shapes3d", "mpi3d")
            },
            "digits": {"dataset.image_size": "[8, 1024]", "dataset.test_fraction": "(0.0, 1.0)"},
            "sprites": {
                "dataset.image_size": "[8, 256]",
                "dataset.scales": "[1, 32]",
                "dataset.orientations": "[1, 360]",
                "dataset.orientation_range": "(0.0, 360.0]",
                "dataset.positions_x": "[1, 128]",
                "dataset.positions_y": "[1, 128]",
                "dataset.test_fraction": "(0.0, 1.0)",
            },
        }.items()
    },
    "model=conv": {
        "model.depth": "[1, 32]",
        "model.downsamplings": "[0, 32]",
        "model.kernel_size": "[1, 15]",
        "model.batch_norm_momentum": "[0.0, 1.0)",
        "model.leaky_relu_slope": "[0.0, 1.0]",
    },
    "model=resnet": {"model.downsamplings": "[0, 32]", "model.blocks": "[1, 32]"},
    "model=mlp": {
        "model.depth": "[1, 32]",
        "model.width": "[1, 65536]",
        "model.batch_norm_momentum": "[0.0, 1.0)",
        "model.leaky_relu_slope": "[0.0, 1.0]",
    },
    "model=gated_mlp": {"model.depth": "[1, 32]", "model.width": "[1, 65536]"},
    "model=burgess": {"model.leaky_relu_slope": "[0.0, 1.0]"},
    "loss=ae": {
        "loss.reconstruction_weight": "[0.0, inf)",
        "loss.noise_scale": "[0.0, inf)",
        "loss.contractive_weight": "[0.0, inf)",
        "loss.sparsity_weight": "[0.0, inf)",
        "loss.sparsity_target": "(0.0, 1.0)",
    },
    "loss=vae": {
        "loss.reconstruction_weight": "[0.0, inf)",
        "loss.kl_weight": "[0.0, inf)",
        "loss.kl_warmup_epochs": "[0.0, inf)",
        "loss.kl_cycle_epochs": "[0.0, inf)",
        "loss.free_bits": "[0.0, inf)",
        "loss.kl_capacity": "[0.0, inf)",
        "loss.kl_capacity_epochs": "[0.0, inf)",
    },
    "loss=beta_tc": {
        "loss.mutual_information_weight": "[0.0, inf)",
        "loss.total_correlation_weight": "[0.0, inf)",
        "loss.dimension_kl_weight": "[0.0, inf)",
    },
    "loss=dip": {"loss.off_diagonal_weight": "[0.0, inf)", "loss.diagonal_weight": "[0.0, inf)"},
    "loss=mmd": {"loss.mmd_weight": "[0.0, inf)"},
    "loss=iwae": {"loss.samples": "[1, 10000]", "loss.groups": "[1, 10000]", "loss.elbo_weight": "[0.0, 1.0]"},
    "loss=renyi": {"loss.alpha": "[-100.0, 100.0]"},
    "loss=rae": {
        "loss.embedding_weight": "[0.0, inf)",
        "loss.weight_decay": "[0.0, inf)",
        "loss.gradient_penalty": "[0.0, inf)",
    },
    "loss=factor": {
        "loss.total_correlation_weight": "[0.0, inf)",
        "loss.discriminator_width": "[1, 65536]",
        "loss.discriminator_depth": "[1, 100]",
        **{f"loss.players.discriminator.{name}": interval for name, interval in ADAM_BOUNDS.items()},
    },
    "loss=aae": {"loss.adversarial_weight": "[0.0, inf)", "loss.discriminator_depth": "[1, 100]"},
    "loss=vae_gan": {
        "loss.kl_weight": "[0.0, inf)",
        "loss.feature_weight": "[0.0, inf)",
        "loss.discriminator_width": "[1, 4096]",
        **{f"loss.players.decoder.{name}": interval for name, interval in ADAM_BOUNDS.items()},
    },
    "loss=patch_gan": {
        "loss.kl_weight": "[0.0, inf)",
        "loss.adversarial_weight": "[0.0, inf)",
        "loss.adversarial_from": "[0, inf)",
        "loss.discriminator_width": "[1, 4096]",
        "loss.discriminator_depth": "[1, 16]",
        "loss.perceptual_weight": "[0.0, inf)",
    },
    "prior=mixture": {"prior.components": "[1, 100000]"},
    "prior=vamp": {"prior.pseudo_inputs": "[1, 100000]"},
    "likelihood=gaussian": {"likelihood.scale": "(0.0, inf)"},
    "likelihood=continuous_bernoulli": {"likelihood.max_logit": "(0.0, inf)"},
    "likelihood=logistic_mixture": {"likelihood.components": "[1, 1000]"},
    **{
        f"optimizer={name}": {
            **{f"optimizer.{key}": interval for key, interval in ADAM_BOUNDS.items()},
            **({"optimizer.momentum": "[0.0, 1.0)"} if name == "muon" else {}),
        }
        for name in ("adam", "adamw", "adamax", "muon")
    },
    "optimizer=rmsprop": {
        "optimizer.learning_rate": "(0.0, inf)",
        "optimizer.rho": "[0.0, 1.0)",
        "optimizer.momentum": "[0.0, 1.0)",
        "optimizer.epsilon": "(0.0, inf)",
        "optimizer.weight_decay": "[0.0, inf)",
        "optimizer.clipnorm": "(0.0, inf)",
        "optimizer.clipvalue": "(0.0, inf)",
        "optimizer.global_clipnorm": "(0.0, inf)",
        "optimizer.ema": "[0.0, 1.0)",
        "optimizer.skip_norm_above": "(0.0, inf)",
    },
    "schedule=constant": {"schedule.warmup_epochs": "[0.0, inf)"},
    "schedule=cosine": {"schedule.warmup_epochs": "[0.0, inf)", "schedule.final_factor": "[0.0, 1.0]"},
    "schedule=exponential": {"schedule.warmup_epochs": "[0.0, inf)", "schedule.decay": "(0.0, 1.0]"},
    "schedule=steps": {"schedule.warmup_epochs": "[0.0, inf)", "schedule.factor": "(0.0, 1.0]"},
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

ACTIVATIONS = ("leaky_relu", "relu", "elu", "selu", "gelu", "silu", "softplus", "tanh")

# Which words, or few numbers, a key may have.
BINARIZE = {"dataset.binarize": ("none", "threshold", "dynamic", "static")}
CHOICES: dict[str, dict[str, tuple[Any, ...]]] = {
    "": {"checkpoint.models": ("best", "last", "both")},
    **{
        f"dataset={name}": BINARIZE
        for name in ("digits", "fashion", "mnist", "sprites", "dsprites", "shapes3d", "cars3d", "smallnorb")
    },
    **{f"sweep={name}": {"sweep.unfit": ("refuse", "skip")} for name in ("new", "resume")},
    "dataset=mpi3d": {**BINARIZE, "dataset.variant": ("toy", "realistic", "real")},
    "dataset=folder": {
        **BINARIZE,
        "dataset.channels": (1, 3),
        "dataset.labels": ("folders",),
        "dataset.on_error": ("stop", "skip"),
    },
    "dataset=cartoon": {
        **BINARIZE,
        "dataset.channels": (1, 3),
        "dataset.labels": ("folders",),
        "dataset.on_error": ("stop", "skip"),
        "dataset.variant": ("10k", "100k"),
    },
    "posterior=vq": {"posterior.update": ("ema", "loss")},
    "loss=beta_tc": {"loss.estimator": ("stratified", "weighted")},
    "loss=dip": {"loss.kind": ("i", "ii")},
    "loss=mmd": {"loss.kernel": ("imq", "rbf")},
    **{
        f"loss={name}": {"loss.adversarial": ("hinge", "non_saturating"), "loss.perceptual_layers": ("all", "last")}
        for name in ("patch_gan", "vq_gan")
    },
    "loss=iwae": {"loss.gradient": ("iwae", "stl", "dreg")},
    **{
        f"model={name}": {
            "model.normalization": ("batch", "layer", "none"),
            "model.activation": ACTIVATIONS,
            "model.output_bias": ("zero", "mean"),
            **({"model.latent": ("vector", "spatial")} if name == "conv" else {}),
        }
        for name in ("conv", "mlp")
    },
    "model=resnet": {"model.latent": ("vector", "spatial"), "model.output_bias": ("zero", "mean")},
    "model=burgess": {"model.activation": ACTIVATIONS, "model.output_bias": ("zero", "mean")},
    **{f"model={name}": {"model.output_bias": ("zero", "mean")} for name in ("gated_mlp", "linear")},
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
    "evaluation",
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


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_what_its_keys_would_be_on_the_command_line(name: str) -> None:
    assert _composed(name.replace("/", "=")) == _composed(*PRESETS[name])


def test_the_tables_have_every_file() -> None:
    """But for recipes of published figures: tests/benchmarks/test_reproduction.py holds these to their sources."""
    tables = {*(choice.replace("=", "/") for choice in DEFAULTS if choice), *FILES, *PRESETS}
    files = {str(path.relative_to(CONF).with_suffix("")) for path in CONF.rglob("*.yaml")}
    assert {name for name in files if not name.startswith("experiment/reproduce/")} == tables


@pytest.mark.parametrize(
    "component", [c for c in registry.components() if c.group in registry.parts()], ids=lambda c: f"{c.group}={c.name}"
)
def test_a_key_that_a_users_own_yaml_leaves_out_is_what_it_is_in_ours(component: registry.Component) -> None:
    expected = DEFAULTS[f"{component.group}={component.name}"]
    for field in dataclasses.fields(component.node):
        default, path = getattr(component.node, field.name), f"{component.group}.{field.name}"
        ours = {key: value for key, value in expected.items() if f"{key}.".startswith(f"{path}.")}
        assert ours
        # Without players all of them have an optimizer like the run's.
        if default != "???" and field.name != "players":
            keys = dataclasses.asdict(default) if isinstance(default, registry.Keys) else default
            assert values(keys, path) == ours


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
