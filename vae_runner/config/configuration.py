"""The typed schema of the whole configuration, and the checks that need nothing but the configuration.

Every key of `conf/` has its type, allowed values and unit here; its value and a comment are in the YAML. The
dataclasses are registered with Hydra as `schema/<group>/<name>`, which the YAML of a component names in its defaults
list. A YAML of the user's own that names none is taken as it is.
"""

import dataclasses
import inspect
import math
import operator
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vae_runner.compat.hydra import rename_plugin_presets
from vae_runner.config.refusals import explain_target
from vae_runner.errors import YAML_WORDS, UserError, check_name, did_you_mean

MAX_SEED = 2**32 - 1  # what NumPy's legacy seeding, and so Keras's, accepts
PARTS = (
    "dataset",
    "model",
    "posterior",
    "prior",
    "likelihood",
    "loss",
    "optimizer",
    "schedule",
)  # what is built from a `_target_`
COMMAND_KEYS = ("resume", "trust", "sweep")  # what a command is to do, and no part of the run that it does
FOLDER_KEYS = ("data_dir", "dataset.data_dir", "dataset.root")
MAX_FIGURE_SIDE = 200  # images in a row or column
LARGEST_INT = 2**63 - 1
# Of Hydra's plugins, which ours of the same names are built on.
PLUGIN_PRESETS = (("launcher", "joblib"), ("launcher", "ray"), ("launcher", "submitit_local"), ("sweeper", "optuna"))
SMALLEST_FLOAT, LARGEST_FLOAT = 1.2e-38, 3.4e38  # of float32, which losses and optimizers are computed in
COMPARISONS = {
    "at least": operator.ge,
    "greater than": operator.gt,
    "at most": operator.le,
    "less than": operator.lt,
}


def key(
    default: Any = MISSING,
    *,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    below: float | None = None,
    choices: tuple[Any, ...] = (),
    unit: str = "",
) -> Any:
    """A dataclass field and the values it allows: `minimum` and `maximum` themselves too, `above` and `below` not."""
    bounds = dict(zip(COMPARISONS, (minimum, above, maximum, below), strict=True))
    allowed = {"bounds": {word: bound for word, bound in bounds.items() if bound is not None}}
    metadata = allowed | {"choices": choices, "unit": unit}
    return field(default=default, metadata=metadata)


# --- datasets -------------------------------------------------------------------------------------------------


@dataclass
class DatasetConfig:
    """What every dataset has."""

    _target_: str = MISSING
    limit: int | None = key(None, minimum=1, unit="images of each split")
    validation_fraction: float = key(0.0, minimum=0, below=1, unit="of the training images")


@dataclass
class DigitsConfig(DatasetConfig):
    """scikit-learn's bundled digits."""

    test_fraction: float = key(0.2, above=0, below=1, unit="of all images")


@dataclass
class IdxConfig(DatasetConfig):
    """A dataset of four IDX files: MNIST, Fashion-MNIST."""

    root: str | None = None
    data_dir: str = "${data_dir}"
    url: str = MISSING


@dataclass
class FolderConfig(DatasetConfig):
    """A folder of image files."""

    root: str | None = None
    data_dir: str = "${data_dir}"
    image_size: Any = MISSING  # an integer or [height, width]
    channels: int = key(3, choices=(1, 3))
    background: Any = "white"  # a colour name, "#rrggbb", or [r, g, b]
    crop: bool = False
    labels: str | None = key(None, choices=("folders",))
    test_fraction: float = key(0.1, above=0, below=1, unit="of all images")
    on_error: str = key("stop", choices=("stop", "skip"))


@dataclass
class CartoonConfig(FolderConfig):
    """Google's Cartoon Set."""

    variant: str = key("10k", choices=("10k", "100k"))
    url: str = MISSING


# --- models ---------------------------------------------------------------------------------------------------


@dataclass
class ConvConfig:
    """The tutorial's family of convolutional networks."""

    _target_: str = MISSING
    depth: int | None = key(None, minimum=1, maximum=32, unit="blocks")
    downsamplings: int | None = key(None, minimum=0, maximum=32, unit="blocks of stride 2")
    filters: Any = None  # None, an integer, or a list with one integer a block
    kernel_size: int = key(3, minimum=1, maximum=15, unit="pixels")
    normalization: str = key("batch", choices=("batch", "layer", "none"))
    batch_norm_momentum: float = key(0.9, minimum=0, below=1)
    leaky_relu_slope: float = key(0.2, minimum=0, maximum=1)


