"""Every command that README.md, docs/ and --help show works as it stands there, and so does every piece of code.

A command is run in a home of its own with the real images in it, with what it needs before it. Only its placeholders
are filled in, and overrides are added that cut the work short. A line in which the shell has a part, or that begins
processes of its own, has a shell; others are split as a shell would, and run in this process, where TensorFlow is
imported already, and without tracing the steps of a run: tests/cli starts the installed commands. Whoever documents a
command adds it here.
"""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from benchmarks.fashion import OVERRIDES, PICTURE
from benchmarks.reproduction import read_rows
from tests.conftest import COMMANDS, REPOSITORY, mostly_slow
from tests.small_experiments import untraced

DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
PROGRAMS = (
    r"(?:vae-(?:run|sample|compare|evaluate|runs|encode|reconstruct)|tensorboard|pip|pytest|python|srun|sbatch|nohup)"
)
RUN = re.compile(r"outputs/<date>/<time>|outputs/2026-01-31/12-00-00|\bRUN\b")  # what stands for a finished run

SHORT = "epochs=1 batch_size=16 figures=none model.filters=4"
FEW = f"{SHORT} dataset.limit=32"  # of the datasets that have thousands
SHORT_MAPS, FEW_MAPS = (added.replace("filters", "widths") for added in (SHORT, FEW))  # of model=resnet
FEW_DENSE = "epochs=1 batch_size=16 figures=none model=mlp model.width=8 dataset.limit=32"  # of several processes

FEW_DRAWS = "evaluation.likelihood.samples=2 evaluation.likelihood.images=10 evaluation.structure.samples=20"
FEW_TREES = "evaluation.dci.samples=1000 evaluation.dci.test_samples=500"  # which learn each value of a factor
FEW_VALUES = "dataset.positions_x=8 dataset.positions_y=8 dataset.orientations=4 dataset.scales=2"
RANDOM_FEATURES = "evaluation.samples.features=random evaluation.samples.number=100"  # no classifier is trained

