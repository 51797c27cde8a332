# SPDX-License-Identifier: Apache-2.0
"""Back in a volume's time: reverts and change checkpoints, with a real ext4 on a real device."""

import hashlib
import json
import os
import signal
import subprocess
import sys

import harness
from harness import expect, require_fuse_and_loop, require_programs, run_command, wait_until

MEBI = 1 << 20


def refused(world, name, *arguments):
    """The command fails with this error; returns its context."""
    done = world.umbra_raw(*arguments, "--json", check=False)
    expect(done.returncode != 0, f"{arguments}: was not refused")
    error = json.loads(done.stderr)["error"]
    expect(error["name"] == name, f"{arguments}: {error}")
    return error["context"]


def fill(directory, random, files, size):
    for number in range(files):
        with open(os.path.join(directory, f"file{number}"), "wb") as file:
            file.write(random.randbytes(size))
    os.sync()


def digest_of(directory):
    total = hashlib.sha256()
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        if not os.path.isfile(path):
            continue
        with open(path, "rb") as file:
            total.update(name.encode() + b"\0" + hashlib.sha256(file.read()).digest())
    return total.hexdigest()


def digest_of_fd(fd):
    total = hashlib.sha256()
    offset = 0
    while block := os.pread(fd, MEBI, offset):
        total.update(block)
        offset += len(block)
    return total.hexdigest()


def copy_of(world, volume):
    return world.umbra("create", "shadow", volume)["snapshots"][0]


def damage(directory, world):
    """Files are overwritten, deleted and made."""
    with open(os.path.join(directory, "file0"), "r+b") as file:
        file.write(world.random.randbytes(MEBI))
    os.unlink(os.path.join(directory, "file1"))
    with open(os.path.join(directory, "new"), "wb") as file:
        file.write(b"new" * 100_000)
    os.sync()


def expect_restored(world, volume, directory, before):
    run_command("e2fsck", "-fn", volume["device_path"])
    run_command("mount", volume["device_path"], directory)
    expect(digest_of(directory) == before, "the volume is not what it was")


def set_up(world, size_mib=96, files=4, *options):
    require_fuse_and_loop()
    require_programs("mkfs.ext4", "e2fsck")
    world.start_daemons()
    volume = world.attach("db", size_mib, *options)
    directory = world.mkfs_and_mount(volume["device_path"], "db")
    fill(directory, world.random, files, 4 * MEBI)
    return volume, directory


# vss: IVssBackupComponents.RevertToSnapshot IVssSoftwareSnapshotProvider.RevertToSnapshot
def reverted(world):
    """Copy, damage, unmount, revert, mount: as it was, also for who kept the device open."""
    # Copy and volume are compared to the byte: a revert leaves free blocks as they are.
    volume, directory = set_up(world, 96, 4, "--copy-free-blocks")
    before = digest_of(directory)
    older = copy_of(world, directory)
    with open(os.path.join(directory, "file2"), "r+b") as file:
        file.write(b"the younger copy has this")
    younger = copy_of(world, directory)
    damage(directory, world)
    target = older["snapshot_id"]

    who = refused(world, "VSS_E_VOLUME_IN_USE", "revert", "shadow", target)
    expect(directory in who, f"it is not said where it is mounted: {who}")
    run_command("umount", directory)
    world.umbra("mount", younger["snapshot_id"])
    who = refused(world, "VSS_E_VOLUME_IN_USE", "revert", "shadow", target)
    expect(younger["snapshot_id"] in who, f"the copy in use is not named: {who}")
    world.umbra("unmount", younger["snapshot_id"])
    refused(world, "VSS_E_OBJECT_NOT_FOUND", "query", "revert", "db")

    reader = os.open(volume["device_path"], os.O_RDONLY)
    try:
        damaged = digest_of_fd(reader)  # The kernel has all of it in its cache now.
        done = world.umbra("revert", "shadow", target)
        expect(done["total_bytes"] > 0, f"nothing was copied back: {done}")
        copy = os.open(older["device_object"], os.O_RDONLY)
        try:
            expect(digest_of_fd(reader) == digest_of_fd(copy) != damaged, "what was cached is read")
        finally:
            os.close(copy)
    finally:
        os.close(reader)

    expect(world.umbra("query", "revert")["reverts"] == [], "it is still under way")
    left = [one["snapshot_id"] for one in world.umbra("list", "shadows")["snapshots"]]
    expect(left == [target], f"copies: {left}")
    told = [one["name"] for one in world.umbra("list", "events")["events"] if one["name"].startswith("revert")]
    expect(told == ["revert_begun", "revert_finished"], f"events: {told}")
    expect_restored(world, volume, directory, before)
    # It is an ordinary volume again, and the origin holds it: also without us.
    damage(directory, world)
    run_command("umount", directory)
    world.umbra("revert", "shadow", target)
    world.umbra("detach", "db")
    run_command("mount", "-o", "loop,ro", world.path("db.img"), directory)
    expect(digest_of(directory) == before, "the origin does not hold what the copy showed")
    run_command("umount", directory)


