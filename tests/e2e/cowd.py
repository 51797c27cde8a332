# SPDX-License-Identifier: Apache-2.0
"""umbra-cowd with real files, FUSE, loop devices and mounts; umbrad is played by the case."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import threading

import harness
from coordinator import CONTEXT_BACKUP, Coordinator, Refused
from harness import (
    LONG,
    Failure,
    expect,
    loop_devices,
    mounts,
    require_fuse_and_loop,
    require_programs,
    require_root,
    run_command,
    wait_until,
)

IN_USE = "0x8004231d"
NOT_FOUND = "0x80042308"


def start(world, *arguments, **options):
    """The guardian with umbra-cowd under it, and the coordinator that it registers with."""
    os.makedirs(world.run_dir, mode=0o755, exist_ok=True)
    coordinator = Coordinator(world.socket())
    guardian = start_cowd(world, *arguments, **options)
    coordinator.wait_for_provider()
    return coordinator, guardian


def start_cowd(world, *arguments, **options):
    return world.start(
        world.binary("umbra-cowd"),
        "--run-dir", world.run_dir, "--state-dir", world.state_dir, "--log-level", "debug",
        *arguments, **options,
    )  # fmt: skip


def attach(world, coordinator, name, size_mib=64, **more):
    origin = world.path(f"{name}.img")
    if not os.path.exists(origin):
        world.make_image(f"{name}.img", size_mib << 20)
    return coordinator.attach(origin, world.path(f"{name}.diff"), name, **more)


def refused(code, call, *arguments, **more):
    try:
        call(*arguments, **more)
    except Refused as error:
        expect(error.code.lower() == code.lower(), f"expected {code}, got {error}")
        return error.context
    raise Failure(f"not refused: {call.__name__} {arguments}")


def write_file(path, content):
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def read_file(path):
    with open(path, "rb") as file:
        return file.read()


def digest_of(directory):
    total = hashlib.sha256()
    for name in sorted(os.listdir(directory)):
        if name != "lost+found":
            total.update(name.encode() + read_file(os.path.join(directory, name)))
    return total.hexdigest()


def kill_cowd(world):
    pid = wait_until(world.cowd_pid, "umbra-cowd runs")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: world.cowd_pid() not in (None, pid), "the guardian starts a successor")


def kill_everything(world, guardian):
    """As a crash of the whole unit: nobody thaws, keeps or cleans."""
    guardian_pid, pid = guardian.pid, world.cowd_pid()
    os.kill(guardian_pid, signal.SIGKILL)
    if pid:
        os.kill(pid, signal.SIGKILL)
    guardian.wait(20)
    wait_until(lambda: not any(harness.is_alive(p) for p in world.pids() if p != os.getpid()), "all dead")


def stop_clean(world, guardian):
    status = world.stop(guardian)
    expect(status == 0, f"umbra-guardian ended with {status}")
    world.assert_clean()


def volume_life(world):
    """Attach, mount, write, copy, overwrite, mount the copy, compare, delete, detach, stop."""
    require_fuse_and_loop()
    coordinator, guardian = start(world)
    volume = attach(world, coordinator, "data")
    expect(volume["device_path"].startswith("/dev/loop"), f"no block device: {volume}")
    expect(volume["state"] == "ok", f"state: {volume}")
    directory = world.mkfs_and_mount(volume["device_path"], "data")
    before = os.urandom(4 << 20)
    write_file(f"{directory}/file", before)

    (snapshot,) = coordinator.snapshot("data")
    write_file(f"{directory}/file", os.urandom(4 << 20))
    write_file(f"{directory}/new", b"later")

    mounted = coordinator.mount(snapshot["snapshot_id"])
    expect(mounted["path"] == f"{world.run_dir}/mnt/{snapshot['snapshot_id']}", f"{mounted}")
    expect(read_file(f"{mounted['path']}/file") == before, "the copy shows something else")
    expect(not os.path.exists(f"{mounted['path']}/new"), "the copy shows what came later")
    expect(coordinator.mount(snapshot["snapshot_id"]) == mounted, "mounting twice is not the same")
    (listed,) = coordinator.snapshots()
    expect(listed["exposed_path"] == mounted["path"], f"{listed}")
    try:
        write_file(f"{mounted['path']}/x", b"x")
        raise Failure("the copy can be written")
    except OSError:
        pass

    who = refused(IN_USE, coordinator.delete, snapshot["snapshot_id"])
    expect(mounted["path"] in who, who)
    who = refused(IN_USE, coordinator.detach, "data")
    expect(directory in who and mounted["path"] in who, who)
    coordinator.unmount(snapshot["snapshot_id"])
    refused("0x80042301", coordinator.unmount, snapshot["snapshot_id"])
    expect(not os.path.exists(mounted["path"]), "the mount point stays")

    other = world.path("elsewhere")
    os.mkdir(other)
    coordinator.mount(snapshot["snapshot_id"], other)
    refused(IN_USE, coordinator.mount, snapshot["snapshot_id"], world.path())
    run_command("umount", other)  # By hand: the loop device goes with it.
    wait_until(lambda: not any(snapshot["snapshot_id"] in b for b in loop_devices()), "no loop device is left")
    coordinator.delete(snapshot["snapshot_id"])

    refused(IN_USE, coordinator.detach, "data")
    run_command("umount", directory)
    coordinator.detach("data")
    expect(coordinator.volumes() == {}, "still listed")
    stop_clean(world, guardian)
    run_command("e2fsck", "-fn", world.path("data.img"))


def kill_under_load(world, options=(), **attaching):
    """kill -9 of umbra-cowd under a verifying load: no I/O error, origin and copy intact."""
    require_fuse_and_loop()
    require_programs("fio")
    coordinator, guardian = start(world, *options)
    volume = attach(world, coordinator, "data", 128, **attaching)
    directory = world.mkfs_and_mount(volume["device_path"], "data")
    write_file(f"{directory}/kept", os.urandom(8 << 20))
    kept = digest_of(directory)
    (snapshot,) = coordinator.snapshot("data")
    mounted = coordinator.mount(snapshot["snapshot_id"])["path"]

    load = subprocess.Popen(
        ["fio", "--name=load", f"--directory={directory}", "--size=48m", "--rw=randwrite", "--bs=4k-64k",
         "--ioengine=libaio", "--iodepth=16", "--direct=1", "--verify=crc32c", "--do_verify=1",
         "--verify_fatal=1", "--verify_state_save=0", "--serialize_overlap=1", "--time_based", "--runtime=8",
         "--rate=40m", "--output", world.path("fio.txt")],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    world.processes.append(load)
    kills = 0
    while load.poll() is None and kills < 4:
        kill_cowd(world)
        kills += 1
        coordinator.wait_for_provider()
        expect(digest_of(mounted) == kept, f"the copy changed after kill {kills}")
    expect(load.wait(120) == 0, "fio met an error: " + read_file(world.path("fio.txt")).decode()[-2000:])
    expect(kills == 4, f"only {kills} kills within the load")

    (again,) = coordinator.snapshots()
    expect(again["snapshot_id"] == snapshot["snapshot_id"] and not again["lost"], f"{again}")
    after = coordinator.volumes()["data"]
    expect(after["device_path"] == volume["device_path"], f"{after}")
    run_command("sync", "-f", directory)
    live = digest_of(directory)
    run_command("umount", directory)
    run_command("e2fsck", "-fn", volume["device_path"])
    run_command("mount", "-o", "ro", volume["device_path"], directory)
    expect(digest_of(directory) == live, "the live volume changed over umount")
    run_command("umount", directory)
    coordinator.unmount(snapshot["snapshot_id"])
    coordinator.detach("data")
    stop_clean(world, guardian)


def kill_during_control(world):
    """kill -9 at random moments of attaching, copying, mounting and detaching: afterwards every step
    is done or not done, can be repeated, and nothing is left in the end."""
    require_fuse_and_loop()
    os.makedirs(world.run_dir, mode=0o755)
    coordinator = Coordinator(world.socket())
    guardian = world.start(
        world.binary("umbra-guardian"), "--run-dir", world.run_dir, "--restart-failures", "1000", "--",
        world.binary("umbra-cowd"), "--run-dir", world.run_dir, "--state-dir", world.state_dir,
        name="umbra-cowd",
    )  # fmt: skip
    coordinator.wait_for_provider()
    volume = attach(world, coordinator, "kept")
    directory = world.mkfs_and_mount(volume["device_path"], "kept")
    write_file(f"{directory}/file", b"kept" * 1000)
    (snapshot,) = coordinator.snapshot("kept")
    copy = snapshot["snapshot_id"]
    steps = (
        lambda: attach(world, coordinator, "other"),
        lambda: coordinator.mount(copy),
        lambda: coordinator.snapshot("kept", context=CONTEXT_BACKUP),
        lambda: coordinator.unmount(copy),
        lambda: coordinator.detach("other"),
    )
    for _ in range(50 if LONG else 10):
        pid = wait_until(world.cowd_pid, "umbra-cowd runs")
        before = coordinator.registrations
        delay = world.random.uniform(0, 0.06)
        killer = threading.Timer(delay, lambda: os.kill(pid, signal.SIGKILL))
        killer.start()
        try:
            for step in steps:
                try:
                    step()
                except Refused:
                    pass  # Done already, or not yet.
        except (Failure, OSError, ValueError):
            pass  # It was killed in the middle.
        killer.join()
        wait_until(lambda: world.cowd_pid() not in (None, pid), "the guardian starts a successor")
        wait_until(lambda: coordinator.registrations > before, "umbra-cowd registers again")
        expect(coordinator.volumes()["kept"]["state"] == "ok", f"{coordinator.volumes()}")
        expect(read_file(f"{directory}/file") == b"kept" * 1000, "the live volume changed")
        expect(copy in [s["snapshot_id"] for s in coordinator.snapshots()], "the persistent copy is gone")

    if "other" in coordinator.volumes():
        coordinator.detach("other")
    mounted = coordinator.mount(copy)["path"]
    expect(read_file(f"{mounted}/file") == b"kept" * 1000, "the copy changed")
    coordinator.unmount(copy)
    run_command("umount", directory)
    coordinator.detach("kept")
    stop_clean(world, guardian)


def second_refused(world):
    """A second umbra-cowd on the same run directory, or the same state, does not start."""
    require_root()
    coordinator, guardian = start(world)
    second = run_command(
        world.binary("umbra-cowd"), "--run-dir", world.run_dir, "--state-dir", world.state_dir, check=False, limit_s=20
    )
    expect(second.returncode == 1, f"exit {second.returncode}")
    expect("another umbra-cowd" in second.stderr, second.stderr)
    expect(coordinator.volumes() == {}, "the first one no longer answers")
    stop_clean(world, guardian)


def restart_attaches_again(world):
    """A clean restart brings volumes and persistent copies back; auto-release ones of a session that
    is over go."""
    require_fuse_and_loop()
    coordinator, guardian = start(world)
    volume = attach(world, coordinator, "data")
    directory = world.mkfs_and_mount(volume["device_path"], "data")
    write_file(f"{directory}/file", b"one" * 1000)
    (persistent,) = coordinator.snapshot("data")
    (released,) = coordinator.snapshot("data", context=CONTEXT_BACKUP)
    write_file(f"{directory}/file", b"two" * 1000)
    run_command("umount", directory)
    stop_clean(world, guardian)

    guardian = start_cowd(world)
    wait_until(lambda: coordinator.registrations == 2, "umbra-cowd registers again")
    again = coordinator.volumes()["data"]
    expect(again["volume_id"] == volume["volume_id"] and again["state"] == "ok", f"{again}")
    ids = [s["snapshot_id"] for s in coordinator.snapshots()]
    expect(persistent["snapshot_id"] in ids, "the persistent copy is gone")
    expect(released["snapshot_id"] not in ids, "the auto-release copy of a session that is over is there")
    mounted = coordinator.mount(persistent["snapshot_id"])["path"]
    expect(read_file(f"{mounted}/file") == b"one" * 1000, "the copy shows something else")
    coordinator.unmount(persistent["snapshot_id"])
    coordinator.detach("data")
    volume = attach(world, coordinator, "data")
    ids = [s["snapshot_id"] for s in coordinator.snapshots()]
    expect(ids == [persistent["snapshot_id"]], "the copy did not come back with its diff area")
    coordinator.detach("data")
    stop_clean(world, guardian)


def dead_unit_is_cleaned_up(world):
    """The whole unit is killed with a volume and a copy mounted: the next start takes apart what is
    dead, and serves the volume and its copy anew."""
    require_fuse_and_loop()
    coordinator, guardian = start(world)
    volume = attach(world, coordinator, "data")
    directory = world.mkfs_and_mount(volume["device_path"], "data")
    write_file(f"{directory}/file", b"one" * 1000)
    (snapshot,) = coordinator.snapshot("data")
    write_file(f"{directory}/file", b"two" * 1000)
    run_command("sync", "-f", directory)
    coordinator.mount(snapshot["snapshot_id"])
    kill_everything(world, guardian)

    guardian = start_cowd(world)
    wait_until(lambda: coordinator.registrations == 2, "umbra-cowd registers again")
    world.expect_logged("umbra-cowd", "mounted from a device that has died")
    in_run_dir = [d for _, d in mounts() if d.startswith(f"{world.run_dir}/mnt/")]
    expect(in_run_dir == [], f"dead mounts of copies are left: {in_run_dir}")
    run_command("umount", directory, check=False)
    wait_until(lambda: directory not in [d for _, d in mounts()], "the dead mount goes")
    again = coordinator.volumes()["data"]
    expect(again["state"] == "ok", f"{again}")
    run_command("mount", again["device_path"], directory)
    expect(read_file(f"{directory}/file") == b"two" * 1000, "a synced write is gone")
    mounted = coordinator.mount(snapshot["snapshot_id"])["path"]
    expect(read_file(f"{mounted}/file") == b"one" * 1000, "the copy shows something else")
    coordinator.unmount(snapshot["snapshot_id"])
    run_command("umount", directory)
    coordinator.detach("data")
    stop_clean(world, guardian)


def attach_is_checked(world):
    """What cannot be attached is refused, and nothing is left of the attempt."""
    require_fuse_and_loop()
    coordinator, guardian = start(world)
    refused(NOT_FOUND, coordinator.attach, world.path("none.img"), world.path("x.diff"), "x")

    origin = world.make_image("data.img", 32 << 20)
    device = run_command("losetup", "-f", "--show", origin).stdout.strip()
    try:
        run_command("mkfs.ext4", "-q", device)
        why = refused(IN_USE, coordinator.attach, origin, world.path("x.diff"), "x")
        expect(device in why, why)
        directory = world.path("direct")
        os.mkdir(directory)
        run_command("mount", device, directory)
        why = refused(IN_USE, coordinator.attach, device, world.path("x.diff"), "x")
        expect(directory in why, why)
        run_command("umount", directory)
    finally:
        run_command("losetup", "-d", device)
    wait_until(lambda: origin not in loop_devices(), "the loop device goes")

    for length in (1000, 1024):
        write_file(world.path("letter"), b"Dear reader, " * length)
        refused("0xA0040303", coordinator.attach, origin, world.path("letter"), "x")
    expect(read_file(world.path("letter")).startswith(b"Dear"), "a foreign file was overwritten")
    refused("0x80070057", coordinator.attach, origin, origin, "x")
    refused("0x80070057", coordinator.attach, origin, f"{world.run_dir}/x.diff", "x")
    expect(not os.path.exists(world.path("x.diff")), "a diff area is left of an attempt")

    attach(world, coordinator, "data")
    refused("0xA0040102", coordinator.attach, origin, world.path("y.diff"), "y")
    expect(list(coordinator.volumes()) == ["data"], "other volumes are listed")
    coordinator.detach("data")
    stop_clean(world, guardian)


def copies_that_cannot_be_mounted(world):
    """No file system, a missing directory, a used one: errors that say so, and no loop device."""
    require_fuse_and_loop()
    coordinator, guardian = start(world)
    attach(world, coordinator, "raw")
    (snapshot,) = coordinator.snapshot("raw")
    why = refused("0x8004232F", coordinator.mount, snapshot["snapshot_id"])
    expect("no file system" in why, why)
    refused(NOT_FOUND, coordinator.mount, snapshot["snapshot_id"], world.path("missing"))
    refused("0x80070057", coordinator.mount, snapshot["snapshot_id"], "relative")
    write_file(world.path("file"), b"")
    refused("0x80070057", coordinator.mount, snapshot["snapshot_id"], world.path("file"))
    refused(NOT_FOUND, coordinator.mount, "7b9c2f1e-5d0a-4f4e-9c37-3f3f0a5b1c2d")
    expect(not any(snapshot["snapshot_id"] in b for b in loop_devices()), "a loop device is left")
    coordinator.detach("raw")
    stop_clean(world, guardian)


def stop_while_in_use(world):
    """SIGTERM while a volume is mounted: it is flushed and said; after umount nothing is left, and
    what was written is there."""
    require_fuse_and_loop()
    coordinator, guardian = start(world)
    volume = attach(world, coordinator, "data")
    directory = world.mkfs_and_mount(volume["device_path"], "data")
    with open(f"{directory}/file", "wb") as file:
        file.write(b"not synced by us" * 100)
    status = world.stop(guardian)
    expect(status == 0, f"umbra-guardian ended with {status}")
    expect("in use while umbra-cowd stops" in world.log_text("umbra-cowd"), "nothing was said")
    run_command("umount", directory, check=False)
    wait_until(lambda: directory not in [d for _, d in mounts()], "the dead mount goes")
    wait_until(lambda: not any(b.startswith(world.top) for b in loop_devices()), "the loop device goes")
    world.assert_clean()

    guardian = start_cowd(world)
    wait_until(lambda: coordinator.registrations == 2, "umbra-cowd registers again")
    run_command("mount", coordinator.volumes()["data"]["device_path"], directory)
    expect(read_file(f"{directory}/file") == b"not synced by us" * 100, "what was written is gone")
    run_command("umount", directory)
    coordinator.detach("data")
    stop_clean(world, guardian)


def block_device_with_xfs(world):
    """A block device as origin, XFS on it: the copy mounts beside the live volume."""
    require_fuse_and_loop()
    require_programs("mkfs.xfs")
    coordinator, guardian = start(world)
    image = world.make_image("disk.img", 384 << 20)
    disk = run_command("losetup", "-f", "--show", image).stdout.strip()
    try:
        volume = coordinator.attach(disk, world.path("disk.diff"), "disk")
        refused("0xA0040102", coordinator.attach, disk, world.path("other.diff"), "other")
        expect(run_command("mount", disk, world.path(), check=False).returncode != 0, "the origin is not locked")
        directory = world.path("mnt")
        os.mkdir(directory)
        run_command("mkfs.xfs", "-q", volume["device_path"])
        run_command("mount", volume["device_path"], directory)
        write_file(f"{directory}/file", b"one" * 1000)
        (snapshot,) = coordinator.snapshot("disk")
        write_file(f"{directory}/file", b"two" * 1000)
        kill_cowd(world)
        wait_until(lambda: coordinator.registrations == 2, "umbra-cowd registers again")
        mounted = coordinator.mount(snapshot["snapshot_id"])["path"]
        expect(read_file(f"{mounted}/file") == b"one" * 1000, "the copy shows something else")
        expect(read_file(f"{directory}/file") == b"two" * 1000, "the live volume shows something else")
        coordinator.unmount(snapshot["snapshot_id"])
        run_command("umount", directory)
        coordinator.detach("disk")
        stopped = world.stop(guardian)
        expect(stopped == 0, f"umbra-guardian ended with {stopped}")
    finally:
        run_command("losetup", "-d", disk, check=False)
    wait_until(lambda: image not in loop_devices(), "the loop device goes")
    world.assert_clean()


def set_of_two_in_a_drill(world):
    """Two volumes in one set while the hold is stretched: both copies show one instant, the log says
    how long writes were held, and nothing was logged meanwhile."""
    require_fuse_and_loop()
    coordinator, guardian = start(world, "--drill-hold-ms", "300")
    directories = {}
    for name in ("a", "b"):
        volume = attach(world, coordinator, name)
        directories[name] = world.mkfs_and_mount(volume["device_path"], name)
    # Written to one after the other: whatever number a has, b has it or the one before.
    stop = threading.Event()

    def count():
        number = 0
        while not stop.is_set():
            number += 1
            for name in ("a", "b"):
                write_file(f"{directories[name]}/next", b"%d" % number)
                os.replace(f"{directories[name]}/next", f"{directories[name]}/number")

    writer = threading.Thread(target=count)
    writer.start()
    try:
        wait_until(lambda: os.path.exists(f"{directories['b']}/number"), "the writer writes")
        snapshots = coordinator.snapshot("a", "b")
    finally:
        stop.set()
        writer.join()
    numbers = []
    for snapshot in snapshots:
        mounted = coordinator.mount(snapshot["snapshot_id"])["path"]
        numbers.append(int(read_file(f"{mounted}/number")))
        coordinator.unmount(snapshot["snapshot_id"])
    expect(numbers[0] - numbers[1] in (0, 1), f"the copies are of two instants: {numbers}")

    pattern = re.compile(r"writes were held set=%s begin_ns=(\d+) end_ns=(\d+)" % snapshots[0]["set_id"])
    match = wait_until(lambda: pattern.search(world.log_text("umbra-cowd")), "the hold is logged")
    held_ms = (int(match[2]) - int(match[1])) / 1e6
    expect(held_ms >= 300, f"held for {held_ms} ms")
    for directory in directories.values():
        run_command("umount", directory)
    for name in directories:
        coordinator.detach(name)
    stop_clean(world, guardian)


def log_rotation(world):
    """SIGHUP to the guardian opens umbra-cowd's log file anew."""
    require_root()
    log = world.path("daemon.log")
    coordinator, guardian = start(world, "--log-file", log)
    wait_until(lambda: b"umbra-cowd serves" in read_file(log), "the log is written")
    os.rename(log, log + ".1")
    guardian.send_signal(signal.SIGHUP)
    wait_until(lambda: os.path.exists(log), "the log file is opened anew")
    expect(coordinator.volumes() == {}, "umbra-cowd no longer answers")
    stop_clean(world, guardian)
    expect(b"umbra-cowd stopped" in read_file(log), "the new file has no last line")


