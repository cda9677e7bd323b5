"""What a run's numbers say about it in words: collapse, pruning, holes, overfitting, and which keys to change.

Collapse is never judged by the mean over dimensions: two that hold everything, of 200, look like 0.01 nats each.
Where z is a code that is chosen for certain, what counts is how many codes are in use; where it is a point, there is no
KL term that could say what it holds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vae_runner.distributions.codes import perplexity
from vae_runner.errors import counted
from vae_runner.evaluation.structure import ACTIVE_VARIANCE, Surgery

Floats = NDArray[np.float64]

COLLAPSED_KL = 0.1  # nats, over all dimensions
LITTLE = 1.0  # nats that z tells of an image: enough to know one of e = 2.7 images from the others, and no more
PLAIN_KL, PLAIN_DEVIATION = 8.0, 0.01  # of a dimension: nearly a plain autoencoder's
HOLES = 0.2  # of the KL term, which is the distance of the aggregate posterior from the prior
LOOSE = 0.1  # of the KL term, by which L_K is above the ELBO
OVERFITTED = 0.1  # of the training loss, by which that of test images is higher; and of the KL term
SETTLED = 0.05  # of the KL term of training, by which it changes from one epoch to the next at most
NEGLIGIBLE = 0.02  # of the KL term, which unused dimensions hold together
UNDECIDED = (1e-3, 1e-1)  # variances of means between which a trained model has none
USED = 0.5  # of the codes that are in use, where no less is expected
ENOUGH_POSITIONS = 10  # for each code, to expect that every one occurs
WIDER = {  # families of posteriors that have more correlations, by the name of a family's class
    "Gaussian": "posterior=full_gaussian or posterior=iaf; ",
    "Laplace": "posterior=full_gaussian or posterior=iaf; ",
    "FullGaussian": "posterior=iaf; ",
    "Householder": "posterior=iaf; ",
}


@dataclass(frozen=True)
class Evidence:
    """What a diagnosis is made from; what is None or empty was not computed, and its rows are left out.

    Numbers are of test images, in nats, where nothing else is said.
    """

    kl: float | None  # the KL term, the mean over images; None where z is a point
    kl_by_dimension: Floats | None = None  # means over images, [latent]
    variance_of_means: Floats | None = None  # of the posterior's means over images, [latent], where it has a scale
    code_frequencies: Floats | None = None  # of codes that are chosen for certain, [codes]
    positions: int = 0  # whose codes were counted
    deviations: Floats | None = None  # the posterior's standard deviations, means over images, [latent]
    surgery: Surgery | None = None
    log_likelihood: float | None = None  # L_K, the mean over images
    elbo: float | None = None  # at β = 1
    losses: Sequence[tuple[float, float]] = ()  # of training and test images after each epoch
    kl_of_epochs: Sequence[float] = ()  # train/kl after each epoch; none where it says nothing of z
    loss: Mapping[str, object] = field(default_factory=dict)  # the keys of the run's loss, as kl_weight: 1.0
    reconstruction_weight: float | None = None  # the effective one; None where the likelihood is a density
    fitting_weight: float | None = None  # that with which the loss has β = 1, for the errors as they are
    epochs: int | None = None  # that were trained
    is_spatial: bool = False  # whether `latent` are the channels of a map
    posterior: str = "Gaussian"  # the name of its family's class

    @property
    def information(self) -> float:
        """Return how many nats z tells of an image, at most: the KL term, or what is known of the part that is it."""
        kl = self.kl or 0.0
        return kl if self.surgery is None or self.surgery.is_saturated else min(kl, self.surgery.mutual_information)

    @property
    def is_active(self) -> NDArray[np.bool_] | None:
        """Return which dimensions are active, `[latent]`; None where the variance of a mean says nothing of that."""
        return None if self.variance_of_means is None else self.variance_of_means > ACTIVE_VARIANCE


@dataclass(frozen=True)
class Finding:
    """One thing that the numbers say."""

    name: str  # in a word or two
    explanation: str  # what is seen, with the numbers
    advice: str  # the keys to change, as they stand on the command line; or why nothing is to be done
    is_fault: bool  # whether something is to be changed


Row = Callable[[Evidence], Finding | None]  # of the table


def diagnose(evidence: Evidence) -> tuple[Finding, ...]:
    """Return what the numbers say, the gravest first; at least one finding.

    A model that has collapsed, or nearly so, has no other finding: what else its numbers say follows from that.
    """
    rows: Sequence[Row] = (_overfitted,)
    if evidence.code_frequencies is not None:
        first = _of_codes(evidence, evidence.code_frequencies)
    elif evidence.kl is None:
        first = _of_points(evidence)
    else:
        no_unit = evidence.is_active is not None and not evidence.is_active.any()
        if evidence.kl < COLLAPSED_KL or no_unit:
            return (_collapse(evidence, evidence.kl),)
        if evidence.information < LITTLE:
            return (_nearly_collapsed(evidence, evidence.information),)
        units = "" if evidence.is_active is None else f"{_units(evidence.is_active)}, with "
        seen = f"{units}a KL term of {evidence.kl:.2f} nats"
        first = Finding("no fault found", seen, "nothing needs to be changed", False)
        rows = (_plain, _overfitted, _holes, _saturated, _loose, _undecided, _pruned)
    found = tuple(finding for row in rows if (finding := row(evidence)) is not None)
    has_fault = first.name == "no fault found" and any(finding.is_fault for finding in found)
    return found if has_fault else (first, *found)


def _units(is_active: NDArray[np.bool_]) -> str:
    count = int(np.count_nonzero(is_active))
    return f"{count or 'none'} of {counted(len(is_active), 'dimension')} {'are' if count > 1 else 'is'} active"


def _collapse(evidence: Evidence, kl: float) -> Finding:
    from_start = len(evidence.kl_of_epochs) > 1 and max(evidence.kl_of_epochs) < COLLAPSED_KL
    units = "" if evidence.is_active is None else f" and {_units(evidence.is_active)}"
    seen = (
        f"the KL term is {kl:.3f} nats{units}: z holds next to nothing of an image, and reconstructions are all but "
        "the same"
    )
    if from_start:
        return Finding(
            "collapse from the start",
            f"{seen}; it has been so since the first of {counted(len(evidence.kl_of_epochs), 'epoch')}",
            _joined(_warm_up(evidence), _less_kl(evidence)),
            True,
        )
    return Finding("collapse", seen, _joined(_less_kl(evidence), _warm_up(evidence)), True)


def _nearly_collapsed(evidence: Evidence, information: float) -> Finding:
    units = "" if evidence.is_active is None else f"; {_units(evidence.is_active)}"
    return Finding(
        "nearly collapsed",
        f"z tells {information:.2f} nats of an image, hardly enough to know one of three images from the others{units}",
        _joined(_less_kl(evidence), _warm_up(evidence)),
        True,
    )


def _of_codes(evidence: Evidence, frequencies: Floats) -> Finding:
    """Return how many codes are in use; what the KL term of codes is, the prior decides, and not how they are used."""
    codes, used = len(frequencies), int(np.count_nonzero(frequencies))
    advice = "posterior.restart_below=1 and posterior.kmeans=true, or fewer posterior.codes"
    if evidence.posterior != "VectorQuantizer":
        advice = "a lower optimizer.learning_rate, or fewer posterior.levels"
    if used == 1:
        seen = f"all positions of all images have the same one of {codes} codes, so that reconstructions are the same"
        return Finding("collapse", seen, advice, True)
    seen = f"{used} of {codes} codes are in use, as many as {perplexity(frequencies):.1f} that are equally frequent"
    if used < USED * codes and evidence.positions >= ENOUGH_POSITIONS * codes:
        return Finding("unused codes", f"{seen}, in {evidence.positions:,} positions", advice, True)
    return Finding("no fault found", seen, "nothing needs to be changed", False)


def _of_points(evidence: Evidence) -> Finding:
    matching = [key for key in ("mmd_weight", "adversarial_weight") if _number(evidence.loss.get(key)) > 0]
    return Finding(
        "no KL term",
        "each image's z is a point, so that there is no KL term, and no number of nats that z holds: psnr and "
        "linear_probe say how good it is",
        f"to draw images, the prior is as good as loss.{matching[0]} has made it: see evaluation=samples"
        if matching
        else "to draw images, take a density of the embeddings: vae-sample --prior mixture",
        False,
    )


def _plain(evidence: Evidence) -> Finding | None:
    active, by_dimension = evidence.is_active, evidence.kl_by_dimension
    if evidence.deviations is None or by_dimension is None or active is None:
        return None
    kl, deviation = by_dimension[active].mean(), np.median(evidence.deviations[active])
    if kl <= PLAIN_KL or deviation >= PLAIN_DEVIATION:
        return None
    return Finding(
        "nearly a plain autoencoder",
        f"an active dimension has {kl:.1f} nats and a posterior's σ of {deviation:.4f}: z is almost a point, and "
        "draws of the prior will decode to poor images",
        _more_kl(evidence),
        True,
    )


def _overfitted(evidence: Evidence) -> Finding | None:
    """Return a finding where test images have a higher loss than training images, in an epoch that is like the last."""
    settling = evidence.kl_of_epochs or [train for train, _ in evidence.losses]
    if len(settling) < 2 or not evidence.losses:
        return None
    before, last = settling[-2:]
    train, test = evidence.losses[-1]
    gap = test - train
    if abs(last - before) > SETTLED * abs(last) or not gap > max(
        OVERFITTED * abs(train), OVERFITTED * (evidence.kl or 0), 1.0
    ):
        return None
    fewer = f" or epochs={max(evidence.epochs // 2, 1)}" if evidence.epochs and evidence.epochs > 1 else ""
    return Finding(
        "overfitting",
        f"the loss of test images, {test:.1f}, is {gap:.1f} above that of training images: the networks know these",
        f"dataset.validation_fraction=0.1, by which the best epoch is kept{fewer}; or more images, as by "
        "dataset.augment.shift=2",
        True,
    )


def _holes(evidence: Evidence) -> Finding | None:
    surgery = evidence.surgery
    if surgery is None or surgery.is_saturated or surgery.marginal_kl <= HOLES * surgery.kl:
        return None
    return Finding(
        "holes",
        f"of a KL term of {surgery.kl:.2f} nats {surgery.marginal_kl:.2f} are the distance of all embeddings from the "
        "prior: draws of the prior fall where no image is",
        f"draw from a density of the embeddings, vae-sample --prior mixture; or train with prior=real_nvp, or with "
        f"{_more_kl(evidence)}",
        True,
    )


def _saturated(evidence: Evidence) -> Finding | None:
    surgery = evidence.surgery
    if surgery is None or not surgery.is_saturated:
        return None
    return Finding(
        "codes identify each image",
        f"the mutual information, ≥ {surgery.mutual_information:.2f} nats, is near its bound, the logarithm of the "
        f"number of images, {surgery.log_n:.2f}; the total correlation is at most {surgery.total_correlation:.2f}",
        "read them as bounds, or evaluate more images",
        False,
    )


def _loose(evidence: Evidence) -> Finding | None:
    if evidence.log_likelihood is None or evidence.elbo is None or not evidence.kl:
        return None
    gap = evidence.log_likelihood - evidence.elbo
    if gap <= LOOSE * evidence.kl:
        return None
    longer = f", or epochs={2 * evidence.epochs}" if evidence.epochs else ""
    return Finding(
        "a loose ELBO",
        f"the importance-weighted log-likelihood is {gap:.2f} nats above the ELBO, {gap / evidence.kl:.0%} of the KL "
        "term: q(z|x) is far from the posterior",
        f"{WIDER.get(evidence.posterior, '')}a bigger encoder (model.filters, model.width){longer}",
        True,
    )


def _undecided(evidence: Evidence) -> Finding | None:
    if evidence.variance_of_means is None:
        return None
    low, high = UNDECIDED
    between = int(np.count_nonzero((evidence.variance_of_means > low) & (evidence.variance_of_means < high)))
    if not between:
        return None
    longer = f"epochs={2 * evidence.epochs}" if evidence.epochs else "more epochs"
    return Finding(
        "undecided dimensions",
        f"the embeddings of {between} dimensions have a variance between {low:g} and {high:g}, neither active nor "
        "unused: the count of active ones is not final",
        f"train longer: {longer}",
        False,
    )


def _pruned(evidence: Evidence) -> Finding | None:
    active = evidence.is_active
    if active is None or active.all():
        return None
    held, fewer = "", ""
    if evidence.kl_by_dimension is not None:
        unused = evidence.kl_by_dimension[~active].sum()
        held = f"; the others hold {unused:.3f} nats together"
        if unused < NEGLIGIBLE * evidence.kl_by_dimension.sum() and not evidence.is_spatial:
            fewer = f"; latent={np.count_nonzero(active)} would hold as much"
    return Finding("unused dimensions", f"{_units(active)}{held}", f"this is normal and no fault{fewer}", False)


def _less_kl(evidence: Evidence) -> str:
    """Return the key that makes the KL term count for less: first that which weighs it more than an ELBO does."""
    if _number(evidence.loss.get("kl_weight")) > 1:
        return "loss.kl_weight=1"
    if evidence.reconstruction_weight is not None and "reconstruction_weight" in evidence.loss:
        weight = max(10 * evidence.reconstruction_weight, evidence.fitting_weight or 0)
        return f"loss.reconstruction_weight={float(f'{weight:.2g}'):g}"
    for key in ("kl_weight", "total_correlation_weight", "mmd_weight", "adversarial_weight"):
        if (weight := _number(evidence.loss.get(key))) > 0:
            return f"loss.{key}={weight / 10:g}"
    return "loss=vae loss.kl_weight=0.1"


def _more_kl(evidence: Evidence) -> str:
    """Return the key that makes the KL term count for more."""
    if (weight := _number(evidence.loss.get("kl_weight"))) > 0:
        return f"loss.kl_weight={4 * weight:g}"
    if evidence.reconstruction_weight and "reconstruction_weight" in evidence.loss:
        return f"loss.reconstruction_weight={evidence.reconstruction_weight / 4:g}"
    return "loss=vae loss.kl_weight=4"


def _warm_up(evidence: Evidence) -> str:
    """Return the key that lets the decoder learn to use z first; "" where the loss has none."""
    if "kl_warmup_epochs" not in evidence.loss:
        return ""
    if _number(evidence.loss["kl_warmup_epochs"]) < 1:
        return f"loss.kl_warmup_epochs={max(min((evidence.epochs or 20) // 2, 20), 1)}"
    return "loss.free_bits=0.25" if evidence.loss.get("kl_capacity") is None else ""


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _joined(*advice: str) -> str:
    return " and ".join(part for part in advice if part)
