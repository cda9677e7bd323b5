"""The batch size of `batch_size=auto`: doubled until a step does not fit into memory any more."""

from collections.abc import Callable, Sequence

AUTO = "auto"
SMALLEST, LARGEST = 32, 1024  # images; larger batches are left to those who also give a learning rate for them
STEPS = 10  # of whole batches, that an epoch has at least


def candidates(images: int, replicas: int) -> list[int]:
    """Return the batch sizes to be tried for so many training images, each twice the one before.

    Each of the replicas has as many images of a batch as the others.
    """
    most = max(min(LARGEST, images // STEPS), replicas)
    doubled = [replicas << times for times in range(most.bit_length()) if replicas << times <= most]
    return [size for size in doubled if size >= SMALLEST] or doubled[-1:]


def largest(sizes: Sequence[int], fits: Callable[[int], bool]) -> int | None:
    """Return the last of the batch sizes before the first that does not fit; None where the first does not."""
    chosen = None
    for size in sizes:
        if not fits(size):
            break
        chosen = size
    return chosen
