"""Someone else's run directory is data: nothing in it is run, and nothing outside it is read or written."""

import csv
import hashlib
import io
import json
import math
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import yaml

from vae_runner.cli import commands
from vae_runner.files.sealed import seal
from vae_runner.runtime.console import console
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.storage.run_info import FORMAT
from vae_runner.training.checkpoints import Checkpoint

Refusal = Callable[..., str]


class Evil:
    """A pickle of it makes a file when it is loaded."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.canary}",))


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A file that only executed code would make."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "something was executed"


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A finished run, to put something hostile into."""
    (tmp_path / "runs").mkdir()
    return Path(shutil.copytree(finished_run, tmp_path / "runs" / "run"))


def looked_at(run: Path, refusal: Refusal) -> list[str]:
    """What each command that looks at a run says when it refuses it."""
    return [refusal(name, run, cwd=run.parents[1]) for name in ("vae-sample", "vae-compare")]


def resumed(run: Path, refusal: Refusal, *more: str) -> str:
    return refusal("vae-run", f"resume={run}", "epochs=4", *more, cwd=run.parents[1])


def change_info(run: Path, **entries: Any) -> None:
    """As someone would who knows how runs tell that they are whole."""
    (run / "run.json").write_text(json.dumps(seal(RunDirectory(run).info | entries)))


