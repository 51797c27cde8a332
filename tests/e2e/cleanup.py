# SPDX-License-Identifier: Apache-2.0
"""umbra cleanup: what killed daemons left goes, what lives and what is somebody else's stays."""

import json
import os
import signal
import subprocess
import sys
import threading

import harness
from cowd import attach, kill_everything, read_file, start, stop_clean, write_file
from harness import (
    expect,
    is_frozen,
    loop_devices,
    mounts,
    process_state,
    require_fuse_and_loop,
    run_command,
    wait_until,
)

LEFT = 3


def cleanup(world, *arguments, status=0):
    done = run_command(
        world.binary("umbra-cleanup"), "--run-dir", world.run_dir, "--json", *arguments, check=False
    )
    expect(done.returncode == status, f"cleanup {arguments}: {done.returncode}: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def leftovers(world):
    """All that a cleanup might change."""
    found = sorted(directory for _, directory in mounts() if directory.startswith(world.top))
    found += sorted(f"{device} {file}" for file, device in loop_devices().items() if file.startswith(world.top))
    for name in ("mnt", "frozen"):
        directory = f"{world.run_dir}/{name}"
        if os.path.isdir(directory):
            found += sorted(f"{directory}/{entry}" for entry in os.listdir(directory))
    return found


def killed_in_the_middle(world):
    """kill -9 of everything at any moment of mounting and unmounting: cleanup leaves nothing but what
    somebody else has mounted, and says so; a dry run changes nothing."""
    require_fuse_and_loop()
    directory = None
    for _ in range(3):
        coordinator, guardian = start(world)
        if directory is None:
            volume = attach(world, coordinator, "data")
            run_command("mkfs.ext4", "-q", volume["device_path"])
            copies = [coordinator.snapshot("data")[0]["snapshot_id"] for _ in range(2)]
        directory = world.path("live")
        os.makedirs(directory, exist_ok=True)
        run_command("mount", coordinator.volumes()["data"]["device_path"], directory)
        write_file(f"{directory}/file", b"one")

        def play(coordinator=coordinator):
            try:
                while True:
                    for copy, write in zip(copies, (False, True)):
                        coordinator.mount(copy, write=write)
                    for copy in copies:
                        coordinator.unmount(copy)
            except Exception:  # The end of the connection.
                pass

        threading.Thread(target=play, daemon=True).start()
        moment = world.random.randrange(1, 200)
        steps = iter(range(moment))
        wait_until(lambda: next(steps, None) is None, "the moment comes")
        kill_everything(world, guardian)
        coordinator.close()

        planned = cleanup(world, "--dry-run", status=LEFT)  # Outlives the helpers.
        expect(planned["dry_run"] and planned["running"] is None, f"{planned}")
        before = leftovers(world)
        again = cleanup(world, "--dry-run", status=LEFT)
        expect(again == planned, f"planned {planned}, then {again}")
        expect(leftovers(world) == before, "a dry run has changed something")
        done = cleanup(world, status=LEFT)
        expect(done["removed"] == planned["removed"], f"planned {planned}, done {done}")
        expect(directory in [left["path"] for left in done["left"]], f"{done['left']}")
        expect(directory in leftovers(world), "somebody else's mount was taken away")
        run_command("umount", directory)
        wait_until(lambda: leftovers(world) == [], f"still there: {leftovers(world)}")
        expect(cleanup(world) == {"dry_run": False, "removed": [], "left": [], "running": None}, "not clean")
    world.assert_clean()


def alive_is_left_alone(world):
    require_fuse_and_loop()
    coordinator, guardian = start(world)
    volume = attach(world, coordinator, "data")
    directory = world.mkfs_and_mount(volume["device_path"], "data")
    write_file(f"{directory}/file", b"one")
    (snapshot,) = coordinator.snapshot("data")
    mounted = coordinator.mount(snapshot["snapshot_id"])["path"]
    before = leftovers(world)
    for arguments in ((), ("--dry-run",), ("--dry-run", "--force")):
        done = cleanup(world, *arguments)
        expect(done["running"] == world.cowd_pid(), f"{done}")
        expect("--force" in arguments or done["removed"] == [], f"{done}")
        expect(leftovers(world) == before, f"cleanup {arguments} has changed something")
    expect(read_file(f"{directory}/file") == read_file(f"{mounted}/file"), "a mount is dead")

    os.kill(guardian.pid, signal.SIGKILL)  # umbra-cowd alone is enough to be alive.
    guardian.wait(20)
    expect(cleanup(world)["removed"] == [], "what lives was removed")
    write_file(f"{directory}/file", b"two")
    expect(read_file(f"{directory}/file") == b"two", "the volume is dead")
    run_command("umount", directory)
    coordinator.unmount(snapshot["snapshot_id"])


def frozen_by_the_dead(world):
    """All three processes of a freeze are killed in the hold: cleanup thaws by the record."""
    require_fuse_and_loop()
    coordinator, guardian = start(world, "--drill-hold-ms", "5000")
    volume = attach(world, coordinator, "data")
    directory = world.mkfs_and_mount(volume["device_path"], "data")

    def play():
        try:
            coordinator.snapshot("data")
        except Exception:  # The end of the connection.
            pass

    threading.Thread(target=play, daemon=True).start()
    frozen = f"{world.run_dir}/frozen"
    wait_until(lambda: os.path.isdir(frozen) and os.listdir(frozen), "the freeze is recorded")
    wait_until(lambda: is_frozen(directory), "it is frozen")
    for pid in world.pids():
        if pid != os.getpid():
            os.kill(pid, signal.SIGSTOP)  # The holder would thaw when the others die.
    wait_until(lambda: all(harness.is_stopped(pid) for pid in world.pids() if pid != os.getpid()), "all stopped")
    for pid in world.pids():
        if pid != os.getpid():
            os.kill(pid, signal.SIGKILL)
    guardian.wait(20)
    wait_until(lambda: not any(harness.is_alive(p) for p in world.pids() if p != os.getpid()), "all dead")
    expect(os.listdir(frozen) != [], "there is no record")
    done = cleanup(world, status=LEFT)  # The volume is somebody's mount.
    expect("record of a freeze" in [one["what"] for one in done["removed"]], f"{done}")
    expect(os.listdir(frozen) == [], "the record is still there")
    expect(not is_frozen(directory), "it is frozen")
    run_command("umount", directory)
    world.assert_clean()


def hung_is_ended_by_force(world):
    """A stopped umbra-cowd, a reader that waits for it: --force ends both, and nothing is left."""
    require_fuse_and_loop()
    coordinator, guardian = start(world)
    volume = attach(world, coordinator, "data")
    directory = world.mkfs_and_mount(volume["device_path"], "data")
    write_file(f"{directory}/file", b"one" * 100_000)
    run_command("sync", "-f", directory)
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as drop:
        drop.write("3")
    hung = (world.cowd_pid(), world.guardian_pid())
    for pid in hung:
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: all(harness.is_stopped(pid) for pid in hung), "all of their threads stand still")
    reader = subprocess.Popen(["cat", f"{directory}/file"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_until(lambda: process_state(reader.pid) == "D", "the reader waits")
    expect(cleanup(world)["removed"] == [], "what hangs was removed without --force")
    done = cleanup(world, "--force")
    expect(reader.wait(20) != 0, "the reader got something")
    what = [one["what"] for one in done["removed"]]
    expect("umbra-cowd" in what and "FUSE session" in what, f"{done}")
    guardian.wait(20)
    wait_until(lambda: leftovers(world) == [], f"still there: {leftovers(world)}")
    coordinator.close()
    coordinator, guardian = start(world)
    expect(coordinator.volumes()["data"]["state"] == "ok", "the volume cannot be attached again")
    coordinator.detach("data")
    stop_clean(world, guardian)


CASES = {
    case.__name__: case
    for case in (killed_in_the_middle, alive_is_left_alone, frozen_by_the_dead, hung_is_ended_by_force)
}

if __name__ == "__main__":
    sys.exit(harness.run(CASES))
