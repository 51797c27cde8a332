# SPDX-License-Identifier: Apache-2.0
"""kill -9 and SIGSTOP of each daemon between Freeze and Thaw, and of requesters at every step.

What must hold whatever dies: no file system stays frozen beyond lease + flush + restart, no writer
stays frozen beyond its own timer, the slot is free, half-made copies are gone, and older copies are
what they were.

The matrix VICTIM_SIGNAL_in_MOMENT. Moments: `freeze`, one writer is frozen and the next takes its
time; `hold`, the file system is frozen and writes are held, which a drill stretches; `thaw`, the
copy is taken, one writer is thawed and takes its time, the other is still frozen.
"""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import harness
from harness import expect, is_frozen, require_fuse_and_loop, run_command, wait_until

DRILL_MS = 2500  # How long a hold is stretched: time enough to find it and to kill in it.
WRITER_DELAY_MS = 2000
WINDOW_MS = 6000  # Of the test writers: how long they stay frozen on their own.
LEASE_S = 10
# Lease, the flush that a thaw may have to wait for, and a restart of umbra-cowd, on a busy machine.
FROZEN_S_MAX = LEASE_S + 10
MOMENTS = ("freeze", "hold", "thaw")
CONTEXT_BACKUP = 0


def digest(path):
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def put(directory, name, size=1 << 20):
    with open(os.path.join(directory, name), "wb") as file:
        file.write(os.urandom(size))
        file.flush()
        os.fsync(file.fileno())


class Writer:
    """umbra-test-writer with a component on the volume."""

    LEVELS = {"application": 3, "system": 1}

    def __init__(self, scene, name, *behaviour):
        world = scene.world
        self.name = name
        self.record = world.path(f"{name}.events")
        self.process = world.start(
            world.binary("umbra-test-writer"),
            "--socket", world.socket(), "--record", self.record, "--name", name,
            "--freeze-window-ms", WINDOW_MS, "--level", self.LEVELS[name],
            "--component", f"{name}={scene.directory}", *behaviour, name=f"writer-{name}",
        )  # fmt: skip
        wait_until(lambda: "ready" in world.log_text(f"writer-{name}"), "the writer is registered")

    def events(self):
        """(seconds, event) as the writer saw them."""
        with open(self.record, encoding="utf-8") as lines:
            return [(e["at_us"] / 1e6, e["event"]) for e in map(json.loads, lines)]

    def has_seen(self, event):
        return event in [seen for _, seen in self.events()]

    def frozen_times(self):
        """(seconds, event that ended it) of every freeze; None while it is frozen."""
        times, frozen = [], None
        for at, event in self.events():
            if event == "freeze":
                frozen = at
            elif event in ("thaw", "abort") and frozen is not None:
                times.append((at - frozen, event))
                frozen = None
        return times if frozen is None else None


