"""Every component of an axis trains next to those it fits: a finite loss, and every weight that takes part moves."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations as of_two
from itertools import product
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.combinations import AXES, CONDITIONAL, component, every_fitting, every_trained, fits, names, tables
from tests.conftest import REPOSITORY, command, mostly_slow
from tests.small_experiments import BATCH, FEWER, SMALL, built, problems, two_steps
from vae_runner.config import registry
from vae_runner.config.fit import check_fit, misfits
from vae_runner.config.instantiation import build
from vae_runner.config.registry import Need
from vae_runner.distributions.base import Distribution, Factorised
from vae_runner.errors import UnfitError, UserError
from vae_runner.experiment import build_loss, known_metrics
from vae_runner.likelihoods.base import Likelihood
from vae_runner.losses.base import Batch, Loss, check_densities
from vae_runner.losses.elbo import Elbo
from vae_runner.models import mlp
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.posteriors.base import CodePosterior, Posterior
from vae_runner.posteriors.vq import VectorQuantizer
from vae_runner.trackers.summary import show_summary
from vae_runner.training.noise import NumpyNoise


def combinations() -> Iterator[tuple[str, ...]]:
    """Yield few combinations that fit, and have among them every pair of components, conditional or not, that can."""
    every = [(*chosen, conditional) for chosen in every_fitting() for conditional in CONDITIONAL]
    left = {pair for chosen in every for pair in pairs(chosen)}
    while left:
        best = max(every, key=lambda chosen: len(left.intersection(pairs(chosen))))
        left.difference_update(pairs(best))
        yield best


def pairs(chosen: tuple[str, ...]) -> set[tuple[tuple[int, str], tuple[int, str]]]:
    """Return the pairs of a combination's components, each with the number of its axis."""
    return set(of_two(enumerate(chosen), 2))


COMBINATIONS = [
    chosen if number < 12 else pytest.param(*chosen, marks=pytest.mark.slow)
    for number, chosen in enumerate(combinations())
]


@pytest.mark.parametrize(("posterior", "prior", "likelihood", "loss", "conditional"), COMBINATIONS)
def test_two_steps_have_a_finite_loss_and_move_every_weight_that_takes_part(
    posterior: str, prior: str, likelihood: str, loss: str, conditional: str, recwarn: pytest.WarningsRecorder
) -> None:
    experiment = built(
        f"posterior={posterior}", f"prior={prior}", f"likelihood={likelihood}", f"loss={loss}",
        f"model.conditional={conditional}",
    )  # fmt: skip
    before = kernels_of_labels(experiment.autoencoder)
    assert len(before) == (2 if conditional == "true" else 0)
    assert not list(problems(experiment, loss, compiled=False))  # axis_values.py compiles each component
    trained_on = np.unique(experiment.dataset.train.labels[: BATCH + FEWER])
    for kernel, old in zip(kernels_of_labels(experiment.autoencoder), before, strict=True):
        assert (kernel != old)[trained_on].any(axis=1).all()
    assert not [warning for warning in recwarn if "Gradients do not exist" in str(warning.message)]


def kernels_of_labels(autoencoder: Autoencoder) -> list[np.ndarray]:
    """Return the weights by which each network's first layer takes the label; none where it takes none."""
    networks = (autoencoder.encoder, autoencoder.decoder) if len(autoencoder.encoder.inputs) == 2 else ()
    return [np.array(network.get_layer("dense_1").kernel)[-autoencoder.classes :] for network in networks]


CLASSES_GIVE: dict[tuple[str, str], Callable[[Any], bool]] = {  # whether a component gives this, as its class shows it
    ("posterior", "density"): lambda posterior: posterior.has_density,
    ("posterior", "factorised"): lambda posterior: isinstance(of_zeros(posterior), Factorised),
    ("posterior", "map"): lambda posterior: posterior.z_shape((6,))[0] % 6 == 0,
    ("posterior", "sphere"): lambda posterior: posterior.z_shape((3,)) == (4,),
    ("posterior", "vector"): lambda posterior: (
        posterior.z_shape((3,)) == (3,) and not isinstance(posterior, CodePosterior)
    ),
    ("posterior", "codes"): lambda posterior: isinstance(posterior, CodePosterior),
    ("posterior", "weighed codes"): lambda posterior: (
        isinstance(posterior, CodePosterior) and type(posterior).one_hots is not CodePosterior.one_hots
    ),
    ("posterior", "codebook"): lambda posterior: isinstance(posterior, VectorQuantizer),
    ("posterior", "every z"): lambda posterior: posterior.has_density and posterior.has_density_everywhere,
    ("likelihood", "density"): lambda likelihood: likelihood.measure is not None,
    ("likelihood", "error"): lambda likelihood: likelihood.measure is None,
    ("likelihood", "mean"): lambda likelihood: type(likelihood).output_bias is not Likelihood.output_bias,
}


