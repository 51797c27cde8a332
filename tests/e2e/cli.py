# SPDX-License-Identifier: Apache-2.0
"""umbra against real daemons: exit statuses, and the life of a copy as a user types it."""

import json
import os
import signal
import subprocess
import sys

import harness
from harness import Failure, expect, require_fuse_and_loop, require_programs, run_command, wait_until

SOME_ID = "11111111-1111-1111-1111-111111111111"


def status_of(world, *arguments):
    """Exit status, parsed output or error."""
    done = world.umbra_raw(*arguments, "--json", check=False)
    text = done.stdout if done.returncode in (0, 3) else done.stderr
    try:
        return done.returncode, json.loads(text)
    except json.JSONDecodeError:
        raise Failure(f"{arguments}: not one JSON object: {text!r}") from None


def expect_failure(world, status, name, *arguments):
    got, value = status_of(world, *arguments)
    expect(got == status, f"{arguments}: exit {got}, expected {status}: {value}")
    expect(value["error"]["name"] == name, f"{arguments}: {value}")
    expect(value["error"]["exit_status"] == status, f"{arguments}: {value}")


def without_daemons(world):
    for arguments in (
        ("status",),
        ("list", "volumes"),
        ("create", "shadow", world.top),
        ("attach", "/x", "--diff", "/y"),
        ("abort",),
    ):
        expect_failure(world, 10, "UMBRA_E_COORDINATOR_LOST", *arguments)


def without_provider(world):
    world.start_umbrad()
    expect(status_of(world, "list", "volumes") == (0, {"volumes": [], "absent_providers": []}), "list")
    expect(status_of(world, "status")[1]["set_in_progress"] is None, "status")
    expect_failure(world, 10, "VSS_E_PROVIDER_NOT_REGISTERED", "create", "shadow", world.top)
    expect_failure(world, 13, "VSS_E_OBJECT_NOT_FOUND", "create", "shadow", "/no/such/path")
    expect_failure(world, 13, "VSS_E_OBJECT_NOT_FOUND", "delete", "shadows", SOME_ID)
    expect_failure(world, 13, "VSS_E_OBJECT_NOT_FOUND", "abort")
    done = world.umbra_raw("exec", world.top, "--", "true", check=False)
    expect(done.returncode == 125, f"exec: {done.returncode}")


def life_of_a_copy(world):
    require_fuse_and_loop()
    require_programs("mkfs.ext4")
    world.start_daemons()
    volume = world.attach("db", 32)
    directory = world.mkfs_and_mount(volume["device_path"], "db")
    with open(os.path.join(directory, "file"), "w", encoding="ascii") as file:
        file.write("before")
    made = world.umbra("create", "shadow", directory)
    (snapshot,) = made["snapshots"]
    phases = [phase["phase"] for phase in made["timeline"]]
    expect(phases, "no timeline")
    expect(made["hold"]["freeze_us"] >= made["hold"]["gate_us"] > 0, f"hold: {made['hold']}")
    expect(snapshot["context"] == "app-rollback", f"context: {snapshot}")
    with open(os.path.join(directory, "file"), "w", encoding="ascii") as file:
        file.write("after!")

    mounted = world.umbra("mount", snapshot["snapshot_id"])
    with open(os.path.join(mounted["path"], "file"), encoding="ascii") as file:
        expect(file.read() == "before", "the copy shows later data")
    (listed,) = world.umbra("list", "shadows", "--volume", "db")["snapshots"]
    expect(listed["exposed_path"] == mounted["path"], f"exposed: {listed}")
    expect_failure(world, 11, "VSS_E_VOLUME_IN_USE", "delete", "shadows", snapshot["snapshot_id"])
    world.umbra("unmount", snapshot["snapshot_id"])
    expect(world.umbra("delete", "shadows", "--all")["deleted"] == 1, "deleted")
    expect(not world.umbra("list", "shadows")["snapshots"], "copies are left")

    expect_failure(world, 11, "VSS_E_VOLUME_IN_USE", "detach", "db")
    run_command("umount", directory)
    world.umbra("detach", "db")
    expect(not world.umbra("list", "volumes")["volumes"], "volumes are left")


