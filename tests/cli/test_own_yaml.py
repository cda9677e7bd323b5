"""YAML and modules of the user's own with a mistake in them: one line with the file, the key and what was meant."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import command

CONV = "defaults: [conv, _self_]\n"
GLOBAL = "# @package _global_\n"
WORDS = "In YAML, yes and on are true"

FILES = [
    ("model", f"{CONV}depht: 3", "FILE: there is no key 'model.depht'. Did you mean 'model.depth'?"),
    (
        "model",
        "defaults: [/schema/model/conv@_here_, _self_]\n_target_: vae_runner.models.conv.build\ndepht: 3",
        "FILE: there is no key 'model.depht'. Did you mean 'model.depth'?",
    ),
    (
        "model",
        "_target_: vae_runner.models.conv.build\ndepht: 3",
        "model: vae_runner.models.conv.build does not fit its configuration: got an unexpected keyword argument "
        "'depht'. Did you mean 'depth'?",
    ),
    ("model", f"{CONV}depth: deep", "FILE: model.depth=deep: must be a whole number"),
    ("model", f"{CONV}depth: no", f"FILE: model.depth=False: must be a whole number. {WORDS}"),
    ("model", f"{CONV}normalization: no", f"model.normalization=False: must be one of batch, layer, none. {WORDS}"),
    ("model", "defaults: [convv, _self_]", "FILE: its defaults list names model/convv, which there is not. Did you"),
    (
        "optimizer",
        "_target_: keras.optimizers.SGD\nlearning_rate: 0.1\nmomentun: 0.9",
        "optimizer: keras.optimizers.SGD does not take its keys: Argument(s) not recognized: {'momentun': 0.9}",
    ),
    (
        "optimizer",
        "_target_: keras.optimizers.SGD\nlearning_rate: 0.1\nmomentum: 9",
        "optimizer: keras.optimizers.SGD does not take its keys: `momentum` must be a float between [0, 1].",
    ),
    ("model", "", "model names nothing to build: its YAML needs keys, and among them a _target_"),
    ("model", "- conv\n- mlp", "model names nothing to build"),
    ("model", "depth: [3\nfilters: 8\n", "FILE, line 2, is no YAML: expected ',' or ']', but got ':'"),
    (
        "model",
        "depth: 3\n\tfilters: 8\n",
        "FILE, line 2, is no YAML: found character '\\t' that cannot start any",
    ),
    ("model", "depth: 3\ndepth: 4\n", "FILE, line 2, is no YAML: found duplicate key depth"),
    ("experiment", "", "FILE is empty: write '# @package _global_' into it"),
    ("experiment", "# @package _globl_\nlatent: 3", "FILE: there is no package '_globl_': a YAML file's first line is"),
    ("experiment", f"{GLOBAL}defaults: [/dataset: fashion]", "chooses dataset, which is chosen already. What another"),
    ("experiment", "latent: 3", "FILE needs the first line '# @package _global_'"),
    ("experiment", f"{GLOBAL}epochs: yes", f"FILE: epochs=True: must be a whole number. {WORDS}"),
    ("experiment", f"{GLOBAL}model: {{depht: 3}}", "FILE: there is no key 'model.depht'. Did you mean 'model.depth'?"),
    ("experiment", f"{GLOBAL}model: mlp", "FILE: model=mlp: must be keys with values, like model.KEY=VALUE"),
    ("experiment", f"{GLOBAL}early_stopping: 3", "FILE: early_stopping=3: must be keys with values"),
    ("experiment", f"{GLOBAL}hardware: {{gpus: 3}}", "FILE: hardware.gpus must be a list"),
    ("experiment", f"{GLOBAL}defaults: [dataset: fashion]", "FILE: its defaults list names experiment/dataset/fashion"),
    ("experiment", f"{GLOBAL}defaults: [override dataset: fashion]", "is changed by '- override /GROUP: NAME'"),
]


@pytest.mark.parametrize(("group", "content", "message"), FILES)
def test_a_mistake_in_the_users_yaml_is_named_with_its_file(
    group: str, content: str, message: str, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    file = tmp_path / "conf" / group / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    assert message.replace("FILE", str(file)) in refusal(
        "vae-run", "--config-dir", "conf", f"{group}=mine", cwd=tmp_path
    )


def test_so_is_one_in_the_yaml_of_a_run_of_a_sweep(tmp_path: Path) -> None:
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "mine.yaml").write_text(f"{CONV}depht: 3")
    result = command("vae-run", "--config-dir", "conf", "-m", "model=conv,mine", cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("\n") == 1
    assert f"{tmp_path}/conf/model/mine.yaml: there is no key 'model.depht'" in result.stderr


def test_yaml_that_is_not_utf8_is_named(tmp_path: Path, refusal: Callable[..., str]) -> None:
    file = tmp_path / "conf" / "model" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_bytes("# größer".encode("latin-1"))
    assert f"{file} is no text in UTF-8" in refusal("vae-run", "--config-dir", "conf", "model=mine", cwd=tmp_path)


MODULES = [
    ("import os\n\ndef make(:\n    pass\n", "cannot be imported: FILE, line 3: SyntaxError: invalid syntax"),
    ("import os\nimport nothing_there\n", "cannot be imported: FILE, line 2: ModuleNotFoundError: No module named"),
    ("import os\nos.nothing\n", "cannot be imported: FILE, line 2: AttributeError: module 'os' has no attribute"),
    ("\nimport json\njson.loads('{')\n", "cannot be imported: FILE, line 3: JSONDecodeError"),
    ("def mak():\n    pass\n", "cannot be found: my_loss has no 'make'. Did you mean 'mak'?"),
    ("make = 3\n", "cannot be used: Expected a callable target, got '3'"),
    (None, "cannot be found: there is no module 'my_loss' on the Python path (PYTHONPATH=. adds this folder)"),
]


@pytest.mark.parametrize(("content", "message"), MODULES)
def test_a_mistake_in_the_users_module_is_named_with_its_file(
    content: str | None, message: str, tmp_path: Path, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    (tmp_path / "conf" / "loss" / "mine.yaml").write_text("_target_: my_loss.make\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_loss", raising=False)
    if content is not None:
        (tmp_path / "my_loss.py").write_text(content)
    said = refusal("vae-run", "--config-dir", "conf", "loss=mine", "hydra.run.dir=run", cwd=tmp_path)
    sys.modules.pop("my_loss", None)
    assert f"loss._target_=my_loss.make {message.replace('FILE', str(tmp_path / 'my_loss.py'))}" in said


@pytest.mark.parametrize(
    "override",
    [
        "dataset.root=https://example.org/photos.zip",
        "data_dir=s3://bucket/folder",
        "dataset.root=file:///home",
        "hydra.run.dir=gs://bucket/run",
    ],
)
def test_an_address_is_no_folder(override: str, tmp_path: Path, refusal: Callable[..., str]) -> None:
    said = refusal("vae-run", "dataset=folder", "dataset.image_size=8", override, cwd=tmp_path)
    assert f"{override} is an address: give a folder of this machine" in said
    assert not list(tmp_path.iterdir())


def test_a_carriage_return_after_an_argument_is_passed_over(tmp_path: Path, refusal: Callable[..., str]) -> None:
    assert "latent=0: must be at least 1" in refusal("vae-run", "latent=0\r", cwd=tmp_path)
    assert re.search(r"nowhere (is|does|holds)", refusal("vae-sample", "nowhere\r", cwd=tmp_path))
