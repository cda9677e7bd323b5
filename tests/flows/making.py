"""Flows of all kinds, far from the identity."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from vae_runner.distributions.transformed import Flow
from vae_runner.flows.householder import Householder
from vae_runner.flows.iaf import InverseAutoregressive, masked_networks
from vae_runner.flows.networks import Networks
from vae_runner.flows.planar import Planar
from vae_runner.flows.real_nvp import RealNvp, coupling_networks
from vae_runner.flows.sylvester import Sylvester

STEPS, WIDTH = 3, 12


def normal(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> tf.Tensor:
    """Random parameters."""
    return tf.constant(rng.normal(0, scale, shape), tf.float32)


def randomised(networks: Networks, rng: np.random.Generator, scale: float = 0.7) -> Networks:
    """Networks of which no layer is 0."""
    for variable in networks.trainable_variables:
        variable.assign(rng.normal(0, scale, variable.shape))
    return networks


def planar(latent: int, count: int, rng: np.random.Generator) -> Planar:
    return Planar(normal(rng, count, STEPS, latent), normal(rng, count, STEPS, latent), normal(rng, count, STEPS))


def householder(latent: int, count: int, rng: np.random.Generator) -> Householder:
    return Householder(normal(rng, count, STEPS, latent))


def sylvester(latent: int, count: int, rng: np.random.Generator) -> Sylvester:
    columns = 2
    return Sylvester(
        normal(rng, count, STEPS, columns, latent),
        normal(rng, count, STEPS, columns, columns + 1),
        normal(rng, count, STEPS, columns),
    )


def iaf(latent: int, count: int, rng: np.random.Generator, steps: int = STEPS) -> InverseAutoregressive:
    networks = randomised(masked_networks(steps, latent, WIDTH), rng, 0.3)
    return InverseAutoregressive(networks.given(normal(rng, count, WIDTH)))


def real_nvp(latent: int, count: int, rng: np.random.Generator) -> RealNvp:
    networks = randomised(coupling_networks(STEPS, latent, WIDTH), rng, 0.4)
    return RealNvp(networks.given(normal(rng, count, WIDTH)))


FLOWS: dict[str, Callable[..., Flow]] = {
    "planar": planar, "householder": householder, "sylvester": sylvester, "iaf": iaf, "real_nvp": real_nvp,
}  # fmt: skip
INVERTIBLE = ("householder", "iaf", "real_nvp")


def of_one_image(name: str, latent: int, count: int, seed: int = 0) -> Flow:
    """The same flow for each of `count` rows."""
    flow = FLOWS[name](latent, 1, np.random.default_rng(seed))
    if name in ("iaf", "real_nvp"):  # whose networks' one context broadcasts
        return flow
    return type(flow)(**{field: tf.repeat(value, count, axis=0) for field, value in vars(flow).items()})
