"""Optuna is made as `compat.optuna` takes it to be."""

import pytest

optuna = pytest.importorskip("optuna", reason="needs the extra 'sweep'")

from vae_runner.compat.optuna import before_each_trial  # noqa: E402


def test_before_each_trial_something_is_done_and_may_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optuna.study.Study, "ask", optuna.study.Study.ask)  # to be put back
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    asked = []

    def count() -> None:
        asked.append(1)
        if len(asked) > 2:
            raise KeyboardInterrupt

    before_each_trial(count)
    study.ask()
    study.ask()
    with pytest.raises(KeyboardInterrupt):
        study.ask()
    assert len(study.trials) == 2


def test_hydras_sweeper_asks_for_its_trials_one_by_one() -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs the extra 'sweep'")
    import inspect

    from hydra_plugins.hydra_optuna_sweeper import _impl

    assert "study.ask()" in inspect.getsource(_impl)
