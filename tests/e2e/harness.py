# SPDX-License-Identifier: Apache-2.0
"""Real daemons in a scratch directory, and the promise that nothing of them is left.

A case is a function that takes a World. run() gives each case a World of its own, prints what
happened, and exits 0 (passed), 1 (failed) or 77 (skipped, with the reason). Whatever a case did, its
World thaws, unmounts, detaches, kills and removes everything it started; what a case says it leaves
clean is checked by World.assert_clean(), not by the clean-up.
"""

import ctypes
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

FIFREEZE = 0xC0045877
FITHAW = 0xC0045878
DEADLINE_S = 60.0  # For anything that a case waits for and that has no limit of its own.
LONG = os.environ.get("UMBRA_LONG") == "1"  # script/test --long: the long forms of cases.


class Skip(Exception):
    """The case cannot run here; says why."""


class Failure(AssertionError):
    """What the case asserts is not so."""


def expect(condition, text):
    if not condition:
        raise Failure(text)


def wait_until(condition, text, limit_s=DEADLINE_S):
    """Polls; the only way cases wait. Returns what the condition returned."""
    end = time.monotonic() + limit_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"not within {limit_s:g} s: {text}")
        time.sleep(0.005)


def listens(path):
    """Somebody takes connections there: a socket is there a moment before that."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        return client.connect_ex(path) == 0


def require_programs(*names):
    for name in names:
        if shutil.which(name) is None:
            raise Skip(f"needs the program {name}")


def require_root():
    if os.geteuid() != 0:
        raise Skip("needs root")


def require_fuse_and_loop():
    require_root()
    for path in ("/dev/fuse", "/dev/loop-control"):
        if not os.access(path, os.R_OK | os.W_OK):
            raise Skip(f"needs {path}")


def run_command(*arguments, limit_s=DEADLINE_S, check=True, **options):
    done = subprocess.run(
        [str(a) for a in arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=limit_s,
        **options,
    )
    if check and done.returncode != 0:
        raise Failure(
            f"{' '.join(str(a) for a in arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done


def mounts():
    """(device, directory) of every mount, newest last."""
    table = []
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            device, directory = line.split(" ")[:2]
            table.append((device, directory.encode().decode("unicode_escape")))
    return table


def loop_devices():
    """backing file -> /dev/loopN."""
    found = {}
    for name in os.listdir("/sys/block"):
        try:
            with open(f"/sys/block/{name}/loop/backing_file", encoding="utf-8") as backing:
                found[backing.read().strip().removesuffix(" (deleted)")] = f"/dev/{name}"
        except OSError:
            continue
    return found


def process_state(pid):
    """The letter of /proc/PID/stat ('Z' for a zombie), or None."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0]
    except OSError:
        return None


def is_stopped(pid):
    """Whether every thread has taken a SIGSTOP, which is a moment after it was sent."""
    threads = os.listdir(f"/proc/{pid}/task")
    return all(process_state(f"{pid}/task/{thread}") in ("T", "Z") for thread in threads)


def is_alive(pid):
    return process_state(pid) not in (None, "Z", "X")


def is_frozen(directory):
    """Whether a write to the file system blocks; asked by a child, which a frozen one would catch."""
    child = os.fork()
    if child == 0:
        try:
            probe = os.path.join(directory, ".umbra-probe")
            with open(probe, "w", encoding="ascii"):
                pass
            os.unlink(probe)
        finally:
            os._exit(0)
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        done, _ = os.waitpid(child, os.WNOHANG)
        if done:
            return False
        time.sleep(0.005)
    _pending_probes.append(child)
    return True


_pending_probes = []


def bounded(action, limit_s=10):
    """Runs it in a child: what waits for a device that nobody serves any more cannot be interrupted.
    Such a child ends by itself once the server's end has aborted the device."""
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(0)
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if os.waitpid(child, os.WNOHANG)[0]:
            return
        time.sleep(0.005)
    _pending_probes.append(child)


