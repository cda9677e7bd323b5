"""The only code that knows a file name inside a run.

```
run.json             status, versions, hardware, timings, final metrics
config.yaml          the composed, resolved configuration
metrics.csv          one row an epoch
vae-run.log
tensorboard/
checkpoints/         step_0000000460.npz, …: what `vae-run resume=` goes on from
models/              encoder.keras, decoder.keras
figures/             samples/epoch_0010.png, …, latent_space.png, …
evaluation/          embeddings.npz, test_images.npz: what comparing runs needs of the test split
.lock                held by the process that runs
```
"""

import hashlib
import io
import json
import logging
import os
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from filelock import BaseFileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from vae_runner.config.composition import HydraJob
from vae_runner.config.keys import Content, leaves
from vae_runner.datasets.dataset import is_fingerprint
from vae_runner.errors import DAMAGED, UnwritableError, UserError
from vae_runner.files import locks
from vae_runner.files.folders import LOG, RUN_FILE, check_own, is_file, readable, write_whole, writing
from vae_runner.files.untrusted import (
    MAX_TEXT,
    DamagedError,
    are_numbers,
    are_texts,
    arrays,
    check_yaml,
    is_number,
    json_object,
    read,
    reading,
    sealed,
    unsealed,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vae_runner.models.autoencoder import Autoencoder
    from vae_runner.training.checkpoints import Checkpoint

# The commands look into run directories before they import TensorFlow, Keras and Matplotlib: what needs these imports
# them where it is.

log = logging.getLogger(__name__)

CONFIG_CHECKSUMS = "config_checksums"  # any of them will do
OUTDATED = "outdated"  # in a finished run: how the images differ that its sweep was last gone on with
CHOICES = "choices"  # by their groups: which model, which loss, … the command chose
MAIN_METRIC = "test/loss"  # which every run has


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


INFO_KINDS: dict[str, Callable[[Any], bool]] = {  # of what run.json is read for
    "status": _is_text, "started": _is_text, "ended": _is_text, "error": _is_text,
    "epoch": _is_count, "step": _is_count, "process": lambda value: isinstance(value, dict), "metrics": are_numbers,
    "resumed": are_texts, CONFIG_CHECKSUMS: are_texts, "data": is_fingerprint, OUTDATED: _is_text,
    CHOICES: lambda value: isinstance(value, dict) and are_texts(list(value.values())),
    "seconds": is_number,
}  # fmt: skip
# All that lies in a run directory, and what shows that it is one, where a run was killed before it had a run.json.
NAMES = (
    RUN_FILE, "config.yaml", "metrics.csv", LOG, "tensorboard", "checkpoints", "models", "figures",
    "evaluation", ".hydra", ".lock",
)  # fmt: skip
MARKS = (".lock", "checkpoints/step_*.npz")
PICTURE_DPI = 150
COMPRESSION = 3  # of PNG files, 1 … 9

Arrays = Mapping[str, Any]  # of NumPy arrays


class RunDirectory:
    """A run's directory, by the meaning of what lies in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: BaseFileLock | None = None
        self._config_checksums: list[str] = []  # of the configuration that the run was written with
        self._choices: dict[str, str] = {}  # that it was made with

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    # --- while it runs ------------------------------------------------------------------------------------------------

    @classmethod
    def create(cls, path: Path, config: Content, job: HydraJob | None = None) -> "RunDirectory":
        """A new run's directory, with its configuration, and Hydra's as Hydra keeps it.

        Raises:
            UserError: there is a run in it already, or something else, or nothing can be written there.
        """
        directory = cls(path)
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
        directory.check_own()
        directory.hold()
        try:
            if directory.has_run:
                raise UserError(
                    f"{path} holds a run already: continue it with resume={path}, or give another hydra.run.dir"
                )
            if job is not None:
                directory._choices = job.choices
                parts = {"config": config, "hydra": {"hydra": job.config}, "overrides": job.overrides}
                for name, part in parts.items():
                    write_whole(path / ".hydra" / f"{name}.yaml", OmegaConf.to_yaml(part).encode())
            directory.write_config(config)
            directory.write_info({"status": "running"})  # last: with it, there is a run, which can be looked at
        except BaseException:
            directory.release()
            raise
        return directory

    def check_own(self) -> None:
        """Refuse a folder with something in it that no run has written: a run would write over it.

        Raises:
            UserError: there is such a thing, or one may not know.
        """
        if not self.has_run:
            check_own(self.path, "a run", NAMES, MARKS)

    @classmethod
    @contextmanager
    def scratch(cls, config: Content, resumed: Path | None) -> "Iterator[RunDirectory]":
        """A directory that is deleted at the end, for a machine whose part of a run another one writes.

        With `resumed` it has that run's configuration and checkpoints.
        """
        with tempfile.TemporaryDirectory(prefix="vae-run-") as folder:
            path = Path(folder) / "run"
            if resumed is not None:
                for part in (RUN_FILE, "config.yaml", "checkpoints/*.npz"):
                    for file in cls.open(resumed).path.glob(part):
                        copied = path / file.relative_to(resumed)
                        copied.parent.mkdir(parents=True, exist_ok=True)
                        shutil.copyfile(file, copied)
            with cls.open_to_resume(path) if resumed else cls.create(path, config) as directory:
                yield directory

    def hold(self) -> None:
        """Keep other processes from running in this directory, until `release` or the end of this process.

        Raises:
            UserError: another one does.
        """
        try:
            self._lock = locks.take(self.path / ".lock", 0)
        except Timeout as error:
            raise UserError(
                f"{self.path} is in use: {self._holder} runs in it; wait for its end, or stop it"
            ) from error
        except OSError as error:
            raise UnwritableError(f"{self.path} cannot be written ({error.strerror or error})") from error

    @property
    def _holder(self) -> str:
        """Who runs here, as far as run.json says."""
        try:
            process = self.info.get("process")
        except UserError:  # it is not there yet
            process = None
        return f"process {process.get('pid')} on {process.get('host')}" if process else "another process"

    def release(self) -> None:
        """Let others run in this directory."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def write_config(self, config: Content) -> None:
        """Keep the configuration, resolved."""
        content = OmegaConf.to_yaml(config).encode()
        checksum = hashlib.sha256(content).hexdigest()
        if self.has_run:  # a kill between the two files leaves either of them right
            self._config_checksums = [hashlib.sha256(self.config_text).hexdigest(), checksum]
            self.write_info(self.info)
        write_whole(self.path / "config.yaml", content)
        self._config_checksums = [checksum]

    def write_info(self, info: Mapping[str, Any]) -> None:
        """Replace run.json as a whole; it also knows what it and the configuration are, to the last character."""
        if self._config_checksums:
            info = {**info, CONFIG_CHECKSUMS: self._config_checksums}
        if self._choices:
            info = {**info, CHOICES: self._choices}
        write_whole(self._info_file, (json.dumps(sealed(info), indent=2, allow_nan=False) + "\n").encode())

    def touch(self) -> None:
        """Make run.json look as if it had been written anew."""
        with writing(self._info_file):
            os.utime(self._info_file)

    @property
    def metrics_file(self) -> Path:
        """The table with a row an epoch."""
        return self.path / "metrics.csv"

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard's event files."""
        return self.path / "tensorboard"

    def figure_file(self, name: str, epoch: int | None = None) -> Path:
        """Where a figure goes: that of an epoch, or the final one."""
        figures = self.path / "figures"
        return figures / f"{name}.png" if epoch is None else figures / name / f"epoch_{epoch:04d}.png"

    def save_figure(self, figure: "Figure", name: str, epoch: int | None = None) -> None:
        """Write a figure, that of an epoch or the final one."""
        save_figure(figure, self.figure_file(name, epoch))

    def save_models(self, autoencoder: "Autoencoder") -> None:
        """Save all weights, and the networks as Keras models, which load where vae_runner is not installed.

        The weights are what `experiment.load` reads. Of the decoder's outputs the model for others gives the image.
        """
        import keras

        from vae_runner.models.variables import Variables

        buffer = io.BytesIO()
        weights = {"image_shape": np.array(autoencoder.image_shape), **Variables(autoencoder.parts).values()}
        np.savez(buffer, allow_pickle=False, **weights)
        write_whole(self._weights_file, buffer.getvalue())
        decoder = autoencoder.decoder
        images = autoencoder.likelihood.distribution(decoder.output).mean
        models = {"encoder": autoencoder.encoder, "decoder": keras.Model(decoder.input, images, name="decoder")}
        for part, model in models.items():
            file = self.path / "models" / f"{part}.keras"
            unfinished = file.with_name(f"unfinished.{file.name}")
            with writing(file):
                model.save(unfinished)
                unfinished.replace(file)

    @property
    def _weights_file(self) -> Path:
        return self.path / "models" / "weights.npz"

    def save_checkpoint(self, step: int, content: bytes) -> None:
        """Keep the content of a checkpoint, whole or not at all, under its step."""
        write_whole(self._checkpoints / f"step_{step:010d}.npz", content)

    def prune_checkpoints(self, newest: int, steps: Sequence[int]) -> None:
        """Delete all but the newest so many, and those of these steps."""
        for step, file in list(self._checkpoint_files())[newest:]:
            if step not in steps:
                with writing(file):
                    file.unlink()

    def newest_checkpoint(self) -> "Checkpoint | None":
        """The newest that is whole; damaged ones are told of and set aside. None where there is none."""
        from vae_runner.training.checkpoints import Checkpoint

        files = [file for _, file in self._checkpoint_files()]
        for file in files:
            try:
                return Checkpoint.from_bytes(read(file))
            except DamagedError as error:
                then = "There is none before it" if file == files[-1] else "The checkpoint before it is used"
                log.warning("%s is damaged: %s. %s.", file, error, then)
                with writing(file):
                    file.replace(file.with_name(f"damaged.{file.name}"))
        return None

    @property
    def newest_step(self) -> int:
        """The optimizer step that the run can go on from: that of its newest checkpoint, or 0."""
        return next((step for step, _ in self._checkpoint_files()), 0)

    def _checkpoint_files(self) -> list[tuple[int, Path]]:
        """The checkpoints by their steps, the newest first."""
        try:
            with readable(self._checkpoints):
                files = list(self._checkpoints.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        named = ((re.fullmatch(r"step_(\d{10})\.npz", file.name), file) for file in files)
        return sorted(((int(name[1]), file) for name, file in named if name), reverse=True)

    @property
    def _checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def save_arrays(self, name: str, arrays: Arrays) -> None:
        """Keep arrays under `evaluation/`."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        write_whole(self._arrays_file(name), buffer.getvalue())

    def _arrays_file(self, name: str) -> Path:
        return self.path / "evaluation" / f"{name}.npz"

    # --- to go on ---------------------------------------------------------------------------------------------------

    @classmethod
    def open_to_resume(cls, path: Path) -> "RunDirectory":
        """The directory of a run that is to go on, held.

        Raises:
            UserError: it is none, it leads out of itself, or another process runs in it.
        """
        directory = cls.open(path)
        directory.hold()
        info = directory.info
        directory._config_checksums, directory._choices = info.get(CONFIG_CHECKSUMS, []), info.get(CHOICES, {})
        for part in path.rglob("*.part"):  # of a process that was killed while it wrote
            part.unlink(missing_ok=True)
        return directory

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """Any run's directory.

        Raises:
            UserError: there is no run in it, a link in it leads elsewhere, or something in it is no file.
        """
        with readable(path):
            if not path.is_dir():
                what = "is no directory" if path.exists() else "does not exist"
                raise UserError(f"{path} {what}: give a run directory")
        directory = cls(path)
        if not directory.has_run:
            raise UserError(
                f"{path} is no run directory: it has no run.json; give outputs/<date>/<time>, or a folder in a sweep's"
            )
        whole = path.resolve()
        with readable(path):
            for file in _contents(path):
                if file.is_symlink() and not Path(os.path.realpath(file)).is_relative_to(whole):
                    raise UserError(
                        f"{file} is a link out of the run directory: remove it, or put a copy of what it leads to in "
                        "its place; for a larger disk, move the run directory as a whole"
                    )
                # A pipe could be read forever. What a process is about to rename may be gone meanwhile.
                if not (file.is_dir() or file.is_file()) and file.exists():
                    raise UserError(f"{file} is neither a file nor a folder: remove it")
        return directory

    @property
    def has_run(self) -> bool:
        """Whether there is a run in it.

        Raises:
            UnreadableError: one may not know.
        """
        return is_file(self._info_file)

    @property
    def status(self) -> str:
        """What run.json says; "dead" where that is "running" and the process is gone."""
        status = str(self.info.get("status"))
        return "dead" if status == "running" and not self._is_held() else status

    @property
    def ended(self) -> float:
        """When it ended, in seconds since 1970, to the second; 0 where run.json does not tell."""
        try:
            return datetime.fromisoformat(self.info["ended"]).timestamp()
        except (KeyError, ValueError):
            return 0.0

    def _is_held(self) -> bool:
        """Whether a process runs in this directory."""
        try:
            self.hold()
        except UnwritableError:  # someone else's, to look at: run.json's word has to do
            return True
        except UserError:
            return True
        self.release()
        return False

    # --- afterwards ---------------------------------------------------------------------------------------------------

    @classmethod
    def open_finished(cls, path: Path) -> "RunDirectory":
        """A finished run.

        Raises:
            UserError: there is no run in this directory, or it did not finish.
        """
        directory = cls.open(path)
        status = directory.status
        if status in ("dead", "interrupted", "failed"):
            raise UserError(f"{path} is not finished, but {status}: vae-run {shlex.quote(f'resume={path}')} goes on")
        if status != "finished":
            raise UserError(f"{path} is not finished: its status is {status!r}; wait for its end")
        info = directory.info
        if not {MAIN_METRIC} <= info.get("metrics", {}).keys() or "epoch" not in info:
            raise UserError(f"{directory._info_file} tells no metrics: {DAMAGED}")
        directory.check_config()
        return directory

    @property
    def info(self) -> dict[str, Any]:
        """What run.json says."""
        file = self._info_file
        with self._whole(file):
            info = unsealed(json_object(read(file, MAX_TEXT)), needs_one="metrics")
        for name, is_one in INFO_KINDS.items():
            if name in info and not is_one(info[name]):
                raise UserError(f"{file}: {name} is {info[name]!s:.60}: {DAMAGED}")
        return info

    @property
    def config(self) -> DictConfig:
        """The run's configuration."""
        file = self.path / "config.yaml"
        with self._whole(file), reading():
            config = OmegaConf.load(io.StringIO(self.config_text.decode()))
        if not isinstance(config, DictConfig):
            raise UserError(f"{file} is no configuration: {DAMAGED}")
        for key, value in leaves(OmegaConf.to_container(config, resolve=False)):
            if isinstance(value, str) and ("${" in value or value == "???"):
                raise UserError(f"{file}: {key}={value} is to be looked up: a stored configuration is not")
        return config

    def check_config(self) -> None:
        """Refuse a configuration other than the one that the run was written with.

        Raises:
            UserError: it has changed since.
        """
        written = self._config_checksums or self.info.get(CONFIG_CHECKSUMS)
        if written and hashlib.sha256(self.config_text).hexdigest() not in written:
            raise UserError(
                f"{self.path / 'config.yaml'} has changed since the run wrote it: put it back; what a resumed run is "
                "to do otherwise is said on the command line"
            )

    @property
    def config_text(self) -> bytes:
        """The file of the configuration: YAML that does not grow when it is read."""
        file = self.path / "config.yaml"
        with self._whole(file):
            content = read(file, MAX_TEXT)
            check_yaml(content)
        return content

    @property
    def sample_picture(self) -> Path | None:
        """A picture of samples: the final one, or the newest; None where none has been drawn."""
        final = self.figure_file("samples_normal")
        drawn = [final] if final.exists() else sorted((self.path / "figures" / "samples").glob("epoch_*.png"))
        return drawn[-1] if drawn else None

    @property
    def weights(self) -> dict[str, np.ndarray[Any, Any]]:
        """The weights of the autoencoder, by part and number, and `image_shape`."""
        with self._whole(self._weights_file):
            return arrays(read(self._weights_file))

    @property
    def test_images(self) -> tuple[np.ndarray[Any, Any], int, list[str]]:
        """A few images of the test split, how many it has, and the names of its classes.

        Raises:
            UserError: they are not of that kind.
        """
        kept = self.load_arrays("test_images")
        images, count, names = (kept.get(name, np.zeros(0)) for name in ("images", "count", "label_names"))
        if images.ndim != 4 or images.dtype != np.uint8 or count.shape != () or names.ndim != 1 or 0 in images.shape:
            raise UserError(f"{self._arrays_file('test_images')} holds no test images: {DAMAGED}")
        return images, int(count), [str(name) for name in names]

    @property
    def embeddings(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
        """The posterior means of the test split `[n, latent]`, and its labels `[n]` where it has any.

        Raises:
            UserError: they are not of that kind.
        """
        kept = self.load_arrays("embeddings")
        mean, labels = kept.get("mean", np.zeros(0)), kept.get("labels")
        fits = labels is None or (labels.shape == mean.shape[:1] and labels.dtype.kind == "i")
        if mean.ndim != 2 or 0 in mean.shape or mean.dtype.kind != "f" or not np.isfinite(mean).all() or not fits:
            raise UserError(f"{self._arrays_file('embeddings')} holds no embeddings: {DAMAGED}")
        return mean, labels

    def load_arrays(self, name: str) -> dict[str, np.ndarray[Any, Any]]:
        """Arrays kept under `evaluation/`."""
        file = self._arrays_file(name)
        with self._whole(file):
            return arrays(read(file))

    @contextmanager
    def _whole(self, file: Path) -> Iterator[None]:
        """What is read inside is to be as it was once written."""
        try:
            yield
        except DamagedError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise UserError(f"{file} is missing: bring the run directory back from a copy") from error
            raise UserError(f"{file} cannot be used ({error}): {DAMAGED}") from error

    @property
    def _info_file(self) -> Path:
        return self.path / RUN_FILE


def _contents(folder: Path) -> Iterator[Path]:
    """All that is below a folder.

    Raises:
        OSError: it cannot be known.
    """

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # it is gone meanwhile
            raise error

    for path, folders, files in os.walk(folder, onerror=refuse):
        yield from (Path(path, name) for name in (*folders, *files))


def timestamp(seconds: float) -> str:
    """How run.json has moments: local time, with its distance from UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(seconds))


def check_writable(out: Path) -> None:
    """Refuse, before any work, a file name that nothing can be written under."""
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}; make it first")
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        what = "it is a folder" if out.is_dir() else f"{out.parent} cannot be written"
        raise UserError(f"--out {out}: {what}; give another name")


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    shown_dpi = figure.dpi
    figure.dpi = PICTURE_DPI
    # The pixels of figure.savefig, which draws a figure of this layout twice, to the same effect, and compresses for
    # twice as long to save an eighth of the file.
    FigureCanvasAgg(figure).print_png(buffer, pil_kwargs={"compress_level": COMPRESSION})  # type: ignore[no-untyped-call]
    figure.dpi = shown_dpi
    write_whole(path, buffer.getvalue())