def by_force(world):
    """--force unmounts what is mounted and idle, and names who keeps files open."""
    volume, directory = set_up(world)
    before = digest_of(directory)
    target = copy_of(world, directory)["snapshot_id"]
    damage(directory, world)
    with open(os.path.join(directory, "file0"), "rb"):
        who = refused(world, "VSS_E_VOLUME_IN_USE", "revert", "shadow", target, "--force")
        expect(directory in who and "fuser" in who, f"it is not said who: {who}")
    elsewhere = world.path("elsewhere")
    os.makedirs(elsewhere)
    run_command("mount", "--bind", directory, elsewhere)
    world.umbra("revert", "shadow", target, "--force")
    expect(not [d for _, d in harness.mounts() if d in (directory, elsewhere)], "it is still mounted")
    expect_restored(world, volume, directory, before)
    run_command("umount", directory)

    # A claim that no mount shows.
    holder = os.open(volume["device_path"], os.O_RDONLY | os.O_EXCL)
    try:
        who = refused(world, "VSS_E_VOLUME_IN_USE", "revert", "shadow", target, "--force")
        expect(volume["device_path"] in who, f"the device is not named: {who}")
    finally:
        os.close(holder)
    # Copies that end with their session are no way back.
    script = f'{world.binary("umbra")} --run-dir {world.run_dir} revert shadow $UMBRA_SNAPSHOT_1'
    done = world.umbra_raw("exec", "db", "--", "sh", "-c", script, check=False)
    expect(done.returncode == 14, f"an auto-release copy: {done.returncode} {done.stderr}")
    expect(world.cowd_pid() is not None, "umbra-cowd is gone")
    world.umbra("detach", "db")


def interrupt(world, target, action):
    """`action` ends umbra-cowd and has it started again, as soon as a revert has begun, or says that it
    came too late. True: it goes on."""

    def logged(text):
        return world.log_text("umbra-cowd").count(text)

    begun = logged("a volume is being reverted")
    running = subprocess.Popen(
        [world.binary("umbra"), "--run-dir", world.run_dir, "revert", "shadow", target],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    world.processes.append(running)
    wait_until(lambda: logged("a volume is being reverted") > begun or running.poll() is not None, "it begins")
    in_time = action()
    _, text = running.communicate(timeout=60)
    if not in_time:
        return False
    # Whatever goes on is an operation of the successor.
    if not any(one["kind"] == "revert_to_snapshot" for one in world.umbra("operations")["operations"]):
        return False
    expect(running.returncode in (10, 11) and "umbra query revert" in text, f"{running.returncode}: {text}")
    return True


def interrupted(world, action):
    volume, directory = set_up(world, size_mib=320, files=56)
    before = digest_of(directory)
    target = copy_of(world, directory)["snapshot_id"]
    met = False
    for _ in range(6):
        fill(directory, world.random, 56, 4 * MEBI)
        run_command("umount", directory)
        met = interrupt(world, target, action)
        wait_until(lambda: not world.umbra("query", "revert")["reverts"], "the revert ends")
        expect_restored(world, volume, directory, before)
        if met:
            break
    expect(met, "no revert was met")
    run_command("umount", directory)
    expect(world.umbra("list", "volumes")["volumes"][0]["state"] == "ok", "state")
    world.umbra("detach", "db")


# vss: IVssSoftwareSnapshotProvider.QueryRevertStatus
def killed(world):
    """kill -9 of umbra-cowd during a revert: it goes on by itself, and ends with what the copy shows."""

    def kill():
        pid = world.cowd_pid()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: world.cowd_pid() not in (None, pid), "the guardian starts a successor")
        wait_until(world.provider_connected, "the successor is registered")
        return True

    interrupted(world, kill)


