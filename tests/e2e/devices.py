# SPDX-License-Identifier: Apache-2.0
"""What a volume may stand on: raw block devices, files without the page cache, either engine; and what
is refused. umbrad is played by the case."""

import ctypes
import os
import signal
import struct
import subprocess
import sys

import harness
from coordinator import Refused
from cowd import (
    attach,
    kill_cowd,
    kill_everything,
    kill_under_load,
    read_file,
    refused,
    start,
    start_cowd,
    stop_clean,
    write_file,
)
from freezes import StallingDisk
from harness import (
    expect,
    loop_devices,
    require_fuse_and_loop,
    require_programs,
    run_command,
    wait_until,
)

ATTACHED = "0xA0040102"
FOREIGN = "0xA0040303"
WRONG_ORIGIN = "0xA0040306"
BAD_ARGUMENT = "0x80070057"
MIB = 1 << 20


def loop_over(world, image, *options):
    """A loop device that goes with the world."""
    device = run_command("losetup", "-f", "--show", *options, image).stdout.strip()
    world.at_end(lambda: run_command("losetup", "-d", device, check=False))
    return device


def drop(world, image, device):
    run_command("losetup", "-d", device)
    wait_until(lambda: image not in loop_devices(), "the loop device goes")


def raw_diff_area(world):
    """Origin and diff area are raw block devices: the size is taken as it is, locks, kill -9, and what
    is on the device already is not overwritten."""
    require_fuse_and_loop()
    coordinator, guardian = start(world)
    images = {name: world.make_image(f"{name}.img", size * MIB) for name, size in (("disk", 64), ("old", 96))}
    disk = loop_over(world, images["disk"], "--sector-size", "4096")
    area = loop_over(world, images["old"])

    run_command("mkfs.ext4", "-q", area)
    before = read_file(images["old"])
    why = refused(FOREIGN, coordinator.attach, disk, area, "disk")
    expect(area in why, why)
    expect(read_file(images["old"]) == before, "a file system was overwritten")
    run_command("wipefs", "-qa", area)
    run_command("dd", "if=/dev/zero", f"of={area}", "bs=1M", "count=1", "conv=fsync", "status=none")

    volume = coordinator.attach(disk, area, "disk")
    expect(int(volume["diff_allocated_bytes"]) == 96 * MIB, f"not its size: {volume}")
    sector = run_command("blockdev", "--getss", volume["device_path"]).stdout.strip()
    expect(sector == "4096", f"the disk's sector is not told: {sector}")
    for taken in (disk, area):
        done = run_command(world.binary("umbra-device-load"), taken, "--requests", "1", check=False)
        expect(done.returncode == 3, f"{taken} is not locked: {done}")
    other = world.make_image("other.img", 16 * MIB)
    refused(ATTACHED, coordinator.attach, other, area, "other")

    directory = world.mkfs_and_mount(volume["device_path"], "disk")
    write_file(f"{directory}/file", b"one" * 100000)
    (snapshot,) = coordinator.snapshot("disk")
    write_file(f"{directory}/file", b"two" * 100000)
    kill_cowd(world)
    wait_until(lambda: coordinator.registrations == 2, "umbra-cowd registers again")
    mounted = coordinator.mount(snapshot["snapshot_id"])["path"]
    expect(read_file(f"{mounted}/file") == b"one" * 100000, "the copy shows something else")
    expect(read_file(f"{directory}/file") == b"two" * 100000, "the live volume shows something else")
    coordinator.unmount(snapshot["snapshot_id"])
    run_command("umount", directory)
    coordinator.detach("disk")

    refused(WRONG_ORIGIN, coordinator.attach, other, area, "other")
    volume = coordinator.attach(disk, area, "disk")
    expect([s["snapshot_id"] for s in coordinator.snapshots()] == [snapshot["snapshot_id"]], "the copy is gone")
    coordinator.detach("disk")
    drop(world, images["disk"], disk)
    drop(world, images["old"], area)
    stop_clean(world, guardian)


def origin_without_page_cache(world):
    """cache "none": O_DIRECT, kept over a restart, told; and refused where there is no O_DIRECT."""
    require_fuse_and_loop()
    coordinator, guardian = start(world)
    image = world.make_image("data.img", 64 * MIB)
    reply = coordinator.call(
        "volume.attach", origin_path=image, diff_area_path=world.path("data.diff"), name="data", cache="none"
    )
    expect(any("O_DIRECT; diff area" in note for note in reply["notes"]), f"{reply['notes']}")
    directory = world.mkfs_and_mount(reply["volume"]["device_path"], "data")
    write_file(f"{directory}/file", b"one" * 100000)
    (snapshot,) = coordinator.snapshot("data")
    write_file(f"{directory}/file", b"two" * 100000)
    kill_cowd(world)
    wait_until(lambda: coordinator.registrations == 2, "umbra-cowd registers again")
    mounted = coordinator.mount(snapshot["snapshot_id"])["path"]
    expect(read_file(f"{mounted}/file") == b"one" * 100000, "the copy shows something else")
    world.expect_logged("umbra-cowd", "volume attached again")
    again = [line for line in world.log_text("umbra-cowd").splitlines() if "volume attached again" in line]
    expect("O_DIRECT; diff area" in again[-1], f"{again}")
    coordinator.unmount(snapshot["snapshot_id"])
    run_command("umount", directory)
    coordinator.detach("data")
    stop_clean(world, guardian)


