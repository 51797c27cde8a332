# SPDX-License-Identifier: Apache-2.0
"""What a served volume must stand, whatever serves it: umbra-cowd killed again and again while a slow disk
has its writes, file systems made, loaded and checked, snapshots every second under a verified load,
blkdiscard. Here on the best front end that this machine has; tests/kernel/devices.py runs the same
cases in machines that have others. umbrad is played by the case.

UMBRA_LONG=1 does the counts that issue 6 asks for; UMBRA_KILLS and UMBRA_VERIFY_S choose others.
"""

import hashlib
import os
import subprocess
import sys
import time

import harness
from coordinator import Coordinator
from cowd import attach, digest_of, kill_cowd, read_file, start, stop_clean, write_file
from harness import LONG, expect, require_fuse_and_loop, require_programs, run_command, wait_until

KILLS = int(os.environ.get("UMBRA_KILLS", "1000" if LONG else "4"))
VERIFY_S = int(os.environ.get("UMBRA_VERIFY_S", "600" if LONG else "8"))
DELAY_MS = 20  # Of the slow disk, each write.
KEPT_SNAPSHOTS = 3
MIB = 1 << 20

FSCK = {
    "ext4": ["e2fsck", "-fn"],
    "xfs": ["xfs_repair", "-n"],
    "btrfs": ["btrfs", "check", "--readonly"],
}
MKFS = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"], "btrfs": ["mkfs.btrfs", "-q", "-f"]}


class Copy:
    """A copy's content: through its file where there is FUSE, else read over NBD."""

    def __init__(self, world, coordinator, snapshot):
        self.world, self.coordinator, self.snapshot = world, coordinator, snapshot
        self.mounted = None
        if os.path.ismount(f"{world.run_dir}/fuse/snapshots"):
            self.mounted = coordinator.mount(snapshot["snapshot_id"])["path"]

    def digest(self):
        if self.mounted:
            return digest_of(self.mounted)
        image = self.world.path("copy.img")
        directory = self.world.path("mnt", "copy")
        os.makedirs(directory, exist_ok=True)
        name = self.snapshot["snapshot_id"]
        run_command("nbdcopy", f"nbd+unix:///{name}?socket={self.world.run_dir}/nbd.sock", image)
        run_command("mount", "-o", "loop,ro,noload", image, directory)
        digest = digest_of(directory)
        run_command("umount", directory)
        os.unlink(image)
        return digest

    def close(self):
        if self.mounted:
            self.coordinator.unmount(self.snapshot["snapshot_id"])


