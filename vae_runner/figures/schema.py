"""The figures that a run can draw, and when it draws them."""

from dataclasses import dataclass, field

from vae_runner.config.keys import Content, Mixed, key
from vae_runner.config.registry import Component, Keys
from vae_runner.errors import UserError

MAX_FIGURE_SIDE = 200  # images in a row or column


@dataclass
class FiguresConfig(Keys):
    """Which pictures are drawn, and when."""

    every: int = key(5, minimum=0, unit="epochs")
    animation: bool = False
    periodic: dict[str, Mixed[Content | None]] = field(default_factory=dict)
    final: dict[str, Mixed[Content | None]] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse what is no figure, and figures of more images than can be seen."""
        for when in ("periodic", "final"):
            for name, node in getattr(self, when).items():
                if node is not None and not isinstance(node, dict):
                    raise UserError(f"figures.{when}.{name!s} is no figure: it must be null, or {{_target_: …}}")
                for argument, value in (node or {}).items():
                    if type(value) is int and not 1 <= value <= MAX_FIGURE_SIDE:
                        raise UserError(
                            f"figures.{when}.{name}.{argument}={value}: must be from 1 to {MAX_FIGURE_SIDE}"
                        )


SAMPLES = ("samples", "samples_uniform", "samples_normal")
FIGURES = ("reconstructions", "latent_space", "code_usage", "manifold", "traversals", "interpolations", "loss_curves")
COMPONENTS = (
    Component("figures", "default", None, FiguresConfig, "every animation"),
    *(Component("figure", name, f"vae_runner.figures.samples.{name}") for name in SAMPLES),
    *(Component("figure", name, f"vae_runner.figures.{name}.{name}") for name in FIGURES),
)
