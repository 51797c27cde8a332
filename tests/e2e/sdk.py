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
    wait_until(lambda: not world.umbra("list", "shadows")["snapshots"], "no auto-release copy is left")
    expect(world.stop(writer) == 0, "the example writer did not end well")


def _keeper(world, directory, *arguments):
    """A test writer with the component "data"; returns its process."""
    before = world.log_text("keeper").count("ready")
    process = world.start(
        world.binary("umbra-test-writer"), "--socket", world.socket(), "--record", world.path("keeper.events"),
        "--name", "keeper", "--component", f"data={directory}", *arguments, name="keeper",
    )  # fmt: skip
    wait_until(lambda: world.log_text("keeper").count("ready") > before, "the writer is registered")
    return process


def _write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _read(path):
    with open(path, encoding="ascii") as file:
        return file.read()


# vss: rule.stamps-chain IVssBackupComponents.SetPreviousBackupStamp rule.additional-restores
def chain_of_backups(world):
    """The examples: a full backup of a chosen component, an incremental one on it, and both restored."""
    mounted = _volume(world)
    data = os.path.join(mounted, "app")
    _write(f"{data}/one", "first")
    _write(f"{data}/sub/two", "first")
    writer = _keeper(world, data, "--at", "post_snapshot=stamp:s1")
    full, later = world.path("full"), world.path("later")
    run_command(world.binary("full_backup"), full, "keeper:data", env=_environment(world))
    expect(_read(f"{full}/files{data}/sub/two") == "first", "the files are kept by their whole paths")
    expect(world.stop(writer) == 0, "the writer ended badly")
    writer = _keeper(world, data, "--at", "post_snapshot=stamp:s2")
    _write(f"{data}/one", "second")
    run_command(
        world.binary("full_backup"), "--after", full, later, "keeper:data", env=_environment(world)
    )
    expect('previous-backup-stamp="s1"' in _read(f"{later}/backup.umbra.xml"), "the later one names its base")
    for name in ("one", "sub/two"):
        os.unlink(f"{data}/{name}")
    run_command(world.binary("restore_backup"), full, later, env=_environment(world))
    expect(_read(f"{data}/one") == "second" and _read(f"{data}/sub/two") == "first", "the newest of each")
    with open(world.path("keeper.events"), encoding="utf-8") as lines:
        told = [e["restore"][0]["more_follow"] for e in map(json.loads, lines) if e["event"] == "post_restore"]
    expect(told == [True, False], f"the writer knows which is the last: {told}")
    wait_until(lambda: not world.umbra("list", "shadows")["snapshots"], "no auto-release copy is left")
    expect(world.stop(writer) == 0, "the writer ended badly")


# vss: rule.restore-method-decision IVssCreateWriterMetadata.AddAlternateLocationMapping
# vss: IVssBackupComponents.AddAlternativeLocationMapping VSS_RME.RESTORE_IF_NOT_THERE
def restored_to_the_alternate_location(world):
    """The example: files that are there are left alone, all go to where the writer says; or elsewhere."""
    mounted = _volume(world)
    data, spare = os.path.join(mounted, "app"), world.path("spare")
    _write(f"{data}/one", "kept")
    writer = _keeper(world, data, "--restore-method", "1", "--alternate", spare)
    backup = world.path("backup")
    run_command(world.binary("full_backup"), backup, "keeper:data", env=_environment(world))
    _write(f"{data}/one", "newer")
    done = run_command(world.binary("restore_backup"), backup, env=_environment(world))
    expect(f"{data}/one -> {spare}/one" in done.stdout, f"it is told where: {done.stdout}")
    expect(_read(f"{data}/one") == "newer" and _read(f"{spare}/one") == "kept", "what is there stays")
    place = world.path("place")
    run_command(world.binary("restore_backup"), "--to", place, backup, env=_environment(world))
    expect(_read(f"{place}{data}/one") == "kept", "to any other place, too")
    expect(world.stop(writer) == 0, "the writer ended badly")


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


# vss: IVssAdmin.RegisterProvider IVssAdmin.UnregisterProvider VSS_E_PROVIDER_IN_USE
# vss: IVssProviderNotifications.OnLoad IVssProviderNotifications.OnUnload
def third_party_provider(world):
    """The example provider's program: a set over it and umbra-cowd, its death, and its administration."""
    _volume(world)
    disk = world.path("vm.img")
    _write(disk, "one" * 30_000)

    def is_served():
        return any(v["name"] == "vm" for v in world.umbra("list", "volumes")["volumes"])

    def start():
        process = world.start(
            world.binary("file_provider"), world.path("store"), f"vm={disk}", env=_environment(world)
        )
        wait_until(is_served, "the provider is registered")
        return process

    provider = start()
    made = world.umbra("create", "shadow", "data", "vm")
    expect(len(made["snapshots"]) == 2, f"a set of both: {made}")
    _write(disk, "two")
    provider.kill()
    provider.wait()
    wait_until(lambda: len(world.umbra("list", "shadows")["snapshots"]) == 1, "its copy is not listed without it")
    provider = start()
    shadows = world.umbra("list", "shadows")["snapshots"]
    mine = [s for s in shadows if s["original_volume"] == "vm"]
    expect(len(shadows) == 2 and len(mine) == 1, f"both copies are there again: {shadows}")
    expect(_read(mine[0]["device_object"]) == "one" * 30_000, "the copy has what was there before")

    refused = world.umbra_raw("unregister", "provider", "file provider", check=False)
    expect("VSS_E_PROVIDER_IN_USE" in refused.stderr, f"it has a copy: {refused.stderr}")
    world.umbra("delete", "shadows", "--set", made["set_id"])
    gone = world.umbra("unregister", "provider", "file provider")
    names = [p["name"] for p in world.umbra("list", "providers")["providers"]]
    expect("file provider" not in names, f"it is known no more: {names}")
    expect(world.umbra("create", "shadow", "vm", check=False) is None, "its volume is known no more")
    world.umbra("register", "provider", gone["provider_id"], "file provider")
    wait_until(is_served, "the provider is back")
    expect(world.stop(provider) == 0, "the provider did not end well")


if __name__ == "__main__":
    sys.exit(
        harness.run(
            {
                "examples": examples,
                "chain_of_backups": chain_of_backups,
                "restored_to_the_alternate_location": restored_to_the_alternate_location,
                "events_in_order": events_in_order,
                "window_expires": window_expires,
                "third_party_provider": third_party_provider,
            }
        )
    )
