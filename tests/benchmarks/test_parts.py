"""What a part is measured with lets it be built."""

import pytest

from benchmarks.parts import BESIDES, LATENT, parts
from tests.conftest import mostly_slow
from tests.small_experiments import built
from vae_runner.schema import register_schemas

register_schemas()


@pytest.mark.parametrize("part", mostly_slow(sorted(parts(), key=BESIDES.__contains__, reverse=True), 3))
def test_every_part_is_measured_beside_what_it_needs(part: str) -> None:
    experiment = built(f"latent={LATENT}", "likelihood=gaussian", part, *BESIDES.get(part, ()))
    assert experiment.autoencoder.decoder.count_params() > 0