@dataclass
class MlpConfig:
    """Dense layers only."""

    _target_: str = MISSING
    depth: int = key(2, minimum=1, maximum=32, unit="hidden layers")
    width: int = key(512, minimum=1, maximum=65536, unit="units a hidden layer")
    normalization: str = key("none", choices=("batch", "layer", "none"))
    batch_norm_momentum: float = key(0.9, minimum=0, below=1)
    leaky_relu_slope: float = key(0.2, minimum=0, maximum=1)


# --- losses, optimizers, learning-rate schedules --------------------------------------------------------------


@dataclass
class AeConfig:
    """The plain autoencoder's loss."""

    _target_: str = MISSING
    reconstruction_weight: float | None = key(None, minimum=0)


@dataclass
class VaeConfig(AeConfig):
    """The variational autoencoder's loss."""

    kl_weight: float = key(1.0, minimum=0)
    kl_warmup_epochs: float = key(0.0, minimum=0, unit="epochs")


@dataclass
class AdamConfig:
    """Adam and AdamW."""

    _target_: str = MISSING
    learning_rate: float = key(5e-4, above=0)
    beta_1: float = key(0.9, minimum=0, below=1)
    beta_2: float = key(0.999, minimum=0, below=1)
    epsilon: float = key(1e-7, above=0)
    weight_decay: float | None = key(None, minimum=0)
    clipnorm: float | None = key(None, above=0)
    clipvalue: float | None = key(None, above=0)
    global_clipnorm: float | None = key(None, above=0)


@dataclass
class AdamWConfig(AdamConfig):
    """AdamW, whose weight decay is its point."""

    weight_decay: float = key(0.004, minimum=0)


@dataclass
class ConstantConfig:
    """The learning rate stays what it is."""

    _target_: str = MISSING
    _partial_: bool = True
    warmup_epochs: float = key(0.0, minimum=0, unit="epochs")


@dataclass
class CosineConfig(ConstantConfig):
    """The learning rate falls along half a cosine."""

    final_factor: float = key(0.0, minimum=0, maximum=1)


@dataclass
class ExponentialConfig(ConstantConfig):
    """The learning rate is multiplied by `decay` every epoch."""

    decay: float = key(0.95, above=0, maximum=1)


# --- the rest -------------------------------------------------------------------------------------------------


@dataclass
class EarlyStoppingConfig:
    """When to stop before the last epoch."""

    metric: str | None = None
    patience: int = key(5, minimum=1, unit="epochs")
    min_delta: float = key(0.0, minimum=0)


@dataclass
class CheckpointConfig:
    """When checkpoints are written, and which are kept."""

    every: int = key(1, minimum=0, unit="epochs")
    every_minutes: float = key(10.0, minimum=0, unit="minutes")
    keep: int = key(2, minimum=1, unit="checkpoints")
    metric: str | None = "test/loss"


@dataclass
class HardwareConfig:
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
    xla: Any = key("auto", choices=("auto", True, False))
    custom_ops: Any = key("auto", choices=("auto", True, False))
    precision: str = key("float32", choices=("float32", "mixed_bfloat16", "mixed_float16"))
    tensor_float32: bool = True
    deterministic: bool = False
    intra_op_threads: int = key(0, minimum=0, maximum=1024, unit="threads")
    inter_op_threads: int = key(0, minimum=0, maximum=1024, unit="threads")


@dataclass
class FiguresConfig:
    """Which pictures are drawn, and when."""

    every: int = key(5, minimum=0, unit="epochs")
    periodic: dict[str, Any] = field(default_factory=dict)
    final: dict[str, Any] = field(default_factory=dict)


@dataclass
class SweepConfig:
    """What a sweep goes on with, and what it is judged by."""

    resume: bool = False
    dir: str | None = None
    metric: str = "test/loss"


@dataclass
class Config:
    """One run."""

    latent: int = key(2, minimum=1, maximum=65536, unit="dimensions")
    epochs: int = key(10, minimum=1)
    batch_size: int = key(128, minimum=1, unit="images")
    seed: int = key(0, minimum=0, maximum=MAX_SEED)
    data_dir: str = MISSING
    dataset: Any = MISSING
    model: Any = MISSING
    posterior: Any = MISSING
    prior: Any = MISSING
    likelihood: Any = MISSING
    loss: Any = MISSING
    optimizer: Any = MISSING
    schedule: Any = MISSING
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    figures: FiguresConfig = field(default_factory=FiguresConfig)
    resume: str | None = None
    trust: list[str] = field(default_factory=list)
    sweep: SweepConfig = field(default_factory=SweepConfig)


