"""The kinds of densities that can be fitted to a run's latents; imports no TensorFlow."""

KINDS = {  # what `--prior` is called, and its class
    "mixture": "vae_runner.fitted_priors.mixture.FittedMixture",
    "flow": "vae_runner.fitted_priors.flow.FittedFlow",
    "autoregressive": "vae_runner.fitted_priors.autoregressive.FittedAutoregression",
}
