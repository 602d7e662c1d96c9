"""The set-ups of docs/cluster.md: the SLURM script with SLURM and Ray played, the manifest by its fields."""

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

from tests import free_port
from tests.conftest import parsed

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SAY = """#!{python}
import json, os, socket, sys, time
with open({calls!r}, "a") as file:
    file.write(json.dumps([sys.argv[0].rsplit("/", 1)[-1], sys.argv[1:], os.environ.get("RAY_ADDRESS")]) + "\\n")
if "--head" in sys.argv:
    server = socket.create_server(("127.0.0.1", int(os.environ["RAY_PORT"])))
    time.sleep(60)
if "start" in sys.argv:
    time.sleep(60)
"""
SRUN = """#!/bin/bash
echo "[\\"srun\\", \\"$*\\", \\"\\"]" >> {calls}
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""


def program(path: Path, text: str, **values: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.format(**values))
    path.chmod(0o755)


def test_the_slurm_script_starts_ray_on_all_nodes_and_the_matrix_on_the_first(tmp_path):
    calls = str(tmp_path / "calls")
    for name in ("ray", "python"):
        program(tmp_path / ".venv" / "bin" / name, SAY, python=sys.executable, calls=calls)
    program(tmp_path / "bin" / "srun", SRUN, calls=calls)
    program(tmp_path / "bin" / "hostname", "#!/bin/sh\necho 127.0.0.1\n")
    port = str(free_port())
    slurm = {"SLURM_JOB_NUM_NODES": "4", "SLURM_CPUS_ON_NODE": "8", "SLURM_JOB_ID": "7", "RAY_PORT": port}
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    script = ["bash", str(EXAMPLES / "cluster.sbatch"), "digits", "--seeds", "0", "1"]
    subprocess.run(script, cwd=tmp_path, env={**os.environ, "PATH": path, **slurm}, check=True, timeout=60)
    said = [json.loads(line) for line in Path(calls).read_text().splitlines()]
    address = f"127.0.0.1:{port}"
    steps = [words for name, words, _ in said if name == "srun"]
    assert ["--nodes=1" in step for step in steps] == [True, False]
    assert "--nodes=3 --ntasks=3 --exclude=127.0.0.1" in steps[1]
    assert f"--address={address} --num-cpus=8 --temp-dir=/tmp/ray-7 --block" in steps[1]
    (command,) = [(words, where) for name, words, where in said if name == "python"]
    assert command == (["-m", "gans", "bench", "digits", "--seeds", "0", "1", "--engine", "ray"], address)
    assert parsed(command[0][2:]).machine.engine == "ray"


def test_the_manifest_runs_a_matrix_on_a_shared_volume():
    made = yaml.safe_load((EXAMPLES / "cluster.yaml").read_text())
    assert (made["apiVersion"], made["kind"]) == ("ray.io/v1", "RayJob")
    job = made["spec"]
    python, flag, program, *words = job["entrypoint"].split()
    assert (python, flag, program) == ("python", "-m", "gans")
    machine = parsed(words).machine
    machine.validate()
    assert machine.engine == "ray"
    groups = job["rayClusterSpec"]["workerGroupSpecs"]
    for pod in (job["rayClusterSpec"]["headGroupSpec"], *groups):
        spec = pod["template"]["spec"]
        (container,) = spec["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts.keys() <= {volume["name"] for volume in spec["volumes"]}
        assert str(machine.runs.parent) in mounts.values()
