# SPDX-License-Identifier: Apache-2.0
"""kill -9 and SIGSTOP of everyone who takes part, at each phase, with PostgreSQL under load.

One cell of the matrix is a victim, a signal and a phase. A cluster has its data and its WAL on two
volumes; pgbench writes, one session commits tiny transactions and notes how long each took, and so
do O_DIRECT writes to each file system. A set of both volumes is begun, the victim is hit in that
very moment (tap.py), and then:

  - no file system waited longer than lease + flush + restart, no session longer than the writer's
    window; where the victim itself serves the volumes or the sessions, no longer than it was stopped;
  - the set is whole or gone, never half; the slot is free; the writer is released; the next set works;
  - no acknowledged transaction is lost, pgbench's sums agree, nobody saw an I/O error;
  - every copy that was ever confirmed still reads as on its first day.

The short form is a sample by the seed: each victim once, and one more in the hold. UMBRA_LONG=1 is the
whole matrix, UMBRA_CELLS=VICTIM-SIGNAL-PHASE (a shell pattern) what it names. The table of outcomes is
printed at the end, as Markdown.
"""

import contextlib
import dataclasses
import fnmatch
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time

import harness
import pg_cluster
import tap as wire
from harness import LONG, Failure, World, expect, require_fuse_and_loop, run_command, wait_until
from probe import Probe

VICTIMS = ("umbrad", "cowd", "guardian", "holder", "writer", "requester", "postgres")
SIGNALS = ("KILL", "STOP")
CELLS_PER_WORLD = 24  # The copies of a world are compared, and the cluster checked, at its end.

DRILL_MS = 400  # How long a hold is stretched: time enough to see that both file systems are frozen.
STUCK_S = 0.06  # A write that takes longer while a set is frozen waits for the thaw.
HIT_S = 0.2  # How long a signal may take until it shows.
STOP_S = 1.0  # A victim stays stopped for this long at least.
ANSWER_S = 1.0  # What the writer waits for its cluster,
CHECKPOINT_S = 5.0  # and for a checkpoint.
RESTART_S = 4.0  # The flush that a thaw may wait for, and a restart of umbra-cowd, on a busy machine.
SETTLE_S = 30.0
COPIES_KEPT = 4  # Sets; older ones are compared and deleted.


@dataclasses.dataclass(frozen=True)
class Times:
    """In seconds."""

    lease: float
    window: float  # Of the writer: Freeze to Thaw.
    answer: float  # How long umbrad waits for an answer where nothing is frozen.

    def configuration(self):
        if self == DEFAULT:
            return ""
        answers = (
            "prepare_for_backup prepare_for_snapshot end_prepare pre_commit post_commit final_commit confirm "
            "post_snapshot backup_complete thaw abort abort_wait backup_shutdown sequence sequence_long"
        )
        lines = [f"{name} = {int(self.answer * 1000)}" for name in answers.split()]
        return "\n".join(["[limits]", f"hold_lease = {int(self.lease * 1000)}", *lines]) + "\n"


SHORT = Times(lease=2.0, window=4.0, answer=3.0)
# As delivered. The answers that are waited for in these cells take no longer.
DEFAULT = Times(lease=10.0, window=60.0, answer=60.0)

