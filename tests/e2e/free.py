# SPDX-License-Identifier: Apache-2.0
"""Free blocks of ext4 and XFS: what is written to them later is not copied, copies stay good, and what
they show never changes."""

import hashlib
import os
import sys

import harness
from cowd import kill_cowd
from freezes import expect_good_xfs
from harness import expect, require_fuse_and_loop, require_programs, run_command, wait_until

MEBI = 1 << 20
VOLUME_MIB = 320  # The smallest XFS is 300.
DRILL = ["--drill-hold-ms", "300"]  # The list is there before the thaw, however slow the machine.


def free_mebi(directory):
    space = os.statvfs(directory)
    return space.f_bavail * space.f_frsize // MEBI


def fill(directory, prefix, random, files, mebi=8):
    for number in range(files):
        with open(os.path.join(directory, f"{prefix}{number}"), "wb") as file:
            for _ in range(mebi):
                file.write(random.randbytes(MEBI))
    os.sync()


def digest_of(path):
    total = hashlib.sha256()
    names = [path] if os.path.isfile(path) else sorted(os.path.join(path, n) for n in os.listdir(path))
    for name in names:
        if os.path.isdir(name):
            continue
        with open(name, "rb") as file:
            while block := file.read(MEBI):
                total.update(block)
    return total.hexdigest()


def set_up(world, mkfs, *options):
    require_fuse_and_loop()
    require_programs(mkfs[0])
    world.start_umbrad()
    world.start_cowd(*DRILL)
    volume = world.attach("data", VOLUME_MIB, *options)
    run_command(*mkfs, volume["device_path"])
    directory = world.path("mnt", "data")
    os.makedirs(directory)
    run_command("mount", volume["device_path"], directory)
    # Nearly all of it was written, and half of that is free again: not zeroes, which take no space.
    files = (free_mebi(directory) - 16) // 8
    fill(directory, "old", world.random, files)
    for number in range(0, files, 2):
        os.unlink(os.path.join(directory, f"old{number}"))
    os.sync()
    return volume, directory


def used_mebi(world):
    (volume,) = world.umbra("list", "volumes")["volumes"]
    return int(volume["diff_used_bytes"]) / MEBI


def copy_of(world, directory):
    (copy,) = world.umbra("create", "shadow", directory)["snapshots"]
    return copy


def expect_content(world, copy, before):
    mounted = world.umbra("mount", copy["snapshot_id"])
    expect(digest_of(mounted["path"]) == before, "the copy's files are not what they were")
    world.umbra("unmount", copy["snapshot_id"])


def finish(world, directory):
    world.umbra("delete", "shadows", "--all")
    run_command("umount", directory)
    world.umbra("detach", "data")


def overwrite_free_space(world, mkfs, check):
    volume, directory = set_up(world, mkfs)
    before = digest_of(directory)
    first = copy_of(world, directory)
    shown = digest_of(first["device_object"])
    fill(directory, "new", world.random, 12)  # 96 MiB into what was free.
    expect(used_mebi(world) < 24, f"free blocks were copied: {used_mebi(world)} MiB")
    between = digest_of(directory)
    second = copy_of(world, directory)
    later = digest_of(second["device_object"])
    for number in range(12):
        os.unlink(os.path.join(directory, f"new{number}"))
    fill(directory, "last", world.random, 8)
    expect(digest_of(first["device_object"]) == shown, "the first copy has changed")
    expect(digest_of(second["device_object"]) == later, "the second copy has changed")
    kill_cowd(world)
    wait_until(world.provider_connected, "umbrad has the provider again")
    expect(digest_of(first["device_object"]) == shown, "the first copy has changed with the successor")
    expect(digest_of(second["device_object"]) == later, "the second copy has changed with the successor")
    for copy, content in ((first, before), (second, between)):
        check(world, copy)
        expect_content(world, copy, content)
    expect(used_mebi(world) < 96 + 48, f"more was copied than the first copy needs: {used_mebi(world)} MiB")
    finish(world, directory)


def ext4(world):
    """Deleted and overwritten under two copies: the diff area stays small, e2fsck finds nothing."""
    require_programs("e2fsck")
    overwrite_free_space(
        world,
        ["mkfs.ext4", "-q", "-F"],
        lambda _, copy: run_command("e2fsck", "-fn", copy["device_object"]),
    )


def xfs(world):
    """The same, judged by xfs_repair, as the copy is and with its log replayed."""
    require_programs("xfs_repair")
    overwrite_free_space(world, ["mkfs.xfs", "-q", "-f"], expect_good_xfs)


def kept_on_demand(world):
    """--copy-free-blocks: copied like everything else, also after a start."""
    _, directory = set_up(world, ["mkfs.ext4", "-q", "-F"], "--copy-free-blocks")
    kill_cowd(world)
    wait_until(world.provider_connected, "umbrad has the provider again")
    before = digest_of(directory)
    copy = copy_of(world, directory)
    shown = digest_of(copy["device_object"])
    fill(directory, "new", world.random, 10)
    expect(used_mebi(world) > 40, f"free blocks were not copied: {used_mebi(world)} MiB")
    expect(digest_of(copy["device_object"]) == shown, "the copy has changed")
    expect_content(world, copy, before)
    finish(world, directory)


if __name__ == "__main__":
    sys.exit(harness.run({case.__name__: case for case in (ext4, xfs, kept_on_demand)}))
