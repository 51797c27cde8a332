# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL clusters of a World: made with initdb, run as user postgres, gone with their World.

A cluster has a socket directory of its own below the scratch directory and listens on no TCP port,
so that it can neither meet nor be taken for a cluster of this machine. PostgreSQL refuses to run as
root: everything of it runs as user postgres through setpriv. What reads a copy (check_copy) starts a
second server on copied files, never on the copy itself.
"""

import glob
import os
import pwd
import re
import shutil
import signal
import subprocess

import harness
from harness import expect, run_command, wait_until

USER = "postgres"
START_LIMIT_S = 60.0
CLIENT_LIMIT_S = 60.0
# Small and quick for tests; durable like a real one.
SETTINGS = {
    "listen_addresses": "''",
    "shared_buffers": "32MB",
    "max_connections": "40",
    "max_wal_size": "256MB",
    "wal_level": "replica",
    "log_checkpoints": "on",
    "log_connections": "off",
    "lc_messages": "C",
}


def binaries():
    """The directory of initdb and postgres: $UMBRA_PG_BINDIR, or the newest that Debian installed."""
    chosen = os.environ.get("UMBRA_PG_BINDIR")
    found = [chosen] if chosen else glob.glob("/usr/lib/postgresql/*/bin")
    found = [directory for directory in found if os.access(os.path.join(directory, "initdb"), os.X_OK)]
    if not found:
        raise harness.Skip("needs PostgreSQL's server programs (Debian: postgresql)")
    return max(found, key=lambda d: [int(n) for n in re.findall(r"\d+", d)])


def require_postgres():
    """Skips the case, saying why, where no cluster can be made."""
    harness.require_root()  # To become user postgres, whom PostgreSQL insists on.
    harness.require_programs("setpriv")
    try:
        pwd.getpwnam(USER)
    except KeyError:
        raise harness.Skip(f"needs the user {USER}") from None
    binaries()


def as_postgres(*arguments):
    """The command line that runs `arguments` as user postgres."""
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", "--", *map(str, arguments)]


def own(path):
    user = pwd.getpwnam(USER)
    os.chown(path, user.pw_uid, user.pw_gid)


class Cluster:
    """One cluster. Made by create() or, from files that are there, by adopt()."""

    def __init__(self, world, name, data, wal=None):
        """`data`, `wal`: directories, the latter on another volume if not None."""
        require_postgres()
        self.world = world
        self.name = name
        self.data = data
        self.wal = wal
        self.port = 5432
        self.socket_dir = world.path(f"pg-{name}")
        self.process = None
        self._children = set()
        os.chmod(world.top, 0o711)  # User postgres must reach what lies below.
        os.makedirs(self.socket_dir, exist_ok=True)
        own(self.socket_dir)
        world.at_end(self.destroy)

    # --- making ------------------------------------------------------------------------------

    def create(self, checksums=True, wal_segment_mib=None, **settings):
        """initdb, with superuser `postgres` and no password on the socket. Does not start it."""
        more = [f"--waldir={self._empty(self.wal)}"] if self.wal else []
        more += ["--data-checksums"] if checksums else []
        more += [f"--wal-segsize={wal_segment_mib}"] if wal_segment_mib else []
        self._run(
            "initdb", f"--pgdata={self._empty(self.data)}", f"--username={USER}", "--auth=trust",
            "--encoding=UTF8", "--locale=C", "--no-sync", *more,
        )  # fmt: skip
        with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as configuration:
            for key, value in {**SETTINGS, **settings}.items():
                configuration.write(f"{key} = {value}\n")
            configuration.write(f"unix_socket_directories = '{self.socket_dir}'\nport = {self.port}\n")
        return self

    def _empty(self, directory):
        os.makedirs(directory, exist_ok=True)
        expect(not os.listdir(directory), f"{directory} is not empty: name a directory below the mount")
        own(directory)
        return directory

    # --- running -----------------------------------------------------------------------------

    def start(self, *arguments, wait=True):
        """The postmaster; its output is the log pg-NAME. With `wait`: until it accepts sessions."""
        self.process = self.world.start(
            *as_postgres(self._program("postgres"), "-D", self.data, "-k", self.socket_dir, *arguments),
            name=f"pg-{self.name}",
            cwd="/",
        )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, limit_s=START_LIMIT_S):
        def ready():
            expect(self.process.poll() is None, f"{self.name} ended: {self.log()[-2000:]}")
            return self.is_ready()

        wait_until(ready, f"cluster {self.name} accepts sessions", limit_s)

    def is_ready(self):
        done = run_command(
            self._program("pg_isready"), "-q", "-d", self.conninfo(), check=False
        )
        return done.returncode == 0

    def stop(self, mode="fast", limit_s=START_LIMIT_S):
        """`mode`: smart, fast or immediate, as pg_ctl's."""
        if self.process is None or self.process.poll() is not None:
            return
        numbers = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
        self.process.send_signal(numbers[mode])
        try:
            self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise harness.Failure(f"cluster {self.name} did not stop: {self.log()[-2000:]}") from None

    def kill(self):
        """kill -9 of every process of the cluster, as a crash of the machine would."""
        pids = self.pids()
        for pid in pids:
            _signal(pid, signal.SIGKILL)
        self.process.wait(10)
        wait_until(lambda: not any(harness.is_alive(p) for p in pids), "the cluster is gone", 10)

    def suspend(self):
        """SIGSTOP of every process of the cluster; resume() undoes it."""
        for pid in self.pids():
            _signal(pid, signal.SIGSTOP)

    def resume(self):
        for pid in self.pids():
            _signal(pid, signal.SIGCONT)

    def pids(self):
        """The postmaster and its children: they do not name the scratch directory."""
        if self.process is None:
            return []
        mother = self.process.pid
        self._children = {pid for pid in self._children if harness.is_alive(pid)} | set(_children_of(mother))
        alive = [mother] if self.process.poll() is None else []
        return alive + sorted(self._children)

    def destroy(self):
        """Whatever state it is in; called by the World's end before it unmounts."""
        pids = self.pids()
        for pid in pids:
            _signal(pid, signal.SIGCONT)
        try:
            self.stop("immediate", limit_s=3)
        except harness.Failure:
            pass
        for pid in set(pids) | set(self.pids()):
            _signal(pid, signal.SIGKILL)

    def log(self):
        return self.world.log_text(f"pg-{self.name}")

    # --- asking ------------------------------------------------------------------------------

    def conninfo(self, user=USER, database=USER):
        """A connection string for libpq."""
        return f"host={self.socket_dir} port={self.port} user={user} dbname={database}"

    def psql(self, sql, user=USER, database=USER, limit_s=CLIENT_LIMIT_S):
        """What `psql -At -c` prints, without the last newline; fails the case on an error."""
        return self._psql(sql, user, database, limit_s, check=True).stdout.rstrip("\n")

    def psql_fails(self, sql, user=USER, database=USER, limit_s=CLIENT_LIMIT_S):
        """The error message of a command that must fail."""
        done = self._psql(sql, user, database, limit_s, check=False)
        expect(done.returncode != 0, f"did not fail: {sql}: {done.stdout}")
        return done.stderr

    def _psql(self, sql, user, database, limit_s, check):
        return run_command(
            *as_postgres(
                self._program("psql"), "-XAt", "-v", "ON_ERROR_STOP=1", "-d", self.conninfo(user, database),
                "-c", sql,
            ),
            check=check, limit_s=limit_s, cwd="/",
        )  # fmt: skip

    def _program(self, name):
        return os.path.join(binaries(), name)

    def _run(self, name, *arguments, limit_s=120):
        return run_command(*as_postgres(self._program(name), *arguments), limit_s=limit_s, cwd="/")

    def control_data(self):
        """What pg_controldata prints, as a dictionary. Also of a cluster that does not run."""
        text = self._run("pg_controldata", "-D", self.data).stdout
        return dict((key, value.strip()) for key, value in (l.split(":", 1) for l in text.splitlines()))

    # --- load --------------------------------------------------------------------------------

    def pgbench_init(self, scale=1):
        self._run("pgbench", "-i", "-q", "-s", scale, self.conninfo())

    def pgbench(self, *arguments, clients=4, seconds=3600):
        """Starts pgbench in the background, for so many seconds or until its stop()."""
        return Load(self, clients, seconds, arguments)

    def amcheck(self):
        """Every table and index of its database is sound, as pg_amcheck sees it."""
        self.psql("CREATE EXTENSION IF NOT EXISTS amcheck")
        self._run("pg_amcheck", "--heapallindexed", "-h", self.socket_dir, "-p", self.port, "-U", USER, USER)

    def sums(self, **options):
        """pgbench's four sums, which agree in every consistent state, and the number of rows in its
        history: the number of committed transactions."""
        row = self.psql(
            "SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),"
            " (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM"
            " pgbench_history), (SELECT count(*) FROM pgbench_history)",
            **options,
        )
        return [int(value) for value in row.split("|")]

    def history(self):
        """Committed pgbench transactions so far."""
        return int(self.psql("SELECT count(*) FROM pgbench_history"))


