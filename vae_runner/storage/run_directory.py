"""Writing the directory of a run under way."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike
from omegaconf import OmegaConf

from vae_runner.config.choices import named
from vae_runner.config.composition import HydraJob
from vae_runner.config.fingerprint import computed_settings
from vae_runner.config.keys import Content
from vae_runner.errors import DAMAGED, UserError
from vae_runner.files.atomic import UNFINISHED, replacing, write_atomic, writing
from vae_runner.files.folders import LOG, RUN_FILE, check_own, fits_any, remove_empty
from vae_runner.files.locks import Lock
from vae_runner.files.npz import npz
from vae_runner.files.sealed import write_sealed
from vae_runner.runtime.surroundings import CHECKOUTS
from vae_runner.storage.checkpoint_files import CheckpointFiles
from vae_runner.storage.names import CHECKPOINTS, CONFIG_FILE, HYDRA, MARKS, NAMES, PREPARED
from vae_runner.storage.pictures import save_animation, save_figure
from vae_runner.storage.run_info import CHOICES, CONFIG_CHECKSUMS, GIVEN, SETTINGS, write_info
from vae_runner.storage.stored_run import OF_WEIGHTS, StoredRun, digest_of

if TYPE_CHECKING:  # The commands import this before they import TensorFlow and Matplotlib.
    from matplotlib.figure import Figure

    from vae_runner.models.autoencoder import Autoencoder
    from vae_runner.models.variables import Variables

# Whoever looks whether a process has a run's lock has it no longer than this.
PROBED_SECONDS = 0.5


class RunDirectory(StoredRun):
    """A run's directory that this process may write: as a context manager, it is released at the end."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.checkpoints = CheckpointFiles(path / CHECKPOINTS)
        self._lock = Lock(self.lock_file)
        self._config_checksums: list[str] = []  # of the configuration that the run was written with
        self.choices: dict[str, str] = {}  # that it was made with, by group
        self._given: list[str] = []
        self._settings: dict[str, object] = {}
        self._is_new = False  # whether this process made it, in a folder that was empty, for a run by itself

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    @classmethod
    def create(cls, path: Path, config: Content, job: HydraJob | None = None) -> Self:
        """Return a new run's directory, locked, with its configuration and Hydra's; refuse one with something in it."""
        directory = cls(path)
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
            directory._is_new = job is not None and not job.in_sweep and not any(path.iterdir())
        directory.check_own()
        directory.acquire()
        try:
            if directory.has_run:
                raise UserError(
                    f"{path} holds a run already: continue it with resume={path}, or give another hydra.run.dir"
                )
            if job is not None:
                directory.choices, directory._given = job.choices, list(job.given)
                parts = {"config": config, "hydra": {"hydra": job.config}, "overrides": job.overrides}
                for name, part in parts.items():
                    write_atomic(path / HYDRA / f"{name}.yaml", OmegaConf.to_yaml(part).encode())
            directory.write_config(config)
            directory.write_info({"status": "running"})  # last: with it, there is a run, which can be looked at
        except BaseException:
            directory.release()
            raise
        return directory

    @classmethod
    def open_to_resume(cls, path: Path) -> Self:
        """Return the directory of a run that is to be continued, locked; refuse one that another process has."""
        directory = cls.open(path)
        directory.acquire()
        info = directory.info
        directory._config_checksums, directory.choices = info.get(CONFIG_CHECKSUMS, []), info.get(CHOICES, {})
        directory._settings, directory._given = info.get(SETTINGS, {}), info.get(GIVEN, [])
        for part in path.rglob(UNFINISHED):
            part.unlink(missing_ok=True)
        return directory

    @classmethod
    @contextmanager
    def scratch(cls, config: Content, resumed: Path | None) -> Iterator[Self]:
        """Yield a directory that is deleted at the end, for a machine whose part of a run another one writes.

        With `resumed` it has what that run continues from.
        """
        with tempfile.TemporaryDirectory(prefix="vae-run-") as folder:
            path = Path(folder) / "run"
            if resumed is not None:
                for part in (RUN_FILE, CONFIG_FILE, PREPARED, f"{CHECKPOINTS}/*.npz"):
                    for file in cls.open(resumed).path.glob(part):
                        copied = path / file.relative_to(resumed)
                        copied.parent.mkdir(parents=True, exist_ok=True)
                        shutil.copyfile(file, copied)
            with cls.open_to_resume(path) if resumed else cls.create(path, config) as directory:
                yield directory

    def check_own(self) -> None:
        """Refuse a folder with something in it that no run has written: a run would write over it."""
        if not self.has_run:
            check_own(self.path, "a run", NAMES, MARKS)

    def acquire(self) -> None:
        """Keep other processes from running here, until `release` or this one's end; refuse if one runs already."""
        with writing(self.path):
            acquired = self._lock.acquire(timeout=PROBED_SECONDS)
        if not acquired:
            raise UserError(f"{self.path} is in use: {self._process()} runs in it; wait for its end, or stop it")

    def release(self) -> None:
        """Let other processes run in this directory."""
        self._lock.release()

    def discard(self) -> None:
        """Delete what `create` and the log have put into a folder that was empty, unless something else is in it.

        The folder stays, empty. The directory of a sweep's run stays as it is: the sweep's report shows it.
        """
        diffs = {self.diff_file(checkout).name for checkout in CHECKOUTS}
        made = {RUN_FILE, CONFIG_FILE, self.lock_file.name, LOG, HYDRA, *diffs}
        if self._is_new and {path.name for path in self.path.iterdir()} <= made:
            shutil.rmtree(self.path / HYDRA, ignore_errors=True)
            for file in self.path.iterdir():
                file.unlink()

    def hold_for_deletion(self) -> None:
        """Keep other processes from running here, until `delete` or `release`.

        Raises:
            UserError: a process runs in it, it is a link, or something is in it that no run has written.
        """
        if self.path.is_symlink():
            raise UserError(f"{self.path} is a link: give the run directory that it leads to")
        for path in sorted(self.path.iterdir()):
            if not fits_any(path.name, NAMES) and not path.name.startswith("."):
                raise UserError(f"{self.path} holds {path.name}, which no run has written: move it away first")
        self.acquire()

    def delete(self) -> None:
        """Delete the directory and all in it, run.json last: what is cut short leaves a run to delete again."""
        with writing(self.path):
            for path in sorted(self.path.iterdir(), key=lambda path: path.name == RUN_FILE):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path != self.lock_file:
                    path.unlink()
            self.release()
            self.lock_file.unlink(missing_ok=True)
        remove_empty(self.path)

    def _process(self) -> str:
        """Return which process runs here, as far as run.json says so."""
        try:
            process = self.info.get("process")
        except UserError:  # It is not there yet.
            process = None
        return f"process {process.get('pid')} on {process.get('host')}" if process else "another process"

    def write_config(self, config: Content) -> None:
        """Write the configuration, resolved."""
        content = OmegaConf.to_yaml(config).encode()
        checksum = hashlib.sha256(content).hexdigest()
        if self.has_run:  # A kill between the two files leaves either of them right.
            self._config_checksums = [hashlib.sha256(self.config_text).hexdigest(), checksum]
            self.write_info(self.info)
        write_atomic(self.config_file, content)
        self._config_checksums = [checksum]
        computed = computed_settings(named(config, self.choices, ()))
        self._settings = {key: value for key, value in computed.items() if value is not None}

    def write_info(self, info: Mapping[str, object]) -> None:
        """Replace run.json, which also has settings, what the command gave, and a checksum of the configuration."""
        own = {CONFIG_CHECKSUMS: self._config_checksums, CHOICES: self.choices}
        own |= {SETTINGS: self._settings, GIVEN: self._given}
        write_info(self.info_file, {**info, **{name: value for name, value in own.items() if value}})

    def save_diff(self, checkout: str, changes: bytes) -> None:
        """Keep the changes in a git checkout; where there are none, remove those of an earlier process."""
        file = self.diff_file(checkout)
        if changes:
            write_atomic(file, changes)
        else:
            with writing(file):
                file.unlink(missing_ok=True)

    def touch(self) -> None:
        """Make run.json look as if it had been written anew."""
        with writing(self.info_file):
            os.utime(self.info_file)

    def save_figure(self, figure: "Figure", name: str, epoch: int | None = None) -> None:
        """Write a figure, that of an epoch or the final one."""
        save_figure(figure, self.figure_file(name, epoch))

    def save_animation(self, epochs: Sequence[int]) -> int:
        """Write the animation of those of these epochs that have a frame; return how many there are."""
        frames = [file for file in map(self.frame_file, epochs) if file.is_file()]
        if frames:
            with self._intact(self.frame_file(epochs[-1]).parent):
                save_animation(frames, self.animation_file)
        return len(frames)

    def save_models(self, autoencoder: "Autoencoder") -> None:
        """Save all weights, and the networks as Keras models, which load where vae_runner is not installed.

        The weights are what `experiment.load` reads. Of the decoder's outputs the model for others gives the image.
        """
        weights = _weights_of(autoencoder)
        are_others = self.weights_file.exists() and digest_of(weights) != self.weights_digest
        write_atomic(self.weights_file, weights)
        if are_others:
            for file in self.result_files:
                file.unlink(missing_ok=True)
        _save_networks(autoencoder, self.weights_file.parent)

    def save_last_models(self, autoencoder: "Autoencoder | None") -> None:
        """Save the weights and networks of the last epoch beside those of another one; None deletes what there is."""
        if autoencoder is None:
            if self.last_models.exists():
                with writing(self.last_models):
                    shutil.rmtree(self.last_models)
            return
        write_atomic(self.last_models / self.weights_file.name, _weights_of(autoencoder))
        _save_networks(autoencoder, self.last_models)

    def save_prepared(self, variables: "Variables") -> None:
        """Write the weights of the network that the loss has trained before the run's training."""
        _save(self.prepared_file, variables.values())

    def load_prepared(self, variables: "Variables") -> None:
        """Give such a network the weights that `save_prepared` has written."""
        weights = self._arrays(self.prepared_file)
        if mismatch := variables.mismatch(weights):
            raise UserError(f"{self.prepared_file}: {mismatch}: {DAMAGED}")
        variables.assign(weights)

    def save_arrays(self, name: str, arrays: Mapping[str, ArrayLike]) -> None:
        """Write arrays that evaluation has made."""
        _save(self.arrays_file(name), arrays)

    def save_evaluation(
        self,
        metrics: Mapping[str, Content],
        weights_digest: str,
        arrays: Mapping[str, Mapping[str, ArrayLike]] | None = None,
        figures: Iterable[tuple[str, "Figure"]] = (),
    ) -> dict[str, Content]:
        """Add entries of metrics, by name, that were measured of weights with this digest; return all there are then.

        Their arrays and figures, by name, are kept beside them. Other processes may add theirs at the same time.

        Raises:
            UserError: the run has other weights meanwhile.
        """
        with writing(self.evaluation_lock_file):
            self.evaluation_lock_file.parent.mkdir(exist_ok=True)
            lock = Lock(self.evaluation_lock_file)
            lock.acquire()
        try:
            if weights_digest != self.weights_digest:
                raise UserError(
                    f"{self.path} has been trained further meanwhile: what was measured is of its former weights; "
                    "evaluate it again"
                )
            for name, of_name in (arrays or {}).items():
                self.save_arrays(name, of_name)
            for name, figure in figures:
                save_figure(figure, self.evaluation_figure_file(name))
            metrics = {**self.evaluation, **metrics}
            write_sealed(self.evaluation_file, {OF_WEIGHTS: weights_digest, "metrics": metrics})
        finally:
            lock.release()
        return metrics

    def save_fitted_prior(self, kind: str, arrays: Mapping[str, ArrayLike], weights_digest: str) -> None:
        """Write the arrays of a density of a kind, fitted to latents that weights with this digest made of images."""
        _save(self.fitted_prior_file(kind), {**arrays, OF_WEIGHTS: np.array(weights_digest)})


def _weights_of(autoencoder: "Autoencoder") -> bytes:
    """Return the content of a file of all weights."""
    from vae_runner.models.variables import Variables

    sizes = {"image_shape": np.array(autoencoder.image_shape)}
    if autoencoder.classes:
        sizes["classes"] = np.array(autoencoder.classes)
    return npz(sizes | Variables(autoencoder.parts).values())


def _save_networks(autoencoder: "Autoencoder", folder: Path) -> None:
    for name, model in (("encoder", autoencoder.encoder), ("decoder", autoencoder.image_decoder())):
        with replacing(folder / f"{name}.keras") as part:
            model.save(part)


def _save(file: Path, arrays: Mapping[str, ArrayLike]) -> None:
    write_atomic(file, npz(arrays, compressed=True))
