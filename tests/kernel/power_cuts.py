# SPDX-License-Identifier: Apache-2.0
"""Real power cuts: umbra-cowd on a kernel's block devices, whose every write and flush is logged.

Killing a virtual machine proves nothing: what it wrote is in this machine's page cache. So origin and
diff area are two linear targets on one dm-log-writes device, in a machine of their own; umbra-stamp
loads the volume over NBD while snapshots of both kinds come and go and flushes are acknowledged, each
marked in the log. Afterwards the log is replayed to every flush, and to random parts of what followed
it, and the store opens and judges each (umbra-power-replay).

Case `guest` runs inside of the machine. It is emulated, so only UMBRA_LONG=1 runs all of it; a short
form, of a minute, runs with UMBRA_KERNEL=1.

Case `broken` is the check of the check: an umbra-cowd with one guarded line broken (tests/mutants) has
to be found out.
"""

import os
import re
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "e2e"))

import harness  # noqa: E402
from coordinator import CONTEXT_BACKUP, Coordinator  # noqa: E402
from harness import LONG, Failure, Skip, expect, run_command, wait_until  # noqa: E402
from load import Stamp  # noqa: E402

LOAD_S = 40 if LONG else 12
SUBSETS = 12 if LONG else 3
VM_LIMIT_S = 900 if LONG else 300
SECTOR = 512
ORIGIN_MIB = 4
DIFF_MIB = 512 if LONG else 96  # A full one deletes snapshots, which the replay takes for losses.
LOG_MIB = 6144  # Sparse.
KEPT = 12  # At a time, of both kinds.
BROKEN = "preserve: a flush before the origin write"
BROKEN_DIRECTORY = "broken"  # In the job's: the umbra-cowd that is to be run, and its guardian.
TAKEN_MIN = 60 if LONG else 10  # Persistent ones: the load goes on until then.


def device_mapper(name, *lines):
    """A device without udev, which the machine does not have."""
    environment = dict(os.environ, DM_DISABLE_UDEV="1")
    run_command("dmsetup", "create", name, "--table", "\n".join(lines), env=environment)
    return f"/dev/mapper/{name}"


def mark(*words):
    """Of one word: the target takes no more."""
    run_command("dmsetup", "message", "power-log", "0", "mark", ":".join(map(str, words)))


