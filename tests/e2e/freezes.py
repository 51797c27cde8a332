# SPDX-License-Identifier: Apache-2.0
"""Freezes that are slow, that somebody else interferes with, or whose file system is hard to find.

docs/guardian.md says what each must lead to. Every case ends with a set that succeeds on the same
volume: whatever happened, nothing stays frozen and nothing is broken for the next.
"""

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
import time

import harness
from harness import FITHAW, LONG, expect, is_frozen, require_fuse_and_loop, require_programs, run_command, wait_until
from kills import WINDOW_MS, Writer, put

LEASE_S = 10
SUPERBLOCK_END = 2048  # Of an ext4 with blocks of 1 KiB, as small ones have.
FLUSH_TIMEOUT = "VSS_E_FLUSH_WRITES_TIMEOUT"
HOLD_TIMEOUT = "VSS_E_HOLD_WRITES_TIMEOUT"
FREEZE_FAILED = "UMBRA_E_FREEZE_FAILED"


class Scene:
    """Both daemons, and whatever a case attaches; its end is a clean stop."""

    def __init__(self, world, umbrad=(), cowd=()):
        require_fuse_and_loop()
        self.world = world
        self.directory = None  # What the writers' components are in.
        self.umbrad = world.start_umbrad(*umbrad)
        self.guardian = world.start_cowd(*cowd)
        self.directories = {}
        self.writers = []

    def attach(self, name, origin=None):
        world = self.world
        origin = origin or world.make_image(f"{name}.img", 64 << 20)
        return world.umbra("attach", origin, "--diff", world.path(f"{name}.diff"), "--name", name)

    def add(self, name, origin=None):
        """A mounted volume."""
        volume = self.attach(name, origin)
        self.directories[name] = self.directory = self.world.mkfs_and_mount(volume["device_path"], name)
        put(self.directory, "before")
        return volume

    def add_writer(self, name="application", *behaviour):
        self.writers.append(Writer(self, name, *behaviour))
        return self.writers[-1]

    def create(self, *names):
        """In the background."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.world.path("create.log"))  # Of the set before.
        return self.world.start(
            self.world.binary("umbra"), "--run-dir", self.world.run_dir, "create", "shadow", *names, name="create"
        )

    def refused(self, code, *names):
        """Creates a set, which must fail with this code; returns what it says."""
        done = self.world.umbra_raw("create", "shadow", *names, check=False)
        expect(done.returncode != 0, f"the set was created\n{done.stdout}")
        return self.said(code, done.stdout + done.stderr)

    def said(self, code, text):
        print(text.strip())
        expect(code in text, f"expected {code}")
        return text

    def volume(self, name):
        """As it is listed; waits for it, since a dead umbra-cowd's registration may last a little."""

        def listed():
            volumes = self.world.umbra("list", "volumes", check=False) or {"volumes": []}
            return [v for v in volumes["volumes"] if v["name"] == name and v["device_path"]]

        return wait_until(listed, f"{name} is listed")[0]

    def records(self):
        """What is frozen, as the guardian keeps it."""
        with contextlib.suppress(FileNotFoundError):
            return os.listdir(os.path.join(self.world.run_dir, "frozen"))
        return []

    def wait_frozen(self):
        wait_until(self.records, "something is about to be frozen")
        return time.monotonic()

    def expect_writer_thawed_in_time(self, writer):
        ((took, event),) = wait_until(writer.frozen_times, "the writer is thawed")
        print(f"the writer was frozen for {took:.2f} s, until {event}")
        expect(took < WINDOW_MS / 1000, "that is longer than its window")

    def works(self, *names):
        """Nothing is frozen, and a set of these volumes succeeds and is good."""
        wait_until(lambda: not self.records(), "everything is thawed", 30)
        for name in names:
            expect(not is_frozen(self.directories[name]), f"{name} is frozen")
        made = self.world.umbra("create", "shadow", *names)["snapshots"]
        for copy in made:
            expect(not copy["lost"], f"lost: {copy}")
            check_copy(copy)
        self.world.umbra("delete", "shadows", "--set", made[0]["set_id"])

    def finish(self, *names):
        """After works()."""
        world = self.world
        self.works(*names)
        for writer in self.writers:
            world.stop(writer.process)
        for directory in self.directories.values():
            run_command("umount", directory)
        for name in self.directories:
            world.umbra("detach", name)
        self.stop()

    def stop(self):
        expect(self.world.stop(self.guardian) == 0, "umbra-cowd did not stop cleanly")
        expect(self.world.stop(self.umbrad) == 0, "umbrad did not stop cleanly")