def of_zeros(posterior: Posterior) -> Distribution:
    """Return the posterior of two images for which the encoder gives zeros."""
    posterior.create_weights((8, 8, 1), (3,), 0)
    shapes = posterior.parameters((3,))
    return posterior.distribution({name: tf.zeros([2, *shape]) for name, shape in shapes.items()})


@pytest.mark.parametrize(("group", "given"), CLASSES_GIVE, ids=str)
def test_components_give_what_the_registry_says_and_nothing_else_of_it(group: str, given: str) -> None:
    for name in names(group):
        assert (given in component(group, name).gives) == CLASSES_GIVE[group, given](built_part(group, name)), name


def built_part(group: str, name: str) -> Any:
    """Return a component, built with the defaults of its keys."""
    node = component(group, name).node
    return build_loss(node) if group == "loss" else build(node, group)  # type: ignore[arg-type]


def test_a_total_correlation_is_only_of_draws_that_fill_the_space() -> None:
    """It is infinite of draws on a sphere, and of relaxed one-hots, of which each variable's sum to 1."""
    for name in names("posterior"):
        posterior = built_part("posterior", name)
        if posterior.has_density:
            noise = NumpyNoise(np.random.default_rng(0), 2)
            z = np.asarray(posterior.fitted(of_zeros(posterior), noise, tf.constant(0.0), tf.identity).sample(noise))
            fills = not np.allclose(np.sum(z**2, axis=1), 1) and not np.allclose(np.sum(z, axis=1), 3)
            assert fits(posterior=name, loss="factor") is fills, name


def test_the_default_of_a_key_needs_nothing_of_other_components_but_what_the_default_posterior_gives() -> None:
    needs = [(known.name, need) for known in registry.components() for need in known.node.needs()]
    assert needs == [("resnet", Need("latent", "posterior", "map"))]
    assert "map" in component("posterior", "gaussian").gives


def test_free_bits_fit_exactly_the_pairs_with_a_closed_kl_divergence_of_each_dimension() -> None:
    posteriors, priors = ({name: built_part(group, name) for name in names(group)} for group in ("posterior", "prior"))
    shapes = (8, 8, 1), (3,), 2
    for family in posteriors.values():
        family.create_weights(*shapes)
    likelihood = built_part("likelihood", "mse")
    networks = {name: mlp.build((8, 8, 1), 3, q, likelihood, width=1, depth=1) for name, q in posteriors.items()}
    loss = Elbo(free_bits=0.1)
    for (posterior, q), (prior, p) in product(posteriors.items(), priors.items()):
        chosen = {"posterior": posterior, "prior": prior, "loss": "vae"}
        if fits(**chosen):
            p.create_weights_for(q, *shapes)
            taken = is_taken(loss, Autoencoder(*networks[posterior], q, p, likelihood, classes=2))
            assert fits({"loss": {"free_bits": 0.1}}, **chosen) == taken, chosen


def values_with_needs() -> Iterator[tuple[str, str, object]]:
    """Yield every loss, key and value whose needs a loss shows without being traced."""
    yield from (("mmd", "kl_weight", 0.5), ("iwae", "gradient", "stl"), ("iwae", "gradient", "dreg"))
    yield from (
        (name, "reconstruction_weight", 10.0)
        for name in names("loss")
        if hasattr(component("loss", name).node, "reconstruction_weight")
    )


