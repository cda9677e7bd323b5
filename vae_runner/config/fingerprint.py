"""What a run computes, as a short name."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from copy import deepcopy

from vae_runner.config.keys import Content

ID_CHARACTERS = 8  # of a fingerprint, at the end of the name of a run's folder in a sweep
# What changes where a run's files are, what it looks like, or how long it takes, but not what it computes.
NOT_COMPUTED = (
    *("data_dir", "dataset.data_dir", "dataset.factors", "figures", "evaluation", "profile"),
    *("checkpoint.every", "checkpoint.every_minutes", "checkpoint.keep"),
)
COMPUTED_BY_HARDWARE = ("precision", "sync_batch_norm")


def not_computed(content: Content) -> tuple[str, ...]:
    """Return the keys that do not decide what a run with this configuration computes.

    `checkpoint` is one of them where the models are of the last epoch, whatever the validation metrics are.
    """
    checkpoint, dataset = content["checkpoint"], content["dataset"]
    has_no_validation = dataset.get("validation_fraction") == 0 and str(checkpoint["metric"]).startswith("validation/")
    is_last = checkpoint.get("models", "last") == "last" or has_no_validation
    return (*NOT_COMPUTED, "checkpoint") if is_last else NOT_COMPUTED


def computed_settings(settings: Mapping[str, object], without: Sequence[str] = NOT_COMPUTED) -> dict[str, object]:
    """Return those of a run's settings, by dotted keys, that decide what it computes.

    Those whose keys begin with one of `without` do not.
    """
    by_hardware = [f"hardware.{name}" for name in COMPUTED_BY_HARDWARE]
    return {
        key: value
        for key, value in settings.items()
        if key in by_hardware or not key.startswith((*without, "hardware."))
    }


def fingerprint(content: Content, without: Sequence[str] = ()) -> str:
    """Return a short name of what a run with this configuration computes: equal for equal computations.

    Of `content`, all that the run's config.yaml has, the keys `without` are left out too.
    """
    computed = deepcopy(content)
    computed["hardware"] = [computed["hardware"].get(name) for name in COMPUTED_BY_HARDWARE]
    for name in (*not_computed(content), *without):
        parent, _, last = name.rpartition(".")
        (computed[parent] if parent else computed).pop(last, None)
    return hashlib.sha256(json.dumps(computed, sort_keys=True).encode()).hexdigest()[:ID_CHARACTERS]
