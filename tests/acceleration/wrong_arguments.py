"""Calls a custom operation with right arguments, and with such that do not fit: `test_custom_ops_arguments.py` runs it.

It writes the arguments before each call, and the outcome after it, so that it is seen which one crashes.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from vae_runner.acceleration.custom_ops import loading

Shapes = dict[str, tuple[int, ...]]
Attributes = dict[str, Any]

C, IMAGES, MAPS, KERNEL = 16, (2, 5, 5, 1), (2, 5, 5, 16), (3, 3, 1, 16)
OF_NORMALIZATION: Attributes = {"epsilon": 1e-3, "slope": 0.2}
RIGHT: dict[str, tuple[Shapes, Attributes]] = {
    "normalized_leaky_relu": ({"x": MAPS, "gamma": (C,), "beta": (C,)}, OF_NORMALIZATION),
    "normalized_leaky_relu_grad": (
        {"dy": MAPS, "x": MAPS, "gamma": (C,), "beta": (C,), "mean": (C,), "variance": (C,)}, OF_NORMALIZATION,
    ),
    "patch_sums": ({"images": IMAGES, "pivot": ()}, {"stride": 1}),
    "convolved_grey": ({"images": IMAGES, "kernel": KERNEL, "bias": (C,)}, {"stride": 2, "slope": 0.2}),
    "convolved_grey_grad": (
        {"dmaps": (2, 3, 3, C), "images": IMAGES, "kernel": KERNEL, "bias": (C,)}, {"stride": 2, "slope": 0.2},
    ),
    "image_head": ({"x": MAPS, "gamma": (C,), "beta": (C,), "kernel": KERNEL, "bias": (1,)}, OF_NORMALIZATION),
    "image_head_grad": (
        {
            "dimages": IMAGES, "x": MAPS, "gamma": (C,), "beta": (C,), "kernel": KERNEL, "mean": (C,), "variance": (C,),
        },
        OF_NORMALIZATION,
    ),
    "conv2d": ({"images": (2, 5, 5, C), "kernel": (3, 3, C, 2 * C)}, {"stride": 2}),
    "conv2d_transpose": ({"maps": (2, 3, 3, C), "kernel": (3, 3, 2 * C, C)}, {"stride": 2, "height": 5, "width": 5}),
    "conv2d_kernel_grad": ({"images": (2, 5, 5, C), "dmaps": (2, 3, 3, 2 * C)}, {"stride": 2}),
}  # fmt: skip
# Dimensions that nothing else must agree with.
FREE = {
    "normalized_leaky_relu": [("x", 0), ("x", 1), ("x", 2)],
    "patch_sums": [("images", 0), ("images", 1), ("images", 2)],
    "convolved_grey": [("images", 0), ("images", 1), ("images", 2)],
    "image_head": [("x", 0), ("x", 1), ("x", 2)],
    "conv2d": [("images", 0), ("images", 1), ("images", 2), ("kernel", 3)],
    "conv2d_transpose": [("maps", 0), ("kernel", 2)],
    "conv2d_kernel_grad": [("images", 3), ("dmaps", 3)],
}
SIZES = (0, 1, 2, 3, 15, 16, 17, 32)
STRIDES = (0, -1, -(2**31), 2**31, 2**40)


def wrong(name: str) -> Iterator[tuple[Shapes, Attributes]]:
    """Yield arguments that the operation must refuse: each differs from right ones in one place."""
    shapes, attributes = RIGHT[name]
    for of, shape in shapes.items():
        ranks = [(), (0,), (C,), (2, C), (2, 3, C), (1, 2, 3, C, 1), shape[1:], (*shape, 1)]
        sizes = [
            (*shape[:axis], size, *shape[axis + 1 :])
            for axis in range(len(shape))
            for size in SIZES
            if not _fits(name, of, axis, size)
        ]
        yield from (({**shapes, of: other}, attributes) for other in {*ranks, *sizes} - {shape})
    for attribute in {"stride", "height", "width"} & attributes.keys():
        yield from ((shapes, {**attributes, attribute: value}) for value in STRIDES)
    if name.startswith("conv2d"):
        yield from ((shapes, {**attributes, attribute: 40}) for attribute in attributes)


def _fits(name: str, of: str, axis: int, size: int) -> bool:
    if (of, axis) not in FREE.get(name, []):
        return False
    return size in (C, 2 * C) if of == "kernel" or axis == 3 else axis == 0 or size > 0


def ways(operation: Callable[..., Any], shapes: Shapes, attributes: Attributes) -> Iterator[Callable[[], Any]]:
    """Yield calls at once, in a graph with these shapes, and in one that knows no shapes."""
    given = {name: np.ones(shape, "f") for name, shape in shapes.items()}

    def call(inputs: dict[str, Any]) -> Any:
        return operation(**inputs, **attributes)

    def with_shapes() -> None:
        with tf.Graph().as_default():
            call({name: tf.compat.v1.placeholder(tf.float32, shape) for name, shape in shapes.items()})

    def without_shapes() -> None:
        with tf.Graph().as_default():
            placeholders = {name: tf.compat.v1.placeholder(tf.float32) for name in shapes}
            with tf.compat.v1.Session() as session:
                session.run(call(placeholders), {placeholders[name]: value for name, value in given.items()})

    yield from (lambda: call(given), with_shapes, without_shapes)


def outcome(call: Callable[[], Any]) -> str:
    """Return the kind of error that a call raises, or "none"."""
    try:
        call()
    except (tf.errors.OpError, ValueError) as error:
        return type(error).__name__
    return "none"


def main(names: Sequence[str]) -> None:
    """Make all calls of operations."""
    for name in names:
        operation = getattr(loading.load(), f"vae_runner_{name}")
        for arguments in (RIGHT[name], *wrong(name)):
            print(name, json.dumps(arguments), sep="\t", end="\t", flush=True)
            print(json.dumps([outcome(call) for call in ways(operation, *arguments)]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