SCHEMAS: dict[str, type] = {
    "dataset/digits": DigitsConfig,
    "dataset/idx": IdxConfig,
    "dataset/folder": FolderConfig,
    "dataset/cartoon": CartoonConfig,
    "model/conv": ConvConfig,
    "model/mlp": MlpConfig,
    "loss/ae": AeConfig,
    "loss/vae": VaeConfig,
    "optimizer/adam": AdamConfig,
    "optimizer/adamw": AdamWConfig,
    "schedule/constant": ConstantConfig,
    "schedule/cosine": CosineConfig,
    "schedule/exponential": ExponentialConfig,
}


def register_schemas() -> None:
    """Make the dataclasses known to Hydra, under `schema/`, so that YAML files can name them."""
    store = ConfigStore.instance()
    store.store(group="schema", name="config", node=Config)
    for path, schema in SCHEMAS.items():
        group, name = path.split("/")
        store.store(group=f"schema/{group}", name=name, node=schema)
    rename_plugin_presets(PLUGIN_PRESETS, "_plugin")


def number_keys() -> set[str]:
    """Return the dotted keys that are numbers, or null, in every schema that has them."""
    found: dict[str, bool] = {}
    places: list[tuple[str, Any]] = [
        ("", Config),
        *((f"{path.partition('/')[0]}.", schema) for path, schema in SCHEMAS.items()),
    ]
    for prefix, schema in places:
        for field_ in dataclasses.fields(schema):
            key_ = f"{prefix}{field_.name}"
            if dataclasses.is_dataclass(field_.type):
                places.append((f"{key_}.", field_.type))
            found[key_] = found.get(key_, True) and field_.type in (int, float, int | None, float | None)
    return {key_ for key_, is_number in found.items() if is_number}


def check(config: DictConfig) -> None:
    """Refuse what can be seen to be wrong from the configuration alone; resolves its interpolations in place.

    Raises:
        UserError: an interpolation leads nowhere, a key is unknown or without a value, a number is out of its range, or
            a word is none of those allowed.
    """
    try:
        OmegaConf.resolve(config)
    except OmegaConfBaseException as error:
        where = next(
            (f"{key}={value}: " for key, value in _interpolations(config) if not _leads_somewhere(config, key)), ""
        )
        raise UserError(f"{where}{str(error).splitlines()[0]}: write a value") from error
    check_values(config)
    for name in PARTS:
        if not isinstance(config[name], DictConfig) or "_target_" not in config[name]:
            raise UserError(f"{name} names nothing to build: its YAML needs keys, and among them a _target_")
    _check_folders(config)
    _check_clipping(config)
    _check_figures(config.figures)
    _check_hardware(config.hardware)


def check_values(config: DictConfig) -> None:
    """Refuse a key with a value that its schema does not allow.

    Raises:
        UserError: a number is out of its range, or a word is none of those allowed.
    """
    for path, value, schema_field in _typed_keys(config, ""):
        _check_value(path, value, schema_field)
    _check_filters(config)


def _check_folders(config: DictConfig) -> None:
    """Refuse what names no folder; the one that data is kept in only where the dataset has any to keep."""
    for path in FOLDER_KEYS:
        folder = OmegaConf.select(config, path)
        check_folder(path, folder)
        if path == "data_dir" or not isinstance(folder, str):
            continue
        name = "data_dir" if folder == config.data_dir else path
        try:
            check_name(f"{name}={Path(folder).expanduser()}")
        except RuntimeError as error:
            raise UserError(f"{name}={folder}: there is no home that ~ could stand for: give {name}=DIR") from error


def check_folder(path: str, value: Any) -> None:
    """Refuse what the key `path` gives, if it can be no folder."""
    if value == "":
        raise UserError(f"{path}= is empty: give a folder, or leave it out")
    if re.match(r"[a-z][a-z0-9+.-]+://", str(value), re.IGNORECASE):
        raise UserError(f"{path}={value} is an address: give a folder of this machine, and put the files there before")


def _short(value: int) -> str:
    return str(value) if abs(value) < 10**24 else f"{str(value)[:20]}…"


