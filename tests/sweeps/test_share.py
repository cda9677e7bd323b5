import pytest

from vae_runner.sweeps.share import _visible_gpus


@pytest.mark.parametrize(
    ("given", "expected"),
    [("0,1,2", ["0", "1", "2"]), ("GPU-8a,1", ["GPU-8a", "1"]), ("", []), ("-1", []), ("0,-1,1", ["0"])],
)
def test_gpus_are_shared_out_up_to_the_first_name_that_is_none_as_cuda_reads_them(
    given: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert _visible_gpus() == expected