PROVIDER, WRITER = "provider", "writer"
# Where each phase is hit: whose call, and at which moments of it (one is chosen by the seed).
PHASES = {
    "prepare_for_backup": (WRITER, "prepare_for_backup", (wire.ASKED, wire.ANSWERED)),
    "long_flush": (PROVIDER, "end_prepare_snapshots", (wire.WORKING,)),
    "prepare_for_snapshot": (WRITER, "prepare_for_snapshot", (wire.WORKING, wire.ANSWERED)),
    "freeze": (WRITER, "freeze", (wire.ANSWERED,)),
    "hold": (PROVIDER, "flush_commit_release", (wire.WORKING,)),
    "post_commit": (PROVIDER, "post_commit_snapshots", (wire.ASKED, wire.WORKING, wire.ANSWERED)),
    "thaw": (WRITER, "thaw", (wire.ASKED,)),
    "pre_final_commit": (PROVIDER, "pre_final_commit_snapshots", (wire.WORKING, wire.ANSWERED)),
    "post_snapshot": (WRITER, "post_snapshot", (wire.ASKED, wire.ANSWERED)),
    "confirm": (PROVIDER, "confirm_set", (wire.ASKED, wire.WORKING, wire.ANSWERED)),
    "backup_complete": (WRITER, "backup_complete", (wire.ASKED, wire.ANSWERED)),
}
WRITER_IS_FROZEN = ("freeze", "hold", "post_commit")  # And is told nothing if umbrad stops there.
EXIT_IN_PART = 3
AFTER_CONFIRM = ("backup_complete",)


@dataclasses.dataclass(frozen=True)
class Cell:
    victim: str
    signal: str
    phase: str
    times: Times = SHORT

    def __str__(self):
        return f"{self.victim}-{self.signal}-{self.phase}" + ("-default" if self.times == DEFAULT else "")

    def makes_sense(self):
        """Holders live while they flush and while they hold."""
        return self.victim != "holder" or self.phase in ("long_flush", "hold")


CELLS = [Cell(v, s, p) for v in VICTIMS for s in SIGNALS for p in PHASES]
# Where the delivered lease and window are what ends the wait.
CELLS += [
    Cell("umbrad", "STOP", "freeze", DEFAULT),
    Cell("umbrad", "KILL", "hold", DEFAULT),
    Cell("cowd", "STOP", "hold", DEFAULT),
    Cell("cowd", "KILL", "hold", DEFAULT),
    Cell("guardian", "STOP", "hold", DEFAULT),
    Cell("holder", "STOP", "hold", DEFAULT),
    Cell("writer", "STOP", "thaw", DEFAULT),
]


@dataclasses.dataclass
class Row:
    """What is in the table."""

    cell: Cell
    moment: str = ""
    stopped_s: float = 0.0
    outcome: str = ""
    status: object = ""
    frozen_s: float = 0.0
    blocked_s: float = 0.0
    problems: list = dataclasses.field(default_factory=list)

    def markdown(self):
        cell = self.cell
        stop = f"STOP {self.stopped_s:.1f} s" if cell.signal == "STOP" else cell.signal
        phase = cell.phase + (" (delivered limits)" if cell.times == DEFAULT else "")
        if not cell.makes_sense():
            return f"| {cell.victim} | {cell.signal} | {phase} | | | | | | it does not live then |"
        verdict = "; ".join(self.problems).replace("\n", " ").replace("|", "/") or "good"
        return (
            f"| {cell.victim} | {stop} | {phase} | {self.moment} | {self.outcome} | {self.status} | "
            f"{self.frozen_s:.2f} | {self.blocked_s:.2f} | {verdict} |"
        )


HEAD = (
    "| victim | signal | phase | moment | set | requester's status | longest freeze s | longest block s "
    "| verdict |\n|---|---|---|---|---|---|---|---|---|"
)


def table(rows):
    return "\n".join([HEAD, *(row.markdown() for row in rows)])


def digest(path):
    total = hashlib.sha1()  # Against accidents, and the quickest here.
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


