"""Training speed of methods, beside pythae's trainer of the same method: `python -m benchmarks.methods`.

Fashion-MNIST, the tutorial's network with 16 latent dimensions, a Gaussian likelihood with σ = 1, which is what pythae
takes. Every contestant is a process of its own; pythae needs `pip install -e '.[bench]'`. `--parts` measures instead
what each posterior, prior, likelihood and loss adds to a step.
"""

import importlib
import json
import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.peers import Setting, parser
from benchmarks.peers.__main__ import images
from benchmarks.rounds import Contestant, Results, interleave, python, ratios, show, spread, values

LATENT = 16
FIGURE = "images_per_second"
COMMON = (f"latent={LATENT}", "likelihood=gaussian", "likelihood.scale=1")


@dataclass(frozen=True)
class Method:
    """A method as `vae-run` and as pythae name it."""

    name: str  # as tables have it
    overrides: Sequence[str]
    model: str  # the class in `pythae.models`, whose configuration is of the class `config`
    config: str
    keys: Mapping[str, object] = field(default_factory=dict)
    trainer: str = "BaseTrainer"  # the class in `pythae.trainers`, whose configuration ends in Config
    networks: tuple[str, str] = ("Encoder", "Decoder")  # the classes in `benchmarks.peers.pythae_trainer`
    trained_part: float = 1.0  # of a batch: the images whose loss pythae takes


METHODS = {
    "vae": Method("VAE", (), "VAE", "VAEConfig"),
    "iwae": Method(
        "IWAE, K = 5", ("loss=iwae", "loss.samples=5"), "IWAE", "IWAEConfig", {"number_samples": 5},
    ),
    "vamp": Method(
        "VampPrior, K = 100", ("prior=vamp", "prior.pseudo_inputs=100"), "VAMP", "VAMPConfig",
        {"number_components": 100},
    ),
    "beta_tc": Method("β-TCVAE", ("loss=beta_tc",), "BetaTCVAE", "BetaTCVAEConfig", {"beta": 6.0}),
    "wae_mmd": Method(
        "WAE-MMD", ("posterior=point", "loss=mmd"), "WAE_MMD", "WAE_MMD_Config", {"reg_weight": 10.0},
    ),
    "iaf": Method(
        "VAE-IAF, 2 steps", ("posterior=iaf", "posterior.steps=2"), "VAE_IAF", "VAE_IAF_Config",
        {"n_made_blocks": 2, "n_hidden_in_made": 3, "hidden_size": 128},
    ),
    "vq": Method(
        "VQ-VAE, 512 codes", ("posterior=vq", "prior=categorical", "loss=vq"), "VQVAE", "VQVAEConfig",
        {"use_ema": True, "num_embeddings": 512}, networks=("OnePositionEncoder", "OnePositionDecoder"),
    ),
    # pythae divides a batch: the second half makes the z whose dimensions are permuted, and is not reconstructed.
    "factor": Method(
        "FactorVAE", ("loss=factor", "loss.discriminator_depth=5"), "FactorVAE", "FactorVAEConfig", {"gamma": 10.0},
        "AdversarialTrainer", trained_part=0.5,
    ),
    "vae_gan": Method(
        "VAE-GAN", ("loss=vae_gan", "likelihood=mse"), "VAEGAN", "VAEGANConfig", {"reconstruction_layer": 1},
        "CoupledOptimizerAdversarialTrainer",
    ),
}  # fmt: skip


def main() -> None:
    """Measure the contestants, and print the table; or one contestant in this process."""
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=5, help="how often each contestant runs")
    arguments.add_argument("--only", nargs="+", choices=list(METHODS), default=list(METHODS), help="these methods")
    arguments.add_argument("--contestant", choices=list(TRAINERS), help="measure this one here; prints JSON")
    options = vars(arguments.parse_args())
    rounds, only, contestant = options.pop("rounds"), options.pop("only"), options.pop("contestant")
    setting = Setting(**options)
    if contestant:
        print(json.dumps({FIGURE: TRAINERS[contestant](METHODS[only[0]], images(), setting)}))
        return
    contestants = [
        Contestant(
            f"{method} {trainer}",
            python("benchmarks.methods", "--contestant", trainer, "--only", method, *setting.options()),
        )
        for method in only
        for trainer in TRAINERS
    ]
    print_table(interleave(contestants, rounds), only, setting, rounds)


def ours(method: Method, images: np.ndarray, setting: Setting) -> float:
    """Return the images a second of vae-runner's compiled step."""
    peer = importlib.import_module("benchmarks.peers.ours")
    # Losses without a density, like VAE-GAN's, choose another likelihood after the common one, which has a scale.
    common = COMMON if "likelihood=mse" not in method.overrides else COMMON[:1]
    speed: float = peer.measure(images, setting, [*common, *method.overrides])
    return speed


def pythae(method: Method, images: np.ndarray, setting: Setting) -> float:
    """Return the images a second of pythae's trainer."""
    peer, models = importlib.import_module("benchmarks.peers.pythae_trainer"), importlib.import_module("pythae.models")
    config = getattr(models, method.config)(input_dim=(1, 28, 28), latent_dim=LATENT, **method.keys)
    encoder, decoder = (getattr(peer, name)(LATENT) for name in method.networks)
    model = getattr(models, method.model)(config, encoder=encoder, decoder=decoder)
    if method.model == "VAEGAN":  # The default is dense, and ours is not.
        model.set_discriminator(peer.ImageDiscriminator())
    trainers = importlib.import_module("pythae.trainers")
    trainer, trainer_config = (getattr(trainers, f"{method.trainer}{end}") for end in ("", "Config"))
    speed: float = peer.measure_model(model, images, setting, trainer, trainer_config)
    return speed * method.trained_part


TRAINERS: dict[str, Callable[[Method, np.ndarray, Setting], float]] = {"ours": ours, "pythae": pythae}


def print_table(results: Results, methods: Sequence[str], setting: Setting, rounds: int) -> None:
    """Print both speeds of each method, and ours as a multiple of pythae's."""
    rows, medians = [], []
    for method in methods:
        own, theirs = (values(results, f"{method} {trainer}", FIGURE) for trainer in TRAINERS)
        multiples = ratios(own, theirs)
        medians.append(statistics.median(multiples))
        speeds = [f"{statistics.median(speed):,.0f}" for speed in (own, theirs)]
        rows.append([METHODS[method].name, *speeds, f"{spread(multiples)} ×"])
    rows.append(["median of the methods", "", "", f"{statistics.median(medians):.2f} ×"])
    show(
        f"Training on {setting.device}, batch {setting.batch_size}, float32, {LATENT} latent dimensions; "
        f"{os.cpu_count()} cores; median of {rounds} rounds (lowest–highest ratio)",
        ["method", "vae-runner, images/s", "pythae, images/s", "vae-runner to pythae"],
        rows,
    )


if __name__ == "__main__":
    sys.exit(main())
