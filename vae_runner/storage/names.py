"""Every file name in a run's directory.

```
run.json             format, status, versions, hardware, timings, final metrics
config.yaml          the composed, resolved configuration
metrics.csv          one row an epoch
vae-run.log
git.diff             what was changed in the working directory's git checkout since its commit, where anything was;
                     vae_runner_git.diff: the same of the checkout that vae-runner is run from, where it is another
notes.json           tags and a note of the user's: see notes.py; .notes.lock: locked by a process that changes them
events.out.tfevents… TensorBoard's, here and in train/, validation/, test/: it names runs by their folders
plugins/             a profile of some steps (`profile=true`)
projector/           embeddings.tsv, labels.tsv, thumbnails.png: what TensorBoard's projector shows, as
                     projector_config.pbtxt beside it says
checkpoints/         step_0000000460.npz, …: what `vae-run resume=` continues from
models/              weights.npz; encoder.keras and decoder.keras, for other programs;
                     perceptual.npz: the classifier of loss.perceptual_model=classifier
models_last/         with checkpoint.models=both: the same of the last epoch, where models/ is of the best one
figures/             samples/epoch_0010.png, …, latent_space.png, …;
                     with figures.animation: samples.gif, of animation/epoch_0001.png, …
evaluation/          embeddings.npz, test_images.npz: what comparing runs needs of the test split;
                     prior_mixture.npz, …: densities that vae-sample --prior has fitted;
                     metrics.json: what vae-evaluate has measured, with pictures, and arrays, of some of it;
                     .lock: locked by a process that adds to metrics.json
.hydra/              what Hydra keeps of a run
.lock                locked by the process that runs
```
"""

from pathlib import Path

from vae_runner.files.folders import LOG, RUN_FILE
from vae_runner.fitted_priors.schema import KINDS
from vae_runner.runtime.surroundings import CHECKOUTS

CONFIG_FILE = "config.yaml"
CHECKPOINTS = "checkpoints"
HYDRA = ".hydra"
NOTES_FILE, NOTES_LOCK_FILE = "notes.json", ".notes.lock"
LOCK_FILE = ".lock"
EVENTS = "events.out.tfevents.*"  # TensorFlow chooses what comes after these words
SPLITS = ("train", "validation", "test")  # folders of the events of metrics like test/loss
LAST_MODELS = "models_last"
PREPARED = "models/perceptual.npz"
# All that lies in a run directory, and what shows that it is one, where a run was killed before it had a run.json.
NAMES = (
    RUN_FILE, CONFIG_FILE, "metrics.csv", LOG, EVENTS, *SPLITS, "projector", "projector_config.pbtxt", "plugins",
    CHECKPOINTS, "models", LAST_MODELS, "figures", "evaluation", HYDRA, LOCK_FILE, NOTES_FILE,
    NOTES_LOCK_FILE,
    *(f"{name}.diff" for name in CHECKOUTS),
    "tensorboard",  # where all event files of a run were in earlier versions
)  # fmt: skip
PICTURED = ("samples", "reconstructions")  # figures that runs are compared by
EVALUATION_ARRAYS = ("kl_by_dimension", "mutual_information", "dci")  # of metrics, in evaluation/
EVALUATION_FIGURES = (*EVALUATION_ARRAYS, "nearest_neighbours")
MARKS = (LOCK_FILE, f"{CHECKPOINTS}/step_*.npz")


class RunPaths:
    """Where everything of the run in the directory `path` lies, or would lie."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.info_file = path / RUN_FILE
        self.config_file = path / CONFIG_FILE
        self.metrics_file = path / "metrics.csv"
        self.projector_config = path / "projector_config.pbtxt"
        self.weights_file = path / "models" / "weights.npz"
        self.last_models = path / LAST_MODELS
        self.prepared_file = path / PREPARED
        self.lock_file = path / LOCK_FILE
        self.notes_file = path / NOTES_FILE
        self.notes_lock_file = path / NOTES_LOCK_FILE

    def diff_file(self, checkout: str) -> Path:
        """Return where the changes in a git checkout go, that of the working directory or vae-runner's."""
        return self.path / f"{checkout}.diff"

    @property
    def event_files(self) -> list[Path]:
        """Return the files of TensorBoard's events, in the order of their folders and names."""
        return [file for folder in ("", *SPLITS) for file in sorted((self.path / folder).glob(EVENTS))]

    def projector_file(self, name: str) -> Path:
        """Return where a file goes that `projector_config` names."""
        return self.path / "projector" / name

    def arrays_file(self, name: str) -> Path:
        """Return where arrays go that evaluation has made."""
        return self.path / "evaluation" / f"{name}.npz"

    @property
    def evaluation_file(self) -> Path:
        """Return where the metrics of evaluations go."""
        return self.path / "evaluation" / "metrics.json"

    @property
    def evaluation_lock_file(self) -> Path:
        """Return what a process locks that adds to the metrics of evaluations."""
        return self.path / "evaluation" / ".lock"

    def evaluation_figure_file(self, name: str) -> Path:
        """Return where a figure of an evaluation goes."""
        return self.path / "evaluation" / f"{name}.png"

    @property
    def result_files(self) -> list[Path]:
        """Return the files of `evaluation/` that follow from the weights; a user's own may lie beside them."""
        arrays = [self.arrays_file(name) for name in (*EVALUATION_ARRAYS, "embeddings", "test_images")]
        figures = [self.evaluation_figure_file(name) for name in EVALUATION_FIGURES]
        priors = [self.fitted_prior_file(kind) for kind in KINDS]
        return [self.evaluation_file, *arrays, *figures, *priors]

    def fitted_prior_file(self, kind: str) -> Path:
        """Return where a density of a kind goes that was fitted to the run's latents."""
        return self.arrays_file(f"prior_{kind}")

    def network_file(self, part: str) -> Path:
        """Return where the encoder or the decoder goes, as a Keras model."""
        return self.weights_file.with_name(f"{part}.keras")

    def figure_file(self, name: str, epoch: int | None = None) -> Path:
        """Return where a figure goes: that of an epoch, or the final one."""
        figures = self.path / "figures"
        return figures / f"{name}.png" if epoch is None else figures / name / f"epoch_{epoch:04d}.png"

    def frame_file(self, epoch: int) -> Path:
        """Return where the animation's frame of an epoch goes."""
        return self.figure_file("animation", epoch)

    @property
    def animation_file(self) -> Path:
        """Return where the animation of all epochs goes."""
        return self.path / "figures" / "samples.gif"

    @property
    def pictures(self) -> dict[str, Path]:
        """Return the newest pictures of "samples" and "reconstructions", of which there may be none."""
        drawn = {name: sorted((self.path / "figures" / name).glob("epoch_*.png")) for name in PICTURED}
        if (final := self.figure_file("samples_normal")).exists():
            drawn["samples"].append(final)
        return {name: files[-1] for name, files in drawn.items() if files}
