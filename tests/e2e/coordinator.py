# SPDX-License-Identifier: Apache-2.0
"""The provider's side of umbrad, for cases about umbra-cowd alone: one socket, JSON lines.

Answers hello and provider.register, then calls the provider's methods one after the other.
"""

import json
import os
import socket
import threading
import uuid

from harness import Failure

LIMIT_S = 60
CONTEXT_APP_ROLLBACK = 0x09  # Persistent, not released with its session.
CONTEXT_BACKUP = 0x00  # Goes with its session.


class Refused(Exception):
    """The provider answered with an error."""

    def __init__(self, error):
        data = error.get("data") or {}
        self.code = data.get("code", "")
        self.context = data.get("context", error.get("message", ""))
        super().__init__(f"{self.code}: {self.context}")


class Coordinator:
    def __init__(self, path, alive=()):
        self.path = path
        self.alive = list(alive)
        self.changed = threading.Condition()
        self.peer = None  # The registered provider's file.
        # A dying provider's connection may outlast its successor's start: count, do not look at peer.
        self.registrations = 0
        self.answers = {}
        self.next_id = 1
        if os.path.exists(path):
            os.unlink(path)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(8)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.listener.close()
        with self.changed:
            if self.peer:
                self.peer.close()
        os.unlink(self.path)

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        stream = connection.makefile("rwb", buffering=0)
        reader = connection.makefile("rb")
        for line in reader:
            message = json.loads(line)
            if "method" in message:
                self._answer(stream, message)
                continue
            with self.changed:
                self.answers[message["id"]] = message
                self.changed.notify_all()
        with self.changed:
            if self.peer is stream:
                self.peer = None
            self.changed.notify_all()

    def _answer(self, stream, message):
        result = {}
        if message["method"] == "hello":
            result = {"major": 1, "minor": 0, "features": [], "program": "test", "roles": ["provider"]}
        elif message["method"] == "provider.register":
            result = {"alive": self.alive}
        if "id" in message:
            reply = {"jsonrpc": "2.0", "id": message["id"], "result": result}
            stream.write(json.dumps(reply).encode() + b"\n")
        if message["method"] == "provider.register":
            with self.changed:
                self.peer = stream
                self.registrations += 1
                self.changed.notify_all()

    def wait_for_provider(self):
        with self.changed:
            if not self.changed.wait_for(lambda: self.peer is not None, LIMIT_S):
                raise Failure("umbra-cowd did not register")

    def call(self, method, **params):
        self.wait_for_provider()
        with self.changed:
            number = self.next_id
            self.next_id += 1
            peer = self.peer
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        peer.write(json.dumps(request).encode() + b"\n")
        with self.changed:
            if not self.changed.wait_for(lambda: number in self.answers or self.peer is not peer, LIMIT_S):
                raise Failure(f"{method}: no answer within {LIMIT_S} s")
            if number not in self.answers:
                raise Failure(f"{method}: umbra-cowd went away")
            answer = self.answers.pop(number)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["result"]

    # --- what umbrad would do ------------------------------------------------------------------

    def attach(self, origin, diff, name, **more):
        reply = self.call(
            "volume.attach", origin_path=origin, diff_area_path=diff, name=name, **more
        )
        return reply["volume"]

    def detach(self, name):
        self.call("volume.detach", volume={"name": name})

    def volumes(self):
        return {v["name"]: v for v in self.call("provider.list_volumes")["volumes"]}

    def snapshot(self, *names, context=CONTEXT_APP_ROLLBACK, session=None):
        """The whole order of a set without writers; returns the properties of its members."""
        set_id = str(uuid.uuid4())
        members = {name: str(uuid.uuid4()) for name in names}
        for name, snapshot_id in members.items():
            self.call(
                "provider.begin_prepare_snapshot",
                set_id=set_id,
                snapshot_id=snapshot_id,
                volume={"name": name},
                attributes=context,
                session_id=session or str(uuid.uuid4()),
            )
        for step in ("end_prepare_snapshots", "pre_commit_snapshots"):
            self.call(f"provider.{step}", set_id=set_id)
        limits = {"flush_ms": 30000, "hold_ms": 10000, "window_ms": 60000}
        self.call("provider.flush_commit_release", set_id=set_id, limits=limits)
        self.call("provider.post_commit_snapshots", set_id=set_id, members=list(members.values()))
        for step in ("pre_final_commit_snapshots", "post_final_commit_snapshots", "confirm_set"):
            self.call(f"provider.{step}", set_id=set_id)
        made = {s["snapshot_id"]: s for s in self.snapshots()}
        return [made[snapshot_id] for snapshot_id in members.values()]

    def snapshots(self):
        return self.call("provider.query_snapshots", incomplete=False)["snapshots"]

    def delete(self, snapshot_id, force=False):
        # VSS_OBJECT_SNAPSHOT is 3.
        done = self.call("provider.delete_snapshots", id=snapshot_id, type=3, force=force)
        if done["deleted"] != 1:
            raise Refused({"data": {"code": done["status"], "context": done["context"]}})

    def mount(self, snapshot_id, directory="", **how):
        return self.call("snapshot.mount", snapshot_id=snapshot_id, directory=directory, **how)

    def unmount(self, snapshot_id):
        self.call("snapshot.unmount", snapshot_id=snapshot_id)