class Scene:
    """A world of its own: both daemons, two volumes, a cluster on them, load, probes, a writer."""

    def __init__(self, binaries, seed, times):
        self.times = times
        self.world = World(binaries, seed)
        self.taps = {}
        self.copies = {}  # set id -> {snapshot id: digest}, the oldest first.
        self.probes = {}

    def set_up(self):
        world = self.world
        world.at_end(lambda: [tap.close() for tap in self.taps.values()])
        os.makedirs(world.run_dir, mode=0o755)
        self.configuration = world.path("umbrad.toml")
        with open(self.configuration, "w", encoding="ascii") as file:
            file.write(self.times.configuration())
        self.start_umbrad()
        for name in (PROVIDER, WRITER):
            self.taps[name] = wire.Tap(world.path(f"{name}.sock"), world.socket())
        self.start_unit()
        self.directories = {}
        for name, size_mib in (("data", 192), ("wal", 96)):
            device = world.attach(name, size_mib, "--diff-size", "256M")["device_path"]
            self.directories[name] = world.mkfs_and_mount(device, name)
        self.cluster = pg_cluster.Cluster(
            world, "db", f"{self.directories['data']}/pg", f"{self.directories['wal']}/pg"
        )
        self.cluster.create(
            wal_segment_mib=1, max_wal_size="24MB", min_wal_size="8MB", checkpoint_timeout="30s"
        )
        self.cluster.start()
        self.cluster.pgbench_init(2)
        self.cluster.psql("CREATE TABLE umbra_probe AS SELECT 0::bigint AS n")
        self.start_load()
        self.start_writer()
        wait_until(self.writer_is_registered, "the writer is registered")

    def start_umbrad(self):
        self.umbrad = self.world.start_umbrad("--config", self.configuration)

    def start_unit(self):
        """umbra-cowd under its guardian, to whom each kill must look like the first."""
        world = self.world
        self.guardian = world.start(
            world.binary("umbra-guardian"), "--run-dir", world.run_dir, "--restart-failures", 1000,
            "--restart-window-ms", 500, "--",
            world.binary("umbra-cowd"), "--run-dir", world.run_dir, "--state-dir", world.state_dir,
            "--socket", self.taps[PROVIDER].path, "--log-level", "debug", "--drill-hold-ms", DRILL_MS,
            name="umbra-cowd",
        )  # fmt: skip
        wait_until(world.provider_connected, "umbra-cowd is registered with umbrad")

    def start_writer(self):
        """As the superuser, since roles and rights are no matter of these cases."""
        world = self.world
        self.writer = world.start(
            *pg_cluster.as_postgres(
                world.binary("umbra-writer-postgresql"), "--socket", self.taps[WRITER].path,
                "--freeze-window-ms", int(self.times.window * 1000),
                "--answer-wait-ms", int(ANSWER_S * 1000), "--checkpoint-wait-ms", int(CHECKPOINT_S * 1000),
                "--user", pg_cluster.USER, f"{self.cluster.socket_dir}:{self.cluster.port}",
            ),
            name="writer", cwd="/",
        )  # fmt: skip

    def start_load(self):
        """What a crash of the server ends."""
        self.load = self.cluster.pgbench("--rate=250", clients=4)
        if not self.probes:
            for name, directory in self.directories.items():
                self.probes[name] = Probe(self.world, name, "writes", os.path.join(directory, "probe"))
            self.probes["session"] = Probe(self.world, "session", "session", self.cluster.conninfo())

    def file_systems(self):
        return [self.probes[name] for name in self.directories]

    # --- who is where --------------------------------------------------------------------------

    def holder_pids(self):
        return [pid for pid in self.world.pids() if _comm(pid) == "umbra-holder" and harness.is_alive(pid)]

    def victims(self, name):
        """To be asked before the moment: looking for them takes a while."""
        if name == "holder":
            return []
        if name == "cowd":
            return [wait_until(self.world.cowd_pid, "umbra-cowd runs")]
        if name == "postgres":
            return self.cluster.pids()
        return [getattr(self, name).pid]

    def both_frozen(self):
        records = os.path.join(self.world.run_dir, "frozen")
        if not os.path.isdir(records) or not os.listdir(records):
            return False
        return all(probe.waiting_s() > STUCK_S for probe in self.file_systems())

    def status(self):
        """None while umbrad cannot say."""
        return self.world.umbra("status", check=False, limit_s=20)

    def windows_ended(self):
        """How often a writer went on by its own timer."""
        return self.world.log_text("writer").count("freeze window ended")

    def slot_is_free(self):
        status = self.status()
        return status is not None and status["set_in_progress"] is None

    def writer_is_registered(self):
        listed = self.world.umbra("list", "writers", check=False)
        return listed is not None and len(listed["writers"]) == 1

    def writer_is_stable(self):
        listed = self.world.umbra("list", "writers", check=False)
        return listed is not None and [w["state"] for w in listed["writers"]] == ["VSS_WS_STABLE"]

    def members(self, set_id):
        """(of the set in the listing of created copies, in the listing of all); None: not known now."""
        found = []
        for more in ([], ["--incomplete"]):
            listed = self.world.umbra("list", "shadows", *more, check=False)
            if listed is None or listed["absent_providers"]:
                return None
            found.append([s for s in listed["snapshots"] if s["set_id"] == set_id])
        return found

    def outcome(self, set_id):
        """'whole' or 'gone' if it is, else None."""
        found = self.members(set_id)
        if found == [[], []]:
            return "gone"
        if found and len(found[0]) == len(found[1]) == len(self.directories):
            return "whole"
        return None

    # --- copies --------------------------------------------------------------------------------

    def create(self):
        return self.world.umbra_raw(
            "create", "shadow", *self.directories, "--json", check=False, limit_s=4 * self.times.answer + 60
        )

    def create_in_background(self):
        world = self.world
        self.requester = world.start(
            world.binary("umbra"), "--run-dir", world.run_dir, "--json",
            "create", "shadow", *self.directories, name="create",
        )  # fmt: skip

    def remember(self, set_id):
        """The set's content is what it has to be from now on."""
        created, _ = self.members(set_id)
        for copy in created:
            expect(not copy["lost"], f"lost when it was new: {copy}")
        self.copies[set_id] = {copy["snapshot_id"]: digest(copy["device_object"]) for copy in created}
        while len(self.copies) > COPIES_KEPT:
            oldest = next(iter(self.copies))
            self.compare(oldest)
            self.copies.pop(oldest)
            self.world.umbra("delete", "shadows", "--set", oldest)

    def compare(self, set_id):
        created, _ = self.members(set_id)
        expect(len(created) == len(self.copies[set_id]), f"confirmed copies are gone: {created}")
        for copy in created:
            expect(not copy["lost"], f"a confirmed copy is lost: {copy}")
            now = digest(copy["device_object"])
            was = self.copies[set_id][copy["snapshot_id"]]
            expect(now == was, f"a confirmed copy has changed: {copy}")

    def check_file_system(self, copy):
        """Of a duplicate, which e2fsck may write to: what was unlinked and open is an orphan there."""
        duplicate = self.world.path("duplicate.img")
        run_command("cp", "--sparse=always", copy["device_object"], duplicate)
        done = run_command("e2fsck", "-fp", duplicate, check=False)
        expect(done.returncode in (0, 1), f"the file system of a copy is damaged: {done.stdout}{done.stderr}")
        os.unlink(duplicate)

    def open_copy(self, set_id):
        """Both halves are of one instant: a server starts on them and finds the sums equal."""
        created, _ = self.members(set_id)
        for one in created:
            self.check_file_system(one)
        places = {
            one["original_volume"]: self.world.umbra("mount", one["snapshot_id"])["path"]
            for one in created
        }
        copy = pg_cluster.copy_of(self.cluster, "copy", f"{places['data']}/pg", f"{places['wal']}/pg")
        copy.start()
        pg_cluster.expect_sums_agree(copy.sums())
        copy.stop("immediate")
        for one in created:
            self.when_unused("unmount", one["snapshot_id"])

    def when_unused(self, *command):
        """Whoever copied the mount namespace meanwhile has its mounts for a while longer."""
        wait_until(lambda: self.world.umbra(*command, check=False) is not None, " ".join(command))

    # --- the end -------------------------------------------------------------------------------

    def restart_unit(self):
        """What an administrator does when the guardian is gone: nothing can be frozen without one."""
        world = self.world
        self.stop_users()
        for directory in self.directories.values():
            run_command("umount", directory)
        cowd = wait_until(world.cowd_pid, "umbra-cowd lives without its guardian")
        os.kill(cowd, signal.SIGTERM)
        wait_until(lambda: not harness.is_alive(cowd), "umbra-cowd has stopped")
        self.start_unit()
        for name, device in self.devices().items():
            run_command("mount", device, self.directories[name])
        self.cluster.start()
        self.start_load()

    def stop_users(self):
        """Whoever has files open on the volumes."""
        for probe in self.probes.values():
            probe.stop()
        self.probes = {}
        self.load.stop()
        self.cluster.stop()

    def devices(self):
        return {v["name"]: v["device_path"] for v in self.world.umbra("list", "volumes")["volumes"]}

    def finish(self):
        """Everything is as it has to be, and goes away in order."""
        world = self.world
        for set_id in self.copies:
            self.compare(set_id)
            self.open_copy(set_id)
        pg_cluster.expect_sums_agree(self.cluster.sums())
        self.cluster.amcheck()
        self.stop_users()
        world.stop(self.writer)
        world.umbra("delete", "shadows", "--all")
        for name, device in self.devices().items():
            run_command("umount", self.directories[name])
            run_command("e2fsck", "-fn", device)
            self.when_unused("detach", name)
        expect(world.stop(self.guardian) == 0, "umbra-cowd did not stop cleanly")
        expect(world.stop(self.umbrad) == 0, "umbrad did not stop cleanly")
        for tap in self.taps.values():
            tap.close()
        world.assert_clean()


