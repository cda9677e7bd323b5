"""Overrides of every kind: each command line runs, or ends in one line that says why it does not.

The overrides are made from the real configuration: every key of every group, with values it allows and others.
"""

import contextlib
import io
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import REPOSITORY, examples
from vae_runner.cli import commands
from vae_runner.cli import main as cli
from vae_runner.config import registry
from vae_runner.config.composition import HydraJob
from vae_runner.config.keys import leaves
from vae_runner.schema import CommandConfig, Config
from vae_runner.storage.run_directory import RunDirectory

COMPOSED = examples(120)
TRAINED = examples(12)
CONF = REPOSITORY / "conf"

GROUPS = {
    "dataset": [
        "digits",
        "fashion",
        "mnist",
        "cartoon",
        "folder",
        "sprites",
        "dsprites",
        "shapes3d",
        "mpi3d",
        "cars3d",
        "smallnorb",
    ],
    "model": ["conv", "mlp"],
    "posterior": ["gaussian", "point"],
    "prior": ["normal"],
    "likelihood": ["mse"],
    "loss": ["vae", "ae"],
    "optimizer": ["adam", "adamw"],
    "schedule": ["constant", "cosine", "exponential"],
    "hardware": ["auto", "cpu", "gpu", "gpu_xla", "mirrored", "multi_worker"],
    "figures": ["default", "none"],
    "sweep": ["new", "resume"],
    "experiment": ["tutorial_fashion", "tutorial_cartoon_ae"],
}


def all_keys() -> dict[str, list[str]]:
    """Every key of the schemas and of the YAML files, and the words that it may be."""
    keys: dict[str, list[str]] = {}
    schemas = [(component.group, component.schema) for component in registry.components()]
    schemas += [(field.name, field.type) for field in fields(CommandConfig) if is_dataclass(field.type)]
    for prefix, schema in schemas:
        for field in fields(schema):
            allowed = [str(choice).lower() for choice in field.metadata.get("choices", ())]
            keys[f"{prefix}.{field.name}".lstrip(".")] = allowed
    for file in CONF.glob("*/*.yaml"):
        content = yaml.safe_load(file.read_text())
        keys |= {f"{file.parent.name}.{key}": [] for key, _ in leaves(content) if "default" not in key} | keys
    return keys


KEYS = all_keys()
HYDRA_KEYS = [
    "hydra.verbose", "hydra.job.name", "hydra.job.config.override_dirname.kv_sep", "hydra.job.env_set", "hydra.help",
    "hydra.job_logging.root.level", "hydra.callbacks", "hydra.output_subdir", "hydra.searchpath", "hydra/job_logging",
    "hydra/launcher", "hydra.job.id", "hydra.runtime", "hydra.overrides", "hydra",
]  # fmt: skip
JUNK = [
    "", "null", "true", "false", "yes", "0", "1", "-1", "2", "3", "1.5", "-0.0", "1e400", "nan", "inf", "-inf",
    "1e-400", "2147483648", "-2147483648", "4294967296", "9223372036854775808", "99999999999999999999999999",
    "9" * 5000, "65536", "65537", "abc", "ü", "日本", "🙂", "\u202e", "\x00", "\n", "\t", "\\", "'", '"', "''", "'a b'",
    "a b", "a,b", "[]", "[1]", "[1,2,3]", "[[1]]", "[" * 50, "]" * 50, "{}", "{a:1}", "{a:{b:[1]}}", "{a:1,a:2}", "(",
    ")", "$", "${", "${}", "${a}", "${latent}", "${seed}", "${oc.env:HOME}", "${oc.env:NO_SUCH}", "${oc.env:}",
    "${now:%Y}", "${now:}", "${run_name:}", "${run_prefix:}", "${hydra:runtime.cwd}", "${hydra:x}",
    "${oc.create:[1]}", "${oc.decode:'{'}", "${oc.dict.keys:model}", "${oc.select:x}", "${dataset}", "${.x}",
    "${..x}", "${model.${model}}", "???", "\\${latent}", "1,2", "choice(1,2)", "range(3)", "range(1,1000000000)",
    "interval(1,2)", "glob(*)", "sort(3,1)", "shuffle(1,2)", "tag(a,1)", "int(1.5)", "str(1)", "json_str(1)",
    "extend_list(1)", "float(x)", "bool(2)", "a=b", "=", "a:b", "~", "!", "#", "# a", "%", "-", "+", "../x", "0x10",
    "0o7", "1_000", ".5", "5.", "1e3", "1e-3", "test/loss", "_target_", "os.system", "vae_runner", "keras.losses.MSE",
    "vae_runner.models.conv.build", "vae_runner.losses.elbo.Elbo", "int", "builtins.print",
]  # fmt: skip
ELSEWHERE = ("data_dir", "dataset.data_dir", "dataset.root", "sweep.dir", "hydra.runtime")  # what is a path anywhere

numbers = st.integers().map(str) | st.floats().map(str) | st.integers(0, 300).map(str)
text = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12)
any_value = st.sampled_from(JUNK) | numbers | text