def test_values_of_a_losss_keys_fit_exactly_what_the_loss_takes_with_them() -> None:
    made = {group: {name: built_part(group, name) for name in names(group)} for group in ("posterior", "likelihood")}
    networks = mlp.build((8, 8, 1), 3, made["posterior"]["gaussian"], made["likelihood"]["mse"], width=1, depth=1)
    for name, key, value in values_with_needs():
        loss = build_loss(replace(component("loss", name).node, **{key: value}))
        for posterior, likelihood in product(made["posterior"], made["likelihood"]):
            chosen = {"posterior": posterior, "likelihood": likelihood, "loss": name}
            if fits(**chosen):
                parts = made["posterior"][posterior], made["likelihood"][likelihood]
                taken = is_taken(loss, Autoencoder(*networks, parts[0], built_part("prior", "normal"), parts[1]))
                assert fits({"loss": {key: value}}, **chosen) == taken, (chosen, key, value)


WEIGHTS: tuple[dict[str, float], ...] = (  # of the terms that may depend on the prior
    {},
    *({key: value} for key in ("kl_weight", "dimension_kl_weight", "mmd_weight") for value in (0.0, 0.5)),
    {"kl_weight": 0.5, "mmd_weight": 0.0},
)


def test_a_prior_with_weights_fits_exactly_the_losses_and_weights_of_their_terms_that_train_it() -> None:
    images, labels = tf.constant(np.random.default_rng(0).random((4, 8, 8, 1)), tf.float32), tf.zeros([4], tf.int64)
    for name, keys in product(names("loss"), WEIGHTS):
        node = component("loss", name).node
        likelihood = "mse" if fits(likelihood="mse", loss=name) else "gaussian"
        chosen = {"posterior": "gaussian", "prior": "learned_normal", "likelihood": likelihood, "loss": name}
        if not all(hasattr(node, key) for key in keys) or not fits(posterior="gaussian", loss=name):
            continue
        smaller = {"discriminator_width": 2} if hasattr(node, "discriminator_width") else {}
        loss = build_loss(replace(node, **keys, **smaller))
        q, prior, p = (built_part(group, chosen[group]) for group in ("posterior", "prior", "likelihood"))
        for part in (prior, p):
            part.create_weights((8, 8, 1), (3,), 0)
        autoencoder = Autoencoder(*mlp.build((8, 8, 1), 3, q, p, width=2, depth=1), q, prior, p)
        loss.make_opponents(autoencoder)
        players = loss.players(autoencoder)
        owner = next(player for player, own in players.items() if any(v is prior.variables[0] for v in own))
        noise = NumpyNoise(np.random.default_rng(0), 4, np.float32)
        with tf.GradientTape() as tape:
            minimised, _ = loss(autoencoder, Batch(images, labels, noise, tf.constant(0.5), 40), training=True)
            scalar = minimised[owner] if isinstance(minimised, dict) else minimised
        gradients = tape.gradient(scalar, [variable.value for variable in prior.trainable_variables])
        trained = any(gradient is not None and np.any(gradient) for gradient in gradients)
        assert fits({"loss": keys}, **chosen) == trained, (name, keys)


def is_taken(loss: Loss, autoencoder: Autoencoder) -> bool:
    """Return whether a loss with these keys lets an autoencoder through."""
    try:
        check_densities(loss, autoencoder.posterior, autoencoder.likelihood)
        loss.check(autoencoder)
    except UserError:
        return False
    return True


def test_what_the_registry_lets_through_is_not_refused_when_it_is_built() -> None:
    made = {group: {name: built_part(group, name) for name in names(group)} for group in AXES}
    networks = {
        (posterior, likelihood): mlp.build((8, 8, 1), 3, q, p, width=1, depth=1)
        for (posterior, q), (likelihood, p) in product(made["posterior"].items(), made["likelihood"].items())
    }
    for posterior, prior, likelihood, loss in every_fitting():
        parts = made["posterior"][posterior], made["prior"][prior], made["likelihood"][likelihood]
        check_densities(made["loss"][loss], parts[0], parts[2])
        made["loss"][loss].check(Autoencoder(*networks[posterior, likelihood], *parts))


