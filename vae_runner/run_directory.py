"""The only code that knows a file name inside a run.

```
run.json             status, versions, hardware, timings, final metrics
config.yaml          the composed, resolved configuration
metrics.csv          one row an epoch
vae-run.log
tensorboard/
models/              encoder.keras, decoder.keras
figures/             samples/epoch_0010.png, …, latent_space.png, …
evaluation/          embeddings.npz, test_images.npz: what comparing runs needs of the test split
```
"""

import io
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vae_runner.errors import UserError
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.models.layers import plain
from vae_runner.models.posterior import DiagonalGaussian, Point

PICTURE_DPI = 150
COMPRESSION = 3  # of PNG files, 1 … 9

Arrays = Mapping[str, Any]  # of NumPy arrays


class RunDirectory:
    """A run's directory, by the meaning of what lies in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    # --- while it runs ------------------------------------------------------------------------------------------------

    @classmethod
    def create(cls, path: Path, config: DictConfig, hydra: DictConfig | None = None) -> "RunDirectory":
        """A new run's directory, with its configuration, and Hydra's as Hydra keeps it.

        Raises:
            UserError: there is a run in it already.
        """
        directory = cls(path)
        path.mkdir(parents=True, exist_ok=True)
        try:
            with directory._info_file.open("x") as file:  # whoever makes run.json has the directory
                file.write('{"status": "running"}')
        except FileExistsError as error:
            raise UserError(f"{path} holds a run already: give another hydra.run.dir, or move it away") from error
        if hydra is not None:
            for name, part in (("config", config), ("hydra", {"hydra": hydra}), ("overrides", hydra.overrides.task)):
                write_whole(path / ".hydra" / f"{name}.yaml", OmegaConf.to_yaml(part).encode())
        write_whole(path / "config.yaml", OmegaConf.to_yaml(config, resolve=True).encode())
        return directory

    def write_info(self, info: Mapping[str, Any]) -> None:
        """Replace run.json as a whole."""
        write_whole(self._info_file, (json.dumps(info, indent=2, allow_nan=False) + "\n").encode())

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

    def model_file(self, part: str) -> Path:
        """Where the "encoder" or "decoder" is."""
        return self.path / "models" / f"{part}.keras"

    def save_figure(self, figure: Figure, name: str, epoch: int | None = None) -> None:
        """Write a figure, that of an epoch or the final one."""
        save_figure(figure, self.figure_file(name, epoch))

    def save_models(self, autoencoder: Autoencoder) -> None:
        """Save encoder and decoder as Keras models of Keras's own layers, which load without vae_runner."""
        for part, model in (("encoder", autoencoder.encoder), ("decoder", autoencoder.decoder)):
            file = self.model_file(part)
            file.parent.mkdir(exist_ok=True)
            unfinished = file.with_name(f"unfinished.{file.name}")
            plain(model).save(unfinished)
            unfinished.replace(file)

    def save_arrays(self, name: str, arrays: Arrays) -> None:
        """Keep arrays under `evaluation/`."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)
        write_whole(self.path / "evaluation" / f"{name}.npz", buffer.getvalue())

    # --- afterwards ---------------------------------------------------------------------------------------------------

    @classmethod
    def open_finished(cls, path: Path) -> "RunDirectory":
        """A finished run.

        Raises:
            UserError: there is no run in this directory, or it did not finish.
        """
        directory = cls(path)
        if not path.is_dir():
            raise UserError(f"{path} {'is no directory' if path.exists() else 'does not exist'}: give a run directory")
        if not directory._info_file.is_file():
            raise UserError(
                f"{path} is no run directory: it has no run.json; give outputs/<date>/<time>, or a folder in a sweep's"
            )
        info = directory.info
        status = info.get("status")
        if status != "finished":
            raise UserError(f"{path} is not finished: its status is {status!r}; see its vae-run.log, or run it again")
        if not isinstance(info.get("metrics"), dict) or "epoch" not in info:
            raise UserError(f"{directory._info_file} tells no metrics: the run directory is damaged")
        return directory

    @property
    def info(self) -> dict[str, Any]:
        """What run.json says."""
        try:
            info = json.loads(self._info_file.read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(f"{self._info_file} cannot be read ({error}): the run directory is damaged") from error
        if not isinstance(info, dict):
            raise UserError(f"{self._info_file} holds no object: the run directory is damaged")
        return info

    @property
    def config(self) -> DictConfig:
        """The run's configuration."""
        file = self.path / "config.yaml"
        try:
            config = OmegaConf.load(file)
        except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
            raise UserError(f"{file} cannot be read ({type(error).__name__}): the run directory is damaged") from error
        if not isinstance(config, DictConfig):
            raise UserError(f"{file} is no configuration: the run directory is damaged")
        return config

    def load_autoencoder(self) -> Autoencoder:
        """The trained encoder and decoder, for inference."""
        encoder, decoder = (self._load_model(part) for part in ("encoder", "decoder"))
        # The encoder's outputs are named after the parameters of its posterior.
        posterior = DiagonalGaussian if "log_var" in encoder.output_names else Point
        return Autoencoder(encoder, decoder, posterior)

    def _load_model(self, part: str) -> keras.Model:
        file = self.model_file(part)
        try:
            return keras.saving.load_model(file, compile=False, safe_mode=True)
        except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(f"{file} cannot be loaded ({reason}): the run directory is damaged") from error

    def load_arrays(self, name: str) -> dict[str, np.ndarray[Any, Any]]:
        """Arrays kept under `evaluation/`."""
        file = self.path / "evaluation" / f"{name}.npz"
        try:
            with np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"{file} cannot be read ({type(error).__name__}): the run directory is damaged") from error

    @property
    def _info_file(self) -> Path:
        return self.path / "run.json"


def check_writable(out: Path) -> None:
    """Refuse, before any work, a file name that nothing can be written under."""
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}; make it first")
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        what = "it is a folder" if out.is_dir() else f"{out.parent} cannot be written"
        raise UserError(f"--out {out}: {what}; give another name")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    buffer = io.BytesIO()
    shown_dpi = figure.dpi
    figure.dpi = PICTURE_DPI
    # The pixels of figure.savefig, which draws a figure of this layout twice, to the same effect, and compresses for
    # twice as long to save an eighth of the file.
    FigureCanvasAgg(figure).print_png(buffer, pil_kwargs={"compress_level": COMPRESSION})  # type: ignore[no-untyped-call]
    figure.dpi = shown_dpi
    write_whole(path, buffer.getvalue())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole, or as it was before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
