# SPDX-License-Identifier: Apache-2.0
"""umbra-test-requester carries out what a file says, and judges what came of it."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree

import harness
from harness import expect, require_fuse_and_loop, wait_until

EXIT_AS_EXPECTED, EXIT_NOT_AS_EXPECTED, EXIT_WRONG_PLAN = 0, 1, 2


class Scene:
    """A volume, and a writer that does at each event what it was told."""

    def __init__(self, world, *behaviour):
        require_fuse_and_loop()
        self.world = world
        world.start_daemons()
        world.attach("data", 64)
        os.makedirs(world.path("srv"))
        self.writer = self.start_writer(*behaviour)

    def start_writer(self, *behaviour):
        world = self.world
        self.record = world.path("keeper.events")
        before = world.log_text("keeper").count("ready")
        writer = world.start(
            world.binary("umbra-test-writer"), "--socket", world.socket(), "--record", self.record,
            "--name", "keeper", "--component", f"data={world.path('srv')}", "--schema", 0x7FFF & ~0x880,
            *[f"--at={one}" for one in behaviour], name="keeper",
        )  # fmt: skip
        wait_until(lambda: world.log_text("keeper").count("ready") > before, "the writer is registered")
        return writer

    def restart_writer(self, *behaviour):
        expect(self.world.stop(self.writer) == 0, "the writer ended badly")
        self.writer = self.start_writer(*behaviour)

    def event(self, wanted):
        with open(self.record, encoding="utf-8") as lines:
            return [e for e in map(json.loads, lines) if e["event"] == wanted][-1]

    def run(self, plan, status=EXIT_AS_EXPECTED):
        """Carries the plan out; what the program said."""
        path = self.world.path("plan.toml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(plan)
        done = subprocess.run(
            [self.world.binary("umbra-test-requester"), "--socket", self.world.socket(), "--plan", path],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        print(done.stdout + done.stderr)
        expect(done.returncode == status, f"exit {done.returncode}, not {status}")
        return done

    def end(self):
        world = self.world
        expect(world.stop(self.writer) == 0, "the writer ended badly")
        world.umbra("delete", "shadows", "--all")
        world.umbra("detach", "data")
        for process in reversed([p for p in world.processes if p.poll() is None]):
            expect(world.stop(process) == 0, f"{process.args[0]} ended badly")
        world.assert_clean()


def backup(kind, save_to, component="", expected="", policy="involved"):
    return f"""
[backup]
context = "APP_ROLLBACK"
type = "{kind}"
volumes = ["data"]
policy = "{policy}"
save_to = "{save_to}"
[[component]]
writer = "keeper"
path = "data"
{component}
[expect]
{expected}
"""


def components_of(bundle):
    """name -> element, of the components of the document that a bundle holds."""
    document = xml.etree.ElementTree.parse(bundle).getroot().find("backup-components")
    return {element.get("name"): element for element in document.iter("component")}


# vss: rule.stamps-chain IVssBackupComponents.SetPreviousBackupStamp
# vss: IVssBackupComponents.SetBackupOptions IVssComponent.SetBackupStamp
def a_chain_with_stamps(world):
    """A full backup, and one that is based on it: what the writer stamped comes back to it."""
    scene = Scene(world, "post_snapshot=stamp:s1", "prepare_for_backup=metadata:m1")
    full, next_one = world.path("full.umbra.xml"), world.path("next.umbra.xml")
    done = scene.run(
        backup("FULL", full, 'backup_options = "gently"', """
[[expect.writer]]
name = "keeper"
after = "do"
state = "WAITING_FOR_BACKUP_COMPLETE"
failure = "S_OK"
[[expect.writer]]
name = "keeper"
state = "STABLE"
[[expect.component]]
writer = "keeper"
path = "data"
stamp = "s1"
metadata = "m1"
""")
    )  # fmt: skip
    expect("at save" in done.stdout and "snapshot " in done.stdout, "every step is told")
    expect(components_of(full)["data"].get("backup-options") == "gently", "the options are in the document")
    expect(components_of(full)["data"].get("previous-backup-stamp") is None, "it is based on none")
    scene.restart_writer("post_snapshot=stamp:s2")
    scene.run(
        backup("INCREMENTAL", next_one, f'previous_stamp_from = "{full}"', """