def _interpolations(config: DictConfig) -> Iterator[tuple[str, str]]:
    """The keys whose values are to be looked up, and those values, like `${epochs}`."""
    for path, value in leaves(OmegaConf.to_container(config, resolve=False)):
        if isinstance(value, str) and "${" in value:
            yield path, value


def _leads_somewhere(config: DictConfig, path: str) -> bool:
    try:
        OmegaConf.select(config, path)
        return True
    except OmegaConfBaseException:
        return False


def _check_hardware(hardware: DictConfig) -> None:
    if hardware.gpus is not None and hardware.device == "cpu":
        raise UserError("hardware.gpus chooses GPUs, but hardware.device=cpu uses none: leave one of them out")
    if hardware.logical_cpus > 1 and hardware.distribution != "mirrored":
        raise UserError(f"hardware.logical_cpus={hardware.logical_cpus} needs hardware=mirrored, which trains on them")
    if (hardware.workers is not None or hardware.worker is not None) and hardware.distribution != "multi_worker":
        raise UserError("hardware.workers and hardware.worker need hardware=multi_worker, which trains on them")
    if hardware.xla is True and hardware.distribution == "multi_worker":
        raise UserError("hardware.xla=true: XLA compiles steps on the devices of one machine; leave it out")
    if hardware.custom_ops is True and not takes_custom_ops(hardware):
        raise UserError(
            "hardware.custom_ops=true: custom operations are for float32 on a CPU, and hardware.device, xla or "
            "precision say otherwise; leave it out"
        )


def takes_custom_ops(hardware: Any) -> bool:
    """Whether a run with this hardware can use custom operations, if it is on a CPU."""
    return hardware.device != "gpu" and hardware.xla is not True and hardware.precision == "float32"


def of_the_run(config: DictConfig) -> DictConfig:
    """Return a copy of the configuration without what only this command is told, its interpolations resolved.

    Only the configuration as a whole knows what they mean: they may name a key that is left out here, and a part that
    is taken out of its tree would look them up in itself. Folders are absolute, so that they are found from anywhere.
    """
    own = OmegaConf.masked_copy(config, [str(name) for name in config if name != "hydra"])
    OmegaConf.resolve(own)
    for path in FOLDER_KEYS:
        if isinstance(folder := OmegaConf.select(own, path), str) and folder:
            OmegaConf.update(own, path, _absolute(folder))
    return OmegaConf.masked_copy(own, [str(name) for name in own if name not in COMMAND_KEYS])


def _absolute(folder: str) -> str:
    """Return the folder as it is called from anywhere; as it is, what has no home to begin with, or is an address."""
    folder = os.path.expanduser(folder)  # noqa: PTH111 (Path raises where there is no home, and collapses the // of ://)
    return folder if folder.startswith("~") or "://" in folder else os.path.abspath(folder)  # noqa: PTH100 (keeps links)


def without_output(config: DictConfig) -> DictConfig:
    """The configuration for a machine that takes part in a run of which another one writes."""
    changed = config.copy()
    changed.figures.every, changed.figures.periodic, changed.figures.final = 0, {}, {}
    changed.checkpoint.every, changed.checkpoint.every_minutes, changed.checkpoint.metric = 0, 0, None
    return changed


def _typed_keys(node: DictConfig, prefix: str) -> Iterator[tuple[str, Any, dataclasses.Field[Any]]]:
    """Each key below `node` that has a schema: its dotted path, value and dataclass field."""
    schema = OmegaConf.get_type(node)
    fields = {f.name: f for f in dataclasses.fields(schema)} if dataclasses.is_dataclass(schema) else {}
    for missing in fields.keys() - node.keys():
        raise UserError(f"{prefix}{missing} was removed from the configuration: it needs a value")
    for key_ in node:
        name = str(key_)
        path = f"{prefix}{name}"
        if fields and name not in fields:
            raise UserError(f"there is no key '{path}'.{did_you_mean(name, fields)} Leave it out.")
        if OmegaConf.is_missing(node, name):
            raise UserError(f"{path} has no value: give it one ({path}=…)")
        value = node[name]
        if name in fields:
            yield path, value, fields[name]
        if isinstance(value, DictConfig):
            yield from _typed_keys(value, f"{path}.")


