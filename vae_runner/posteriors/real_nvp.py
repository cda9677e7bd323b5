"""A Gaussian after affine couplings of its halves."""

from collections.abc import Sequence

from vae_runner.flows import real_nvp
from vae_runner.flows.networks import Network, Networks
from vae_runner.posteriors.flow import SharedFlowPosterior


class RealNvp(SharedFlowPosterior):
    """q(z|x) by `steps` affine couplings (Dinh et al., 2017)."""

    def networks(self, steps: int, latent: int, width: int) -> Networks:
        """Return a network for each coupling."""
        return real_nvp.coupling_networks(steps, latent, width)

    def maps(self, networks: Sequence[Network]) -> real_nvp.RealNvp:
        """Return the couplings with these networks."""
        return real_nvp.RealNvp(networks)
