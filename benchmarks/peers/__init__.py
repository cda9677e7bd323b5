"""The contestants: each module has a `measure(images, setting)`, which trains and returns images a second.

Each is written as its own documentation shows, with the network of the tutorial (its layers are listed in
`vae_runner.models.conv`), the same batch, float32, Adam, and the same images.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

LATENT = 2
LEARNING_RATE = 5e-4
RECONSTRUCTION_WEIGHT = 1000.0
SLOPE = 0.2  # of LeakyReLU
MOMENTUM = 0.9  # of batch normalisation: what of the moving average is kept
EPSILON = 1e-3  # of batch normalisation

NAMES = {  # of the modules, as tables have them
    "ours": "vae-runner, compiled step",
    "ours_without": "vae-runner without custom operations",
    "tutorial": "the tutorial's loop",
    "keras_fit": "Keras `fit`",
    "torch_eager": "PyTorch, eager, channels-last",
    "torch_compile": "PyTorch, `torch.compile`",
    "pythae_trainer": "pythae's trainer",
    "limit": "the plain arithmetic at the rate of a matrix product",
}


@dataclass(frozen=True)
class Setting:
    """The setting that all contestants of a table share."""

    batch_size: int = 128
    steps: int = 60  # timed, after
    warmup: int = 10  # untimed ones, in which things are traced, compiled and cached
    device: str = "cpu"

    def options(self) -> list[str]:
        """Return the setting as command-line options, which `parser` reads."""
        return [
            f"--{name.replace('_', '-')}={getattr(self, name)}" for name in ("batch_size", "steps", "warmup", "device")
        ]


def parser(description: str | None) -> argparse.ArgumentParser:
    """Make a command-line parser with the options of `Setting`."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--batch-size", type=int, default=Setting.batch_size, help="images of a step")
    made.add_argument("--steps", type=int, default=Setting.steps, help="steps that are timed")
    made.add_argument("--warmup", type=int, default=Setting.warmup, help="steps before those")
    made.add_argument("--device", choices=("cpu", "gpu"), default=Setting.device, help="what to train on")
    return made


def images_per_second(take: Callable[[int], None], setting: Setting) -> float:
    """Measure the speed of `take`, which takes a number of steps and returns when they are done."""
    take(setting.warmup)
    start = time.perf_counter()
    take(setting.steps)
    return setting.steps * setting.batch_size / (time.perf_counter() - start)


class Stopwatch:
    """Measures the speed of a trainer that owns its loop and calls back after each step."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._steps = 0
        self._start = self._end = 0.0

    def step_done(self) -> None:
        """Count a step; called at the end of each."""
        self._steps += 1
        if self._steps == self._setting.warmup:
            self._start = time.perf_counter()
        if self._steps == self._setting.warmup + self._setting.steps:
            self._end = time.perf_counter()

    @property
    def images_per_second(self) -> float:
        """Return the speed over the timed steps."""
        return self._setting.steps * self._setting.batch_size / (self._end - self._start)
