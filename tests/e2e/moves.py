# SPDX-License-Identifier: Apache-2.0
"""A diff area moves to other files and devices under its volume, through all the real programs."""

import json
import os
import signal
import subprocess
import sys
import time

import harness
from cowd import digest_of, read_file, write_file
from devices import loop_over
from harness import expect, require_fuse_and_loop, require_programs, run_command, wait_until

MIB = 1 << 20


def area_of(world, name):
    (area,) = [a for a in world.umbra("list", "shadowstorage")["diff_areas"] if a["volume"] == name]
    return area


def volume_of(world, name):
    (volume,) = [v for v in world.umbra("list", "volumes")["volumes"] if v["name"] == name]
    return volume


def move(world, name, to):
    return world.umbra("move", "shadowstorage", "--for", name, "--to", to, limit_s=120)


def refused_move(world, status, name, to):
    done = world.umbra_raw("move", "shadowstorage", "--for", name, "--to", to, "--json", check=False)
    expect(done.returncode == status, f"status {done.returncode}: {done.stdout} {done.stderr}")
    return json.loads(done.stderr)["error"]["context"]


def prepare(world):
    """A mounted volume with two copies, whose old data is in the diff area; and a load that verifies."""
    require_fuse_and_loop()
    require_programs("fio")
    world.start_umbrad()
    world.start(
        world.binary("umbra-guardian"), "--run-dir", world.run_dir, "--restart-failures", "1000", "--",
        world.binary("umbra-cowd"), "--run-dir", world.run_dir, "--state-dir", world.state_dir,
        name="umbra-cowd",
    )  # fmt: skip
    wait_until(world.provider_connected, "umbra-cowd is registered with umbrad")
    volume = world.attach("db", 160)
    directory = world.mkfs_and_mount(volume["device_path"], "db")
    write_file(f"{directory}/kept", os.urandom(48 * MIB))
    kept = digest_of(directory)
    made = world.umbra("create", "shadow", "db", "--context", "nas-rollback")
    copy = made["snapshots"][0]["snapshot_id"]
    write_file(f"{directory}/kept", os.urandom(48 * MIB))
    mounted = world.umbra("mount", copy)["path"]
    expect(digest_of(mounted) == kept, "the copy shows something else")
    return directory, mounted, kept, copy


