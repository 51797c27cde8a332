# SPDX-License-Identifier: Apache-2.0
"""Restores with the real daemons: files come back whole, to their own place and elsewhere, with
PreRestore and PostRestore taken by their writers; whoever refuses or dies, nothing is half there."""

import json
import os
import signal
import stat
import subprocess
import sys

import harness
from harness import expect, require_fuse_and_loop, wait_until

NONE, ALL, FAILED = 1, 2, 3  # File restore status.
EXIT_FAILED, EXIT_REFUSED, EXIT_WRITER_FAILED, EXIT_NOT_FOUND, EXIT_INTERRUPTED = 1, 14, 15, 13, 130
NEW_TARGET = 0x100


def events(world, name="data"):
    with open(world.path(f"{name}.events"), encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def event(world, wanted, name="data"):
    found = [e for e in events(world, name) if e["event"] == wanted]
    return found[-1] if found else None


def start_writer(world, directory, *arguments, name="data"):
    before = world.log_text(f"writer-{name}").count("ready")
    process = world.start(
        world.binary("umbra-test-writer"), "--socket", world.socket(), "--record",
        world.path(f"{name}.events"), "--name", name, "--component", f"{name}={directory}", *arguments,
        name=f"writer-{name}",
    )  # fmt: skip
    wait_until(
        lambda: world.log_text(f"writer-{name}").count("ready") > before, "the writer is registered"
    )
    return process


def fill(directory):
    """A tree with what a careless copy loses. Returns it as tree() shows it."""
    os.makedirs(os.path.join(directory, "sub", "empty"))
    write(os.path.join(directory, "one"), b"first " * 1000)
    write(os.path.join(directory, "sub", "two"), os.urandom(300_000))
    with open(os.path.join(directory, "sparse"), "wb") as sparse:
        sparse.truncate(8 << 20)
        sparse.seek(4 << 20)
        sparse.write(b"island")
    os.symlink("one", os.path.join(directory, "link"))
    os.link(os.path.join(directory, "one"), os.path.join(directory, "sub", "other name of one"))
    os.mkfifo(os.path.join(directory, "pipe"))
    os.chmod(os.path.join(directory, "one"), 0o640)
    os.chmod(os.path.join(directory, "sub"), 0o2750)
    os.chown(os.path.join(directory, "one"), 1234, 4321)
    os.setxattr(os.path.join(directory, "one"), "user.note", b"kept")
    os.utime(os.path.join(directory, "one"), ns=(10**18, 10**18 + 7))
    return tree(directory)


def write(path, content):
    with open(path, "wb") as file:
        file.write(content)


def tree(top):
    """Everything below `top` that has to come back, by relative path."""
    found = {}
    for directory, names, files in os.walk(top):
        for name in names + files:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            entry = {"mode": status.st_mode, "uid": status.st_uid, "gid": status.st_gid}
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    entry["content"] = file.read()
                entry["mtime"] = status.st_mtime_ns
                entry["xattrs"] = {n: os.getxattr(path, n) for n in os.listxattr(path)}
                entry["links"] = status.st_nlink
            elif stat.S_ISLNK(status.st_mode):
                entry["target"] = os.readlink(path)
            found[os.path.relpath(path, top)] = entry
    return found


def same(found, wanted, text):
    differing = sorted(p for p in found.keys() | wanted.keys() if found.get(p) != wanted.get(p))
    expect(not differing, f"{text}: differ: {differing}")


def damage(directory):
    write(os.path.join(directory, "one"), b"damaged")
    os.unlink(os.path.join(directory, "sub", "two"))
    os.unlink(os.path.join(directory, "sparse"))
    os.rmdir(os.path.join(directory, "sub", "empty"))


def no_leftovers(top):
    for directory, names, _ in os.walk(top):
        left = [n for n in names if n.startswith(".umbra-restore")]
        expect(not left, f"left in {directory}: {left}")


class Backup:
    """A volume with one writer's tree, and a persistent copy of it with its documents."""

    def __init__(self, world, *writer_arguments, umbrad=(), cowd=()):
        require_fuse_and_loop()
        harness.require_programs("mkfs.ext4")
        world.start_umbrad(*umbrad)
        world.start_cowd(*cowd)
        self.world = world
        volume = world.attach("vol", 256)
        self.mount = world.mkfs_and_mount(volume["device_path"], "vol")
        self.data = os.path.join(self.mount, "app", "data")
        os.makedirs(self.data)
        self.wanted = fill(self.data)
        self.writer_arguments = writer_arguments
        self.writer = start_writer(world, self.data, *writer_arguments)
        self.bundle = world.path("backup.umbra.xml")
        self.set = world.umbra("create", "shadow", self.mount, "--documents", self.bundle)
        expect(self.set["documents"] == self.bundle, "the documents' place is told")
        expect(stat.S_IMODE(os.stat(self.bundle).st_mode) == 0o600, "only their owner reads them")

    def restore(self, *arguments, status=0):
        done = self.world.umbra_raw("restore", self.bundle, "--json", *arguments, check=False)
        expect(
            done.returncode == status,
            f"restore {arguments}: exit {done.returncode}, not {status}\n{done.stdout}{done.stderr}",
        )
        return json.loads(done.stdout if status == 0 else done.stderr)

    def end(self):
        world = self.world
        mounted = [s["exposed_path"] for s in world.umbra("list", "shadows")["snapshots"] if s["exposed_path"]]
        expect(not mounted, f"copies are still mounted: {mounted}")
        no_leftovers(self.mount)
        harness.run_command("umount", self.mount)
        # What was just unmounted may still be looked at by udev.
        wait_until(lambda: world.umbra("delete", "shadows", "--all", check=False) is not None, "no copies")
        world.umbra("detach", "vol")
        for process in reversed([p for p in world.processes if p.poll() is None]):
            expect(world.stop(process) == 0, f"{process.args[0]} ended badly")
        world.assert_clean()


# vss: IVssBackupComponents.SetRestoreOptions CVssWriter.OnPreRestore CVssWriter.OnPostRestore
# vss: IVssComponent.GetRestoreOptions IVssComponent.GetBackupStamp
def in_place(world):
    backup = Backup(
        world,
        "--at", "post_snapshot=stamp:s1", "--at", "prepare_for_backup=metadata:m1",
        "--at", "pre_restore=metadata:r1",
    )  # fmt: skip
    damage(backup.data)
    write(os.path.join(backup.data, "made later"), b"stays")
    planned = backup.restore("--in-place", "--dry-run")["components"][0]
    replaced = {os.path.basename(f["original"]) for f in planned["files"] if f["replaces"]}
    expect("one" in replaced and "two" not in replaced, f"the plan says what it replaces: {replaced}")
    expect(event(world, "pre_restore") is None, "a dry run tells no writer")
    report = backup.restore("--in-place", "--restore-option", "gently")
    component = report["components"][0]
    expect(component["status"] == "all" and component["with_writer"], f"restored: {component}")
    expect(component["name"] == "data" and component["writer"] == "data", "named")
    found = tree(backup.data)
    expect(found.pop("made later")["content"] == b"stays", "what is not in the backup is left alone")
    same(found, backup.wanted, "in place")
    sparse = os.stat(os.path.join(backup.data, "sparse"))
    expect(sparse.st_blocks * 512 < 1 << 20, f"holes are kept: {sparse.st_blocks} blocks")
    before, after = event(world, "pre_restore")["restore"][0], event(world, "post_restore")["restore"][0]
    expect(before["backup_metadata"] == "m1" and before["stamp"] == "s1", f"what was noted: {before}")
    expect(before["options"] == "gently" and before["status"] == 0, f"what is asked: {before}")
    expect(after["status"] == ALL and after["restore_metadata"] == "r1", f"what was done: {after}")
    expect(event(world, "pre_restore")["session"] == event(world, "post_restore")["session"], "one session")
    backup.end()


# vss: IVssBackupComponents.AddNewTarget rule.new-target VSS_BS.WRITER_SUPPORTS_NEW_TARGET
def elsewhere(world):
    backup = Backup(world, "--schema", NEW_TARGET)
    target = world.path("elsewhere")
    report = backup.restore("--to", target)
    expect(report["components"][0]["with_writer"], "the writer takes part")
    same(tree(target + backup.data), backup.wanted, "below --to")
    same(tree(backup.data), backup.wanted, "its own place is as it was")
    expect(event(world, "post_restore")["restore"][0]["new_targets"] == 1, "the writer knows the place")
    refused = backup.restore("--to", target, status=EXIT_REFUSED)
    expect("already" in refused["error"]["context"], f"nothing is overwritten unasked: {refused}")
    write(os.path.join(target + backup.data, "one"), b"old")
    backup.restore("--to", target, "--replace")
    same(tree(target + backup.data), backup.wanted, "replaced")
    mapped = world.path("mapped")
    backup.restore("--map", f"{backup.data}={mapped}")
    same(tree(mapped), backup.wanted, "below --map")
    refused = backup.restore("--map", f"/no/such/place={mapped}", status=EXIT_REFUSED)
    expect("no new place" in refused["error"]["context"], f"what no map covers: {refused}")
    backup.end()


def without_its_writer(world):
    """A writer that cannot help is not in the way of copying elsewhere, and is of copying in place."""
    backup = Backup(world)
    report = backup.restore("--to", world.path("private"))
    expect(not report["components"][0]["with_writer"], "it does not support other places")
    expect(report["notes"], "and that is said")
    same(tree(world.path("private") + backup.data), backup.wanted, "a private restore")
    world.stop(backup.writer)
    damage(backup.data)
    refused = backup.restore("--in-place", status=EXIT_NOT_FOUND)
    expect("not running" in refused["error"]["context"], f"{refused}")
    expect(os.path.getsize(os.path.join(backup.data, "one")) == 7, "nothing was written")
    backup.restore("--in-place", "--no-writers")
    same(tree(backup.data), backup.wanted, "in place without it")
    backup.end()


def from_another_place(world):
    """--from reads what a backup program copied away; --from-shadow another copy of the volume."""
    backup = Backup(world)
    copied = world.path("repository")
    backup.restore("--to", copied)
    write(os.path.join(backup.data, "one"), b"newer")
    newer = world.umbra("create", "shadow", backup.mount)["snapshots"][0]["snapshot_id"]
    world.umbra("delete", "shadows", backup.set["snapshots"][0]["snapshot_id"])
    gone = backup.restore("--in-place", status=EXIT_NOT_FOUND)
    expect(backup.set["snapshots"][0]["snapshot_id"] in gone["error"]["context"], f"{gone}")
    damage(backup.data)
    backup.restore("--in-place", "--from-shadow", newer)
    with open(os.path.join(backup.data, "one"), "rb") as file:
        expect(file.read() == b"newer", "from the newer copy")
    backup.restore("--in-place", "--from", copied)
    same(tree(backup.data), backup.wanted, "from the repository")
    backup.end()


def refused_by_the_writer(world):
    backup = Backup(world, "--at", "pre_restore=message:because", "--at", "pre_restore=veto:nonretryable")
    other = os.path.join(backup.mount, "other")
    os.makedirs(other)
    damage(backup.data)
    before = tree(backup.data)
    refused = backup.restore("--in-place", status=EXIT_WRITER_FAILED)
    expect("data" in refused["error"]["context"] and "vetoed" in refused["error"]["context"], f"{refused}")
    expect(refused["components"][0]["status"] == "none", f"{refused}")
    expect(refused["components"][0]["pre_restore_failure"] == "because", f"{refused}")
    same(tree(backup.data), before, "nothing was written")
    expect(event(world, "post_restore") is None, "no PostRestore after a refusal")
    backup.end()


def one_refuses_the_other_comes_back(world):
    backup = Backup(world)
    second = os.path.join(backup.mount, "second")
    os.makedirs(second)
    write(os.path.join(second, "file"), b"2")
    start_writer(world, second, "--class-id", "0c4a1d6e-9d2b-4a8e-8a55-3a4b5c6d7e8f", "--at",
                 "pre_restore=veto", name="second")  # fmt: skip
    world.umbra("create", "shadow", backup.mount, "--documents", backup.bundle)
    damage(backup.data)
    before = tree(backup.data)
    backup.restore("--in-place", status=EXIT_WRITER_FAILED)
    same(tree(backup.data), before, "all or nothing")
    expect(event(world, "post_restore")["restore"][0]["status"] == NONE, "and the other one is told")
    backup.restore("--in-place", "--component", "data:data")
    same(tree(backup.data), backup.wanted, "only that one")
    expect(event(world, "pre_restore", "second") is not None, "asked the first time only")
    expect(len([e for e in events(world, "second") if e["event"] == "pre_restore"]) == 1, "once")
    backup.end()


def post_restore_fails(world):
    backup = Backup(world, "--at", "post_restore=message:corrupt", "--at", "post_restore=veto")
    damage(backup.data)
    failed = backup.restore("--in-place", status=EXIT_WRITER_FAILED)
    expect("post_restore" in failed["error"]["context"], f"{failed}")
    expect(failed["components"][0]["post_restore_failure"] == "corrupt", f"{failed}")
    same(tree(backup.data), backup.wanted, "the files are there")
    backup.end()


def writer_dies(world):
    """At PreRestore: nothing is written. At PostRestore: the files are there, and it is said."""
    backup = Backup(world, "--at", "pre_restore=die")
    damage(backup.data)
    before = tree(backup.data)
    failed = backup.restore("--in-place", status=EXIT_WRITER_FAILED)
    expect("VSS_E_WRITER_NOT_RESPONDING" == failed["error"]["name"], f"{failed}")
    same(tree(backup.data), before, "nothing was written")
    start_writer(world, backup.data, "--at", "post_restore=die")
    failed = backup.restore("--in-place", status=EXIT_WRITER_FAILED)
    expect("VSS_E_WRITER_NOT_RESPONDING" == failed["error"]["name"], f"{failed}")
    same(tree(backup.data), backup.wanted, "the files are there")
    world.umbra("status")
    backup.end()


def requester_dies(world):
    """Between PreRestore and PostRestore: umbrad tells the writer, and the session is gone."""
    backup = Backup(world, "--at", "pre_restore=delay:1000")
    damage(backup.data)
    before = tree(backup.data)
    requester = subprocess.Popen(
        [world.binary("umbra"), "--run-dir", world.run_dir, "restore", backup.bundle, "--in-place"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    world.processes.append(requester)
    wait_until(lambda: event(world, "pre_restore"), "PreRestore came")
    requester.send_signal(signal.SIGKILL)
    requester.wait(20)
    wait_until(lambda: event(world, "post_restore"), "umbrad sends PostRestore itself")
    wrong = event(world, "post_restore")["restore"][0]["status"]
    expect(wrong == NONE, f"nothing had been written: {wrong}")
    same(tree(backup.data), before, "nothing was written")
    wait_until(lambda: world.umbra("status")["sessions"] == 0, "the session is gone")
    for snapshot in world.umbra("list", "shadows")["snapshots"]:  # What it mounted has outlived it.
        if snapshot["exposed_path"]:
            world.umbra("unmount", snapshot["snapshot_id"])
    backup.restore("--in-place")
    same(tree(backup.data), backup.wanted, "the next one works")
    backup.end()


def interrupted(world):
    """Ctrl-C in a restore: nothing is written, and the writer comes back."""
    backup = Backup(world, "--at", "pre_restore=delay:1000")
    damage(backup.data)
    before = tree(backup.data)
    requester = subprocess.Popen(
        [world.binary("umbra"), "--run-dir", world.run_dir, "restore", backup.bundle, "--in-place"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    world.processes.append(requester)
    wait_until(lambda: event(world, "pre_restore"), "PreRestore came")
    requester.send_signal(signal.SIGINT)
    expect(requester.wait(30) == EXIT_INTERRUPTED, f"exit {requester.returncode}")
    same(tree(backup.data), before, "nothing was written")
    expect(event(world, "post_restore")["restore"][0]["status"] == NONE, "the writer knows")
    backup.end()


def umbrad_dies(world):
    """The writer's SDK brings it back by itself; the requester writes nothing over it."""
    backup = Backup(world, "--at", "pre_restore=delay:1500")
    damage(backup.data)
    before = tree(backup.data)
    requester = subprocess.Popen(
        [world.binary("umbra"), "--run-dir", world.run_dir, "restore", backup.bundle, "--in-place"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    world.processes.append(requester)
    wait_until(lambda: event(world, "pre_restore"), "PreRestore came")
    umbrad = world.processes[0]
    umbrad.send_signal(signal.SIGKILL)
    umbrad.wait(20)
    expect(requester.wait(60) == 10, f"the requester says so: {requester.stderr.read()}")
    wait_until(lambda: event(world, "post_restore"), "PostRestore by the SDK")
    expect(event(world, "post_restore")["restore"][0]["status"] == 0, "nobody can say how it ended")
    same(tree(backup.data), before, "nothing was written")
    world.processes.remove(umbrad)
    world.start_umbrad()
    wait_until(world.provider_connected, "umbra-cowd is back")
    wait_until(lambda: world.umbra("list", "writers")["writers"], "the writer is back")
    for snapshot in world.umbra("list", "shadows")["snapshots"]:
        if snapshot["exposed_path"]:
            world.umbra("unmount", snapshot["snapshot_id"])
    backup.restore("--in-place")
    same(tree(backup.data), backup.wanted, "the next one works")
    backup.end()


def no_room(world):
    """A target that is too small: nothing is left there, and the writer hears that nothing was done."""
    backup = Backup(world, "--schema", NEW_TARGET)
    small = world.path("mnt", "small")
    os.makedirs(small)
    # Too few inodes for the directories on the way: found out in the middle of copying.
    harness.run_command("mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=9", "none", small)
    world.at_end(lambda: harness.run_command("umount", small, check=False))
    write(os.path.join(small, "ballast"), b"")
    for words in ("No space left", "no room"):
        failed = backup.restore("--to", small, status=EXIT_FAILED)
        expect(words in failed["error"]["context"], f"{failed}")
        expect(os.listdir(small) == ["ballast"], f"left: {os.listdir(small)}")
        expect(event(world, "post_restore")["restore"][0]["status"] == NONE, "the writer knows")
        write(os.path.join(small, "ballast"), b"x" * (900 << 10))
    harness.run_command("umount", small)
    backup.end()


# vss: rule.restore-method-decision VSS_RME.RESTORE_IF_NOT_THERE VSS_RME.RESTORE_IF_CAN_REPLACE
# vss: VSS_RME.CUSTOM VSS_RT.ORIGINAL_LOCATION IVssBackupComponents.AddAlternativeLocationMapping
def rules_of_places(world):
    """Restore methods and targets: not there, alternate location, original location, custom."""
    alternate = world.path("alternate")
    backup = Backup(world, "--restore-method", "1", "--alternate", alternate)
    backup.restore("--in-place")  # Files are there: all go to the alternate location.
    same(tree(alternate), backup.wanted, "the alternate location")
    expect(event(world, "post_restore")["restore"][0]["alternate_locations"] == 1, "and it is reported")
    world.stop(backup.writer)
    writer = start_writer(world, backup.data, "--at", "pre_restore=target:original-location")
    damage(backup.data)
    backup.restore("--in-place")
    same(tree(backup.data), backup.wanted, "where the writer says")
    world.stop(writer)
    world.umbra("delete", "shadows", "--all")
    writer = start_writer(world, backup.data, "--restore-method", "7")
    world.umbra("create", "shadow", backup.mount, "--documents", backup.bundle)
    damage(backup.data)
    refused = backup.restore("--in-place", status=EXIT_REFUSED)
    expect("rules" in refused["error"]["context"], f"{refused}")
    backup.restore("--in-place", "--replace")
    same(tree(backup.data), backup.wanted, "when it is said")
    backup.end()


# vss: VSS_WRE.NEVER VSS_WRE.IF_REPLACE_FAILS
def if_replace_fails_needs_no_end(world):
    """Such a writer hears of PreRestore, and of PostRestore only if something had to be moved."""
    backup = Backup(world, "--writer-restore", "2")
    damage(backup.data)
    backup.restore("--in-place")
    same(tree(backup.data), backup.wanted, "in place")
    expect(event(world, "pre_restore") and not event(world, "post_restore"), "nothing was moved")
    world.stop(backup.writer)
    os.unlink(world.path("data.events"))
    never = start_writer(world, backup.data, "--writer-restore", "1")
    world.umbra("create", "shadow", backup.mount, "--documents", backup.bundle)
    damage(backup.data)
    expect(not backup.restore("--in-place")["components"][0]["with_writer"], "wants no part in it")
    same(tree(backup.data), backup.wanted, "in place")
    expect(event(world, "pre_restore") is None, "and hears nothing")
    expect(never.poll() is None, "it lives")
    backup.end()


def files_of_a_backup(world):
    """`list files` tells what the copy has, from the copy, whatever became of the volume since."""
    backup = Backup(world)
    damage(backup.data)
    write(os.path.join(backup.data, "made later"), b"not in the copy")

    def listed(*arguments):
        out = world.umbra_raw("list", "files", backup.bundle, "--json", *arguments).stdout
        lines = [json.loads(line) for line in out.splitlines()]
        return lines[:-1], lines[-1]["summary"]

    files, summary = listed()
    found = {os.path.relpath(f["path"], backup.data): f for f in files}
    found.pop(".")
    expect(found.keys() == backup.wanted.keys(), f"what the copy has: {sorted(found)}")
    for name, file in found.items():
        content = backup.wanted[name].get("content")
        expect(content is None or file["bytes"] == len(content), f"{name}: {file}")
        expect(file["component"] == "data", f"{name}: {file}")
    expect(summary["files"] == sum(f["kind"] != "directory" for f in files), f"{summary}")
    expect(found["link"]["kind"] == "link" and found["pipe"]["kind"] == "other", "kinds")
    copied = world.path("repository")
    backup.restore("--to", copied)
    again, _ = listed("--from", copied, "--component", "data:data")
    expect([f["path"] for f in again] == [f["path"] for f in files], "the same, from another place")
    two = next(f for f in again if f["path"].endswith("/two"))
    with open(two["source"], "rb") as file:
        expect(file.read() == backup.wanted["sub/two"]["content"], "the source can be read")
    write(world.path("list"), b"[nobody]\n" + backup.data.encode() + b"/t* /s\n")
    fewer, _ = listed("--not-to-backup", world.path("list"))
    names = {os.path.relpath(f["path"], backup.data) for f in fewer}
    expect(found.keys() - names == {"sub/two"}, f"what is never backed up: {names}")
    missing = world.umbra_raw("list", "files", backup.bundle, "--component", "data:x", check=False)
    expect(missing.returncode == EXIT_NOT_FOUND, f"no such component: {missing.returncode}")
    backup.end()


# vss: config.FilesNotToBackup config.FilesNotToSnapshot
def left_out_by_configuration(world):
    """What umbrad's configuration does not want backed up is in the copy, and in no list of files."""
    data = world.path("mnt", "vol", "app", "data")
    config = world.path("umbrad.toml")
    with open(config, "w", encoding="utf-8") as file:
        file.write(f'[files_not_to_backup]\nNobody = ["{data}/two /s"]\nData = ["{data}/* /s"]\n')
        file.write(f'[files_not_to_snapshot]\nOther = ["{data}/link"]\n')
    backup = Backup(world, umbrad=("--config", config))
    out = world.umbra_raw("list", "files", backup.bundle, "--json").stdout
    names = {os.path.relpath(json.loads(line)["path"], data) for line in out.splitlines()[:-1]}
    expect(set(backup.wanted) - names == {"sub/two", "link"}, f"a writer knows better than Data: {names}")
    backup.end()


def wrong_calls(world):
    backup = Backup(world)
    backup.restore("--in-place", "--component", "data:nothing", status=EXIT_NOT_FOUND)
    for arguments in ([], ["--in-place", "--to", "/x"], ["--map", "a=b"], ["--from-shadow", "x", "--in-place"]):
        done = world.umbra_raw("restore", backup.bundle, *arguments, check=False)
        expect(done.returncode == 2, f"{arguments}: exit {done.returncode}")
    with open(backup.bundle, "r+b") as bundle:
        bundle.truncate(os.path.getsize(backup.bundle) // 2)
    backup.restore("--in-place", status=EXIT_REFUSED)
    os.unlink(backup.bundle)
    backup.restore("--in-place", status=EXIT_NOT_FOUND)
    backup.end()


CASES = {
    case.__name__: case
    for case in (
        in_place, elsewhere, without_its_writer, from_another_place, refused_by_the_writer,
        one_refuses_the_other_comes_back, post_restore_fails, writer_dies, requester_dies, interrupted, umbrad_dies,
        no_room, rules_of_places, if_replace_fails_needs_no_end, files_of_a_backup,
        left_out_by_configuration, wrong_calls,
    )
}  # fmt: skip

if __name__ == "__main__":
    sys.exit(harness.run(CASES))