def guest(world):
    origin_sectors = ORIGIN_MIB << 11
    diff_sectors = DIFF_MIB << 11
    log = device_mapper("power-log", f"0 {origin_sectors + diff_sectors} log-writes /dev/vda /dev/vdb")
    origin = device_mapper("power-origin", f"0 {origin_sectors} linear {log} 0")
    diff = device_mapper("power-diff", f"0 {diff_sectors} linear {log} {origin_sectors}")
    os.makedirs(world.run_dir, mode=0o755)
    coordinator = Coordinator(world.socket())
    cowd = os.path.join("/job", BROKEN_DIRECTORY, "umbra-cowd")
    if not os.path.exists(cowd):
        cowd = world.binary("umbra-cowd")
    guardian = world.start(
        cowd, "--run-dir", world.run_dir, "--state-dir", world.state_dir,
        "--log-level", "debug", name="umbra-cowd",
    )  # fmt: skip
    volume = coordinator.attach(origin, diff, "disk", expose="none")
    mark("attached")
    load = Stamp(
        world, volume["nbd_uri"], "--connections", "2", "--depth", "8", "--sectors-max", "128",
        "--journal", "/job/journal", "--seed", str(world.random.randrange(1, 1 << 30)),
    )  # fmt: skip
    kept = []
    taken = 0
    end = time.monotonic() + LOAD_S
    while time.monotonic() < end or taken < TAKEN_MIN:
        dice = world.random.randrange(6)
        if dice < 2:
            mark("flush", load.ask("flush")["flush_begin_ns"])
        elif dice == 2:
            # Goes with its session, at the latest with the power: the log does not say that it came.
            (snapshot,) = coordinator.snapshot("disk", context=CONTEXT_BACKUP)
            kept.append((snapshot, False))
        else:
            (snapshot,) = coordinator.snapshot("disk")
            kept.append((snapshot, True))
            mark("snapshot", snapshot["snapshot_id"], *hold_of(world, snapshot))
            taken += 1
        if len(kept) > KEPT:
            snapshot, persistent = kept.pop(world.random.randrange(len(kept)))
            if persistent:
                mark("delete", snapshot["snapshot_id"])
            coordinator.delete(snapshot["snapshot_id"])
    requests = load.ask("count")["completed"]
    load.stop()
    # What the target could not log, it does not miss.
    status = run_command("dmsetup", "status", "power-log").stdout.split()
    expect(int(status[3]) > requests // 2, f"the log has {status[3:]}, after {requests} requests")
    coordinator.detach("disk")
    world.stop(guardian)
    for name in ("power-diff", "power-origin", "power-log"):
        run_command("dmsetup", "remove", name, env=dict(os.environ, DM_DISABLE_UDEV="1"))
    print(f"{requests} requests, {taken} persistent snapshots, {status[3]} sectors of log")


def hold_of(world, snapshot):
    pattern = re.compile(r"writes were held set=%s begin_ns=(\d+) end_ns=(\d+)" % snapshot["set_id"])
    match = wait_until(lambda: pattern.search(world.log_text("umbra-cowd")), "the hold is logged")
    return match[1], match[2]


def replayed(world):
    replay = load_and_replay(world)
    if replay.returncode != 0:
        raise Failure("a power cut lost something")


def broken(world):
    replay = load_and_replay(world, BROKEN)
    expect(replay.returncode == 1, f"a store with a broken line is found to be right: {BROKEN}")


def load_and_replay(world, broken_line=None):
    if not LONG and os.environ.get("UMBRA_KERNEL") != "1":
        raise Skip("a machine is emulated: UMBRA_LONG=1 or, for the short form, UMBRA_KERNEL=1")
    data = world.make_image("data", (ORIGIN_MIB + DIFF_MIB) << 20)
    log = world.make_image("log", LOG_MIB << 20)
    job = world.path("job")
    os.makedirs(job)
    if broken_line is not None:
        directory = os.path.join(job, BROKEN_DIRECTORY)
        os.makedirs(directory)
        shutil.copy(world.binary("umbra-guardian"), directory)
        mutants = os.path.join(HERE, "..", "mutants", "mutants.py")
        run_command("python3", "-B", mutants, "--cowd", f"{directory}/umbra-cowd", broken_line, limit_s=1800)
    done = subprocess.run(
        [
            os.path.join(HERE, "vm"), "-d", data, "-d", log, "-o", job, "-t", str(VM_LIMIT_S), "env",
            f"UMBRA_LONG={int(LONG)}", "python3", "-B", os.path.abspath(__file__), world.binaries,
            "guest", str(world.random.randrange(1, 1 << 30)),
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=VM_LIMIT_S + 60,
    )  # fmt: skip
    print(done.stdout)
    if done.returncode == 77:
        raise Skip(done.stdout.strip().rpartition("skipped: ")[2])
    expect(done.returncode == 0, f"the machine's case ended with {done.returncode}")
    replay = subprocess.run(
        [
            world.binary("umbra-power-replay"), log, "--origin-bytes", str(ORIGIN_MIB << 20),
            "--diff-bytes", str(DIFF_MIB << 20), "--journal", os.path.join(job, "journal"),
            "--subsets", str(SUBSETS), "--seed", str(world.random.randrange(1, 1 << 30)),
        ],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=3000,
    )  # fmt: skip
    print(replay.stdout)
    return replay


if __name__ == "__main__":
    sys.exit(harness.run({"replayed": replayed, "broken": broken, "guest": guest}))