def without_root(world):
    """An ordinary user in a private run directory: NBD only, and it says why."""
    require_root()  # To become somebody else.
    require_programs("setpriv", "nbdinfo")
    os.chmod(world.top, 0o755)
    for folder in (world.run_dir, world.state_dir):
        os.mkdir(folder, 0o700)
        os.chown(folder, 65534, 65534)
    origin = world.make_image("data.img", 32 << 20)
    os.chown(origin, 65534, 65534)
    coordinator = Coordinator(world.socket())
    os.chmod(world.socket(), 0o777)
    guardian = world.start(
        "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", world.binary("umbra-cowd"),
        "--run-dir", world.run_dir, "--state-dir", world.state_dir, name="umbra-cowd",
    )  # fmt: skip
    coordinator.wait_for_provider()
    reply = coordinator.call(
        "volume.attach", origin_path=origin, diff_area_path=f"{world.state_dir}/data.diff", name="data"
    )
    expect(reply["volume"]["device_path"] == "", f"{reply}")
    expect(any("does not run as root" in note for note in reply["notes"]), f"{reply}")
    size = run_command("nbdinfo", "--size", reply["volume"]["nbd_uri"]).stdout.strip()
    expect(size == str(32 << 20), size)
    (snapshot,) = coordinator.snapshot("data")
    size = run_command("nbdinfo", "--size", snapshot["nbd_uri"]).stdout.strip()
    expect(size == str(32 << 20), size)
    why = refused("0x8004232F", coordinator.mount, snapshot["snapshot_id"])
    expect("over NBD" in why, why)
    coordinator.detach("data")
    stop_clean(world, guardian)


CASES = {
    case.__name__: case
    for case in (
        volume_life,
        kill_under_load,
        kill_during_control,
        second_refused,
        restart_attaches_again,
        dead_unit_is_cleaned_up,
        attach_is_checked,
        copies_that_cannot_be_mounted,
        stop_while_in_use,
        block_device_with_xfs,
        set_of_two_in_a_drill,
        log_rotation,
        without_root,
    )
}

if __name__ == "__main__":
    sys.exit(harness.run(CASES))
