"""The only module that imports Ray: an existing cluster, or a local one.

`RAY_ADDRESS` names an existing cluster (`host:port` from one of its machines, or `auto`); without it a local one
is started when one is wanted, and stopped with its user.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gans
from gans.errors import InputError, first_line

if TYPE_CHECKING:
    from types import ModuleType

CONNECT_SECONDS = 5.0  # for a cluster to answer at all
STORE_BYTES = 512 * 2**20  # shared memory of a local cluster, for batches and discriminators on their way
TOKEN = "~/.ray/auth_token"  # where Ray keeps it
AUTO = "auto"  # in RAY_ADDRESS: the cluster that this machine is part of
# Ray's own remarks, usage reports over the network and watch on memory, which would kill other people's processes
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_memory_monitor_refresh_ms": "0",
}


def ray_module(wanted: str = "workers = ray") -> ModuleType:
    """Ray, which `wanted` needs."""
    for key, value in QUIET.items():
        os.environ.setdefault(key, value)
    # `ray start` wants a token where there is one; Ray sends it only if this is set before it is imported
    token = Path(TOKEN).expanduser().exists() or {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    if address() and token:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ImportError:
        raise InputError(
            f"{wanted} needs the package ray, which is not installed; "
            "make setup EXTRAS=cluster, or pip install 'gans[cluster]'"
        ) from None
    return ray


def address() -> str | None:
    """`host:port` or `auto` of the existing cluster, if one is named."""
    named = os.environ.get("RAY_ADDRESS", "").strip()
    if not named or named == "local":
        return None
    host, _, port = named.rpartition(":")
    if named != AUTO and (not host or not port.isdecimal() or "/" in host):
        raise InputError(
            f"RAY_ADDRESS={named} is not the HOST:PORT of a Ray cluster; take 10.0.0.1:6379 or auto, or unset it"
        )
    return named


@contextmanager
def connected(cpus: int) -> Iterator[None]:
    """A connection to the cluster that this process works in or RAY_ADDRESS names, or a local one meanwhile."""
    ray = ray_module()
    if ray.is_initialized():
        yield
        return
    # the cluster's machines need the same packages, but not this code
    connect(cpus, "WORKERS=local", {"py_modules": [str(Path(gans.__file__).parent)]})
    try:
        yield
    finally:
        ray.shutdown()


def connect(cpus: int, otherwise: str, runtime_env: dict[str, Any] | None = None) -> None:
    """Connect this process to the cluster that RAY_ADDRESS names, or to a local one that is started.

    Args:
        cpus: of a local cluster; more than there are take turns.
        otherwise: what to use where there is none, for the error.
        runtime_env: for processes of an existing one.
    """
    ray = ray_module()
    named = address()
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if named:
        if named != AUTO:
            check_reachable(named)
        options |= {"address": named, "runtime_env": runtime_env}
    else:
        options |= {"address": "local", "num_cpus": max(cpus, 1), "include_dashboard": False}
        options["object_store_memory"] = STORE_BYTES
    try:
        with own_signals():
            ray.init(**options)
    except Exception as error:  # of many kinds: other versions of Python or Ray, no room, no permission
        where = f"use the Ray cluster at {named}" if named else "start a local Ray cluster"
        why = first_line(error.__cause__ or error)
        raise InputError(f"cannot {where}: {why}; {remedy(str(error))}, or take {otherwise}") from None


def remedy(error: str) -> str:
    """What may help if Ray does not connect."""
    if "AF_UNIX" in error:
        return "its sockets lie in RAY_TMPDIR, else TMPDIR, whose path is too long: set RAY_TMPDIR=/tmp"
    if "Could not find any running Ray instance" in error:
        return "RAY_ADDRESS=auto is for machines of a cluster: start one (ray start --head), or unset RAY_ADDRESS"
    return "see that versions and token (~/.ray/auth_token) are the same"


@contextmanager
def own_signals() -> Iterator[None]:
    """Keep this process's handler of SIGTERM, which Ray replaces by its own."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def check_reachable(named: str) -> None:
    """Try the address before Ray does, which takes minutes to give up."""
    host, _, port = named.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"no Ray cluster answers at RAY_ADDRESS={named} ({error}); start one there "
            "(ray start --head), or unset RAY_ADDRESS for a local one"
        ) from None


def pinned(node: str) -> Any:
    """The strategy by which Ray runs something on this node, or not at all."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)


def queue() -> Any:
    """Ray's queue, on this machine."""
    import ray
    from ray.util.queue import Queue

    here = pinned(ray.get_runtime_context().get_node_id())
    return Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})


def cause(error: BaseException) -> str:
    """Ray's explanation in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    _, _, refusal = text.rpartition("InputError: ")  # a task's own, below Ray's account of where it was raised
    if refusal != text:
        return refusal
    # its guesses at what may be behind it follow the fact
    detail = text.partition("Worker exit detail: ")[2] or text
    return detail.partition(" Some common causes")[0][:200]
