"""Ray 2.60: the moment when it has begun, and where it will connect to."""

from collections.abc import Callable

import ray._private.services
import ray._private.worker


def after_init(action: Callable[[], object]) -> None:
    """Do something when `ray.init` is over, also one that a plugin calls: there is no public hook.

    Ray then has its own way with signals, which may be taken back there.
    """
    ray._private.worker._post_init_hooks.append(action)


def address(given: str | None) -> str | None:
    """Return the address that `ray.init` would take for this one, from the environment or its own files; or None.

    It looks itself only when it connects, and then tries again and again.
    """
    if given not in (None, "auto"):
        return given
    try:
        return ray._private.services.get_ray_address_from_environment(given, None)  # type: ignore[arg-type]
    except ConnectionError:
        return None