def _comm(pid):
    try:
        with open(f"/proc/{pid}/comm", encoding="ascii", errors="replace") as name:
            return name.read().strip()
    except OSError:
        return ""


def runs(pid):
    """Whether any of its threads does."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return False
    states = {harness.process_state(f"{pid}/task/{thread}") for thread in threads}
    return bool(states - {None, "Z", "X", "T"})


def signal_all(pids, number):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


class Missed(Exception):
    """The phase was over before the victim was hit: try again."""


class Trial:
    """One cell, from the beginning of a set to the next one's success."""

    def __init__(self, scene, cell):
        self.scene = scene
        self.cell = cell
        self.row = Row(cell)
        self.hit_at = None
        self.victims = []

    def run(self):
        link, method, moments = PHASES[self.cell.phase]
        self.row.moment = self.scene.world.random.choice(moments)
        tap = self.scene.taps[link]
        self.begin = time.monotonic()
        self.windows_before = self.scene.windows_ended()
        try:
            self.reach_and_hit(tap, f"{link}.{method}")
            self.stay_stopped()
            self.bring_back()
            self.row.status = self.requester_status()
            self.settle()
            self.measure()
            self.judge()
        finally:
            signal_all(self.victims, signal.SIGCONT)
            tap.disarm()
        return self.row

    # --- the hit -------------------------------------------------------------------------------

    def reach_and_hit(self, tap, method):
        scene, cell = self.scene, self.cell
        if cell.phase == "long_flush":
            self.make_dirty()
        scene.requester = None
        if cell.victim != "requester":
            self.victims = scene.victims(cell.victim)
        at_once = cell.phase != "hold" and cell.victim != "holder"
        ready = threading.Event()

        def in_the_moment():
            ready.wait(10)  # Until the requester's process id is known.
            if at_once:
                self.hit()

        for each in scene.taps.values():
            each.forget()
        trap = tap.arm(method, self.row.moment, in_the_moment)
        scene.create_in_background()
        if cell.victim == "requester":
            self.victims = [scene.requester.pid]
        ready.set()
        wait_until(
            lambda: trap.sprung.is_set() or scene.requester.poll() is not None,
            f"the set gets to {cell.phase}",
            4 * scene.times.answer + 30,
        )
        # The requester may end while the trap still looks whether the victim is hit.
        if trap.call is None or not trap.sprung.wait(10):
            raise Missed(f"the set failed before {cell.phase}: {self.last_words()}")
        if trap.error is not None:
            raise Failure(f"the victim could not be hit: {trap.error}")
        if not at_once:
            self.hit_when_ready(trap)
        provider = scene.taps[PROVIDER]
        begun = provider.calls("provider.begin_prepare_snapshot")
        (self.set_id,) = {params["set_id"] for params in begun}

    def hit_when_ready(self, trap):
        """In the long flush and in the hold, when the process or the freeze that is meant is there."""
        scene, cell = self.scene, self.cell

        def ready():
            if trap.answered:
                raise Missed(f"{cell.phase} was over")
            if cell.phase == "hold" and not scene.both_frozen():
                return False
            if cell.victim == "holder":
                self.victims = scene.holder_pids()
                return self.victims
            return True

        wait_until(ready, f"everything is in {cell.phase}", 20)
        self.hit()
        if trap.answered:
            self.row.moment = "just over"

    def hit(self):
        """Returns when the victim does nothing any more, or the kernel does not let it end just now."""
        number = {"KILL": signal.SIGKILL, "STOP": signal.SIGSTOP}[self.cell.signal]
        only_mother = self.cell.victim == "postgres" and self.cell.signal == "KILL"
        hit = self.victims[:1] if only_mother else self.victims
        signal_all(hit, number)
        self.hit_at = time.monotonic()
        with contextlib.suppress(Failure):
            wait_until(lambda: not any(runs(pid) for pid in hit), "the victim is hit", HIT_S)

    def make_dirty(self):
        """So that there is something to flush."""
        with open(os.path.join(self.scene.directories["data"], "ballast"), "wb") as file:
            file.write(os.urandom(8 << 20) * 3)

    # --- back to life --------------------------------------------------------------------------

    def stay_stopped(self):
        """A stopped victim delays nobody beyond the limits: all waits end while it is stopped."""
        scene, cell = self.scene, self.cell
        if cell.signal != "STOP":
            return
        wait_until(lambda: time.monotonic() >= self.hit_at + STOP_S, "it was stopped for a while", STOP_S + 1)
        if cell.victim == "umbrad" and cell.phase in WRITER_IS_FROZEN:
            wait_until(
                lambda: scene.windows_ended() > self.windows_before,
                "the writer goes on although nobody tells it",
                scene.times.window + 2,
            )
        if cell.victim != "umbrad":
            wait_until(scene.slot_is_free, "the slot is free although it is stopped", self.slot_limit_s())
        if cell.victim not in ("cowd", "postgres"):
            for probe in scene.probes.values():
                probe.gets_on(max(self.frozen_limit_s(), scene.times.window) + 2)
        self.row.stopped_s = time.monotonic() - self.hit_at
        signal_all(self.victims, signal.SIGCONT)

    def slot_limit_s(self):
        """The call that the victim does not answer, and Abort, to which it gives none either."""
        times = self.scene.times
        return 3 * times.answer + times.window + times.lease + RESTART_S

    def bring_back(self):
        """What a service manager does."""
        scene, cell = self.scene, self.cell
        if cell.signal != "KILL":
            return
        if cell.victim == "umbrad":
            scene.umbrad.wait(20)
            scene.start_umbrad()
        elif cell.victim == "cowd":
            wait_until(lambda: scene.world.cowd_pid() not in (None, *self.victims), "a successor runs", 20)
        elif cell.victim == "writer":
            scene.writer.wait(20)
            scene.start_writer()
        elif cell.victim == "postgres":
            self.bring_back_server()

    def bring_back_server(self):
        """The orphaned backends end by themselves; one that waits for a frozen file system, after it."""
        scene = self.scene
        wait_until(lambda: not any(harness.is_alive(pid) for pid in self.victims), "the backends end", 30)
        scene.cluster.process.wait(20)
        scene.load.process.wait(20)
        scene.cluster.start()
        scene.start_load()

    def requester_status(self):
        try:
            status = self.scene.requester.wait(self.slot_limit_s() + SETTLE_S)
        except subprocess.TimeoutExpired:
            raise Failure("the requester does not end") from None
        return f"signal {-status}" if status < 0 else status

    def settle(self):
        scene = self.scene
        wait_until(scene.world.provider_connected, "umbra-cowd is registered", SETTLE_S)
        wait_until(scene.slot_is_free, "the slot is free", self.slot_limit_s())
        for name, probe in scene.probes.items():
            probe.gets_on(SETTLE_S)
        try:
            self.row.outcome = wait_until(
                lambda: scene.outcome(self.set_id), "the set is whole or gone", SETTLE_S
            )
        except Failure:
            self.row.outcome = "HALF"
            self.row.problems.append(f"half a set: {scene.members(self.set_id)}")
        wait_until(scene.writer_is_registered, "the writer is registered", SETTLE_S)

    # --- the verdict ---------------------------------------------------------------------------

    def frozen_limit_s(self):
        cell, times = self.cell, self.scene.times
        limit = times.lease + RESTART_S
        if self.is_unserved():
            limit += self.row.stopped_s
        return limit

    def is_unserved(self):
        """A stopped umbra-cowd serves nothing; where file systems are frozen the guardian continues it."""
        return (self.cell.victim, self.cell.signal) == ("cowd", "STOP") and self.cell.phase != "hold"

    def blocked_limit_s(self):
        cell, times = self.cell, self.scene.times
        if self.is_unserved() or (cell.victim, cell.signal) == ("postgres", "STOP"):
            return self.row.stopped_s + self.frozen_limit_s()
        return times.window + 1

    def measure(self):
        scene, row = self.scene, self.row
        row.frozen_s = max(probe.longest_wait_s(self.begin) for probe in scene.file_systems())
        row.blocked_s = scene.probes["session"].longest_wait_s(self.begin)

    def judge(self):
        scene, cell, row = self.scene, self.cell, self.row
        self.check(row.frozen_s <= self.frozen_limit_s(), f"frozen for {row.frozen_s:.1f} s")
        self.check(row.blocked_s <= self.blocked_limit_s(), f"blocked for {row.blocked_s:.1f} s")
        confirmed = bool(scene.taps[PROVIDER].calls("provider.confirm_set"))
        if row.status in (0, EXIT_IN_PART) or cell.phase in AFTER_CONFIRM:
            self.check(row.outcome == "whole", f"the set is {row.outcome} although it was confirmed")
            failed = row.status not in (0, EXIT_IN_PART) and cell.victim not in ("requester", "umbrad")
            self.check(not failed, "the requester says that it failed")
        elif not confirmed:
            self.check(row.outcome == "gone", "the set is whole and was never confirmed")
        for name, probe in scene.probes.items():
            if name == "session" and (cell.victim, cell.signal) == ("postgres", "KILL"):
                lost = [error for error in probe.errors(self.begin) if "lost" in error]
                self.check(not lost, "; ".join(lost))
                continue
            self.check(not probe.errors(self.begin), f"{name}: {probe.errors(self.begin)}")
        self.check(scene.load.process.poll() is None, f"pgbench ended: {scene.load.text()[-300:]}")
        if (cell.victim, cell.signal) == ("guardian", "KILL"):
            self.attempt(scene.restart_unit)
        self.attempt(lambda: pg_cluster.expect_sums_agree(scene.cluster.sums()))
        if row.outcome == "whole":
            self.attempt(lambda: scene.remember(self.set_id))
        self.attempt(self.next_set_works)
        self.attempt(lambda: wait_until(scene.writer_is_stable, "the writer is stable", 10))

    def next_set_works(self):
        scene = self.scene
        done = scene.create()
        expect(done.returncode == 0, f"the next set fails ({done.returncode}): {done.stderr.strip()[:300]}")

    def check(self, condition, text):
        if not condition:
            self.row.problems.append(text)

    def attempt(self, action):
        try:
            action()
        except (Failure, subprocess.TimeoutExpired) as problem:
            self.row.problems.append(str(problem)[:500])

    def last_words(self):
        return self.scene.world.log_text("create")[-300:]


