# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's objects. They live in memory; only the contents of volumes are files."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from lab.engine.principals import Group, Permission, Role, User
from lab.guests import GuestSpec

BLANK_TEMPLATE_ID = "00000000-0000-0000-0000-000000000000"
ROOT_TAG_ID = "00000000-0000-0000-0000-000000000000"
MIB = 1 << 20
GIB = 1 << 30
COMPAT_LEVELS = ((4, 4), (4, 5), (4, 6), (4, 7), (4, 8))


def allocated(path: Path) -> int:
    """Bytes that a file takes on the storage, 0 while there is none."""
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return 0


@dataclass(eq=False)
class DataCenter:
    id: str
    name: str
    description: str = ""
    status: str = "up"


@dataclass(eq=False)
class Cluster:
    id: str
    name: str
    data_center_id: str
    version: tuple[int, int]
    description: str = ""
    cpu_type: str = "Secure Intel Cascadelake Server Family"


@dataclass(eq=False)
class Host:
    id: str
    name: str
    address: str
    cluster_id: str
    hardware_id: str
    memory: int
    status: str = "up"
    tag_ids: set[str] = field(default_factory=set)


@dataclass(eq=False)
class StorageDomain:
    """A data domain on file storage. `directory` holds its volumes; `capacity` is in bytes."""

    id: str
    name: str
    data_center_id: str
    directory: Path
    address: str
    path: str
    capacity: int
    master: bool = False
    status: str = "active"
    description: str = ""
    comment: str = ""


@dataclass(eq=False)
class Network:
    id: str
    name: str
    data_center_id: str
    description: str = ""
    vlan: int | None = None


@dataclass(eq=False)
class VnicProfile:
    id: str
    name: str
    network_id: str
    description: str = ""


@dataclass(eq=False)
class Tag:
    id: str
    name: str
    description: str = ""
    parent_id: str | None = ROOT_TAG_ID


@dataclass(eq=False)
class FrozenVolume:
    """The volume of a disk as a snapshot has it; nobody writes to it any more."""

    image_id: str
    path: Path
    format: str
    sparse: bool
    snapshot_id: str
    created: datetime


@dataclass(eq=False)
class Disk:
    """An image disk; `format` is `raw` or `cow`, sizes are in bytes. `image_id`, `path` and `format` are those of the
    active volume, `below` the volumes of the snapshots that it lies on, the oldest first."""

    id: str
    alias: str
    format: str
    provisioned_size: int
    sparse: bool
    storage_domain_id: str
    image_id: str
    path: Path
    created: datetime
    description: str = ""
    backup: str = "none"
    status: str = "ok"
    content_type: str = "data"
    shareable: bool = False
    wipe_after_delete: bool = False
    propagate_errors: bool = False
    initial_size: int | None = None
    below: list[FrozenVolume] = field(default_factory=list)

    @property
    def actual_size(self) -> int:
        """Bytes allocated on the storage, 0 while there is no file."""
        return allocated(self.path)


@dataclass(eq=False)
class Attachment:
    """A disk on a VM; its id in the API is the disk's id."""

    vm_id: str
    disk_id: str
    interface: str
    bootable: bool
    active: bool
    read_only: bool = False
    pass_discard: bool = False
    logical_name: str | None = None


@dataclass(eq=False)
class Nic:
    id: str
    vm_id: str
    name: str
    mac: str
    vnic_profile_id: str | None = None
    interface: str = "virtio"
    linked: bool = True
    plugged: bool = True


@dataclass(eq=False)
class Vm:
    """`guest` describes the program that writes inside the VM while it runs, if there is one.

    `disc` is the ISO disk in the CD drive at the next start, `current_disc` the one that is in it while the VM runs.
    `custom_version` is a compatibility level of the VM's own, instead of its cluster's; `next_version` (in a tuple, as
    None is one too) that which it gets when it is down.
    `backup_id` is the exclusive lock of a live or cold backup, `hybrid_backup_id` an open hybrid one, which locks
    less; `removing_checkpoint` and `snapshot_in_work` are those of other commands."""

    id: str
    name: str
    cluster_id: str
    created: datetime
    snapshot_id: str
    memory: int = GIB
    max_memory: int = 4 * GIB
    memory_guaranteed: int = GIB
    sockets: int = 1
    cores: int = 1
    threads: int = 1
    os_type: str = "other_linux"
    vm_type: str = "server"
    description: str = ""
    comment: str = ""
    status: str = "down"
    host_id: str | None = None
    start_time: datetime | None = None
    stop_time: datetime | None = None
    stop_reason: str | None = None
    template_id: str = BLANK_TEMPLATE_ID
    original_template_id: str = BLANK_TEMPLATE_ID
    origin: str = "ovirt"
    stateless: bool = False
    delete_protected: bool = False
    high_availability: bool = False
    ha_priority: int = 0
    boot_devices: tuple[str, ...] = ("hd",)
    bios_type: str = "q35_sea_bios"
    guest: GuestSpec | None = None
    disc: str | None = None
    current_disc: str | None = None
    tag_ids: set[str] = field(default_factory=set)
    custom_version: tuple[int, int] | None = None
    next_version: tuple[tuple[int, int] | None] | None = None
    backup_id: str | None = None
    hybrid_backup_id: str | None = None
    removing_checkpoint: str | None = None
    snapshot_in_work: str | None = None


