# SPDX-License-Identifier: Apache-2.0
"""A requester without an SDK, for cases that need what `umbra create shadow` does not offer: components
chosen by hand, volume mode, the documents. One session on one connection; docs/wire.md."""

import json
import os
import re
import socket
import xml.etree.ElementTree

import harness

CONTEXT_BACKUP = 0  # Copies go when the session ends.
DATABASE = 1
POLICY_NONE, POLICY_INVOLVED = 0, 1
FINISHED = 0x0004230A


class Refused(Exception):
    """umbrad's error: code and context."""


class Requester:
    def __init__(self, world, component_mode=True):
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.settimeout(harness.DEADLINE_S)
        self.connection.connect(world.socket())
        world.at_end(self.close)
        self.stream = self.connection.makefile("rw", encoding="utf-8")
        self.last_id = 0
        self.call("hello", major=1, minor=0, role="requester", program="case")
        self.call("session.initialize_for_backup")
        self.call("session.set_context", context=CONTEXT_BACKUP)
        self.call("session.set_backup_state", component_mode=component_mode, backup_type=5)
        self.operate("session.gather_writer_metadata")
        self.writers = self.call("session.get_writer_metadata")["writers"]

    def close(self):
        """The end of the session: auto-release copies go."""
        self.stream.close()
        self.connection.close()

    def call(self, method, **params):
        self.last_id += 1
        request = {"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params}
        self.stream.write(json.dumps(request) + "\n")
        self.stream.flush()
        reply = json.loads(self.stream.readline())
        if "error" in reply:
            raise Refused(json.dumps(reply["error"]))
        return reply["result"]

    def operate(self, method, **params):
        """Starts an operation and waits for it; its status."""
        number = self.call(method, **params)["operation"]
        return self.call("operation.wait", operation=number, time_limit_ms=60000)

    def metadata(self, name):
        """The Writer Metadata Document of the writer of that name."""
        (text,) = [w["metadata"] for w in self.writers if w["name"] == name]
        return xml.etree.ElementTree.fromstring(text)

    def select(self, writer_name, component, logical_path="", kind=DATABASE):
        (writer,) = [w for w in self.writers if w["name"] == writer_name]
        self.call(
            "session.add_component", instance_id=writer["instance_id"], class_id=writer["class_id"],
            type=kind, logical_path=logical_path, name=component,
        )  # fmt: skip

    def create(self, *directories, policy=POLICY_INVOLVED):
        """A set of the volumes at these directories; the status of DoSnapshotSet, also of a failure."""
        self.call("session.start_snapshot_set", queue_limit_ms=30000)
        for directory in directories:
            device = str(os.stat(directory).st_dev)
            self.call("session.add_to_snapshot_set", volume={"device": device, "path": directory})
        self.operate("session.prepare_for_backup")
        return self.operate("session.do_snapshot_set", policy=policy)

    def document(self):
        """The Backup Components Document."""
        return xml.etree.ElementTree.fromstring(self.call("session.get_backup_components")["xml"])

    def components(self):
        """Its components: name -> element."""
        return {element.get("name"): element for element in self.document().iter("component")}

    def part(self, writer_name):
        """Its part that is of one writer, as a document of its own."""
        (class_id,) = [w["class_id"] for w in self.writers if w["name"] == writer_name]
        document = self.document()
        (part,) = [p for p in document.iter("writer-components") if p.get("class-id") == class_id]
        part.set("version", document.get("version"))
        return part


def is_good(status):
    return int(status["status"], 16) == FINISHED


def unescaped(text):
    """A string of a document: control characters travel as U+241B and two digits (docs/wire.md)."""
    return re.sub("\u241b([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), text)
