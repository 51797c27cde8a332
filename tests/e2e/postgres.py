# SPDX-License-Identifier: Apache-2.0
"""umbra-writer-postgresql with the real daemons: copies of clusters on two volumes that a second
server recovers, clear refusals, and clusters that go on whatever happens to a backup.

The writer runs as user postgres, whose only right in umbrad is to be a writer, and with a role in the
clusters that is no superuser.
"""

import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import uuid
import xml.etree.ElementTree

import harness
import pg_cluster
from harness import LONG, expect, require_fuse_and_loop, wait_until
from pg_cluster import Cluster, copy_of, expect_sums_agree
from requester import POLICY_NONE, Requester, is_good, unescaped

EXIT_IN_PART = 3
EXIT_WRITER_FAILED = 15
WRITER = "PostgreSQL Writer"
ROLE = "umbra"
ANSWER_WAIT_MS = 2000


def start_world(world, *names, size_mib=512):
    """The daemons and a mounted volume for each name; returns their directories."""
    require_fuse_and_loop()
    pg_cluster.require_postgres()
    harness.require_programs("mkfs.ext4")
    os.chmod(world.top, 0o711)
    config = world.path("umbrad.toml")
    with open(config, "w", encoding="ascii") as file:
        file.write(f'[roles]\nwriters = "{pwd.getpwnam(pg_cluster.USER).pw_gid}"\n')
    world.start_umbrad("--config", config)
    world.start_cowd()
    return [
        world.mkfs_and_mount(world.attach(name, size_mib)["device_path"], name) for name in names
    ]


def end_world(world, *names):
    """Everything stops in good order and nothing is left."""
    for name in names:
        harness.run_command("umount", world.path("mnt", name))
        world.umbra("detach", name)
    for process in reversed([p for p in world.processes if p.poll() is None]):
        expect(world.stop(process) == 0, f"{process.args[0]} ended badly")
    world.assert_clean()


def make_cluster(world, name, data, wal=None, **settings):
    """Below the two mounts; with the role that docs/writer-postgresql.md tells to make."""
    cluster = Cluster(world, name, os.path.join(data, name), wal and os.path.join(wal, f"{name}-wal"))
    cluster.create(**settings).start()
    cluster.psql(f"CREATE ROLE {ROLE} LOGIN; GRANT pg_monitor, pg_checkpoint TO {ROLE}")
    expect(cluster.psql(f"SELECT rolsuper FROM pg_roles WHERE rolname = '{ROLE}'") == "f", "a superuser")
    return cluster


def address(cluster):
    return f"{cluster.socket_dir}:{cluster.port}"


def start_writer(world, *arguments):
    """As user postgres; waits until it is registered."""
    process = world.start(
        *pg_cluster.as_postgres(
            world.binary("umbra-writer-postgresql"), "--run-dir", world.run_dir, "--user", ROLE,
            "--answer-wait-ms", ANSWER_WAIT_MS, "--log-level", "debug", *arguments,
        ),
        name="writer", cwd="/",
    )  # fmt: skip
    wait_until_registered(world, process)
    return process


def wait_until_registered(world, writer):
    def registered():
        expect(writer.poll() is None, f"the writer ended: {writer_log(world)}")
        return world.umbra("list", "writers")["writers"]

    wait_until(registered, "the writer is registered")


def writer_log(world):
    return world.log_text("writer")


def create(world, *directories, **options):
    return world.umbra_raw("create", "shadow", *directories, "--json", **options)


def mount_copies(world):
    """All there are, read-only: volume's name -> directory."""
    return {
        snapshot["original_volume"]: world.umbra("mount", snapshot["snapshot_id"])["path"]
        for snapshot in world.umbra("list", "shadows")["snapshots"]
    }


def lsn(text):
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def records(session):
    """The backup metadata that the writer left in each component: name -> (key -> value)."""
    found = {}
    for name, element in session.components().items():
        lines = unescaped(element.get("backup-metadata", "")).splitlines()
        found[name] = dict(line.split("=", 1) for line in lines)
    return found