def exec_runs_and_releases(world):
    """The copies of exec live as long as the command, also when the command is interrupted."""
    require_fuse_and_loop()
    world.start_daemons()
    world.attach("db", 32, "--expose", "none")
    script = f'umbra="{world.binary("umbra")} --run-dir {world.run_dir}"; $umbra list shadows --json; exit 7'
    done = world.umbra_raw(
        "exec", "db", "--context", "file-share-backup", "--", "sh", "-c", script, check=False
    )
    expect(done.returncode == 7, f"exec: {done.returncode} {done.stderr}")
    expect(len(json.loads(done.stdout)["snapshots"]) == 1, f"while it runs: {done.stdout}")
    # umbrad deletes it when the connection has ended, which nobody waits for.
    wait_until(lambda: not world.umbra("list", "shadows")["snapshots"], "the copy does not outlive the command")

    running = subprocess.Popen(
        [world.binary("umbra"), "--run-dir", world.run_dir, "exec", "db", "--context",
         "file-share-backup", "--", "sleep", "1000"],
        start_new_session=True,
    )  # fmt: skip
    world.processes.append(running)
    wait_until(lambda: world.umbra("list", "shadows")["snapshots"], "the copy exists")
    os.killpg(running.pid, signal.SIGINT)  # As a terminal does.
    ended = running.wait(20)  # Of the signal itself where it came between two steps; a shell sees no difference.
    expect(ended in (128 + signal.SIGINT, -signal.SIGINT), f"interrupted exec: {ended}")
    wait_until(lambda: not world.umbra("list", "shadows")["snapshots"], "the copy does not outlive the interrupt")
    world.umbra("detach", "db")


def storage_is_resized(world):
    """What copies may take: shown, lowered with the oldest copies going, and told as events."""
    require_fuse_and_loop()
    world.start_daemons()
    mebi = 1 << 20
    volume = world.attach("db", 32, "--expose", "none")
    (area,) = world.umbra("list", "shadowstorage")["diff_areas"]
    expect(area["volume"] == "db" and area["maximum_bytes"] is None, f"area: {area}")
    expect(not area["explicit"] and area["diff_volume"], f"area: {area}")
    on = world.umbra("list", "shadowstorage", "--on", os.path.dirname(area["diff_area_path"]))
    expect(len(on["diff_areas"]) == 1, f"on: {on}")
    (supported,) = world.umbra("list", "volumes", "--supported")["volumes"]
    expect(supported["volume_id"] == volume["volume_id"], f"supported: {supported}")
    expect_failure(world, 14, "E_INVALIDARG", "resize", "shadowstorage", "--for", "db", "--max", "1M")
    expect(world.umbra("add", "shadowstorage", "--for", "db", "--max", "300M")["maximum_bytes"] == 300 * mebi, "add")
    expect_failure(world, 14, "VSS_E_OBJECT_ALREADY_EXISTS", "add", "shadowstorage", "--for", "db")

    copies = []
    for number in range(3):
        made = world.umbra("create", "shadow", "db", "--context", "nas-rollback")
        copies.append(made["snapshots"][0]["snapshot_id"])
        write_all(volume["nbd_uri"], number)
    used = world.umbra("list", "shadowstorage")["diff_areas"][0]["used_bytes"]
    expect(used > 64 * mebi, f"used: {used}")
    resized = world.umbra("resize", "shadowstorage", "--for", "db", "--max", "64M")
    gone = resized["deleted_snapshots"]
    expect(gone and gone == copies[: len(gone)] and len(gone) < 3, f"deleted: {resized}")
    left = {one["snapshot_id"] for one in world.umbra("list", "shadows")["snapshots"]}
    expect(left == set(copies[len(gone) :]), f"left: {left}")
    (area,) = world.umbra("list", "shadowstorage")["diff_areas"]
    expect(area["maximum_bytes"] == 64 * mebi and area["used_bytes"] <= 64 * mebi, f"area: {area}")
    expect(area["explicit"], f"area: {area}")
    (operation,) = world.umbra("operations")["operations"][-1:]
    expect(operation["status"] == "VSS_S_ASYNC_FINISHED", f"operation: {operation}")

    told = [one["snapshot_id"] for one in world.umbra("list", "events")["events"] if one["event_id"] == 33]
    expect(told == gone, f"events: {told}")
    expect_failure(world, 11, "VSS_E_VOLUME_IN_USE", "delete", "shadowstorage", "--for", "db")
    world.umbra("delete", "shadows", "--all")
    world.umbra("delete", "shadowstorage", "--for", "db")
    expect(world.umbra("list", "shadowstorage")["diff_areas"][0]["maximum_bytes"] is None, "deleted")
    world.umbra("detach", "db")


def write_all(uri, number):
    """Every chunk of the volume is overwritten."""
    image = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"umbra-e2e-{os.getpid()}.raw")
    try:
        with open(image, "wb") as file:
            for _ in range(32):
                file.write(os.urandom(1) * (1 << 20))
        run_command("nbdcopy", image, uri)
    finally:
        os.unlink(image)


if __name__ == "__main__":
    sys.exit(
        harness.run(
            {
                "without_daemons": without_daemons,
                "without_provider": without_provider,
                "life_of_a_copy": life_of_a_copy,
                "exec_runs_and_releases": exec_runs_and_releases,
                "storage_is_resized": storage_is_resized,
            }
        )
    )