NOT_RUN = {
    "has a test of what it ends at, tests/cli/test_evaluate.py": [
        "vae-run dataset=digits model=linear model.output_bias=mean latent=2 likelihood=gaussian "
        "likelihood.squash_mean=false epochs=150 batch_size=100 optimizer.learning_rate=0.05 schedule=cosine "
        "hydra.run.dir=outputs/linear",
        "vae-evaluate outputs/linear evaluation=likelihood",
    ],
    "is of a sweep; tests/cli/test_evaluate.py measures one": ["vae-evaluate SWEEP evaluation=disentanglement"],
    "continues a run that was pruned; tests/cli/test_search.py has one": ["vae-run resume=RUN"],
    "says how shells complete; tests/cli/test_completion.py has Bash do it": ["vae-run --hydra-help"],
    "is for several machines; tests/sweeps/test_study.py shares a journal": [
        *(
            f"vae-run -m dataset=fashion hydra/sweeper=optuna sweep.dir=SHARED/{name} "
            "hydra.sweeper.journal=SHARED/study.journal"
            for name in "ab"
        ),
    ],
    "begins nothing; tests/cli/test_sweep.py has what it lists": [
        "vae-run -m dataset=fashion latent=2,8,32 seed=0,1 --dry-run"
    ],
    "trains for a minute what the figures below it are of": [
        "vae-run -m dataset=digits figures=none method=vae,ae,iwae optimizer=muon optimizer.learning_rate=0.01 "
        "schedule=cosine schedule.warmup_epochs=0.5"
    ],
    "makes pictures of the documents, for minutes": [
        "vae-run -m dataset=digits latent=2,8,16 loss.kl_weight=0.5,2 seed=0,1 epochs=6 evaluation=reconstruction",
        *(
            f"vae-run dataset=fashion dataset.limit=10000 epochs=6 method={method} {keys} "
            f"hydra.run.dir=outputs/images/{method}"
            for method, keys in (
                ("vae", "latent=16"),
                ("vq_vae", "'model.widths=[16,32,32]'"),
                ("fsq", "'model.widths=[16,32,32]'"),
                (
                    "kl_autoencoder",
                    "'model.widths=[16,32,32]' loss.adversarial_from=200 loss.discriminator_width=16",
                ),
            )
        ),
        "vae-compare outputs/images/vae outputs/images/vq_vae outputs/images/fsq outputs/images/kl_autoencoder "
        "--out autoencoders.png",
        "vae-sample outputs/images/vq_vae --prior autoregressive -n 32 --out vq_samples.png",
    ],
    "has tests, of runs that are made for them, tests/cli/test_runs.py": [
        "vae-runs best --metric evaluation/log_likelihood --highest",
        "vae-runs rm",
        "vae-runs outputs/2026-01-31",
    ],
    "installs packages, for minutes": [
        "pip install -e .",
        "pip install -e '.[test]'",
        "pip install -e '.[lint]'",
        "pip install -e '.[bench]'",
        "pip install -e '.[png]'",
        "pip install 'vae-runner[png]'",
        "pip install 'vae-runner[sweep]'",
        "pip install optuna-dashboard",
        "pip install xprof",
    ],
    "prints tables that tests/test_combinations.py compares": ["python -m tests.combinations"],
    "trains for minutes what tests/test_combinations.py trains in part": ["python -m tests.combinations --train"],
    "runs these tests": [
        "pytest",
        "pytest -m ''",
        "pytest -m '' -n 0 tests/cli/test_resume.py -k signal",
        "HYPOTHESIS_PROFILE=search VAE_RUNNER_TEST_ROUNDS=20 pytest -m '' tests/cli tests/datasets tests/training tests"
        "/storage",
    ],
    "measures for minutes, with libraries that the tests do without; see tests/benchmarks": [
        "python -m benchmarks.training --rounds 2",
        "python -m benchmarks.layers",
        "python -m benchmarks.methods --rounds 3 --steps 30 --only vae iwae vamp beta_tc wae_mmd iaf",
        "python -m benchmarks.methods --rounds 2 --steps 20 --only vq factor vae_gan",
        "python -m benchmarks.parts",
        "python -m benchmarks.race",
        "python -m benchmarks.whole",
        "python -m benchmarks.startup",
        "python -m benchmarks.memory",
        "python -m benchmarks.data --folder FACES",
        "python -m benchmarks.growth --out growth.png",
        "python -m benchmarks.training --device gpu --steps 1500 --warmup 150",
        "python -m benchmarks.training --device gpu",
        "python -m benchmarks.evaluation",
        "python -m benchmarks.scaling --patience 5 --out scaling.png",
        "python -m benchmarks.scaling --paper",
    ],
    "trains for minutes to days; tests/benchmarks/test_reproduction.py takes two steps of each": [
        *(
            variant.command
            for row in read_rows().values()
            for variant in row.variants()
            if row.experiment.startswith("reproduce/")
        ),
        "python -m benchmarks.reproduction --list",
        "python -m benchmarks.reproduction ppca_digits --seeds 0,1,2",
        "python -m benchmarks.reproduction --all --short --page",
        f"vae-run -m {' '.join(OVERRIDES)}",
        "python -m benchmarks.fashion SWEEP",
        PICTURE,
    ],
    "trains for ten minutes what a test of another story trains on fewer and smaller images": [
        "vae-run $C epochs=400 method=vae model.filters=16 hydra.run.dir=outputs/cartoons/vae",
        *(
            f"vae-run $C epochs=60 method={method} 'model.widths=[8,16,32,32]' hydra.run.dir=outputs/cartoons/{method}"
            for method in ("vq_vae", "fsq")
        ),
        "vae-run $C epochs=60 method=kl_autoencoder 'model.widths=[8,16,32,32]' loss.discriminator_width=8 "
        "loss.adversarial_from=300 optimizer.ema=0.99 hydra.run.dir=outputs/cartoons/kl_autoencoder",
        "vae-compare outputs/cartoons/{vae,vq_vae,fsq,kl_autoencoder} --out cartoons.png",
        "vae-run $P figures=none method=vae latent=128 likelihood=gaussian likelihood.scale=optimal model.filters=16 "
        "hydra.run.dir=outputs/photos/vae",
        *(
            f"vae-run $P figures=none method={method} 'model.widths=[8,16,32]' hydra.run.dir=outputs/photos/{method}"
            for method in ("vq_vae", "fsq")
        ),
        "vae-run $P figures=none method=kl_autoencoder 'model.widths=[8,16,32]' loss.adversarial_from=500 "
        "optimizer.ema=0.99 hydra.run.dir=outputs/photos/kl_autoencoder",
        "vae-compare outputs/photos/{vae,vq_vae,fsq,kl_autoencoder} --out photos.png",
    ],
    "is of a run without factors; tests/cli/test_evaluate.py gives them to one": [
        "vae-evaluate RUN evaluation=disentanglement --factors ~/photos.csv",
    ],
    "is of images that have moved; tests/cli/test_moved_data.py moves some": [
        "vae-run resume=outputs/<date>/<time> dataset.root=/new/place",
    ],
    "needs GPUs": [
        "vae-run dataset=fashion hardware=gpu",
        "vae-run hardware=gpu hardware.xla=true hardware.precision=mixed_bfloat16",
        "vae-run hardware=mirrored",
        "vae-run dataset=folder dataset.root=faces dataset.image_size=128 hardware=mirrored batch_size=256",
        "vae-run dataset=folder dataset.root=faces dataset.image_size=128 hardware=mirrored 'hardware.gpus=[0,1]'",
        "vae-run resume=outputs/faces hardware=mirrored",
    ],
    "needs several machines; tests/cli/test_multi_worker.py has processes in their place": [
        "vae-run hardware=multi_worker 'hardware.workers=[node-1:8888,node-2:8888]' hardware.worker=0",
        *(
            "vae-run dataset=folder dataset.root=/data/faces dataset.image_size=128 batch_size=256 "
            f"hardware=multi_worker 'hardware.workers=[node-1:8888,node-2:8888]' hardware.worker={worker} "
            "hydra.run.dir=outputs/faces"
            for worker in (0, 1)
        ),
        "vae-run dataset=folder dataset.root=/data/faces dataset.image_size=128 batch_size=256 hardware=multi_worker",
    ],
    "needs SLURM; tests/cli/test_launchers.py has a stand-in for its commands": [
        "vae-run -m latent=2,8,32 seed=0,1 hydra/launcher=slurm hydra.launcher.partition=gpu "
        "hydra.launcher.gpus_per_node=1",
        "srun vae-run hardware=multi_worker resume=outputs/faces",
        "srun vae-run dataset=folder dataset.root=/data/faces dataset.image_size=128 batch_size=256 epochs=200 "
        "hardware=multi_worker hydra.run.dir=outputs/faces",
        "sbatch faces.sh",
    ],
    "needs a Ray cluster; tests/cli/test_launchers.py starts one": [
        "vae-run -m latent=2,8,32 seed=0,1 hydra/launcher=ray hydra.launcher.ray.init.address=HOST:6379",
    ],
    "is two hundred runs": ["vae-run -m 'seed=range(200)' epochs=1 figures=none"],
    "is a sweep like those of tests/cli/test_sweep.py": [
        "vae-run -m posterior=gaussian,laplace,point loss=vae,beta_tc,mmd sweep.unfit=skip"
    ],
    "is a sweep like those of tests/cli/test_launchers.py": [
        "vae-run -m latent=2,8,32 seed=0,1 hydra/launcher=joblib hydra.launcher.n_jobs=2"
    ],
    "is no command, but the beginning of some": ["nohup vae-run …"],
    "differs from another one in less than what is added here": [
        "vae-run dataset=fashion epochs=1",
        "vae-run epochs=1 figures=none",
        "vae-run -m dataset=digits epochs=2",
        "vae-run -m method=vae,beta_vae,wae_mmd dataset=fashion seed=0,1",
        "vae-run -m latent=2,8,32 seed=0,1",  # digits are the default
        "vae-run -m dataset=digits latent=2,8,32 seed=0,1",
        "vae-run -m dataset=digits latent=2,8,32,64 seed=0,1 sweep=resume",
        "vae-run dataset=fashion dataset.limit=10000 loss.reconstruction_weight=1000 epochs=3 "
        "hydra.run.dir=outputs/mended",
        "vae-evaluate outputs/mended evaluation=structure",
        "vae-run -m latent=2,8,32 seed=0,1 sweep=resume",
        "vae-run init_from=outputs/<date>/<time> optimizer.learning_rate=1e-4",
        "vae-run rerun=outputs/2026-01-31/12-00-00",
        "vae-run rerun=RUN",
    ],
}  # fmt: skip


