# SPDX-License-Identifier: GPL-3.0-or-later
"""Kills workers at random instants, waits for the ends, and judges them."""

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from backups.models import RestorePoint
from backups.store import gc
from backups.store.verify import verify_repository
from portal.environments.models import VirtualMachine
from portal.jobs.models import Job, JobLock
from portal.jobs.states import ACTIVE
from tests import private_services
from tests.flows import support
from tests.soak.instants import Instant, Pace, choose
from tests.soak.works import (
    Alone,
    Backup,
    CollectGarbage,
    DeletePoint,
    JobWork,
    RestoreAsNew,
    Stage,
    Verify,
    VerifyRepository,
    Work,
)
from tests.worker_support import Workers

Tell = Callable[[str], None]
STOPPED = ("files-01", "legacy-01")
RUNNING = ("web-01", "db-01", "mail-01")
MACHINES = (*STOPPED, *RUNNING)
# Of a compatibility level at which backups take the Manager's automatic snapshot; one is down, the other runs.
HYBRID = ("files-01", "web-01")
HYBRID_LEVEL = 7
# What is done to the repository and not to a machine.
WHOLE = "-"
# Of a step that an undisturbed work passes too quickly to be seen, in seconds.
SHORTEST_STEP = 0.05
# Of the portal on one machine: those that are kept, and one that a failed removal may leave until the next backup.
MOST_CHECKPOINTS = 3
# How many kills may miss (the work was over) before something is wrong with the soak itself.
MISSES_ALLOWED = 60


@contextlib.contextmanager
def hybrid_machines(stage: Stage) -> Iterator[None]:
    """Some machines at a level of their own for a while, which they take on while they are down."""
    with contextlib.ExitStack() as levels:
        for name in HYBRID:
            vm = stage.vm(name)
            with _down(stage, vm):
                levels.enter_context(support.level(stage.environment, vm, HYBRID_LEVEL))
        try:
            yield
        finally:
            with contextlib.ExitStack() as down:
                for name in HYBRID:
                    down.enter_context(_down(stage, stage.vm(name)))
                levels.close()


@contextlib.contextmanager
def _down(stage: Stage, vm: VirtualMachine) -> Iterator[None]:
    if support.is_down(stage.environment, vm):
        yield
        return
    support.set_power(stage.environment, vm, up=False)
    support.note_power_cut(stage.lab, vm)
    try:
        yield
    finally:
        support.set_power(stage.environment, vm, up=True)


@dataclass(frozen=True)
class Row:
    """One line of the table: a work that was hit."""

    work: Work
    instants: Sequence[Instant]
    phases: Sequence[str]
    seconds: float
    wrong: Sequence[str]

    @property
    def right(self) -> bool:
        return not self.wrong

    def __str__(self) -> str:
        place = ", ".join(f"{at} in {phase}" for at, phase in zip(self.instants, self.phases, strict=False))
        end = self.work.ending() if self.right else f"WRONG {self.work.ending()}: {'; '.join(self.wrong)}"
        return f"{self.work.kind:<18} {self.work.machine:<10} {place:<60} {self.seconds:6.1f} s  {end}"