def check_copy(cluster, name, mounted, at_least, at_most, record):
    """A second server recovers a copy of the copy; what it finds is whole and new enough."""
    where = lambda path, volume: os.path.join(mounted[volume], os.path.basename(path))  # noqa: E731
    copy = copy_of(cluster, name, where(cluster.data, "data"), cluster.wal and where(cluster.wal, "wal"))
    expect(copy.control_data()["Database cluster state"] == "in production", "not copied while it ran")
    control = copy.control_data()
    expect(record["system_identifier"] == control["Database system identifier"], f"{record}")
    expect(record["data_checksums"] == "on" and record["checkpoint"] == "done", f"{record}")
    expect(record["data_directory"] == cluster.data and record["wal_directory"] == cluster.wal, f"{record}")
    redo = lsn(control["Latest checkpoint's REDO location"])
    copy.start()
    expect("redo done" in copy.log() or "redo is not required" in copy.log(), "nothing was recovered")
    recovered_to = lsn(copy.psql("SELECT checkpoint_lsn FROM pg_control_checkpoint()"))
    expect_sums_agree(copy.sums(), at_least, at_most)
    expect(copy.psql("SELECT count(*) FROM pg_stat_database WHERE checksum_failures > 0") == "0", "checksums")
    copy.stop()
    noted = [lsn(record[key]) for key in ("redo_lsn", "freeze_flush_lsn", "thaw_insert_lsn")]
    expect(noted[0] <= redo, "recovery starts before the position that was noted")
    expect(noted[1] <= recovered_to, "what was flushed at Freeze is not in the copy")
    done = re.findall("redo done at ([0-9A-F/]+)", copy.log())
    expect(done and redo <= lsn(done[0]) <= noted[2], f"{done} is not between {record}")


# vss: IVssComponent.SetBackupStamp
def copies_recover_under_load(world):
    """Data and WAL on two volumes, pgbench running: every copy of the pair recovers by itself."""
    data, wal = start_world(world, "data", "wal")
    cluster = make_cluster(world, "shop", data, wal)
    cluster.pgbench_init(1)
    start_writer(world, address(cluster))
    load = cluster.pgbench()
    for round_number in range(10 if LONG else 2):
        session = Requester(world)
        session.select(WRITER, address(cluster))
        before = cluster.history()
        done = session.create(data, wal)
        expect(is_good(done), f"{done}")
        after = cluster.history()
        mounted = mount_copies(world)
        load.gets_on()
        record = records(session)[address(cluster)]
        check_copy(cluster, f"copy{round_number}", mounted, before, after, record)
        stamp = session.components()[address(cluster)].get("backup-stamp")
        expect(stamp.startswith(record["system_identifier"] + "/1/"), f"stamp: {stamp}")
        for snapshot in world.umbra("list", "shadows")["snapshots"]:
            world.umbra("unmount", snapshot["snapshot_id"])
        session.close()
        wait_until(lambda: not world.umbra("list", "shadows")["snapshots"], "the copies went")
    load.stop()
    cluster.stop()
    end_world(world, "data", "wal")


def expect_failure(done, code, *words):
    expect(done.returncode == EXIT_WRITER_FAILED, f"exit {done.returncode}: {done.stderr}")
    for word in (code, *words):
        expect(word in done.stderr, f"'{word}' is not in: {done.stderr}")


def a_cluster_that_is_down_fails_alone(world):
    """Two clusters in one writer. One is down: its component fails, which fails the set unless the
    requester wants it all the same; then the other's copy is good. Up again, all is well."""
    (data,) = start_world(world, "data")
    one = make_cluster(world, "one", data)
    two = make_cluster(world, "two", data)
    two.pgbench_init(1)
    start_writer(world, address(one), address(two))
    made = json.loads(create(world, data).stdout)
    expect(len(made["components"]) == 2, f"components: {made['components']}")
    one.stop()
    expect_failure(
        create(world, data, check=False), "PARTIAL_FAILURE", address(one), "cannot be reached", "start it"
    )
    done = create(world, data, "--writers", "none", check=False)
    expect(done.returncode == EXIT_IN_PART, f"exit {done.returncode}: {done.stderr}")
    expect("cannot be reached" in done.stdout, f"not told: {done.stdout}")
    wait_until(lambda: "cannot be asked" in writer_log(world), "the log says that it is down", 30)
    two.stop()
    expect_failure(create(world, data, check=False), "RETRYABLE", address(one), address(two))
    one.start()
    two.start()
    made = json.loads(create(world, data).stdout)
    expect(len(made["components"]) == 2, f"components: {made['components']}")
    for cluster in (one, two):
        cluster.stop()
    world.umbra("delete", "shadows", "--all")
    end_world(world, "data")


