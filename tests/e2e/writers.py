# SPDX-License-Identifier: Apache-2.0
"""Writers of every kind against the real daemons: without our SDK, without a process, with recovery
in the copy, and the test writer with its configuration file."""

import json
import os
import signal
import sys

import harness
from harness import expect, is_frozen, require_fuse_and_loop, require_programs, run_command, wait_until

EXAMPLES = os.path.join(os.path.dirname(__file__), "..", "..", "writer-sdk", "examples", "python")
CREATE_LIMIT_S = 120


def _volume(world):
    require_fuse_and_loop()
    require_programs("mkfs.ext4", "mount")
    world.start_daemons()
    attached = world.attach("data", 64)
    return world.mkfs_and_mount(attached["device_path"], "data")


def _environment(world):
    return {**os.environ, "UMBRA_RUN_DIR": world.run_dir}


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


# vss: rule.exclude-from-snapshot CVssWriterEx.OnIdentifyEx
def recovered_in_the_copy(world):
    """The copy is taken in the middle of a transaction, and what it shows ends with a commit."""
    directory = _volume(world)
    ledger = os.path.join(directory, "ledger")
    writer = world.start(world.binary("recovering_writer"), ledger, env=_environment(world))
    with open(os.path.join(directory, "big.scratch"), "w", encoding="utf-8") as file:
        file.write("of no use in a copy")
    wait_until(lambda: os.path.exists(ledger) and "commit 1\n" in _text(ledger), "two transactions are committed")
    world.umbra("create", "shadow", directory, limit_s=CREATE_LIMIT_S)
    copy = _mounted_copy(world)
    expect(os.path.exists(os.path.join(directory, "big.scratch")), "a live file was deleted")
    expect(not os.path.exists(os.path.join(copy, "big.scratch")), "an excluded file is in the copy")
    copied = _text(copy, "ledger").splitlines()
    expect(copied[-1].startswith("commit "), f"the copy ends in the middle of a transaction: {copied[-1]}")
    live = _text(ledger).splitlines()
    expect(len(live) >= len(copied) and live[: len(copied)] == copied, "the live ledger was touched, or another is in the copy")
    expect(world.stop(writer) == 0, "the writer did not end well")


def express_writer(world):
    """Registered by an installer, backed up without a process, gone after its uninstaller."""
    directory = _volume(world)
    os.makedirs(os.path.join(directory, "recipes"))
    with open(os.path.join(directory, "recipes", "soup"), "w", encoding="utf-8") as file:
        file.write("water\n")
    run_command(world.binary("express_writer"), "install", os.path.join(directory, "recipes"), world.run_dir)
    listed = world.umbra_raw("express", "list").stdout
    expect("recipes" in listed, f"not listed: {listed}")
    names = [w["name"] for w in world.umbra("list", "writers")["writers"]]
    expect("recipes" in names, f"umbrad does not list it: {names}")
    bundle = world.path("bundle.xml")
    world.umbra("create", "shadow", directory, "--documents", bundle, limit_s=CREATE_LIMIT_S)
    expect('name="recipes"' in _text(bundle), "the bundle lacks it")
    os.unlink(os.path.join(directory, "recipes", "soup"))
    world.umbra_raw("restore", bundle, "--in-place", limit_s=CREATE_LIMIT_S)
    expect(_text(directory, "recipes", "soup") == "water\n", "the file did not come back")
    again = world.umbra_raw("express", "register", os.path.join(world.run_dir, "writers.d", "a7d0c9c4-0e5a-4c0b-b7f2-6d1f0d3c5b18.xml"), check=False)
    expect(again.returncode == 14 and "registered" in again.stderr, f"registered twice: {again.stderr}")
    run_command(world.binary("express_writer"), "uninstall", world.run_dir)
    expect("recipes" not in world.umbra_raw("express", "list").stdout, "still registered")
    gone = world.umbra_raw("express", "unregister", "a7d0c9c4-0e5a-4c0b-b7f2-6d1f0d3c5b18", check=False)
    expect(gone.returncode == 13, f"unregistered twice: {gone.returncode} {gone.stderr}")


CONFIGURATION = """<TestWriter deleteFiles="yes" checkIncludes="yes" checkExcludes="yes" supportsStamps="yes">
  <RestoreMethod method="RESTORE_IF_CAN_BE_REPLACED" writerRestore="always"/>
  <ExcludeFile path="{top}" filespec="*.tmp" recursive="yes"/>
  <Component componentType="filegroup" componentName="data" backupStamp="stamp-1" backupMetadata="kept"
      restoreMetadata="seen">
    <ComponentFile path="{top}" filespec="*" recursive="yes"/>
  </Component>
  <FailEvent writerEvent="Freeze" numFailures="1"/>
  <DelayEvent writerEvent="Thaw" milliseconds="20"/>
</TestWriter>
"""


def configured_test_writer(world):
    """Fails once, deletes what was copied, and finds after the restore that it is back."""
    directory = _volume(world)
    top = os.path.join(directory, "top")
    os.makedirs(os.path.join(top, "sub"))
    for name in ("a", "sub/b", "c.tmp"):
        with open(os.path.join(top, name), "w", encoding="utf-8") as file:
            file.write(name)
    configuration = world.path("test-writer.xml")
    with open(configuration, "w", encoding="utf-8") as file:
        file.write(CONFIGURATION.format(top=top))
    record = world.path("events")
    world.start(
        world.binary("umbra-test-writer"), "--socket", world.socket(), "--record", record, "--config", configuration,
        name="test_writer",
    )
    wait_until(lambda: "ready" in world.log_text("test_writer"), "the test writer is registered")
    refused = world.umbra_raw("create", "shadow", directory, check=False, limit_s=CREATE_LIMIT_S)
    expect(refused.returncode == 15 and "1 of 1" in refused.stderr, f"it did not fail: {refused.stderr}")
    bundle = world.path("bundle.xml")
    world.umbra("create", "shadow", directory, "--documents", bundle, limit_s=CREATE_LIMIT_S)
    expect('backup-stamp="stamp-1"' in _text(bundle), "no stamp in the bundle")
    expect(not any(files for _, _, files in os.walk(top)), "what was copied is not deleted")
    world.umbra_raw("restore", bundle, "--in-place", limit_s=CREATE_LIMIT_S)
    expect(_text(top, "a") == "a" and _text(top, "sub", "b") == "sub/b", "not all is back")
    expect(not os.path.exists(os.path.join(top, "c.tmp")), "an excluded file came back")
    with open(record, encoding="utf-8") as lines:
        last = [json.loads(line) for line in lines][-1]
    expect(last["event"] == "post_restore", f"the last event is {last['event']}")
    (restored,) = last["restore"]
    expect(
        (restored["status"], restored["stamp"], restored["backup_metadata"], restored["restore_metadata"])
        == (2, "stamp-1", "kept", "seen"),
        f"PostRestore saw {restored}",
    )


if __name__ == "__main__":
    sys.exit(
        harness.run(
            {
                "python_writer": python_writer,
                "python_writer_thaws_itself": python_writer_thaws_itself,
                "python_writer_survives_umbrad": python_writer_survives_umbrad,
                "recovered_in_the_copy": recovered_in_the_copy,
                "express_writer": express_writer,
                "configured_test_writer": configured_test_writer,
            }
        )
    )
