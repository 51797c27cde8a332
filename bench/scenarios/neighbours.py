# SPDX-License-Identifier: Apache-2.0
"""What a slow or dead reader of a copy, and another volume whose diff area stands still, cost a live volume.

    bench/scenarios/neighbours.py BINARIES [PAIRS]

Root, fio, FUSE and loop devices. The load is random writes of 16 KiB (16 in flight, O_DIRECT, every
chunk preserved before) on the live volume's block device, 2 s at a time, with the neighbour's trouble
and without, in pairs whose order alternates (ABBA). Each line: the median of with/without over the
pairs, the quartiles, and the rates. 1.00 is what is wanted; on a shared machine the spread says what
the figure is worth. Warning: it takes about 13 s per pair.
"""

import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tests", "e2e"))

from cowd import attach, start  # noqa: E402
from freezes import StallingDisk  # noqa: E402
from harness import World, expect, require_fuse_and_loop, require_programs, run_command, wait_until  # noqa: E402

MIB = 1 << 20
LIVE_MIB = 128
ASKED = 100  # Reads that a dead reader asks for and does not take.
ASKED_BYTES = 512 << 10


def rate_of(device):
    done = run_command(
        "fio", "--name=live", f"--filename={device}", "--rw=randwrite", "--bs=16k", "--ioengine=libaio", "--iodepth=16",
        "--direct=1", "--time_based", "--runtime=2", "--output-format=json",
    )  # fmt: skip
    return json.loads(done.stdout)["jobs"][0]["write"]["iops"]


class Reader:
    """An NBD client of a copy that takes its replies slowly, or never."""

    def __init__(self, world, name, seconds_per_reply):
        self.pause = seconds_per_reply
        self.over = threading.Event()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(f"{world.run_dir}/nbd.sock")
        self._take(18)
        self.socket.sendall(struct.pack(">I", 3))  # Fixed newstyle, no zeroes.
        word = name.encode()
        self.socket.sendall(struct.pack(">QII", 0x49484156454F5054, 1, len(word)) + word)  # EXPORT_NAME.
        self._take(10)
        for i in range(ASKED):
            self.socket.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, i, i * ASKED_BYTES % (64 * MIB), ASKED_BYTES))
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _take(self, count):
        while count:
            got = self.socket.recv(min(count, 65536))
            expect(got, "the server hung up on a reader")
            count -= len(got)

    def _read(self):
        while self.pause and not self.over.wait(self.pause):
            self._take(16 + ASKED_BYTES)

    def end(self):
        self.over.set()
        self.thread.join()
        self.socket.close()


class StalledNeighbour:
    """Another volume with a persistent copy, whose diff area stands still under writes."""

    def __init__(self, world, coordinator):
        self.disk = StallingDisk(world, "area")
        origin = world.make_image("other.img", 64 * MIB)
        self.volume = coordinator.attach(origin, self.disk.point, "other", force=True)
        run_command("dd", "if=/dev/zero", f"of={self.volume['device_path']}", "bs=1M", "count=32", "oflag=direct",
                    "status=none")  # fmt: skip
        self.coordinator = coordinator
        self.copies = []
        self.writer = None

    def begin(self):
        """Each time a new copy, so that the writes need the diff area again."""
        self.copies += self.coordinator.snapshot("other")
        self.disk.stall()
        self.writer = subprocess.Popen(
            ["dd", "if=/dev/zero", f"of={self.volume['device_path']}", "bs=64k", "count=64", "oflag=direct",
             "conv=notrunc", "status=none"],
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        wait_until(self.disk.holds, "a write to the diff area stands still")

    def end(self):
        expect(self.writer.poll() is None, "the neighbour's writes did not stand still")
        self.disk.resume()
        expect(self.writer.wait(60) == 0, "the neighbour's writes failed")
        self.coordinator.delete(self.copies.pop()["snapshot_id"])


def compare(name, device, pairs, begin):
    """begin() makes the trouble and returns what ends it."""
    ratios, rates = [], {True: [], False: []}
    for pair in range(pairs):
        pair_rates = {}
        for with_trouble in (False, True) if pair % 2 == 0 else (True, False):
            end = begin() if with_trouble else None
            pair_rates[with_trouble] = rate_of(device)
            rates[with_trouble].append(pair_rates[with_trouble])
            if end:
                end()
        ratios.append(pair_rates[True] / pair_rates[False])
    quarter = statistics.quantiles(ratios, n=4, method="inclusive")
    print(
        f"{name}: {statistics.median(ratios):.3f} (quartiles {quarter[0]:.3f} to {quarter[2]:.3f}, {pairs} pairs);"
        f" {statistics.median(rates[True]):.0f} with, {statistics.median(rates[False]):.0f} without, writes per second",
        flush=True,
    )


def scenario(world, pairs):
    require_fuse_and_loop()
    require_programs("fio")
    coordinator, guardian = start(world)
    live = attach(world, coordinator, "live", LIVE_MIB)
    device = live["device_path"]
    run_command("dd", "if=/dev/urandom", f"of={device}", "bs=1M", f"count={LIVE_MIB}", "oflag=direct", "status=none")
    (copy,) = coordinator.snapshot("live")
    run_command("dd", "if=/dev/urandom", f"of={device}", "bs=1M", f"count={LIVE_MIB}", "oflag=direct", "status=none")
    rate_of(device)  # Warm.
    compare("nothing (the measure itself)", device, pairs, lambda: lambda: None)
    for name, pause in (("a dead reader of its copy", 0), ("a slow reader of its copy", 0.1)):
        compare(name, device, pairs, lambda pause=pause: Reader(world, copy["snapshot_id"], pause).end)
    other = StalledNeighbour(world, coordinator)

    def stall():
        other.begin()
        return other.end

    compare("another volume's diff area stands still", device, pairs, stall)
    for name in ("other", "live"):
        for snapshot in coordinator.snapshots():
            if snapshot["original_volume"] == name:
                coordinator.delete(snapshot["snapshot_id"])
        coordinator.detach(name)
    expect(world.stop(guardian) == 0, "umbra-guardian did not end in order")
    other.disk.end()
    world.assert_clean()


def main():
    if len(sys.argv) not in (2, 3):
        print(__doc__, file=sys.stderr)
        return 2
    world = World(os.path.abspath(sys.argv[1]), 1)
    try:
        scenario(world, int(sys.argv[2]) if len(sys.argv) == 3 else 10)
    finally:
        world.destroy()
    return 0


if __name__ == "__main__":
    sys.exit(main())
