"""Which machines take part, from keys, from TF_CONFIG, and from SLURM."""

import json
import os

import pytest

from vae_runner.errors import UserError
from vae_runner.runtime.cluster import Cluster, find
from vae_runner.runtime.schema import HardwareConfig

TWO = ["node-1:8888", "node-2:8888"]


def hardware(**keys: object) -> HardwareConfig:
    return HardwareConfig(**{"distribution": "multi_worker", **keys})


def tf_config(**content: object) -> dict[str, str]:
    return {"TF_CONFIG": json.dumps(content)}


def test_a_run_on_one_machine_has_no_cluster_whatever_the_environment_says() -> None:
    environment = tf_config(cluster={"worker": TWO}, task={"type": "worker", "index": 1})
    assert find(HardwareConfig(), environment) is None


def test_keys_come_before_the_environment() -> None:
    environment = tf_config(cluster={"worker": ["elsewhere:1"]}, task={"type": "worker", "index": 0})
    assert find(hardware(workers=TWO, worker=1), environment) == Cluster(tuple(TWO), 1)


def test_tf_config_is_read_as_tensorflow_has_it() -> None:
    environment = tf_config(cluster={"worker": TWO}, task={"type": "worker", "index": 1})
    assert find(hardware(), environment) == Cluster(tuple(TWO), 1)
    with_chief = {"chief": ["node-0:8888"], "worker": TWO}
    worker = find(hardware(), tf_config(cluster=with_chief, task={"type": "worker", "index": 0}))
    assert worker == Cluster(("node-0:8888", *TWO), 1)
    chief = find(hardware(), tf_config(cluster=with_chief, task={"type": "chief", "index": 0}))
    assert chief is not None
    assert chief.is_chief


def slurm(**variables: str) -> dict[str, str]:
    return {f"SLURM_{name}": value for name, value in {"JOB_ID": "40007", "LOCALID": "0", **variables}.items()}


def test_slurm_tells_each_task_its_machine_and_its_place_there() -> None:
    environment = slurm(STEP_NODELIST="node-[2,10],login", STEP_TASKS_PER_NODE="2,1(x2)", NODEID="1")
    found = find(hardware(), environment)
    assert found == Cluster(("node-2:10007", "node-2:10008", "node-10:10007", "login:10007"), 2)
    second = find(hardware(), {**environment, "SLURM_NODEID": "0", "SLURM_LOCALID": "1"})
    assert second is not None
    assert second.index == 1


def test_a_machine_is_found_in_what_tensorflow_says() -> None:
    cluster = Cluster(tuple(TWO), 0)
    assert cluster.named_in("from /job:worker/replica:0/task:1: connection reset") == "node-2:8888"
    assert cluster.named_in("on /job:worker/replica:0/task:0/device:CPU:0") is None


@pytest.mark.parametrize(
    ("keys", "environment", "message"),
    [
        ({}, {}, r"which machines\? Give hardware\.workers="),
        ({"workers": ["node-1"], "worker": 0}, {}, r"hardware\.workers: node-1 is not an address: write host:port"),
        ({"workers": [*TWO, TWO[0]], "worker": 0}, {}, "give each address once"),
        ({"workers": TWO}, {}, r"hardware\.worker=None: give this machine.s number among the 2 workers, 0 to 1"),
        ({"workers": TWO, "worker": 2}, {}, r"hardware\.worker=2: give this machine.s number among the 2 workers"),
        ({}, {"TF_CONFIG": "{"}, "TF_CONFIG={ cannot be read"),
        ({}, {"TF_CONFIG": "[]"}, "cannot be read"),
        ({}, tf_config(cluster={"worker": TWO}, task={"type": "worker", "index": 7}), "TF_CONFIG's task index=7"),
        ({}, tf_config(cluster={"worker": TWO}, task={"type": "evaluator", "index": 0}), "cannot be read"),
        ({}, slurm(STEP_NODELIST="a,b"), r"SLURM's variables cannot be read \(KeyError: 'SLURM_NODEID'\)"),
        ({}, slurm(STEP_NODELIST="a,b", NODEID="0", STEP_TASKS_PER_NODE="x"), "SLURM's variables cannot be read"),
        (
            {},
            slurm(STEP_NODELIST="a,b", NODEID="1", LOCALID="3"),
            "SLURM's task=4: give this machine.s number among the 2 workers",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(keys: dict[str, object], environment: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        find(hardware(**keys), environment)


def test_the_environment_of_the_process_is_what_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"worker": TWO}, "task": {"type": "worker", "index": 0}}))
    assert find(hardware()) == Cluster(tuple(TWO), 0)
    assert os.environ["TF_CONFIG"]