class Step(NamedTuple):
    """A command as it is documented, and what is added to it here."""

    command: str
    added: str = ""


STORIES = {
    "the tutorial": [
        Step("vae-run --help"),
        Step("vae-run --cfg job"),
        Step("vae-run experiment=tutorial_fashion", FEW),
        Step("vae-run experiment=tutorial_fashion_ae", FEW),
        Step("vae-run experiment=race_fashion", FEW),
        Step("vae-compare outputs/<date>/<time> outputs/<date>/<time> --out compare.png"),
        Step("vae-compare RUN RUN --out compare.png"),
        Step("vae-sample RUN -n 64 --out samples.png"),
        Step("vae-sample RUN --prior mixture -n 64"),
        Step("vae-sample RUN --prior flow -n 64"),
    ],
    "images": [
        Step("vae-run dataset=NAME --cfg job -p dataset"),
        Step("vae-run dataset=cartoon latent=200", SHORT),
        Step("vae-run dataset=folder dataset.root=~/photos dataset.image_size=64", SHORT),
        Step("vae-encode RUN ~/photos --out codes.npz"),
        Step("vae-encode RUN ~/photos --out codes.npz --draws 10"),
        Step("vae-reconstruct RUN ~/photos --out made"),
        Step("vae-reconstruct RUN ~/photos --out reconstructions"),
        Step("vae-sample RUN --like ~/face.png -n 16"),
        Step("vae-sample RUN --between ~/face.png ~/other.png"),
        Step("vae-run dataset=folder dataset.root=~/photos dataset.factors=~/photos.csv", SHORT),
        Step("vae-run dataset=sprites method=beta_vae", FEW),
        Step("vae-run dataset=sprites --cfg job -p dataset"),
        Step(
            "vae-run dataset=sprites 'dataset.shapes=[square]' dataset.scales=1 dataset.orientations=1 method=beta_vae",
            FEW,
        ),
        Step(
            "vae-run dataset=folder dataset.root=~/photos 'dataset.image_size=[96,128]' dataset.channels=1 "
            "dataset.labels=folders",
            SHORT,
        ),
    ],
    "changes": [
        Step("vae-run dataset=fashion", FEW),
        Step("vae-run dataset=fashion loss=ae", FEW),
        Step(
            "vae-run dataset=fashion model.depth=6 latent=8 loss.kl_weight=4 epochs=20 batch_size=256 seed=3",
            "epochs=1 dataset.limit=300 figures=none model.filters=4",
        ),
        Step("vae-run dataset=fashion schedule=cosine optimizer.global_clipnorm=1 loss.kl_warmup_epochs=5", FEW),
        Step("vae-run dataset=fashion dataset.validation_fraction=0.1 early_stopping.metric=validation/loss", FEW),
        Step("vae-run resume=outputs/<date>/<time> checkpoint.models=both"),
    ],
    "methods": [
        Step("vae-run method=beta_tcvae dataset=fashion", FEW),
        Step("vae-run dataset=fashion method=beta_tcvae", FEW),
        Step(
            "vae-run dataset=fashion posterior=laplace prior=mixture likelihood=discretized_logistic loss=renyi",
            FEW,
        ),
        Step("vae-run dataset=mnist dataset.binarize=dynamic likelihood=bernoulli loss=iwae", FEW),
        Step(
            "vae-run method=kl_autoencoder dataset=fashion epochs=20 loss.adversarial_from=2000",
            f"{FEW_MAPS} loss.discriminator_width=2",
        ),
        Step(
            "vae-run -m dataset=fashion model=mlp method=vae,beta_vae,wae_mmd,hyperspherical_vae,vampprior,iaf_vae "
            "sweep.dir=outputs/methods/six",
            FEW_DENSE,
        ),
        Step("vae-compare outputs/methods/six/method_* --out six.png"),
    ],
    "going on": [
        Step("vae-run", FEW),
        Step("vae-run resume=outputs/<date>/<time>", "epochs=2"),
        Step("vae-run resume=outputs/2026-01-31/12-00-00", "epochs=3"),
        Step("vae-run resume=outputs/<date>/<time> epochs=50", "epochs=4"),
        Step("vae-run resume=outputs/<date>/<time> figures=default"),
        Step("vae-run rerun=outputs/<date>/<time>", "epochs=1"),
        Step("vae-run rerun=outputs/<date>/<time> seed=1 epochs=50", "epochs=1"),
        Step("vae-run init_from=outputs/<date>/<time> 'init_parts=[encoder]' prior=mixture", FEW),
        Step("tensorboard --logdir outputs"),
    ],
    "which runs": [
        Step("vae-run", f"{FEW} latent=16"),
        Step("vae-runs"),
        Step("vae-runs --where 'latent>8'"),
        Step("vae-runs --where 'latent>8 and dataset=fashion'", "--where latent=16"),
        Step("vae-runs --metric test/loss --metric test/kl --json"),
        Step("vae-runs best --metric test/loss"),
        Step("vae-runs show RUN"),
        Step("vae-runs tag RUN good baseline"),
        Step("vae-runs --where tag=good"),
        Step('vae-runs note RUN "the one in figure 3"'),
        Step("vae-run", FEW),
        Step("vae-runs rm RUN --yes"),
    ],
    "a sweep": [
        Step("vae-run -m dataset=fashion latent=2,8,32 seed=0,1", FEW_DENSE),
        Step("vae-run -m dataset=fashion latent=2,8,32,64 seed=0,1 sweep=resume", FEW_DENSE),
        Step("vae-run -m dataset=fashion latent=2,8,32,64 seed=0,1 sweep.dir=DIR", FEW_DENSE),
        Step("vae-compare DIR"),
        Step("tensorboard --logdir DIR"),
    ],
    "a search": [
        Step(
            "vae-run -m dataset=fashion hydra/sweeper=optuna hydra.sweeper.n_trials=30",
            f"{FEW_DENSE} hydra.sweeper.n_trials=2",
        ),
        Step(
            "vae-run -m dataset=fashion epochs=20 hydra/sweeper=optuna hydra.sweeper.n_trials=50 "
            "hydra.sweeper.pruner=median",
            f"{FEW_DENSE} hydra.sweeper.n_trials=1",
        ),
    ],
    "several devices": [
        Step("vae-run hardware=mirrored hardware.logical_cpus=2", FEW_DENSE),
        Step(
            "vae-run hardware=multi_worker 'hardware.workers=[127.0.0.1:8888,127.0.0.1:8889]' hardware.worker=1 &",
            f"{FEW_DENSE} hydra.run.dir=outputs/faces",
        ),
        Step(
            "vae-run hardware=multi_worker 'hardware.workers=[127.0.0.1:8888,127.0.0.1:8889]' hardware.worker=0",
            f"{FEW_DENSE} hydra.run.dir=outputs/faces",
        ),
        Step("vae-run resume=outputs/faces hardware=auto", "epochs=2"),
    ],
    "evaluation": [
        Step("vae-run dataset=digits evaluation=default evaluation.every=10", f"{SHORT} dataset.limit=64"),
        Step("vae-evaluate RUN", FEW_DRAWS),
        Step("vae-evaluate RUN evaluation=likelihood evaluation.likelihood.samples=1000", FEW_DRAWS),
        Step("vae-run dataset=sprites method=beta_tcvae latent=10", f"{SHORT} dataset.limit=200 latent=3 {FEW_VALUES}"),
        Step("vae-evaluate RUN evaluation=disentanglement", FEW_TREES),
        Step("vae-evaluate RUN evaluation=all", f"{FEW_DRAWS} {FEW_TREES} {RANDOM_FEATURES}"),
        Step(
            "vae-run dataset=fashion dataset.limit=10000 loss.reconstruction_weight=1 epochs=3 "
            "hydra.run.dir=outputs/collapsed",
            FEW,
        ),
        Step("vae-evaluate outputs/collapsed evaluation=structure", FEW_DRAWS),
    ],
    "a class": [
        Step("vae-run method=cvae dataset=fashion", FEW),
        Step("vae-sample RUN --label Sneaker -n 16"),
    ],
    "codes": [
        Step("vae-run dataset=fashion model=resnet latent=4", FEW_MAPS),
        Step("vae-run dataset=fashion model=conv model.latent=spatial model.downsamplings=1 latent=2", FEW),
        Step("vae-run method=kl_autoencoder dataset=cartoon batch_size=4", f"{SHORT_MAPS} loss.discriminator_width=2"),
        Step("vae-run method=gumbel_vae prior=learned_categorical dataset=fashion", FEW),
        Step("vae-run method=vq_vae dataset=fashion", FEW_MAPS),
        Step("vae-sample RUN --prior autoregressive -n 64"),
    ],
    "one's own parts": [
        Step("PYTHONPATH=. vae-run --config-dir my_conf loss=mine", FEW),
        Step("vae-run resume=RUN 'trust=[my_loss]'", "epochs=2"),
        Step("vae-sample RUN --trust my_model"),
    ],
}  # fmt: skip


