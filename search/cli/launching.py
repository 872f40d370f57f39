"""The verb that writes launch files for clusters."""

from __future__ import annotations

from typing import Annotated

import typer

from search.cli import complete
from search.cli.parser import PARTS, Sets, app, errors


@app.command(rich_help_panel=PARTS)
def cluster(
    template: Annotated[
        str,
        typer.Argument(metavar="TEMPLATE", help="slurm, slurm-manual, ray-up, kuberay, or job."),
    ],
    study: Annotated[
        str,
        typer.Argument(
            metavar="STUDY",
            autocompletion=complete.studies,
            help="A preset's name, or a study file by its path on the cluster.",
        ),
    ],
    sets: Sets = None,
    nodes: Annotated[int, typer.Option(metavar="N", help="Nodes that train.")] = 2,
    cpus: Annotated[int, typer.Option(metavar="N", help="CPUs of a node.")] = 8,
    gpus: Annotated[int, typer.Option(metavar="N", help="GPUs of a node.")] = 0,
    memory: Annotated[int, typer.Option(metavar="GB", help="Memory of a node.")] = 32,
    hours: Annotated[float, typer.Option(metavar="H", help="Hours until the scheduler ends it.")] = 24.0,
    shared: Annotated[
        str,
        typer.Option(
            metavar="DIR",
            help="The folder that all nodes see. Run folders lie in DIR/runs, unless storage.root is a URL.",
        ),
    ] = "/shared",
    hosts: Annotated[
        str | None, typer.Option(metavar="A,B", help="Machines for ray-up, the head first.")
    ] = None,
    image: Annotated[
        str, typer.Option(metavar="IMAGE", help="Container of kuberay, with cl-search installed.")
    ] = "cl-search:latest",
    claim: Annotated[
        str, typer.Option(metavar="NAME", help="Persistent volume claim of kuberay for --shared.")
    ] = "cl-search",
    address: Annotated[
        str, typer.Option(metavar="URL", help="Dashboard of the running cluster, for job.")
    ] = "http://127.0.0.1:8265",
) -> None:
    """Print a launch file for SLURM, ray up, KubeRay or ray job submit, filled from a study."""
    with errors():
        from search.launch.launch_file import Machines, launch_file

        machines = Machines(
            nodes,
            cpus,
            gpus,
            memory,
            hours,
            shared,
            tuple(filter(None, (hosts or "").split(","))),
            image,
            claim,
            address,
        )
        typer.echo(launch_file(template, study, machines, sets or []), nl=False)
