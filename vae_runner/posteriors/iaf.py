"""A Gaussian after inverse autoregressive maps, which move each dimension by those before it."""

from collections.abc import Sequence

from vae_runner.flows.iaf import InverseAutoregressive, masked_networks
from vae_runner.flows.networks import Network, Networks
from vae_runner.posteriors.flow import SharedFlowPosterior


class Iaf(SharedFlowPosterior):
    """q(z|x) by `steps` inverse autoregressive maps (Kingma et al., 2016)."""

    def networks(self, steps: int, latent: int, width: int) -> Networks:
        """Return a masked network for each map."""
        return masked_networks(steps, latent, width)

    def maps(self, networks: Sequence[Network]) -> InverseAutoregressive:
        """Return the maps with these networks."""
        return InverseAutoregressive(networks)
