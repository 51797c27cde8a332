# SPDX-License-Identifier: Apache-2.0
"""script/demo passes, and leaves nothing behind however it ends."""

import glob
import os
import signal
import subprocess
import sys

import harness
import pg_cluster
from harness import LONG, expect, require_fuse_and_loop, require_programs

DEMO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "script", "demo")
LIMIT_S = 240
INTERRUPTIONS = 40 if LONG else 4
# The demo's first half is where the interesting moments are.
INTERRUPT_WITHIN_S = 6.0
POSTGRES = ("postgres", "--quick")
POSTGRES_INTERRUPTIONS = 20 if LONG else 1
POSTGRES_INTERRUPT_WITHIN_S = 30.0


def leftovers(world):
    """The demo has the world's directory as $TMPDIR, so that no other one is taken for it."""
    found = glob.glob(world.path("umbra-demo.*"))
    found += [f"mounted: {d}" for _, d in harness.mounts() if d.startswith(world.top)]
    found += [f"{d} on {b}" for b, d in harness.loop_devices().items() if b.startswith(world.top)]
    found += unused_shared_memory()
    for entry in os.listdir("/proc"):
        if entry.isdigit() and harness.is_alive(int(entry)):
            words = " ".join(harness.command_line(int(entry)))
            # A server's child says only "postgres: ..."; it works in the data directory.
            if world.top in words or working_directory(entry).startswith(world.top):
                found.append(f"process {entry}: {words}")
    return set(found)


def unused_shared_memory():
    """PostgreSQL's kinds of it. What is attached belongs to a server that lives."""
    with open("/proc/sysvipc/shm", encoding="ascii") as segments:
        rows = [line.split() for line in list(segments)[1:]]
    left = [f"shared memory {row[1]}" for row in rows if row[6] == "0"]
    mapped = "".join(map(memory_map, filter(str.isdigit, os.listdir("/proc"))))
    return left + [name for name in glob.glob("/dev/shm/PostgreSQL.*") if name not in mapped]


def memory_map(pid):
    try:
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as text:
            return text.read()
    except OSError:
        return ""


def working_directory(pid):
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


def start(world, *arguments):
    """As a terminal does: a process group of its own, signals not ignored."""
    os.chmod(world.top, 0o711)  # User postgres passes through.
    return subprocess.Popen(
        [DEMO, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "UMBRA_BIN_DIR": world.binaries, "TMPDIR": world.top},
        preexec_fn=lambda: [signal.signal(n, signal.SIG_DFL) for n in (signal.SIGINT, signal.SIGTERM)],
    )


def finish(demo):
    """Output; fails if it does not end."""
    try:
        return demo.communicate(timeout=LIMIT_S)[0]
    except subprocess.TimeoutExpired:
        demo.terminate()
        text = demo.communicate(timeout=LIMIT_S)[0]
        raise harness.Failure(f"the demo did not end:\n{text}") from None


def require(arguments):
    if "--no-mount" not in arguments:
        require_fuse_and_loop()
    if "postgres" in arguments:
        pg_cluster.require_postgres()
    require_programs("sqlite3", "mkfs.ext4")


def passes(*arguments):
    def case(world):
        require(arguments)
        before = leftovers(world)
        demo = start(world, *arguments)
        text = finish(demo)
        expect(demo.returncode == 0, f"exit {demo.returncode}:\n{text}")
        expect("\x1b" not in text, "there are escapes in a pipe")
        expect(not leftovers(world) - before, f"left behind: {leftovers(world) - before}")

    return case


def interrupted(times, within_s, *arguments):
    """Ctrl-C and SIGTERM at random moments."""

    def case(world):
        require(arguments)
        before = leftovers(world)
        for _ in range(times):
            number = world.random.choice((signal.SIGINT, signal.SIGTERM))
            demo = start(world, *arguments)
            try:
                text = demo.communicate(timeout=world.random.uniform(0.1, within_s))[0]
                expect(demo.returncode == 0, f"exit {demo.returncode}:\n{text}")
            except subprocess.TimeoutExpired:
                # Ctrl-C goes to the group, kill to the script.
                (os.killpg if number == signal.SIGINT else os.kill)(demo.pid, number)
                text = finish(demo)
                # By its own clean-up, or before there was anything to clean.
                codes = (128 + number, -number, 0)
                expect(demo.returncode in codes, f"signal {number}, exit {demo.returncode}:\n{text}")
            expect(not leftovers(world) - before, f"left behind: {leftovers(world) - before}\n{text}")

    return case


if __name__ == "__main__":
    sys.exit(
        harness.run(
            {
                "passes": passes(),
                "passes_without_mounting": passes("--no-mount"),
                "passes_with_postgres": passes(*POSTGRES),
                "interrupted": interrupted(INTERRUPTIONS, INTERRUPT_WITHIN_S),
                "interrupted_with_postgres": interrupted(
                    POSTGRES_INTERRUPTIONS, POSTGRES_INTERRUPT_WITHIN_S, *POSTGRES
                ),
            }
        )
    )