def _check_value(path: str, value: Any, schema_field: dataclasses.Field[Any]) -> None:
    choices = schema_field.metadata.get("choices", ())
    if (
        value is not None
        and choices
        and not any(value is c or (value == c and type(value) is type(c)) for c in choices)
    ):
        shown = [str(c).lower() if isinstance(c, bool) else str(c) for c in choices]
        words = f" {YAML_WORDS}" if str(value) in ("True", "False") else ""
        raise UserError(f"{path}={value}: must be one of {', '.join(shown)}.{did_you_mean(str(value), shown)}{words}")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    unit = f" ({schema_field.metadata['unit']})" if schema_field.metadata.get("unit") else ""
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{path}={value}: must be a finite number{unit}")
    for word, bound in schema_field.metadata.get("bounds", {}).items():
        if not COMPARISONS[word](value, bound):
            raise UserError(f"{path}={value}: must be {word} {bound:{'d' if isinstance(bound, int) else 'g'}}{unit}")
    if isinstance(value, int) and abs(value) > LARGEST_INT:
        raise UserError(f"{path}={_short(value)}: must be at most {LARGEST_INT}{unit}")
    if isinstance(value, float) and value and not SMALLEST_FLOAT <= abs(value) <= LARGEST_FLOAT:
        raise UserError(f"{path}={value}: must be 0, or from {SMALLEST_FLOAT:g} to {LARGEST_FLOAT:g}{unit}")


def _check_filters(config: DictConfig) -> None:
    filters = OmegaConf.select(config, "model.filters")
    if filters is None or OmegaConf.get_type(config.model) is not ConvConfig:
        return
    values = list(filters) if isinstance(filters, ListConfig) else [filters]
    if not values or not all(type(v) is int and 1 <= v <= 65536 for v in values):
        raise UserError(
            f"model.filters={filters}: must be an integer from 1 to 65536, or a list with one such integer a block"
        )


def _check_clipping(config: DictConfig) -> None:
    given = [name for name in ("clipnorm", "global_clipnorm", "clipvalue") if config.optimizer.get(name) is not None]
    if len(given) > 1:
        raise UserError(f"optimizer.{given[0]} and optimizer.{given[1]} exclude each other: give one of them")


def _check_figures(figures: DictConfig) -> None:
    for when in ("periodic", "final"):
        for name, node in figures[when].items():
            if node is not None and OmegaConf.is_dict(node) is False:
                raise UserError(f"figures.{when}.{name!s} is no figure: it must be null, or {{_target_: …}}")
            for argument, value in (node or {}).items():
                if type(value) is int and not 1 <= value <= MAX_FIGURE_SIDE:
                    raise UserError(f"figures.{when}.{name}.{argument}={value}: must be from 1 to {MAX_FIGURE_SIDE}")


def build(node: DictConfig, **arguments: Any) -> Any:
    """The object that `node` describes: its `_target_`, called with its keys and `arguments`.

    With `_partial_: true` it is not called: the target itself, or with the node's keys filled in.

    Raises:
        UserError: there is no such target, or it does not take these keys.
    """
    where = str(node._get_full_key(None))
    if "_target_" not in node:
        raise UserError(f"{where} names nothing to build: its YAML needs a _target_")
    try:
        target = instantiate(OmegaConf.to_container(node, resolve=True), _partial_=True, _convert_="all")
    except InstantiationException as error:
        raise UserError(f"{where}._target_={node._target_} {explain_target(node._target_, error)}") from error
    partial = bool(node.get("_partial_"))
    try:
        signature = inspect.signature(target.func)
        (signature.bind_partial if partial else signature.bind)(**(target.keywords | arguments))
    except (TypeError, ValueError) as error:
        unknown = next((name for name in target.keywords if f"'{name}'" in str(error)), "")
        hint = did_you_mean(unknown, signature.parameters) if unknown else ""
        raise UserError(f"{where}: {node._target_} does not fit its configuration: {error}.{hint}") from error
    for name, value in target.keywords.items():
        expected = signature.parameters[name].annotation if name in signature.parameters else None
        if expected is int and type(value) is not int:
            raise UserError(f"{where}.{name}={value}: must be a whole number")
    if partial:
        return target if target.keywords else target.func
    return target(**arguments)


def leaves(node: Any, prefix: str = "", *, into_lists: bool = True) -> Iterator[tuple[str, Any]]:
    """Each value in nested dictionaries, and in lists unless those are values, with its dotted key."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from leaves(value, f"{prefix}.{key}" if prefix else str(key), into_lists=into_lists)
    elif isinstance(node, list) and into_lists:
        for number, value in enumerate(node):
            yield from leaves(value, f"{prefix}.{number}")
    else:
        yield prefix, node
