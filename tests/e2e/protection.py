# SPDX-License-Identifier: Apache-2.0
"""Protection level "snapshot" through the real programs: the copies stay, the volume goes offline until
somebody clears the fault; and the audit says who had a copy deleted."""

import json
import os
import re
import signal
import sys

import harness
from harness import expect, require_programs, run_command, wait_until

MIB = 1 << 20


def fill(world, uri, number, check=True):
    """Every byte of the volume is overwritten; whether that worked."""
    image = world.path(f"fill{number}.raw")
    with open(image, "wb") as file:
        for _ in range(48):
            file.write(os.urandom(1) * MIB)
    return run_command("nbdcopy", image, uri, check=check).returncode == 0


def content(world, uri):
    path = world.path("read.raw")
    run_command("nbdcopy", uri, path)
    with open(path, "rb") as file:
        return file.read()


def protection(world):
    return world.umbra("protection", "db")


def audited(world, *words):
    with open(os.path.join(world.state_dir, "audit.log"), encoding="utf-8") as file:
        return [line for line in file.read().splitlines() if all(word in line for word in words)]


def full_at_level_snapshot(world):
    """The diff area is full: the volume fails, its copy reads on, also after kill -9; cleared, it works."""
    require_programs("nbdcopy")
    world.start_daemons()
    volume = world.attach("db", 48, "--expose", "none")
    uri = volume["nbd_uri"]
    expect(fill(world, uri, 0), "the first content")
    before = content(world, uri)
    expect(world.umbra("protection", "db", "set", "snapshot", check=False) is None, "an automatic association")
    world.umbra("resize", "shadowstorage", "--for", "db", "--max", "40M")
    world.umbra("protection", "db", "set", "snapshot")
    made = world.umbra("create", "shadow", "db", "--context", "nas-rollback")
    copy = made["snapshots"][0]
    expect(not fill(world, uri, 1, check=False), "more was overwritten than the diff area can keep")
    state = protection(world)
    expect(state["offline"] and state["fault"] == "VSS_PROTECTION_FAULT_DIFF_AREA_FULL", f"{state}")
    expect(state["level"] == "VSS_PROTECTION_LEVEL_SNAPSHOT", f"{state}")
    expect(content(world, copy["nbd_uri"]) == before, "the copy changed")
    expect(run_command("nbdcopy", uri, world.path("x"), check=False).returncode != 0, "the live volume answers")
    expect(world.umbra("protection", "db", "set", "original", check=False) is None, "lowered while it is offline")

    pid = wait_until(world.cowd_pid, "umbra-cowd runs")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: world.cowd_pid() not in (None, pid), "the guardian starts a successor")
    wait_until(world.provider_connected, "umbra-cowd is registered again")
    state = protection(world)
    expect(state["offline"] and state["fault"] == "VSS_PROTECTION_FAULT_DIFF_AREA_FULL", f"after a kill: {state}")
    expect(content(world, copy["nbd_uri"]) == before, "the copy changed with the kill")

    world.umbra("resize", "shadowstorage", "--for", "db", "--max", "300M")
    world.umbra("protection", "db", "clear")
    state = protection(world)
    expect(not state["offline"] and state["fault"] == "VSS_PROTECTION_FAULT_NONE", f"{state}")
    expect(fill(world, uri, 2), "the volume works again")
    expect(content(world, copy["nbd_uri"]) == before, "the copy changed after the clear")
    told = [e["event_id"] for e in world.umbra("list", "events")["events"] if e["name"] == "protection_fault"]
    expect(told == [83], f"events: {told}")

    world.umbra("protection", "db", "set", "original")
    world.umbra("create", "shadow", "db", "--context", "nas-rollback")
    fill(world, uri, 3)
    deleted = world.umbra("resize", "shadowstorage", "--for", "db", "--max", "100M")["deleted_snapshots"]
    expect(deleted == [copy["snapshot_id"]], f"{deleted}")
    (left,) = world.umbra("list", "shadows")["snapshots"]
    world.umbra("delete", "shadows", left["snapshot_id"])
    who = r'who="uid 0 pid \d+ \(umbra [^)]*\)"'
    for snapshot, reason in ((copy["snapshot_id"], "shrunk"), (left["snapshot_id"], "requested")):
        # A thread of its own writes it.
        wait_until(lambda: audited(world, "snapshot_deleted", snapshot), f"{snapshot} is in the audit")
        (line,) = audited(world, "snapshot_deleted", snapshot)
        expect(f"reason={reason}" in line and re.search(who, line), line)
    expect(audited(world, "protection_fault"), "no line about the fault")
    expect(audited(world, "protection_cleared"), "no line about its end")
    world.umbra("detach", "db")


