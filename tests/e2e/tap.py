# SPDX-License-Identifier: Apache-2.0
"""A tap on the wire between umbrad and one kind of its peers.

The peer is started with the tap's socket instead of umbrad's. Lines pass unchanged; a Trap runs an
action in the very moment that a chosen call is asked, under way, or answered but not yet told to the
caller, so that a case need not guess how long a phase lasts. An end of file on one side becomes one
on the other. The peer has the rights of whoever runs the tap.
"""

import json
import os
import socket
import threading

# When a trap springs: before the call reaches the peer; right after; before umbrad sees the answer.
ASKED, WORKING, ANSWERED = "asked", "working", "answered"


class Trap:
    """Springs once. `sprung` is set after the action has run, and only then does the line pass on."""

    def __init__(self, method, moment, action):
        self.method = method
        self.moment = moment
        self.action = action
        self.sprung = threading.Event()
        self.error = None
        self.answered = False  # Whether umbrad's call has been answered through the tap.
        self.call = None  # (connection, id) of the call that it is for.

    def spring(self):
        try:
            self.action()
        except Exception as error:  # The case looks at it; the line must pass whatever happens.
            self.error = error
        self.sprung.set()


class Tap:
    def __init__(self, path, target):
        self.path = path
        self.target = target
        self.lock = threading.Lock()
        self.trap = None
        self.seen = []  # (method, params) of umbrad's calls, in their order.
        self.connections = set()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        os.chmod(path, 0o666)
        self.listener.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        with self.lock:
            ends = [self.listener, *self.connections]
        for end in ends:
            _shut(end)
            end.close()

    def arm(self, method, moment, action):
        trap = Trap(method, moment, action)
        with self.lock:
            self.trap = trap
        return trap

    def disarm(self):
        with self.lock:
            self.trap = None

    def forget(self):
        with self.lock:
            self.seen = []

    def calls(self, method):
        """The parameters of umbrad's calls of that name since forget()."""
        with self.lock:
            return [params for name, params in self.seen if name == method]

    # --- the threads -----------------------------------------------------------------------------

    def _accept(self):
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            umbrad = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                umbrad.connect(self.target)
            except OSError:  # umbrad is not there: the peer learns it as an end of file.
                umbrad.close()
                peer.close()
                continue
            with self.lock:
                self.connections |= {peer, umbrad}
            for source, sink, inspect in ((umbrad, peer, self._of_umbrad), (peer, umbrad, self._of_peer)):
                arguments = (source, sink, inspect, peer)
                threading.Thread(target=self._pass_on, args=arguments, daemon=True).start()

    def _pass_on(self, source, sink, inspect, peer):
        try:
            with source.makefile("rb") as lines:
                for line in lines:
                    after = inspect(json.loads(line), peer)
                    sink.sendall(line)
                    if after is not None:
                        after()
        except (OSError, ValueError):  # An end that has gone may leave half a line.
            pass
        with self.lock:
            self.connections -= {source, sink}
        for end in (source, sink):
            _shut(end)

    def _of_umbrad(self, message, peer):
        """What is to be done after the line has passed; what is to be done before is done."""
        if "method" not in message:
            return None
        with self.lock:
            self.seen.append((message["method"], message.get("params") or {}))
            trap = self.trap
            if trap is None or trap.call is not None or message["method"] != trap.method:
                return None
            trap.call = (peer, message.get("id"))
        if trap.moment == ASKED:
            trap.spring()
        return trap.spring if trap.moment == WORKING else None

    def _of_peer(self, message, peer):
        with self.lock:
            trap = self.trap
            mine = trap is not None and "method" not in message and trap.call == (peer, message.get("id"))
            if not mine or trap.answered:
                return None
            trap.answered = True
        if trap.moment == ANSWERED:
            trap.spring()
        return None


def _shut(end):
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