class Load:
    """Writes and verifies a file, again and again, until it is stopped."""

    def __init__(self, world, directory, size="16m"):
        self.stop_file = world.path("stop")
        self.output = world.path("load.txt")
        fio = (
            f"fio --name=load --directory={directory} --size={size} --rw=randwrite --bs=4k-64k --ioengine=libaio"
            " --iodepth=16 --direct=1 --verify=crc32c --do_verify=1 --verify_fatal=1 --verify_state_save=0"
            f" --serialize_overlap=1 --fsync=64 >{self.output} 2>&1"
        )
        self.process = subprocess.Popen(
            ["sh", "-c", f"while [ ! -e {self.stop_file} ]; do {fio} || exit 1; done"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        world.processes.append(self.process)

    def expect_going_on(self):
        expect(self.process.poll() is None, "fio met an error: " + self.said())

    def stop(self):
        write_file(self.stop_file, b"")
        expect(self.process.wait(300) == 0, "fio met an error: " + self.said())

    def said(self):
        return read_file(self.output).decode(errors="replace")[-2000:]


def summary(values):
    ordered = sorted(values)
    return f"{ordered[0]:.2f} to {ordered[-1]:.2f}, median {ordered[len(ordered) // 2]:.2f}"


def start_patient(world):
    """A guardian that does not give up, however often its umbra-cowd is killed."""
    os.makedirs(world.run_dir, mode=0o755, exist_ok=True)
    coordinator = Coordinator(world.socket())
    guardian = world.start(
        world.binary("umbra-guardian"), "--run-dir", world.run_dir, "--restart-failures", "1000", "--",
        world.binary("umbra-cowd"), "--run-dir", world.run_dir, "--state-dir", world.state_dir,
        name="umbra-cowd",
    )  # fmt: skip
    coordinator.wait_for_provider()
    return coordinator, guardian


def end_volume(world, coordinator, volume, directory):
    """Unmounts, checks, and finds the same again."""
    live = digest_of(directory)
    run_command("umount", directory)
    run_command("e2fsck", "-fn", volume["device_path"])
    run_command("mount", "-o", "ro", volume["device_path"], directory)
    expect(digest_of(directory) == live, "the live volume changed over umount")
    run_command("umount", directory)
    coordinator.detach(volume["name"])


# --- kill -9 ---------------------------------------------------------------------------------------


def slow_disk(world):
    """A file that takes its time for each write: what is killed finds writes on their way."""
    require_programs("nbdkit", "nbdfuse")
    image = world.make_image("slow.img", 128 * MIB)
    directory = world.path("slow")
    os.makedirs(directory)
    disk = world.start(
        "nbdkit", "-U", "-", "-f", "--filter=delay", "file", image, f"wdelay={DELAY_MS}ms", "--run",
        f'exec nbdfuse {directory} "$uri"', name="slow",
    )  # fmt: skip
    path = f"{directory}/nbd"
    wait_until(lambda: os.path.exists(path), "the slow disk is there")

    def end():
        run_command("umount", directory, check=False)
        disk.wait(20)

    world.at_end(end)
    return path, end


def killed_on_a_slow_disk(world):
    """kill -9 at random instants under a verified load whose writes are on their way to a slow disk: no
    error, no difference, a copy that stays what it is."""
    require_fuse_and_loop()
    require_programs("fio")
    origin, end_disk = slow_disk(world)
    coordinator, guardian = start_patient(world)
    volume = coordinator.attach(origin, world.path("data.diff"), "data")
    kill_again_and_again(world, coordinator, volume, KILLS)
    expect(world.stop(guardian) == 0, "umbra-guardian did not end in order")
    end_disk()
    world.assert_clean()


def kill_again_and_again(world, coordinator, volume, kills):
    directory = world.mkfs_and_mount(volume["device_path"], "data")
    write_file(f"{directory}/kept", os.urandom(2 * MIB))
    kept = digest_of(directory)
    (snapshot,) = coordinator.snapshot("data")
    copy = Copy(world, coordinator, snapshot)
    load = Load(world, directory)
    pauses = []
    begin_all = time.monotonic()
    for done in range(kills):
        time_to_kill = time.monotonic() + world.random.uniform(0, 0.1)
        wait_until(lambda: time.monotonic() >= time_to_kill, "a random instant")
        kill_cowd(world)
        begin = time.monotonic()
        write_file(f"{directory}/probe", os.urandom(4096))
        pauses.append(time.monotonic() - begin)
        coordinator.wait_for_provider()
        load.expect_going_on()
        if done % 50 == 0:
            expect(copy.digest() == kept, f"the copy changed after kill {done + 1}")
    took = time.monotonic() - begin_all
    load.stop()
    expect(copy.digest() == kept, "the copy changed")
    copy.close()
    os.unlink(f"{directory}/probe")
    after = coordinator.volumes()["data"]
    expect(after["device_path"] == volume["device_path"], f"{after}")
    end_volume(world, coordinator, volume, directory)
    print(f"{kills} kills in {took:.0f} s; a small synced write after each took {summary(pauses)} s")


# --- file systems ------------------------------------------------------------------------------------


def churn(directory, number):
    """Makes, fills, renames, links, truncates and removes, four at a time."""
    script = r"""
cd "$1" && mkdir -p "w$2" && cd "w$2" || exit 1
i=0
while [ $i -lt 60 ]; do
  dd if=/dev/urandom of=f$i bs=7k count=$((i % 9 + 1)) status=none || exit 1
  case $((i % 6)) in
    0) mkdir d$i && mv f$i d$i/ ;;
    1) ln f$i l$i && truncate -s 1000 f$i ;;
    2) rm f$i ;;
    3) fallocate -l 64k f$i && sync f$i ;;
    4) ln -s f$i s$i && mv f$i g$i ;;
    5) rm -rf d$((i - 5)) ;;
  esac || exit 1
  i=$((i + 1))
done
"""
    return subprocess.Popen(["sh", "-c", script, "churn", directory, str(number)], stdin=subprocess.DEVNULL)


def digest_of_tree(directory):
    total = hashlib.sha256()
    for folder, folders, names in os.walk(directory):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            total.update(os.path.relpath(path, directory).encode())
            total.update(os.readlink(path).encode() if os.path.islink(path) else read_file(path))
    return total.hexdigest()


def file_system_case(kind):
    def case(world):
        """Made, loaded with a snapshot in the middle, unmounted, checked; and the copy can be read."""
        require_programs(MKFS[kind][0], FSCK[kind][0], "fallocate")
        coordinator, guardian = start(world)
        volume = attach(world, coordinator, "data", 320)
        expect(volume["device_path"] != "", f"no block device here: {volume}")
        directory = world.path("mnt", "data")
        os.makedirs(directory)
        run_command(*MKFS[kind], volume["device_path"])
        run_command("mount", volume["device_path"], directory)
        for turn in range(4 if LONG else 2):
            workers = [churn(directory, 4 * turn + i) for i in range(4)]
            (snapshot,) = coordinator.snapshot("data")
            for worker in workers:
                expect(worker.wait(300) == 0, f"a worker on {kind} met an error")
            live = digest_of_tree(directory)
            run_command("umount", directory)
            run_command(*FSCK[kind], volume["device_path"], limit_s=300)
            run_command("mount", volume["device_path"], directory)
            expect(digest_of_tree(directory) == live, "the content changed over umount")
            coordinator.delete(snapshot["snapshot_id"])
        run_command("umount", directory)
        coordinator.detach("data")
        # And the origin by itself.
        run_command(*FSCK[kind], world.path("data.img"), limit_s=300)
        stop_clean(world, guardian)

    return case


# --- snapshots under a verified load -------------------------------------------------------------------


def verified_with_snapshots(world):
    """fio verifies what it wrote while a snapshot is made every second and older ones go."""
    require_programs("fio")
    coordinator, guardian = start(world)
    volume = attach(world, coordinator, "data", 128)
    expect(volume["device_path"] != "", f"no block device here: {volume}")
    directory = world.mkfs_and_mount(volume["device_path"], "data")
    load = Load(world, directory, "32m")
    kept, taken = [], 0
    took = []
    end = time.monotonic() + VERIFY_S
    while time.monotonic() < end:
        next_at = time.monotonic() + 1
        begin = time.monotonic()
        kept += coordinator.snapshot("data")
        took.append(time.monotonic() - begin)
        taken += 1
        load.expect_going_on()
        if len(kept) > KEPT_SNAPSHOTS:
            coordinator.delete(kept.pop(world.random.randrange(len(kept)))["snapshot_id"])
        wait_until(lambda: time.monotonic() >= next_at, "the next second")
    load.stop()
    end_volume(world, coordinator, volume, directory)
    stop_clean(world, guardian)
    print(f"{taken} snapshots in {VERIFY_S} s; each took {summary(took)} s")


# --- discard -------------------------------------------------------------------------------------------


def discarded(world):
    """blkdiscard and blkdiscard --zeroout do what docs/front-ends.md says, and a copy does not see it."""
    coordinator, guardian = start(world)
    volume = attach(world, coordinator, "data", 32)
    path = volume["device_path"]
    expect(path != "", f"no block device here: {volume}")
    content = os.urandom(8 * MIB)

    def rewrite():
        with open(path, "wb", buffering=0) as file:
            file.write(content)
            os.fsync(file.fileno())

    def read_range(where, offset, size):
        done = run_command("dd", f"if={where}", "iflag=direct,skip_bytes,count_bytes", "bs=1M", f"skip={offset}",
                           f"count={size}", f"of={world.path('read')}", "status=none")  # fmt: skip
        expect(done.returncode == 0, done.stderr)
        return read_file(world.path("read"))

    rewrite()
    (snapshot,) = coordinator.snapshot("data")
    discard = run_command("blkdiscard", "--offset", MIB, "--length", 2 * MIB, path, check=False)
    if volume["front_end"] == "fuse":
        expect(discard.returncode != 0, "a loop device of ours takes discards")
    else:
        expect(discard.returncode == 0, discard.stderr)
        # Nothing is applied while a copy needs what is there.
        expect(read_range(path, MIB, 2 * MIB) == content[MIB : 3 * MIB], "a discard was applied under a copy")
    run_command("blkdiscard", "--zeroout", "--offset", 4 * MIB, "--length", 2 * MIB, path)
    expect(read_range(path, 4 * MIB, 2 * MIB) == bytes(2 * MIB), "no zeroes")
    expect(read_range(path, 0, MIB) == content[:MIB], "too much was cleared")
    image = world.path("copy.img")
    run_command("nbdcopy", f"nbd+unix:///{snapshot['snapshot_id']}?socket={world.run_dir}/nbd.sock", image)
    expect(read_file(image)[: 8 * MIB] == content, "the copy shows something else")
    os.unlink(image)
    coordinator.delete(snapshot["snapshot_id"])
    if volume["front_end"] != "fuse":
        run_command("blkdiscard", path)
        allocated = os.stat(world.path("data.img")).st_blocks * 512
        expect(allocated < 2 * MIB, f"a discard without copies frees nothing: {allocated}")
    coordinator.detach("data")
    stop_clean(world, guardian)


CASES = {
    "ext4": file_system_case("ext4"),
    "xfs": file_system_case("xfs"),
    "btrfs": file_system_case("btrfs"),
    "verified_with_snapshots": verified_with_snapshots,
    "discarded": discarded,
}

if __name__ == "__main__":
    sys.exit(harness.run({"killed_on_a_slow_disk": killed_on_a_slow_disk, **CASES}))
