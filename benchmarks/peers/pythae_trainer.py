"""pythae's own trainer, with encoder and decoder given as its documentation says."""

import logging
import tempfile

import numpy as np
import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, BaseAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback

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


def measure(images: np.ndarray, setting: Setting) -> float:
    """Train on images `[count, 28, 28, 1]`, and return images a second."""
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT)
    return measure_model(VAE(config, encoder=Encoder(LATENT), decoder=Decoder(LATENT)), images, setting)


def measure_model(model: BaseAE, images: np.ndarray, setting: Setting) -> float:
    """Train one of pythae's models on images `[count, 28, 28, 1]`, and return images a second."""
    logging.getLogger("pythae").setLevel(logging.ERROR)
    stopwatch = Stopwatch(setting)

    class StepDone(TrainingCallback):
        def on_train_step_end(self, training_config: BaseTrainerConfig, **kwargs: object) -> None:
            stopwatch.step_done()

    count = (setting.warmup + setting.steps) * setting.batch_size
    floats = torch.from_numpy(np.resize(images, (count, 28, 28, 1))).permute(0, 3, 1, 2).float() / 255
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder, num_epochs=1, learning_rate=LEARNING_RATE, no_cuda=setting.device == "cpu",
            per_device_train_batch_size=setting.batch_size,
        )  # fmt: skip
        dataset = BaseDataset(floats, torch.zeros(count))
        BaseTrainer(model, dataset, training_config=config, callbacks=[StepDone()]).train()
    return stopwatch.images_per_second