@pytest.mark.parametrize(
    "chosen", [("loss=ae", "posterior=gaussian"), ("loss=mmd", "prior=mixture", "prior.components=4")], ids=str
)
def test_variables_on_which_a_loss_does_not_depend_stay_as_they_are_without_a_warning(
    chosen: tuple[str, ...], recwarn: pytest.WarningsRecorder
) -> None:
    experiment = built(*chosen)
    before = [np.array(variable) for variable in experiment.autoencoder.trainable_variables]
    experiment.trainer.run_epoch(lambda progress: None)
    moved = [
        not np.array_equal(variable, old)
        for variable, old in zip(experiment.autoencoder.trainable_variables, before, strict=True)
    ]
    assert any(moved)
    assert not all(moved)
    assert not [warning for warning in recwarn if "Gradients do not exist" in str(warning.message)]


@pytest.mark.parametrize(("kl_weight", "has_kl"), [(0, False), (0.5, True)])
def test_an_infovae_measures_its_kl_term_and_a_wasserstein_autoencoder_has_none(kl_weight: float, has_kl: bool) -> None:
    experiment = built("loss=mmd", f"loss.kl_weight={kl_weight}")
    assert ("test/kl" in known_metrics(experiment.config)) is has_kl
    assert ("test/kl" in experiment.trainer.run_epoch(lambda progress: None).metrics) is has_kl


def test_an_optimal_scale_is_the_same_after_a_checkpoint_and_evaluation_leaves_it_as_it_is() -> None:
    reference = built("method=optimal_sigma_vae")
    first = reference.trainer.run_epoch(lambda progress: None)
    reference.trainer.next_epoch()
    checkpoint = reference.state.capture()[1]
    assert checkpoint.variables["likelihood/0"].shape == (2,)
    second = reference.trainer.run_epoch(lambda progress: None)
    assert second.metrics["test/reconstruction"] != first.metrics["test/reconstruction"]
    resumed = built("method=optimal_sigma_vae")
    resumed.state.restore(checkpoint)
    again = resumed.trainer.run_epoch(lambda progress: None)
    for name in ("train/loss", "test/loss", "test/reconstruction"):
        assert again.metrics[name] == second.metrics[name]
    scale = reference.autoencoder.likelihood.log_scale
    reference.trainer._evaluate("test", reference.trainer._evaluated["test"])
    assert float(reference.autoencoder.likelihood.log_scale) == float(scale)


def test_with_a_spectral_norm_the_decoders_kernels_have_a_largest_singular_value_of_one() -> None:
    experiment = built("method=rae_sn")
    experiment.trainer.run_epoch(lambda progress: None)

    def norms(network: keras.Model) -> list[float]:
        kernels = [np.array(v) for v in network.trainable_variables if len(v.shape) > 1]
        return [np.linalg.norm(kernel, ord=2) for kernel in kernels]

    assert norms(experiment.autoencoder.decoder) == pytest.approx([1.0] * 3, abs=0.03)
    assert not any(norm == pytest.approx(1.0, abs=0.01) for norm in norms(experiment.autoencoder.encoder))
    assert all(variable.constraint is None for variable in built("method=rae_l2").autoencoder.trainable_variables)


METHODS = sorted(file.stem for file in (REPOSITORY / "conf" / "method").glob("*.yaml"))


@pytest.mark.parametrize("method", mostly_slow(METHODS, quick=4))
def test_a_method_composes_and_trains(method: str) -> None:
    metrics = two_steps(built(f"method={method}"))
    assert all(np.isfinite(value) for value in metrics.values()), metrics


def test_the_tables_of_what_fits_what_are_those_of_the_registry() -> None:
    assert tables() in (REPOSITORY / "docs" / "methods.md").read_text()


def test_every_likelihood_has_a_turn_where_all_posteriors_priors_and_losses_are_trained() -> None:
    trained = every_trained()
    assert {likelihood for _, _, likelihood, _ in trained} == set(names("likelihood"))
    assert len({(posterior, prior, loss) for posterior, prior, _, loss in trained}) == len(trained)
    assert set(trained) <= set(every_fitting())


def test_every_method_and_every_component_is_described() -> None:
    text = (REPOSITORY / "docs" / "methods.md").read_text()
    groups = ("posterior", "prior", "likelihood", "loss")
    for name in [*METHODS, *(name for group in groups for name in names(group))]:
        assert f"`{name}`" in text, name


