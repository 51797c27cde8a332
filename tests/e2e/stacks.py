# SPDX-License-Identifier: Apache-2.0
"""Volumes on volumes: the origin and the diff area of `guest` are files in the file system on `host`.

What must hold: sets with both, with the host alone and with the guest alone are made under load;
their copies are of one instant, to the byte; nothing hangs, whoever is killed.
"""

import contextlib
import hashlib
import os
import re
import signal
import sys
import threading
import time

import harness
from coordinator import CONTEXT_BACKUP, Refused
from cowd import IN_USE, kill_cowd, kill_everything, read_file, refused, start, start_cowd, stop_clean, write_file
from harness import (
    LONG, expect, is_frozen, listens, loop_devices, mounts, require_fuse_and_loop, require_programs, run_command,
    wait_until,
)  # fmt: skip
from load import Stamp, hold_of

DRILL_MS = 2500
FROZEN_S_MAX = 20  # Lease, flush and restart.
KILLS = 4  # A fifth within a minute would be given up as hopeless.
GUEST_MIB = 96


def digest(path):
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


class Tower:
    """Volumes on top of each other, all mounted, each from files on the one below."""

    # whole: copies keep free blocks as well, so that images can be compared to the byte.
    def __init__(self, world, names, *arguments, whole=False):
        require_fuse_and_loop()
        self.world = world
        self.coordinator, self.guardian = start(world, *arguments)
        self.names = names  # Host first.
        self.directories = {}
        self.volumes = {}
        folder = world.top
        for level, name in enumerate(names):
            origin = os.path.join(folder, f"{name}.img")
            with open(origin, "wb") as image:
                # Dense enough below, so that nobody runs out of space.
                image.truncate((GUEST_MIB << 20) * 5 ** (max(len(names), 2) - 1 - level))
            self.volumes[name] = self.coordinator.attach(
                origin, os.path.join(folder, f"{name}.diff"), name, copy_free_blocks=whole
            )
            self.directories[name] = world.mkfs_and_mount(self.volumes[name]["device_path"], name)
            folder = self.directories[name]
        self.loads = []

    def attach_again(self, name):
        volume = self.volumes[name]
        return self.coordinator.attach(volume["origin_path"], volume["diff_area_path"], name)

    def take_down(self):
        volumes = self.coordinator.volumes()  # Who was attached again may have another device.
        for name in reversed(self.names):
            run_command("umount", self.directories[name])
            run_command("e2fsck", "-fn", volumes[name]["device_path"])
            for snapshot in self.coordinator.snapshots():
                if snapshot["original_volume"] == name:
                    self.coordinator.delete(snapshot["snapshot_id"])
            self.coordinator.detach(name)
        stop_clean(self.world, self.guardian)

    @contextlib.contextmanager
    def load(self, *names):
        """Writers of their own process, which a volume that hangs cannot take along."""
        world = self.world
        seed = world.random.randrange(1 << 30)
        loads = [
            world.start(sys.executable, "-B", __file__, "--load", self.directories[name], seed, name=f"load-{name}")
            for name in names
        ]
        for name in names:
            wait_until(lambda: os.path.exists(f"{self.directories[name]}/load"), f"the load on {name} runs")
        yield loads
        for process in loads:
            expect(process.poll() is None, f"a load ended: {process.args}")
            process.kill()
        for process in loads:
            process.wait(FROZEN_S_MAX)

    @contextlib.contextmanager
    def counting(self):
        """A number that is written to every volume, one after the other, durably: whatever the first
        has, each of the next has it or the one before."""
        stop = threading.Event()
        failed = []

        def count():
            try:
                number = 0
                while not stop.is_set():
                    number += 1
                    for name in self.names:
                        directory = self.directories[name]
                        write_file(f"{directory}/next", b"%d" % number)
                        os.replace(f"{directory}/next", f"{directory}/number")
            except OSError as error:
                failed.append(error)

        writer = threading.Thread(target=count, daemon=True)
        writer.start()
        last = self.directories[self.names[-1]]
        wait_until(lambda: os.path.exists(f"{last}/number"), "the counter counts")
        yield
        stop.set()
        writer.join(FROZEN_S_MAX)
        expect(not writer.is_alive(), "the counter hangs")
        expect(not failed, f"a write failed: {failed}")

    def check(self, snapshots):
        """Each copy is a clean file system, and they are of one instant."""
        numbers = {}
        for snapshot in snapshots:
            run_command("e2fsck", "-fn", snapshot["device_object"])
            mounted = self.coordinator.mount(snapshot["snapshot_id"])["path"]
            with contextlib.suppress(FileNotFoundError):
                numbers[snapshot["original_volume"]] = int(read_file(f"{mounted}/number"))
            self.coordinator.unmount(snapshot["snapshot_id"])
        in_order = [numbers[name] for name in self.names if name in numbers]
        for earlier, later in zip(in_order, in_order[1:]):
            expect(earlier - later in (0, 1), f"the copies are of several instants: {numbers}")
        expect(not in_order or in_order[0] - in_order[-1] in (0, 1), f"of several instants: {numbers}")

    def held_ms(self, set_id):
        pattern = re.compile(r"writes were held set=%s begin_ns=(\d+) end_ns=(\d+)" % set_id)
        match = wait_until(lambda: pattern.search(self.world.log_text("umbra-cowd")), "the hold is logged")
        return (int(match[2]) - int(match[1])) / 1e6


