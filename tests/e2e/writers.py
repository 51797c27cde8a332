# SPDX-License-Identifier: Apache-2.0
"""A writer without our SDK against the real daemons."""

import os
import signal
import sys

import harness
from harness import expect, is_frozen, require_fuse_and_loop, require_programs, wait_until

EXAMPLES = os.path.join(os.path.dirname(__file__), "..", "..", "writer-sdk", "examples", "python")
CREATE_LIMIT_S = 120


def _volume(world):
    require_fuse_and_loop()
    require_programs("mkfs.ext4", "mount")
    world.start_daemons()
    attached = world.attach("data", 64)
    return world.mkfs_and_mount(attached["device_path"], "data")


def _mounted_copy(world):
    """The one copy there is, mounted."""
    (copy,) = world.umbra("list", "shadows")["snapshots"]
    directory = world.path("mnt", "copy")
    os.makedirs(directory, exist_ok=True)
    world.umbra("mount", copy["snapshot_id"], directory)
    world.at_end(lambda: world.umbra("unmount", copy["snapshot_id"], check=False))
    return directory


def _text(*names):
    with open(os.path.join(*names), encoding="utf-8") as file:
        return file.read()


def _python_writer(world, directory, *arguments):
    notes = os.path.join(directory, "notes")
    writer = world.start(
        sys.executable, os.path.join(EXAMPLES, "notes_writer.py"), notes, "--socket", world.socket(), *arguments,
        name="python_writer",
    )

    def words():
        return world.log_text("python_writer").split()

    wait_until(lambda: "registered" in words(), "the Python writer is registered")
    wait_until(lambda: os.path.getsize(notes) > 20_000, "notes are written")
    return writer, notes, words


def python_writer(world):
    """A socket and JSON are enough to be a writer: the copy ends with a whole line."""
    directory = _volume(world)
    writer, notes, words = _python_writer(world, directory)
    world.umbra("create", "shadow", directory, limit_s=CREATE_LIMIT_S)
    wait_until(lambda: "backup_shutdown" in words(), "the session has ended")
    expect(
        words()
        == ["registered", "identify", "prepare_for_backup", "prepare_for_snapshot", "freeze", "thaw", "post_snapshot",
            "backup_complete", "backup_shutdown"],
        f"got {words()}",
    )
    text = _text(_mounted_copy(world), "notes")
    expect(text.endswith(" end\n") and len(text) > 20_000, f"the copy ends in the middle: {text[-40:]!r}")
    size = os.path.getsize(notes)
    wait_until(lambda: os.path.getsize(notes) > size, "the writer writes again")
    expect(world.stop(writer) == 0, "the Python writer did not end well")


def python_writer_thaws_itself(world):
    """umbrad stands still while the writer is frozen: its own timer thaws it, and it says so."""
    directory = _volume(world)
    # A slower level keeps umbrad in Freeze while the Python writer is frozen already.
    world.start(
        world.binary("umbra-test-writer"), "--socket", world.socket(), "--record", world.path("slow.events"),
        "--name", "slow", "--component", f"data={directory}", "--level", "2", "--at=freeze=delay:3000", name="slow",
    )
    wait_until(lambda: "ready" in world.log_text("slow"), "the slow writer is registered")
    _, notes, words = _python_writer(world, directory, "--window-ms", "1500")
    umbrad = next(p for p in world.processes if os.path.basename(p.args[0]) == "umbrad")
    creating = world.start(
        world.binary("umbra"), "--run-dir", world.run_dir, "create", "shadow", directory, name="creating"
    )
    wait_until(lambda: "freeze" in words(), "the Python writer is frozen")
    umbrad.send_signal(signal.SIGSTOP)
    try:
        wait_until(lambda: "expired" in words(), "the window has ended")
        size = os.path.getsize(notes)
        wait_until(lambda: os.path.getsize(notes) > size, "the writer writes again although umbrad is stopped")
    finally:
        umbrad.send_signal(signal.SIGCONT)
    expect(creating.wait(CREATE_LIMIT_S) != 0, "the set was created although a writer wrote")
    expect("notes" in world.log_text("creating"), f"the writer is not named: {world.log_text('creating')}")
    expect(not is_frozen(directory), "the volume is still frozen")


def python_writer_survives_umbrad(world):
    """umbrad dies while the writer is frozen: the end of the connection thaws, and it registers again."""
    directory = _volume(world)
    world.start(
        world.binary("umbra-test-writer"), "--socket", world.socket(), "--record", world.path("slow.events"),
        "--name", "slow", "--component", f"data={directory}", "--level", "2", "--at=freeze=delay:5000", name="slow",
    )
    wait_until(lambda: "ready" in world.log_text("slow"), "the slow writer is registered")
    _, notes, words = _python_writer(world, directory)
    umbrad = next(p for p in world.processes if os.path.basename(p.args[0]) == "umbrad")
    world.start(world.binary("umbra"), "--run-dir", world.run_dir, "create", "shadow", directory, name="creating")
    wait_until(lambda: "freeze" in words(), "the Python writer is frozen")
    umbrad.kill()
    umbrad.wait()
    wait_until(lambda: "lost" in words(), "the writer has noticed")
    size = os.path.getsize(notes)
    wait_until(lambda: os.path.getsize(notes) > size, "the writer writes again")
    world.start_umbrad()
    wait_until(lambda: words().count("registered") == 2, "it has registered again")


if __name__ == "__main__":
    sys.exit(
        harness.run(
            {
                "python_writer": python_writer,
                "python_writer_thaws_itself": python_writer_thaws_itself,
                "python_writer_survives_umbrad": python_writer_survives_umbrad,
            }
        )
    )
