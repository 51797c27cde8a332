# SPDX-License-Identifier: Apache-2.0
"""How long somebody had to wait: small requests one after the other, in a process of their own.

    probe.py writes STATE FILE           O_DIRECT and O_SYNC writes of 4 KiB to FILE
    probe.py session STATE CONNINFO      committed transactions of one PostgreSQL session

A process of its own, because one that waits for a frozen or unserved file system cannot be ended.
STATE is shared memory: when the request under way began, and how many were answered. Beside it,
STATE.waits has a line for each request that took long and STATE.errors one for each that failed.
"""

import mmap
import os
import select
import struct
import subprocess
import sys
import time

from harness import wait_until

NOTED_NS = 5_000_000  # Shorter waits are not noted.
PAUSE_MS = 4  # Between two requests: a probe is no load.
RECONNECT_MS = 50
_STATE = struct.Struct("<QQ")


class Probe:
    """The case's side of it."""

    def __init__(self, world, name, *arguments):
        self.state_path = world.path(f"probe-{name}")
        with open(self.state_path, "wb") as state:
            state.write(_STATE.pack(0, 0))
        for suffix in ("waits", "errors"):
            with open(f"{self.state_path}.{suffix}", "wb"):
                pass
        kind, *rest = arguments
        self.process = world.start(
            sys.executable, "-B", os.path.abspath(__file__), kind, self.state_path, *rest,
            name=f"probe-{name}",
        )  # fmt: skip
        with open(self.state_path, "rb") as state:
            self.state = mmap.mmap(state.fileno(), _STATE.size, prot=mmap.PROT_READ)

    def stop(self):
        self.process.kill()
        self.process.wait(20)

    def answered(self):
        return _STATE.unpack_from(self.state)[1]

    def waiting_s(self):
        """How long the request under way has taken so far."""
        begin = _STATE.unpack_from(self.state)[0]
        return (time.monotonic_ns() - begin) / 1e9 if begin else 0.0

    def gets_on(self, limit_s):
        """Until a request that began now is answered."""
        goal = self.answered() + 2
        wait_until(lambda: self.answered() >= goal, f"{os.path.basename(self.state_path)} gets on", limit_s)

    def longest_wait_s(self, since):
        """Of the requests that were answered after `since` (time.monotonic()), or are under way."""
        longest = self.waiting_s()
        with open(f"{self.state_path}.waits", encoding="ascii") as lines:
            for line in lines:
                begin, end = (int(word) / 1e9 for word in line.split())
                if end >= since:
                    longest = max(longest, end - begin)
        return longest

    def errors(self, since):
        with open(f"{self.state_path}.errors", encoding="utf-8") as lines:
            noted = [line.rstrip("\n").split(" ", 1) for line in lines]
        return [text for at, text in noted if int(at) / 1e9 >= since]


# --- the process's side ----------------------------------------------------------------------------


class Notes:
    def __init__(self, path):
        with open(path, "r+b") as state:
            self.state = mmap.mmap(state.fileno(), _STATE.size)
        self.waits = open(f"{path}.waits", "a", buffering=1, encoding="ascii")
        self.failures = open(f"{path}.errors", "a", buffering=1, encoding="utf-8")
        self.count = 0

    def run(self, request):
        """False if it failed."""
        begin = time.monotonic_ns()
        _STATE.pack_into(self.state, 0, begin, self.count)
        try:
            request()
            self.count += 1
            good = True
        except OSError as error:
            self.failures.write(f"{time.monotonic_ns()} {error}\n")
            good = False
        end = time.monotonic_ns()
        _STATE.pack_into(self.state, 0, 0, self.count)
        if end - begin >= NOTED_NS:
            self.waits.write(f"{begin} {end}\n")
        return good


def pause(milliseconds):
    select.select([], [], [], milliseconds / 1000)


def probe_writes(notes, path):
    page = mmap.mmap(-1, 4096)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT | os.O_SYNC, 0o600)

    def write():
        page[:8] = struct.pack("<Q", notes.count)
        if os.pwrite(file, page, 0) != len(page):
            raise OSError("a short write")

    while True:
        notes.run(write)
        pause(PAUSE_MS)


class Session:
    """psql, told a statement at a time."""

    def __init__(self, conninfo):
        self.psql = subprocess.Popen(
            ["psql", "-XAtq", "-d", conninfo],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        )
        self.acknowledged = 0

    def commit_one(self):
        self.psql.stdin.write("UPDATE umbra_probe SET n = n + 1 RETURNING n;\n")
        line = self.psql.stdout.readline()
        if not line.strip().isdigit():
            raise OSError(f"psql: {line.strip() or 'ended'}")
        return int(line)

    def end(self):
        self.psql.kill()
        self.psql.wait()


def probe_session(notes, conninfo):
    acknowledged = 0
    session = Session(conninfo)

    def commit():
        nonlocal acknowledged
        number = session.commit_one()
        if number <= acknowledged:
            raise OSError(f"transaction {acknowledged} was acknowledged and is lost: the next is {number}")
        acknowledged = number

    while True:
        if notes.run(commit):
            pause(PAUSE_MS)
            continue
        while True:  # The server is away: nobody waits for an answer.
            session.end()
            pause(RECONNECT_MS)
            session = Session(conninfo)
            try:
                session.psql.stdin.write("SELECT 1;\n")
                if session.psql.stdout.readline().strip() == "1":
                    break
            except OSError:
                pass


if __name__ == "__main__":
    {"writes": probe_writes, "session": probe_session}[sys.argv[1]](Notes(sys.argv[2]), sys.argv[3])
