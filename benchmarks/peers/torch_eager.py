"""PyTorch, eager, in channels-last: a loop as in PyTorch's own VAE example, over images in memory."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.peers import EPSILON, LATENT, LEARNING_RATE, MOMENTUM, RECONSTRUCTION_WEIGHT, SLOPE, Setting
from benchmarks.peers import images_per_second as timed


class Encoder(nn.Module):
    """Images `[batch, 1, 28, 28]` to mean and log-variance."""

    def __init__(self, latent: int = LATENT) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for filters, stride in ((32, 1), (64, 2), (64, 2), (64, 1)):
            layers += [nn.Conv2d(inputs, filters, 3, stride, padding=1), *_norm(filters)]
            inputs = filters
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.mean = nn.Linear(7 * 7 * 64, latent)
        self.log_var = nn.Linear(7 * 7 * 64, latent)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and log-variance, each `[batch, latent]`."""
        features = self.features(images)
        return self.mean(features), self.log_var(features)


class Decoder(nn.Module):
    """Latents `[batch, latent]` to images."""

    def __init__(self, latent: int = LATENT) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for filters, stride in ((64, 1), (64, 2), (32, 2)):
            inputs = 64
            layers += [
                nn.ConvTranspose2d(inputs, filters, 3, stride, padding=1, output_padding=stride - 1),
                *_norm(filters),
            ]
        self.dense = nn.Linear(latent, 7 * 7 * 64)
        self.images = nn.Sequential(*layers, nn.ConvTranspose2d(32, 1, 3, padding=1), nn.Sigmoid())

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Return images `[batch, 1, 28, 28]`."""
        return self.images(self.dense(z).reshape(-1, 64, 7, 7).contiguous(memory_format=torch.channels_last))


def _norm(filters: int) -> list[nn.Module]:
    # What PyTorch calls momentum is the weight of the new value.
    return [nn.BatchNorm2d(filters, eps=EPSILON, momentum=1 - MOMENTUM), nn.LeakyReLU(SLOPE)]


class Vae(nn.Module):
    """Encoder, decoder, and the loss of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Decoder()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of images `[batch, 1, 28, 28]`."""
        mean, log_var = self.encoder(images)
        z = mean + torch.exp(log_var / 2) * torch.randn_like(mean)
        error = functional.mse_loss(self.decoder(z), images)
        kl = -0.5 * torch.sum(1 + log_var - mean.square() - log_var.exp(), dim=1)
        return RECONSTRUCTION_WEIGHT * error + kl.mean()


def measure(images: np.ndarray, setting: Setting, *, compiled: bool = False) -> float:
    """Train on images `[count, 28, 28, 1]`, and return images a second."""
    device = "cuda" if setting.device == "gpu" else "cpu"
    vae = Vae().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(vae.parameters(), LEARNING_RATE)
    loss_of = torch.compile(vae) if compiled else vae
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).to(device).contiguous(memory_format=torch.channels_last)
    orders = torch.cat([torch.randperm(len(pixels), device=device) for _ in range(_epochs(len(pixels), setting))])
    batches = iter(orders.split(setting.batch_size))

    def take(steps: int) -> None:
        for _ in range(steps):
            batch = pixels[next(batches)].float() / 255
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(batch)
            loss.backward()
            optimizer.step()
        loss.item()

    return timed(take, setting)


def _epochs(count: int, setting: Setting) -> int:
    return -(-(setting.warmup + setting.steps) * setting.batch_size // count)