def check_copy(copy):
    """As a file: no device and no mount in between."""
    kind = run_command("blkid", "-p", "-o", "value", "-s", "TYPE", copy["device_object"], check=False).stdout.strip()
    if kind == "ext4":
        run_command("e2fsck", "-fn", copy["device_object"])


class StallingDisk:
    """An origin that stands still on demand: all of it, or its superblock only."""

    def __init__(self, world, name, below=0):
        self.world = world
        self.name = name
        image = world.make_image(f"{name}.image", 64 << 20)
        self.point = world.make_image(f"{name}.point", 0)
        words = [world.binary("umbra-stalling-file"), image, self.point] + ([below] if below else [])
        self.process = world.start(*words, name=name)
        wait_until(lambda: "ready" in world.log_text(name), "the disk is there")

    def stall(self):
        self.process.send_signal(signal.SIGUSR1)

    def holds(self):
        return "held" in self.world.log_text(self.name)

    def resume(self):
        self.process.send_signal(signal.SIGUSR2)

    def end(self):
        expect(self.world.stop(self.process) == 0, "the disk did not end")


def limits(world, **milliseconds):
    """umbrad's options for these limits."""
    path = world.path("umbrad.toml")
    with open(path, "w", encoding="ascii") as file:
        file.write("[limits]\n" + "".join(f"{name} = {value}\n" for name, value in milliseconds.items()))
    return ["--config", path]


def dirty(directory):
    with open(os.path.join(directory, "dirty"), "wb") as file:
        file.write(os.urandom(1 << 20))


# --- slow ------------------------------------------------------------------------------------------


def slow_freeze_case(lease_ms):
    """A FIFREEZE that outlasts the lease, or the smallest writer's window, fails the set at its end.
    Everybody else goes on at once; the late one is thawed when it returns."""

    def case(world):
        if lease_ms <= WINDOW_MS and not LONG:
            raise harness.Skip("half a minute, beside slow_freeze: UMBRA_LONG=1")
        disk = StallingDisk(world, "disk", SUPERBLOCK_END)
        scene = Scene(world, umbrad=limits(world, hold_lease=lease_ms))
        scene.add("slow", disk.point)
        scene.add("quick")
        writer = scene.add_writer("application", "--at", "prepare_for_snapshot=delay:1500")
        pid = world.cowd_pid()
        create = scene.create("slow", "quick")
        # The flush writes the superblock too; the second one finds it written.
        wait_until(lambda: writer.has_seen("prepare_for_snapshot"), "the long flush is over")
        disk.stall()
        begin = scene.wait_frozen()
        wait_until(disk.holds, "the freeze has come to the superblock")
        status = create.wait(60)
        took = time.monotonic() - begin
        print(f"the set failed {took:.2f} s after the freeze began")
        longest = min(lease_ms, WINDOW_MS) / 1000
        expect(status != 0 and longest - 1 < took < longest + 1, f"status {status} after {took:.1f} s")
        text = scene.said(FLUSH_TIMEOUT, world.log_text("create"))
        expect(scene.directories["slow"] in text, "the error does not name the mount")
        expect(not is_frozen(scene.directories["quick"]), "the other volume is still frozen")
        scene.expect_writer_thawed_in_time(writer)
        expect(scene.records(), "the record is gone although the freeze lasts")
        # Well past the lease: nobody is killed for a disk that is slow.
        wait_until(lambda: "waits for its storage" in world.log_text("umbra-cowd"), "the guardian has looked", 40)
        expect(is_frozen(scene.directories["slow"]), "the slow volume is not frozen")
        disk.resume()
        print(f"the disk stood still for {time.monotonic() - begin:.1f} s")
        wait_until(lambda: not scene.records(), "the late freeze is thawed", 10)
        expect(world.cowd_pid() == pid, "umbra-cowd was restarted")
        scene.finish("slow", "quick")
        disk.end()
        world.assert_clean()

    case.__name__ = "slow_freeze" if lease_ms > WINDOW_MS else "freeze_slower_than_the_lease"
    return case


