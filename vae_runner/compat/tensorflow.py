"""TensorFlow 2.21: custom gradients, how often machines are looked after, what it does not let one ask."""

from collections.abc import Iterator
from contextlib import contextmanager

from tensorflow.python.distribute.cluster_resolver import slurm_cluster_resolver
from tensorflow.python.distribute.collective_all_reduce_strategy import CollectiveAllReduceExtended
from tensorflow.python.framework import config, ops


@contextmanager
def custom_gradients_scoped() -> Iterator[None]:
    """Forget, at the end, the custom gradients of what was traced inside.

    Each `tf.custom_gradient` in a traced function is registered by a name of its own for as long as the process lives,
    and with it the whole graph, some megabytes: a sweep would grow by that with every run. tf.distribute uses them too,
    to sum gradients over replicas. There is no public way to the registry.
    """
    registry = ops.gradient_registry._registry
    before = set(registry)
    try:
        yield
    finally:
        for name in registry.keys() - before:
            if name.startswith("CustomGradient-"):
                del registry[name]


def check_machines_every(seconds: float, seconds_to_join: float) -> None:
    """Set how often the strategies of many machines look whether the others are alive, and how long they wait at first.

    At the end of a process TensorFlow waits for that check, which it does every 30 s; at the beginning it waits for the
    others without an end. Both are constants of a class.
    """
    CollectiveAllReduceExtended._check_health_interval = seconds
    CollectiveAllReduceExtended._check_health_initial_timeout = seconds_to_join


def is_deterministic() -> bool:
    """Return whether determinism of operations is on; there is no public way to ask."""
    return bool(config.is_op_determinism_enabled())


def slurm_machines(hosts: str, tasks: str | None) -> list[tuple[str, int]]:
    """Return each machine and how many tasks it has, of SLURM's lists "node[1-3,7]" and "2(x3),1"; one without a list.

    TensorFlow's own reading of them, which is not public: its SlurmClusterResolver then sorts the machines as text,
    node-10 before node-2, where SLURM has given the tasks their numbers in the order of the list.

    Raises:
        ValueError: they make no sense, or are of different lengths.
    """
    names = slurm_cluster_resolver.expand_hostlist(hosts)
    counts = slurm_cluster_resolver.expand_tasks_per_node(tasks) if tasks else [1] * len(names)
    return list(zip(names, counts, strict=True))
