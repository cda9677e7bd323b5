"""Who is measured: each module has a `measure(images, setting)`, which trains and returns images a second.

Each is written as its own documentation writes it, with the network of the tutorial (its layers are listed in
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
    "limit": "limit: the arithmetic at the rate of a matrix product",
}


@dataclass(frozen=True)
class Setting:
    """What all of a table's contestants are measured at."""

    batch_size: int = 128
    steps: int = 60  # timed, after
    warmup: int = 10  # untimed ones, in which things are traced, compiled and cached
    device: str = "cpu"

    def options(self) -> list[str]:
        """As command-line options, which `parser` reads."""
        return [
            f"--{name.replace('_', '-')}={getattr(self, name)}" for name in ("batch_size", "steps", "warmup", "device")
        ]


def parser(description: str | None) -> argparse.ArgumentParser:
    """A command line with the setting's options."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--batch-size", type=int, default=Setting.batch_size, help="images of a step")
    made.add_argument("--steps", type=int, default=Setting.steps, help="steps that are timed")
    made.add_argument("--warmup", type=int, default=Setting.warmup, help="steps before those")
    made.add_argument("--device", choices=("cpu", "gpu"), default=Setting.device, help="what to train on")
    return made


def images_per_second(take: Callable[[int], None], setting: Setting) -> float:
    """The speed of `take`, which takes a number of steps and returns when they are done."""
    take(setting.warmup)
    start = time.perf_counter()
    take(setting.steps)
    return setting.steps * setting.batch_size / (time.perf_counter() - start)


class Stopwatch:
    """The same for a trainer that keeps the loop to itself, and calls back after each step."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._steps = 0
        self._start = self._end = 0.0

    def step_done(self) -> None:
        """To be called when a step is over."""
        self._steps += 1
        if self._steps == self._setting.warmup:
            self._start = time.perf_counter()
        if self._steps == self._setting.warmup + self._setting.steps:
            self._end = time.perf_counter()

    @property
    def images_per_second(self) -> float:
        """Over the timed steps."""
        return self._setting.steps * self._setting.batch_size / (self._end - self._start)
