# SPDX-License-Identifier: Apache-2.0
"""What a backup costs a PostgreSQL server under pgbench: transactions per second, and their p99.

    bench/scenarios/pgbench.py BINARIES [--pairs N] [--seconds S] [--scale N] [--smoke]

Root, PostgreSQL's server programs and pgbench, FUSE, loop devices, XFS. Two clusters of the same
settings, each on an XFS file system in an image file; both images lie on one XFS that can share blocks.

    umbra     the image is an attached volume. A backup: a copy with the PostgreSQL writer, mounted,
              all its files read, deleted.
    reflink   the image is a loop device. A backup: fsfreeze, the image cloned, thawed, the clone
              mounted, all its files read, deleted. Nobody asks PostgreSQL.

pgbench runs S seconds at a time, backups one after the other meanwhile, or none, in turn; the order
alternates (ABBA). Prints one JSON object a line, as `umbra-bench run --json` does: `umbra-bench
report` reads it. Afterwards a server is started on a copy of either kind and must agree with itself.
What is missing is said in `skipped`. Exit status: 0, or 1 if something failed. Takes some 5 S per pair, and one pair to warm up.
"""

import argparse
import json
import math
import os
import signal
import statistics
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tests", "e2e"))

import harness  # noqa: E402
import pg_cluster  # noqa: E402
from harness import World, expect, run_command  # noqa: E402
from pg_cluster import copy_of, expect_sums_agree  # noqa: E402
from postgres import address, make_cluster, start_writer  # noqa: E402

MIB = 1 << 20
CLIENTS = 4
SECONDS_MIN = 3  # Shorter, pgbench might be over before anybody has looked.
HOST_MIB = 6144  # Of the file system with the images and the diff area; a file with holes.
VOLUME_MIB = 1024
DOUBT = 0.05

# key, unit, better, what it is beside
KEYS = {
    "pgbench_tps_in_backup": ("ratio", "more", "the same without a backup"),
    "pgbench_p99_in_backup": ("times", "less", "the same without a backup"),
    "pgbench_tps_in_backup_vs_xfs_reflink": ("ratio", "more", "fsfreeze and a clone of the image"),
    "pgbench_p99_in_backup_vs_xfs_reflink": ("times", "less", "fsfreeze and a clone of the image"),
}


def mount(world, source, name, *options):
    directory = world.path("mnt", name)
    os.makedirs(directory, exist_ok=True)
    run_command("mount", *options, source, directory)
    return directory


def read_all(directory):
    """Every file, to its end. A backup would send it somewhere."""
    total = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(parent, name)
            if os.path.islink(path) or not os.path.isfile(path):
                continue
            with open(path, "rb", buffering=0) as file:
                while block := file.read(MIB):
                    total += len(block)
    expect(total > MIB, f"{directory} has hardly any file")
    return total


class Umbra:
    """A cluster on an attached volume."""

    name = "umbra"

    def __init__(self, world, host, scale):
        origin = os.path.join(host, "umbra.img")
        with open(origin, "wb") as image:
            image.truncate(VOLUME_MIB * MIB)
        self.world = world
        volume = world.umbra("attach", origin, "--diff", os.path.join(host, "umbra.diff"), "--name", "data")
        run_command("mkfs.xfs", "-q", "-f", volume["device_path"])
        self.directory = mount(world, volume["device_path"], "data")
        self.cluster = make_cluster(world, "umbra", self.directory)
        self.cluster.pgbench_init(scale)
        self.writer = start_writer(world, address(self.cluster))
        self.copy = None

    def begin(self):
        """Makes a copy and returns where it is mounted."""
        made = self.world.umbra("create", "shadow", self.directory)
        self.copy = made["snapshots"][0]["snapshot_id"]
        return self.world.umbra("mount", self.copy)["path"]

    def end(self):
        self.world.umbra("unmount", self.copy)
        self.world.umbra("delete", "shadows", self.copy)

    def close(self):
        self.cluster.stop()
        expect(self.world.stop(self.writer) == 0, "the writer ended badly")
        run_command("umount", self.directory)
        self.world.umbra("detach", "data")


