from pathlib import Path

from benchmarks import evaluation


def test_the_decoder_passes_of_a_log_likelihood_are_part_of_it(finished_run: Path) -> None:
    figures = evaluation.decoder_share(finished_run, images=4, samples=300)
    assert figures["megabytes"] > 100
    # A fourth of it, of the digits' small networks on a busy machine, to four times as long.
    assert 0 < figures["decoding"] < 4 * figures["seconds"]
