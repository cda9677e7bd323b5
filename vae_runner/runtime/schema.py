"""Where and how a run computes: the keys of its hardware."""

from dataclasses import dataclass

from vae_runner.config.keys import Mixed, key
from vae_runner.config.registry import Component, Keys
from vae_runner.errors import UserError


@dataclass
class HardwareConfig(Keys):
    """Where and how the arithmetic runs."""

    device: str = key("auto", choices=("auto", "cpu", "gpu"))
    gpus: list[int] | None = None
    distribution: str = key("none", choices=("none", "mirrored", "multi_worker"))
    logical_cpus: int = key(1, minimum=1, maximum=16, unit="devices")  # with more, they wait for each other for ever
    sync_batch_norm: bool | None = None
    workers: list[str] | None = None
    worker: int | None = key(None, minimum=0)
    memory_growth: bool = True
    memory_limit_mb: int | None = key(None, minimum=1, unit="MB of each GPU")
    xla: Mixed[str | bool] = key("auto", choices=("auto", True, False))
    fuse: bool = True
    custom_ops: Mixed[str | bool] = key("auto", choices=("auto", True, False))
    precision: str = key("float32", choices=("float32", "mixed_bfloat16", "mixed_float16"))
    tensor_float32: bool = True
    deterministic: bool = False
    intra_op_threads: int = key(0, minimum=0, maximum=1024, unit="threads")
    inter_op_threads: int = key(0, minimum=0, maximum=1024, unit="threads")

    def check(self) -> None:
        """Refuse devices, distribution and speed-ups that do not go together."""
        if self.gpus is not None and self.device == "cpu":
            raise UserError("hardware.gpus chooses GPUs, but hardware.device=cpu uses none: leave one of them out")
        if self.logical_cpus > 1 and self.distribution != "mirrored":
            raise UserError(f"hardware.logical_cpus={self.logical_cpus} needs hardware=mirrored, which trains on them")
        if (self.workers is not None or self.worker is not None) and self.distribution != "multi_worker":
            raise UserError("hardware.workers and hardware.worker need hardware=multi_worker, which trains on them")
        if self.xla is True and self.distribution == "multi_worker":
            raise UserError("hardware.xla=true: XLA compiles steps on the devices of one machine; leave it out")
        if self.custom_ops is True and not takes_custom_ops(self):
            raise UserError(
                "hardware.custom_ops=true: custom operations are for fused layers in float32 on a CPU, and "
                "hardware.device, xla, precision or fuse say otherwise; leave it out"
            )


def takes_custom_ops(hardware: HardwareConfig) -> bool:
    """Return whether a run with this hardware can use custom operations, if it is on a CPU."""
    return hardware.fuse and hardware.device != "gpu" and hardware.xla is not True and hardware.precision == "float32"


SHOWN = (
    "device gpus xla precision deterministic custom_ops intra_op_threads workers worker logical_cpus sync_batch_norm"
)
COMPONENTS = (Component("hardware", "auto", None, HardwareConfig, SHOWN),)
