"""pythae's own trainer, with encoder and decoder given as its documentation says."""

import logging
import tempfile

import numpy as np
import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, BaseAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseDiscriminator, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import nn

from benchmarks.peers import LATENT, LEARNING_RATE, Setting, Stopwatch, torch_eager


class Encoder(BaseEncoder):
    """The network of `torch_eager`, behind pythae's interface."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.network = torch_eager.Encoder(latent)

    def forward(self, images: torch.Tensor) -> ModelOutput:
        """Return mean and log-variance, each `[batch, latent]`."""
        mean, log_var = self.network(images)
        return ModelOutput(embedding=mean, log_covariance=log_var)


class Decoder(BaseDecoder):
    """The network of `torch_eager`, behind pythae's interface."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.network = torch_eager.Decoder(latent)

    def forward(self, z: torch.Tensor) -> ModelOutput:
        """Return images `[batch, 1, 28, 28]`."""
        return ModelOutput(reconstruction=self.network(z))


class OnePositionEncoder(Encoder):
    """The same for posteriors of codes: the mean is a map of one position, which a code stands for."""

    def forward(self, images: torch.Tensor) -> ModelOutput:
        """Return the embedding, `[batch, latent, 1, 1]`."""
        return ModelOutput(embedding=self.network(images)[0][:, :, None, None])


class OnePositionDecoder(Decoder):
    """The decoder of maps of one position."""

    def forward(self, z: torch.Tensor) -> ModelOutput:
        """Return images of `[batch, latent, 1, 1]`."""
        return super().forward(z.flatten(1))


class ImageDiscriminator(BaseDiscriminator):
    """The discriminator of `vae_runner.losses.discriminators.of_images`, as VAE/GAN takes it: probabilities."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        convolution = [nn.Conv2d(1, width, 5, 1, 2)]
        blocks, inputs = [], width
        for i, filters in enumerate((4 * width, 8 * width, 8 * width)):
            before = [nn.ReLU()] if i == 0 else [nn.GroupNorm(1, inputs), nn.ReLU()]
            blocks += [*before, nn.Conv2d(inputs, filters, 5, 2, 2)]
            inputs = filters
        dense = [
            nn.GroupNorm(1, inputs), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4 * inputs, 16 * width),
            nn.LayerNorm(16 * width), nn.ReLU(), nn.Linear(16 * width, 1), nn.Sigmoid(),
        ]  # fmt: skip
        self.layers = nn.ModuleList([nn.Sequential(*convolution, *blocks), nn.Sequential(*dense)])
        self.depth = 2

    def forward(self, images: torch.Tensor, output_layer_levels: list[int] | None = None) -> ModelOutput:
        """Return the features, if they are asked for, or the probability that images are real."""
        features = self.layers[0](images)
        if output_layer_levels is not None:
            return ModelOutput(embedding_layer_1=features)
        return ModelOutput(embedding=self.layers[1](features))


def measure(images: np.ndarray, setting: Setting) -> float:
    """Train on images `[count, 28, 28, 1]`, and return images a second."""
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT)
    return measure_model(VAE(config, encoder=Encoder(LATENT), decoder=Decoder(LATENT)), images, setting)


def measure_model(
    model: BaseAE,
    images: np.ndarray,
    setting: Setting,
    trainer: type[BaseTrainer] = BaseTrainer,
    config_of: type[BaseTrainerConfig] = BaseTrainerConfig,
) -> float:
    """Train one of pythae's models on images `[count, 28, 28, 1]`, and return images a second."""
    logging.getLogger("pythae").setLevel(logging.ERROR)
    stopwatch = Stopwatch(setting)

    class StepDone(TrainingCallback):
        def on_train_step_end(self, training_config: BaseTrainerConfig, **kwargs: object) -> None:
            stopwatch.step_done()

    count = (setting.warmup + setting.steps) * setting.batch_size
    floats = torch.from_numpy(np.resize(images, (count, 28, 28, 1))).permute(0, 3, 1, 2).float() / 255
    with tempfile.TemporaryDirectory() as folder:
        rates = {key: LEARNING_RATE for key in vars(config_of) if key.endswith("learning_rate")}
        config = config_of(
            output_dir=folder, num_epochs=1, no_cuda=setting.device == "cpu",
            per_device_train_batch_size=setting.batch_size, **rates,
        )  # fmt: skip
        dataset = BaseDataset(floats, torch.zeros(count))
        trainer(model, dataset, training_config=config, callbacks=[StepDone()]).train()
    return stopwatch.images_per_second