def load_on(world, directory, seconds):
    load = subprocess.Popen(
        ["fio", "--name=load", f"--directory={directory}", "--size=24m", "--rw=randwrite", "--bs=4k-64k",
         "--ioengine=libaio", "--iodepth=8", "--direct=1", "--verify=crc32c", "--do_verify=1",
         "--verify_fatal=1", "--verify_state_save=0", "--serialize_overlap=1", "--time_based",
         f"--runtime={seconds}", "--rate=20m", "--output", world.path("fio.txt")],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    world.processes.append(load)
    return load


def finish(world, load, directory, copy):
    expect(load.wait(120) == 0, "fio met an error: " + read_file(world.path("fio.txt")).decode()[-2000:])
    world.umbra("unmount", copy)
    run_command("umount", directory)
    run_command("e2fsck", "-fn", volume_of(world, "db")["device_path"])


def under_load(world):
    """File to file, to a raw device and back, while a load verifies what it wrote; what it may not do."""
    directory, mounted, kept, copy = prepare(world)
    first = area_of(world, "db")["diff_area_path"]
    load = load_on(world, directory, 10)
    context = refused_move(world, 14, "db", f"{directory}/x.diff")
    expect("the volume itself" in context, context)
    expect("already" in refused_move(world, 14, "db", first), "where it is")
    full = world.make_image("full", 96 * MIB)
    write_file(full, b"somebody's" * 100_000)
    os.truncate(full, 96 * MIB)
    refused_move(world, 14, "db", full)
    expect(read_file(full)[:10] == b"somebody's", "a file of somebody's was written")

    os.mkdir(world.path("other"))
    moved = move(world, "db", world.path("other"))
    second = world.path("other", "db.diff")
    expect(moved["diff_area_path"] == second and moved["kept"] is None, f"{moved}")
    expect(not os.path.exists(first), "the former file is still there")
    expect(digest_of(mounted) == kept, "the copy changed with the move")

    device = loop_over(world, world.make_image("raw", 512 * MIB))
    moved = move(world, "db", device)
    expect(moved["diff_area_path"] == device and not os.path.exists(second), f"{moved}")
    area = area_of(world, "db")
    expect(area["allocated_bytes"] > 480 * MIB, f"the device is not used wholly: {area}")
    expect(digest_of(mounted) == kept, "the copy changed with the move to a device")
    made = world.umbra("create", "shadow", "db", "--context", "nas-rollback")
    later = made["snapshots"][0]["snapshot_id"]
    refused_move(world, 14, "db", world.path("db.img"))
    back = world.path("back.diff")
    moved = move(world, "db", back)
    expect(moved["diff_area_path"] == back and device in moved["kept"], f"{moved}")
    expect(digest_of(mounted) == kept, "the copy changed with the move back")
    told = [e["name"] for e in world.umbra("list", "events")["events"]]
    expect(told.count("diff_area_moved") == 3, f"events: {told}")
    finish(world, load, directory, copy)
    left = {s["snapshot_id"] for s in world.umbra("list", "shadows")["snapshots"] if not s["lost"]}
    expect(left == {copy, later}, f"copies: {left}")
    world.umbra("detach", "db")


def killed_in_the_middle(world):
    """kill -9 at random moments of moves: afterwards one of the two is in force, and nothing is lost."""
    directory, mounted, kept, copy = prepare(world)
    load = load_on(world, directory, 14)
    places = [world.path("a.diff"), world.path("b.diff")]
    cut = 0
    for number in range(6):
        before = area_of(world, "db")["diff_area_path"]
        to = places[number % 2] if places[number % 2] != before else places[1 - number % 2]
        mover = world.start(
            world.binary("umbra"), "--run-dir", world.run_dir, "move", "shadowstorage", "--for", "db", "--to", to,
            name="mover",
        )  # fmt: skip
        wait_until(lambda: os.path.exists(to) or mover.poll() is not None, "the move begins")
        at = time.monotonic() + world.random.uniform(0, 0.06)
        wait_until(lambda: time.monotonic() >= at, "the moment has come")
        pid = wait_until(world.cowd_pid, "umbra-cowd runs")
        os.kill(pid, signal.SIGKILL)
        cut += mover.wait(60) != 0
        wait_until(lambda: world.cowd_pid() not in (None, pid), "the guardian starts a successor")
        wait_until(world.provider_connected, "umbra-cowd is registered again")
        now = area_of(world, "db")
        expect(now["state"] == "ok" and now["diff_area_path"] in (before, to), f"{now}")
        if now["diff_area_path"] == before:
            expect(not os.path.exists(to), f"{to} is left behind; in force: {now}")
        elif os.path.exists(before):  # Killed between the record and the removal.
            os.unlink(before)
        expect(digest_of(mounted) == kept, f"the copy changed after kill {number}")
    print(f"killed 6 times, {cut} moves were cut")
    expect(cut > 0, "no move was cut")
    (record,) = os.listdir(os.path.join(world.state_dir, "volumes"))
    expect("moving_to" not in json.loads(read_file(os.path.join(world.state_dir, "volumes", record))), "unsettled")
    finish(world, load, directory, copy)
    (left,) = world.umbra("list", "shadows")["snapshots"]
    expect(left["snapshot_id"] == copy and not left["lost"], f"{left}")
    world.umbra("detach", "db")


CASES = {case.__name__: case for case in (under_load, killed_in_the_middle)}

if __name__ == "__main__":
    sys.exit(harness.run(CASES))