def test_a_likelihood_of_binary_images_refuses_grey_ones(tmp_path: Path, refusal: Callable[..., str]) -> None:
    said = refusal("vae-run", "likelihood=bernoulli", "dataset.limit=20", cwd=tmp_path)
    assert "Bernoulli is for images of the levels 0 and 255" in said
    assert "choose likelihood=" in said
    assert not list(tmp_path.iterdir())  # as after a refusal before there is a run


NEEDS_OF_VALUES = [
    (
        ("posterior=full_gaussian", "loss.free_bits=0.1"),
        (
            "loss.free_bits=0.1 needs a posterior whose dimensions are independent, and posterior=full_gaussian is "
            "not one: choose posterior from gaussian, laplace",
            "or loss.free_bits=0.0",
        ),
    ),
    (
        ("prior=vamp", "loss.free_bits=0.1"),
        (
            "loss.free_bits=0.1 needs a prior whose dimensions are independent, and prior=vamp is not one: choose "
            "prior from normal, learned_normal, class_conditional",
            "or loss.free_bits=0.0",
        ),
    ),
    (
        ("loss=mmd", "loss.kl_weight=0.5", "posterior=point"),
        (
            "loss.kl_weight=0.5 needs a posterior with a density, and posterior=point is not one: choose posterior "
            "from gaussian",
            "or loss.kl_weight=0.0",
        ),
    ),
    (
        ("likelihood=gaussian", "loss.reconstruction_weight=10"),
        (
            "loss.reconstruction_weight=10.0 needs a likelihood that is an error and no density, and likelihood="
            "gaussian is not one: choose likelihood from mse, cross_entropy, ms_ssim",
            "or loss.reconstruction_weight=null",
        ),
    ),
    (
        ("posterior=planar", "loss=iwae", "likelihood=gaussian", "loss.gradient=dreg"),
        (
            "loss.gradient=dreg needs a posterior whose density is known at every z, and posterior=planar is not one: "
            "choose posterior from gaussian, full_gaussian, laplace, householder, iaf, real_nvp",
            "or loss.gradient=iwae",
        ),
    ),
    (
        ("model.conditional=true", "dataset=cartoon"),
        (
            "model.conditional=true needs a dataset with labels, and dataset=cartoon is not one: choose dataset from "
            "digits, fashion, mnist, sprites, dsprites, shapes3d, mpi3d, cars3d, smallnorb, folder",
            "or model.conditional=false",
        ),
    ),
    (
        ("model.conditional=true", "dataset=folder"),
        ("model.conditional=true needs labels, and dataset.labels is null",),
    ),
    (
        ("model.output_bias=mean", "likelihood=categorical"),
        (
            "model.output_bias=mean needs a likelihood whose mean follows from a location or a logit, and likelihood="
            "categorical is not one: choose likelihood from mse",
            "or model.output_bias=zero",
        ),
    ),
]