@st.composite
def overrides(draw: st.DrawFn) -> str:
    """One override: a key there is, nearly is, or is not; a value it allows, or anything."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        group = draw(st.sampled_from(sorted(GROUPS)))
        return f"{group}={draw(st.sampled_from(GROUPS[group]) | any_value)}"
    if kind == 1:
        return draw(text | st.sampled_from(JUNK).map(lambda value: f"={value}"))
    key = draw(
        st.sampled_from(sorted(KEYS)) | st.sampled_from(HYDRA_KEYS) if kind < 9 else text | st.sampled_from(JUNK)
    )
    if kind == 2:
        key += draw(st.sampled_from([".x", ".0", ".", "_", "@x", "@_global_", ":x", "..", "[0]", ".x.y"]))
    if kind == 3:
        sign, value = (
            draw(st.sampled_from(["~", "+", "++", "~~", "!"])),
            draw(st.sampled_from(["", "=1", "={a:1}", "=null"])),
        )
        return f"{sign}{key}{value}"
    value = draw(any_value)
    if key in KEYS and KEYS[key] and draw(st.booleans()):
        value = draw(st.sampled_from(KEYS[key]))
    return f"{key}={value}"


def is_elsewhere(override: str) -> bool:
    """Whether it would have files looked for or written outside the test's folder, or is an option."""
    return override.lstrip("+~").startswith(ELSEWHERE) or "VAE_RUNNER" in override or override.startswith("-")


def run(arguments: Sequence[str], folder: Path) -> str | None:
    """`vae-run` in this process: None if it ran, else the one line that it says. Anything else is a failure."""
    said = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        patch.setattr("logging.config._clearExistingHandlers", lambda: None)
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["vae-run", *arguments])
        for name in ("VAE_RUNNER_DATA", "KERAS_HOME"):
            patch.setenv(name, str(folder / "data"))
        try:
            commands.run()
            return None
        except SystemExit as end:
            status = end.code
    assert status == 2, (status, said.getvalue())
    line = said.getvalue()
    assert re.fullmatch(r"vae-run: [^\n]+\n", line), line
    return line


SETTINGS: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    "print_blob": True,
}


class Nothing:
    """In place of `vae_runner.run`: the configuration is all that is looked at."""

    @staticmethod
    def run(config: Config, job: HydraJob, *, resumed: bool) -> None:
        assert not resumed
        assert job.directory


@settings(max_examples=COMPOSED, **SETTINGS)
@given(st.lists(overrides().filter(lambda override: not is_elsewhere(override)), min_size=1, max_size=3))
def test_any_overrides_make_a_checked_configuration_or_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given_: list[str]
) -> None:
    monkeypatch.setattr(cli, "_import", lambda name, crash_file=None: Nothing)
    run([*given_, "hydra.run.dir=run"], tmp_path)


# What TensorFlow sets once in a process, compiles for long, or waits for; and what the test itself sets.
FIXED = re.compile(
    r"hardware\.(deterministic|.*threads|xla|gpus|device)|epochs|dataset|resume|sweep|trust|.*(_target_|_partial_)"
)
TINY = ("epochs=1", "hydra.run.dir=run", "figures=none", "dataset.limit=8")
SMALL_PICTURES = [
    f"+figures.{when}.drawn={{_target_: vae_runner.figures.{name}, _partial_: true{sizes}}}"
    for when in ("periodic", "final")
    for name, sizes in (
        ("samples.samples", ", rows: 1, columns: 2"),
        ("manifold.manifold", ", side: 2"),
        ("latent_space.latent_space", ""),
        ("reconstructions.reconstructions", ", images: 200"),
        ("traversals.traversals", ", rows: 200, columns: 1"),
        ("interpolations.interpolations", ", rows: 3, columns: 1"),
    )
]


def edges(field: Any) -> list[str]:
    """Values of a key that are at the edge of what it allows."""
    bounds = field.metadata.get("bounds", {})
    values = [str(bound) for bound in bounds.values()] + [
        str(choice).lower() for choice in field.metadata.get("choices", ())
    ]
    if "float" in str(field.type):
        values += ["1e-30", "1e-7", "0.5", "1e7", "1e30"]
    elif "int" in str(field.type):
        values += ["1", "2", "3", "32", "1000000", str(2**31), str(2**63 - 1)]
    return [*values, "null"]


EDGES = {
    f"{component.group}.{field.name}": edges(field)
    for component in registry.components()
    if component.group in registry.parts()
    for field in fields(component.schema)
} | {field.name: edges(field) for field in fields(CommandConfig) if not is_dataclass(field.type)}
EDGES |= {
    f"{part.name}.{field.name}": edges(field)
    for part in fields(CommandConfig)
    if is_dataclass(part.type)
    for field in fields(part.type)
}
EDGES = {key: values for key, values in EDGES.items() if not FIXED.match(key)}
MODELS = (
    ("model=conv", "model.filters=2"),
    ("model=conv", "model.filters=[1,2,3]", "model.depth=3"),
    ("model=conv", "model.filters=null"),
    ("model=mlp", "model.width=8"),
)


@st.composite
def near_edges(draw: st.DrawFn) -> list[str]:
    """A model, a loss, a schedule, and some of their keys at the edge of what these allow."""
    chosen = list(draw(st.sampled_from(MODELS)))
    for group in ("loss", "optimizer", "schedule"):
        chosen.append(f"{group}={draw(st.sampled_from(GROUPS[group]))}")
    chosen += draw(st.lists(st.sampled_from(SMALL_PICTURES), max_size=1))
    for key in draw(st.lists(st.sampled_from(sorted(EDGES)), max_size=4, unique=True)):
        chosen.append(f"{key}={draw(st.sampled_from(EDGES[key]) | numbers)}")
    return chosen


@settings(max_examples=TRAINED, **SETTINGS)
@given(near_edges())
def test_what_is_at_the_edge_of_what_is_allowed_runs_or_is_refused_in_one_line(
    tmp_path: Path, given_: list[str]
) -> None:
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    said = run([*TINY, *given_], tmp_path)
    if said is None:
        assert RunDirectory.open_finished(tmp_path / "run").info["epoch"] == 1