@dataclass
class Soak:
    stage: Stage
    workers: Workers
    dice: random.Random
    tell: Tell
    rows: list[Row] = field(default_factory=list)
    paces: dict[tuple[str, str], Pace] = field(default_factory=dict)
    misses: int = 0

    def summary(self) -> dict[str, Any]:
        """`kills` works were hit, by `signals` in all; so many came to a right end."""
        return {
            "kills": len(self.rows),
            "right_ends": sum(row.right for row in self.rows),
            "signals": sum(row.work.hits() for row in self.rows),
            "kinds": sorted({row.work.kind for row in self.rows}),
            "phases": sorted({phase for row in self.rows for phase in row.phases}),
        }

    # --- before anything is killed ------------------------------------------------------------------

    def measure(self) -> None:
        """A first and a second backup of each machine, and one of everything else, to learn how long they take."""
        for full in (True, False):
            self._measure([Backup(self.stage, machine, full=full) for machine in MACHINES])
        self._measure([kind(self.stage, machine) for kind in (RestoreAsNew, Verify) for machine in MACHINES])
        self._measure([kind(self.stage, WHOLE) for kind in (CollectGarbage, VerifyRepository)])

    def _measure(self, works: Sequence[Work]) -> None:
        for work in works:
            began = time.monotonic()
            work.begin()
            work.end()
            seconds = time.monotonic() - began
            wrong = work.judge()
            assert not wrong, f"undisturbed, {work.kind} of {work.machine}: {wrong}"
            self.paces[work.kind, work.machine] = _pace(work, seconds)
            work.tidy()

    # --- killing ------------------------------------------------------------------------------------

    def run(self, kills: int) -> None:
        """Until that many works were hit and judged."""
        while len(self.rows) < kills:
            works = self._choose_works(kills - len(self.rows))
            brake = self.dice.random() < 0.3 and any(isinstance(work, JobWork) for work in works)
            self.batch(works, [self._plan(work) for work in works], brake=brake)
            assert self.misses < MISSES_ALLOWED, "the kills come too late"

    def _choose_works(self, most: int) -> list[Work]:
        """Mostly one, sometimes several at once, no two on one machine, at most one collection."""
        count = min(most, self.dice.choice((1, 1, 2, 2, 3)))
        works: list[Work] = []
        for machine in self.dice.sample(MACHINES, count):
            kind = self.dice.choice(
                ("full", "incremental", "incremental", "restore", "restore", "verify", "delete", "gc")
            )
            works.append(self._work(kind, machine, alone=any(work.machine == WHOLE for work in works)))
        return works

    def _work(self, kind: str, machine: str, *, alone: bool) -> Work:
        kept = RestorePoint.objects.kept().filter(vm__name=machine).count()
        if kind == "restore":
            return RestoreAsNew(self.stage, machine)
        if kind == "verify":
            return Verify(self.stage, machine)
        if kind == "delete" and kept > 2:
            return DeletePoint(self.stage, machine)
        if kind == "gc" and not alone:
            return self.dice.choice((CollectGarbage, CollectGarbage, VerifyRepository))(self.stage, WHOLE)
        return Backup(self.stage, machine, full=kind == "full")

    def batch(self, works: Sequence[Work], plans: Sequence[Sequence[Instant]], *, brake: bool) -> None:
        """Begin all, kill each at its instants, wait for all ends, judge each and then the whole.

        With `brake` the image server is slow until the last kill.
        """
        before = support.on_manager(self.stage.environment)
        began = time.monotonic()
        with support.slow_image_server(self.stage.lab) if brake else contextlib.nullcontext():
            for work in works:
                work.begin()
            phases = self._kill_all(works, plans)
        self.workers.mend()
        rows = []
        for work, instants, seen in zip(works, plans, phases, strict=True):
            work.end()
            rows.append(Row(work, instants, seen, time.monotonic() - began, work.judge()))
        wrong = self._judge_whole(works, before)
        for work in works:
            work.tidy()
        wrong += self._next_backups(works)
        for row in rows:
            if row.work.hits() or not row.right or wrong:
                row = Row(row.work, row.instants, row.phases, row.seconds, [*row.wrong, *wrong])
                self.rows.append(row)
                self.tell(f"{len(self.rows):>3} {row}")
            else:
                self.misses += 1

    def _plan(self, work: Work) -> list[Instant]:
        pace = self.paces.get((work.kind, work.machine), Pace(0.5, {}))
        return choose(self.dice, pace, may_give_up=isinstance(work, Backup | RestoreAsNew))

    def _kill_all(self, works: Sequence[Work], plans: Sequence[Sequence[Instant]]) -> list[list[str]]:
        """Kill each work at each of its instants, one after the other; returns in which phases it was."""
        todo = [_Killing(work, list(plan)) for work, plan in zip(works, plans, strict=True)]
        deadline = time.monotonic() + 300
        while any(each.instants for each in todo) and time.monotonic() < deadline:
            for each in todo:
                due = each.due()
                if due is not None:
                    if due.broker:
                        private_services.restart_redis()
                    each.work.kill(due.number)
                    self.workers.mend()
            time.sleep(0.003)
        return [each.phases for each in todo]

    # --- judging ------------------------------------------------------------------------------------

    def _judge_whole(self, works: Sequence[Work], before: support.OnManager) -> list[str]:
        wrong = []
        vms = [vm_id for work in works for vm_id in work.new_vms]
        now = support.on_manager(self.stage.environment)
        for name in ("open_backups", "open_transfers", "locked"):
            if getattr(now, name):
                wrong.append(f"left on the Manager, {name}: {sorted(getattr(now, name))}")
        if now.vms != before.vms | set(vms):
            wrong.append(f"machines {sorted(now.vms ^ before.vms)} instead of {vms}")
        if not before.disks <= now.disks or len(now.disks - before.disks) != sum(w.new_disks for w in works):
            wrong.append(f"disks came or went: {sorted(now.disks ^ before.disks)}")
        if any(now.snapshots.get(vm_id) != found for vm_id, found in before.snapshots.items()):
            wrong.append(f"snapshots came or went: {before.snapshots} became {now.snapshots}")
        wrong += self._stray_checkpoints(before, now)
        if JobLock.objects.exists():
            wrong.append(f"locks are held: {list(JobLock.objects.values_list('key', flat=True))}")
        return wrong + self._unwhole_points()

    def _stray_checkpoints(self, before: support.OnManager, now: support.OnManager) -> list[str]:
        """Every new one belongs to a visible point, and not more of them are kept than are needed."""
        known = {
            str(item)
            for item in RestorePoint.objects.exclude(checkpoint_id=None).values_list(
                "checkpoint_id", flat=True
            )
        }
        wrong = []
        for vm_id, checkpoints in now.checkpoints.items():
            stray = set(checkpoints) - set(before.checkpoints.get(vm_id, ())) - known
            if stray:
                wrong.append(f"checkpoints that no point has: {sorted(stray)}")
            ours = known & set(checkpoints)
            if len(ours) > MOST_CHECKPOINTS:
                wrong.append(f"{len(ours)} of our checkpoints of {vm_id}")
        return wrong

    def _unwhole_points(self) -> list[str]:
        """No folder without a manifest, no visible point without a row, no row without a visible point."""
        store = self.stage.repository.open()
        wrong = [
            f"an unfinished point of {machine}: {path.name}"
            for machine in MACHINES
            for path in support.staged_points(self.stage.vm(machine), self.stage.repository.path)
        ]
        visible = {ref.point_uuid for ref in store.points()}
        rows = {str(uuid) for uuid in RestorePoint.objects.kept().values_list("uuid", flat=True)}
        if visible != rows:
            wrong.append(f"rows and points differ: {sorted(visible ^ rows)}")
        return wrong

    def _next_backups(self, works: Sequence[Work]) -> list[str]:
        """Of each machine once more, undisturbed."""
        machines = {work.machine for work in works if isinstance(work, JobWork)} - {WHOLE}
        again = [Backup(self.stage, machine, full=False) for machine in sorted(machines)]
        for work in again:
            work.begin()
        wrong = []
        for work in again:
            work.end()
            wrong += [f"the next backup of {work.machine}: {text}" for text in work.judge()]
        return wrong

    def judge_end(self) -> list[str]:
        """At the very end: garbage is collected, nothing is left of dead writers, every chunk is as it should be."""
        wrong = [f"job {job} is {job.state}" for job in Job.objects.filter(state__in=ACTIVE)]
        store = self.stage.repository.open()
        time.sleep(store.gc_age_seconds + 1)
        gc.collect(store, older_than_seconds=store.gc_age_seconds)
        left = [path.name for path in store.chunks.temporary.iterdir()]
        if left:
            wrong.append(f"temporary files of dead writers are left: {left}")
        result = verify_repository(store)
        if result.bad or result.broken_points:
            wrong.append(f"chunks {result.bad[:5]} are bad, points {result.broken_points} broken")
        return wrong