# --- what is documented ---------------------------------------------------------------------------------------


def blocks(document: Path, *languages: str) -> list[str]:
    """The fenced pieces of a document in one of these languages, "" for none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", document.read_text(), re.DOTALL | re.MULTILINE)
    return [text for language, text in found if language in languages]


def commands_in(line: str) -> Iterator[str]:
    """The commands in a line of a shell, without prompt and comment."""
    line = re.sub(r"\s+#.*", "", re.sub(r"^[\w-]+\$ ", "", line.strip()))
    for command in line.split(" && "):
        if re.match(rf"(?:\w+=\S* )*{PROGRAMS}(?:\s|$)", command):
            yield " ".join(command.split())


def documented() -> set[str]:
    """All commands in the documents and in the text of --help."""
    found: set[str] = set()
    for document in DOCUMENTS:
        for block in blocks(document, "", "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                found.update(commands_in(line))
        prose = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
        for code in re.findall(rf"`({PROGRAMS}\s[^`]+)`", prose):
            found.update(commands_in(" ".join(code.split())))
    config = (REPOSITORY / "conf" / "config.yaml").read_text()
    for line in config[config.index("First things to try") :].splitlines():
        found.update(commands_in(re.split(r"\s{2,}", line.strip())[0]))
    return found - {"vae-run resume="}  # which is written with nothing behind it where a kind of command is meant


def test_every_documented_command_is_run_here_or_has_a_reason_why_not() -> None:
    run = [step.command.removesuffix(" &") for story in STORIES.values() for step in story]
    left_out = [command for commands in NOT_RUN.values() for command in commands]
    known = {command.removesuffix(" &") for command in documented()}
    assert not known - {*run, *left_out}, "documented, and not run"
    assert not {*run, *left_out} - known, "not documented any more"
    assert not {*run} & {*left_out}


# --- running it -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def home(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with photos in two folders, and the real data where VAE_RUNNER_DATA has it."""
    home = tmp_path_factory.mktemp("home")
    for number, photo in enumerate(sorted((real_data / "cartoonset").glob("*.png"))):
        folder = home / "photos" / ("garden" if number % 2 else "sea")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, folder)
    photos = sorted((home / "photos").rglob("*.png"))
    for photo, name in zip(photos, ("face.png", "other.png"), strict=False):
        shutil.copy(photo, home / name)
    lines = [f"{photo.relative_to(home / 'photos')},{number % 3},red" for number, photo in enumerate(photos)]
    (home / "photos.csv").write_text("\n".join(["file,size,colour", *lines]))
    (home / "data").mkdir()
    for name, folder_name in (("fashion", "fashion-mnist"), ("mnist", "mnist"), ("cartoonset10k", "cartoonset")):
        (home / "data" / name).symlink_to(real_data / folder_name)
    return home