# vss: VSS_E_WRITERERROR_INCONSISTENTSNAPSHOT
def a_cluster_partly_outside_is_refused(world):
    """Data in the set, WAL not; the other way round; a tablespace elsewhere. Selected or, in volume
    mode, concerned: refused. Its neighbour, which is whole in the set, is none the worse for it."""
    data, wal = start_world(world, "data", "wal")
    cluster = make_cluster(world, "shop", data, wal)
    whole = make_cluster(world, "whole", data)
    start_writer(world, address(cluster), address(whole))
    for inside, outside in ((data, "the WAL directory"), (wal, "the data directory")):
        session = Requester(world)
        session.select(WRITER, address(cluster))
        expect_refused(session.create(inside), "0x800423F0", address(cluster), outside)
        session.close()
    session = Requester(world, component_mode=False)
    expect_refused(session.create(wal), "0x800423F0", address(cluster), "the data directory")
    session.close()

    session = Requester(world)
    session.select(WRITER, address(cluster))
    session.select(WRITER, address(whole))
    done = session.create(data, policy=POLICY_NONE)
    expect(is_good(done), f"{done}")
    components = session.components()
    failure = components[address(cluster)].find("failure")
    expect("the WAL directory" in failure.get("message"), f"message: {failure.get('message')}")
    expect(components[address(whole)].find("failure") is None, "the sound one failed too")
    expect(records(session)[address(whole)].get("thaw_insert_lsn"), "no metadata of the sound one")
    expect(not components[address(cluster)].get("backup-metadata"), "metadata of the one that failed")
    session.close()

    # What is whole in the set is chosen by itself; a part of a cluster is not, and that is told.
    done = create(world, data, check=False)
    made = json.loads(done.stdout)
    expect([c["name"] for c in made["components"]] == [address(whole)], f"components: {made}")
    expect([c["name"] for c in made["partly_held"]] == [address(cluster)], f"partly: {made}")
    expect(done.returncode == 3, f"exit status {done.returncode} for a part of a cluster")
    elsewhere = world.path("slow")
    os.makedirs(elsewhere)
    pg_cluster.own(elsewhere)
    cluster.psql(f"CREATE TABLESPACE slow LOCATION '{elsewhere}'")
    session = Requester(world)
    session.select(WRITER, address(cluster))
    expect_refused(session.create(data, wal), "0x800423F0", f"tablespace slow in {elsewhere}")
    names = [c.get("name") for c in session.metadata(WRITER).iter("component")]
    expect(any(name.endswith("-slow") for name in names), f"the tablespace is not declared: {names}")
    session.close()
    for each in (cluster, whole):
        each.stop()
    world.umbra("delete", "shadows", "--all")
    end_world(world, "data", "wal")


def expect_refused(status, *words):
    text = json.dumps(status)
    expect(not is_good(status), f"not refused: {text}")
    for word in words:
        expect(word.lower() in text.lower(), f"'{word}' is not in: {text}")


def a_point_in_time_after_the_copy(world):
    """Without backup mode: the server replays the WAL in the copy, then goes on from the archive."""
    (data,) = start_world(world, "data")
    archive = world.path("archive")
    os.makedirs(archive)
    pg_cluster.own(archive)
    cluster = make_cluster(world, "shop", data, archive_mode="on", archive_command=f"'cp %p {archive}/%f'")
    cluster.pgbench_init(1)
    start_writer(world, address(cluster))
    load = cluster.pgbench()
    made = json.loads(create(world, data).stdout)
    load.gets_on(50)
    load.stop()
    # All is at rest between the named point and the rows that must not come back.
    wanted = cluster.sums()
    cluster.psql("SELECT pg_create_restore_point('before the mistake')")
    cluster.psql("TRUNCATE pgbench_history")
    last = cluster.psql("SELECT pg_walfile_name(pg_switch_wal())")
    wait_until(lambda: os.path.exists(os.path.join(archive, last)), "the WAL is archived", 30)
    copy = copy_of(cluster, "copy", os.path.join(mount_copies(world)["data"], "shop"))
    with open(os.path.join(copy.data, "postgresql.auto.conf"), "a", encoding="utf-8") as settings:
        settings.write(f"restore_command = 'cp {archive}/%f %p'\n")
        settings.write("recovery_target_name = 'before the mistake'\nrecovery_target_action = 'promote'\n")
    open(os.path.join(copy.data, "recovery.signal"), "w", encoding="ascii").close()
    pg_cluster.own(os.path.join(copy.data, "recovery.signal"))
    copy.start()
    wait_until(lambda: copy.psql("SELECT pg_is_in_recovery()") == "f", "the copy is promoted", 30)
    expect("recovery stopping at restore point" in copy.log(), "recovery did not stop at the point")
    expect(copy.sums() == wanted, f"{copy.sums()} instead of {wanted}")
    copy.stop()
    cluster.stop()
    world.umbra("unmount", made["snapshots"][0]["snapshot_id"])
    world.umbra("delete", "shadows", "--all")
    end_world(world, "data")