@pytest.mark.parametrize(
    ("arguments", "sides"),
    [
        (
            ("posterior=point",),
            ("loss=vae needs a posterior with a density", "posterior=point", "loss from ae, mmd, rae"),
        ),
        (("loss=iwae",), ("loss=iwae needs a likelihood with a density", "likelihood=mse", "likelihood from gaussian")),
        (("prior=sphere",), ("prior=sphere needs a posterior on the sphere", "choose posterior from power_spherical")),
        (
            ("prior=vamp", "posterior=sylvester"),
            ("prior=vamp needs a posterior whose density is known at every z", "posterior=sylvester"),
        ),
        (
            ("loss=ae", "prior=mixture"),
            (
                "prior=mixture needs a loss with a term of the prior, and loss=ae is not one",
                "choose loss from mmd, or prior from normal",  # loss=ae has posterior=point
            ),
        ),
        (
            ("prior=learned_normal", "loss=patch_gan"),
            (
                "prior=learned_normal needs a loss with a term of the prior, and loss=patch_gan with "
                "loss.kl_weight=0.0 is not one: choose loss from vae, beta_tc, dip, mmd, factor, vae_gan, or prior "
                "from normal, or another loss.kl_weight",
            ),
        ),
        (
            ("posterior=fsq", "prior=learned_categorical", "loss=ae"),
            (
                "prior=learned_categorical needs a posterior of codes that a loss weighs by their probability, and "
                "posterior=fsq is not one: choose posterior from gumbel, or prior from categorical",
            ),
        ),
        (
            ("posterior=gumbel", "prior=learned_categorical", "loss=mmd"),
            (
                "needs a loss with a term of log p(z), and loss=mmd is not one",
                "choose loss from vae, vae_gan, or prior",
            ),
        ),
        (("loss=beta_tc", "posterior=full_gaussian"), ("whose dimensions are independent", "posterior from gaussian")),
        (
            ("prior=class_conditional", "dataset=cartoon"),
            ("prior=class_conditional needs a dataset with labels", "dataset=cartoon", "choose dataset from digits"),
        ),
        (
            ("model=resnet", "posterior=power_spherical", "prior=sphere"),
            (
                "model.latent=spatial needs a posterior whose z can be a map, and posterior=power_spherical is not",
                "choose another model.latent",
            ),
        ),
        (
            ("model=conv", "model.latent=spatial", "posterior=power_spherical"),
            (
                "model.latent=spatial needs a posterior whose z can be a map, and posterior=power_spherical is not",
                "choose posterior from gaussian, full_gaussian, laplace, planar, householder, sylvester, iaf, "
                "real_nvp, or model.latent=vector",
            ),
        ),
        *NEEDS_OF_VALUES,
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_in_one_line_that_names_both_sides_and_what_would(
    arguments: tuple[str, ...], sides: tuple[str, ...], tmp_path: Path, refusal: Callable[..., str]
) -> None:
    said = refusal("vae-run", *arguments, "dataset.limit=20", "figures=none", cwd=tmp_path)
    for side in sides:
        assert side in said
    assert not list(tmp_path.glob("outputs/*/*"))


def test_what_a_refusal_names_mends_it_and_makes_nothing_else_wrong() -> None:
    groups = ("posterior", "prior", "loss")
    nodes = {group: {name: component(group, name).node for name in names(group)} for group in groups}
    every = {
        chosen: {group: nodes[group][name] for group, name in zip(groups, chosen, strict=True)}
        for chosen in product(*nodes.values())
    }
    wrong = {chosen: set(misfits(parts)) for chosen, parts in every.items()}
    for chosen, parts in every.items():
        if not wrong[chosen]:
            continue
        with pytest.raises(UnfitError) as refused:
            check_fit(parts)
        named = re.findall(r"(\w+) from (\w+(?:, (?!or )\w+)*)", str(refused.value))
        assert named, refused.value
        for group, among in named:
            place = groups.index(group)
            left = {name: wrong[*chosen[:place], name, *chosen[place + 1 :]] for name in nodes[group]}
            for name in among.split(", "):
                assert left[name] < wrong[chosen], (name, refused.value)
                assert not left[name] or all(left.values()), (name, refused.value)


@pytest.mark.parametrize(("arguments", "sides"), NEEDS_OF_VALUES, ids=str)
def test_what_the_values_of_keys_need_is_an_error_that_a_sweep_may_skip(
    arguments: tuple[str, ...], sides: tuple[str, ...]
) -> None:
    with pytest.raises(UnfitError, match=f"^{re.escape(sides[0])}"):
        built(*arguments)


def test_a_sweep_that_skips_what_does_not_fit_knows_what_values_of_keys_need_before_its_first_run(
    tmp_path: Path,
) -> None:
    sweep = ("posterior=point", "loss=mmd", "loss.kl_weight=0.5,1", "sweep.unfit=skip", "sweep.dir=sweep")
    result = command("vae-run", "-m", *sweep, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("vae-run: sweep.unfit=skip: none of 2 combinations fits: loss.kl_weight=0.5 needs")
    assert "; loss.kl_weight=1.0 needs a posterior with a density, and posterior=point is not one" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_sweep_with_a_combination_that_does_not_fit_is_refused_before_its_first_run(tmp_path: Path) -> None:
    result = command("vae-run", "-m", "loss=ae,iwae", "posterior=gaussian", "dataset.limit=20", cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert "loss=iwae needs a likelihood with a density, and likelihood=mse is not one" in result.stderr
    assert not list(tmp_path.glob("outputs/*/*"))


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (("loss.free_bits=0.1", "loss.kl_capacity=5"), "loss.free_bits and loss.kl_capacity"),
        (("loss.kl_cycle_epochs=4",), "loss.kl_cycle_epochs=4.0 repeats the warm-up"),
        (("loss.kl_cycle_epochs=4", "loss.kl_warmup_epochs=5"), "no more than a cycle has"),
        (("loss.kl_capacity_epochs=4",), "loss.kl_capacity_epochs needs loss.kl_capacity"),
        (("loss=ae", "loss.sparsity_target=0.1"), "loss.sparsity_target needs a loss.sparsity_weight"),
        (("method=iwae", "loss.partial=true"), "loss.partial=true trains the encoder by the bounds of several groups"),
        (("method=piwae", "loss.gradient=dreg"), "it needs loss.groups above 1, loss.gradient=iwae"),
        (("likelihood=gaussian", "likelihood.scale=best"), "likelihood.scale=best: must be a number above 0, optimal"),
        (("likelihood=gaussian", "likelihood.scale=true"), "likelihood.scale=True: must be a number above 0, optimal"),
        (("likelihood=gaussian", "likelihood.scale=0.0"), "likelihood.scale=0.0: must be greater than 0"),
    ],
    ids=str,
)
def test_keys_that_do_not_go_together_are_refused_before_any_work(
    arguments: tuple[str, ...], wrong: str, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    assert wrong in refusal("vae-run", *arguments, *SMALL, "figures=none", cwd=tmp_path)
    assert not list(tmp_path.glob("outputs/*/*/metrics.csv"))


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (("posterior=real_nvp", "latent=1"), "latent=1: posterior=real_nvp needs at least 2 dimensions of z"),
        (("prior=real_nvp", "latent=1"), "latent=1: prior=real_nvp needs at least 2 dimensions of z"),
    ],
    ids=str,
)
def test_what_a_flow_cannot_do_is_refused_before_training(
    arguments: tuple[str, ...], wrong: str, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    assert wrong in refusal("vae-run", *SMALL, *arguments, "figures=none", cwd=tmp_path)
    assert not list(tmp_path.glob("outputs/*/*/metrics.csv"))


CLASSIFIED = ("loss=patch_gan", "loss.perceptual_model=classifier")


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (("method=fsq", "latent=3"), "posterior.levels=[8, 5, 5, 5] are 4 for latent=3: give one a latent dimension"),
        (("method=fsq", "latent=30", "posterior.levels=8"), "with latent=30 are more than 1,048,576 codes: give a"),
        (("loss=patch_gan", "loss.perceptual_model=no.keras"), "no.keras: there is no such file: give another one"),
        (("loss=patch_gan", "loss.perceptual_model=clasifier"), "leave it out. Did you mean 'classifier'?"),
        (
            ("evaluation=samples", "evaluation.samples.features=ramdom"),
            "there is no such file: give another one, or classifier, or random",
        ),
        (("evaluation=samples", "evaluation.samples.features=clasifier"), "leave it out. Did you mean 'classifier'?"),
        ((*CLASSIFIED, "dataset=cartoon"), "perceptual_model=classifier needs a dataset with labels, and dataset=cart"),
        ((*CLASSIFIED, "dataset=folder", "dataset.root=."), "classifier needs labels, and dataset.labels is null"),
    ],
    ids=str,
)
def test_levels_files_and_words_that_do_not_do_are_refused_in_one_line_before_there_is_a_run(
    arguments: tuple[str, ...], wrong: str, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    assert wrong in refusal("vae-run", *arguments, cwd=tmp_path)
    assert not list(tmp_path.glob("outputs/*/*"))


def test_the_summary_counts_the_weights_of_priors_and_likelihoods_too(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, lines = built("prior=mixture", "likelihood=gaussian", "prior.components=4"), []
    monkeypatch.setattr("vae_runner.trackers.summary.log.info", lambda text, *values: lines.append(text % values))
    machine = experiment.machine.description
    show_summary(experiment.autoencoder, experiment.loss, experiment.dataset, 16, machine, layers=False)
    variables = [v for part in experiment.autoencoder.parts.values() for v in part.variables]
    assert f"Parameters: {sum(np.size(variable) for variable in variables):,};" in "".join(lines)