@dataclass(eq=False)
class BackupDisk:
    disk_id: str
    mode: str | None
    """`full` or `incremental`; None once the backup is over."""


@dataclass(eq=False)
class Backup:
    """`stage` is the engine's own phase (e.g. `CREATING_SCRATCH_DISKS`); the API shows fewer."""

    id: str
    vm_id: str
    live: bool
    description: str
    from_checkpoint_id: str | None
    disks: list[BackupDisk]
    created: datetime
    modified: datetime
    host_id: str | None
    stage: str = "INITIALIZING"
    to_checkpoint_id: str | None = None
    planned_checkpoint_id: str | None = None
    scratch_disk_ids: list[str] = field(default_factory=list)
    stop_requested: bool = False
    hybrid: bool = False
    snapshot_id: str | None = None
    with_bitmap: list[str] = field(default_factory=list)
    """Ids of the disks in the checkpoint of a hybrid backup."""

    @property
    def over(self) -> bool:
        return self.stage in ("SUCCEEDED", "FAILED")


@dataclass(eq=False)
class Snapshot:
    """A regular snapshot. `disk_ids`: the disks that it has a volume of; `ovf`: the VM's configuration then."""

    id: str
    vm_id: str
    description: str
    created: datetime
    disk_ids: list[str]
    ovf: str
    status: str = "locked"
    persist_memory: bool = False


@dataclass(eq=False)
class Checkpoint:
    id: str
    vm_id: str
    parent_id: str | None
    created: datetime
    description: str
    disk_ids: list[str]
    state: str = "created"


@dataclass(eq=False)
class Transfer:
    """`image_id`: the volume of a snapshot that is read, None for the disk as it is. `phase` is as in the API; clients' actions set it at once and the session's next poll acts on it."""

    id: str
    disk_id: str
    disk_alias: str
    direction: str
    format: str | None
    backup_id: str | None
    image_id: str | None
    shallow: bool
    inactivity_timeout: int
    timeout_policy: str
    host_id: str
    created: datetime
    last_updated: datetime
    phase: str = "initializing"
    ticket_id: str | None = None
    transfer_url: str | None = None
    proxy_url: str | None = None
    active: bool = False
    transferred: int = 0
    ended: datetime | None = None

    @property
    def upload(self) -> bool:
        return self.direction == "upload"

    @property
    def over(self) -> bool:
        return self.phase in ("finished_success", "finished_failure")


@dataclass(eq=False)
class State:
    """Everything the engine knows, by id."""

    data_centers: dict[str, DataCenter] = field(default_factory=dict)
    clusters: dict[str, Cluster] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)
    storage_domains: dict[str, StorageDomain] = field(default_factory=dict)
    networks: dict[str, Network] = field(default_factory=dict)
    vnic_profiles: dict[str, VnicProfile] = field(default_factory=dict)
    tags: dict[str, Tag] = field(default_factory=dict)
    users: dict[str, User] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    roles: dict[str, Role] = field(default_factory=dict)
    permissions: dict[str, Permission] = field(default_factory=dict)
    directory_users: list[User] = field(default_factory=list)
    directory_groups: list[Group] = field(default_factory=list)
    vms: dict[str, Vm] = field(default_factory=dict)
    disks: dict[str, Disk] = field(default_factory=dict)
    attachments: list[Attachment] = field(default_factory=list)
    nics: dict[str, Nic] = field(default_factory=dict)
    backups: dict[str, Backup] = field(default_factory=dict)
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    transfers: dict[str, Transfer] = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)

    def forget_permissions_on(self, object_id: str) -> None:
        """Of an object that is removed."""
        for permission in [p for p in self.permissions.values() if p.object_id == object_id]:
            del self.permissions[permission.id]

    def attachments_of_vm(self, vm_id: str) -> list[Attachment]:
        return [a for a in self.attachments if a.vm_id == vm_id]

    def attachments_of_disk(self, disk_id: str) -> list[Attachment]:
        return [a for a in self.attachments if a.disk_id == disk_id]

    def nics_of_vm(self, vm_id: str) -> list[Nic]:
        return [n for n in self.nics.values() if n.vm_id == vm_id]

    def checkpoints_of_vm(self, vm_id: str) -> list[Checkpoint]:
        """From the root to the leaf."""
        return [c for c in self.checkpoints.values() if c.vm_id == vm_id]

    def snapshots_of_vm(self, vm_id: str) -> list[Snapshot]:
        """The oldest first."""
        return [s for s in self.snapshots.values() if s.vm_id == vm_id]

    def transfers_of_backup(self, backup_id: str) -> list[Transfer]:
        return [t for t in self.transfers.values() if t.backup_id == backup_id]

    def is_in_hybrid_backup(self, disk_id: str) -> bool:
        """Of an open one."""
        open_ones = (b for b in self.backups.values() if b.hybrid and not b.over)
        return any(member.disk_id == disk_id for backup in open_ones for member in backup.disks)

    def open_transfers_of_disk(self, disk_id: str) -> list[Transfer]:
        return [t for t in self.transfers.values() if t.disk_id == disk_id and not t.over]