class Reflink:
    """A cluster on a loop device, whose image is cloned while its file system is frozen."""

    name = "reflink"

    def __init__(self, world, host, scale):
        self.world = world
        self.image = os.path.join(host, "reflink.img")
        self.clone = os.path.join(host, "clone.img")
        with open(self.image, "wb") as image:
            image.truncate(VOLUME_MIB * MIB)
        run_command("mkfs.xfs", "-q", "-f", self.image)
        self.directory = mount(world, self.image, "loop", "-o", "loop")
        self.cluster = make_cluster(world, "reflink", self.directory)
        self.cluster.pgbench_init(scale)

    def begin(self):
        run_command("fsfreeze", "-f", self.directory)
        try:
            run_command("cp", "--reflink=always", self.image, self.clone)
        finally:
            run_command("fsfreeze", "-u", self.directory)
        # Its log is replayed: there is no other way to read an XFS that was in use.
        return mount(self.world, self.clone, "clone", "-o", "loop,nouuid")

    def end(self):
        run_command("umount", self.world.path("mnt", "clone"))
        os.unlink(self.clone)

    def close(self):
        self.cluster.stop()
        run_command("umount", self.directory)


def measure(subject, seconds, with_backup):
    """(transactions per second, p99 in milliseconds, backups)."""
    load = subject.cluster.pgbench(clients=CLIENTS, seconds=seconds)
    backups = 0
    while with_backup and load.process.poll() is None:
        read_all(subject.begin())
        subject.end()
        backups += 1
    load.finish(seconds + 60)
    latencies = []
    for name in os.listdir(load.directory):
        with open(os.path.join(load.directory, name), encoding="ascii") as lines:
            latencies += [int(line.split()[2]) for line in lines]
    expect(len(latencies) >= 20, f"{len(latencies)} transactions in {seconds} s")
    latencies.sort()
    return len(latencies) / seconds, latencies[math.ceil(0.99 * len(latencies)) - 1] / 1000, backups


def check(subject):
    """A server on the copy recovers, and its sums agree."""
    at_least = subject.cluster.history()
    mounted = subject.begin()
    copy = copy_of(subject.cluster, f"{subject.name}-copy", os.path.join(mounted, os.path.basename(subject.cluster.data)))
    subject.end()
    copy.start()
    expect_sums_agree(copy.sums(), at_least)
    copy.stop()
    return at_least


def bounds(values):
    """As umbra-bench: what the median is above, and below, with 95 % each; None for too few."""
    values = sorted(values)
    term = tail = 0.5 ** len(values)
    if tail > DOUBT:
        return None, None
    outside = 0
    while True:
        term *= (len(values) - outside) / (outside + 1)
        if tail + term > DOUBT:
            return values[outside], values[-1 - outside]
        tail += term
        outside += 1


def rounded(value):
    return None if value is None else float(f"{value:.5g}")


def line(key, values, baseline, common, beside=()):
    unit, better, _ = KEYS[key]

    def figures(some):
        low, high = bounds(some)
        return {
            "median": rounded(statistics.median(some)), "min": rounded(min(some)), "max": rounded(max(some)),
            "low": rounded(low), "high": rounded(high), "reps": len(some),
        }  # fmt: skip

    object_ = {"key": key, "unit": unit, **figures(values), "target": None, "better": better, "met": None}
    object_ |= {"baseline": baseline, **common}
    if beside:
        object_["beside"] = [{"name": name, **figures(some)} for name, some in beside]
    print(json.dumps(object_), flush=True)


def report(runs, transactions, options):
    common = {
        "medium": f"XFS in an image on XFS on a loop device, scale {options.scale}, {CLIENTS} clients,"
        f" {options.seconds} s each",
        "smoke": options.smoke, "digest": f"{transactions & 0xFFFFFFFF:08x}",
    }  # fmt: skip
    column = lambda name, backup, what: [run[what] for run in runs[name, backup]]  # noqa: E731
    ratios = lambda one, other: [a / b for a, b in zip(one, other)]  # noqa: E731
    for what, (kind, unit) in enumerate((("tps", "transactions a second"), ("p99", "ms"))):
        own, rival = (
            ratios(column(name, True, what), column(name, False, what)) for name in ("umbra", "reflink")
        )
        middle = lambda name, backup, what=what: f"{statistics.median(column(name, backup, what)):.4g}"  # noqa: E731
        backups = {name: sum(column(name, True, 2)) for name in ("umbra", "reflink")}
        line(
            f"pgbench_{kind}_in_backup", own,
            f"{KEYS[f'pgbench_{kind}_in_backup'][2]}: {middle('umbra', True)} with, {middle('umbra', False)} without,"
            f" {unit}; {backups['umbra']} backups", common, [("fsfreeze and a clone of the image", rival)],
        )  # fmt: skip
        line(
            f"pgbench_{kind}_in_backup_vs_xfs_reflink",
            ratios(column("umbra", True, what), column("reflink", True, what)),
            f"{KEYS[f'pgbench_{kind}_in_backup_vs_xfs_reflink'][2]}: ours {middle('umbra', True)},"
            f" theirs {middle('reflink', True)} {unit}; {backups['umbra']} and {backups['reflink']} backups",
            common, [("both without a backup", ratios(column("umbra", False, what), column("reflink", False, what)))],
        )  # fmt: skip