def change_config(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    change(config)
    write_config(run, yaml.safe_dump(config))


def write_config(run: Path, content: str) -> None:
    (run / "config.yaml").write_text(content)
    change_info(run, config_checksums=[hashlib.sha256(content.encode()).hexdigest()])


# --- pickles, bombs, pipes ----------------------------------------------------------------------------------------


def test_a_pickle_in_a_checkpoint_with_the_right_checksum_is_set_aside(run: Path, canary: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, state=np.array([Evil(canary)], dtype=object))
    count = len(list((run / "checkpoints").iterdir()))
    for file in (run / "checkpoints").iterdir():
        file.write_bytes(buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())
    assert RunDirectory.open(run).checkpoints.newest() is None
    assert len(list((run / "checkpoints").glob("damaged.*"))) == count


@pytest.mark.parametrize("name", ["test_images", "embeddings"])
def test_a_pickle_among_the_arrays_is_refused(run: Path, canary: Path, refusal: Refusal, name: str) -> None:
    file = run / "evaluation" / f"{name}.npz"
    kept = dict(np.load(file))
    for key in kept:
        np.savez(file, **{**kept, key: np.array([Evil(canary)], dtype=object)})
        assert f"{name}.npz cannot be used (Object arrays" in refusal("vae-compare", run, cwd=run.parents[1])


def npz(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def npy(shape: str, content: bytes = b"", kind: str = "|u1") -> bytes:
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + content


@pytest.mark.parametrize(
    "content",
    [
        npz(images=npy("(500000000,)", bytes(500_000_000))),  # half a megabyte that would be half a gigabyte
        npz(images=npy("(1000000000000000,)")),
        npz(images=npy("(-1,)")),
        npz(images=npy("(2,)" * 300)),
        npz(images=npy("__import__('os').system('false')")),
        npz(images=b"no array"),
        npz(other=npy("(1,)", b"1")),
        npz(**{"../../images": npy("(1,)", b"1")}),
        b"PK\x05\x06",
    ],
    ids=["bomb", "large", "negative", "odd", "code", "none", "other", "outside", "cut"],
)
def test_arrays_that_are_none_of_ours_are_refused(run: Path, refusal: Refusal, content: bytes) -> None:
    for name in ("evaluation/test_images.npz", "models/weights.npz"):
        (run / name).write_bytes(content)
        assert "the run directory is damaged" in refusal("vae-compare", run, cwd=run.parents[1])
    assert "the run directory is damaged" in refusal("vae-sample", run, cwd=run.parents[1])
    assert not list(run.parents[1].rglob("images*"))


@pytest.mark.parametrize(
    "name", ["run.json", "config.yaml", "evaluation/embeddings.npz", "models/encoder.keras", "models/weights.npz"]
)
def test_a_pipe_is_not_waited_for(run: Path, refusal: Refusal, name: str) -> None:
    (run / name).unlink()
    os.mkfifo(run / name)
    for said in [*looked_at(run, refusal), resumed(run, refusal)]:
        assert "is neither a file nor a folder: remove it" in said or "has no run.json" in said


NESTED = 100_000


def finished(**entries: Any) -> bytes:
    """A run.json with the right checksum."""
    info = {"format": FORMAT, "status": "finished", "epoch": 3, "metrics": {"test/loss": 1}, **entries}
    return json.dumps(seal(info)).replace("Infinity", "1e999").encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * NESTED, "cannot be used"),
        (b'{"metrics":' * NESTED, "cannot be used"),
        (b'{"status": "finished", "epoch": ' + b"9" * 5000 + b', "metrics": {}}', "Exceeds the limit"),
        (finished(epoch=1e3), "epoch is 1000.0"),
        (finished(epoch=True), "epoch is True"),
        (finished(metrics={"test/loss": "1"}), "metrics is"),
        (finished(metrics={"test/loss": math.nan}), "NaN is no number"),
        (finished(metrics={"test/loss": math.inf}), "metrics is"),
        (finished(metrics={"train/loss": 1}), "has no metrics"),
        (finished() + b" " * (4 << 20), "are more than"),
        (finished().replace(b"3", b"4"), "does not have the checksum"),
        (b'{"status": "finished", "epoch": 3, "metrics": {"test/loss": 1}}', "it has no checksum"),
        (b'{"format": %d, "status": "finished", "epoch": 3}' % FORMAT, "it has no checksum"),
        *((finished(format=value), "format is") for value in ("2", -1, 0, True, 2.0, None, [2])),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_run_json_that_is_none_of_ours_is_refused(run: Path, refusal: Refusal, content: bytes, message: str) -> None:
    (run / "run.json").write_bytes(content)
    resumable = message == "has no metrics"  # A resumed run measures anew.
    for said in [*looked_at(run, refusal), *([] if resumable else [resumed(run, refusal)])]:
        assert message in said
        assert "the run directory is damaged" in said


BILLION = "a: &a [x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BILLION, "it has aliases"),
        ("a: " + "[" * 1000, "cannot be used"),
        ("a: " + "{a: " * 100, "nested deeper"),
        ("a: !!python/object/apply:os.system ['touch CANARY']", "could not determine a constructor"),
        ("latent: ${oc.env:HOME}", "is to be looked up"),
        ("latent: ${run_name:}", "is to be looked up"),
        ("model:\n- ${oc.env:HOME}", "is to be looked up"),
        ("latent: ???", "is to be looked up"),
        ("x: " + "y" * (4 << 20), "are more than"),
        ("latent: " + "9" * 5000, "Exceeds the limit"),
        ("latent", "is no configuration"),
    ],
    ids=lambda value: value[:30],
)
def test_a_configuration_that_is_none_of_ours_is_refused(
    run: Path, canary: Path, refusal: Refusal, content: str, message: str
) -> None:
    write_config(run, content.replace("CANARY", str(canary)))
    for said in (refusal("vae-compare", run, cwd=run.parents[1]), resumed(run, refusal)):
        assert message in said


# --- targets ------------------------------------------------------------------------------------------------------


