# SPDX-License-Identifier: Apache-2.0
"""The live volume under load while snapshots come and go every second.

Short form: 10 s of load; with UMBRA_LONG=1 a minute, as the claim in the README is made.
"""

import json
import re
import subprocess
import sys
import time

import harness
from harness import LONG, expect, require_programs, wait_until

LOAD_S = 60 if LONG else 10
VOLUME_MIB = 64
KEPT_SNAPSHOTS = 3  # The oldest goes when there are more.


def live_uri(volume):
    return volume["nbd_uri"]


def create(world, name, context):
    """A snapshot without writers; returns its properties."""
    made = world.umbra("create", "shadow", name, "--context", context)
    (snapshot,) = made["snapshots"]
    return snapshot


def hold_of(world, snapshot):
    """[begin, end] of the hold in CLOCK_MONOTONIC ns, from umbra-cowd's log."""
    pattern = re.compile(
        r"writes were held.*set=\"?%s\"?.*begin_ns=\"?(\d+)\"?.*end_ns=\"?(\d+)\"?" % snapshot["set_id"]
    )
    match = wait_until(
        lambda: pattern.search(world.log_text("umbra-cowd")), "the hold is logged", limit_s=10
    )
    return int(match[1]), int(match[2])


def snapshot_every_second(world, name, seconds, check):
    """Creates, checks and deletes snapshots of either kind, until the time is over."""
    kept = []
    taken = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        next_at = time.monotonic() + 1
        context = ("file-share-backup", "nas-rollback")[taken % 2]
        # An auto-release copy would go with the CLI's session, so the kept ones are persistent;
        # the auto-release epochs lie between them.
        if context == "nas-rollback":
            snapshot = create(world, name, context)
            check(snapshot)
            kept.append(snapshot)
        else:
            world.umbra("exec", name, "--context", context, "--", "true", check=False)
        taken += 1
        while len(kept) > KEPT_SNAPSHOTS:
            oldest = kept.pop(world.random.randrange(len(kept)))
            check(oldest)
            world.umbra("delete", "shadows", oldest["snapshot_id"])
        wait_until(lambda: time.monotonic() >= next_at, "the next second", limit_s=5)
    for snapshot in kept:
        check(snapshot)
        world.umbra("delete", "shadows", snapshot["snapshot_id"])
    return taken


class Stamp:
    """umbra-stamp, spoken to over its pipes."""

    def __init__(self, world, uri, *arguments):
        self.process = subprocess.Popen(
            [world.binary("umbra-stamp"), uri, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        world.processes.append(self.process)

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        expect(line, f"umbra-stamp ended at: {command}")
        return json.loads(line)

    def stop(self):
        self.process.stdin.write("stop\n")
        self.process.stdin.close()
        line = self.process.stdout.readline()
        expect(self.process.wait(60) == 0, "umbra-stamp found something wrong: " + line)
        return json.loads(line)


def stamps(world):
    world.start_daemons()
    volume = world.attach("db", VOLUME_MIB, "--expose", "none")
    load = Stamp(world, live_uri(volume), "--seed", str(world.random.randrange(1, 1 << 30)))
    checked = 0
    holds = []

    def check(snapshot):
        nonlocal checked
        begin, end = hold_of(world, snapshot)
        # The control: with an older copy's hold it must not be right, or the stamps prove nothing.
        if holds and holds[0] != (begin, end):
            verdict = load.ask(
                f"control {snapshot['snapshot_id']} {snapshot['nbd_uri']} {holds[0][0]} {holds[0][1]}"
            )
            expect(verdict["wrong"] > 0, f"a copy is right at another copy's instant: {verdict}")
        holds.append((begin, end))
        verdict = load.ask(f"verify {snapshot['snapshot_id']} {snapshot['nbd_uri']} {begin} {end}")
        expect(verdict["wrong"] == 0, f"snapshot is wrong: {verdict}")
        expect(verdict["sectors"] == VOLUME_MIB << 11, f"not every sector was seen: {verdict}")
        checked += 1

    taken = snapshot_every_second(world, "db", LOAD_S, check)
    total = load.ask("count")
    load.stop()
    expect(checked >= LOAD_S // 2, f"only {checked} checks")
    print(f"{total['completed']} requests, {taken} snapshots, {checked} checks")
    world.umbra("detach", "db")


def fio_verify(world):
    require_programs("fio")
    world.start_daemons()
    volume = world.attach("db", VOLUME_MIB, "--expose", "none")
    report = world.path("fio.json")
    load = world.start(
        "fio",
        "--name=verify",
        "--ioengine=nbd",
        f"--uri={live_uri(volume)}",
        "--rw=randwrite",
        "--bsrange=512-256k",
        "--iodepth=32",
        "--verify=crc32c",
        "--verify_backlog=64",
        "--verify_fatal=1",
        "--verify_state_save=0",
        "--serialize_overlap=1",
        f"--size={VOLUME_MIB}m",
        "--time_based",
        f"--runtime={LOAD_S}",
        f"--randseed={world.random.randrange(1 << 30)}",
        "--output-format=json",
        f"--output={report}",
    )
    taken = snapshot_every_second(world, "db", LOAD_S - 2, lambda snapshot: None)
    expect(load.wait(LOAD_S + 60) == 0, "fio failed: " + world.log_text("fio"))
    with open(report, encoding="utf-8") as text:
        job = json.load(text)["jobs"][0]
    expect(job["error"] == 0, f"fio reports error {job['error']}")
    expect(job["read"]["total_ios"] > 0, "fio verified nothing")
    print(f"{job['write']['total_ios']} writes, {job['read']['total_ios']} verified, {taken} snapshots")
    world.umbra("detach", "db")


if __name__ == "__main__":
    sys.exit(harness.run({"stamps": stamps, "fio_verify": fio_verify}))