def environment(home: Path) -> dict[str, str]:
    return {
        **os.environ,
        "HOME": str(home),
        "VAE_RUNNER_DATA": str(home / "data"),
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache"),  # compiled operations
        "PATH": f"{COMMANDS}:{os.environ['PATH']}",
    }


def runs_in(folder: Path) -> list[Path]:
    """The run directories below `outputs`, the oldest first; of a sweep its own."""
    found = [p for p in folder.glob("outputs/*/*") if (p / "run.json").exists() or (p / "sweep.csv").exists()]
    return sorted(found, key=lambda path: path.stat().st_ctime)


def filled_in(command: str, folder: Path, ports: list[int]) -> str:
    """The command with something real in place of what stands for it."""
    runs = [str(path.relative_to(folder)) for path in runs_in(folder)]
    wanted = RUN.findall(command)
    for run in runs[-len(wanted) :] if wanted else []:
        command = RUN.sub(run, command, count=1)
    if "DIR" in command:
        command = re.sub(r"\bDIR\b", runs[-1], command)
    for documented_port, port in zip(("8888", "8889"), ports, strict=True):
        command = command.replace(documented_port, str(port))
    return command.replace("dataset=NAME", "dataset=fashion")


def free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def check_tensorboard(command: str, folder: Path, home: Path) -> None:
    """Start it, wait until it says where it answers, and end it."""
    log = folder / "tensorboard.txt"
    with log.open("w") as said:
        process = subprocess.Popen(
            [COMMANDS / "tensorboard", *command.split()[1:], "--port", "0"],
            cwd=folder, env=environment(home), stdout=said, stderr=said,
        )  # fmt: skip
    try:
        for _ in range(600):
            if "at http://" in log.read_text() or process.poll() is not None:
                break
            time.sleep(0.1)
        assert "at http://" in log.read_text(), log.read_text()
    finally:
        process.terminate()
        process.wait()