def slow_flush(world):
    """The long flush has minutes; the set succeeds although it takes longer than lease and flush
    limit, and the coordinator answers all the time."""
    disk = StallingDisk(world, "disk")
    scene = Scene(world, umbrad=limits(world, hold_flush=2000))
    scene.add("slow", disk.point)
    dirty(scene.directories["slow"])
    disk.stall()
    create = scene.create("slow")
    wait_until(disk.holds, "the flush waits")
    end = time.monotonic() + LEASE_S + 2
    wait_until(lambda: world.umbra("status")["set_in_progress"] and time.monotonic() > end, "the flush goes on")
    expect(create.poll() is None, "the set ended")
    disk.resume()
    expect(create.wait(30) == 0, world.log_text("create"))
    scene.finish("slow")
    disk.end()
    world.assert_clean()


# vss: VSS_E_FLUSH_WRITES_TIMEOUT
def slow_second_flush(world):
    """The flush after the last PrepareForSnapshot has the short limit."""
    disk = StallingDisk(world, "disk")
    scene = Scene(world, umbrad=limits(world, hold_flush=2000))
    scene.add("slow", disk.point)
    writer = scene.add_writer("application", "--at", "prepare_for_snapshot=delay:2000")
    create = scene.create("slow")
    wait_until(lambda: writer.has_seen("prepare_for_snapshot"), "the long flush is over")
    dirty(scene.directories["slow"])
    disk.stall()
    wait_until(disk.holds, "the second flush waits")
    expect(create.wait(20) != 0, "the set was created")
    text = scene.said(FLUSH_TIMEOUT, world.log_text("create"))
    expect(scene.directories["slow"] in text, "the error does not name the mount")
    expect(not scene.records(), "something was frozen")
    scene.expect_writer_thawed_in_time(writer)
    disk.resume()
    scene.finish("slow")
    disk.end()
    world.assert_clean()


def aborted_case(second):
    def case(world):
        disk = StallingDisk(world, "disk")
        scene = Scene(world)
        scene.add("slow", disk.point)
        writer = scene.add_writer("application", "--at", "prepare_for_snapshot=delay:2000")
        if not second:
            dirty(scene.directories["slow"])
            disk.stall()
        create = scene.create("slow")
        if second:
            wait_until(lambda: writer.has_seen("prepare_for_snapshot"), "the long flush is over")
            dirty(scene.directories["slow"])
            disk.stall()
            wait_until(lambda: writer.has_seen("freeze"), "the writer is frozen")
        wait_until(disk.holds, "the flush waits")
        begin = time.monotonic()
        world.umbra("abort")
        expect(create.wait(10) != 0, "the set was created")
        wait_until(lambda: world.umbra("status")["set_in_progress"] is None, "the slot is free", 5)
        wait_until(writer.frozen_times if second else lambda: True, "the writer is thawed", 5)
        print(f"aborted within {time.monotonic() - begin:.2f} s")
        # The provider's call has ended too: it takes the next request.
        wait_until(lambda: "snapshot set was discarded" in world.log_text("umbra-cowd"), "its copies are gone", 5)
        disk.resume()
        scene.finish("slow")
        disk.end()
        world.assert_clean()

    case.__name__ = "second_flush_aborted" if second else "flush_aborted"
    return case


# --- somebody else ---------------------------------------------------------------------------------


def foreign_freeze(world):
    """Not ours to thaw: the set fails, the rest of it is free at once, and the freeze stays."""
    scene = Scene(world)
    scene.add("theirs")
    scene.add("ours")
    directory = scene.directories["theirs"]
    run_command("fsfreeze", "-f", directory)
    try:
        text = scene.refused(FREEZE_FAILED, "theirs", "ours")
        expect(f"{directory} has been frozen by somebody else" in text, "the error does not say so")
        wait_until(lambda: not scene.records(), "ours is thawed")
        expect(not is_frozen(scene.directories["ours"]), "ours is frozen")
        expect(is_frozen(directory), "the foreign freeze was thawed")
    finally:
        run_command("fsfreeze", "-u", directory)
    scene.works("theirs", "ours")
    # During our preparation, after the flush.
    writer = scene.add_writer("application", "--at", "freeze=delay:1500")
    create = scene.create("theirs", "ours")
    wait_until(lambda: writer.has_seen("freeze"), "the writer is freezing")
    run_command("fsfreeze", "-f", directory)
    try:
        expect(create.wait(30) != 0, "the set was created")
        scene.said(FREEZE_FAILED, world.log_text("create"))
        expect(is_frozen(directory), "the foreign freeze was thawed")
    finally:
        run_command("fsfreeze", "-u", directory)
    scene.finish("theirs", "ours")
    world.assert_clean()