def stopped(world):
    """A stop in order during a revert does not wait for its end; it goes on at the next start. No copy
    is made meanwhile."""

    def stop_and_start():
        done = world.umbra_raw("create", "shadow", "db", "--json", check=False)
        if not world.umbra("query", "revert")["reverts"]:
            return False
        expect(json.loads(done.stderr)["error"]["name"] == "VSS_E_REVERT_IN_PROGRESS", done.stderr)
        guardian = [p for p in world.processes if p.args[0].endswith("umbra-cowd")][-1]
        world.stop(guardian)
        world.start_cowd()
        return True

    interrupted(world, stop_and_start)


def parse_ranges(text):
    return [tuple(int(word) for word in line.split()) for line in text.splitlines()]


def covers(ranges, offset):
    return any(begin <= offset < begin + size for begin, size in ranges)


def checkpoints(world):
    """What changed since a checkpoint is known after its copy has gone, also after kill -9."""
    require_fuse_and_loop()
    world.start_daemons()
    volume = world.attach("db", 64)
    device = volume["device_path"]

    def write(offset):
        fd = os.open(device, os.O_WRONLY | os.O_SYNC)
        try:
            os.pwrite(fd, b"x" * 4096, offset)
        finally:
            os.close(fd)

    def since(name, *more):
        return parse_ranges(
            world.umbra_raw("changed", "--volume", "db", "--since", name, "--raw", *more).stdout
        )

    refused(world, "VSS_E_OBJECT_NOT_FOUND", "checkpoint", "create", "db", "nightly")
    first = copy_of(world, "db")["snapshot_id"]
    made = world.umbra("checkpoint", "create", "db", "nightly")
    expect(made["snapshot_id"] == first and not made["lost"], f"made: {made}")
    refused(world, "VSS_E_OBJECT_ALREADY_EXISTS", "checkpoint", "create", "db", "nightly")
    expect(since("nightly") == [], "something changed since")
    write(5 * MEBI)
    expect(since("nightly") == [(5 * MEBI, 16384)], f"live: {since('nightly')}")
    second = copy_of(world, "db")["snapshot_id"]
    write(40 * MEBI)
    expect(since("nightly", "--until", second) == [(5 * MEBI, 16384)], "up to a copy")
    expect(since(second) == [(40 * MEBI, 16384)], "from a copy to now")
    world.umbra("delete", "shadows", first)
    both = since("nightly")
    expect(covers(both, 5 * MEBI) and covers(both, 40 * MEBI), f"without its copy: {both}")

    pid = world.cowd_pid()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: world.cowd_pid() not in (None, pid), "the guardian starts a successor")
    wait_until(world.provider_connected, "the successor is registered")
    after = since("nightly")
    expect(all(covers(after, offset) for offset, _ in both), f"forgotten: {after}")
    expect(sum(size for _, size in after) < 8 * MEBI, f"far too much: {after}")
    expect(not covers(after, 20 * MEBI), f"what did not change: {after}")
    (listed,) = world.umbra("checkpoint", "list", "db")["checkpoints"]
    expect(listed["name"] == "nightly" and not listed["lost"], f"listed: {listed}")

    # A revert is a change like others, and over-reported while it goes on.
    world.umbra("revert", "shadow", second)
    expect(covers(since("nightly"), 5 * MEBI), "since the checkpoint, after a revert")
    expect(covers(since("nightly"), 40 * MEBI), "what was reverted")
    world.umbra("checkpoint", "delete", "db", "nightly")
    refused(world, "VSS_E_OBJECT_NOT_FOUND", "changed", "--volume", "db", "--since", "nightly")
    world.umbra("delete", "shadows", "--all")
    world.umbra("detach", "db")


if __name__ == "__main__":
    sys.exit(
        harness.run(
            {
                "reverted": reverted,
                "by_force": by_force,
                "killed": killed,
                "stopped": stopped,
                "checkpoints": checkpoints,
            }
        )
    )