def killed_under_load_with_io_uring(world):
    """As with threads: no I/O error, origin and copy intact."""
    kill_under_load(world, ("--io-engine", "io_uring"), cache="none")
    told = world.log_text("umbra-cowd")
    expect("origin: io_uring, O_DIRECT; diff area: io_uring, page cache" in told, "another engine was used")


def successor_waits_for_what_is_in_flight(world):
    """A killed process's requests that the disk still has keep its lock, in either engine, on files and
    on block devices: nobody else is let in before they have ended."""
    require_fuse_and_loop()
    load = world.binary("umbra-device-load")
    for number, engine in enumerate(("threads", "io_uring")):
        for kind in ("file", "device"):
            disk = StallingDisk(world, f"disk{number}{kind}")
            path = disk.point if kind == "file" else loop_over(world, disk.point)
            words = [load, path, "--engine", engine, "--write", "--depth", "4", "--requests", "1000000000"]
            writer = world.start(*words, name=f"load{number}{kind}")
            wait_until(lambda: "opened" in world.log_text(f"load{number}{kind}"), "the load runs")
            disk.stall()
            wait_until(disk.holds, "the disk holds requests back")
            writer.send_signal(signal.SIGKILL)

            def try_it():
                one = [load, path, "--engine", engine, "--requests", "1"]
                return subprocess.run(one, stdin=subprocess.DEVNULL, capture_output=True, timeout=60).returncode

            for _ in range(5):
                expect(try_it() == 3, f"{engine}, {kind}: somebody else was let in")
            disk.resume()
            wait_until(lambda: try_it() == 0, "the lock goes with the last request")
            if kind == "device":
                drop(world, disk.point, path)
            disk.end()
    world.assert_clean()


