# SPDX-License-Identifier: Apache-2.0
"""Mounting copies as they are, recovered and for writing, of each file system; what is left of it."""

import hashlib
import os
import shutil
import sys

import harness
from cowd import (
    IN_USE,
    attach,
    kill_cowd,
    kill_everything,
    read_file,
    refused,
    start,
    start_cowd,
    stop_clean,
    write_file,
)
from harness import (
    Failure,
    expect,
    loop_devices,
    mounts,
    require_fuse_and_loop,
    require_programs,
    run_command,
    wait_until,
)

MIB = 1 << 20
SIZE_MIB = {"ext4": 64, "xfs": 320, "btrfs": 128}


def dirty_image(world, kind):
    """An image of a file system as a power cut would leave it: `synced` is in its journal only."""
    require_programs(f"mkfs.{kind}", "losetup")
    path = world.make_image("dirty.mounted", SIZE_MIB[kind] * MIB)
    run_command(f"mkfs.{kind}", "-q", path)
    directory = world.path("dirty")
    os.mkdir(directory)
    run_command("mount", "-o", "loop", path, directory)
    try:
        write_file(f"{directory}/old", b"old" * 1000)
        run_command("sync", "-f", directory)
        write_file(f"{directory}/synced", b"synced" * 1000)
        run_command("sync", path)
        shutil.copyfile(path, world.path("data.img"))
    finally:
        run_command("umount", directory)
    os.unlink(path)


def digest_of_copy(snapshot):
    total = hashlib.sha256()
    with open(snapshot["device_object"], "rb") as copy:
        while block := copy.read(MIB):
            total.update(block)
    return total.hexdigest()


def nothing_left_of(world, snapshot):
    left = [b for b in loop_devices() if snapshot["snapshot_id"] in b]
    expect(left == [], f"loop devices are left: {left}")
    names = os.listdir(f"{world.run_dir}/fuse/snapshots")
    expect(names == [snapshot["snapshot_id"]], f"files are left: {names}")
    expect(os.listdir(f"{world.run_dir}/mnt") == [], "mount points are left")
    expect([n for n in os.listdir(world.state_dir) if "overlay" in n] == [], "an overlay is left")


def dirty_journal(world, kind):
    """A volume that nobody froze: mounted as it is with a warning, or recovered; the copy is the same."""
    require_fuse_and_loop()
    dirty_image(world, kind)
    coordinator, guardian = start(world)
    attach(world, coordinator, "data")
    (snapshot,) = coordinator.snapshot("data")
    snapshot_id = snapshot["snapshot_id"]
    before = digest_of_copy(snapshot)

    plain = coordinator.mount(snapshot_id)
    if kind != "xfs":  # Which keeps even what was synced in its log.
        expect(read_file(f"{plain['path']}/old") == b"old" * 1000, "what was written out is not there")
    expect(any("--recover" in note for note in plain["notes"]), f"nothing is told: {plain}")
    why = refused(IN_USE, coordinator.mount, snapshot_id, recover=True)
    expect(plain["path"] in why, why)
    coordinator.unmount(snapshot_id)

    for _ in range(2):
        recovered = coordinator.mount(snapshot_id, recover=True)
        expect(recovered["notes"] == [], f"{recovered['notes']}")
        expect(coordinator.mount(snapshot_id, recover=True) == recovered, "mounting twice is not the same")
        expect(read_file(f"{recovered['path']}/synced") == b"synced" * 1000, "what was synced is lost")
        must_not_be_writable(recovered["path"])
        coordinator.unmount(snapshot_id)
        nothing_left_of(world, snapshot)
    expect(digest_of_copy(snapshot) == before, "recovering a mount has changed the copy")
    coordinator.detach("data")
    stop_clean(world, guardian)


def must_not_be_writable(directory):
    try:
        write_file(f"{directory}/x", b"x")
    except OSError:
        return
    raise Failure("a read-only mount can be written")


def dirty_ext4(world):
    dirty_journal(world, "ext4")


def dirty_xfs(world):
    dirty_journal(world, "xfs")


def dirty_btrfs(world):
    dirty_journal(world, "btrfs")


def beside_the_live_volume(world, kind):
    """Copies of a mounted volume with the same UUID, read-only and writable, while it is written."""
    require_fuse_and_loop()
    require_programs(f"mkfs.{kind}", "blkid")
    coordinator, guardian = start(world)
    volume = attach(world, coordinator, "data", SIZE_MIB[kind])
    run_command(f"mkfs.{kind}", "-q", volume["device_path"])
    directory = world.path("live")
    os.mkdir(directory)
    run_command("mount", volume["device_path"], directory)
    copies = []
    for content in (b"one", b"two"):
        write_file(f"{directory}/file", content * 1000)
        copies += coordinator.snapshot("data")
    write_file(f"{directory}/file", b"now" * 1000)

    before = [digest_of_copy(copy) for copy in copies]
    first = coordinator.mount(copies[0]["snapshot_id"])
    second = coordinator.mount(copies[1]["snapshot_id"], write=True)
    expect(first["notes"] == [] and second["notes"] == [], f"{first} {second}")
    write_file(f"{second['path']}/file", b"mine" * 1000)
    write_file(f"{directory}/new", b"new")
    expect(read_file(f"{first['path']}/file") == b"one" * 1000, "the first copy shows something else")
    expect(read_file(f"{second['path']}/file") == b"mine" * 1000, "what was written is not there")
    expect(not os.path.exists(f"{first['path']}/new"), "a copy shows what came later")
    must_not_be_writable(first["path"])
    sources = {d: device for device, d in mounts()}
    expect(
        [sources[d] for d in (directory, first["path"], second["path"])]
        == [volume["device_path"], first["device_path"], second["device_path"]],
        f"copy and live volume are mixed up: {sources}",
    )
    uuids = {
        run_command("blkid", "-p", "-o", "value", "-s", "UUID", device["device_path"]).stdout
        for device in (volume, first, second)
    }
    expect(len(uuids) == (3 if kind == "btrfs" else 1), f"identities: {uuids}")
    run_command("umount", directory)
    # Nobody has it now: what the kernel knows must still lead to the live volume, not to a copy.
    run_command("mount", volume["device_path"], directory)
    expect(read_file(f"{directory}/file") == b"now" * 1000, "the live volume shows a copy")
    expect(read_file(f"{directory}/new") == b"new", "a write to the live volume is gone")
    run_command("umount", directory)

    for copy in copies:
        coordinator.unmount(copy["snapshot_id"])
    expect([digest_of_copy(copy) for copy in copies] == before, "a mount has changed a copy")
    again = coordinator.mount(copies[1]["snapshot_id"], write=True)
    expect(read_file(f"{again['path']}/file") == b"two" * 1000, "an old overlay came back")
    run_command("umount", again["path"])  # By hand: the overlay goes with the next mount.
    coordinator.mount(copies[0]["snapshot_id"])
    coordinator.unmount(copies[0]["snapshot_id"])
    for copy in copies:
        coordinator.delete(copy["snapshot_id"])
    coordinator.detach("data")
    stop_clean(world, guardian)