class RestoringUmbrad:
    """Plays umbrad for one writer, as far as a restore goes: its socket, hello, register, events."""

    def __init__(self, world):
        self.path = world.path("restoring.sock")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen(1)
        os.chmod(self.path, 0o666)
        self.writer = world.start(
            *pg_cluster.as_postgres(world.binary("umbra-writer-postgresql"), "--socket", self.path, "/nowhere"),
            name="restoring-writer", cwd="/",
        )  # fmt: skip
        listener.settimeout(harness.DEADLINE_S)
        self.connection, _ = listener.accept()
        listener.close()
        self.connection.settimeout(harness.DEADLINE_S)
        self.stream = self.connection.makefile("rw", encoding="utf-8")
        self._answer("hello", {"major": 1, "minor": 0, "features": [], "program": "case", "roles": ["writer"]})
        self._answer("writer.register", {"instance_id": str(uuid.UUID(int=1))})

    def _answer(self, method, result):
        call = json.loads(self.stream.readline())
        expect(call["method"] == method, f"{call}")
        self._send({"id": call["id"], "result": result})

    def _send(self, message):
        self.stream.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.stream.flush()

    def tell(self, event, part, **attributes):
        """The writer's answer to a restore event; `attributes`: of the component."""
        for name, value in attributes.items():
            part.find("component").set(name.replace("_", "-"), value)
        session = str(uuid.UUID(int=2))
        text = xml.etree.ElementTree.tostring(part, encoding="unicode")
        params = {"session_id": session, "component_mode": True, "time_limit_ms": 60000, "components": text}
        self._send({"id": 1, "method": f"writer.{event}", "params": params})
        return json.loads(self.stream.readline())["result"]

    def stop(self, world):
        self.stream.close()
        self.connection.close()
        expect(world.stop(self.writer) == 0, "the restoring writer ended badly")


def a_restore_brings_the_cluster_back(world):
    """PreRestore and PostRestore around files that are put back as a requester would do it."""
    data, wal = start_world(world, "data", "wal")
    cluster = make_cluster(world, "shop", data, wal)
    fast = os.path.join(data, "fast")
    os.makedirs(fast)
    pg_cluster.own(fast)
    cluster.pgbench_init(1)
    cluster.psql(f"CREATE TABLESPACE fast LOCATION '{fast}'")
    cluster.psql("CREATE TABLE kept TABLESPACE fast AS SELECT generate_series(1, 1000) AS n")
    start_writer(world, address(cluster))
    session = Requester(world)
    session.select(WRITER, address(cluster))
    done = session.create(data, wal)
    expect(is_good(done), f"{done}")
    part = session.part(WRITER)
    wanted = cluster.sums()
    cluster.psql("DROP TABLE kept; TRUNCATE pgbench_accounts")

    umbrad = RestoringUmbrad(world)
    answer = umbrad.tell("pre_restore", part, selected_for_restore="yes")
    expect(not answer["ok"] and f"pg_ctl stop -D {cluster.data}" in answer["message"], f"{answer}")
    cluster.stop()
    answer = umbrad.tell("pre_restore", part)
    expect(not answer["ok"] and "is not empty" in answer["message"], f"{answer}")
    answer = umbrad.tell("pre_restore", part, restore_options="existing=replace")
    expect(answer["ok"], f"{answer}")
    for directory in (cluster.data, cluster.wal):
        expect(os.listdir(directory) == [".umbra-replaced"], f"{os.listdir(directory)}")

    mounted = mount_copies(world)
    for volume, place in (("data", cluster.data), ("wal", cluster.wal), ("data", fast)):
        source = os.path.join(mounted[volume], os.path.basename(place))
        harness.run_command("cp", "-a", f"{source}/.", place)
    for name in ("notify", "replslot", "subtrans", "dynshmem", "serial", "snapshots", "stat_tmp"):
        shutil.rmtree(os.path.join(cluster.data, f"pg_{name}"))  # A backup holds nothing of these.
    os.unlink(os.path.join(cluster.data, "pg_wal"))
    answer = umbrad.tell("post_restore", part, file_restore_status="all")
    expect(answer["ok"], f"{answer}")
    expect(".umbra-replaced" not in os.listdir(cluster.data), "what was replaced is still there")
    umbrad.stop(world)

    cluster.start()
    expect(cluster.sums() == wanted, f"{cluster.sums()} instead of {wanted}")
    expect(cluster.psql("SELECT sum(n) FROM kept") == "500500", "the tablespace's table differs")
    cluster.stop()
    for snapshot in world.umbra("list", "shadows")["snapshots"]:
        world.umbra("unmount", snapshot["snapshot_id"])
    session.close()
    end_world(world, "data", "wal")


