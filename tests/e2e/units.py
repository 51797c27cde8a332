# SPDX-License-Identifier: Apache-2.0
"""umbra-cowd as a unit: it says when its volumes are there, names them, waits for them to be unmounted
when it is stopped; the units and udev's rules say what they should."""

import glob
import itertools
import os
import random
import re
import shutil
import signal
import socket
import sys
import threading

import harness
from coordinator import Coordinator
from cowd import attach, read_file, start, start_cowd, stop_clean, write_file
from harness import Skip, expect, mounts, require_fuse_and_loop, require_programs, run_command, wait_until

READY = "READY=1"


class ServiceManager:
    """What a unit of Type=notify talks to."""

    def __init__(self, world):
        self.path = world.path("notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(harness.DEADLINE_S)
        self.environment = dict(os.environ, NOTIFY_SOCKET=self.path)

    def close(self):
        self.socket.close()
        os.unlink(self.path)

    def next(self):
        return self.socket.recv(4096).decode().split("\n")


def cut_off(world):
    """Volumes that were in use when umbra-cowd stopped; mounts of copies are its own to end."""
    lines = world.log_text("umbra-cowd").splitlines()
    return [line for line in lines if "in use while umbra-cowd stops" in line and ": copy " not in line]


def link_of(world, name):
    return os.readlink(f"{world.run_dir}/dev/{name}")


def ready_when_attached(world):
    """READY=1 comes when every recorded volume can be mounted by its name, not before; STOPPING=1 at
    the end; a successor says nothing of the kind that would confuse."""
    require_fuse_and_loop()
    coordinator, guardian = start(world)
    for name in ("one", "two"):
        volume = attach(world, coordinator, name)
        expect(link_of(world, name) == volume["device_path"], f"{name} leads to {link_of(world, name)}")
    run_command("mkfs.ext4", "-q", link_of(world, "one"))
    expect(world.stop(guardian) == 0, "no clean stop")
    expect(os.listdir(f"{world.run_dir}/dev") == [], "names are left")
    os.unlink(world.path("two.img"))

    manager = ServiceManager(world)
    guardian = start_cowd(world, env=manager.environment)
    said = manager.next()
    expect(said[0] == READY, f"{said}")
    expect("STATUS=1 of 2 volumes attached" in said, f"{said}")
    expect(os.listdir(f"{world.run_dir}/dev") == ["one"], "another name than that of what is attached")
    directory = world.path("by-name")
    os.mkdir(directory)
    run_command("mount", f"{world.run_dir}/dev/one", directory)
    run_command("umount", directory)
    guardian.terminate()
    expect(manager.next() == ["STOPPING=1"], "it does not say that it stops")
    expect(guardian.wait(20) == 0, "no clean stop")
    world.assert_clean()


def stop_waits_for_unmounting(world):
    """At a shutdown file systems are unmounted while umbra-cowd is asked to stop: it serves until then."""
    require_fuse_and_loop()
    coordinator, guardian = start(world, "--stop-patience", "60")
    volume = attach(world, coordinator, "data")
    directory = world.mkfs_and_mount(volume["device_path"], "data")
    (snapshot,) = coordinator.snapshot("data")
    coordinator.mount(snapshot["snapshot_id"])  # Ours: it unmounts that by itself.
    guardian.terminate()
    wait_until(lambda: "waiting for volumes to be unmounted" in world.log_text("umbra-cowd"), "it waits")
    write_file(f"{directory}/late", b"late" * 1000)
    run_command("umount", directory)
    expect(guardian.wait(30) == 0, "no clean stop")
    expect(cut_off(world) == [], f"cut off: {cut_off(world)}")
    world.assert_clean()
    coordinator.close()

    coordinator, guardian = start(world)
    run_command("mount", link_of(world, "data"), directory)
    expect(read_file(f"{directory}/late") == b"late" * 1000, "the last write is gone")
    run_command("umount", directory)
    coordinator.detach("data")
    stop_clean(world, guardian)


def patience_ends(world):
    """Whoever does not unmount is cut off after --stop-patience, as without it."""
    require_fuse_and_loop()
    coordinator, guardian = start(world, "--stop-patience", "1")
    volume = attach(world, coordinator, "data")
    directory = world.mkfs_and_mount(volume["device_path"], "data")
    write_file(f"{directory}/file", b"one")
    expect(world.stop(guardian) == 0, "no clean stop")
    expect(cut_off(world) != [], "nobody is named")
    run_command("umount", directory, check=False)
    wait_until(lambda: directory not in [d for _, d in mounts()], "the dead mount goes")
    world.assert_clean()


def spared_by_the_last_kill(world):
    """Started as the unit does, guardian and umbra-cowd have names that the last kill spares, in every
    life."""
    require_fuse_and_loop()
    world.start(
        "bash", "-c", 'exec -a @umbra-cowd "$@"', "bash", world.binary("umbra-cowd"),
        "--run-dir", world.run_dir, "--state-dir", world.state_dir, name="umbra-cowd",
    )  # fmt: skip

    def names():
        words = [harness.command_line(pid) for pid in world.pids()]
        return sorted(os.path.basename(word[0]) for word in words if word and word[0].startswith("@"))

    both = ["umbra-cowd", "umbra-guardian"]
    wait_until(lambda: names() == both, "both are there")
    for pid in world.pids():
        if os.path.basename(harness.command_line(pid)[0]) == "umbra-cowd":
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: world.log_text("umbra-cowd").count("started umbra-cowd") == 2, "a successor")
    wait_until(lambda: names() == both, "both are there again")


