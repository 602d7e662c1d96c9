"""The set-ups of docs/cluster.md: the SLURM script with SLURM and Ray played, the manifest by its fields."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import parsed
from tests.gans.training.mdgan.test_cluster import free_port

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SAY = """#!{python}
import json, os, socket, sys, time
with open({told!r}, "a") as file:
    file.write(json.dumps([sys.argv[0].rsplit("/", 1)[-1], sys.argv[1:], os.environ.get("RAY_ADDRESS")]) + "\\n")
if "--head" in sys.argv:
    server = socket.create_server(("127.0.0.1", int(os.environ["RAY_PORT"])))
    time.sleep(60)
if "start" in sys.argv:
    time.sleep(60)
"""
SRUN = """#!/bin/bash
echo "[\\"srun\\", \\"$*\\", \\"\\"]" >> {told}
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""


def program(path: Path, text: str, **values: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.format(**values))
    path.chmod(0o755)


def test_the_slurm_script_starts_ray_on_all_nodes_and_the_matrix_on_the_first(tmp_path):
    told = str(tmp_path / "told")
    for name in ("ray", "python"):
        program(tmp_path / ".venv" / "bin" / name, SAY, python=sys.executable, told=told)
    program(tmp_path / "bin" / "srun", SRUN, told=told)
    program(tmp_path / "bin" / "hostname", "#!/bin/sh\necho 127.0.0.1\n")
    port = str(free_port())
    slurm = {"SLURM_JOB_NUM_NODES": "4", "SLURM_CPUS_ON_NODE": "8", "SLURM_JOB_ID": "7", "RAY_PORT": port}
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    script = ["bash", str(EXAMPLES / "cluster.sbatch"), "digits", "--seeds", "0", "1"]
    subprocess.run(script, cwd=tmp_path, env={**os.environ, "PATH": path, **slurm}, check=True, timeout=60)
    said = [json.loads(line) for line in Path(told).read_text().splitlines()]
    address = f"127.0.0.1:{port}"
    steps = [words for name, words, _ in said if name == "srun"]
    assert ["--nodes=1" in step for step in steps] == [True, False]
    assert "--nodes=3 --ntasks=3 --exclude=127.0.0.1" in steps[1]
    assert f"--address={address} --num-cpus=8 --temp-dir=/tmp/ray-7 --block" in steps[1]
    (asked,) = [(words, where) for name, words, where in said if name == "python"]
    assert asked == (["-m", "gans", "bench", "digits", "--seeds", "0", "1", "--engine", "ray"], address)
    assert parsed(asked[0][2:]).machine.engine == "ray"


# fields of KubeRay's custom resources (v1), as far as the manifest may use them
JOB = {
    "entrypoint": str,
    "backoffLimit": int,
    "shutdownAfterJobFinishes": bool,
    "ttlSecondsAfterFinished": int,
    "activeDeadlineSeconds": int,
    "submissionMode": str,
    "runtimeEnvYAML": str,
    "entrypointNumCpus": (int, float),
    "rayClusterSpec": dict,
}
CLUSTER = {"headGroupSpec": dict, "workerGroupSpecs": list, "rayVersion": str, "enableInTreeAutoscaling": bool}
HEAD = {"rayStartParams": dict, "template": dict, "serviceType": str}
GROUP = HEAD | {"groupName": str, "replicas": int, "minReplicas": int, "maxReplicas": int}
CONTAINER = {
    "name": str,
    "image": str,
    "env": list,
    "envFrom": list,
    "resources": dict,
    "volumeMounts": list,
}


def fits(found: dict[str, Any], fields: dict[str, Any]) -> None:
    """Nothing that the resource does not know, and all of the right type."""
    for name, value in found.items():
        assert name in fields, name
        assert isinstance(value, fields[name]), name


def test_the_manifest_fits_kuberay_and_runs_a_matrix():
    made = yaml.safe_load((EXAMPLES / "cluster.yaml").read_text())
    assert (made["apiVersion"], made["kind"]) == ("ray.io/v1", "RayJob")
    job = made["spec"]
    fits(job, JOB)
    fits(job["rayClusterSpec"], CLUSTER)
    head, workers = job["rayClusterSpec"]["headGroupSpec"], job["rayClusterSpec"]["workerGroupSpecs"]
    fits(head, HEAD)
    for group in workers:
        fits(group, GROUP)
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for pod in (head, *workers):
        assert all(isinstance(value, str) for value in pod["rayStartParams"].values())
        spec = pod["template"]["spec"]
        (container,) = spec["containers"]
        fits(container, CONTAINER)
        volumes = {volume["name"] for volume in spec["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    python, flag, program, *words = job["entrypoint"].split()
    assert (python, flag, program) == ("python", "-m", "gans")
    asked = parsed(words)
    asked.machine.validate()
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert asked.machine.engine == "ray"
    assert str(asked.machine.runs.parent) in mounted
