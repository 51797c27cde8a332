# SPDX-License-Identifier: Apache-2.0
"""Other people's programs agree with us about what a snapshot holds."""

import hashlib
import json
import os
import sys

import harness
from harness import expect, require_fuse_and_loop, require_programs, run_command


def digest(path):
    total = hashlib.sha256()
    with open(path, "rb") as image:
        while block := image.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def foreign_clients_agree(world):
    """qemu-img compare, nbdcopy, nbdinfo, nbdkit's checkwrite filter and e2fsck on one snapshot."""
    require_fuse_and_loop()
    require_programs("qemu-img", "nbdcopy", "nbdinfo", "nbdkit", "e2fsck", "mkfs.ext4")
    world.start_daemons()
    volume = world.attach("db", 96)
    directory = world.mkfs_and_mount(volume["device_path"], "db")
    with open(os.path.join(directory, "before"), "wb") as file:
        file.write(os.urandom(8 << 20))
    snapshot = world.umbra("create", "shadow", directory, "--context", "nas-rollback")["snapshots"][0]
    uri = snapshot["nbd_uri"]

    copied = world.path("copied.img")
    run_command("nbdcopy", uri, copied)
    first = digest(copied)

    # The live volume goes on: every file is replaced, so the snapshot must come from the diff area.
    with open(os.path.join(directory, "before"), "r+b") as file:
        file.write(os.urandom(8 << 20))
        os.fsync(file.fileno())

    run_command("nbdcopy", uri, copied)
    expect(digest(copied) == first, "nbdcopy reads something else after the live volume changed")
    run_command("qemu-img", "compare", "-f", "raw", "-F", "raw", copied, uri)
    with open(snapshot["device_object"], "rb") as surfaced:
        expect(hashlib.sha256(surfaced.read()).hexdigest() == first, "the surfaced file differs")

    information = json.loads(run_command("nbdinfo", "--json", uri).stdout)
    (export,) = information["exports"]
    expect(export["export-size"] == 96 << 20, f"size: {export}")
    expect(export["is_read_only"], "a snapshot is not read-only")
    expect(export["can_multi_conn"], "several connections are not offered")
    extents = json.loads(run_command("nbdinfo", "--json", "--map", uri).stdout)
    expect(sum(extent["length"] for extent in extents) == 96 << 20, "the map has holes in it")

    # checkwrite compares what is written to it with what is there, byte for byte.
    run_command(
        "nbdkit", "-U", "-", "--filter=checkwrite", "nbd", f"uri={uri}", "--run",
        f'nbdcopy "{copied}" "$uri"',
    )  # fmt: skip
    # The freeze left the file system clean: nothing to replay, nothing to repair.
    run_command("e2fsck", "-fn", copied)

    run_command("umount", directory)
    world.umbra("delete", "shadows", snapshot["snapshot_id"])
    world.umbra("detach", "db")


if __name__ == "__main__":
    sys.exit(harness.run({"foreign_clients_agree": foreign_clients_agree}))
