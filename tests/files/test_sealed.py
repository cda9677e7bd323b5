import json
from pathlib import Path

import pytest

from vae_runner.files.sealed import read_sealed, seal, unseal, write_sealed
from vae_runner.files.untrusted import DamagedError


def test_a_sealed_object_comes_back_as_it_was(tmp_path: Path) -> None:
    content = {"b": [1, 2.5, None], "a": {"ü": "x"}}
    write_sealed(tmp_path / "info.json", content)
    assert read_sealed(tmp_path / "info.json") == content


@pytest.mark.parametrize("change", [{"a": 2}, {"b": 1}, {"checksum": "x"}, {"checksum": None}])
def test_a_changed_one_is_damaged(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(DamagedError, match="checksum"):
        unseal({**seal({"a": 1}), **change})


def test_one_without_a_checksum_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "info.json").write_text(json.dumps({"a": 1}))
    with pytest.raises(DamagedError, match="checksum"):
        read_sealed(tmp_path / "info.json")