def check_result(command: str, said: str, folder: Path) -> None:
    """What the command leaves is there: a finished run, a sweep whose runs are, a file."""
    if out := re.search(r"--out (\S+)", command):
        assert (folder / out[1]).stat().st_size > 0
    elif "--help" in command or "--cfg" in command or command.startswith("vae-runs"):
        assert said.strip()
    elif " -m " in command or command.startswith("vae-compare"):
        rows = (runs_in(folder)[-1] / "sweep.csv").read_text().splitlines()[1:]
        assert len(rows) == expected_runs(command), rows
        assert all("finished" in row for row in rows), rows
    else:
        newest = max(folder.glob("outputs/**/run.json"), key=lambda path: path.stat().st_mtime)
        assert json.loads(newest.read_text())["status"] == "finished"


def expected_runs(command: str) -> int:
    if trials := re.findall(r"n_trials=(\d+)", command):
        return int(trials[-1])
    varied = re.search(r"(?:latent|method)=([\w,]+)", command)
    seeds = 2 if "seed=" in command or varied is None else 1
    return seeds * (4 if varied is None else len(varied[1].split(",")))


def needs_shell(line: str) -> bool:
    """Return whether a shell has a part in a line, or its command begins processes of its own or answers at once."""
    words = (" -m ", "hardware=", "*", "--help", "--cfg")
    programs = r"vae-(run|sample|compare|evaluate|encode|reconstruct) "
    return any(word in line for word in words) or re.match(programs, line) is None


