# SPDX-License-Identifier: Apache-2.0
"""Volumes as devices of the kernel, in machines (tests/kernel/vm) whose kernels have them: ublk on that of
Debian's backports (6.12), the kernel's NBD client on Debian 12's own (6.1), which has nothing else.

Cases `ublk` and `nbd` start one and run the other cases in it, one after the other, each in a World
of its own; umbrad is played by the case. Emulated, so only UMBRA_LONG=1 runs them; a short form of
a few minutes runs with UMBRA_KERNEL=1. The first step for ublk is the unit tests of the device, which
skip elsewhere. UMBRA_DEVICE_CASES names the inner cases to run, UMBRA_KILLS the number of kills.

The origin that is loaded while umbra-cowd is killed lies on a disk with a delay, so that a kill finds
writes on their way to it.
"""

import glob
import os
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "e2e"))

import harness  # noqa: E402
from coordinator import Coordinator, Refused  # noqa: E402
from cowd import attach, digest_of, kill_cowd, kill_everything, read_file, refused, start, start_cowd  # noqa: E402
from cowd import stop_clean, write_file  # noqa: E402
from serving import Copy, Load  # noqa: E402
import serving  # noqa: E402
from harness import LONG, Failure, Skip, World, expect, run_command, wait_until  # noqa: E402

SUITES = {"ublk": "bookworm-backports", "nbd": ""}
FRONT_END = os.environ.get("UMBRA_FRONT_END", "")  # Of the machine that we are in.
KILLS = int(os.environ.get("UMBRA_KILLS", "100" if LONG else "4"))
DELAY_MS = 20
VM_LIMIT_S = 3000 if LONG else 600
GIVE_UP_LIMIT_S = 60  # Five failures in a row, and 5 s for what the kernel has to end.
IN_USE = "0x8004231d"


def devices():
    """Of the kernel's, connected ones."""
    return sorted(glob.glob("/dev/ublk[bc]*") + glob.glob("/sys/block/nbd*/backend"))


def is_ours(volume):
    start = {"ublk": "/dev/ublkb", "nbd": "/dev/nbd"}[FRONT_END]
    return volume["front_end"] == FRONT_END and volume["device_path"].startswith(start)


def finish(world, guardian):
    stop_clean(world, guardian)
    expect(devices() == [], f"left behind: {devices()}")


def setting(device, name):
    with open(f"/sys/block/{os.path.basename(device)}/{name}", encoding="ascii") as file:
        return file.read().strip()


# --- inside of the machine ------------------------------------------------------------------------


def device(world):
    """The device by itself, without the daemons."""
    if FRONT_END != "ublk":
        return
    program = os.path.join(world.binaries, "..", "tests", "ublk_test")
    run_command(program, limit_s=300)


def life(world):
    """From attach to detach: the choice, all kinds of requests, a copy, and nothing left."""
    coordinator, guardian = start(world)
    volume = attach(world, coordinator, "data", 64)
    path = volume["device_path"]
    expect(is_ours(volume), f"{volume}")
    expect("survives a restart" in volume["front_end_why"], f"{volume}")
    expect(setting(path, "queue/fua") == "1", "no FUA")
    expect(setting(path, "queue/write_cache") == "write back", "no flushes")
    if FRONT_END == "ublk":  # The NBD client of 6.1 has none.
        expect(int(setting(path, "queue/write_zeroes_max_bytes")) > 0, "no write-zeroes")
    expect(int(setting(path, "queue/discard_max_bytes")) > 0, "no discard")
    told = run_command(
        world.binary("umbra-udev"), "--run-dir", world.run_dir, "--state-dir", world.state_dir, path
    ).stdout
    expect(told == "UMBRA_ROLE=live\nUMBRA_VOLUME=data\n", f"udev is told: {told}")
    directory = world.mkfs_and_mount(path, "data")
    write_file(f"{directory}/kept", os.urandom(4 << 20))
    kept = digest_of(directory)
    (snapshot,) = coordinator.snapshot("data")
    write_file(f"{directory}/kept", os.urandom(4 << 20))
    write_file(f"{directory}/more", os.urandom(4 << 20))
    run_command("fallocate", "--zero-range", "--length", "1M", f"{directory}/more")
    os.unlink(f"{directory}/more")
    run_command("fstrim", directory)
    live = digest_of(directory)
    copy = Copy(world, coordinator, snapshot)
    expect(copy.digest() == kept, "the copy shows something else")
    refused(IN_USE, coordinator.detach, "data")
    copy.close()
    run_command("umount", directory)
    run_command("e2fsck", "-fn", path)
    with open(path, "rb"):
        refused(IN_USE, coordinator.detach, "data")
    coordinator.delete(snapshot["snapshot_id"])
    coordinator.detach("data")
    expect(devices() == [], f"left behind: {devices()}")
    run_command("mount", "-o", "loop", world.path("data.img"), directory)
    expect(digest_of(directory) == live, "the origin by itself shows something else")
    run_command("umount", directory)
    finish(world, guardian)


