#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A whole writer without our SDK: a socket, JSON, and a thaw timer of its own.

    notes_writer.py FILE [--socket PATH] [--window-ms N]      then, elsewhere: umbra create shadow PATH

An application appends lines to FILE. Between Freeze and Thaw it does not, so that a copy never ends
in the middle of a line. docs/wire.md is the reference; "Duties of a writer" there are the numbers
in brackets below. It writes what it does to standard output, one word a line.
"""

import argparse
import json
import os
import signal
import socket
import sys
import threading
from xml.sax.saxutils import quoteattr

CLASS_ID = "6b0a6b1e-7c0e-4f0f-9a55-2f3f7a4c9d10"  # Made once, by uuidgen.
TIMEOUT = "0x800423F2"  # VSS_E_WRITERERROR_TIMEOUT
RECONNECT_S = 0.5


class Notes:
    """The application. It knows nothing of snapshots but that it can be paused."""

    def __init__(self, path):
        self.file = open(path, "a", encoding="utf-8")
        self.lock = threading.Lock()
        self.free = threading.Event()
        self.free.set()

    def append_until(self, stopped):
        number = 0
        while not stopped.is_set():
            if not self.free.wait(0.1):
                continue
            with self.lock:
                if not self.free.is_set():
                    continue
                self.file.write(f"begin {number} ")
                self.file.flush()
                stopped.wait(0.0005)  # Most of the time a line is not whole.
                self.file.write("end\n")
                self.file.flush()
            number += 1
            stopped.wait(0.0001)

    def pause(self):
        with self.lock:  # Nobody is in the middle of a line any more.
            self.free.clear()
            self.file.flush()
            os.fsync(self.file.fileno())

    def go_on(self):
        self.free.set()


class Writer:
    """One connection to umbrad. Its end is an abort [2]: whoever holds us again is a new instance."""

    def __init__(self, notes, directory, window_ms, stream):
        self.notes = notes
        self.directory = directory
        self.window_ms = window_ms
        self.stream = stream
        self.sending = threading.Lock()
        self.guard = threading.Lock()  # Of what follows.
        self.frozen_for = None  # The session.
        self.timer = None
        self.expired = set()  # Sessions whose window ended before Thaw.

    def send(self, message):
        with self.sending:
            self.stream.sendall(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def say(self, word):
        print(word, flush=True)

    def thaw(self, session):
        """Writes again, whoever says so. False: this session does not hold us."""
        with self.guard:
            if session is None or self.frozen_for != session:
                return False
            self.frozen_for = None
            self.timer.cancel()
            self.notes.go_on()
        return True

    def window_ended(self, session):
        """[1] Nobody else can do this: umbrad may be dead."""
        with self.guard:
            if self.frozen_for != session:
                return  # Thaw was faster.
            self.expired.add(session)
            self.frozen_for = None
            self.notes.go_on()
        self.say("expired")
        try:
            self.send({"method": "writer.window_expired", "params": {"session_id": session}})
        except OSError:
            pass  # The end of the connection says as much.

    def freeze(self, params):
        session = params["session_id"]
        limit_ms = min(self.window_ms, params.get("time_limit_ms") or self.window_ms)
        with self.guard:
            self.frozen_for = session
            self.timer = threading.Timer(limit_ms / 1000, self.window_ended, [session])
            self.timer.daemon = True
            self.timer.start()
        self.notes.pause()
        with self.guard:
            if self.frozen_for == session:
                return {}
            self.notes.go_on()  # The window ended while we paused.
        return {"ok": False, "failure": TIMEOUT, "message": "pausing took longer than the window"}

    def metadata(self):
        return (
            f'<writer-metadata version="1.0"><identity class-id="{CLASS_ID}" name="notes"/>'
            '<restore method="restore-if-can-replace" writer-restore="never"/>'
            '<component type="file-group" name="notes">'
            f"<files path={quoteattr(self.directory)}/></component></writer-metadata>"
        )

    def answer(self, method, params):
        event = method.removeprefix("writer.")
        session = params.get("session_id")
        self.say(event)
        if event == "identify":
            return {"metadata": self.metadata()}  # [6] The same every time.
        if event == "freeze":
            return self.freeze(params)
        if event == "thaw" and session in self.expired:
            # The copy was not taken in silence, and who asks has to know.
            return {"ok": False, "failure": TIMEOUT, "message": "the window ended before Thaw came"}
        if event in ("thaw", "abort"):  # [4] Abort may follow Thaw, and may repeat.
            self.thaw(session)
        if event == "backup_shutdown":
            self.thaw(session)
            self.expired.discard(session)
        return {}  # [3] Each event is answered once; nothing here is slow.

    def run(self):
        """Until the connection ends; then everything is undone."""
        self.send({"id": 1, "method": "hello", "params": {"major": 1, "minor": 0, "role": "writer", "program": "notes_writer.py"}})
        lines = self.stream.makefile("r", encoding="utf-8")
        try:
            for line in lines:
                message = json.loads(line)
                if "method" in message:
                    result = self.answer(message["method"], message.get("params") or {})
                    if "id" in message:
                        self.send({"id": message["id"], "result": result})
                elif "error" in message:
                    sys.exit(f"umbrad refused: {message['error']['message']}")
                elif message["id"] == 1:
                    registration = {"class_id": CLASS_ID, "name": "notes", "freeze_window_ms": self.window_ms}
                    self.send({"id": 2, "method": "writer.register", "params": registration})
                else:
                    self.say("registered")
        except (OSError, ValueError):
            pass  # The connection broke, perhaps in the middle of a line.
        finally:
            if self.thaw(self.frozen_for):
                self.say("lost")


def default_socket():
    run_dir = os.environ.get("UMBRA_RUN_DIR", "/run/umbra")
    return os.path.join(run_dir, "umbrad.sock")


def serve(arguments, notes, stopped):
    """Connects again whenever umbrad has gone."""
    directory = os.path.dirname(os.path.abspath(arguments.file))
    while not stopped.is_set():
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
            try:
                stream.connect(arguments.socket)
            except OSError:
                stopped.wait(RECONNECT_S)
                continue
            Writer(notes, directory, arguments.window_ms, stream).run()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--socket", default=default_socket())
    parser.add_argument("--window-ms", type=int, default=20_000)
    arguments = parser.parse_args()
    stopped = threading.Event()
    notes = Notes(arguments.file)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    threading.Thread(target=notes.append_until, args=(stopped,), daemon=True).start()
    threading.Thread(target=serve, args=(arguments, notes, stopped), daemon=True).start()
    while not stopped.wait(1):
        pass


if __name__ == "__main__":
    main()