def refused(world, status, *arguments):
    done = world.umbra_raw(*arguments, "--json", check=False)
    expect(done.returncode == status, f"status {done.returncode}: {done.stdout} {done.stderr}")
    return json.loads(done.stderr)["error"]["context"]


# vss: IVssDifferentialSoftwareSnapshotMgmt3.DeleteUnusedDiffAreas
def locked_and_unused(world):
    """Diff areas of volumes that have gone are deleted, but for one with a locked copy; neither is that one overwritten."""
    umbrad = world.start_umbrad()
    guardian = world.start_cowd("--retention-longest", "7200")
    copies = {}
    for name in ("locked", "plain"):
        world.attach(name, 48, "--expose", "none")
        made = world.umbra("create", "shadow", name, "--context", "nas-rollback")
        copies[name] = made["snapshots"][0]["snapshot_id"]
    until = world.umbra("retain", copies["locked"], "--for", "1h")["until"]
    place = os.path.dirname(world.path("x"))
    expect(world.umbra("delete", "unusedstorage", "--on", place)["deleted"] == [], "nothing has gone")
    world.stop(guardian)
    world.stop(umbrad)
    checked = run_command(world.binary("umbra-check"), world.path("locked.diff"), "--json").stdout
    expect(json.loads(checked)["snapshots_locked"] == [copies["locked"]], checked)

    for name in copies:
        os.rename(world.path(f"{name}.img"), world.path(f"{name}.away"))
    world.start_umbrad()
    world.start_cowd("--retention-longest", "7200")
    wait_until(world.provider_connected, "umbra-cowd is registered again")
    done = world.umbra_raw("delete", "unusedstorage", "--on", place, "--json", check=False)
    expect(done.returncode == 3, f"status {done.returncode}: {done.stdout} {done.stderr}")
    answer = json.loads(done.stdout)
    expect(answer["deleted"] == [world.path("plain.diff")], f"{answer}")
    (kept,) = answer["kept"]
    expect(world.path("locked.diff") in kept and copies["locked"] in kept and until[:10] in kept, kept)
    expect(not os.path.exists(world.path("plain.diff")), "the file is there")
    expect(os.path.exists(world.path("locked.diff")), "the file has gone")
    wait_until(lambda: audited(world, "snapshot_deleted"), "the deletion is in the audit")
    (line,) = audited(world, "snapshot_deleted")
    expect(copies["plain"] in line and "reason=requested" in line and "umbra" in line.split("who=")[1], line)
    (left,) = world.umbra("list", "volumes")["volumes"]
    expect(left["name"] == "locked" and "not attached" in left["state"], f"{left}")
    expect(refused(world, 12, "delete", "unusedstorage", "--on", place) != "", "it went")

    os.rename(world.path("locked.away"), world.path("locked.img"))
    attach = ["attach", world.path("locked.img"), "--diff", world.path("locked.diff"), "--name", "locked",
              "--expose", "none"]  # fmt: skip
    context = refused(world, 12, *attach, "--force")
    expect(copies["locked"] in context and "without force" in context, context)
    world.umbra(*attach)
    (left,) = world.umbra("list", "shadows")["snapshots"]
    expect(left["snapshot_id"] == copies["locked"], f"{left}")


CASES = {case.__name__: case for case in (full_at_level_snapshot, locked_and_unused)}

if __name__ == "__main__":
    sys.exit(harness.run(CASES))
