# SPDX-License-Identifier: Apache-2.0
"""Volumes as ublk devices, in a machine whose kernel has ublk (tests/kernel/vm, Debian's 6.12).

Case `machine` starts one and runs the other cases in it, one after the other, each in a World of its
own; umbrad is played by the case. Emulated, so only UMBRA_LONG=1 runs it; a short form of two or
three minutes runs with UMBRA_KERNEL=1. Its first step is the unit tests of the device, which skip
elsewhere.

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
from harness import LONG, Failure, Skip, World, expect, run_command, wait_until  # noqa: E402

SUITE = "bookworm-backports"
KILLS = 30 if LONG else 4
DELAY_MS = 20
VM_LIMIT_S = 3000 if LONG else 600
GIVE_UP_LIMIT_S = 60  # Five failures in a row, and 5 s for what the kernel has to end.
IN_USE = "0x8004231d"


def ublk_devices():
    return sorted(glob.glob("/dev/ublk[bc]*"))


def finish(world, guardian):
    stop_clean(world, guardian)
    expect(ublk_devices() == [], f"left behind: {ublk_devices()}")


def setting(device, name):
    with open(f"/sys/block/{os.path.basename(device)}/{name}", encoding="ascii") as file:
        return file.read().strip()


class Load:
    """Writes and verifies a file, again and again, until it is stopped."""

    def __init__(self, world, directory):
        self.stop_file = world.path("stop")
        self.output = world.path("load.txt")
        fio = (
            f"fio --name=load --directory={directory} --size=16m --rw=randwrite --bs=4k-64k --ioengine=libaio"
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


# --- inside of the machine ------------------------------------------------------------------------


def device(world):
    """The device by itself, without the daemons."""
    program = os.path.join(world.binaries, "..", "tests", "ublk_test")
    run_command(program, limit_s=300)


def life(world):
    """From attach to detach: the choice, all kinds of requests, a copy, and nothing left."""
    coordinator, guardian = start(world)
    volume = attach(world, coordinator, "data", 64)
    path = volume["device_path"]
    expect(volume["front_end"] == "ublk" and path.startswith("/dev/ublkb"), f"{volume}")
    expect("survives a restart" in volume["front_end_why"], f"{volume}")
    expect(setting(path, "queue/fua") == "1", "no FUA")
    expect(setting(path, "queue/write_cache") == "write back", "no flushes")
    expect(int(setting(path, "queue/write_zeroes_max_bytes")) > 0, "no write-zeroes")
    expect(int(setting(path, "queue/discard_max_bytes")) > 0, "no discard")
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
    mounted = coordinator.mount(snapshot["snapshot_id"])
    expect(digest_of(mounted["path"]) == kept, "the copy shows something else")
    expect(setting(mounted["device_path"], "ro") == "1", "the copy's device can be written")
    refused(IN_USE, coordinator.detach, "data")
    coordinator.unmount(snapshot["snapshot_id"])
    run_command("umount", directory)
    run_command("e2fsck", "-fn", path)
    with open(path, "rb"):
        refused(IN_USE, coordinator.detach, "data")
    coordinator.delete(snapshot["snapshot_id"])
    coordinator.detach("data")
    expect(ublk_devices() == [], f"left behind: {ublk_devices()}")
    run_command("mount", "-o", "loop", world.path("data.img"), directory)
    expect(digest_of(directory) == live, "the origin by itself shows something else")
    run_command("umount", directory)
    finish(world, guardian)


def words(world):
    """What may be asked for; two devices and one of another front end side by side."""
    coordinator, guardian = start(world)
    ublk = attach(world, coordinator, "one", 16, expose="ublk")
    fuse = attach(world, coordinator, "two", 16, expose="fuse")
    none = attach(world, coordinator, "three", 16, expose="none")
    expect(ublk["device_path"].startswith("/dev/ublkb") and "as asked for" in ublk["front_end_why"], f"{ublk}")
    expect(fuse["device_path"].startswith("/dev/loop") and fuse["front_end"] == "fuse", f"{fuse}")
    expect(none["device_path"] == "" and none["front_end"] == "none", f"{none}")
    try:
        attach(world, coordinator, "four", 16, expose="nbd")
        raise Failure("nbd is not refused")
    except Refused as error:
        expect("ublk" in error.context and "none" in error.context, error.context)
    for volume in (ublk, fuse):
        write_file(volume["device_path"], b"x" * 65536)
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
    expect(volume["front_end"] == "ublk", f"{volume}")
    quiet = attach(world, coordinator, "quiet", 16)
    directory = world.mkfs_and_mount(volume["device_path"], "data")
    write_file(f"{directory}/kept", os.urandom(2 << 20))
    kept = digest_of(directory)
    (snapshot,) = coordinator.snapshot("data")
    mounted = coordinator.mount(snapshot["snapshot_id"])["path"]
    load = Load(world, directory)
    pauses = []
    for _ in range(KILLS):
        kill_cowd(world)
        begin = time.monotonic()
        write_file(f"{directory}/probe", os.urandom(4096))
        pauses.append(time.monotonic() - begin)
        coordinator.wait_for_provider()
        load.expect_going_on()
    expect(digest_of(mounted) == kept, "the copy changed")

    before = os.stat(f"{programs}/umbra-cowd").st_ino
    run_command("cp", f"{programs}/umbra-cowd", f"{programs}/new")
    os.rename(f"{programs}/new", f"{programs}/umbra-cowd")
    os.kill(world.guardian_pid(), signal.SIGUSR1)
    wait_until(lambda: is_new(world, before), "the new binary runs")
    write_file(f"{directory}/probe", os.urandom(4096))
    coordinator.wait_for_provider()
    load.expect_going_on()
    expect("a new umbra-cowd was asked for" in world.log_text("umbra-cowd"), "the guardian does not say so")

    load.stop()
    after = coordinator.volumes()
    expect(after["data"]["device_path"] == volume["device_path"], f"{after}")
    expect(after["quiet"]["device_path"] == quiet["device_path"], f"{after}")
    expect(digest_of(mounted) == kept, "the copy changed")
    coordinator.unmount(snapshot["snapshot_id"])
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
    print(f"{KILLS} kills; a small synced write after each took {min(pauses):.1f} to {max(pauses):.1f} s")


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
    wait_until(lambda: ublk_devices() == [], "the device goes", GIVE_UP_LIMIT_S)
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
    expect("mounted from a device that has died" in world.log_text("umbra-cowd"), "the dead mount is not named")
    run_command("umount", directory, check=False)
    again = coordinator.volumes()["data"]
    expect(again["state"] == "ok" and again["front_end"] == "ublk", f"{again}")
    run_command("mount", again["device_path"], directory)
    expect(read_file(f"{directory}/file") == b"one" * 1000, "a synced write is gone")
    run_command("umount", directory)
    coordinator.detach("data")
    write_file(foreign["device_path"], b"x" * 4096)
    others.detach("foreign")
    stop_clean(stranger, other_guardian)
    stop_clean(world, guardian)
    # What somebody had mounted has no block device any more; its number goes with the mount.
    wait_until(lambda: ublk_devices() == [], "nothing is left", 20)


CASES = {
    "device": device, "life": life, "words": words, "killed": killed, "given_up": given_up, "leftovers": leftovers,
}  # fmt: skip


def guest(world):
    for name in os.environ.get("UMBRA_UBLK_CASES", " ".join(CASES)).split():
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


def machine(world):
    if not LONG and os.environ.get("UMBRA_KERNEL") != "1":
        raise Skip("a machine is emulated: UMBRA_LONG=1 or, for the short form, UMBRA_KERNEL=1")
    disk = world.make_image("disk", 64 << 20)
    job = world.path("job")
    os.makedirs(job)
    done = subprocess.run(
        [
            os.path.join(HERE, "vm"), "-k", SUITE, "-d", disk, "-o", job, "-m", "2048", "-t", str(VM_LIMIT_S),
            "env", f"UMBRA_LONG={int(LONG)}", f"UMBRA_UBLK_CASES={os.environ.get('UMBRA_UBLK_CASES', ' '.join(CASES))}",
            "python3", "-B", os.path.abspath(__file__), world.binaries, "guest",
            str(world.random.randrange(1, 1 << 30)),
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=VM_LIMIT_S + 120,
    )  # fmt: skip
    print(done.stdout)
    if done.returncode == 77:
        raise Skip(done.stdout.strip().rpartition("skipped: ")[2])
    expect(done.returncode == 0, f"the machine's cases ended with {done.returncode}")


if __name__ == "__main__":
    sys.exit(harness.run({"machine": machine, "guest": guest}))
