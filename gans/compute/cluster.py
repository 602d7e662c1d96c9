"""The boundary between the suite and Ray, which nothing else imports: a cluster that is there, or a local one.

`RAY_ADDRESS` names an existing cluster (`host:port`, from one of its machines); without it a local one is started
when one is wanted, and stopped with its user.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gans
from gans.errors import InputError, first_line

if TYPE_CHECKING:
    from types import ModuleType

CONNECT_SECONDS = 5.0  # for a cluster to answer at all
STORE_BYTES = 512 * 2**20  # shared memory of a local cluster, for batches and discriminators on their way
TOKEN = "~/.ray/auth_token"  # where Ray keeps it
ENVIRONMENT = "GANS_RUNTIME_ENV"  # of such processes, for those that they start
CHECKED = "GANS_SAME_CODE"  # set in processes of a cluster whose machines are known to have this code
# Ray's own remarks, usage reports over the network and watch on memory, which would kill other people's processes
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_memory_monitor_refresh_ms": "0",
}


def ray_module(wanted: str = "workers = ray") -> ModuleType:
    """Ray.

    Args:
        wanted: what needs it, for the error.

    Raises:
        InputError: it is not installed.
    """
    for key, value in QUIET.items():
        os.environ.setdefault(key, value)
    # `ray start` asks for a token where there is one; Ray sends it only when it is told to, before it is imported
    if address() and (_token() or {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()):
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ImportError:
        raise InputError(
            f"{wanted} needs the package ray, which is not installed; "
            "make setup EXTRAS=cluster, or pip install 'gans[cluster]'"
        ) from None
    return ray


def _token() -> bool:
    """Whether Ray keeps a token for this user, who may have no home."""
    with suppress(RuntimeError):
        return Path(TOKEN).expanduser().exists()
    return False


def address() -> str | None:
    """Of the existing cluster, if one is named.

    Raises:
        InputError: it is no `host:port`.
    """
    named = os.environ.get("RAY_ADDRESS", "").strip()
    if not named or named == "local":
        return None
    host, _, port = named.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise InputError(f"RAY_ADDRESS={named} is no HOST:PORT of a Ray cluster; take 10.0.0.1:6379, or unset it")
    return named


@contextmanager
def connected(cpus: int) -> Iterator[None]:
    """A connection to the cluster that RAY_ADDRESS names, or a local cluster meanwhile.

    Args:
        cpus: of a local cluster; more than there are take turns.

    Raises:
        InputError: there is no cluster at the address, or none of this version.
    """
    # the cluster's machines need the same packages, but not this code
    inherited = json.loads(os.environ.get(ENVIRONMENT, "{}"))
    shipped = inherited if CHECKED in os.environ else {"py_modules": [str(Path(gans.__file__).parent)]}
    connect(cpus, shipped, "WORKERS=local")
    try:
        yield
    finally:
        ray_module().shutdown()


def connect(cpus: int, runtime_env: dict[str, Any], otherwise: str) -> None:
    """Connect this process to the cluster that RAY_ADDRESS names, or to a local one that is started.

    Args:
        cpus: of a local cluster.
        runtime_env: for processes of an existing one.
        otherwise: what to ask for where there is none, for the error.

    Raises:
        InputError: as `connected`.
    """
    ray = ray_module()
    named = address()
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if named:
        reachable(named)
        options |= {"address": named, "runtime_env": runtime_env}
    else:
        # more workers than cores take turns on them, as they would in one process
        options |= {"address": "local", "num_cpus": max(cpus, 1), "include_dashboard": False}
        options |= {"object_store_memory": STORE_BYTES}
    try:
        with own_signals():
            ray.init(**options)
    except Exception as error:  # of many kinds: other versions of Python or Ray, no room, no permission
        where = f"use the Ray cluster at {named}" if named else "start a local Ray cluster"
        raise InputError(
            f"cannot {where}: {first_line(error.__cause__ or error)}; "
            f"see that versions and token (~/.ray/auth_token) are the same, or take {otherwise}"
        ) from None


@contextmanager
def own_signals() -> Iterator[None]:
    """Keep this process's answer to a polite kill, which Ray replaces by its own."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def reachable(named: str) -> None:
    """Ask before Ray does, which takes minutes to give up."""
    host, _, port = named.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"no Ray cluster answers at RAY_ADDRESS={named} ({error}); start one there "
            "(ray start --head), or unset RAY_ADDRESS for a local one"
        ) from None


def environment() -> dict[str, Any]:
    """The `runtime_env` of this process of a cluster, for those that it starts."""
    return dict(ray_module().get_runtime_context().runtime_env)


# --- bookings


def reserve(needs: dict[str, float]) -> Any:
    """A booking on any one node, by what of it is wanted; Ray finds a place for it in its own time."""
    from ray.util import placement_group

    return placement_group([needs])


def reserved(booking: Any) -> str:
    """The id of the node where a booking is; empty as long as there is no room."""
    from ray.util import placement_group_table

    found = placement_group_table(booking)
    return str(found["bundles_to_node_id"][0]) if found.get("state") == "CREATED" else ""


def release(booking: Any) -> None:
    """Let others have what was booked."""
    from ray.util import remove_placement_group

    remove_placement_group(booking)


def pinned(node: str) -> Any:
    """The strategy by which Ray runs something on this node, or not at all."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)


def within(booking: Any) -> dict[str, Any]:
    """Ray's options for an actor that takes the GPU of a booking, and no other sees it."""
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    there = PlacementGroupSchedulingStrategy(placement_group=booking, placement_group_bundle_index=0)
    return {"num_cpus": 0, "num_gpus": 1, "scheduling_strategy": there}
