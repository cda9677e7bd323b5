"""The model of scaling, against cases worked out by hand, its limits, and independent counts of the networks."""

import argparse
from dataclasses import replace
from itertools import pairwise

import pytest

from benchmarks.scaling import networks, predicted
from benchmarks.scaling_model import (
    Assumptions,
    Network,
    add_options,
    all_reduce_seconds,
    assumptions,
    computing_seconds,
    pays_up_to,
    predicted_seconds,
    ring_seconds,
    step_seconds,
    strong_speedup,
    tree_seconds,
    weak_speedup,
)
from benchmarks.scaling_points import ALONE, SHARED, share

GPUS = [1, 2, 4, 8, 16, 32, 64, 128, 256]
SOME = Network("some", parameters=1_000_000, flops=10**9, layers=20, normalizations=5)
GIVEN = Assumptions()
FREE = replace(
    GIVEN, nvlink_bytes=float("inf"), network_bits=float("inf"), all_reduce_seconds=0, nvlink_hop=0, network_hop=0,
    tree_hop=0,
)  # fmt: skip
NOTHING_FIXED = replace(FREE, kernel_seconds=0)


@pytest.mark.parametrize(
    ("count", "size", "bandwidth", "hop", "seconds"),
    [
        (1, 1e9, 1e9, 1.0, 0),
        (2, 1e9, 1e9, 0, 1),  # each sends half and gets half, twice
        (4, 1e9, 1e9, 0, 1.5),  # six quarters
        (4, 0, 1e9, 1e-3, 6e-3),  # six hops
        (8, 8e6, 2e9, 1e-5, 14 * (0.5e-3 + 1e-5)),
    ],
)
def test_a_ring_sends_2_n_minus_1_parts_of_n(
    count: int, size: float, bandwidth: float, hop: float, seconds: float
) -> None:
    assert ring_seconds(count, size, bandwidth, hop) == pytest.approx(seconds)


def test_a_tree_sends_the_whole_up_and_down() -> None:
    assert tree_seconds(1, 1e9, 1e9, 1.0) == 0
    assert tree_seconds(8, 1e9, 1e9, 1e-3) == pytest.approx(6.006)
    assert tree_seconds(5, 1e9, 1e9, 0) == pytest.approx(6)  # its levels are those of 8


def test_an_all_reduce_is_a_ring_in_the_machine_and_one_between_machines_whose_gpus_share_a_link() -> None:
    given = replace(
        GIVEN, nvlink_bytes=100e9, nvlink_share=0.5, network_bits=80e9, network_share=0.5, all_reduce_seconds=1e-3,
        nvlink_hop=0, network_hop=0,
    )  # fmt: skip
    assert all_reduce_seconds(1, 4e9, given) == 0
    assert all_reduce_seconds(4, 4e9, given) == pytest.approx(0.001 + 1.5 * 4 / 50)
    assert all_reduce_seconds(32, 4e9, given) == pytest.approx(0.001 + 1.75 * 4 / 50 + 1.5 * 4 / 5)


def test_few_bytes_between_many_machines_take_the_tree() -> None:
    few = all_reduce_seconds(256, 64, GIVEN)
    within = GIVEN.all_reduce_seconds + 14 * GIVEN.nvlink_hop
    assert few == pytest.approx(within + 10 * GIVEN.tree_hop, rel=1e-2)
    assert few < within + 62 * GIVEN.network_hop


def test_computing_is_the_kernels_and_the_arithmetic() -> None:
    given = replace(GIVEN, peak_flops=1e12, share_of_peak=0.5, kernels_per_layer=10, kernel_seconds=1e-5)
    assert computing_seconds(SOME, 100, given) == pytest.approx(20 * 10 * 1e-5 + 100 * 1e9 / 0.5e12)


def test_a_step_is_the_sum_of_its_pieces() -> None:
    assert step_seconds(1.0, 0.5, 0.01, 12) == pytest.approx(1.62)
    gradients, small = all_reduce_seconds(16, 4e6, GIVEN), all_reduce_seconds(16, 768, GIVEN)
    expected = computing_seconds(SOME, 32, GIVEN) + gradients + 11 * small  # twice 5 normalisations, and the loop's one
    assert predicted_seconds(SOME, 16, 32, GIVEN) == pytest.approx(expected)


def test_one_gpu_is_as_fast_as_one_gpu() -> None:
    assert strong_speedup(SOME, 1, 128, GIVEN) == weak_speedup(SOME, 1, 128, GIVEN) == 1
    assert predicted_seconds(SOME, 1, 128, GIVEN) == computing_seconds(SOME, 128, GIVEN)


@pytest.mark.parametrize("gpus", GPUS)
def test_where_communication_costs_nothing_a_batch_a_gpu_scales_without_loss(gpus: int) -> None:
    assert weak_speedup(SOME, gpus, 128, FREE) == pytest.approx(gpus)
    assert strong_speedup(SOME, gpus, 256, NOTHING_FIXED) == pytest.approx(gpus)
    # What is fixed in a step is not shared (Amdahl's law).
    fixed, all_of_it = computing_seconds(SOME, 0, FREE), computing_seconds(SOME, 256, FREE)
    amdahl = all_of_it / (fixed + (all_of_it - fixed) / gpus)
    assert strong_speedup(SOME, gpus, 256, FREE) == pytest.approx(amdahl)