def by_volume(snapshots):
    return {snapshot["original_volume"]: snapshot for snapshot in snapshots}


def run_load(directory, seed):
    """Random overwrites in one file, synced now and then. Its first error ends it."""
    random = harness.random.Random(seed)
    size = 8 << 20
    with open(f"{directory}/load", "wb", buffering=0) as file:
        file.truncate(size)
        while True:
            for _ in range(20):
                file.seek(random.randrange(size // 4096) * 4096)
                file.write(random.randbytes(4096 * random.randrange(1, 9)))
            os.fsync(file.fileno())


# --- cases -----------------------------------------------------------------------------------------


def sets_of_both_are_of_one_instant(world):
    """Under load on both; the copy of the host contains the guest's origin as the guest's own copy
    of the set shows it, to the byte, and the guest's older copies in its diff area."""
    tower = Tower(world, ["host", "guest"], whole=True)
    coordinator = tower.coordinator
    kept = []
    with tower.load("host", "guest"):
        with tower.counting():
            for round_ in range(4):
                names = ["host", "guest"] if round_ % 2 == 0 else ["guest", "host"]
                snapshots = coordinator.snapshot(*names)
                tower.check(snapshots)
                print(f"held for {tower.held_ms(snapshots[0]['set_id']):.1f} ms")
                kept.append(by_volume(snapshots))
    first, last = kept[0], kept[-1]
    first_digest = digest(first["guest"]["device_object"])
    mounted = coordinator.mount(last["host"]["snapshot_id"])["path"]
    expect(
        digest(f"{mounted}/guest.img") == digest(last["guest"]["device_object"]),
        "the host's copy shows the guest at another instant than the guest's own copy",
    )
    # The copied-out pair is a volume as after a crash: its older copies are there, its newest, which
    # was not recorded yet, is not.
    inner = world.path("inner")
    os.mkdir(inner)
    for name in ("guest.img", "guest.diff"):
        run_command("cp", "--sparse=always", f"{mounted}/{name}", f"{inner}/{name}")
    coordinator.unmount(last["host"]["snapshot_id"])
    for snapshots in kept:
        for snapshot in snapshots.values():
            coordinator.delete(snapshot["snapshot_id"])
    tower.take_down()

    coordinator.close()
    world.run_dir, world.state_dir = world.path("run2"), world.path("state2")
    coordinator, guardian = start(world)
    try:
        coordinator.attach(f"{inner}/guest.img", f"{inner}/guest.diff", "guest")
        expect(False, "the origin is another file, and nobody has said that it is a faithful copy")
    except Refused as refusal:
        expect("--origin-moved" in str(refusal), str(refusal))
    volume = coordinator.attach(
        f"{inner}/guest.img", f"{inner}/guest.diff", "guest", origin_moved=True
    )
    recovered = {s["snapshot_id"]: s for s in coordinator.snapshots()}
    # Sets whose other members are nowhere are not shown as whole; the copies are there all the same.
    ids = {snapshots["guest"]["snapshot_id"] for snapshots in kept[:-1]}
    expect(set(recovered) == ids, f"recovered {sorted(recovered)}, expected {sorted(ids)}")
    again = recovered[first["guest"]["snapshot_id"]]
    expect(not again["lost"], f"lost: {again}")
    expect(digest(again["device_object"]) == first_digest, "a recovered copy shows something else")
    run_command("e2fsck", "-fn", volume["device_path"])
    coordinator.detach("guest")
    stop_clean(world, guardian)


def three_levels(world):
    """A set of all three, of the two outer ones (across the one between), of each alone."""
    tower = Tower(world, ["host", "middle", "guest"])
    with tower.load(*tower.names):
        with tower.counting():
            for names in (["middle", "guest", "host"], ["host", "guest"], ["middle"], ["guest"], ["host"]):
                snapshots = tower.coordinator.snapshot(*names)
                expect(len(snapshots) == len(names), f"{snapshots}")
                tower.check(snapshots)
                print(f"{'+'.join(names)}: held for {tower.held_ms(snapshots[0]['set_id']):.1f} ms")
                for snapshot in snapshots:
                    tower.coordinator.delete(snapshot["snapshot_id"])
    tower.take_down()


def host_alone_under_load_of_its_guest(world):
    """The guest is not in the set: its writes wait for the time of the hold, and no error comes."""
    tower = Tower(world, ["host", "guest"], "--drill-hold-ms", "300")
    with tower.load("host", "guest"):
        for context in (0x09, CONTEXT_BACKUP, 0x09):
            (snapshot,) = tower.coordinator.snapshot("host", context=context)
            held = tower.held_ms(snapshot["set_id"])
            print(f"held for {held:.1f} ms")
            expect(300 <= held < 10000, f"held for {held} ms")
            tower.check([snapshot])
        # And a persistent copy of the guest, whose copies of old data are flushed to the host.
        (snapshot,) = tower.coordinator.snapshot("guest")
        (other,) = tower.coordinator.snapshot("host")
        tower.check([snapshot])
        tower.check([other])
    tower.take_down()


def killed_under_load(world):
    """kill -9 again and again: a thread of the dying process waits for the host, which only the
    successor serves."""
    tower = Tower(world, ["host", "guest"])
    coordinator = tower.coordinator
    stuck = "cannot end before its successor serves"
    with tower.load("host", "guest"):
        copies = {s["snapshot_id"]: digest(s["device_object"]) for s in coordinator.snapshot("guest", "host")}
        for round_ in range(KILLS):
            at = time.monotonic() + world.random.uniform(0.2, 1.5)
            wait_until(lambda: time.monotonic() >= at, "the moment of the kill")
            begin = time.monotonic()
            kill_cowd(world)
            wait_until(lambda: coordinator.registrations == round_ + 2, "umbra-cowd registers again")
            print(f"back after {time.monotonic() - begin:.2f} s")
            states = {v["name"]: v["state"] for v in coordinator.volumes().values()}
            expect(states == {"host": "ok", "guest": "ok"}, f"{states}")
        for snapshot in coordinator.snapshots():
            expect(not snapshot["lost"], f"lost: {snapshot}")
            expect(digest(snapshot["device_object"]) == copies.pop(snapshot["snapshot_id"]), f"changed: {snapshot}")
        expect(not copies, f"gone: {copies}")
        tower.check(coordinator.snapshot("host", "guest"))
    print(f"{world.log_text('umbra-cowd').count(stuck)} of {KILLS} could not end before their successor served")
    tower.take_down()


def unit_killed_under_load(world):
    """Guardian and umbra-cowd at once: the devices are dead, but nothing waits for them for ever. The
    next start serves the host, and names what is missing; by hand the guest comes back, with its copy."""
    tower = Tower(world, ["host", "guest"])
    coordinator = tower.coordinator
    copies = {s["snapshot_id"]: digest(s["device_object"]) for s in coordinator.snapshot("guest", "host")}
    write_file(f"{tower.directories['guest']}/file", b"synced")
    with contextlib.suppress(harness.Failure):  # The loads end.
        with tower.load("host", "guest"):
            at = time.monotonic() + world.random.uniform(0.5, 2)
            wait_until(lambda: time.monotonic() >= at, "the moment of the kill")
            kill_everything(world, tower.guardian)
    tower.guardian = start_cowd(world)
    wait_until(lambda: coordinator.registrations == 2, "umbra-cowd registers again", 100)
    volumes = coordinator.volumes()
    expect(volumes["host"]["state"] == "ok", f"{volumes}")
    expect("not attached" in volumes["guest"]["state"], f"{volumes}")
    for name in reversed(tower.names):
        run_command("umount", tower.directories[name], check=False)
    wait_until(lambda: not any(d in tower.directories.values() for _, d in mounts()), "the dead mounts go")
    run_command("mount", volumes["host"]["device_path"], tower.directories["host"])
    run_command("mount", tower.attach_again("guest")["device_path"], tower.directories["guest"])
    expect(read_file(f"{tower.directories['guest']}/file") == b"synced", "a synced write is gone")
    for snapshot in coordinator.snapshots():
        expect(not snapshot["lost"], f"lost: {snapshot}")
        expect(digest(snapshot["device_object"]) == copies.pop(snapshot["snapshot_id"]), f"changed: {snapshot}")
    expect(not copies, f"gone: {copies}")
    tower.check(coordinator.snapshot("host", "guest"))
    tower.take_down()


def hit_in_the_hold(tower, names, hit):
    """A set of `names` is hit while its file systems are frozen; a write to each volume goes through
    in time, and nothing is left of the set."""
    world, coordinator = tower.world, tower.coordinator
    records = os.path.join(world.run_dir, "frozen")

    def create():
        with contextlib.suppress(harness.Failure, Refused):
            coordinator.snapshot(*names)

    creation = threading.Thread(target=create, daemon=True)
    creation.start()
    wait_until(lambda: os.path.isdir(records) and len(os.listdir(records)) == len(names), "all are being frozen")
    wait_until(lambda: is_frozen(tower.directories["host"]), "the host is frozen", 5)
    begin = time.monotonic()
    hit()
    for name in tower.names:
        writer = world.start(
            "dd", "if=/dev/zero", f"of={tower.directories[name]}/probe", "bs=4k", "count=1", "conv=fsync",
            name=f"probe-{name}",
        )  # fmt: skip
        expect(writer.wait(FROZEN_S_MAX) == 0, f"a write to {name} failed")
    took = time.monotonic() - begin
    print(f"{'+'.join(names)}: thawed {took:.2f} s after the hit")
    expect(took < FROZEN_S_MAX, "frozen for too long")
    creation.join(harness.DEADLINE_S)
    wait_until(lambda: coordinator.snapshots() == [], "the set is gone")
    wait_until(lambda: os.listdir(records) == [], "no record of a freeze is left")


def killed_in_the_hold(world):
    """kill -9 while both are frozen, and while the host is and the guest's writes wait."""
    tower = Tower(world, ["host", "guest"], "--drill-hold-ms", str(DRILL_MS))
    with tower.load("host", "guest"):
        for round_, names in enumerate((["host", "guest"], ["host"])):

            def hit():
                kill_cowd(world)
                wait_until(lambda: tower.coordinator.registrations == round_ + 2, "umbra-cowd registers again")

            hit_in_the_hold(tower, names, hit)
        tower.check(tower.coordinator.snapshot("host", "guest"))
    tower.take_down()


def stopped_in_the_hold(world):
    """umbra-cowd stands still with both frozen: the leases end, the guardian lets it go on."""
    tower = Tower(world, ["host", "guest"], "--drill-hold-ms", str(DRILL_MS))
    with tower.load("host", "guest"):
        for names in (["host", "guest"], ["host"]) if LONG else (["host", "guest"],):
            hit_in_the_hold(tower, names, lambda: os.kill(world.cowd_pid(), signal.SIGSTOP))
        tower.check(tower.coordinator.snapshot("host", "guest"))
    expect(tower.coordinator.registrations == 1, "umbra-cowd was replaced")
    tower.take_down()


def stamped_guest(world):
    """The guest is written over NBD, which nothing freezes: every sector of its copies is of the time
    of the hold, and so is the guest's image within the host's copy."""
    require_programs("nbdkit")
    tower = Tower(world, ["host"])
    coordinator = tower.coordinator
    host = tower.directories["host"]
    origin = world.make_image("mnt/host/raw.img", 32 << 20)
    # A host that we serve is not asked what it can spare: without a maximum the fast writer of a busy
    # machine would make room for 10 s of its rate, and the sparse origin beside it found none.
    raw = coordinator.attach(origin, f"{host}/raw.diff", "raw", expose="none", diff_maximum_bytes=str(256 << 20))
    load = Stamp(world, raw["nbd_uri"], "--seed", str(world.random.randrange(1, 1 << 30)))
    with tower.load("host"):
        for names in (["host", "raw"], ["host"], ["raw", "host"], ["raw"]):
            snapshots = by_volume(coordinator.snapshot(*names))
            shown = [snapshots["raw"]["nbd_uri"]] if "raw" in snapshots else []
            if "host" in snapshots:
                tower.check([snapshots["host"]])
                # As it lies in the host's copy: served from there by nbdkit.
                mounted = coordinator.mount(snapshots["host"]["snapshot_id"])["path"]
                socket = world.path("inner.sock")
                server = world.start("nbdkit", "-f", "-r", "-U", socket, "file", f"{mounted}/raw.img")
                wait_until(lambda: listens(socket), "nbdkit listens")
                shown.append(f"nbd+unix:///?socket={socket}")
            begin, end = hold_of(world, next(iter(snapshots.values())))
            for number, uri in enumerate(shown):
                verdict = load.ask(f"verify {'+'.join(names)}-{number} {uri} {begin} {end}")
                expect(verdict["wrong"] == 0, f"wrong: {verdict}")
                expect(verdict["sectors"] == 32 << 11, f"not every sector was seen: {verdict}")
            if "host" in snapshots:
                world.stop(server)
                os.unlink(socket)
                coordinator.unmount(snapshots["host"]["snapshot_id"])
    print(f"{load.ask('count')['completed']} requests")
    load.stop()
    for snapshot in coordinator.snapshots():
        coordinator.delete(snapshot["snapshot_id"])
    coordinator.detach("raw")
    tower.take_down()


def through_loop_devices(world):
    """Origin and diff area are block devices, loop devices over files on the host."""
    tower = Tower(world, ["host"])
    coordinator = tower.coordinator
    host = tower.directories["host"]
    devices = []
    for name in ("origin", "diff"):
        image = world.make_image(f"mnt/host/{name}.img", 64 << 20)
        devices.append(run_command("losetup", "-f", "--show", image).stdout.strip())
    tower.volumes["guest"] = coordinator.attach(*devices, "guest", copy_free_blocks=True)
    tower.directories["guest"] = world.mkfs_and_mount(tower.volumes["guest"]["device_path"], "guest")
    tower.names = ["host", "guest"]
    why = refused(IN_USE, coordinator.detach, "host")
    expect('"guest" lies on volume "host"' in why, why)
    with tower.load("host", "guest"):
        with tower.counting():
            for _ in range(2):
                tower.check(coordinator.snapshot("host", "guest"))
                tower.check(coordinator.snapshot("host"))
        last = by_volume(coordinator.snapshot("guest", "host"))
        mounted = coordinator.mount(last["host"]["snapshot_id"])["path"]
        expect(
            digest(f"{mounted}/origin.img") == digest(last["guest"]["device_object"]),
            "the host's copy shows the guest at another instant than the guest's own copy",
        )
        coordinator.unmount(last["host"]["snapshot_id"])
        for round_ in range(2):
            at = time.monotonic() + world.random.uniform(0.2, 1.0)
            wait_until(lambda: time.monotonic() >= at, "the moment of the kill")
            kill_cowd(world)
            wait_until(lambda: coordinator.registrations == round_ + 2, "umbra-cowd registers again")
            states = {v["name"]: v["state"] for v in coordinator.volumes().values()}
            expect(states == {"host": "ok", "guest": "ok"}, f"{states}")
        tower.check(coordinator.snapshot("guest", "host"))
    run_command("umount", tower.directories["guest"])
    run_command("e2fsck", "-fn", tower.volumes["guest"]["device_path"])
    for snapshot in coordinator.snapshots():
        coordinator.delete(snapshot["snapshot_id"])
    coordinator.detach("guest")
    for device in devices:
        run_command("losetup", "-d", device)
    wait_until(lambda: not any(b.startswith(host) for b in loop_devices()), "the loop devices go")
    tower.names = ["host"]
    tower.take_down()


def stopped_while_in_use(world):
    """SIGTERM with both mounted: the guest is flushed and closed while its host still takes it."""
    tower = Tower(world, ["host", "guest"])
    coordinator = tower.coordinator
    (copy,) = coordinator.snapshot("guest")
    shown = digest(copy["device_object"])
    content = world.random.randbytes(4 << 20)
    for name in tower.names:
        with open(f"{tower.directories[name]}/file", "wb") as file:
            file.write(content)  # Not synced.
    expect(world.stop(tower.guardian) == 0, "umbra-guardian did not stop cleanly")
    log = world.log_text("umbra-cowd")
    expect("in use while umbra-cowd stops" in log, "nothing was said")
    for trouble in ("could not be closed cleanly", "could not be flushed", "a loop device stays"):
        expect(trouble not in log, f"the log says: {trouble}")
    for name in reversed(tower.names):
        run_command("umount", tower.directories[name], check=False)
    wait_until(lambda: not any(d in tower.directories.values() for _, d in mounts()), "the dead mounts go")
    world.assert_clean()

    tower.guardian = start_cowd(world)
    wait_until(lambda: coordinator.registrations == 2, "umbra-cowd registers again")
    # The guest's files are not there before its host is mounted.
    run_command("mount", coordinator.volumes()["host"]["device_path"], tower.directories["host"])
    run_command("mount", tower.attach_again("guest")["device_path"], tower.directories["guest"])
    for name in tower.names:
        expect(read_file(f"{tower.directories[name]}/file") == content, f"what was written to {name} is gone")
    (again,) = coordinator.snapshots()
    expect(digest(again["device_object"]) == shown, "the copy changed")
    tower.take_down()


def detached_in_order(world):
    """A host stays while a volume lies on it, whatever is mounted; and the other way round at the
    next start: without its host a volume is not looked at."""
    tower = Tower(world, ["host", "guest"])
    coordinator = tower.coordinator
    write_file(f"{tower.directories['guest']}/file", b"kept")
    why = refused(IN_USE, coordinator.detach, "host")
    expect('"guest" lies on volume "host"' in why, why)
    for name in reversed(tower.names):
        run_command("umount", tower.directories[name], check=name == "guest")
    why = refused(IN_USE, coordinator.detach, "host")
    expect('"guest" lies on volume "host"' in why, why)
    coordinator.detach("guest")
    tower.attach_again("guest")
    host = tower.volumes["host"]
    coordinator.detach("guest")
    run_command("umount", tower.directories["host"])
    run_command("mount", host["device_path"], tower.directories["host"])
    tower.attach_again("guest")
    expect(world.stop(tower.guardian) == 0, "umbra-guardian did not stop cleanly")
    run_command("umount", tower.directories["host"], check=False)

    os.rename(host["origin_path"], host["origin_path"] + ".away")
    tower.guardian = start_cowd(world)
    wait_until(lambda: coordinator.registrations == 2, "umbra-cowd registers again")
    volumes = coordinator.volumes()
    expect("there is no origin" in volumes["host"]["state"], f"{volumes}")
    expect('lies on the volume "host"' in volumes["guest"]["state"], f"{volumes}")
    os.rename(host["origin_path"] + ".away", host["origin_path"])
    device = tower.attach_again("host")["device_path"]
    run_command("mount", device, tower.directories["host"])
    device = tower.attach_again("guest")["device_path"]
    run_command("mount", device, tower.directories["guest"])
    expect(read_file(f"{tower.directories['guest']}/file") == b"kept", "the guest lost something")
    tower.check(coordinator.snapshot("host", "guest"))
    tower.take_down()


CASES = {
    case.__name__: case
    for case in (
        sets_of_both_are_of_one_instant,
        three_levels,
        host_alone_under_load_of_its_guest,
        killed_under_load,
        unit_killed_under_load,
        killed_in_the_hold,
        stopped_in_the_hold,
        stamped_guest,
        through_loop_devices,
        stopped_while_in_use,
        detached_in_order,
    )
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--load"]:
        run_load(sys.argv[2], int(sys.argv[3]))
    sys.exit(harness.run(CASES))