ATTEMPTS = 3


def try_cell(scene, cell):
    for _ in range(ATTEMPTS):
        trial = Trial(scene, cell)
        try:
            return trial.run()
        except Missed as reason:
            print(f"  {cell}: missed ({reason})", flush=True)
            trial.row.problems.append(f"missed: {reason}")
            scene.requester.wait(60)
            wait_until(scene.slot_is_free, "the slot is free")
            delete_all_but(scene)
        except (Failure, subprocess.TimeoutExpired) as problem:
            trial.row.problems.append(str(problem)[:500])
            break
    return trial.row


def delete_all_but(scene):
    """Copies that no verdict is about."""
    for snapshot in scene.world.umbra("list", "shadows")["snapshots"]:
        if snapshot["set_id"] not in scene.copies:
            scene.world.umbra("delete", "shadows", snapshot["snapshot_id"], check=False)


def show_logs(world):
    for name in sorted(os.listdir(world.top)):
        if name.endswith(".log"):
            tail = world.log_text(name[:-4]).splitlines()[-25:]
            print(f"--- {name}\n" + "\n".join(tail), file=sys.stderr, flush=True)


def run_group(world, times, cells):
    """In worlds of their own; a cell that goes wrong takes its world with it."""
    rows = []
    left = list(cells)
    while left:
        scene = Scene(world.binaries, world.random.randrange(1, 1 << 31), times)
        try:
            scene.set_up()
            if run_in(scene, left, rows):
                finish(scene, rows[-1])
        except (Failure, subprocess.TimeoutExpired):
            show_logs(scene.world)
            raise
        finally:
            scene.world.destroy()
    return rows


