# SPDX-License-Identifier: Apache-2.0
"""Old data that shares blocks with the origin (attach --preserve reflink), on real XFS and btrfs."""

import os
import subprocess
import sys

import harness
from cowd import digest_of, kill_cowd, read_file, refused, start, stop_clean, write_file
from harness import expect, require_fuse_and_loop, require_programs, run_command

NOT_SUPPORTED = "0x8004232F"
MIB = 1 << 20
MAKE = {
    "xfs": ("mkfs.xfs", "-q", "-f", "-m", "reflink=1"),
    "plain_xfs": ("mkfs.xfs", "-q", "-f", "-m", "reflink=0"),
    "btrfs": ("mkfs.btrfs", "-q", "-f"),
}


def make_host(world, kind, size_mib):
    """A file system for origin and diff area."""
    require_programs(MAKE[kind][0])
    image = world.make_image(f"{kind}.img", size_mib * MIB)
    run_command(*MAKE[kind], image)
    directory = world.path(kind)
    os.mkdir(directory)
    run_command("mount", "-o", "loop", image, directory)
    return directory


def make_origin(host, size_mib):
    """With all of its space."""
    path = f"{host}/data.img"
    run_command("dd", "if=/dev/zero", f"of={path}", "bs=1M", f"count={size_mib}", "conv=fsync", "status=none")
    return path


def attach(coordinator, host, origin, **more):
    return coordinator.call(
        "volume.attach", origin_path=origin, diff_area_path=f"{host}/data.diff", name="data", preserve="reflink",
        **more,
    )  # fmt: skip


def shares(host):
    """Bytes of the diff area's file that are shared."""
    told = run_command("filefrag", "-v", f"{host}/data.diff").stdout
    return sum(int(line.split(":")[3]) for line in told.splitlines() if "shared" in line) * 4096


