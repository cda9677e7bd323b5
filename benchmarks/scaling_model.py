"""How long a step takes on so many GPUs, from a network's arithmetic and gradients, and the speed of GPUs and links.

    step = computing a share of the batch + all-reduce of the gradients + small all-reduces × one of them

one after the other: the gradients are summed when all of them are there, and batch normalisation waits for its moments.
Nothing here is measured; what is assumed is in `Assumptions`, with its source.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

FLOAT_BYTES = 4  # gradients are float32, also in mixed precision
SMALL_BYTES = 3 * 64 * FLOAT_BYTES  # two sums and a count of each of 64 channels: a latency, whatever the width
REDUCES_A_NORMALIZATION = 2  # the moments in the forward pass, and their gradients in the backward pass
REDUCES_A_STEP = 1  # the terms of the loss and how many images they are of, together
PAYS = 1.5  # what a doubling of the GPUs must bring at least


def assumption(default: float, what: str) -> Any:
    """Make a dataclass field with its unit and source, which is also the help of its command-line option."""
    return field(default=default, metadata={"what": what})


@dataclass(frozen=True)
class Assumptions:
    """GPUs and links; the defaults are those of A100s, for which there are published measurements to set them by."""

    peak_flops: float = assumption(
        156e12, "FLOP/s of a GPU: TensorFloat-32 without sparsity, which TensorFlow uses (NVIDIA A100 datasheet)"
    )
    share_of_peak: float = assumption(
        0.14,
        "what training gets of it: ResNet-50 in TensorFlow, 909 images/s on an A100 (NVIDIA DeepLearningExamples, "
        "TensorFlow/Classification/ConvNets/resnet50v1.5), at 3·2·4.09 GFLOP an image (torchvision's table of models)",
    )
    kernels_per_layer: float = assumption(
        12, "kernels a layer and step, forward, backward and update: an assumption, some hundred in all"
    )
    kernel_seconds: float = assumption(
        5e-6, "s to start one: 4 to 6 µs in CUDA (susun-blog.com/blog/pegainfer-3-cuda-graph); no GPU was at hand"
    )
    gpus_per_machine: int = assumption(8, "GPUs, as in a DGX A100")
    nvlink_bytes: float = assumption(300e9, "bytes/s between two GPUs, in each direction (NVIDIA A100 datasheet)")
    nvlink_share: float = assumption(
        0.7, "what an all-reduce gets of it: 208 GB/s (github.com/NVIDIA/nccl-tests/issues/178)"
    )
    network_bits: float = assumption(200e9, "bit/s between two machines, in each direction: one HDR InfiniBand adapter")
    network_share: float = assumption(
        0.85, "what an all-reduce gets of it: 84.8 of 100 GB/s (github.com/NVIDIA/nccl-tests/issues/119)"
    )
    all_reduce_seconds: float = assumption(
        10e-6,
        "s to start an all-reduce: with the hops, 4 GPUs are at 13 and two machines at 15 µs, where 9.8 and 19 were "
        "measured (github.com/NVIDIA/nccl-tests/issues/331 and /150)",
    )
    nvlink_hop: float = assumption(0.47e-6, "s to a neighbour over NVLink (NCCL 2.8, src/graph/tuning.cc, ring, LL)")
    network_hop: float = assumption(2.7e-6, "s to the next machine of a ring (the same)")
    tree_hop: float = assumption(5e-6, "s to the next machine of a tree (the same, tree, LL)")


@dataclass(frozen=True)
class Network:
    """The properties of an encoder and a decoder on which the time of a step depends."""

    name: str
    parameters: int  # trainable ones
    flops: int  # of an image in a training step, forward and backward
    layers: int  # that compute something
    normalizations: int  # synchronised batch normalisations

    @property
    def gradient_bytes(self) -> int:
        """Return the bytes of the gradients that the GPUs sum."""
        return FLOAT_BYTES * self.parameters

    @property
    def small_all_reduces(self) -> int:
        """Return the number of small all-reduces in a step."""
        return REDUCES_A_NORMALIZATION * self.normalizations + REDUCES_A_STEP


def step_seconds(computing: float, gradients: float, small: float, smalls: int) -> float:
    """Return the seconds of a step: computing, the all-reduce of the gradients, and the small ones, in sequence."""
    return computing + gradients + smalls * small


def computing_seconds(network: Network, images: float, given: Assumptions) -> float:
    """Return the seconds of one GPU's share of a step: its kernels in sequence, and the arithmetic of its images."""
    starting = given.kernels_per_layer * network.layers * given.kernel_seconds
    return starting + images * network.flops / (given.peak_flops * given.share_of_peak)