class World:
    """One scratch directory, its daemons and everything else the case starts in it."""

    def __init__(self, binaries, seed):
        self.binaries = binaries
        self.random = random.Random(seed)
        self.top = tempfile.mkdtemp(prefix="umbra-e2e.")
        self.run_dir = self.path("run")
        self.state_dir = self.path("state")
        self.processes = []
        self._at_end = []

    def path(self, *names):
        return os.path.join(self.top, *names)

    def binary(self, name):
        return os.path.join(self.binaries, name)

    # --- processes ---------------------------------------------------------------------------

    def start(self, *arguments, name=None, **options):
        """In a session of its own, output to a file in the scratch directory."""
        name = name or os.path.basename(str(arguments[0]))
        log = open(self.path(f"{name}.log"), "ab")
        with log:
            process = subprocess.Popen(
                [str(a) for a in arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **options,
            )
        self.processes.append(process)
        return process

    def start_umbrad(self, *arguments):
        process = self.start(
            self.binary("umbrad"), "--run-dir", self.run_dir, "--log-level", "debug", *arguments
        )
        wait_until(lambda: os.path.exists(self.socket()), "umbrad listens")
        return process

    def start_cowd(self, *arguments):
        """Starts umbra-cowd, which runs under its guardian; waits until umbrad knows it."""
        process = self.start(
            self.binary("umbra-cowd"),
            "--run-dir",
            self.run_dir,
            "--state-dir",
            self.state_dir,
            "--log-level",
            "debug",
            *arguments,
        )
        wait_until(self.provider_connected, "umbra-cowd is registered with umbrad")
        return process

    def start_daemons(self):
        umbrad = self.start_umbrad()
        guardian = self.start_cowd()
        return umbrad, guardian

    def socket(self):
        return os.path.join(self.run_dir, "umbrad.sock")

    def provider_connected(self):
        done = self.umbra("list", "providers", check=False)
        return done is not None and any(p["connected"] for p in done["providers"])

    def cowd_pid(self):
        """umbra-cowd itself, not its guardian."""
        for pid in self.pids():
            words = command_line(pid)
            if words and os.path.basename(words[0]) == "umbra-cowd" and "--guardian-fd" in " ".join(words):
                if process_state(pid) not in (None, "Z", "X"):
                    return pid
        return None

    def guardian_pid(self):
        for pid in self.pids():
            words = command_line(pid)
            if words and os.path.basename(words[0]) == "umbra-guardian":
                return pid
        return None

    def pids(self):
        """Every process whose command line names the scratch directory."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit() and any(self.top in word for word in command_line(int(entry))):
                found.append(int(entry))
        return sorted(found)

    def log_text(self, name):
        try:
            with open(self.path(f"{name}.log"), encoding="utf-8", errors="replace") as log:
                return log.read()
        except OSError:
            return ""

    def expect_logged(self, name, text):
        """A daemon writes its log beside its work: a line may come after the answer it belongs to. Of a
        daemon that has ended all is there."""
        return wait_until(lambda: text in self.log_text(name), f"{name}.log has no {text!r}")

    # --- the command line ----------------------------------------------------------------------

    def umbra(self, *arguments, check=True, limit_s=DEADLINE_S):
        """`umbra ARGUMENTS --json`, parsed; None if it failed and `check` is false."""
        done = self.umbra_raw(*arguments, "--json", check=check, limit_s=limit_s)
        if done.returncode != 0:
            return None
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def umbra_raw(self, *arguments, check=True, limit_s=DEADLINE_S):
        return run_command(
            self.binary("umbra"), "--run-dir", self.run_dir, *arguments, check=check, limit_s=limit_s
        )

    # --- volumes ---------------------------------------------------------------------------------

    def make_image(self, name, size_bytes):
        path = self.path(name)
        with open(path, "wb") as image:
            image.truncate(size_bytes)
        return path

    def attach(self, name, size_mib, *arguments):
        """A new volume on an image file; returns what `umbra attach` printed."""
        origin = self.make_image(f"{name}.img", size_mib << 20)
        return self.umbra("attach", origin, "--diff", self.path(f"{name}.diff"), "--name", name, *arguments)

    def mkfs_and_mount(self, device, name):
        directory = self.path("mnt", name)
        os.makedirs(directory, exist_ok=True)
        run_command("mkfs.ext4", "-q", "-F", device)
        run_command("mount", device, directory)
        return directory

    # --- the end -----------------------------------------------------------------------------------

    def at_end(self, action):
        """destroy() calls it, the last one first, before it stops and unmounts anything."""
        self._at_end.append(action)

    def assert_clean(self):
        """Nothing of this world is left: called by a case after it has stopped its daemons orderly."""
        left = [f"mounted: {directory}" for _, directory in mounts() if directory.startswith(self.top)]
        left += [f"loop device: {d} on {b}" for b, d in loop_devices().items() if b.startswith(self.top)]
        left += [f"process: {pid} {' '.join(command_line(pid))}" for pid in self.pids() if is_alive(pid)]
        expect(not left, "left behind: " + "; ".join(left))

    def stop(self, process, limit_s=20):
        if process.poll() is None:
            process.terminate()
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise Failure(f"{process.args[0]} did not stop within {limit_s} s of SIGTERM") from None

    def destroy(self):
        """Leaves nothing, whatever state the case left. Never raises."""
        bounded(self._thaw_everything)
        for action in reversed(self._at_end):
            try:
                action()
            except Exception:  # The rest of the clean-up counts more.
                traceback.print_exc()
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for _ in range(100):
            if all(p.poll() is not None for p in self.processes) and not self._living():
                break
            time.sleep(0.02)
        bounded(self._unmount_everything)
        for pid in self._living():
            for number in (signal.SIGCONT, signal.SIGKILL):
                try:
                    os.kill(pid, number)
                except OSError:
                    pass
        for process in self.processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                pass
        bounded(self._unmount_everything)
        for child in _pending_probes:
            try:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, os.WNOHANG)
            except OSError:
                pass
        _pending_probes.clear()
        shutil.rmtree(self.top, ignore_errors=True)

    def _living(self):
        return [pid for pid in self.pids() if pid != os.getpid() and is_alive(pid)]

    def _thaw_everything(self):
        for _, directory in mounts():
            if directory.startswith(self.top):
                try:
                    handle = os.open(directory, os.O_RDONLY | os.O_NONBLOCK)
                    fcntl.ioctl(handle, FITHAW, 0)
                except OSError:
                    pass

    def _unmount_everything(self):
        """File systems, then loop devices, then what serves these: a loop device on a file whose
        mount is gone has lost its name, would never be found again, and keeps that mount alive."""
        for _ in range(2):
            self._unmount(lambda device: device.startswith("/dev/"))
            for backing, device in loop_devices().items():
                if backing.startswith(self.top):
                    run_command("losetup", "-d", device, check=False)
            self._unmount(lambda device: True)

    def _unmount(self, chosen):
        libc = ctypes.CDLL(None, use_errno=True)
        detach = 2  # MNT_DETACH
        for device, directory in reversed(mounts()):
            if directory.startswith(self.top) and chosen(device):
                if libc.umount2(os.fsencode(directory), 0) != 0:
                    libc.umount2(os.fsencode(directory), detach)


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as words:
            return [w.decode(errors="replace") for w in words.read().split(b"\0")[:-1]]
    except OSError:
        return []


def run(cases):
    """main() of a case file: `FILE.py BINARIES CASE [SEED]`; `FILE.py --list` names the cases."""
    if len(sys.argv) == 2 and sys.argv[1] == "--list":
        print("\n".join(cases))
        return 0
    if len(sys.argv) < 3 or sys.argv[2] not in cases:
        print(f"usage: {sys.argv[0]} BINARIES CASE [SEED]   cases: {' '.join(cases)}", file=sys.stderr)
        return 2
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else int(os.environ.get("UMBRA_SEED", "0"))
    seed = seed or random.SystemRandom().randrange(1, 1 << 31)
    world = World(os.path.abspath(sys.argv[1]), seed)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    # ctest ends a case that is over its time by SIGKILL, after which nothing cleans up: we are earlier.
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(Failure("the case's time is over")))
    signal.alarm(int(os.environ.get("UMBRA_CASE_LIMIT_S", "0")))
    try:
        cases[sys.argv[2]](world)
        return 0
    except Skip as reason:
        print(f"skipped: {reason}", file=sys.stderr)
        return 77
    except BaseException as error:
        traceback.print_exc()
        print(f"replay with: {sys.argv[0]} {sys.argv[1]} {sys.argv[2]} {seed}", file=sys.stderr)
        for name in sorted(os.listdir(world.top)):
            if name.endswith(".log"):
                tail = world.log_text(name[:-4]).splitlines()[-40:]
                print(f"--- {name}\n" + "\n".join(tail), file=sys.stderr)
        print(f"--- why: {type(error).__name__}: {error}", file=sys.stderr)  # What a long log ends with.
        return 1
    finally:
        signal.alarm(0)
        world.destroy()