def a_stopped_cluster_is_given_up(world):
    """SIGSTOP of the postmaster, then of every process in the middle of PrepareForSnapshot: the
    writer gives up within its limit, and afterwards no session of it is left in the cluster."""
    (data,) = start_world(world, "data")
    cluster = make_cluster(world, "shop", data)
    start_writer(world, address(cluster), "--checkpoint-wait-ms", "1500")
    create(world, data)
    cluster.process.send_signal(signal.SIGSTOP)
    expect_failure(create(world, data, check=False, limit_s=30), "RETRYABLE", "cannot be reached")
    cluster.process.send_signal(signal.SIGCONT)
    cluster.wait_ready()

    # The checkpoint hangs because the checkpointer does; then the server ends it by itself.
    checkpointer = int(cluster.psql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'"))
    os.kill(checkpointer, signal.SIGSTOP)
    done = create(world, data, check=False, limit_s=30)
    os.kill(checkpointer, signal.SIGCONT)
    expect(done.returncode == 0, f"a slow checkpoint failed the set: {done.stderr}")
    expect("not finished within the time limit" in writer_log(world), "the checkpoint's end is not told")

    # The whole cluster hangs while the writer waits for that checkpoint.
    os.kill(checkpointer, signal.SIGSTOP)
    creation = in_background(world, "create", "shadow", data)
    wait_until(lambda: "CHECKPOINT" in sessions(cluster), "the writer waits for the checkpoint", 20)
    cluster.suspend()
    _, text = creation.communicate(timeout=30)
    cluster.resume()
    expect(creation.returncode == EXIT_WRITER_FAILED, f"exit {creation.returncode}: {text}")
    wait_until(lambda: not sessions(cluster), "no session of the writer is left", 20)
    create(world, data)
    cluster.stop()
    world.umbra("delete", "shadows", "--all")
    end_world(world, "data")


def a_session_lost_before_freeze_is_a_refusal(world):
    """Another writer is slow to prepare; meanwhile an administrator ends the writer's session."""
    (data,) = start_world(world, "data")
    cluster = make_cluster(world, "shop", data)
    start_writer(world, address(cluster))
    slow = world.start(
        world.binary("umbra-test-writer"), "--socket", world.socket(), "--name", "slow",
        "--record", world.path("slow.events"), "--component", f"slow={data}",
        "--at=prepare_for_snapshot=delay:2000",
    )  # fmt: skip
    wait_until(lambda: len(world.umbra("list", "writers")["writers"]) == 2, "both writers are registered")
    creation = in_background(world, "create", "shadow", data)
    wait_until(lambda: "redo_lsn" in sessions(cluster), "the cluster is prepared", 20)
    cluster.psql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'umbra%'"
    )
    _, text = creation.communicate(timeout=30)
    expect(creation.returncode == EXIT_WRITER_FAILED, f"exit {creation.returncode}: {text}")
    expect("RETRYABLE" in text and address(cluster) in text, f"not told: {text}")
    expect(world.umbra("list", "shadows")["snapshots"] == [], "a copy is left")
    expect(world.stop(slow) == 0, "the slow writer ended badly")
    create(world, data)
    cluster.stop()
    world.umbra("delete", "shadows", "--all")
    end_world(world, "data")