def scenario(world, options):
    harness.require_fuse_and_loop()
    pg_cluster.require_postgres()
    harness.require_programs("mkfs.xfs", "fsfreeze", "mount", "cp")
    if not os.access(os.path.join(pg_cluster.binaries(), "pgbench"), os.X_OK):
        raise harness.Skip("needs pgbench (Debian: postgresql-contrib or postgresql-NN)")
    os.chmod(world.top, 0o711)
    host_image = world.make_image("host.img", HOST_MIB * MIB)
    run_command("mkfs.xfs", "-q", "-f", "-m", "reflink=1", host_image)
    host = mount(world, host_image, "host", "-o", "loop")
    config = world.path("umbrad.toml")
    with open(config, "w", encoding="ascii") as file:
        file.write(f'[roles]\nwriters = "{pg_cluster.pwd.getpwnam(pg_cluster.USER).pw_gid}"\n')
    umbrad = world.start_umbrad("--config", config)
    guardian = world.start_cowd()
    subjects = [Umbra(world, host, options.scale), Reflink(world, host, options.scale)]
    runs = {(subject.name, backup): [] for subject in subjects for backup in (True, False)}
    order = [(subject, backup) for subject in subjects for backup in (False, True)]
    for pair in range(options.pairs + 1):
        for subject, backup in order if pair % 2 == 0 else reversed(order):
            run = measure(subject, options.seconds, backup)
            if pair > 0:  # The first does not count.
                runs[subject.name, backup].append(run)
            print(f"pgbench.py: {subject.name}, {'in a backup' if backup else 'alone'}: {run[0]:.0f} tps,"
                  f" p99 {run[1]:.1f} ms, {run[2]} backups", file=sys.stderr, flush=True)  # fmt: skip
    transactions = sum(check(subject) for subject in subjects)
    for subject in subjects:
        subject.close()
    run_command("umount", host)
    for process in (guardian, umbrad):
        expect(world.stop(process) == 0, f"{process.args[0]} ended badly")
    world.assert_clean()
    report(runs, transactions, options)


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("binaries", metavar="BINARIES", help="where the build's programs are")
    parser.add_argument("--pairs", type=int, default=7, help="5 at least for a bound (7)")
    parser.add_argument("--seconds", type=int, default=20, help="of pgbench at a time (20)")
    parser.add_argument("--scale", type=int, default=10, help="of pgbench's tables (10: 150 MB)")
    parser.add_argument("--smoke", action="store_true", help="small: figures mean nothing")
    options = parser.parse_args()
    if options.smoke:
        options.pairs, options.seconds, options.scale = 1, SECONDS_MIN, 1
    if options.pairs < 1 or options.seconds < SECONDS_MIN or not 1 <= options.scale <= 30:
        parser.error(f"--pairs is at least 1, --seconds at least {SECONDS_MIN}, --scale is 1 to 30")
    return options


def main():
    options = arguments()
    # A signal unwinds: the World takes everything away.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    world = World(os.path.abspath(options.binaries), 1)
    try:
        scenario(world, options)
    except harness.Skip as why:
        for key, (unit, better, _) in KEYS.items():
            none = dict.fromkeys(("median", "min", "max", "low", "high", "target", "met"))
            print(json.dumps({"key": key, "unit": unit, **none, "reps": 0, "better": better, "baseline": "",
                              "medium": "", "smoke": options.smoke, "skipped": str(why)}))  # fmt: skip
    except harness.Failure as why:
        print(f"pgbench.py: {why}", file=sys.stderr)
        return 1
    finally:
        world.destroy()
    return 0


if __name__ == "__main__":
    sys.exit(main())