def killed_under_load(world, kind):
    """kill -9 of umbra-cowd under a verifying load: no I/O error, origin and copies intact."""
    require_fuse_and_loop()
    require_programs("fio", "filefrag")
    host = make_host(world, kind, 1024)
    coordinator, guardian = start(world)
    reply = attach(coordinator, host, make_origin(host, 128))
    expect(any("shares blocks" in note for note in reply["notes"]), f"{reply['notes']}")
    directory = world.mkfs_and_mount(reply["volume"]["device_path"], "data")
    write_file(f"{directory}/kept", os.urandom(8 * MIB))
    kept = digest_of(directory)
    (first,) = coordinator.snapshot("data")
    mounted = coordinator.mount(first["snapshot_id"])["path"]
    # In place, a block in four: the others stay shared.
    with open(f"{directory}/kept", "r+b") as file:
        for at in range(0, 8 * MIB, 16384):
            os.pwrite(file.fileno(), os.urandom(4096), at)
        os.fsync(file.fileno())
    expect(shares(host) > 4 * MIB, f"little is shared: {shares(host)}")
    expect(digest_of(mounted) == kept, "the copy shows something else")

    load = subprocess.Popen(
        ["fio", "--name=load", f"--directory={directory}", "--size=48m", "--rw=randwrite", "--bs=4k-64k",
         "--ioengine=libaio", "--iodepth=16", "--direct=1", "--verify=crc32c", "--do_verify=1",
         "--verify_fatal=1", "--verify_state_save=0", "--serialize_overlap=1", "--time_based", "--runtime=8",
         "--rate=40m", "--output", world.path("fio.txt")],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    world.processes.append(load)
    kills = 0
    while load.poll() is None and kills < 3:
        kill_cowd(world)
        kills += 1
        coordinator.wait_for_provider()
        expect(digest_of(mounted) == kept, f"the copy changed after kill {kills}")
    expect(load.wait(120) == 0, "fio met an error: " + read_file(world.path("fio.txt")).decode()[-2000:])
    expect(kills == 3, f"only {kills} kills within the load")
    (again,) = coordinator.snapshots()
    expect(again["snapshot_id"] == first["snapshot_id"] and not again["lost"], f"{again}")

    run_command("umount", directory)
    coordinator.unmount(first["snapshot_id"])
    coordinator.detach("data")
    # Nobody's now: everything stands on the disk.
    reply = attach(coordinator, host, f"{host}/data.img")
    mounted = coordinator.mount(first["snapshot_id"])["path"]
    expect(digest_of(mounted) == kept, "the copy changed over a detach")
    coordinator.unmount(first["snapshot_id"])
    coordinator.delete(first["snapshot_id"])
    coordinator.detach("data")
    stop_clean_but_for_host(world, guardian, host)


def stop_clean_but_for_host(world, guardian, host):
    expect(world.stop(guardian) == 0, "umbra-guardian")
    run_command("umount", host)
    stop_clean(world, guardian)


def xfs_killed_under_load(world):
    killed_under_load(world, "xfs")


def btrfs_killed_under_load(world):
    killed_under_load(world, "btrfs")


def full_host(world):
    """Somebody fills the host: live writes go on, whatever becomes of the copies."""
    require_fuse_and_loop()
    host = make_host(world, "xfs", 512)
    coordinator, guardian = start(world)
    reply = attach(coordinator, host, make_origin(host, 96), diff_initial_bytes=str(64 * MIB))
    device = reply["volume"]["device_path"]
    (old,) = coordinator.snapshot("data")
    half = os.urandom(32 * MIB)

    # A block in four of the first half: the others stay shared.
    with open(device, "r+b") as live:
        for at in range(0, 32 * MIB, 64 * 1024):
            live.seek(at)
            live.write(half[at : at + 4096])
        live.flush()
        os.fsync(live.fileno())
    with open(f"{host}/greedy", "wb") as greedy:
        try:
            while True:
                greedy.write(bytes(MIB))
                greedy.flush()
        except OSError:
            pass
    promised = os.stat(f"{host}/data.diff").st_blocks * 512
    with open(device, "r+b") as live:
        live.write(half)
        live.flush()
        os.fsync(live.fileno())
    with open(device, "rb") as live:
        expect(live.read(32 * MIB) == half, "the live volume shows something else")
    # What lay ready for it in the diff area has been given back: 24 MiB of the blocks were shared.
    used = promised - os.stat(f"{host}/data.diff").st_blocks * 512
    expect(used >= 4 * MIB, f"the diff area gave back {used} of {promised} bytes")
    left = {s["snapshot_id"]: s for s in coordinator.snapshots()}
    if old["snapshot_id"] in left and not left[old["snapshot_id"]]["lost"]:
        surfaced = read_file(os.path.join(world.run_dir, "fuse", "snapshots", old["snapshot_id"]))
        expect(surfaced == bytes(96 * MIB), "the copy shows something else")
    expect("No space" not in world.log_text("umbra-cowd"), "an error was told")
    coordinator.detach("data")
    stop_clean_but_for_host(world, guardian, host)


def refused_where_it_cannot_be(world):
    """At attach, with what to do; nothing is left of the attempt."""
    require_fuse_and_loop()
    host = make_host(world, "plain_xfs", 512)
    coordinator, guardian = start(world)
    origin = make_origin(host, 16)
    why = refused(NOT_SUPPORTED, attach, coordinator, host, origin)
    expect("--preserve copy" in why and "reflink=1" in why, why)
    expect(not os.path.exists(f"{host}/data.diff"), "a diff area is left")
    other = world.make_image("other.img", 16 * MIB)
    why = refused(NOT_SUPPORTED, attach, coordinator, host, other)
    expect("--preserve copy" in why, why)
    coordinator.call(
        "volume.attach", origin_path=origin, diff_area_path=f"{host}/data.diff", name="data", preserve="copy"
    )
    coordinator.detach("data")
    stop_clean_but_for_host(world, guardian, host)


def listed(world):
    """The command line: attach, list shadowstorage."""
    require_fuse_and_loop()
    host = make_host(world, "xfs", 512)
    world.start_daemons()
    origin = make_origin(host, 32)
    done = world.umbra("attach", origin, "--diff", f"{host}/data.diff", "--name", "data", "--preserve", "reflink")
    device = done["device_path"]
    world.umbra("create", "shadow", "data")
    run_command("dd", "if=/dev/urandom", f"of={device}", "bs=1M", "count=8", "conv=fsync,notrunc", "status=none")
    (area,) = world.umbra("list", "shadowstorage")["diff_areas"]
    expect(area["reflink"] is True, f"{area}")
    told = world.umbra_raw("list", "shadowstorage").stdout
    expect("reflink" in told, told)
    world.umbra("delete", "shadows", "--all")
    world.umbra("detach", "data")


CASES = {
    case.__name__: case
    for case in (xfs_killed_under_load, btrfs_killed_under_load, full_host, refused_where_it_cannot_be, listed)
}

if __name__ == "__main__":
    sys.exit(harness.run(CASES))
