"""Files that start a Ray cluster and a study on it: for SLURM, `ray up`, KubeRay and `ray job submit`."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from cl_core.errors import BadRequest, unknown
from search.storage.places import is_url
from spaces.study.study import Study
from spaces.study.study_file import load_study

TEMPLATES = {
    "slurm": "slurm.sh",
    "slurm-manual": "slurm-manual.sh",
    "ray-up": "ray-up.yaml",
    "kuberay": "kuberay.yaml",
    "job": "job.sh",
}
"""Template -> its file. `slurm` needs Ray 2.49 or newer for `ray symmetric-run`."""


@dataclass(frozen=True)
class Machines:
    """The machines to ask for: nodes with their CPUs, GPUs and memory, for a number of hours.

    `shared` is the folder that all nodes see, with the run folder unless `storage.root` is a URL. `hosts` has
    the machines of `ray-up` (the head first), `image` is the container of `kuberay` and `claim` its volume,
    `address` the head of `job`.
    """

    nodes: int = 2
    cpus: int = 8
    gpus: int = 0
    memory_gb: int = 32
    hours: float = 24.0
    shared: str = "/shared"
    hosts: tuple[str, ...] = ()
    image: str = "cl-search:latest"
    claim: str = "cl-search"
    address: str = "http://127.0.0.1:8265"


def launch_file(template: str, source: str, machines: Machines, sets: Sequence[str] = ()) -> str:
    """Return the text of a launch file for a study: a preset, or a file that all nodes see at its path.

    `sets` set single values of the study. Raises BadRequest for an unknown template, a study that is refused,
    or machines that cannot hold one run of it.
    """
    if template not in TEMPLATES:
        raise unknown("template", template, TEMPLATES)
    study = load_study(source, sets)
    file = str(Path(source).absolute()) if Path(source).is_file() else source
    _check(template, study, machines)
    environment = Environment(
        loader=PackageLoader("search.launch"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["quoted"] = lambda value: shlex.quote(str(value))
    environment.filters["yaml"] = json.dumps  # a JSON text is one in YAML
    root = study.storage.root if is_url(study.storage.root) else f"{machines.shared.rstrip('/')}/runs"
    folder = f"{root.rstrip('/')}/{study.study}"
    command = [
        "cl-search",
        "run",
        file,
        *(word for each in sets for word in ("--set", each)),
        "--out",
        folder,
    ]
    minutes = math.ceil(60 * machines.hours)
    return environment.get_template(TEMPLATES[template]).render(
        m=machines,
        name=study.study,
        folder=folder,
        command=shlex.join(command),
        object_name=_object_name(study.study),
        start=shlex.join(_start(study, machines)),
        parameters=_ray_start_parameters(study, machines),
        time=f"{minutes // 60:02d}:{minutes % 60:02d}:00",
        warning=_warning(study),
    )


def _warning(study: Study) -> int:
    """Return the seconds before SLURM's end in which running tasks end and no run starts."""
    return max(300, math.ceil(study.budget.grace_seconds) + 60)


def _object_name(study: str) -> str:
    """Return a study's name as KubeRay takes one for a job: a DNS label of 47 characters at most."""
    name = re.sub("[^a-z0-9]+", "-", study.lower()).strip("-")
    return (name if name[:1].isalpha() else f"study-{name}")[:47].strip("-")


def _custom(study: Study, machines: Machines) -> dict[str, float]:
    """Return the custom resources of a node: as many as it has GPUs, or one."""
    return {name: float(machines.gpus or 1) for name in study.resources.custom}


def _start(study: Study, machines: Machines) -> list[str]:
    """Return the arguments of `ray start` on a node."""
    out = [f"--num-cpus={machines.cpus}", f"--num-gpus={machines.gpus}"]
    if custom := _custom(study, machines):
        out.append(f"--resources={json.dumps(custom)}")
    if labels := study.resources.labels:
        out.append("--labels=" + ",".join(f"{name}={value}" for name, value in labels.items()))
    return out


def _ray_start_parameters(study: Study, machines: Machines) -> dict[str, str]:
    """Return what KubeRay's operator adds to `ray start`. It pastes values into a shell, hence the quotes."""
    out = {}
    if custom := _custom(study, machines):
        out["resources"] = json.dumps(json.dumps(custom))
    if labels := study.resources.labels:
        out["labels"] = ",".join(f"{name}={value}" for name, value in labels.items())
    return out


def _check(template: str, study: Study, machines: Machines) -> None:
    wanted = study.resources
    for name, value in (("nodes", machines.nodes), ("cpus", machines.cpus), ("memory", machines.memory_gb)):
        if value < 1:
            raise BadRequest(f"--{name} must be 1 or more, not {value}")
    if machines.gpus < 0 or not 0 < machines.hours < math.inf:
        raise BadRequest(
            f"--gpus must be 0 or more and --hours above 0, not {machines.gpus}, {machines.hours:g}"
        )
    if (wanted.cpu or 1) > machines.cpus or wanted.gpus > machines.gpus:
        raise BadRequest(
            f"a node must hold one run (cpu {wanted.cpu or 1:g}, gpu {wanted.gpus:g}), and has "
            f"{machines.cpus} CPUs and {machines.gpus} GPUs: raise --cpus or --gpus, or lower resources"
        )
    if not machines.shared.startswith("/"):
        raise BadRequest(f"--shared must be an absolute path that all nodes see, not {machines.shared!r}")
    if template.startswith("slurm") and machines.hours * 3600 <= (last := _warning(study)):
        raise BadRequest(
            f"--hours must be more than the last {last / 60:.0f} minutes, in which no run starts, not "
            f"{machines.hours:g}: raise it, or lower budget.grace"
        )
    if template == "ray-up" and not machines.hosts:
        raise BadRequest("ray-up needs the machines: give --hosts head,worker,worker")
