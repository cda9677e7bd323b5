"""Custom operations refuse what does not fit them, and nothing crashes."""

import json
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest

from tests.acceleration.comparing import load_custom_ops
from tests.acceleration.wrong_arguments import RIGHT
from tests.conftest import mostly_slow
from vae_runner.acceleration.custom_ops import reference

REFUSED = (["InvalidArgumentError"], ["ValueError", "none"], ["InvalidArgumentError", "ValueError"])


@pytest.fixture(scope="module")
def ops() -> Any:
    return load_custom_ops()


@pytest.mark.parametrize("names", mostly_slow([list(RIGHT)[:1], list(RIGHT)[1:]]), ids=" ".join)
@pytest.mark.usefixtures("ops")
def test_wrong_ranks_sizes_and_strides_are_refused(names: list[str]) -> None:
    calls = subprocess.run(
        [sys.executable, "-m", "tests.acceleration.wrong_arguments", *names],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = calls.stdout.splitlines()
    assert calls.returncode == 0, f"it ended with {calls.returncode} at {lines[-1]}"
    refused = Counter[str]()
    for line in lines:
        name, arguments, found = line.split("\t")
        outcomes = json.loads(found)
        if arguments == json.dumps(RIGHT[name]):
            assert outcomes == ["none"] * 3, line
            continue
        # A graph with shapes is refused as it is built, where these tell enough.
        assert all(outcome in kinds for outcome, kinds in zip(outcomes, REFUSED, strict=True)), line
        refused[name] += 1
    assert refused.keys() == set(names)
    assert min(refused.values()) > 20


@pytest.mark.parametrize("name", RIGHT)
def test_of_no_images_there_are_no_maps_and_no_gradients(name: str, ops: Any) -> None:
    shapes, attributes = RIGHT[name]
    inputs = {of: np.ones((0, *shape[1:]) if len(shape) == 4 and of != "kernel" else shape, "f")
              for of, shape in shapes.items()}  # fmt: skip
    outputs = getattr(ops, f"vae_runner_{name}")(**inputs, **attributes)
    for output, value in (outputs._asdict() if hasattr(outputs, "_asdict") else {"only": outputs}).items():
        # As `tf.reduce_mean` has it, the mean of nothing is no number.
        expected = np.nan if output in ("mean", "variance") else 0
        np.testing.assert_array_equal(value, np.full(value.shape, expected), err_msg=output)


def test_a_stride_larger_than_the_image_gives_one_pixel(ops: Any) -> None:
    random = np.random.default_rng(0)
    images, kernel = (random.normal(size=shape).astype("f") for shape in ((2, 5, 4, 1), (3, 3, 1, 16)))
    stride = 2**14
    maps = ops.vae_runner_convolved_grey(images=images, kernel=kernel, bias=np.zeros(16, "f"), stride=stride, slope=1.0)
    np.testing.assert_allclose(maps, reference.convolved(images, kernel, stride), rtol=1e-5, atol=1e-5)