def words(world):
    """What may be asked for, side by side; and what this kernel does not have."""
    coordinator, guardian = start(world)
    starts = {"ublk": "/dev/ublkb", "fuse": "/dev/loop", "nbd": "/dev/nbd", "none": ""}
    offered = starts if FRONT_END == "ublk" else ("nbd", "none")
    for word, begin in starts.items():
        if word not in offered:
            try:
                attach(world, coordinator, word, 16, expose=word)
                raise Failure(f"{word} is not refused")
            except Refused as error:
                expect('"nbd"' in error.context, error.context)
            continue
        volume = attach(world, coordinator, word, 16, expose=word)
        expect(volume["device_path"].startswith(begin) and volume["front_end"] == word, f"{volume}")
        expect("as asked for" in volume["front_end_why"], f"{volume}")
        if begin:
            write_file(volume["device_path"], b"x" * 65536)
    kill_cowd(world)
    coordinator.wait_for_provider()
    for name, volume in coordinator.volumes().items():
        expect(volume["front_end_why"] != "", f"{name}: {volume}")
        coordinator.detach(name)
    finish(world, guardian)


def delayed_origin(world):
    """A disk on which everything takes a while."""
    run_command("modprobe", "dm-delay", check=False)
    sectors = int(run_command("blockdev", "--getsz", "/dev/vda").stdout)
    environment = dict(os.environ, DM_DISABLE_UDEV="1")
    run_command("dmsetup", "create", "slow", "--table", f"0 {sectors} delay /dev/vda 0 {DELAY_MS}", env=environment)
    world.at_end(lambda: run_command("dmsetup", "remove", "slow", env=environment, check=False))
    return "/dev/mapper/slow"


def killed(world):
    """kill -9 again and again under a verified load on a slow disk: no error, nothing lost; then a new
    binary in the same way."""
    harness.require_programs("fio", "dmsetup")
    origin = delayed_origin(world)
    programs = world.path("programs")  # Of this world's own: one of them is replaced.
    os.makedirs(programs)
    for name in ("umbra-cowd", "umbra-guardian"):
        run_command("cp", world.binary(name), programs)
    world.binaries = programs
    os.makedirs(world.run_dir, mode=0o755)
    coordinator = Coordinator(world.socket())
    guardian = world.start(
        world.binary("umbra-guardian"), "--run-dir", world.run_dir, "--restart-failures", "1000", "--",
        world.binary("umbra-cowd"), "--run-dir", world.run_dir, "--state-dir", world.state_dir,
        name="umbra-cowd",
    )  # fmt: skip
    volume = coordinator.attach(origin, world.path("data.diff"), "data")
    expect(is_ours(volume), f"{volume}")
    quiet = attach(world, coordinator, "quiet", 16)
    directory = world.mkfs_and_mount(volume["device_path"], "data")
    write_file(f"{directory}/kept", os.urandom(2 << 20))
    kept = digest_of(directory)
    (snapshot,) = coordinator.snapshot("data")
    copy = Copy(world, coordinator, snapshot)
    load = Load(world, directory)
    pauses = []
    for _ in range(KILLS):
        kill_cowd(world)
        begin = time.monotonic()
        write_file(f"{directory}/probe", os.urandom(4096))
        pauses.append(time.monotonic() - begin)
        coordinator.wait_for_provider()
        load.expect_going_on()
    expect(copy.digest() == kept, "the copy changed")

    before = os.stat(f"{programs}/umbra-cowd").st_ino
    run_command("cp", f"{programs}/umbra-cowd", f"{programs}/new")
    os.rename(f"{programs}/new", f"{programs}/umbra-cowd")
    os.kill(world.guardian_pid(), signal.SIGUSR1)
    wait_until(lambda: is_new(world, before), "the new binary runs")
    write_file(f"{directory}/probe", os.urandom(4096))
    coordinator.wait_for_provider()
    load.expect_going_on()
    world.expect_logged("umbra-cowd", "a new umbra-cowd was asked for")

    load.stop()
    after = coordinator.volumes()
    expect(after["data"]["device_path"] == volume["device_path"], f"{after}")
    expect(after["quiet"]["device_path"] == quiet["device_path"], f"{after}")
    expect(copy.digest() == kept, "the copy changed")
    copy.close()
    os.unlink(f"{directory}/probe")
    live = digest_of(directory)
    run_command("umount", directory)
    run_command("e2fsck", "-fn", volume["device_path"])
    run_command("mount", "-o", "ro", volume["device_path"], directory)
    expect(digest_of(directory) == live, "the live volume changed over umount")
    run_command("umount", directory)
    for name in ("data", "quiet"):
        coordinator.detach(name)
    finish(world, guardian)
    print(f"{KILLS} kills; a small synced write after each took {serving.summary(pauses)} s")