def foreign_thaw(world):
    """Noticed: the copy may hold what was not meant to be in it, and the set fails."""
    scene = Scene(world, cowd=["--drill-hold-ms", "2500"])
    scene.add("data")
    create = scene.create("data")
    scene.wait_frozen()
    wait_until(lambda: try_thaw(scene.directories["data"]), "it could be thawed", 5)
    expect(create.wait(30) != 0, "the set was created")
    text = scene.said(HOLD_TIMEOUT, world.log_text("create"))
    expect(f"{scene.directories['data']} was thawed by somebody else" in text, "the error does not say so")
    scene.finish("data")
    world.assert_clean()


def try_thaw(directory):
    """As `fsfreeze -u`. False: it was not frozen."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.ioctl(handle, FITHAW, 0)
        return True
    except OSError:
        return False
    finally:
        os.close(handle)


# --- mounted and unmounted -------------------------------------------------------------------------


def in_preparation(scene, act):
    """A set of `data` whose file system meets `act` between the flush and the freeze: while the
    writer, which is on the other volume, prepares."""
    (writer,) = scene.writers
    os.truncate(writer.record, 0)
    create = scene.create("data", "other")
    wait_until(lambda: writer.has_seen("prepare_for_snapshot"), "the flush is over")
    act()
    return create.wait(30), scene.world.log_text("create")


def scene_to_prepare(world):
    scene = Scene(world)
    scene.add("other")
    scene.add_writer("application", "--at", "prepare_for_snapshot=delay:1500")
    return scene, scene.add("data")


def copy_of(scene, volume):
    copies = scene.world.umbra("list", "shadows")["snapshots"]
    (copy,) = [c for c in copies if c["volume_id"] == volume["volume_id"]]
    return copy


def unmounted_meanwhile(world):
    """Then there is nothing to freeze, and the copy is one of a clean file system."""
    scene, volume = scene_to_prepare(world)
    directory = scene.directories["data"]
    status, text = in_preparation(scene, lambda: run_command("umount", directory))
    expect(status == 0, text)
    copy = copy_of(scene, volume)
    state = run_command("dumpe2fs", "-h", copy["device_object"]).stdout
    expect("needs_recovery" not in state, "the copy is not clean")
    world.umbra("delete", "shadows", "--all")

    # Lazily, while a file is open: in use, and nothing leads to it.
    run_command("mount", volume["device_path"], directory)
    with open(f"{directory}/open", "wb"):
        status, text = in_preparation(scene, lambda: run_command("umount", "-l", directory))
        expect(status != 0, "the set was created")
        scene.said(FREEZE_FAILED, text)
        expect("mounted nowhere that can be reached" in text, "the error does not say so")
        scene.refused(FREEZE_FAILED, "data")
    run_command("mount", volume["device_path"], directory)
    scene.finish("data", "other")
    world.assert_clean()


def unmounted_while_frozen(world):
    """It stays frozen until it is thawed, mounted or not; the set succeeds."""
    scene = Scene(world, cowd=["--drill-hold-ms", "2500"])
    volume = scene.add("data")
    directory = scene.directories["data"]
    create = scene.create("data")
    scene.wait_frozen()
    wait_until(lambda: is_frozen(directory), "it is frozen", 5)
    # In a child: the last reference to a frozen file system is given up with its thaw.
    unmount = world.start("umount", "-l", directory)
    expect(create.wait(30) == 0, world.log_text("create"))
    expect(unmount.wait(10) == 0, "umount failed")
    world.umbra("delete", "shadows", "--all")
    run_command("mount", volume["device_path"], directory)
    scene.finish("data")
    world.assert_clean()


def mounted_meanwhile(world):
    """Found at the freeze, although it was not there at the flush."""
    scene, volume = scene_to_prepare(world)
    directory = scene.directories["data"]
    run_command("umount", directory)

    def mount_and_write():
        run_command("mount", volume["device_path"], directory)
        put(directory, "meanwhile")

    status, text = in_preparation(scene, mount_and_write)
    expect(status == 0, text)
    copy = copy_of(scene, volume)
    run_command("e2fsck", "-fn", copy["device_object"])
    mounted = world.umbra("mount", copy["snapshot_id"])
    expect(os.path.getsize(f"{mounted['path']}/meanwhile") == 1 << 20, "the file is not in the copy")
    world.umbra("unmount", copy["snapshot_id"])
    world.umbra("delete", "shadows", "--all")
    scene.finish("data", "other")
    world.assert_clean()


# --- hard to find ----------------------------------------------------------------------------------


def bind_mounts(world):
    """Whichever mount is left leads to the file system; a path in any of them names the volume."""
    scene = Scene(world)
    volume = scene.add("data")
    directory = scene.directories["data"]
    os.makedirs(f"{directory}/inner/deep")
    bound = world.path("mnt", "bound")
    os.makedirs(bound)
    run_command("mount", "--bind", f"{directory}/inner", bound)
    run_command("mount", "-o", "remount,bind,ro", bound)
    run_command("umount", directory)
    for path in (bound, f"{bound}/deep"):
        (copy,) = world.umbra("create", "shadow", path)["snapshots"]
        expect(copy["volume_id"] == volume["volume_id"], f"{path} names another volume: {copy}")
        run_command("e2fsck", "-fn", copy["device_object"])
    world.umbra("delete", "shadows", "--all")

    # Hidden by another mount: no way in.
    run_command("mount", "-t", "tmpfs", "none", bound)
    text = scene.refused(FREEZE_FAILED, "data")
    expect(f"{bound} is hidden by another mount" in text, "the error does not say so")
    run_command("umount", bound)
    run_command("umount", bound)
    run_command("mount", volume["device_path"], directory)
    scene.finish("data")
    world.assert_clean()


def start_elsewhere(world):
    """`cat` must not end: it has a pipe instead of /dev/null."""
    require_programs("unshare", "nsenter")
    process = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo inside; exec cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    world.processes.append(process)
    expect(process.stdout.readline().strip() == "inside", "no other namespace")

    def run(*words, **options):
        return run_command("nsenter", "--mount", f"--target={process.pid}", "--", *words, **options)

    return process, run


def another_namespace(world):
    """A file system that is mounted there only is found and frozen; a caller there names a path."""
    scene = Scene(world, cowd=["--drill-hold-ms", "2500"])
    volume = scene.attach("data")
    directory = world.path("mnt", "data")
    os.makedirs(directory)
    run_command("mkfs.ext4", "-q", "-F", volume["device_path"])
    process, run = start_elsewhere(world)
    run("mount", volume["device_path"], directory)
    run("sh", "-c", f"echo there > {directory}/file")
    expect(not os.path.exists(f"{directory}/file"), "it is mounted here too")

    create = scene.create("data")
    scene.wait_frozen()
    inside = f"/proc/{process.pid}/root{directory}"
    wait_until(lambda: is_frozen(inside), "it is frozen", 5)
    expect(create.wait(30) == 0, world.log_text("create"))
    expect(not is_frozen(inside), "it is still frozen")
    done = run(
        world.binary("umbra"), "--run-dir", world.run_dir, "create", "shadow", directory, "--json"
    )  # fmt: skip
    expect(volume["volume_id"] in done.stdout, f"the path does not name the volume: {done.stdout}")
    for copy in world.umbra("list", "shadows")["snapshots"]:
        run_command("e2fsck", "-fn", copy["device_object"])
        expect("there" in run_command("debugfs", "-R", "cat file", copy["device_object"]).stdout, "no file in the copy")

    # Its last process ends while it is frozen: the file system is unmounted, and thawed all the same.
    create = scene.create("data")
    scene.wait_frozen()
    wait_until(lambda: is_frozen(inside), "it is frozen", 5)
    process.kill()
    process.wait(10)
    expect(create.wait(30) == 0, world.log_text("create"))
    wait_until(lambda: not scene.records(), "it is thawed")
    world.umbra("delete", "shadows", "--all")
    run_command("mount", volume["device_path"], directory)
    scene.directories["data"] = directory
    scene.finish("data")
    world.assert_clean()


# --- other file systems ----------------------------------------------------------------------------


@contextlib.contextmanager
def load(directory):
    """Files come, change and go, and are synced now and then."""
    script = (
        "i=0; while [ ! -e stop ]; do i=$((i+1)); d=d$((i % 7)); mkdir -p $d; "
        "dd if=/dev/urandom of=$d/f$((i % 40)) bs=16k count=$((1 + i % 8)) status=none; "
        "mv $d/f$((i % 40)) $d/g$((i % 13)); [ $((i % 25)) -ne 0 ] || sync -f .; done"
    )
    process = subprocess.Popen(["sh", "-c", script], cwd=directory, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        yield process
        expect(process.poll() is None, "the load has ended")
    finally:
        with contextlib.suppress(OSError):
            os.close(os.open(os.path.join(directory, "stop"), os.O_CREAT | os.O_WRONLY))
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def add_with(scene, name, mkfs, size_mib):
    world = scene.world
    volume = scene.attach(name, world.make_image(f"{name}.img", size_mib << 20))
    run_command(*mkfs, volume["device_path"])
    directory = world.path("mnt", name)
    os.makedirs(directory)
    run_command("mount", volume["device_path"], directory)
    scene.directories[name] = directory
    return volume, directory


def expect_good_xfs(world, copy):
    """XFS leaves the log dirty at a freeze, for recovery to drop unlinked files and to count free
    blocks. The copy itself is whole but for these counters; once the log is replayed, altogether."""
    done = run_command("xfs_repair", "-n", "-f", copy["device_object"], check=False)
    found = [line for line in done.stdout.splitlines() if re.match(r"bad|would|.* mismatch|disconnected|sb_", line)]
    expect(all(line.startswith("sb_fdblocks") for line in found), f"xfs_repair: {found}\n{done.stderr}")
    scratch, directory = world.path("replayed.img"), world.path("mnt", "replayed")
    run_command("cp", "--sparse=always", copy["device_object"], scratch)
    os.makedirs(directory, exist_ok=True)
    run_command("mount", "-o", "loop,nouuid", scratch, directory)
    run_command("umount", directory)
    run_command("xfs_repair", "-n", "-f", scratch)
    os.unlink(scratch)


def xfs_under_load(world):
    """Frozen and copied under load: clean for xfs_repair, and mounted beside the original."""
    require_programs("mkfs.xfs", "xfs_repair")
    scene = Scene(world)
    _, directory = add_with(scene, "data", ["mkfs.xfs", "-q"], 320)
    copies = []
    with load(directory) as process:
        for _ in range(4):
            wait_until(lambda: os.path.exists(f"{directory}/d6"), "the load has begun")
            (copy,) = world.umbra("create", "shadow", directory)["snapshots"]
            copies.append(copy)
            expect(process.poll() is None, "the load has ended")
    for copy in copies:
        expect_good_xfs(world, copy)
        mounted = world.umbra("mount", copy["snapshot_id"])
        run_command("diff", "-r", mounted["path"], mounted["path"])  # Everything can be read.
        expect(os.listdir(mounted["path"]), "the copy is empty")
    expect(os.listdir(directory), "the original is empty")
    for copy in copies:
        world.umbra("unmount", copy["snapshot_id"])
    world.umbra("delete", "shadows", "--all")
    scene.finish("data")
    world.assert_clean()


def btrfs_and_its_subvolumes(world):
    """btrfs invents device numbers, one for each subvolume: paths and freezes find the volume."""
    require_programs("mkfs.btrfs", "btrfs")
    if "btrfs" not in open("/proc/filesystems", encoding="ascii").read():
        raise harness.Skip("needs a kernel with btrfs")
    scene = Scene(world, cowd=["--drill-hold-ms", "1500"])
    volume, directory = add_with(scene, "data", ["mkfs.btrfs", "-q"], 256)
    run_command("btrfs", "subvolume", "create", f"{directory}/sub")
    put(f"{directory}/sub", "file")
    scene.directory = f"{directory}/sub"
    writer = scene.add_writer()
    for path in (directory, f"{directory}/sub", f"{directory}/sub/file"):
        create = scene.create(path)
        scene.wait_frozen()
        wait_until(lambda: is_frozen(directory), "it is frozen", 5)
        expect(create.wait(30) == 0, world.log_text("create"))
        wait_until(lambda: not scene.records(), "it is thawed")
    expect(writer.has_seen("freeze"), "the writer's component was not found on the volume")
    # Mounted by its subvolume only.
    run_command("umount", directory)
    run_command("mount", "-o", "subvol=sub", volume["device_path"], directory)
    (copy,) = world.umbra("create", "shadow", f"{directory}/file")["snapshots"]
    expect(copy["volume_id"] == volume["volume_id"], "another volume")
    run_command("btrfs", "check", "--readonly", copy["device_object"])
    world.umbra("delete", "shadows", "--all")
    scene.finish("data")
    world.assert_clean()


# --- devices that lose what is below them ----------------------------------------------------------


def session_unmounted(world):
    """Somebody unmounts the FUSE mount of a volume: it goes on, over a restart too, and is detached."""
    scene = Scene(world)
    volume = scene.add("data")
    directory = scene.directories["data"]
    point = os.path.join(world.run_dir, "fuse", "volumes", volume["volume_id"])
    run_command("umount", "-l", point)
    put(directory, "after")
    scene.works("data")
    victim = world.cowd_pid()
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: world.cowd_pid() not in (None, victim), "a successor runs")
    wait_until(world.provider_connected, "it is registered")
    put(directory, "later")
    again = scene.volume("data")
    expect(again["device_path"] == volume["device_path"], f"the device changed: {again}")
    scene.finish("data")  # Detaching ends.
    world.assert_clean()


def is_stuck(pid):
    """A thread of it waits in the kernel for good; the first one may be a zombie already."""
    with contextlib.suppress(OSError):
        return any(harness.process_state(f"{pid}/task/{thread}") == "D" for thread in os.listdir(f"/proc/{pid}/task"))
    return False


def dying_server_is_cut_off(world):
    """umbra-cowd that waits for its disk cannot die: asked twice to stop, the guardian aborts its
    devices, and whoever waits for them gets an error instead of waiting for ever."""
    if not LONG:
        raise harness.Skip("waits half a minute for limits that cannot be shortened: UMBRA_LONG=1")
    disk = StallingDisk(world, "disk")
    scene = Scene(world)
    volume = scene.add("data")
    scene.add("slow", disk.point)
    directory = scene.directories["slow"]
    disk.stall()
    victim = subprocess.Popen(
        ["dd", "if=/dev/zero", f"of={directory}/stuck", "bs=4k", "count=1", "conv=fsync"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    world.processes.append(victim)
    wait_until(disk.holds, "a write waits for the disk")
    pid = world.cowd_pid()
    os.kill(pid, signal.SIGKILL)
    expect(victim.poll() is None, "the write has ended")
    scene.guardian.terminate()
    wait_until(lambda: "stopping" in world.log_text("umbra-cowd"), "the guardian knows")

    def asked_again():
        scene.guardian.terminate()
        return "not waiting for umbra-cowd" in world.log_text("umbra-cowd")

    wait_until(asked_again, "the guardian gives up", 20)
    expect(victim.wait(10) != 0, "the write succeeded")
    expect(is_stuck(pid), "umbra-cowd could die: this proves nothing")
    for path in (directory, scene.directories["data"]):
        done = run_command("dd", "if=/dev/zero", f"of={path}/x", "bs=4k", "count=1", "conv=fsync", check=False, limit_s=10)
        expect(done.returncode != 0, f"{path} can be written")
    expect(scene.guardian.wait(60) == 1, "the guardian's status")
    disk.resume()
    wait_until(lambda: not is_stuck(pid), "umbra-cowd is gone", 10)
    for path in (directory, scene.directories["data"]):
        run_command("umount", path)
    # Everything is there after a start.
    scene.guardian = world.start_cowd()
    for name, path in scene.directories.items():
        run_command("mount", scene.volume(name)["device_path"], path)
    expect(scene.volume("data")["volume_id"] == volume["volume_id"], "another volume")
    scene.finish("data", "slow")
    disk.end()
    world.assert_clean()


CASES = {
    case.__name__: case
    for case in (
        slow_freeze_case(10000),
        slow_freeze_case(3000),
        slow_flush,
        slow_second_flush,
        aborted_case(False),
        aborted_case(True),
        foreign_freeze,
        foreign_thaw,
        unmounted_meanwhile,
        unmounted_while_frozen,
        mounted_meanwhile,
        bind_mounts,
        another_namespace,
        xfs_under_load,
        btrfs_and_its_subvolumes,
        session_unmounted,
        dying_server_is_cut_off,
    )
}

if __name__ == "__main__":
    sys.exit(harness.run(CASES))
