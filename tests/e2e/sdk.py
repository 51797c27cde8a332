# SPDX-License-Identifier: Apache-2.0
"""The SDKs' examples and the test writer against the real daemons."""

import json
import os
import sys

import harness
from harness import expect, is_frozen, require_fuse_and_loop, require_programs, run_command, wait_until


def _volume(world):
    require_fuse_and_loop()
    require_programs("mkfs.ext4", "mount")
    world.start_daemons()
    attached = world.attach("data", 64)
    return world.mkfs_and_mount(attached["device_path"], "data")


def _environment(world):
    return {**os.environ, "UMBRA_RUN_DIR": world.run_dir}


def _test_writer(world, name, directory, *behaviour):
    """Starts umbra-test-writer; returns a function that gives the events it has noted."""
    record = world.path(f"{name}.events")
    world.start(
        world.binary("umbra-test-writer"), "--socket", world.socket(), "--record", record, "--name", name,
        "--component", f"data={directory}", "--freeze-window-ms", "2000", *[f"--at={b}" for b in behaviour], name=name,
    )
    wait_until(lambda: "ready" in world.log_text(name), f"{name} is registered")

    def events():
        with open(record, encoding="utf-8") as lines:
            return [json.loads(line)["event"] for line in lines]

    return events


def examples(world):
    """The two example programs together: the copy ends with a whole entry."""
    directory = _volume(world)
    notebook = os.path.join(directory, "notebook")
    writer = world.start(world.binary("notebook_writer"), notebook, env=_environment(world))
    wait_until(lambda: os.path.exists(notebook) and os.path.getsize(notebook) > 100_000, "entries are written")
    copied = world.path("copied")
    done = run_command(
        world.binary("backup_volume"), directory, f"cat $UMBRA_COPY > {copied}", env=_environment(world)
    )
    expect("notebook" in done.stdout and "copy: " in done.stdout, f"unexpected output: {done.stdout}")
    expect(os.path.getsize(copied) == 64 << 20, "the copy is not the volume")
    extracted = world.path("mnt", "copy")
    os.makedirs(extracted)
    run_command("mount", "-o", "ro,noload,loop", copied, extracted)
    with open(os.path.join(extracted, "notebook"), encoding="ascii") as lines:
        text = lines.read()
    run_command("umount", extracted)
    expect(text.endswith(" end\n") and len(text) > 100_000, f"the copy ends in the middle: {text[-40:]!r}")
    expect(not world.umbra("list", "shadows")["snapshots"], "an auto-release copy is left")
    expect(world.stop(writer) == 0, "the example writer did not end well")


# vss: event.Identify event.PrepareForBackup event.PrepareForSnapshot event.Freeze event.Thaw
# vss: event.PostSnapshot event.BackupComplete event.BackupShutdown
def events_in_order(world):
    """A writer that is involved gets every event once, in VSS's order."""
    directory = _volume(world)
    events = _test_writer(world, "orderly", directory)
    world.umbra("create", "shadow", directory)
    wanted = [
        "identify", "prepare_for_backup", "prepare_for_snapshot", "freeze", "thaw", "post_snapshot",
        "backup_complete", "backup_shutdown",
    ]
    wait_until(lambda: "backup_shutdown" in events(), "the session has ended")
    expect(events() == wanted, f"got {events()}")


def window_expires(world):
    """A freeze longer than the window: the writer thaws itself, the set fails and names it."""
    directory = _volume(world)
    events = _test_writer(world, "sleepy", directory, "freeze=silence")
    other = _test_writer(world, "innocent", directory)
    done = world.umbra_raw("create", "shadow", directory, check=False, limit_s=120)
    expect(done.returncode != 0, "the set was created although a writer slept")
    expect("sleepy" in done.stderr + done.stdout, f"the writer is not named: {done.stderr}")
    wait_until(lambda: "abort" in events(), "the sleeper is aborted")
    wait_until(lambda: "abort" in other(), "the other writer is aborted")
    expect(not is_frozen(directory), "the volume is still frozen")


if __name__ == "__main__":
    sys.exit(
        harness.run(
            {
                "examples": examples,
                "events_in_order": events_in_order,
                "window_expires": window_expires,
            }
        )
    )