def run_in(scene, left, rows):
    """Takes cells from `left` until the world is used up (True) or one has gone wrong."""
    for _ in range(CELLS_PER_WORLD):
        if not left:
            break
        begin = time.monotonic()
        row = try_cell(scene, left.pop(0))
        rows.append(row)
        print(f"{row.markdown()}  {time.monotonic() - begin:.1f} s", flush=True)
        if row.problems:
            show_logs(scene.world)
            return False
        delete_all_but(scene)
    return True


def finish(scene, row):
    """What is wrong at the end of a world is said in its last row."""
    try:
        scene.finish()
    except (Failure, subprocess.TimeoutExpired) as problem:
        row.problems.append(f"at its world's end: {problem}")
        show_logs(scene.world)


def chosen_cells(world):
    pattern = os.environ.get("UMBRA_CELLS")
    meaningful = [cell for cell in CELLS if cell.makes_sense()]
    if pattern:
        return [cell for cell in meaningful if fnmatch.fnmatchcase(str(cell), pattern)]
    if LONG:
        return meaningful
    quick = [cell for cell in meaningful if cell.times == SHORT]
    sample = [world.random.choice([c for c in quick if c.victim == victim]) for victim in VICTIMS]
    return [*sample, world.random.choice([c for c in quick if c.phase == "hold" and c not in sample])]


def matrix(world):
    require_fuse_and_loop()
    harness.require_programs("psql", "e2fsck")
    pg_cluster.require_postgres()
    cells = chosen_cells(world)
    expect(cells, "no such cell")
    rows = []
    for times in (SHORT, DEFAULT):
        rows += run_group(world, times, [cell for cell in cells if cell.times == times])
    if len(cells) == sum(cell.makes_sense() for cell in CELLS):
        rows += [Row(cell) for cell in CELLS if not cell.makes_sense()]
    print(table(rows))
    bad = [str(row.cell) for row in rows if row.problems]
    expect(not bad, f"{len(bad)} of {len(rows)} cells went wrong: {' '.join(bad)}")


if __name__ == "__main__":
    sys.exit(harness.run({"matrix": matrix}))