def needs_recovery(device):
    features = run_command("dumpe2fs", "-h", device).stdout
    return "needs_recovery" in features


class Load:
    """Writes files and syncs each, until it is told to end or cannot go on; `acknowledged` is what
    it has synced."""

    def __init__(self, directory, random):
        self.directory = directory
        self.random = random
        self.acknowledged = {}
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        for number in itertools.count():
            if self.ending.is_set():
                return
            name = f"{number % 50}"
            content = self.random.randbytes(self.random.randrange(1, 200_000))
            self.acknowledged.pop(name, None)
            try:
                write_file(f"{self.directory}/{name}", content)
            except OSError:
                return
            self.acknowledged[name] = content

    def end(self):
        self.ending.set()
        self.thread.join(harness.DEADLINE_S)
        expect(not self.thread.is_alive(), "a write hangs")


def reboots_under_load(world):
    """Boot and shutdown in systemd's order, played by hand: umbra-cowd is ready, what is in fstab is
    mounted by name, load; then services end, that is unmounted, umbra-cowd is stopped while somebody's own
    mount is still being unmounted; the run directory is gone with the memory. Every file system was
    unmounted in order, and everything that was synced, and every copy, is there at the next boot."""
    require_fuse_and_loop()
    require_programs("dumpe2fs")
    names = ("fstab", "by-hand")
    coordinator, guardian = start(world)
    for name in names:
        run_command("mkfs.ext4", "-q", attach(world, coordinator, name)["device_path"])
    expect(world.stop(guardian) == 0, "no clean stop")
    coordinator.close()
    synced = {name: {} for name in names}
    copies = {}
    for _ in range(4):
        shutil.rmtree(world.run_dir)
        manager = ServiceManager(world)
        os.makedirs(world.run_dir, mode=0o755)
        coordinator = Coordinator(world.socket())
        guardian = start_cowd(world, "--stop-patience", "60", env=manager.environment)
        expect(manager.next() == [READY, "STATUS=2 of 2 volumes attached"], "not all is attached")
        loads = {}
        for name in names:
            device = f"{world.run_dir}/dev/{name}"
            expect(not needs_recovery(device), f"{name} was not unmounted in order")
            directory = world.path(f"mnt-{name}")
            os.makedirs(directory, exist_ok=True)
            run_command("mount", device, directory)
            for file, content in synced[name].items():
                expect(read_file(f"{directory}/{file}") == content, f"{file} of {name} is not what was synced")
            loads[name] = Load(directory, random.Random(world.random.random()))
        coordinator.wait_for_provider()
        for copy, content in copies.items():
            path = coordinator.mount(copy)["path"]
            expect(read_file(f"{path}/mark") == content, "a copy shows something else")
            coordinator.unmount(copy)
        mark = os.urandom(1000)
        write_file(f"{world.path('mnt-fstab')}/mark", mark)
        (snapshot,) = coordinator.snapshot("fstab")
        copies[snapshot["snapshot_id"]] = mark
        coordinator.mount(snapshot["snapshot_id"])  # Nobody unmounts it: umbra-cowd does.
        wait_until(lambda: all(len(load.acknowledged) > 10 for load in loads.values()), "the load is under way")

        loads["fstab"].end()
        run_command("umount", world.path("mnt-fstab"))
        guardian.terminate()
        expect(manager.next() == ["STOPPING=1"], "it does not say that it stops")
        wait_until(lambda: "waiting for volumes" in world.log_text("umbra-cowd"), "it waits")
        loads["by-hand"].end()
        run_command("umount", world.path("mnt-by-hand"))
        expect(guardian.wait(60) == 0, "no clean stop")
        for name, load in loads.items():
            synced[name] = load.acknowledged
        expect(cut_off(world) == [], f"cut off: {cut_off(world)}")
        world.assert_clean()
        coordinator.close()
        manager.close()
        os.unlink(world.path("umbra-cowd.log"))