def is_new(world, former):
    pid = world.cowd_pid()
    try:
        return pid is not None and os.stat(f"/proc/{pid}/exe").st_ino != former
    except OSError:
        return False


def given_up(world):
    """No successor comes: whoever waits gets an error within the bound, and the device is gone."""
    coordinator, guardian = start(world)
    volume = attach(world, coordinator, "data", 32)
    with open(world.path("reader.txt"), "wb") as output:
        reader = subprocess.Popen(
            ["sh", "-c", f"while dd if={volume['device_path']} of=/dev/null bs=4k count=64 iflag=direct; do :; done"],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    world.processes.append(reader)
    begin = time.monotonic()
    while guardian.poll() is None:
        expect(time.monotonic() < begin + GIVE_UP_LIMIT_S, "the guardian does not give up")
        pid = world.cowd_pid()
        if pid is not None:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            guardian.wait(0.02)
        except subprocess.TimeoutExpired:
            pass
    expect(guardian.returncode == 1, f"the guardian ended with {guardian.returncode}")
    reader.wait(GIVE_UP_LIMIT_S)
    wait_until(lambda: devices() == [], "the device goes", GIVE_UP_LIMIT_S)
    print(f"errors {time.monotonic() - begin:.1f} s after the first of the kills")
    # And all is as if nothing had been.
    guardian = start_cowd(world)
    wait_until(lambda: coordinator.registrations >= 2 and coordinator.peer, "umbra-cowd registers again")
    wait_until(lambda: coordinator.volumes()["data"]["state"] == "ok", "the volume is back")
    coordinator.detach("data")
    finish(world, guardian)


def leftovers(world):
    """All is killed at once, with a mounted volume and a stranger's device beside it: the next start
    removes what is ours and serves the volume anew."""
    stranger = World(world.binaries, world.random.randrange(1, 1 << 30))
    world.at_end(stranger.destroy)
    others, other_guardian = start(stranger)
    foreign = attach(stranger, others, "foreign", 16)
    coordinator, guardian = start(world)
    volume = attach(world, coordinator, "data", 32)
    directory = world.mkfs_and_mount(volume["device_path"], "data")
    write_file(f"{directory}/file", b"one" * 1000)
    run_command("sync", "-f", directory)
    kill_everything(world, guardian)

    guardian = start_cowd(world)
    wait_until(lambda: coordinator.registrations == 2, "umbra-cowd registers again")
    world.expect_logged("umbra-cowd", "mounted from a device that has died")
    run_command("umount", directory, check=False)
    again = coordinator.volumes()["data"]
    expect(again["state"] == "ok" and is_ours(again), f"{again}")
    run_command("mount", again["device_path"], directory)
    expect(read_file(f"{directory}/file") == b"one" * 1000, "a synced write is gone")
    run_command("umount", directory)
    coordinator.detach("data")
    write_file(foreign["device_path"], b"x" * 4096)
    others.detach("foreign")
    stop_clean(stranger, other_guardian)
    stop_clean(world, guardian)
    # What somebody had mounted has no block device any more; its number goes with the mount.
    wait_until(lambda: devices() == [], "nothing is left", 20)


def cleaned(world):
    """All is killed at once, with a mounted volume that is being written: `umbra cleanup` ends the waiting,
    names the mount, and leaves nothing once that has gone."""
    coordinator, guardian = start(world)
    volume = attach(world, coordinator, "data", 32)
    directory = world.mkfs_and_mount(volume["device_path"], "data")
    load = Load(world, directory, "4m")
    wait_until(lambda: os.path.exists(f"{directory}/load.0.0"), "the load runs")
    cleanup = [world.binary("umbra-cleanup"), "--run-dir", world.run_dir]
    running = run_command(*cleanup)
    expect("runs in" in running.stdout, f"a living daemon's device was touched: {running.stdout}")
    cowd = world.cowd_pid()
    for pid in (guardian.pid, cowd):
        os.kill(pid, signal.SIGKILL)
    guardian.wait(20)
    wait_until(lambda: not harness.is_alive(cowd), "umbra-cowd is dead")
    would = run_command(*cleanup, "--dry-run", check=False)
    expect(f"would remove device that nobody serves {volume['device_path']}" in would.stdout, would.stdout)
    done = run_command(*cleanup, check=False)
    expect(done.returncode == 3 and directory in done.stdout, f"{done.returncode}: {done.stdout}")
    expect(load.process.wait(60) != 0, "the load goes on")
    run_command("umount", directory, check=False)
    wait_until(lambda: glob.glob("/sys/block/nbd*/backend") == [], "nobody has the device any more", 20)
    done = run_command(*cleanup, check=False)
    expect(done.returncode == 0, f"{done.returncode}: {done.stdout}")
    if FRONT_END == "ublk":
        wait_until(lambda: devices() == [], "nothing is left", 20)
    expect(devices() == [], f"left behind: {devices()}")
    world.assert_clean()


def nbd_client(world):
    """Debian's nbd-client, with two connections, as a client of the server."""
    harness.require_programs("nbd-client")
    coordinator, guardian = start(world)
    attach(world, coordinator, "data", 64, expose="none")
    run_command("modprobe", "nbd", check=False)
    device = "/dev/nbd9"  # Those that umbra-cowd takes begin at the other end.
    run_command("nbd-client", "-unix", f"{world.run_dir}/nbd.sock", device, "-N", "data", "-C", "2")
    world.at_end(lambda: run_command("nbd-client", "-d", device, check=False))
    directory = world.mkfs_and_mount(device, "data")
    write_file(f"{directory}/kept", os.urandom(4 << 20))
    kept = digest_of(directory)
    run_command("sync", "-f", directory)
    (snapshot,) = coordinator.snapshot("data")
    write_file(f"{directory}/kept", os.urandom(4 << 20))
    run_command("fstrim", directory)
    refused(IN_USE, coordinator.detach, "data")
    run_command("umount", directory)
    run_command("e2fsck", "-fn", device)
    run_command("nbd-client", "-d", device)
    image = world.path("copy.img")
    run_command("nbdcopy", f"nbd+unix:///{snapshot['snapshot_id']}?socket={world.run_dir}/nbd.sock", image)
    # Nobody froze it: its journal may hold what the rest of it lacks.
    run_command("mount", "-o", "loop", image, directory)
    expect(digest_of(directory) == kept, "the copy shows something else")
    run_command("umount", directory)
    coordinator.detach("data")
    stop_clean(world, guardian)


class Group:
    """A memory cgroup of the case's own."""

    def __init__(self, world, name, limit_mib):
        top = world.path("cgroup")
        if not os.path.isdir(top):
            os.makedirs(top)
            run_command("mount", "-t", "cgroup2", "none", top)
            world.at_end(lambda: run_command("umount", top, check=False))
            write_text(f"{top}/cgroup.subtree_control", "+memory")
        self.path = f"{top}/{name}"
        os.makedirs(self.path)
        write_text(f"{self.path}/memory.max", str(limit_mib << 20))

    def command(self, *words):
        return ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', self.path, *words]

    def number(self, name, key=""):
        for line in read_file(f"{self.path}/{name}").decode().splitlines():
            if line.startswith(key):
                return int(line[len(key):])
        raise Failure(f"{name} has no {key}")

    def expect_nobody_killed(self):
        expect(self.number("memory.events", "oom_kill ") == 0, f"{self.path}: somebody was killed for memory")

    def is_removed(self):
        try:
            os.rmdir(self.path)
        except OSError:  # What has ended in it is not gone at once.
            return False
        return True


def write_text(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def short_of_memory(world, expose):
    """umbra-cowd and a load that writes through the page cache have little memory, each its own: what is
    dirty must be written for the load to go on, through an umbra-cowd that gets no memory for it."""
    harness.require_programs("fio")
    ours, theirs = Group(world, "cowd", 128), Group(world, "load", 40)
    os.makedirs(world.run_dir, mode=0o755)
    coordinator = Coordinator(world.socket())
    guardian = world.start(
        *ours.command(world.binary("umbra-cowd"), "--run-dir", world.run_dir, "--state-dir", world.state_dir),
        name="umbra-cowd",
    )
    coordinator.wait_for_provider()
    run_command("wipefs", "-qa", "/dev/vda", "/dev/vdb")
    run_command("blkdiscard", "-z", "--length", "1M", "/dev/vdb")
    volume = coordinator.attach("/dev/vda", "/dev/vdb", "data", expose=expose)
    directory = world.mkfs_and_mount(volume["device_path"], "data")
    coordinator.snapshot("data")
    load = world.start(*theirs.command(
        "fio", "--name=load", f"--directory={directory}", "--size=64m", "--rw=randwrite", "--bs=16k",
        "--ioengine=psync", "--fallocate=none", "--end_fsync=1", "--verify=crc32c",
        "--verify_state_save=0"), name="fio")  # fmt: skip
    wait_until(lambda: theirs.number("memory.current") > 24 << 20, "the load has filled its memory", 120)
    coordinator.snapshot("data")
    begin = time.monotonic()
    expect(load.wait(400) == 0, "fio met an error: " + world.log_text("fio")[-2000:])
    ours.expect_nobody_killed()
    theirs.expect_nobody_killed()
    print(
        f"{expose}: the load ended {time.monotonic() - begin:.0f} s after the second snapshot; umbra-cowd has"
        f" {ours.number('memory.current') >> 20} of 128 MiB; the load met its limit of 40 MiB"
        f" {theirs.number('memory.events', 'max ')} times"
    )
    run_command("umount", directory)
    run_command("e2fsck", "-fn", volume["device_path"])
    coordinator.detach("data")
    expect(world.stop(guardian) == 0, "umbra-guardian did not end in order")
    for group in (ours, theirs):
        wait_until(lambda group=group: group.is_removed(), "a group is empty")
    run_command("umount", world.path("cgroup"))
    world.assert_clean()
    expect(devices() == [], f"left behind: {devices()}")


def memory_pressure(world):
    short_of_memory(world, FRONT_END)


def memory_pressure_fuse(world):
    if FRONT_END == "ublk":  # The other machine's kernel is too old.
        short_of_memory(world, "fuse")


CASES = {
    "device": device, "life": life, "words": words, "killed": killed, "given_up": given_up, "leftovers": leftovers,
    "cleaned": cleaned, "nbd_client": nbd_client, "memory_pressure": memory_pressure,
    "memory_pressure_fuse": memory_pressure_fuse, **serving.CASES,
}  # fmt: skip


def guest(world):
    for name in os.environ.get("UMBRA_DEVICE_CASES", " ".join(CASES)).split():
        begin = time.monotonic()
        inner = World(world.binaries, world.random.randrange(1, 1 << 30))
        try:
            CASES[name](inner)
        except Exception:
            for log in sorted(glob.glob(f"{inner.top}/*.log")):
                print(f"--- {log}\n" + "\n".join(read_file(log).decode(errors="replace").splitlines()[-60:]))
            print(run_command("dmesg", check=False).stdout[-3000:])
            raise
        finally:
            inner.destroy()
        print(f"{name}: {time.monotonic() - begin:.0f} s", flush=True)


# --- outside --------------------------------------------------------------------------------------


def machine(world, front_end):
    if not LONG and os.environ.get("UMBRA_KERNEL") != "1":
        raise Skip("a machine is emulated: UMBRA_LONG=1 or, for the short form, UMBRA_KERNEL=1")
    disk = world.make_image("disk", 192 << 20)
    area = world.make_image("area", 512 << 20)
    job = world.path("job")
    os.makedirs(job)
    vm = subprocess.Popen(
        [
            os.path.join(HERE, "vm"), "-k", os.environ.get("UMBRA_KERNEL_SUITE", SUITES[front_end]),
            "-d", disk, "-d", area, "-o", job, "-m", "2048", "-t", str(VM_LIMIT_S),
            "env", f"UMBRA_LONG={int(LONG)}", f"UMBRA_FRONT_END={front_end}", f"UMBRA_KILLS={KILLS}",
            f"UMBRA_VERIFY_S={serving.VERIFY_S}",
            f"UMBRA_DEVICE_CASES={os.environ.get('UMBRA_DEVICE_CASES', ' '.join(CASES))}",
            "python3", "-B", os.path.abspath(__file__), world.binaries, "guest",
            str(world.random.randrange(1, 1 << 30)),
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    world.processes.append(vm)
    last = ""
    for line in vm.stdout:  # Ends within VM_LIMIT_S, which the machine keeps itself.
        print(line, end="", flush=True)
        last = line
    status = vm.wait(60)
    if status == 77:
        raise Skip(last.strip().rpartition("skipped: ")[2])
    expect(status == 0, f"the machine's cases ended with {status}")


if __name__ == "__main__":
    sys.exit(
        harness.run({
            "ublk": lambda world: machine(world, "ublk"), "nbd": lambda world: machine(world, "nbd"), "guest": guest,
        })  # fmt: skip
    )
