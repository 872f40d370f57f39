"""The kinds of faults, with the ways in which each can happen and its share of a campaign."""

from __future__ import annotations

import signal

from tests.faults import ends, files, rivals, stores
from tests.faults.scene import Fault
from tests.faults.store import BUSY, GONE, SILENT, SLOW

KILL, TERM, USR1 = signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1
ON_RAY = ("ray", "cluster", "store-cluster")
CLUSTERS = ("cluster", "store-cluster")
STORES = ("store", "store-cluster")
DISKS = ("local", "ray", "cluster")

FAULTS = (
    Fault("driver killed", ends.driver(KILL), weight=2),
    Fault("driver terminated", ends.driver(TERM)),
    Fault("driver warned", ends.driver(USR1)),
    Fault("worker killed", ends.worker(KILL), ON_RAY, weight=3),
    Fault("worker terminated", ends.worker(TERM), ON_RAY),
    Fault("only node killed", ends.only_node, ("ray",)),
    Fault("raylet killed", ends.node(KILL, whole=False), CLUSTERS, weight=2),
    Fault("node killed", ends.node(KILL, whole=True), CLUSTERS, weight=2),
    Fault("node terminated", ends.node(TERM, whole=False), CLUSTERS),
    Fault("head killed", ends.head, CLUSTERS),
    Fault("disk full", ends.full, small_disk=True, weight=1.5),
    Fault("disk read-only", ends.read_only, small_disk=True),
    Fault("file size limited", ends.quota, ("local", "store")),
    Fault("gather killed", ends.gather, weight=1.5),
    Fault("part damaged", files.damage(files.parts), weight=2),
    Fault("rows of a running run damaged", files.damage(files.running)),
    Fault("checkpoint damaged", files.damage(files.checkpoints), weight=1.5),
    Fault("journal damaged", files.damage(files.journal)),
    Fault("journal torn", files.torn_journal),
    Fault("another file damaged", files.damage(files.others), DISKS),
    Fault("second command", rivals.second_command, weight=1.5),
    Fault("second study", rivals.second_study, weight=1.5),
    Fault("store unreachable", stores.fails(GONE, 10, 60, 250), STORES, weight=2),
    Fault("store silent", stores.fails(SILENT, 20, 60), STORES),
    Fault("store busy", stores.fails(BUSY, 10, 60, 250), STORES, weight=1.5),
    Fault("store slow", stores.fails(SLOW, 60), STORES),
    Fault("answer of a put lost", stores.answer_lost, STORES, weight=2),
    Fault("driver killed in an upload", stores.killed_in_upload, STORES, weight=2),
    Fault("continued on another machine", stores.other_machine, STORES, weight=1.5),
    Fault("object damaged", stores.object_damaged, STORES, weight=2),
)
