# SPDX-License-Identifier: Apache-2.0
"""umbra-writer-sqlite with the real daemons: good copies under load, clear refusals, and databases
that go on whoever dies."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys

import harness
from harness import expect, require_fuse_and_loop, wait_until

DRILL_HOLD_MS = 3000  # The hold is stretched so that there is time to kill somebody in it.
EXIT_WRITER_FAILED = 15
EXIT_IN_PART = 3


class Load:
    """umbra-ledger on one database."""

    def __init__(self, world, database, *arguments):
        self.world = world
        self.database = database
        self.process = subprocess.Popen(
            [world.binary("umbra-ledger"), "run", database, "--until-stdin-closes", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        world.processes.append(self.process)
        wait_until(lambda: self.count()["acknowledged"] >= 50, "the load gets on")

    def count(self):
        self.process.stdin.write("count\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        expect(not answer["failed"], f"the load failed: {answer}")
        return answer

    def acknowledged(self):
        return self.count()["acknowledged"]

    def gets_on(self):
        before = self.acknowledged()
        wait_until(lambda: self.acknowledged() > before + 10, "transactions go on", limit_s=20)

    def stop(self):
        self.process.stdin.close()
        expect(self.process.wait(30) == 0, "the load failed")


def check_copy(world, file, at_least, at_most):
    done = harness.run_command(
        world.binary("umbra-ledger"), "check", file, "--commits-min", at_least, "--commits-max", at_most,
        check=False,
    )  # fmt: skip
    expect(done.returncode == 0, f"{file}: {done.stdout} {done.stderr}")


def start_writer(world, *arguments):
    process = world.start(world.binary("umbra-writer-sqlite"), "--run-dir", world.run_dir, *arguments)
    wait_until(lambda: writers(world), "the writer is registered")
    return process


def writers(world):
    return world.umbra("list", "writers")["writers"]


def start_world(world, *cowd_arguments):
    require_fuse_and_loop()
    harness.require_programs("mkfs.ext4")
    world.start_umbrad()
    world.start_cowd(*cowd_arguments)
    volume = world.attach("db", 256)
    return world.mkfs_and_mount(volume["device_path"], "db")


def end_world(world, directory):
    harness.run_command("umount", directory)
    world.umbra("detach", "db")
    for process in reversed([p for p in world.processes if p.poll() is None]):
        expect(world.stop(process) == 0, f"{process.args[0]} ended badly")
    world.assert_clean()


def create_in_background(world, directory):
    return subprocess.Popen(
        [world.binary("umbra"), "--run-dir", world.run_dir, "create", "shadow", directory, "--json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until_held(database):
    """Until nobody can write to the database."""

    def is_held():
        with contextlib.closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as other:
            try:
                other.execute("BEGIN IMMEDIATE")
                other.execute("ROLLBACK")
                return False
            except sqlite3.OperationalError:
                return True

    wait_until(is_held, "the database is held", limit_s=20)


def make_database(file):
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE note(text)")
        connection.commit()


def insert(file, timeout_s):
    with contextlib.closing(sqlite3.connect(file, timeout=timeout_s)) as connection:
        connection.execute("INSERT INTO note VALUES('x')")
        connection.commit()


def copies_are_good_under_load(world):
    """Two databases, both journal kinds, several threads: every copy is whole and new enough."""
    directory = start_world(world)
    loads = [
        Load(world, os.path.join(directory, "wal.db"), "--threads", "3"),
        Load(world, os.path.join(directory, "rollback.db"), "--threads", "2", "--journal", "delete"),
    ]
    start_writer(world, *(load.database for load in loads))
    for _ in range(4):
        before = [load.acknowledged() for load in loads]
        made = world.umbra("create", "shadow", directory)
        after = [load.acknowledged() for load in loads]
        expect(len(made["components"]) == 2, f"components: {made['components']}")
        (snapshot,) = made["snapshots"]
        mounted = world.umbra("mount", snapshot["snapshot_id"])["path"]
        for load, at_least, at_most in zip(loads, before, after):
            load.gets_on()
            check_copy(world, os.path.join(mounted, os.path.basename(load.database)), at_least, at_most)
        world.umbra("unmount", snapshot["snapshot_id"])
        world.umbra("delete", "shadows", snapshot["snapshot_id"])
    for load in loads:
        load.stop()
    end_world(world, directory)


def a_busy_database_is_a_veto_that_names_it(world):
    directory = start_world(world)
    database = os.path.join(directory, "orders.db")
    make_database(database)
    start_writer(world, "--lock-wait-ms", "300", database)
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as application:
        application.execute("BEGIN IMMEDIATE")
        failed = world.umbra_raw("create", "shadow", directory, "--json", check=False)
        expect(failed.returncode == EXIT_WRITER_FAILED, f"exit {failed.returncode}: {failed.stderr}")
        expect("orders.db" in failed.stderr, f"the database is not named: {failed.stderr}")
        expect("WRITERERROR_RETRYABLE" in failed.stderr, f"not retryable: {failed.stderr}")
        application.execute("COMMIT")
    expect(world.umbra("list", "shadows")["snapshots"] == [], "a vetoed set left a copy")
    insert(database, timeout_s=0)
    made = world.umbra("create", "shadow", directory)
    insert(database, timeout_s=0)
    world.umbra("delete", "shadows", made["snapshots"][0]["snapshot_id"])
    end_world(world, directory)


def a_missing_database_fails_the_writer_not_the_others(world):
    directory = start_world(world)
    start_writer(world, os.path.join(directory, "gone.db"))
    failed = world.umbra_raw("create", "shadow", directory, "--json", check=False)
    expect(failed.returncode == EXIT_WRITER_FAILED, f"exit {failed.returncode}: {failed.stderr}")
    expect("gone.db" in failed.stderr, f"the database is not named: {failed.stderr}")
    expect("WRITERERROR_NONRETRYABLE" in failed.stderr, f"not final: {failed.stderr}")
    # VSS's own policy: the copy is made, and the status says what is wrong with it.
    made = world.umbra_raw("create", "shadow", directory, "--writers", "none", "--json", check=False)
    expect(made.returncode == EXIT_IN_PART, f"exit {made.returncode}: {made.stderr}")
    expect("gone.db" in made.stdout, f"the database is not named: {made.stdout}")
    world.umbra("delete", "shadows", "--all")
    end_world(world, directory)


def a_database_on_another_volume_is_left_alone(world):
    directory = start_world(world)
    elsewhere = world.path("elsewhere.db")
    make_database(elsewhere)
    start_writer(world, elsewhere)
    with contextlib.closing(sqlite3.connect(elsewhere, isolation_level=None)) as application:
        application.execute("BEGIN IMMEDIATE")  # Would be a veto.
        made = world.umbra("create", "shadow", directory)
        application.execute("COMMIT")
    expect(made["components"] == [], f"components: {made['components']}")
    world.umbra("delete", "shadows", "--all")
    end_world(world, directory)


def restored_in_place_and_elsewhere(world):
    """A copy made under load comes back elsewhere at once, and in place when the application is gone."""
    directory = start_world(world)
    database = os.path.join(directory, "wal.db")
    load = Load(world, database, "--threads", "2")
    start_writer(world, database)
    before = load.acknowledged()
    bundle = world.path("documents.umbra.xml")
    world.umbra("create", "shadow", directory, "--documents", bundle)
    after = load.acknowledged()
    load.gets_on()
    refused = world.umbra_raw("restore", bundle, "--in-place", "--json", check=False)
    expect(refused.returncode == EXIT_WRITER_FAILED, f"exit {refused.returncode}: {refused.stderr}")
    expect("has it open" in refused.stderr, f"the reason is not told: {refused.stderr}")
    load.gets_on()
    world.umbra("restore", bundle, "--to", world.path("elsewhere"))
    elsewhere = world.path("elsewhere") + database
    check_copy(world, elsewhere, before, after)
    load.gets_on()
    shutil.copy(database + "-wal", world.path("newer-wal"))
    load.stop()
    # Replayed into the restored file it would destroy it.
    shutil.copy(world.path("newer-wal"), database + "-wal")
    restored = world.umbra("restore", bundle, "--in-place")
    expect(restored["components"][0]["with_writer"], f"the writer takes part: {restored}")
    check_copy(world, database, before, after)
    left = [name for name in os.listdir(directory) if name != "lost+found" and "before-restore" in name]
    expect(not left, f"left: {left}")
    insert_into = contextlib.closing(sqlite3.connect(database))
    with insert_into as connection:
        connection.execute("CREATE TABLE usable(x)")
    # What was copied away is damaged: the writer finds out.
    with open(elsewhere, "r+b") as file:
        file.seek(os.path.getsize(elsewhere) // 2)
        file.write(b"z" * 4096)
    damaged = world.umbra_raw(
        "restore", bundle, "--in-place", "--from", world.path("elsewhere"), "--json", check=False
    )
    expect(damaged.returncode == EXIT_WRITER_FAILED, f"exit {damaged.returncode}: {damaged.stderr}")
    expect("not usable" in damaged.stderr, f"the damage is not told: {damaged.stderr}")
    world.umbra("delete", "shadows", "--all")
    end_world(world, directory)


def killing(victim):
    """A case: `victim` dies with kill -9 while the database is held."""

    def case(world):
        directory = start_world(world, "--drill-hold-ms", str(DRILL_HOLD_MS))
        database = os.path.join(directory, "orders.db")
        make_database(database)
        writer = start_writer(world, database)
        creation = create_in_background(world, directory)
        world.processes.append(creation)
        wait_until_held(database)
        process = {"umbrad": world.processes[0], "writer": writer, "requester": creation}[victim]
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
        # The lease is the longest the file system may stay frozen; then writing works at once.
        insert(database, timeout_s=20)
        if victim != "requester":
            _, text = creation.communicate(timeout=60)
            expect(creation.returncode != 0, "the creation did not notice")
            expect(text.strip(), "the creation failed without a word")
        if victim == "umbrad":
            world.start_umbrad()
            wait_until(world.provider_connected, "umbra-cowd came back")
        if victim == "writer":
            start_writer(world, database)
        wait_until(lambda: len(writers(world)) == 1, "one writer is registered", limit_s=30)
        wait_until(lambda: is_slot_free(world), "the creation slot is free", limit_s=30)
        expect(world.umbra("list", "shadows")["snapshots"] == [], "half a set is listed")
        world.umbra("create", "shadow", directory)
        insert(database, timeout_s=0)
        world.umbra("delete", "shadows", "--all")
        end_world(world, directory)

    return case


def is_slot_free(world):
    return world.umbra("status")["set_in_progress"] is None


CASES = {
    "copies_are_good_under_load": copies_are_good_under_load,
    "a_busy_database_is_a_veto_that_names_it": a_busy_database_is_a_veto_that_names_it,
    "a_missing_database_fails_the_writer_not_the_others": a_missing_database_fails_the_writer_not_the_others,
    "a_database_on_another_volume_is_left_alone": a_database_on_another_volume_is_left_alone,
    "restored_in_place_and_elsewhere": restored_in_place_and_elsewhere,
    "umbrad_killed_while_held": killing("umbrad"),
    "writer_killed_while_held": killing("writer"),
    "requester_killed_while_held": killing("requester"),
}

if __name__ == "__main__":
    sys.exit(harness.run(CASES))