class Scene:
    """Both daemons, a mounted volume, one persistent copy of it from before, and two writers."""

    def __init__(self, world, moment=None, writers=True):
        require_fuse_and_loop()
        self.world = world
        self.moment = moment
        self.umbrad = world.start_umbrad()
        self.guardian = world.start_cowd(*(["--drill-hold-ms", DRILL_MS] if moment == "hold" else []))
        self.volume = world.attach("data", 64)
        self.directory = world.mkfs_and_mount(self.volume["device_path"], "data")
        put(self.directory, "before")
        (self.base,) = world.umbra("create", "shadow", "data")["snapshots"]
        self.base_digest = digest(self.base["device_object"])
        put(self.directory, "after")
        self.writers = []
        if writers:
            # The system's writers are frozen last and thawed first.
            slow = ["--at", f"{moment}=delay:{WRITER_DELAY_MS}"] if moment in ("freeze", "thaw") else []
            self.writers = [Writer(self, "application"), Writer(self, "system", *slow)]

    def create_in_background(self):
        world = self.world
        return world.start(
            world.binary("umbra"), "--run-dir", world.run_dir, "--json", "create", "shadow", "data", name="create"
        )

    def wait_for_moment(self):
        """Returns when it was seen to be there."""
        if self.moment == "hold":
            records = os.path.join(self.world.run_dir, "frozen")
            wait_until(lambda: os.path.isdir(records) and os.listdir(records), "something is about to be frozen")
            wait_until(lambda: is_frozen(self.directory), "the file system is frozen", 5)
        else:
            wait_until(lambda: self.writers[-1].has_seen(self.moment), f"the system's writer is at {self.moment}")
            expect(self.writers[0].frozen_times() is None, "the other writer is not frozen")
        return time.monotonic()

    def expect_thawed_since(self, begin):
        """Waits until a write to the file system goes through; it must not take too long."""
        writer = subprocess.Popen(
            ["dd", "if=/dev/zero", f"of={self.directory}/probe", "bs=4k", "count=1", "conv=fsync"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.world.processes.append(writer)
        try:
            status = writer.wait(FROZEN_S_MAX + LEASE_S)
        except subprocess.TimeoutExpired:
            raise harness.Failure("still frozen") from None
        took = time.monotonic() - begin
        print(f"frozen for {took:.2f} s after it was seen to be")
        expect(status == 0, "a write to the thawed file system failed")
        expect(took <= FROZEN_S_MAX, f"frozen for {took:.1f} s")

    def expect_writers_released(self):
        """After each Freeze came Thaw or Abort, within the writer's own window."""
        for writer in self.writers:
            times = wait_until(writer.frozen_times, f"writer {writer.name} was frozen and is thawed")
            for took, event in times:
                print(f"writer {writer.name} was frozen for {took:.3f} s, until {event}")
                expect(took <= WINDOW_MS / 1000 + 1, "which is longer than its own timer")

    def incomplete_ids(self):
        listed = self.world.umbra("list", "shadows", "--incomplete", check=False)
        if listed is None or listed["absent_providers"]:
            return None
        return sorted(s["snapshot_id"] for s in listed["snapshots"])

    def expect_clean_slate(self):
        """The slot is free, half-made copies are gone, the older copy is as it was, the next works."""
        world = self.world
        wait_until(world.provider_connected, "umbra-cowd is registered")
        wait_until(lambda: world.umbra("status")["set_in_progress"] is None, "the slot is free")
        base = self.base["snapshot_id"]
        wait_until(lambda: self.incomplete_ids() == [base], "half-made copies are gone")
        (copy,) = world.umbra("list", "shadows")["snapshots"]
        expect(not copy["lost"], f"the older copy is lost: {copy}")
        expect(digest(copy["device_object"]) == self.base_digest, "the older copy changed")
        run_command("e2fsck", "-fn", copy["device_object"])
        expect(not is_frozen(self.directory), "the file system is frozen")
        wait_until(
            lambda: len(world.umbra("list", "writers")["writers"]) == len(self.writers), "the writers are there"
        )
        (following,) = world.umbra("create", "shadow", "data")["snapshots"]
        world.umbra("delete", "shadows", following["snapshot_id"])

    def finish(self):
        world = self.world
        for writer in self.writers:
            world.stop(writer.process)
        run_command("umount", self.directory)
        world.umbra("detach", "data")
        expect(world.stop(self.guardian) == 0, "umbra-cowd did not stop cleanly")
        expect(world.stop(self.umbrad) == 0, "umbrad did not stop cleanly")
        world.assert_clean()


# --- the matrix ------------------------------------------------------------------------------------


def hit_umbrad(scene, number):
    victim = scene.umbrad.pid
    os.kill(victim, number)
    yield
    scene.expect_writers_released()  # By themselves: nobody tells them.
    if number == signal.SIGSTOP:
        os.kill(victim, signal.SIGCONT)
    else:
        scene.umbrad.wait(10)
        scene.umbrad = scene.world.start_umbrad()
    # Its half-made copies are in no list; the next set would discard them too, later.
    wait_until(
        lambda: "snapshot set was discarded" in scene.world.log_text("umbra-cowd"), "half-made copies are discarded", 20
    )


def hit_cowd(scene, number):
    victim = scene.world.cowd_pid()
    os.kill(victim, number)
    yield
    scene.expect_writers_released()
    if number == signal.SIGSTOP:
        with contextlib.suppress(ProcessLookupError):  # The guardian may have replaced it.
            os.kill(victim, signal.SIGCONT)


def matrix_case(hit, number, moment):
    def case(world):
        scene = Scene(world, moment)
        create = scene.create_in_background()
        begin = scene.wait_for_moment()
        steps = hit(scene, number)
        next(steps)
        if moment == "hold":
            scene.expect_thawed_since(begin)
        next(steps, None)
        status = create.wait(120)
        # After the commit writers can be thawed without umbra-cowd: if it goes on in time, all is well.
        if status == 0 and (hit, number, moment) == (hit_cowd, signal.SIGSTOP, "thaw"):
            made = [i for i in scene.incomplete_ids() if i != scene.base["snapshot_id"]]
            world.umbra("delete", "shadows", *made)
        else:
            expect(status != 0, "umbra says that the set was created")
        scene.expect_writers_released()
        scene.expect_clean_slate()
        scene.finish()

    victim = hit.__name__.removeprefix("hit_")
    case.__name__ = f"{victim}_{'killed' if number == signal.SIGKILL else 'stopped'}_in_{moment}"
    return case


MATRIX = [
    matrix_case(hit, number, moment)
    for hit in (hit_umbrad, hit_cowd)
    for number in (signal.SIGKILL, signal.SIGSTOP)
    for moment in MOMENTS
]


# --- others who may die ----------------------------------------------------------------------------


def guardian_killed_in_hold(world):
    """The guardian and umbra-cowd watch each other: without a guardian nothing stays frozen."""
    scene = Scene(world, "hold")
    create = scene.create_in_background()
    begin = scene.wait_for_moment()
    os.kill(scene.guardian.pid, signal.SIGKILL)
    scene.expect_thawed_since(begin)
    create.wait(60)
    scene.expect_writers_released()


def writer_killed_in_hold(world):
    """A writer that dies frozen fails the set; nothing waits for it."""
    scene = Scene(world, "hold")
    create = scene.create_in_background()
    begin = scene.wait_for_moment()
    victim = scene.writers.pop()
    victim.process.kill()
    scene.expect_thawed_since(begin)
    expect(create.wait(60) == 15, "the set did not fail for its writer")
    expect(victim.name in world.log_text("create"), "the error does not name the writer")
    scene.expect_writers_released()
    scene.expect_clean_slate()
    scene.finish()


def cowd_killed_again_and_again(world):
    """Copies of two volumes and the live bytes outlive kill -9 of umbra-cowd, byte for byte."""
    scene = Scene(world, writers=False)
    second = world.attach("more", 64)
    more = world.mkfs_and_mount(second["device_path"], "more")
    put(more, "file")
    copies = {scene.base["snapshot_id"]: scene.base_digest}
    for _ in range(4):
        made = world.umbra("create", "shadow", "data", "more")["snapshots"]
        copies |= {s["snapshot_id"]: digest(s["device_object"]) for s in made}
        put(scene.directory, "file", 2 << 20)
        put(more, "file", 2 << 20)
        live = [digest(f"{scene.directory}/file"), digest(f"{more}/file")]
        victim = world.cowd_pid()
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: world.cowd_pid() not in (None, victim), "a successor runs")
        wait_until(lambda: sorted(copies) == scene.incomplete_ids(), "every copy is back")
        for copy in world.umbra("list", "shadows")["snapshots"]:
            expect(not copy["lost"], f"lost: {copy}")
            expect(digest(copy["device_object"]) == copies[copy["snapshot_id"]], f"changed: {copy}")
        expect(live == [digest(f"{scene.directory}/file"), digest(f"{more}/file")], "live bytes changed")
    world.umbra("delete", "shadows", "--all")
    run_command("umount", more)
    world.umbra("detach", "more")
    run_command("umount", scene.directory)
    run_command("e2fsck", "-fn", scene.volume["device_path"])
    run_command("mount", scene.volume["device_path"], scene.directory)
    scene.finish()


# --- requesters ------------------------------------------------------------------------------------

STEPS = ("initialize", "configure", "gather", "start", "add", "prepare", "do", "complete")


class Requester:
    """umbra-test-requester, step by step."""

    def __init__(self, scene):
        world = scene.world
        self.process = subprocess.Popen(
            [world.binary("umbra-test-requester"), "--socket", world.socket(), "--context", str(CONTEXT_BACKUP), "data"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        world.processes.append(self.process)

    def read_until(self, *wanted):
        """Lines up to one of the wanted ones."""
        for line in self.process.stdout:
            if line.strip() in wanted:
                return line.strip()
        raise harness.Failure(f"the requester ended ({self.process.wait(10)}) before {wanted}")

    def go_on(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def run_to(self, step):
        for name in STEPS:
            self.read_until(f"at {name}")
            if name == step:
                return
            self.go_on()

    def kill(self):
        self.process.kill()
        self.process.wait(10)
        self.process.stdin.close()
        self.process.stdout.close()


def expect_released(scene):
    world = scene.world
    wait_until(lambda: world.umbra("status")["set_in_progress"] is None, "the slot is free", 20)
    base = scene.base["snapshot_id"]
    wait_until(lambda: scene.incomplete_ids() == [base], "its copies are gone", 20)
    expect(not is_frozen(scene.directory), "the file system is frozen")


def requester_killed_after_every_step(world):
    scene = Scene(world)
    for step in STEPS:
        print(f"killed after {step}")
        requester = Requester(scene)
        requester.run_to(step)
        if step in ("do", "complete"):
            expect(len(scene.incomplete_ids()) == 2, "the auto-release copy is not listed")
        requester.kill()
        expect_released(scene)
    scene.expect_writers_released()
    scene.expect_clean_slate()
    scene.finish()


def requester_case(moment):
    """In the middle of do_snapshot_set."""

    def case(world):
        scene = Scene(world, moment)
        requester = Requester(scene)
        requester.run_to("prepare")
        requester.go_on()
        begin = scene.wait_for_moment()
        requester.kill()
        if moment == "hold":
            scene.expect_thawed_since(begin)
        expect_released(scene)
        scene.expect_writers_released()
        scene.expect_clean_slate()
        scene.finish()

    case.__name__ = f"requester_killed_in_{moment}"
    return case


CASES = {
    case.__name__: case
    for case in (
        *MATRIX,
        guardian_killed_in_hold,
        writer_killed_in_hold,
        cowd_killed_again_and_again,
        requester_killed_after_every_step,
        *map(requester_case, MOMENTS),
    )
}

if __name__ == "__main__":
    sys.exit(harness.run(CASES))
