"""Reading a run's directory, which anyone may have written: it is data, intact and of this format, or it is refused."""

import csv
import hashlib
import io
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from vae_runner.config.keys import leaves
from vae_runner.errors import DAMAGED, UserError
from vae_runner.files import untrusted
from vae_runner.files.locks import is_held
from vae_runner.files.sealed import read_sealed
from vae_runner.files.untrusted import Arrays, DamagedError, JsonObject
from vae_runner.storage.names import RunPaths
from vae_runner.storage.run_info import CONFIG_CHECKSUMS, MAIN_METRIC, MODELS, PRUNED, read_info

OF_WEIGHTS = "of_weights"  # in a file of what was computed of a trained model, the digest of its weights


class StoredRun(RunPaths):
    """What a run's directory says. Whatever is damaged in it is refused by name when it is read."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Return the run in a directory.

        Raises:
            UserError: there is none, or one of another format, a link in it leads elsewhere, or something is no file.
        """
        with untrusted.readable(path):
            if not path.is_dir():
                what = "is no directory" if path.exists() else "does not exist"
                raise UserError(f"{path} {what}: give a run directory")
        run = cls(path)
        if not run.has_run:
            raise UserError(
                f"{path} is no run directory: it has no run.json; give outputs/<date>/<time>, or a folder in a sweep's"
            )
        root = path.resolve()
        with untrusted.readable(path):
            for file in _contents(path):
                if file.is_symlink() and not Path(os.path.realpath(file)).is_relative_to(root):
                    raise UserError(
                        f"{file} is a link out of the run directory: remove it, or put a copy of what it leads to in "
                        "its place; for a larger disk, move the run directory as a whole"
                    )
                # A pipe could be read forever. What a process is about to rename may be gone meanwhile.
                if not (file.is_dir() or file.is_file()) and file.exists():
                    raise UserError(f"{file} is neither a file nor a folder: remove it")
        _ = run.info  # which refuses another format before anything else is read
        return run

    @classmethod
    def open_finished(cls, path: Path) -> Self:
        """Return the run in a directory; refuse one that did not finish."""
        run = cls.open(path)
        status = run.status
        if status in ("dead", "interrupted", "failed", PRUNED):
            raise UserError(
                f"{path} is not finished, but {status}: vae-run {shlex.quote(f'resume={path}')} continues it"
            )
        if status != "finished":
            raise UserError(f"{path} is not finished: its status is {status!r}; wait for its end")
        info = run.info
        if MAIN_METRIC not in info.get("metrics", {}) or "epoch" not in info:
            raise UserError(f"{run.info_file} has no metrics: {DAMAGED}")
        run.check_config()
        return run

    @property
    def has_run(self) -> bool:
        """Return whether there is a run in the directory; raise UnreadableError where this user may not look."""
        return untrusted.is_file(self.info_file)

    @property
    def info(self) -> JsonObject:
        """Return what run.json says."""
        with self._intact(self.info_file):
            return read_info(self.info_file)

    @property
    def status(self) -> str:
        """Return the status in run.json, or "dead" where that is "running" and the process is gone."""
        status = str(self.info.get("status"))
        if status == "running" and not is_held(self.lock_file):
            status = str(self.info.get("status"))  # It may have ended since run.json was read.
            return "dead" if status == "running" else status
        return status

    @property
    def ended(self) -> float:
        """Return when the run ended, in seconds since 1970, to the second; 0 where run.json does not say so."""
        try:
            return datetime.fromisoformat(self.info["ended"]).timestamp()
        except (KeyError, ValueError):
            return 0.0

    @property
    def models_epoch(self) -> int:
        """Return the epoch of the finished run's models, which its metrics are of too."""
        info = self.info
        return int(info.get(MODELS, info)["epoch"])

    @property
    def models_step(self) -> int:
        """Return the step that the finished run's models are of."""
        info = self.info
        return int(info.get(MODELS, info).get("step", 0))

    @property
    def config(self) -> DictConfig:
        """Return the run's configuration."""
        with self._intact(self.config_file), untrusted.reading():
            config = OmegaConf.load(io.StringIO(self.config_text.decode()))
        if not isinstance(config, DictConfig):
            raise UserError(f"{self.config_file} is no configuration: {DAMAGED}")
        for key, value in leaves(OmegaConf.to_container(config, resolve=False)):
            if isinstance(value, str) and ("${" in value or value == "???"):
                raise UserError(f"{self.config_file}: {key}={value} is to be looked up: a stored configuration is not")
        return config

    @property
    def config_text(self) -> bytes:
        """Return the content of config.yaml: YAML that does not grow when it is read."""
        content = self._config_bytes
        with self._intact(self.config_file):
            untrusted.check_yaml(content)
        return content

    @property
    def _config_bytes(self) -> bytes:
        with self._intact(self.config_file):
            return untrusted.read(self.config_file, untrusted.MAX_TEXT)

    def check_config(self) -> str:
        """Refuse a configuration that has changed since the run wrote it; return its SHA-256, in hexadecimal.

        It is not parsed.
        """
        written, found = self.info.get(CONFIG_CHECKSUMS), hashlib.sha256(self._config_bytes).hexdigest()
        if written and found not in written:
            raise UserError(
                f"{self.config_file} has changed since the run wrote it: put it back; what a resumed run is to do "
                "otherwise is said on the command line"
            )
        return found

    @property
    def weights(self) -> Arrays:
        """Return the weights of the autoencoder, by part and number, `image_shape`, and `classes` where it has any."""
        return self._arrays(self.weights_file)

    @property
    def test_images(self) -> tuple[NDArray[np.uint8], int, list[str]]:
        """Return a few images of the test split, how many it has, and the names of its classes; refuse other arrays."""
        stored = self.load_arrays("test_images")
        images, count, names = (stored.get(name, np.zeros(0)) for name in ("images", "count", "label_names"))
        if images.ndim != 4 or images.dtype != np.uint8 or count.shape != () or names.ndim != 1 or 0 in images.shape:
            raise UserError(f"{self.arrays_file('test_images')} holds no test images: {DAMAGED}")
        return images, int(count), [str(name) for name in names]

    @property
    def embeddings(self) -> tuple[NDArray[np.floating], NDArray[np.integer] | None]:
        """Return the test split's posterior means `[n, latent]`, and labels `[n]` or None; refuse other arrays."""
        stored = self.load_arrays("embeddings")
        mean, labels = stored.get("mean", np.zeros(0)), stored.get("labels")
        fits = labels is None or (labels.shape == mean.shape[:1] and labels.dtype.kind == "i")
        if mean.ndim != 2 or 0 in mean.shape or mean.dtype.kind != "f" or not np.isfinite(mean).all() or not fits:
            raise UserError(f"{self.arrays_file('embeddings')} holds no embeddings: {DAMAGED}")
        return mean, labels

    def fitted_prior(self, kind: str) -> Arrays | None:
        """Return the arrays of a density that was fitted to latents of the run; None where that is still to be done.

        It is, too, where the run has gone on since.
        """
        file = self.fitted_prior_file(kind)
        if not untrusted.is_file(file):
            return None
        stored = self._arrays(file)
        of_weights = stored.pop(OF_WEIGHTS, np.zeros(0))
        return stored if of_weights.shape == () and str(of_weights) == self.weights_digest else None

    @property
    def history(self) -> list[dict[str, float]]:
        """Return the rows of metrics.csv, one for each epoch."""
        with self._intact(self.metrics_file):
            lines = untrusted.read(self.metrics_file, untrusted.MAX_TEXT).decode(errors="replace").splitlines()
            try:
                return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(lines)]
            except (ValueError, TypeError, csv.Error) as error:
                raise DamagedError(str(error)) from error

    @property
    def evaluation(self) -> dict[str, JsonObject]:
        """Return the entries of metrics that were measured of the run, by name; none where it has gone on since."""
        if not untrusted.is_file(self.evaluation_file):
            return {}
        with self._intact(self.evaluation_file):
            stored = read_sealed(self.evaluation_file)
            metrics = stored.get("metrics")
            if not isinstance(metrics, dict) or not all(map(_is_measured, metrics.values())):
                raise DamagedError("it has no metrics")
        return metrics if stored.get(OF_WEIGHTS) == self.weights_digest else {}

    @property
    def evaluated(self) -> dict[str, float]:
        """Return the values of metrics that were measured of the run, as `evaluation/NAME`."""
        measured = (entry.get("values", {}) for entry in self.evaluation.values())
        return {f"evaluation/{name}": float(value) for values in measured for name, value in values.items()}

    @property
    def weights_digest(self) -> str:
        """Return a digest of the file of the weights, in hexadecimal."""
        with self._intact(self.weights_file):
            return digest_of(untrusted.read(self.weights_file))

    def load_arrays(self, name: str) -> Arrays:
        """Return arrays that evaluation has made."""
        return self._arrays(self.arrays_file(name))

    def _arrays(self, file: Path) -> Arrays:
        with self._intact(file):
            return untrusted.arrays(untrusted.read(file))

    @contextmanager
    def _intact(self, file: Path) -> Iterator[None]:
        """Make what is damaged or missing inside a `UserError` that names `file`."""
        try:
            yield
        except DamagedError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise UserError(f"{file} is missing: bring the run directory back from a copy") from error
            raise UserError(f"{file} cannot be used ({error}): {DAMAGED}") from error


def digest_of(weights: bytes) -> str:
    """Return the digest of a file of weights, in hexadecimal."""
    return hashlib.sha256(weights).hexdigest()


def _is_measured(entry: object) -> bool:
    """Return whether this is the entry of a metric, of which at least what is shown is as it must be."""
    return isinstance(entry, dict) and (
        isinstance(entry.get("refused"), str)
        or (
            all(untrusted.are_numbers(entry.get(part)) for part in ("values", "standard_errors"))
            and untrusted.are_texts(entry.get("notes"))
        )
    )


def source_of_weights(path: str) -> StoredRun:
    """Return the finished run that `init_from` names; raise UserError where there is none."""
    try:
        return StoredRun.open_finished(Path(path))
    except UserError as error:
        raise UserError(f"init_from: {error}") from error


def _contents(folder: Path) -> Iterator[Path]:
    """Yield all that is below a folder; raise OSError where that cannot be known."""

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # which has gone meanwhile
            raise error

    for path, folders, files in os.walk(folder, onerror=refuse):
        yield from (Path(path, name) for name in (*folders, *files))
