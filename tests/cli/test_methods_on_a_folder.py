"""A sweep over methods whose z are codes or maps, on a folder of images of mixed sizes, as someone with photos does."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import command

SIZES = ((20, 14), (16, 30), (40, 40), (9, 17))  # width and height
SMALL = (
    *("epochs=1", "batch_size=8", "dataset.image_size=16", "dataset.test_fraction=0.25"),
    # It is the network of all three, and named here: a sweep takes the keys of what is chosen for all of its runs.
    *("model=resnet", "model.widths=4"),
    *("figures.periodic.samples.rows=2", "figures.periodic.samples.columns=2", "figures.final.traversals.rows=2"),
    *("figures.final.interpolations.rows=2", "figures.final.samples_normal=null"),
)


def write_photos(folder: Path, count: int) -> None:
    """Gradients in colour, grey, and with transparency, half of them in a sub-folder."""
    rng = np.random.default_rng(0)
    (folder / "more").mkdir(parents=True)
    for number in range(count):
        (width, height), mode = SIZES[number % len(SIZES)], ("RGB", "L", "RGBA")[number % 3]
        corners = rng.integers(0, 256, (2, 2, 4), np.uint8)
        image = Image.fromarray(corners).resize((width, height), Image.Resampling.BILINEAR).convert(mode)
        image.save(folder / ("more" if number % 2 else "") / f"{number:02}.png")


@pytest.mark.slow
def test_a_sweep_over_methods_of_codes_and_maps_trains_on_a_folder_of_mixed_sizes(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 32)
    methods = "method=vq_vae,kl_autoencoder,fsq"
    result = command(
        "vae-run", "-m", methods, "dataset=folder", "dataset.root=photos", *SMALL, "sweep.dir=sweep", cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    with (tmp_path / "sweep" / "sweep.csv").open(newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert rows.keys() == {"vq_vae", "kl_autoencoder", "fsq"}
    for method, codes, own in (
        ("vq_vae", 512, {"quantization", "kl"}),
        ("fsq", 8 * 5 * 5 * 5, set()),
        ("kl_autoencoder", 0, {"kl", "gradient_ratio", "adversarial", "discriminator"}),
    ):
        run = tmp_path / "sweep" / rows[method]["run"]
        info = json.loads((run / "run.json").read_text())
        assert info["status"] == "finished"
        assert {name: split["images"] for name, split in info["data"].items()} == {"train": 24, "test": 8}
        metrics = info["metrics"]
        assert all(map(math.isfinite, metrics.values()))
        terms = {name.partition("/")[2] for name in metrics if name.startswith("test/")}
        assert terms == {"loss", "reconstruction"} | own | ({"perplexity", "usage"} if codes else set())
        figures = {file.relative_to(run / "figures").with_suffix("").parts[0] for file in run.rglob("figures/**/*.png")}
        assert {"reconstructions", "samples", "loss_curves"} <= figures
        if codes:
            assert 1 <= metrics["test/perplexity"] <= codes * metrics["test/usage"] * (1 + 1e-6)
            assert 1 / codes <= metrics["test/usage"] <= 1
            assert "code_usage" in figures
            assert not figures & {"latent_space", "interpolations", "traversals"}
        else:
            assert metrics["test/kl"] > 0
            assert {"latent_space", "interpolations", "traversals"} <= figures
            assert "code_usage" not in figures
        assert (run / "models" / "decoder.keras").is_file()
        if method == "vq_vae":  # whose prior holds all codes for equally likely, at each of 8×8 positions
            assert metrics["test/kl"] == pytest.approx(64 * math.log(512), rel=1e-5)