def inject(config: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split("/")
    for name in parents:
        config = config.setdefault(name, {})
    config[last] = value


@pytest.mark.parametrize(
    "path",
    [
        "dataset/_target_", "model/_target_", "posterior/_target_", "prior/_target_",
        "likelihood/_target_", "loss/_target_", "optimizer/_target_",
        "schedule/_target_", "figures/final/manifold/_target_", "figures/periodic/samples/_target_",
        "figures/final/new/_target_", "figures/final/new/deep/er/_target_", "dataset/root/_target_",
        "loss/kl_weight/_target_", "early_stopping/_target_", "_target_", "hardware/gpus/_target_",
    ],
)  # fmt: skip
def test_a_target_of_other_code_is_refused_wherever_it_is(run: Path, canary: Path, refusal: Refusal, path: str) -> None:
    def change(config: dict[str, Any]) -> None:
        if isinstance(config.get(path.split("/")[0]), dict):
            config[path.split("/")[0]]["_args_"] = [f"touch {canary}"]
        *parents, name = path.split("/")
        holder = config
        for parent in parents:
            if not isinstance(holder.get(parent), dict):
                holder[parent] = {}
            holder = holder[parent]
        holder[name] = "os.system"
        holder["command"] = f"touch {canary}"

    change_config(run, change)
    assert "os.system, which is no part of vae-runner: if you trust that code, add trust=[os]" in resumed(run, refusal)


@pytest.mark.parametrize(
    "value",
    [
        [{"_target_": "os.system"}],
        [[{"_target_": "subprocess.Popen"}]],
        {"_args_": [{"_target_": "builtins.exec"}]},
        {"a": [{"b": {"_target_": "hydra.utils.get_method", "path": "os.system"}}]},
        {"_target_": ["os.system"]},
        {"_target_": {"_target_": "os.system"}},
        {"_target_": "vae_runner.config.importlib.os.system"},
        {"_target_": "vae_runner.files.os.system"},
        {"_target_": "../os.system"},
        {"_target_": None},
    ],
)
def test_a_target_within_lists_and_by_way_of_our_own_modules_is_refused(
    run: Path, canary: Path, refusal: Refusal, value: Any
) -> None:
    change_config(run, lambda config: inject(config, "figures/final/new", value))
    resumed(run, refusal)


def test_trust_is_for_the_module_that_is_named_only(run: Path, canary: Path, refusal: Refusal) -> None:
    change_config(run, lambda config: inject(config, "trust", ["os", "subprocess"]))
    change_config(run, lambda config: inject(config, "loss/_target_", "os.system"))
    for trust in ("[subprocess]", "[o]", "[os.path]", "[]"):
        assert "which is no part of vae-runner" in resumed(run, refusal, f"trust={trust}")


def test_hydras_own_folder_is_not_read(run: Path, canary: Path, refusal: Refusal) -> None:
    for file in (run / ".hydra").iterdir():
        file.write_text(f"_target_: os.system\ncommand: touch {canary}\nx: !!python/name:os.system\n")
    assert "has done epoch 3 already" in refusal("vae-run", f"resume={run}", cwd=run.parents[1])


# --- networks -----------------------------------------------------------------------------------------------------


def change_weights(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the arrays of the weights."""
    file = run / "models" / "weights.npz"
    weights = dict(np.load(file))
    change(weights)
    np.savez(file, **weights)


def sampled(run: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> np.ndarray:
    """What vae-sample draws."""
    out = run.parents[1] / "samples.npy"
    monkeypatch.chdir(run.parents[1])
    monkeypatch.setattr(sys, "argv", ["vae-sample", str(run), "-n", "4", "--out", str(out), *arguments])
    commands.sample()
    return np.load(out)


def bytecode() -> bytes:
    """The configuration of a model with a lambda as Keras has it: CVE-2024-3660."""
    layer = keras.layers.Lambda(lambda x: __import__("os").system("false") or x)
    return json.dumps(keras.saving.serialize_keras_object(keras.Sequential([layer]))).encode()


def gadget(canary: Path) -> bytes:
    """CVE-2025-1550: any module, any function, with any arguments."""
    layer = {
        "module": "os", "class_name": "function", "config": "system", "registered_name": "system", "name": "evil",
        "inbound_nodes": [{"args": [f"touch {canary}"], "kwargs": {}}],
    }  # fmt: skip
    config = {"name": "encoder", "layers": [layer], "input_layers": [], "output_layers": []}
    return json.dumps({"module": "keras", "class_name": "Functional", "config": config}).encode()


def test_the_models_for_others_are_not_even_read(run: Path, canary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = sampled(run, monkeypatch)
    files = [run / "models" / f"{part}.keras" for part in ("encoder", "decoder")]
    contents = []
    for config in (bytecode(), gadget(canary), b"[" * NESTED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name in ("config.json", "../x", "assets/../../x"):
                archive.writestr(name, config)
            archive.writestr("model.weights.h5", bytes(100_000_000), zipfile.ZIP_DEFLATED)
        contents.append(buffer.getvalue())
    for content in (*contents, b"damaged", b"", None):
        for file in files:
            file.unlink()
            if content is not None:
                file.write_bytes(content)
        np.testing.assert_array_equal(sampled(run, monkeypatch), expected)
        if content is None:
            break
    monkeypatch.setattr(sys, "argv", ["vae-compare", str(run)])
    commands.compare()
    assert not list(run.parents[1].rglob("x"))


WEIGHTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "of the other network": lambda weights: weights.update({"encoder/0": weights["decoder/0"]}),
    "missing": lambda weights: weights.pop("decoder/0"),
    "too many": lambda weights: weights.update({"decoder/999": np.zeros(3, np.float32)}),
    "elsewhere": lambda weights: weights.update({"../../x": np.zeros(3, np.float32)}),
    "words": lambda weights: weights.update({"encoder/0": weights["encoder/0"].astype(str)}),
    "complex": lambda weights: weights.update({"encoder/0": weights["encoder/0"].astype(complex)}),
    "no shape": lambda weights: weights.pop("image_shape"),
    "two sides": lambda weights: weights.update(image_shape=np.array([8, 8])),
    "halves": lambda weights: weights.update(image_shape=np.array([8.5, 8, 1])),
    "no side": lambda weights: weights.update(image_shape=np.array([0, 8, 1])),
    "negative": lambda weights: weights.update(image_shape=np.array([-8, 8, 1])),
    "far too large": lambda weights: weights.update(image_shape=np.array([2**40, 8, 1])),
    "too large": lambda weights: weights.update(image_shape=np.array([60_000, 60_000, 3])),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_that_are_none_of_the_runs_are_refused(run: Path, refusal: Refusal, name: str) -> None:
    change_weights(run, WEIGHTS[name])
    for said in looked_at(run, refusal):
        assert "models/weights.npz" in said
        assert "the run directory is damaged" in said


def test_a_pickle_among_the_weights_is_refused(run: Path, canary: Path, refusal: Refusal) -> None:
    kept = dict(np.load(run / "models" / "weights.npz"))
    for name in ("encoder/0", "image_shape"):
        np.savez(run / "models" / "weights.npz", **{**kept, name: np.array([Evil(canary)], dtype=object)})
        for said in looked_at(run, refusal):
            assert "weights.npz cannot be used (Object arrays" in said


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("latent", 10_000, "where the configuration makes it"),
        ("latent", 10**12, "must be"),
        ("latent", 3, "where the configuration makes it"),
        ("model/filters", 60_000, "where the configuration makes it"),
        ("model/filters", 10**9, "must be"),
        ("model/depth", 10**9, "must be"),
        ("model/kernel_size", "x", "not be converted"),
        ("model/_target_", "vae_runner.models.mlp.build", "the run directory is damaged"),
        ("posterior/_target_", "vae_runner.posteriors.point.Point", "where the configuration makes it"),
    ],
)
def test_a_configuration_of_other_networks_takes_no_memory_and_is_refused(
    run: Path, refusal: Refusal, path: str, value: Any, message: str
) -> None:
    change_config(run, lambda config: inject(config, path, value))
    for said in looked_at(run, refusal):
        assert message in said


@pytest.mark.parametrize("part", ["model", "posterior", "prior", "likelihood"])
def test_a_network_or_family_of_other_code_is_refused_where_it_is_looked_at(
    run: Path, canary: Path, refusal: Refusal, part: str
) -> None:
    for value in (
        {"_target_": "os.system", "command": f"touch {canary}"},
        {"_target_": "vae_runner.files.os.system", "command": f"touch {canary}"},
        {"_target_": "builtins.dict", "a": [{"_target_": "os.system", "command": f"touch {canary}"}]},
    ):
        change_config(run, lambda config, value=value: config.update({part: value}))
        module = value["_target_"].rpartition(".")[0]
        for said in looked_at(run, refusal):
            assert (
                f"{value['_target_']}, which is no part of vae-runner: if you trust that code, add --trust {module}"
                in said
            )


@pytest.mark.parametrize("part", ["posterior", "prior", "likelihood"])
@pytest.mark.parametrize("nested", [False, True])
def test_our_own_code_is_called_in_its_place_only(run: Path, refusal: Refusal, part: str, nested: bool) -> None:
    """What reads, writes or downloads files stands for a dataset, and for nothing else."""
    folder = run.parents[1] / "private"
    folder.mkdir()
    reads = {
        "_target_": "vae_runner.datasets.folder.load",
        "root": str(folder),
        "data_dir": str(run.parents[1] / "new"),
    }

    def change(config: dict[str, Any]) -> None:
        if nested:
            config[part]["more"] = reads
        else:
            config[part] = reads

    change_config(run, change)
    for said in looked_at(run, refusal):
        assert "vae_runner.datasets.folder.load, which is no part of vae-runner" in said
    assert not (run.parents[1] / "new").exists()


def test_other_parts_of_a_foreign_configuration_are_not_built_to_look_at_it(
    run: Path, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("dataset", "loss", "optimizer", "schedule"):
        change_config(
            run, lambda config, part=part: config[part].update(_target_="os.system", command=f"touch {canary}")
        )
    sampled(run, monkeypatch)


# --- links and names ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "metrics.csv", "run.json", "config.yaml", "vae-run.log", ".lock", "train", "checkpoints", "models",
        "figures", "models/encoder.keras", "evaluation/embeddings.npz", "figures/samples/epoch_0002.png", "new",
    ],
)  # fmt: skip
@pytest.mark.parametrize("dangling", [False, True], ids=["there", "dangling"])
def test_a_link_out_of_a_run_directory_is_followed_by_no_command(
    run: Path, refusal: Refusal, name: str, dangling: bool
) -> None:
    outside = run.parents[1] / "outside"
    place = run / name
    if not dangling:
        if place.exists():
            place.rename(outside)
        else:
            outside.write_text("mine")
    elif place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
    place.symlink_to(outside)
    before = outside.read_bytes() if outside.is_file() else outside.exists()
    for said in [*looked_at(run, refusal), resumed(run, refusal)]:
        assert "is a link out of the run directory: remove it" in said or "has no run.json" in said
    assert (outside.read_bytes() if outside.is_file() else outside.exists()) == before


LOOKED_UP = "which Hydra would look up: rename it"
DONE = "has done epoch 3 already"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("${oc.env:HOME}", LOOKED_UP),
        ("${now:%Y}", LOOKED_UP),
        *(
            (name, DONE)
            for name in ("a'b", "a\\b", "a\\", "a\\'b", 'a"b', "a,b", "[a]", "ü €", "a=b", "\x1b[31mred", "a\nb")
        ),
    ],
)
def test_a_run_directory_may_be_called_anything(run: Path, refusal: Refusal, name: str, message: str) -> None:
    moved = run.rename(run.with_name(name))
    before = sorted(run.parents[1].rglob("*"))
    said = refusal("vae-run", f"resume={moved}", cwd=run.parents[1])
    assert message in said
    assert "\x1b" not in said
    assert sorted(run.parents[1].rglob("*")) == before


# --- what is shown ------------------------------------------------------------------------------------------------

SCRIPT = '"><script>alert(1)</script>'
ESCAPES = "\x1b[2J\x1b]0;title\x07\u202e[red]x[/nothing]"


@pytest.fixture
def sweep(run: Path) -> Path:
    """A sweep of a good run and of hostile ones."""
    folder = run.parent
    (folder / "sweep.json").write_text(
        json.dumps(seal({"command": [SCRIPT, ESCAPES], "keys": [SCRIPT, "latent"], "begun": 1}))
    )
    told = json.loads((run / "run.json").read_text())["metrics"]
    for name in (SCRIPT.replace("/", "\\"), "javascript:alert(1)<!--", "=cmd()", ESCAPES.replace("/", "")):
        shutil.copytree(run, folder / name)
        change_info(folder / name, error=SCRIPT + ESCAPES, metrics={**told, SCRIPT: 1.0, "=1+1": 2.0, ESCAPES: 3.0})
        change_config(folder / name, lambda config: config.update({"seed": SCRIPT + ESCAPES, SCRIPT: "=1", "-x": "+1"}))
    for name in ("failed", SCRIPT):
        (folder / "bad").mkdir(exist_ok=True)
        (folder / "bad" / "run.json").write_text(json.dumps(seal({"format": FORMAT, "status": name, "error": SCRIPT})))
    return folder


def report(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sweep.parent)
    monkeypatch.setattr(sys, "argv", ["vae-compare", str(sweep)])
    commands.compare()


def test_a_sweeps_page_shows_what_runs_say_and_does_not_run_it(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report(sweep, monkeypatch)
    page = (sweep / "sweep.html").read_text()
    assert page.count("<script>") == 1  # the page's own
    assert "&lt;script&gt;alert(1)" in page
    assert "\x1b" not in page
    assert 'href="javascript:' not in page
    assert 'href="javascript%3Aalert%281%29%3C%21--/"' in page  # a folder, and no address


def test_a_sweeps_table_has_no_formulas_and_the_terminal_obeys_nothing(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "_width", 4000)
    report(sweep, monkeypatch)
    shown = capsys.readouterr().out
    assert not set("\x1b\x07\u202e") & set(shown)
    assert "[red]x[" in shown
    with (sweep / "sweep.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 7
    for cell in (cell for row in rows for cell in row):
        assert not cell.startswith(("=", "+", "@")), cell


def test_a_damaged_run_does_not_hide_the_others_of_a_sweep(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = sweep / "run"
    (sweep / "link").symlink_to(shutil.copytree(good, tmp_path / "elsewhere"))
    for name, content in {"nested": b"[" * NESTED, "empty": b"", "cut": (good / "run.json").read_bytes()[:-50]}.items():
        shutil.copytree(good, sweep / name)
        (sweep / name / "run.json").write_bytes(content)
    shutil.copytree(good, sweep / "aliases")
    (sweep / "aliases" / "config.yaml").write_text(BILLION)
    shutil.copytree(good, sweep / "leads-out")
    (sweep / "leads-out" / "figures" / "samples_normal.png").unlink()
    (sweep / "leads-out" / "figures" / "samples_normal.png").symlink_to(tmp_path / "private.png")
    report(sweep, monkeypatch)
    with (sweep / "sweep.csv").open(newline="") as file:
        status = {row["run"]: row["status"] for row in csv.DictReader(file)}
    assert status["run"] == "finished"
    damaged = {"link", "nested", "empty", "cut", "aliases", "leads-out", "bad"}
    assert {name for name, what in status.items() if what == "damaged"} == damaged


def test_a_picture_that_is_no_png_is_handed_to_no_other_program(
    sweep: Path, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **more: Any) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    for picture in sweep.glob("*/figures/**/*.png"):
        picture.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    report(sweep, monkeypatch)
    assert "data:image" not in (sweep / "sweep.html").read_text()


def test_what_a_run_says_is_shown_as_it_is_by_vae_compare(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.loads((run / "run.json").read_text())["metrics"]
    change_info(run, metrics={**told, ESCAPES: 1.0, "$\\frac$": 2.0, "=1+1": 3.0, "\ud800": 4.0})
    moved = run.rename(run.with_name("$\\frac$ [bold]"))
    monkeypatch.chdir(run.parents[1])
    monkeypatch.setattr(sys, "argv", ["vae-compare", str(moved)])
    commands.compare()
    assert not set("\x1b\x07\u202e") & set(capsys.readouterr().out)
    assert "'=1+1" in (run.parents[1] / "compare.csv").read_text()


def test_a_checkpoints_own_numbers_are_checked(run: Path) -> None:
    from vae_runner.files.untrusted import DamagedError

    content = max((run / "checkpoints").glob("step_*.npz")).read_bytes()
    arrays = dict(np.load(io.BytesIO(content)))
    state = json.loads(arrays.pop("state").tobytes())
    hostile: list[dict[str, Any]] = [
        {"rows": [{"epoch": "x"}]}, {"rows": [1]}, {"rows": [{}]}, {"epoch": -1}, {"epoch": 1}, {"steps": -1},
        {"seconds": {"training": "x"}}, {"config": 1}, {"images_per_second": "x"}, {"epoch": None},
    ]  # fmt: skip
    for change in hostile:
        packed = np.frombuffer(json.dumps(state | change).encode(), np.uint8)
        buffer = io.BytesIO()
        np.savez(buffer, state=packed, **arrays)
        with pytest.raises(DamagedError):
            Checkpoint.from_bytes(buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())
