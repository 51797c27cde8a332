# SPDX-License-Identifier: Apache-2.0
"""script/demo passes, and leaves nothing behind however it ends."""

import glob
import os
import signal
import subprocess
import sys

import harness
from harness import expect, require_fuse_and_loop, require_programs

DEMO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "script", "demo")
LIMIT_S = 120
INTERRUPTIONS = 40 if os.environ.get("UMBRA_LONG") == "1" else 6
# The demo's first half is where the interesting moments are.
INTERRUPT_WITHIN_S = 6.0


def leftovers():
    found = glob.glob("/tmp/umbra-demo.*")
    found += [f"mounted: {d}" for _, d in harness.mounts() if "/umbra-demo." in d]
    found += [f"{d} on {b}" for b, d in harness.loop_devices().items() if "/umbra-demo." in b]
    for entry in os.listdir("/proc"):
        if entry.isdigit() and harness.is_alive(int(entry)):
            words = " ".join(harness.command_line(int(entry)))
            if "/tmp/umbra-demo." in words:
                found.append(f"process {entry}: {words}")
    return set(found)


def start(world, *arguments):
    """As a terminal does: a process group of its own, signals not ignored."""
    return subprocess.Popen(
        [DEMO, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "UMBRA_BIN_DIR": world.binaries},
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


def passes(*arguments):
    def case(world):
        if not arguments:
            require_fuse_and_loop()
        require_programs("sqlite3", "mkfs.ext4")
        before = leftovers()
        demo = start(world, *arguments)
        text = finish(demo)
        expect(demo.returncode == 0, f"exit {demo.returncode}:\n{text}")
        expect(not leftovers() - before, f"left behind: {leftovers() - before}")

    return case


def interrupted(world):
    """Ctrl-C and SIGTERM at random moments."""
    require_fuse_and_loop()
    require_programs("sqlite3", "mkfs.ext4")
    before = leftovers()
    for _ in range(INTERRUPTIONS):
        number = world.random.choice((signal.SIGINT, signal.SIGTERM))
        demo = start(world)
        try:
            text = demo.communicate(timeout=world.random.uniform(0.1, INTERRUPT_WITHIN_S))[0]
            expect(demo.returncode == 0, f"exit {demo.returncode}:\n{text}")
        except subprocess.TimeoutExpired:
            # Ctrl-C goes to the group, kill to the script.
            (os.killpg if number == signal.SIGINT else os.kill)(demo.pid, number)
            text = finish(demo)
            # By its own clean-up, or before there was anything to clean.
            codes = (128 + number, -number, 0)
            expect(demo.returncode in codes, f"signal {number}, exit {demo.returncode}:\n{text}")
        expect(not leftovers() - before, f"left behind: {leftovers() - before}\n{text}")


if __name__ == "__main__":
    sys.exit(
        harness.run(
            {"passes": passes(), "passes_without_mounting": passes("--no-mount"), "interrupted": interrupted}
        )
    )