@dataclass
class _Killing:
    """One work and the kills that are still to come."""

    work: Work
    instants: list[Instant]
    phases: list[str] = field(default_factory=list)
    _since: float | None = None
    _hits: int = 0

    def due(self) -> Instant | None:
        """The next instant, once it has come; none are left once the work is over."""
        if not self.instants:
            return None
        if self.work.is_over() and not isinstance(self.work, Alone):
            self.instants.clear()
            return None
        if not self.work.is_running():
            if isinstance(self.work, Alone):
                self.instants.clear()
            self._since = None
            return None
        instant, now = self.instants[0], time.monotonic()
        if self._since is None and (not instant.step or self.work.phase() == instant.step):
            self._since = now
        if self._since is None or now - self._since < instant.after:
            return None
        self._since = None
        self.phases.append(self.work.phase())
        return self.instants.pop(0)


def _pace(work: Work, seconds: float) -> Pace:
    if not isinstance(work, JobWork):
        return Pace(seconds, {})
    steps: dict[str, float] = {}
    for step in work.job.steps.all():
        name = step.name.partition("-")[0]
        if step.started_at and step.finished_at:
            took = (step.finished_at - step.started_at).total_seconds()
            steps[name] = max(SHORTEST_STEP, took, steps.get(name, 0))
    assert work.job.started_at and work.job.finished_at
    return Pace((work.job.finished_at - work.job.started_at).total_seconds(), steps)