def in_background(world, *arguments):
    process = subprocess.Popen(
        [world.binary("umbra"), "--run-dir", world.run_dir, *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    world.processes.append(process)
    return process


def sessions(cluster):
    """What the writer's sessions in the cluster do or did last."""
    return cluster.psql("SELECT query FROM pg_stat_activity WHERE application_name LIKE 'umbra%'")


def a_stopped_writer_blocks_nobody(world):
    """SIGSTOP, then kill -9 of the writer while a set is made: the load goes on throughout."""
    (data,) = start_world(world, "data")
    cluster = make_cluster(world, "shop", data)
    cluster.pgbench_init(1)
    writer = start_writer(world, address(cluster))
    load = cluster.pgbench()
    checkpointer = int(cluster.psql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'"))
    os.kill(checkpointer, signal.SIGSTOP)
    creation = in_background(world, "create", "shadow", data)
    wait_until(lambda: "CHECKPOINT" in sessions(cluster), "the writer is in PrepareForSnapshot", 20)
    writer.send_signal(signal.SIGSTOP)
    os.kill(checkpointer, signal.SIGCONT)
    load.gets_on(50)
    expect_no_locks(cluster)
    writer.kill()
    writer.wait(10)
    _, text = creation.communicate(timeout=60)
    expect(creation.returncode != 0, "the creation did not notice")
    expect(text.strip(), "the creation failed without a word")
    load.gets_on(50)
    wait_until(lambda: not sessions(cluster), "the server ended the dead writer's session", 20)
    start_writer(world, address(cluster))
    create(world, data)
    load.stop()
    cluster.stop()
    world.umbra("delete", "shadows", "--all")
    end_world(world, "data")


def expect_no_locks(cluster):
    """No session waits for one of the writer's."""
    writers = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'umbra%'"
    blocked = cluster.psql(
        f"SELECT count(*) FROM pg_stat_activity a, ({writers}) w WHERE w.pid = ANY(pg_blocking_pids(a.pid))"
    )
    expect(blocked == "0", f"{blocked} sessions wait for the writer")


def configuration_and_roles(world):
    """A configuration file with discovery; a role without rights is told what to grant."""
    (data,) = start_world(world, "data")
    cluster = make_cluster(world, "shop", data)
    cluster.psql("CREATE ROLE nobody LOGIN")
    config = world.path("writer.toml")
    with open(config, "w", encoding="utf-8") as file:
        file.write(f'discover = ["{cluster.socket_dir}"]\nuser = "nobody"\nsocket = "{world.socket()}"\n')
    program = world.binary("umbra-writer-postgresql")
    log = world.path("writer.log")
    open(log, "w", encoding="ascii").close()
    pg_cluster.own(log)
    writer = world.start(*pg_cluster.as_postgres(program, "--config", config, "--log-file", log), cwd="/")
    wait_until_registered(world, writer)
    expect_failure(create(world, data, check=False), "NONRETRYABLE", address(cluster), "GRANT pg_monitor")
    cluster.psql("GRANT pg_monitor TO nobody")
    create(world, data)
    expect("GRANT pg_checkpoint" in writer_log(world), "the missing checkpoint is not told")
    cluster.psql("GRANT pg_checkpoint TO nobody")
    made = json.loads(create(world, data).stdout)
    expect([c["name"] for c in made["components"]] == [address(cluster)], f"components: {made}")
    cluster.stop()  # Takes its socket along: no longer there, and so no longer backed up.
    made = json.loads(create(world, data).stdout)
    expect(made["components"] == [], f"components: {made}")
    expect("socket is gone" in writer_log(world), "the log does not say so")
    expect(world.stop(writer) == 0, "the writer ended badly")
    for arguments, words in (
        (["host=localhost"], "looked up"),
        ([], "no cluster given"),
        (["/run/a:1", "host=/run/a port=1"], "two clusters"),
    ):
        done = harness.run_command(program, *arguments, check=False)
        expect(done.returncode == 2 and words in done.stderr, f"{arguments}: {done.returncode} {done.stderr}")
    world.umbra("delete", "shadows", "--all")
    end_world(world, "data")


CASES = {
    "copies_recover_under_load": copies_recover_under_load,
    "a_cluster_that_is_down_fails_alone": a_cluster_that_is_down_fails_alone,
    "a_cluster_partly_outside_is_refused": a_cluster_partly_outside_is_refused,
    "a_point_in_time_after_the_copy": a_point_in_time_after_the_copy,
    "a_restore_brings_the_cluster_back": a_restore_brings_the_cluster_back,
    "a_stopped_cluster_is_given_up": a_stopped_cluster_is_given_up,
    "a_session_lost_before_freeze_is_a_refusal": a_session_lost_before_freeze_is_a_refusal,
    "a_stopped_writer_blocks_nobody": a_stopped_writer_blocks_nobody,
    "configuration_and_roles": configuration_and_roles,
}

if __name__ == "__main__":
    sys.exit(harness.run(CASES))
