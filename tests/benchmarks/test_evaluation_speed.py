from pathlib import Path

from benchmarks import evaluation


def test_the_decoder_passes_of_a_log_likelihood_are_measured_beside_it(finished_run: Path) -> None:
    figures = evaluation.decoder_share(finished_run, images=4, samples=300)
    assert figures.keys() == {"seconds", "decoding", "megabytes"}
    assert min(figures.values()) > 0