def forbid_io_uring():
    """For the process and its children: io_uring_setup() gives EPERM, as in many containers."""
    load, equal, give = 0x20, 0x15, 0x06
    errno_1, allow = 0x00050001, 0x7FFF0000
    io_uring_setup = 425  # On every architecture.
    steps = ((load, 0, 0, 0), (equal, 0, 1, io_uring_setup), (give, 0, 0, errno_1), (give, 0, 0, allow))
    program = b"".join(struct.pack("HBBI", *step) for step in steps)
    memory = ctypes.create_string_buffer(program)
    filter_of = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, set_seccomp, mode_filter = 38, 22, 2
    if libc.prctl(no_new_privileges, 1, 0, 0, 0) or libc.prctl(set_seccomp, mode_filter, filter_of, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def no_io_uring(world):
    """Where io_uring is not permitted the daemon goes on with threads, and says why."""
    require_fuse_and_loop()
    coordinator, guardian = start(world, "--io-engine", "io_uring", preexec_fn=forbid_io_uring)
    attach(world, coordinator, "data")
    for told in ("seccomp", "going on with threads", "origin: threads, page cache"):
        world.expect_logged("umbra-cowd", told)
    coordinator.detach("data")
    reply = coordinator.call(
        "volume.attach", origin_path=world.path("data.img"), diff_area_path=world.path("data.diff"),
        name="data", cache="none",
    )  # fmt: skip
    expect(any("origin: threads, O_DIRECT" in note for note in reply["notes"]), f"{reply['notes']}")
    coordinator.detach("data")
    stop_clean(world, guardian)


def wrong_pairs(world):
    """Origins and diff areas that lie on each other or are each other, whatever they are called."""
    require_fuse_and_loop()
    require_programs("addpart")
    coordinator, guardian = start(world)
    image = world.make_image("disk.img", 128 * MIB)
    disk = loop_over(world, image, "-P")
    for number in (1, 2):  # As the kernel's own parser would, which not every kernel has.
        run_command("addpart", disk, number, 2048 + (number - 1) * 98304, 98304)
    first, second = f"{disk}p1", f"{disk}p2"
    wait_until(lambda: os.path.exists(second), "the partitions are there")
    for origin, area in ((first, disk), (disk, first), (first, first)):
        why = refused(BAD_ARGUMENT, coordinator.attach, origin, area, "x")
        expect("lies on" in why or "itself" in why, why)
    os.link(image, world.path("again.img"))
    why = refused("0x8004231d", coordinator.attach, first, world.path("again.img"), "x")
    expect(disk in why, why)

    # The file system on the partition, reached through a loop device of its own.
    run_command("mkfs.ext4", "-q", first)
    upper = loop_over(world, first)
    directory = world.path("direct")
    os.mkdir(directory)
    run_command("mount", upper, directory)
    try:
        coordinator.attach(first, f"{directory}/x.diff", "x")
        raise harness.Failure("a diff area on its own volume is accepted")
    except Refused as error:
        expect("lies on the origin" in error.context or "mounted" in error.context, f"{error}")
    expect(os.listdir(directory) == ["lost+found"], "something is left of the attempt")
    run_command("umount", directory)
    run_command("losetup", "-d", upper)

    # A good pair on one disk; its diff area is nobody's origin.
    coordinator.attach(first, second, "good")
    coordinator.detach("good")
    why = refused(BAD_ARGUMENT, coordinator.attach, second, world.path("y.diff"), "y")
    expect("diff area" in why, why)
    drop(world, image, disk)
    stop_clean(world, guardian)


def touch_directly(world, origin, kind):
    """Somebody mounts the origin without Umbra and writes a file."""
    directory = world.path("direct")
    os.makedirs(directory, exist_ok=True)
    options = ["-o", "loop"] if os.path.isfile(origin) else []
    # A killed process's ring keeps a block device for a moment longer than the process lives.
    wait_until(
        lambda: run_command("mount", "-t", kind, *options, origin, directory, check=False).returncode == 0,
        "the origin can be mounted",
    )
    write_file(f"{directory}/foreign", b"foreign" * 1000)
    run_command("umount", directory)
    wait_until(lambda: origin not in loop_devices(), "mount's loop device goes")


def changed_while_detached(world):
    """An origin that was mounted and written behind our back is found out, after an orderly detach and
    after a crash; the same without anybody's writing is not."""
    require_fuse_and_loop()
    require_programs("mkfs.xfs")
    coordinator, guardian = start(world)
    disk = loop_over(world, world.make_image("disk.img", 384 * MIB))
    origins = {"ext4": world.make_image("file.img", 64 * MIB), "xfs": disk}
    for kind, origin in origins.items():
        area = world.path(f"{kind}.diff")
        volume = coordinator.attach(origin, area, kind)
        directory = world.path(f"mnt-{kind}")
        os.mkdir(directory)
        run_command(f"mkfs.{kind}", "-q", volume["device_path"])
        run_command("mount", volume["device_path"], directory)
        write_file(f"{directory}/file", b"one" * 100000)
        (snapshot,) = coordinator.snapshot(kind)
        write_file(f"{directory}/file", b"two" * 100000)
        run_command("umount", directory)
        coordinator.detach(kind)

        coordinator.attach(origin, area, kind)
        expect([s["lost"] for s in coordinator.snapshots()] == [False], "a copy is lost for nothing")
        coordinator.detach(kind)

        touch_directly(world, origin, kind)
        why = refused("0xA0040307", coordinator.attach, origin, area, kind)
        expect("--accept-changed-origin" in why, why)
        refused("0xA0040307", coordinator.attach, origin, area, kind)
        coordinator.attach(origin, area, kind, accept_changed_origin=True)
        expect([s["lost"] for s in coordinator.snapshots()] == [True], "the copy is not lost")
        coordinator.delete(snapshot["snapshot_id"])
        # A new one, for the crash.
        run_command("mount", coordinator.volumes()[kind]["device_path"], directory)
        (snapshot,) = coordinator.snapshot(kind)
        write_file(f"{directory}/file", b"three" * 100000)
        run_command("umount", directory)

        kill_everything(world, guardian)
        before = coordinator.registrations
        guardian = start_cowd(world)
        wait_until(lambda: coordinator.registrations > before, "umbra-cowd registers")
        expect(coordinator.volumes()[kind]["state"] == "ok", f"{coordinator.volumes()}")
        kill_everything(world, guardian)
        touch_directly(world, origin, kind)
        before = coordinator.registrations
        guardian = start_cowd(world)
        wait_until(lambda: coordinator.registrations > before, "umbra-cowd registers")
        state = coordinator.volumes()[kind]["state"]
        expect("not attached" in state and "changed" in state, state)
        coordinator.detach(kind)
    drop(world, world.path("disk.img"), disk)
    stop_clean(world, guardian)


CASES = {
    case.__name__: case
    for case in (
        raw_diff_area,
        origin_without_page_cache,
        killed_under_load_with_io_uring,
        successor_waits_for_what_is_in_flight,
        no_io_uring,
        wrong_pairs,
        changed_while_detached,
    )
}

if __name__ == "__main__":
    sys.exit(harness.run(CASES))