def ext4_beside_the_live_volume(world):
    beside_the_live_volume(world, "ext4")


def xfs_beside_the_live_volume(world):
    beside_the_live_volume(world, "xfs")


def btrfs_beside_the_live_volume(world):
    beside_the_live_volume(world, "btrfs")


def writable_over_kills(world):
    """What was written to a mounted copy is there after kill -9 of umbra-cowd, and gone after one of
    the whole unit, of which nothing is left."""
    require_fuse_and_loop()
    coordinator, guardian = start(world)
    volume = attach(world, coordinator, "data")
    run_command("mkfs.ext4", "-q", volume["device_path"])
    (snapshot,) = coordinator.snapshot("data")
    before = digest_of_copy(snapshot)
    path = coordinator.mount(snapshot["snapshot_id"], write=True)["path"]
    kept = {}
    for number in range(3):
        # Copies are served before umbra-cowd registers: each is counted before it is killed.
        wait_until(lambda: coordinator.registrations == number + 1, "umbra-cowd registers")
        kept[number] = os.urandom(MIB)
        write_file(f"{path}/{number}", kept[number])
        kill_cowd(world)
        write_file(f"{path}/after-{number}", kept[number])
    wait_until(lambda: coordinator.registrations == 4, "umbra-cowd registers again")
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as drop:
        drop.write("3")
    for number, content in kept.items():
        for name in (f"{number}", f"after-{number}"):
            expect(read_file(f"{path}/{name}") == content, f"{name} changed")
    expect(digest_of_copy(snapshot) == before, "the copy has changed")

    kill_everything(world, guardian)
    guardian = start_cowd(world)
    wait_until(lambda: coordinator.registrations == 5, "umbra-cowd registers again")
    in_run_dir = [d for _, d in mounts() if d.startswith(f"{world.run_dir}/mnt/")]
    expect(in_run_dir == [], f"dead mounts of copies are left: {in_run_dir}")
    nothing_left_of(world, snapshot)
    again = coordinator.mount(snapshot["snapshot_id"], write=True)["path"]
    expect(os.listdir(again) == ["lost+found"], f"{os.listdir(again)}")
    expect(world.stop(guardian) == 0, "umbra-cowd did not stop in order")
    world.assert_clean()


def as_typed(world):
    """The same through umbra and umbrad: the warning goes to standard error, the path to standard output."""
    require_fuse_and_loop()
    dirty_image(world, "ext4")
    world.start_daemons()
    world.umbra("attach", world.path("data.img"), "--diff", world.path("data.diff"), "--name", "data")
    (snapshot,) = world.umbra("create", "shadow", "data")["snapshots"]
    snapshot_id = snapshot["snapshot_id"]
    done = world.umbra_raw("mount", snapshot_id)
    expect(done.stdout == f"{world.run_dir}/mnt/{snapshot_id}\n", done.stdout)
    expect("umbra: warning: " in done.stderr and "--recover" in done.stderr, done.stderr)
    world.umbra("unmount", snapshot_id)
    recovered = world.umbra("mount", snapshot_id, "--recover")
    expect(recovered["notes"] == [], f"{recovered}")
    expect(read_file(f"{recovered['path']}/synced") == b"synced" * 1000, "what was synced is lost")
    done = world.umbra_raw("mount", snapshot_id, "--write", check=False)
    expect(done.returncode == 11 and "another way" in done.stderr, f"{done.returncode}: {done.stderr}")
    world.umbra("unmount", snapshot_id)
    written = world.umbra("mount", snapshot_id, "--write")
    write_file(f"{written['path']}/new", b"new")
    done = world.umbra_raw("cleanup")
    expect("is left alone" in done.stdout, done.stdout)
    expect(read_file(f"{written['path']}/new") == b"new", "a mount is dead")
    world.umbra("unmount", snapshot_id)
    world.umbra("detach", "data")


CASES = {
    case.__name__: case
    for case in (
        dirty_ext4,
        dirty_xfs,
        dirty_btrfs,
        ext4_beside_the_live_volume,
        xfs_beside_the_live_volume,
        btrfs_beside_the_live_volume,
        writable_over_kills,
        as_typed,
    )
}

if __name__ == "__main__":
    sys.exit(harness.run(CASES))