def what_udev_is_told(world):
    """The role of devices, from the state directory alone and without umbra-cowd."""
    require_fuse_and_loop()
    coordinator, guardian = start(world)
    disk = run_command("losetup", "-f", "--show", world.make_image("disk", 64 << 20)).stdout.strip()
    world.at_end(lambda: run_command("losetup", "-d", disk, check=False))
    volume = coordinator.attach(disk, world.path("data.diff"), "data")
    run_command("mkfs.ext4", "-q", volume["device_path"])
    (snapshot,) = coordinator.snapshot("data")
    mounted = coordinator.mount(snapshot["snapshot_id"])

    def role(*arguments):
        done = run_command(
            world.binary("umbra-udev"), "--run-dir", world.run_dir, "--state-dir", world.state_dir, *arguments
        )
        return done.stdout.split()

    expect(role(volume["device_path"]) == ["UMBRA_ROLE=live", "UMBRA_VOLUME=data"], role(volume["device_path"]))
    expect(role(mounted["device_path"]) == ["UMBRA_ROLE=copy"], role(mounted["device_path"]))
    coordinator.unmount(snapshot["snapshot_id"])
    expect(world.stop(guardian) == 0, "no clean stop")
    expect(role(disk) == ["UMBRA_ROLE=origin", "UMBRA_VOLUME=data"], role(disk))
    expect(role("/dev/other", disk.removeprefix("/dev/")) == role(disk), "another name of it is not seen")
    expect(role("/dev/other") == [], role("/dev/other"))
    run_command("losetup", "-d", disk)
    world.assert_clean()


def built(world, name):
    found = glob.glob(os.path.join(os.path.dirname(world.binaries), "system", name))
    expect(found, f"{name} is not built")
    return sorted(found)


def units_verify(world):
    require_programs("systemd-analyze")
    directory = world.path("units")
    os.mkdir(directory)
    # systemd-analyze wants the programs to be there: those that were built.
    for path in built(world, "*.service"):
        with open(path, encoding="utf-8") as unit:
            text = re.sub(r"(ExecStart=@?)\S*/(umbra[\w-]*)", rf"\1{world.binaries}/\2", unit.read())
        with open(os.path.join(directory, os.path.basename(path)), "w", encoding="utf-8") as copy:
            copy.write(text)
    # A volume's line of /etc/fstab, as the generator turns it into a unit.
    fstab = world.path("fstab")
    with open(fstab, "w", encoding="utf-8") as lines:
        lines.write("/run/umbra/dev/db /srv/db ext4 x-systemd.requires=umbra-cowd.service 0 0\n")
    generator = "/lib/systemd/system-generators/systemd-fstab-generator"
    if not os.path.exists(generator):
        raise Skip(f"needs {generator}")
    environment = dict(os.environ, SYSTEMD_FSTAB=fstab)
    made = world.path("made")
    os.mkdir(made)
    run_command(generator, made, made, made, env=environment)
    with open(f"{made}/srv-db.mount", encoding="utf-8") as mount:
        text = mount.read()
    expect("After=umbra-cowd.service" in text and "Requires=umbra-cowd.service" in text, text)
    # As enabled, so that a circle of orders at boot is seen.
    os.mkdir(f"{directory}/local-fs.target.wants")
    os.symlink("../umbra-cowd.service", f"{directory}/local-fs.target.wants/umbra-cowd.service")
    environment = dict(os.environ, SYSTEMD_UNIT_PATH=f"{directory}:{made}:/lib/systemd/system")
    done = run_command(
        "systemd-analyze", "verify", "--man=no", f"{directory}/umbra-cowd.service",
        f"{directory}/umbrad.service", f"{made}/srv-db.mount", "/lib/systemd/system/local-fs.target",
        "/lib/systemd/system/umount.target", env=environment, check=False,
    )  # fmt: skip
    words = ("umbra", "srv-db", "cycle")
    lines = (done.stdout + done.stderr).splitlines()
    complaints = [line for line in lines if any(word in line for word in words)]
    expect(done.returncode == 0 and complaints == [], f"{done.returncode}: {done.stdout}{done.stderr}")


RULE = re.compile(
    r'(?:ACTION|SUBSYSTEM|KERNEL|TEST|ENV\{\w+\}|ATTR\{[\w/]+\}|IMPORT\{program\}|SYMLINK|OPTIONS|GOTO|LABEL)'
    r'(?:==|!=|\+=|=)"[^"]*"'
)


def rules_verify(world):
    """udev's own check where there is one; else that every rule has the form of one, and every GOTO a
    LABEL below it."""
    for path in built(world, "*.rules"):
        with open(path, encoding="utf-8") as lines:
            rules = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        for number, rule in enumerate(rules):
            for part in re.split(r", (?=[A-Z])", rule):
                expect(RULE.fullmatch(part), f"{path}: {part}")
            for label in re.findall(r'GOTO="(\w+)"', rule):
                expect(f'LABEL="{label}"' in rules[number:], f"{path}: {label} is not below {rule}")
        if shutil.which("udevadm"):
            done = run_command("udevadm", "verify", path, check=False)
            expect(done.returncode == 0 or "Unknown command" in done.stderr, done.stdout + done.stderr)


CASES = {
    case.__name__: case
    for case in (
        ready_when_attached,
        stop_waits_for_unmounting,
        patience_ends,
        spared_by_the_last_kill,
        reboots_under_load,
        what_udev_is_told,
        units_verify,
        rules_verify,
    )
}

if __name__ == "__main__":
    sys.exit(harness.run(CASES))
