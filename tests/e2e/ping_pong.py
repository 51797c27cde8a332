# SPDX-License-Identifier: Apache-2.0
"""One instant, proved. umbra-ping-pong writes n to A, waits, writes n to B, for ever: whatever single
instant a set shows, A >= B >= A - 1 in it. Read from the copies of many sets under that load.

The control run takes the two copies one after the other, as two sets; they must be seen to disagree,
or the load could not have told one instant from two and the test would prove nothing.

Short form: about 5 s of sets a case; UMBRA_LONG=1: 500 sets a case.
"""

import os
import subprocess
import sys
import time

import harness
from harness import LONG, expect, require_fuse_and_loop, run_command, wait_until

SETS_S = 5  # Short form.
SETS_MIN = 5
SETS_LONG = 500
CONTROLS_MAX = 50  # Tries until the copies of two sets disagree.
VOLUME_MIB = 32
CONTEXT = "nas-rollback"


class Game:
    """The load, and how a copy of it is read."""

    def __init__(self, world, targets, read):
        self.world = world
        self.read = read
        self.process = subprocess.Popen(
            [world.binary("umbra-ping-pong"), "write", *targets],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        world.processes.append(self.process)
        expect(self.process.stdout.readline() == "on\n", "the load does not begin")

    def is_on(self):
        expect(self.process.poll() is None, "the load has ended")

    def stop(self):
        """How many rounds it made."""
        self.process.stdin.close()
        rounds = self.process.stdout.readline().strip()
        expect(self.process.wait(60) == 0, "the load failed")
        return int(rounds)

    def numbers(self, snapshots):
        """What the copies of a and b hold, in this order. They are deleted."""
        numbers = {}
        for snapshot in snapshots:
            numbers[snapshot["volume"]] = self.read(snapshot["properties"])
            self.world.umbra("delete", "shadows", snapshot["properties"]["snapshot_id"])
        return numbers["a"], numbers["b"]

    def set_of(self, *names):
        made = self.world.umbra("create", "shadow", *names, "--context", CONTEXT)["snapshots"]
        return [{"volume": one["original_volume"], "properties": one} for one in made]


def is_one_instant(a, b):
    return a >= b >= a - 1


def number_in(world, target):
    return int(run_command(world.binary("umbra-ping-pong"), "read", target).stdout)


def judge(world, game):
    """Sets of both volumes while the load runs, then the control run."""
    seen = []
    end = time.monotonic() + SETS_S
    while len(seen) < (SETS_LONG if LONG else SETS_MIN) or (not LONG and time.monotonic() < end):
        game.is_on()
        a, b = game.numbers(game.set_of("a", "b"))
        expect(is_one_instant(a, b), f"set {len(seen)} shows two instants: A = {a}, B = {b}")
        seen.append(a)
    expect(len(set(seen)) == len(seen) and seen == sorted(seen), f"the load stood still: {seen}")

    tries = violations = 0
    while violations == 0 or tries < SETS_MIN:
        expect(tries < CONTROLS_MAX, f"two sets were never seen to disagree in {tries} tries")
        game.is_on()
        a, b = game.numbers(game.set_of("a") + game.set_of("b"))
        tries += 1
        violations += not is_one_instant(a, b)
    rounds = game.stop()
    expect(rounds > seen[-1], "the copies show more than was written")
    print(
        f"{len(seen)} sets of one instant over {rounds} rounds; "
        f"control: {violations} of {tries} pairs show two"
    )


def nbd(world):
    """Over our NBD server."""
    world.start_daemons()
    uris = [world.attach(name, VOLUME_MIB, "--expose", "none")["nbd_uri"] for name in ("a", "b")]
    judge(world, Game(world, uris, lambda copy: number_in(world, copy["nbd_uri"])))
    for name in ("a", "b"):
        world.umbra("detach", name)


def block(world):
    """Over FUSE and loop, written with O_DIRECT."""
    require_fuse_and_loop()
    world.start_daemons()
    devices = [world.attach(name, VOLUME_MIB)["device_path"] for name in ("a", "b")]
    judge(world, Game(world, devices, lambda copy: number_in(world, copy["device_object"])))
    for name in ("a", "b"):
        wait_until(lambda: world.umbra("detach", name, check=False) is not None, "the volume is free")


def ext4(world):
    """Files on two file systems, written with O_DSYNC; the copies are mounted."""
    require_fuse_and_loop()
    world.start_daemons()
    directories = {}
    for name in ("a", "b"):
        directories[name] = world.mkfs_and_mount(world.attach(name, VOLUME_MIB)["device_path"], name)

    def read(copy):
        mounted = world.umbra("mount", copy["snapshot_id"])["path"]
        try:
            return number_in(world, os.path.join(mounted, "number"))
        finally:
            world.umbra("unmount", copy["snapshot_id"])

    judge(world, Game(world, [f"{directories[name]}/number" for name in ("a", "b")], read))
    for name in ("a", "b"):
        run_command("umount", directories[name])
        wait_until(lambda: world.umbra("detach", name, check=False) is not None, "the volume is free")


if __name__ == "__main__":
    sys.exit(harness.run({"nbd": nbd, "block": block, "ext4": ext4}))