def ring_seconds(count: int, size: float, bandwidth: float, hop: float) -> float:
    """Return the seconds of an all-reduce of `size` bytes around a ring of `count`.

    Each sends 2 (n − 1) parts of n, each to its neighbour; a single one sends nothing. After Patarasuk & Yuan, 2009,
    J. Parallel Distrib. Comput. 69.
    """
    return 2 * (count - 1) * (size / count / bandwidth + hop)


def tree_seconds(count: int, size: float, bandwidth: float, hop: float) -> float:
    """Return the seconds of an all-reduce up a binary tree and down again, with all bytes at each of its levels."""
    return 2 * math.ceil(math.log2(count)) * (size / bandwidth + hop)


def all_reduce_seconds(gpus: int, size: float, given: Assumptions) -> float:
    """Return the seconds of an all-reduce of `size` bytes: over NVLink within the machines, then between them.

    After the first, each GPU has a part of its machine's sum. The GPUs of a machine share its link. Between machines it
    is a ring or, where that is faster (few bytes, many machines), a tree: NCCL chooses, too.
    """
    if gpus == 1:
        return 0.0
    within = min(gpus, given.gpus_per_machine)
    machines = math.ceil(gpus / within)
    network = given.network_bits / 8 * given.network_share
    between = min(
        ring_seconds(machines, size, network, given.network_hop), tree_seconds(machines, size, network, given.tree_hop)
    )
    nvlink = ring_seconds(within, size, given.nvlink_bytes * given.nvlink_share, given.nvlink_hop)
    return given.all_reduce_seconds + nvlink + between


def predicted_seconds(network: Network, gpus: int, images: float, given: Assumptions) -> float:
    """Predict the seconds of a step with `images` on each of `gpus` GPUs."""
    gradients = all_reduce_seconds(gpus, network.gradient_bytes, given)
    small = all_reduce_seconds(gpus, SMALL_BYTES, given)
    computing = computing_seconds(network, images, given)
    return step_seconds(computing, gradients, small, network.small_all_reduces)


def strong_speedup(network: Network, gpus: int, batch_size: int, given: Assumptions) -> float:
    """Return the speed-up over one GPU when the GPUs share a batch."""
    one = predicted_seconds(network, 1, batch_size, given)
    return one / predicted_seconds(network, gpus, batch_size / gpus, given)


def weak_speedup(network: Network, gpus: int, images: int, given: Assumptions) -> float:
    """Return the speed-up over one GPU when each GPU has `images`, and the batch grows with the GPUs."""
    return gpus * predicted_seconds(network, 1, images, given) / predicted_seconds(network, gpus, images, given)


def pays_up_to(speedup: Callable[[int], float], most: int) -> int:
    """Return the number of GPUs whose doubling is the first to bring less than 1.5 times as many images a second."""
    gpus = 1
    while 2 * gpus <= most and speedup(2 * gpus) >= PAYS * speedup(gpus):
        gpus *= 2
    return gpus


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add an option for each assumption."""
    group = parser.add_argument_group("what is assumed of GPUs and links")
    for one in fields(Assumptions):
        kind = type(one.default)
        group.add_argument(f"--{one.name.replace('_', '-')}", type=kind, default=one.default, help=one.metadata["what"])


def assumptions(options: argparse.Namespace) -> Assumptions:
    """Return the assumptions that the command line gives."""
    return Assumptions(**{name: getattr(options, name) for name in asdict(Assumptions())})