@pytest.mark.parametrize("gpus", [8, 64, 256])
@pytest.mark.parametrize("faster", ["nvlink_bytes", "nvlink_share", "network_bits", "network_share"])
def test_faster_links_never_make_it_slower(faster: str, gpus: int) -> None:
    speedups = [
        weak_speedup(SOME, gpus, 32, replace(GIVEN, **{faster: factor * getattr(GIVEN, faster)}))
        for factor in (0.25, 0.5, 1, 2, 4)
    ]
    assert speedups == sorted(speedups)
    assert all(speedup < gpus for speedup in speedups)
    assert (speedups[0] < speedups[-1]) == (faster.startswith("nvlink") or gpus > 8)


@pytest.mark.parametrize("slower", ["all_reduce_seconds", "nvlink_hop", "network_hop", "kernel_seconds"])
def test_latencies_never_make_a_shared_batch_faster(slower: str) -> None:
    speedups = [
        strong_speedup(SOME, 16, 128, replace(GIVEN, **{slower: factor * getattr(GIVEN, slower)}))
        for factor in (0, 1, 10)
    ]
    assert speedups == sorted(speedups, reverse=True)


def test_it_pays_up_to_the_doubling_that_brings_too_little() -> None:
    speedups = {1: 1.0, 2: 1.9, 4: 3.0, 8: 4.4, 16: 8.8}
    assert pays_up_to(speedups.__getitem__, 16) == 4
    assert pays_up_to(speedups.__getitem__, 2) == 2
    assert pays_up_to(lambda gpus: float(gpus), 128) == 128
    assert pays_up_to(lambda gpus: 1.0, 128) == 1


def test_the_networks_are_counted_as_by_hand() -> None:
    fashion, cartoon, large = networks()
    # 3×3 convolutions without bias, scale and offset of each normalisation; dense layers and the last one with biases.
    assert fashion.parameters == _parameters(1, [32, 64, 64, 64], bottleneck=7 * 7 * 64, latent=2)
    assert cartoon.parameters == _parameters(3, [32, 64, 64, 64, 64], bottleneck=8 * 8 * 64, latent=200)
    assert large.parameters == _parameters(3, [64, 128, 256, 512, 1024], bottleneck=8 * 8 * 1024, latent=200)
    assert 45e6 < large.parameters < 55e6
    assert [one.gradient_bytes for one in (fashion, cartoon, large)] == [830_484, 10_891_596, 207_722_572]
    assert [one.small_all_reduces for one in (fashion, cartoon, large)] == [2 * 7 + 1, 2 * 9 + 1, 2 * 9 + 1]
    assert fashion.flops == 3 * 2 * _multiplications()
    assert fashion.flops / 1e6 == pytest.approx(89.5, abs=0.1)


def _parameters(channels: int, filters: list[int], bottleneck: int, latent: int) -> int:
    into = [channels, *filters[:-1]]
    encoder = sum(9 * a * b + 2 * b for a, b in zip(into, filters, strict=True)) + 2 * (bottleneck + 1) * latent
    decoder = sum(9 * a * b + 2 * b for a, b in pairwise(filters[::-1]))
    return encoder + (latent + 1) * bottleneck + decoder + 9 * filters[0] * channels + channels


def _multiplications() -> int:
    """Of an image of Fashion-MNIST: 28×28 with 32, 14×14, 7×7 and 7×7 with 64 filters, and back."""
    encoder = 28 * 28 * 9 * 32 + 14 * 14 * 9 * 32 * 64 + 2 * 7 * 7 * 9 * 64 * 64 + 2 * 3136 * 2
    decoder = 2 * 3136 + 2 * 7 * 7 * 9 * 64 * 64 + 14 * 14 * 9 * 64 * 32 + 28 * 28 * 9 * 32
    return encoder + decoder


def test_the_assumptions_are_options() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser)
    assert assumptions(parser.parse_args([])) == GIVEN
    changed = assumptions(parser.parse_args(["--network-bits", "4e11", "--gpus-per-machine", "4"]))
    assert changed == replace(GIVEN, network_bits=400e9, gpus_per_machine=4)
    assert "nccl-tests" in parser.format_help()


def test_a_measured_step_is_predicted_from_its_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.scaling.CORES", 2)
    monkeypatch.setattr("benchmarks.scaling_points.CORES", 2)
    four = SHARED["4 devices"]
    assert (share(four).batch_size, share(four).processes, share(four).connected) == (32, 2, False)
    results = {
        share(four).name: [{"step": 30.0}, {"step": 40.0}],
        four.name: [{"gradients": 2.0, "small": 0.5, "all_reduces": 15.0}] * 2,
    }
    assert predicted(results, four) == pytest.approx([2 * 30 + 2 + 14 * 0.5, 2 * 40 + 2 + 14 * 0.5])


def test_points_have_names_of_their_own() -> None:
    points = [ALONE, *SHARED.values()]
    assert len({point.name for point in points}) == len(points)
    assert [point.devices for point in points] == [1, 2, 4, 2]
