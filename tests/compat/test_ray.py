"""Ray is made as `compat.ray` takes it to be."""

import inspect

import pytest

worker = pytest.importorskip("ray._private.worker", reason="needs the extra 'sweep'")

from vae_runner.compat.ray import address, after_init  # noqa: E402


def test_what_comes_after_init_is_called_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_post_init_hooks", [])
    after_init(print)
    assert worker._post_init_hooks == [print]
    assert "for hook in _post_init_hooks:\n        hook()" in inspect.getsource(worker)


def test_an_address_comes_from_the_environment_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "here:6379")
    assert address(None) == "here:6379"
    assert address("auto") == "here:6379"
    assert address("there:6379") == "there:6379"
    monkeypatch.delenv("RAY_ADDRESS")
    assert address("local") == "local"
