# SPDX-License-Identifier: Apache-2.0
"""Copies read past umbra-cowd, through SnapshotReader, while the live volume is written."""

import os
import select
import signal
import subprocess
import sys

import harness
from harness import LONG, expect, require_programs, run_command, wait_until
from history import refused as refused_with
from load import Stamp

VOLUME_MIB = 48
SECONDS = 30 if LONG else 4


class Reader:
    """umbra-read-copy, which compares what it reads with an image."""

    def __init__(self, world, snapshot, image):
        self.process = subprocess.Popen(
            [
                world.binary("umbra-read-copy"), "--socket", os.path.join(world.run_dir, "reader.sock"),
                "--snapshot", snapshot, "--image", image, "--seed", str(world.random.randrange(1, 1 << 30)),
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        world.processes.append(self.process)

    def wait_until_ready(self):
        line = self.process.stdout.readline()
        expect(line == "ready\n", f"a copy is not read: {line}")
        return self

    def end(self, status=0):
        """Its last line: {reads, bytes, error}."""
        self.process.stdin.close()
        lines = self.process.stdout.read().splitlines()
        expect(self.process.wait(60) == status, f"a reader ended with {self.process.returncode}: {lines}")
        reads, _, rest = lines[-1].removeprefix("reads=").partition(" bytes=")
        count, _, error = rest.partition(" error=")
        return {"reads": int(reads), "bytes": int(count), "error": error}

    def has_ended(self):
        """Without being asked to: a read failed."""
        return select.select([self.process.stdout], [], [], 0)[0]


def set_up(world, *options):
    require_programs("nbdcopy")
    world.start_daemons()
    volume = world.attach("db", VOLUME_MIB, *options)
    load = Stamp(world, volume["nbd_uri"], "--seed", str(world.random.randrange(1, 1 << 30)))
    wait_until(lambda: load.ask("count")["completed"] > 500, "the volume is written")
    return load


def copy_and_image(world, number=0):
    (copy,) = world.umbra("create", "shadow", "db", "--context", "nas-rollback")["snapshots"]
    image = world.path(f"copy{number}.img")
    run_command("nbdcopy", copy["nbd_uri"], image)
    return copy["snapshot_id"], image


def under_load(world):
    """Several copies at once; they are open, deleted by force only, and then say so."""
    load = set_up(world, "--expose", "none")
    read_under_load(world, load)


def past_the_page_cache(world):
    """The origin is read and written with O_DIRECT: readers do the same."""
    load = set_up(world, "--expose", "none", "--cache", "none")
    read_under_load(world, load)


def read_under_load(world, load):
    copies = [copy_and_image(world, number) for number in range(2)]
    readers = [Reader(world, *copies[number]).wait_until_ready() for number in (0, 1, 1)]
    begun = load.ask("count")["completed"]
    wait_until(
        lambda: load.ask("count")["completed"] > begun + 400 * SECONDS, "the volume is written", limit_s=120
    )
    refused_with(world, "VSS_E_VOLUME_IN_USE", "delete", "shadows", copies[0][0])
    world.umbra("delete", "shadows", copies[0][0], "--force")
    wait_until(readers[0].has_ended, "the reader of the deleted copy is told")
    told = readers[0].end()
    expect("VSS_E_SNAPSHOT" in told["error"] or "LOST" in told["error"], f"of a deleted copy: {told}")
    expect(told["reads"] > 10, f"hardly anything was read: {told}")
    for reader in readers[1:]:
        told = reader.end()
        expect(told["error"] == "" and told["reads"] > 10, f"a reader: {told}")
    load.stop()
    (live,) = [copy for copy in copies[1:]]
    world.umbra("delete", "shadows", live[0])  # Nobody reads it any more.
    world.umbra("detach", "db")


def killed(world):
    """umbra-cowd is killed: a reader never sees what its successor writes, and opens again."""
    load = set_up(world, "--expose", "auto")
    copy, image = copy_and_image(world)
    for _ in range(3):
        reader = Reader(world, copy, image).wait_until_ready()
        pid = world.cowd_pid()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: world.cowd_pid() not in (None, pid), "a successor")
        wait_until(reader.has_ended, "the reader is told")
        told = reader.end()
        expect("has ended" in told["error"], f"after a kill: {told}")
        wait_until(world.provider_connected, "the provider is back")
    load.process.kill()
    Reader(world, copy, image).wait_until_ready().end()


def moved_and_detached(world):
    """A move of the diff area, and a detach, end what was opened before."""
    load = set_up(world, "--expose", "none")
    copy, image = copy_and_image(world)
    reader = Reader(world, copy, image).wait_until_ready()
    world.umbra("move", "shadowstorage", "--for", "db", "--to", world.path("moved.diff"), limit_s=120)
    wait_until(reader.has_ended, "the reader is told of the move")
    expect("has ended" in reader.end()["error"], "after a move")
    reader = Reader(world, copy, image).wait_until_ready()
    load.stop()
    reader.end()
    world.umbra("detach", "db")
    expect("object" in Reader(world, copy, image).end(2)["error"].lower(), "after a detach")


def refused(world):
    """Somebody else, an unknown copy, too little memory."""
    require_programs("nbdcopy", "setpriv")
    world.start_umbrad()
    world.start_cowd("--reader-memory-mib", "0")
    world.attach("db", 16, "--expose", "none")
    copy, image = copy_and_image(world)
    told = Reader(world, copy, image).end(2)
    expect("--reader-memory-mib" in told["error"], f"without memory: {told}")
    told = Reader(world, "12345678-1234-1234-1234-123456789abc", image).end(2)
    expect("no copy" in told["error"], f"of an unknown copy: {told}")
    expect(os.stat(os.path.join(world.run_dir, "reader.sock")).st_mode & 0o077 == 0, "anybody may connect")
    world.umbra("delete", "shadows", copy)
    world.umbra("detach", "db")


if __name__ == "__main__":
    sys.exit(
        harness.run(
            {
                "under_load": under_load,
                "past_the_page_cache": past_the_page_cache,
                "killed": killed,
                "moved_and_detached": moved_and_detached,
                "refused": refused,
            }
        )
    )