[[expect.component]]
writer = "keeper"
path = "data"
stamp = "s2"
""")
    )  # fmt: skip
    expect(components_of(next_one)["data"].get("previous-backup-stamp") == "s1", "it names its base")
    scene.end()


def events_of_a_restore(world):
    """PreRestore and PostRestore with all that a requester may say, and what the writer answers."""
    scene = Scene(world, "post_snapshot=stamp:s1")
    bundle = world.path("b.umbra.xml")
    scene.run(backup("FULL", bundle))
    scene.restart_writer("pre_restore=metadata:offline", "pre_restore=target:alternate")
    scene.run(f"""
[restore]
from = "{bundle}"
type = "BY_COPY"
[[component]]
writer = "keeper"
path = "data"
restore_options = "gently"
more_follow = true
status = "all"
[[component.new_targets]]
path = "{world.path('srv')}"
recursive = true
to = "/elsewhere"
[[expect.writer]]
name = "keeper"
state = "STABLE"
[[expect.component]]
writer = "keeper"
path = "data"
stamp = "s1"
restore_metadata = "offline"
target = "alternate"
""")
    before, after = scene.event("pre_restore")["restore"][0], scene.event("post_restore")["restore"][0]
    expect(before["options"] == "gently" and before["more_follow"] and before["new_targets"] == 1, f"{before}")
    expect(before["stamp"] == "s1" and after["status"] == 2, f"{before} {after}")
    scene.end()


def failures_as_expected(world):
    """A veto is a success of the plan that expects it, by policy or in the status alone."""
    scene = Scene(world, "freeze=veto")
    bundle = world.path("b.umbra.xml")
    status = """
[[expect.writer]]
name = "keeper"
after = "do"
state = "FAILED_AT_FREEZE"
failure = "VSS_E_WRITERERROR_RETRYABLE"
message = "as asked"
"""
    failing = 'result = "VSS_E_WRITERERROR_RETRYABLE"\nfails_at = "do"' + status
    scene.run(backup("FULL", bundle, "", failing))
    expect(not os.path.exists(bundle), "nothing is kept of a backup that failed")
    expect(not world.umbra("list", "shadows")["snapshots"], "no copy is left")
    scene.run(backup("FULL", bundle, "", status, policy="none"))
    expect(len(world.umbra("list", "shadows")["snapshots"]) == 1, "VSS's own way: the set is made")
    scene.end()


def what_is_not_as_expected_is_told(world):
    scene = Scene(world)
    bundle = world.path("b.umbra.xml")
    done = scene.run(backup("FULL", bundle, "", 'result = "E_ACCESSDENIED"'), EXIT_NOT_AS_EXPECTED)
    expect("result: expected E_ACCESSDENIED, got S_OK" in done.stderr, done.stderr)
    done = scene.run(
        backup("FULL", bundle, "", '[[expect.component]]\nwriter = "keeper"\npath = "data"\nstamp = "none"'),
        EXIT_NOT_AS_EXPECTED,
    )
    expect("component keeper:data stamp: expected 'none', got nothing" in done.stderr, done.stderr)
    done = scene.run("[backup]\ncontxt = 'BACKUP'\n", EXIT_WRONG_PLAN)
    expect("backup.contxt" in done.stderr, done.stderr)
    done = scene.run(backup("FULL", bundle).replace('path = "data"', 'path = "nothing"'), EXIT_NOT_AS_EXPECTED)
    expect("VSS_E_OBJECT_NOT_FOUND" in done.stderr and "components" in done.stderr, done.stderr)
    scene.end()


CASES = {
    case.__name__: case
    for case in (a_chain_with_stamps, events_of_a_restore, failures_as_expected, what_is_not_as_expected_is_told)
}

if __name__ == "__main__":
    sys.exit(harness.run(CASES))