def run_by_shell(line: str, folder: Path, home: Path) -> str:
    """Let a shell run it; return what it said."""
    result = subprocess.run(
        ["bash", "-c", line],
        cwd=folder, env=environment(home), capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert result.returncode == 0, f"{line}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}"
    assert "Traceback" not in result.stderr
    return result.stdout


@pytest.mark.parametrize("story", mostly_slow(STORIES))  # the first is the tutorial
def test_documented_commands_work(
    story: str,
    home: Path,
    tmp_path: Path,
    in_process: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ports = free_ports(2)
    if story == "one's own parts":
        write_loss(tmp_path)
    for name, value in environment(home).items():
        monkeypatch.setenv(name, value)
    waiting = ""  # what is to run beside the next command
    for step in STORIES[story]:
        command = filled_in(step.command, tmp_path, ports)
        if command.startswith("tensorboard"):
            check_tensorboard(command, tmp_path, home)
            continue
        background = command.endswith(" &")
        line = f"{command.removesuffix(' &')} {step.added}"
        if background:
            waiting = f"{line} & "
            continue
        if "trust=" in line:
            line = f"PYTHONPATH=. {line}"
        if waiting or needs_shell(line):
            line_and_end = f"{waiting}{line}{'; code=$?; wait $! && exit $code' if waiting else ''}"
            said, waiting = run_by_shell(line_and_end, tmp_path, home), ""
        else:
            words = [re.sub("^~/", f"{home}/", word) for word in shlex.split(line)]
            with untraced() if words[0] == "vae-run" else nullcontext():  # Others take thousands of steps.
                in_process(*words, cwd=tmp_path)
            said = capsys.readouterr().out
        check_result(line, said, tmp_path)


# --- pieces of code -------------------------------------------------------------------------------------------

OPPONENT = """
import keras
import tensorflow as tf
from vae_runner.losses.base import Loss
from vae_runner.losses.elbo import Elbo

class Opposed(Loss):
    terms = ("reconstruction", "kl", "opponent")

    def players(self, autoencoder):
        images = keras.Input(autoencoder.image_shape)
        self.network = keras.Model(images, keras.layers.Dense(1)(keras.layers.Flatten()(images)))
        return {**super().players(autoencoder), "opponent": self.network.trainable_variables}

    def __call__(self, autoencoder, batch, training):
        loss, terms = Elbo()(autoencoder, batch, training)
        made = autoencoder.sample(batch.noise, batch.labels)
        wrong = tf.reduce_mean(tf.nn.softplus(-self.network(batch.images)) + tf.nn.softplus(self.network(made)))
        return {"autoencoder": loss - wrong, "opponent": wrong}, {**terms, "opponent": wrong}
"""
EXTENDING = REPOSITORY / "docs" / "extending.md"


def python_of(heading: str, document: Path = EXTENDING, number: int = 0) -> str:
    """A piece of Python below a heading."""
    below = document.read_text().partition(f"\n## {heading}\n")[2]
    return re.findall(r"^```python\n(.*?)^```$", below, re.DOTALL | re.MULTILINE)[number]


def write_loss(folder: Path) -> None:
    """The loss that docs/extending.md shows, and the YAML beside its command."""
    (folder / "my_loss.py").write_text(python_of("A loss"))
    name, text = re.match(r"(\S+)\s+(_target_.*?)\nPYTHONPATH", blocks(EXTENDING, "")[0], re.DOTALL).groups()  # type: ignore[union-attr]
    write_yaml(folder, name, "\n".join(line.strip() for line in text.splitlines()))


def write_yaml(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_every_piece_of_code_is_run_here() -> None:
    """Those below, and that of sweeps.md in tests/cli/test_search.py; whoever adds one adds its test."""
    pieces = {d.name: len(blocks(d, "python", "yaml")) for d in DOCUMENTS if blocks(d, "python", "yaml")}
    assert pieces == {"README.md": 2, "runs.md": 1, "extending.md": 8, "python.md": 1, "sweeps.md": 1, "methods.md": 1}


@pytest.mark.slow
def test_documented_parts_of_ones_own_work(home: Path, tmp_path: Path) -> None:
    for text in blocks(EXTENDING, "yaml"):
        name = re.search(r"^# (my_conf/\S+)$", text, re.MULTILINE)
        assert name, text
        write_yaml(tmp_path, name[1], text)
    write_yaml(tmp_path, "my_conf/model/mine.yaml", "_target_: my_model.build\nwidth: 8\n")
    (tmp_path / "my_model.py").write_text(python_of("A model"))
    (tmp_path / "my_opponent.py").write_text(OPPONENT)
    write_yaml(tmp_path, "my_conf/dataset/mine.yaml", "_target_: my_data.load\npath: images.npy\n")
    (tmp_path / "my_data.py").write_text(python_of("A dataset"))
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (1050, 8, 8, 1), np.uint8))
    (tmp_path / "my_figures.py").write_text(
        textwrap.dedent("""
        from matplotlib.figure import Figure

        def spread(trained, bins):
            figure = Figure()
            figure.subplots().hist([0.0, 1.0], bins)
            return figure
        """)
    )
    for line in (
        "dataset=mine figures=mine epochs=1 batch_size=16 model.filters=4",
        "model=mine loss=opposed epochs=1 batch_size=16 figures=none dataset.limit=32 hydra.run.dir=mine",
        f"experiment=wide {SHORT} dataset.limit=32",
    ):
        result = subprocess.run(
            ["bash", "-c", f"PYTHONPATH=. vae-run --config-dir my_conf {line}"],
            cwd=tmp_path, env=environment(home), capture_output=True, text=True, timeout=500, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
    assert list(tmp_path.glob("outputs/*/*/figures/spread.png"))
    for trust, status in (("", 2), ("--trust my_model", 0)):
        result = subprocess.run(
            ["bash", "-c", f"PYTHONPATH=. vae-sample mine -n 2 {trust}"],
            cwd=tmp_path, env=environment(home), capture_output=True, text=True, timeout=500, check=False,
        )  # fmt: skip
        assert result.returncode == status, result.stderr
    assert (tmp_path / "samples.png").exists()
    configs = [path.read_text() for path in tmp_path.glob("outputs/*/*/config.yaml")]
    assert sum("latent: 8\n" in config for config in configs) == 1


def test_documented_photographs_are_of_mixed_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(python_of("Sampling beyond the prior", REPOSITORY / "docs" / "methods.md"), {})
    sizes = [Image.open(file).size for file in (tmp_path / "photos").iterdir()]
    assert len(sizes) == 400
    assert min(map(min, sizes)) >= 96
    assert max(map(max, sizes)) <= 256
    assert len(set(sizes)) > 300


def test_documented_python_works(finished_run: Path) -> None:
    pieces = [
        python_of("Use the networks elsewhere", REPOSITORY / "README.md").replace("outputs/<date>/<time>", "run"),
        python_of("Using the networks", REPOSITORY / "docs" / "runs.md").replace("outputs/…", "run"),
        python_of("In a notebook"),
        python_of("In a notebook", number=1).replace("outputs/<date>/<time>", "run"),
        python_of("From Python", REPOSITORY / "README.md").replace("epochs=5", "epochs=1"),
        python_of("Arrays", REPOSITORY / "docs" / "python.md").replace("epochs=5", "epochs=1"),
    ]
    checks = [
        "assert images.shape == (16, 8, 8, 1)",
        "assert images.shape == (16, 8, 8, 1)",
        "assert autoencoder.decoder",
        "assert autoencoder.image_shape == (8, 8, 1)",
        "assert images.shape == (8, 8, 8, 1)",
        "assert draws.shape == (16, 10, 2) and again.shape == (10, 8, 8, 1) and len(losses) == 1 and weight == 4",
    ]
    program = "".join(f"exec({f'{piece}{check}'!r}, {{}})\n" for piece, check in zip(pieces, checks, strict=True))
    result = subprocess.run(
        [COMMANDS / "python", "-c", program],
        cwd=finished_run.parent, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