class Load:
    """pgbench with its TPC-B-like script, under way."""

    def __init__(self, cluster, clients, seconds, arguments):
        self.cluster = cluster
        world = cluster.world
        number = sum(1 for n in os.listdir(world.top) if n.startswith(f"pgbench-{cluster.name}-"))
        self.directory = _made(world.path(f"pgbench-{cluster.name}-{number}"))
        self.name = f"log-{os.path.basename(self.directory)}"
        self.process = world.start(
            *as_postgres(
                cluster._program("pgbench"), "-n", "-c", clients, "-j", min(clients, 2), "-T", seconds,
                "-P", 1, "-l", f"--log-prefix={self.directory}/transactions", *arguments, cluster.conninfo(),
            ),
            name=self.name, cwd="/",
        )  # fmt: skip
        self.gets_on()

    def text(self):
        return self.cluster.world.log_text(self.name)

    def gets_on(self, at_least=20, limit_s=30):
        """Until `at_least` more transactions are committed."""
        before = self.cluster.history()

        def further():
            expect(self.process.poll() is None, f"pgbench ended: {self.text()}")
            return self.cluster.history() >= before + at_least

        wait_until(further, f"{at_least} more transactions", limit_s)

    def progress(self):
        """(seconds since its start, transactions per second, mean latency in ms), one per second."""
        pattern = r"progress: ([\d.]+) s, ([\d.]+) tps, lat ([\d.]+) ms"
        return [tuple(float(value) for value in found) for found in re.findall(pattern, self.text())]

    def stop(self, limit_s=20):
        """Ends it as Ctrl-C would; the server rolls back what was under way."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.wait(limit_s)
        self._expect_no_error()

    def finish(self, limit_s=60):
        """Waits for the end of its seconds; returns the longest transaction in ms."""
        expect(self.process.wait(limit_s) == 0, f"pgbench: {self.text()}")
        self._expect_no_error()
        longest_us = 0
        for name in os.listdir(self.directory):
            with open(os.path.join(self.directory, name), encoding="ascii") as lines:
                longest_us = max([longest_us, *(int(line.split()[2]) for line in lines)])
        return longest_us / 1000

    def _expect_no_error(self):
        wrong = [line for line in self.text().splitlines() if "error" in line.lower() or "aborted" in line]
        expect(not wrong, f"pgbench: {wrong}")


def copy_of(cluster, name, data, wal=None, tablespaces=None):
    """A Cluster on copies of the files in `data` and `wal` (of a mounted snapshot), placed in the
    scratch directory, its links repaired; `tablespaces`: OID -> directory. Not started."""
    world = cluster.world
    copy = Cluster(world, name, world.path(f"{name}-data"), world.path(f"{name}-wal") if wal else None)
    run_command("cp", "-a", "--reflink=auto", f"{data}/.", _made(copy.data), limit_s=300)
    if wal:
        run_command("cp", "-a", "--reflink=auto", f"{wal}/.", _made(copy.wal), limit_s=300)
        os.unlink(os.path.join(copy.data, "pg_wal"))
        os.symlink(copy.wal, os.path.join(copy.data, "pg_wal"))
    for oid, directory in (tablespaces or {}).items():
        place = _made(world.path(f"{name}-tblspc-{oid}"))
        run_command("cp", "-a", f"{directory}/.", place, limit_s=300)
        link = os.path.join(copy.data, "pg_tblspc", str(oid))
        os.unlink(link)
        os.symlink(place, link)
    pid_file = os.path.join(copy.data, "postmaster.pid")
    if os.path.exists(pid_file):
        os.unlink(pid_file)
    with open(os.path.join(copy.data, "postgresql.auto.conf"), "a", encoding="utf-8") as settings:
        settings.write(f"unix_socket_directories = '{copy.socket_dir}'\narchive_mode = off\n")
    return copy


def _made(directory):
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    own(directory)
    return directory


def expect_sums_agree(sums, at_least=0, at_most=None):
    """`sums`: of Cluster.sums(). Bounds: of committed transactions."""
    accounts, tellers, branches, deltas, transactions = sums
    expect(accounts == tellers == branches == deltas, f"the sums differ: {sums}")
    expect(transactions >= at_least, f"{transactions} transactions; {at_least} were acknowledged before")
    expect(at_most is None or transactions <= at_most, f"{transactions} transactions, not {at_most}")


def _children_of(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
            return [int(child) for child in children.read().split()]
    except OSError:
        return []


def _signal(pid, number):
    try:
        os.kill(pid, number)
    except OSError:
        pass
