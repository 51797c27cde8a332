# SPDX-License-Identifier: Apache-2.0
"""Incremental backups over NBD: what changed is a metadata context that other people's programs read."""

import json
import os
import re
import signal
import subprocess
import sys

import harness
import nbd  # nbd.py beside this, not libnbd's module.
from harness import expect, require_programs, run_command, wait_until

MEBI = 1 << 20
VOLUME_MIB = 64
BITMAP = "qemu:dirty-bitmap:"
PYTHON = "/usr/bin/python3"

# For nbdsh: the dirty parts of an export in a context, each followed by what stands there, into a file.
INCREMENTAL = """
import json, os
context, target = os.environ["CONTEXT"], os.environ["TARGET"]
h.set_uri_allow_local_file(True)
h.add_meta_context(context)
h.connect_uri(os.environ["URI"])
assert h.can_meta_context(context), "the context was not granted"
position, dirty = 0, []
def told(name, offset, entries, error):
    global position
    assert name == context and offset == position
    for length, flags in zip(entries[::2], entries[1::2]):
        if flags & 1:
            dirty.append((position, length))
        position += length
while position < h.get_size():
    h.block_status(min(h.get_size() - position, 1 << 30), position, told)
if target:
    with open(target, "r+b") as backup:
        for offset, length in dirty:
            for at in range(offset, offset + length, 1 << 20):
                backup.seek(at)
                backup.write(h.pread(min(1 << 20, offset + length - at), at))
print(json.dumps(dirty))
"""


def changed(uri, context, target=""):
    """[(offset, length)] of what is dirty, by nbdsh; read into `target`."""
    # Debian's module belongs to Debian's python3, whichever one runs this.
    path = os.path.dirname(PYTHON) + os.pathsep + os.environ["PATH"]
    variables = {**os.environ, "PATH": path, "URI": uri, "CONTEXT": context, "TARGET": target}
    told = run_command("nbdsh", "-c", INCREMENTAL, env=variables).stdout
    return [tuple(part) for part in json.loads(told)]


def joined(ranges):
    """Neighbours as one."""
    out = []
    for begin, size in sorted(ranges):
        if out and out[-1][0] + out[-1][1] == begin:
            out[-1] = (out[-1][0], out[-1][1] + size)
        else:
            out.append((begin, size))
    return out


def bitmaps(uri):
    """Names of the contexts that nbdinfo lists for an export, without their namespace."""
    (export,) = json.loads(run_command("nbdinfo", "--json", uri).stdout)["exports"]
    return sorted(name.removeprefix(BITMAP) for name in export["contexts"] if name.startswith(BITMAP))


def write(uri, *offsets):
    words = [word for offset in offsets for word in ("-c", f"write -P {offset // MEBI + 1} {offset} 4k")]
    run_command("qemu-io", "-f", "raw", *words, "-c", "flush", uri)


def copy_of(world, volume="db"):
    return world.umbra("create", "shadow", volume, "--context", "nas-rollback")["snapshots"][0]


def start(world, *arguments):
    require_programs("nbdsh", "nbdinfo", "nbdcopy", "qemu-img", "qemu-io", "fio", "cmp", PYTHON)
    world.start_umbrad()
    world.start_cowd(*arguments)
    return world.attach("db", VOLUME_MIB)["nbd_uri"]


def since_what_is_offered(world):
    """Contexts are listed for what is older than the copy, agree with `umbra changed`, and exports say what they are."""
    live = start(world)
    first = copy_of(world)
    world.umbra("checkpoint", "create", "db", "nightly")
    write(live, 5 * MEBI)
    second = copy_of(world)
    write(live, 40 * MEBI)
    one, two = first["snapshot_id"], second["snapshot_id"]
    (checkpoint,) = world.umbra("checkpoint", "list", "db")["checkpoints"]

    expect(bitmaps(first["nbd_uri"]) == ["nightly"], f"of the first: {bitmaps(first['nbd_uri'])}")
    expect(bitmaps(second["nbd_uri"]) == sorted([one, "nightly"]), f"of the second: {bitmaps(second['nbd_uri'])}")
    expect(bitmaps(live) == sorted([one, two, "nightly"]), f"of the live volume: {bitmaps(live)}")
    for uri, since, until in (
        (second["nbd_uri"], one, ("--until", two)),
        (second["nbd_uri"], "nightly", ("--until", two)),
        (live, one, ()),
        (live, two, ()),
        (live, "nightly", ()),
    ):
        text = world.umbra_raw("changed", "--volume", "db", "--since", since, "--raw", *until).stdout
        ours = [tuple(int(word) for word in line.split()) for line in text.splitlines()]
        theirs = joined(changed(uri, BITMAP + since))
        expect(ours and theirs == ours, f"since {since} of {uri}: {theirs} is not {ours}")
    expect(changed(first["nbd_uri"], BITMAP + "nightly") == [], "nothing changed up to itself")
    by_id = changed(live, BITMAP + checkpoint["checkpoint_id"])
    expect(by_id == changed(live, BITMAP + "nightly"), f"by the checkpoint's id: {by_id}")

    # As QEMU has it: in a map of a bitmap, what is no data is dirty.
    mapped = json.loads(run_command(
        "qemu-img", "map", "--output=json", "--image-opts",
        f"driver=nbd,server.type=unix,server.path={world.run_dir}/nbd.sock,export={two},"
        f"x-dirty-bitmap={BITMAP}{one}",
    ).stdout)  # fmt: skip
    dirty = [(part["start"], part["length"]) for part in mapped if not part["data"]]
    expect(dirty == [(5 * MEBI, 16384)], f"qemu-img: {mapped}")
    # And as nbdinfo has it.
    told = json.loads(run_command("nbdinfo", "--json", f"--map={BITMAP}{one}", second["nbd_uri"]).stdout)
    dirty = [(part["offset"], part["length"]) for part in told if part["type"] & 1]
    expect(dirty == [(5 * MEBI, 16384)], f"nbdinfo: {told}")
    totals = run_command("nbdinfo", "--totals", f"--map={BITMAP}{one}", second["nbd_uri"]).stdout
    expect("16384" in totals and "dirty" in totals, f"totals: {totals}")

    listed = json.loads(run_command("nbdinfo", "--list", "--json", second["nbd_uri"]).stdout)["exports"]
    words = {export["export-name"]: export["description"] for export in listed}
    expect("live volume" in words["db"], f"described: {words}")
    expect("copy of volume db" in words[two] and second["set_id"] in words[two], f"described: {words}")


def what_is_unknown_is_dirty(world):
    """A context whose point in time has gone says that everything has changed, and is not offered any more."""
    live = start(world)
    first = copy_of(world)
    world.umbra("checkpoint", "create", "db", "nightly")
    write(live, 5 * MEBI)
    second = copy_of(world)
    script = world.path("hold.py")
    with open(script, "w", encoding="ascii") as file:
        file.write(
            "import nbd, sys\n"
            "h = nbd.NBD()\n"
            "names = sys.argv[2:]\n"
            "for name in names: h.add_meta_context(name)\n"
            "h.connect_uri(sys.argv[1])\n"
            "for line in sys.stdin:\n"
            "  told = {}\n"
            "  h.block_status(h.get_size(), 0, lambda n, o, e, x: told.update({n: e}))\n"
            "  print(*[sum(l for l, f in zip(told[n][::2], told[n][1::2]) if f & 1) for n in names], flush=True)\n"
        )
    contexts = [BITMAP + first["snapshot_id"], BITMAP + "nightly"]
    holder = subprocess.Popen(
        [PYTHON, script, second["nbd_uri"], *contexts],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    world.processes.append(holder)

    def ask():
        holder.stdin.write("\n")
        holder.stdin.flush()
        return [int(word) for word in holder.stdout.readline().split()]

    expect(ask() == [16384, 16384], "at first")
    world.umbra("delete", "shadows", first["snapshot_id"])
    expect(ask() == [VOLUME_MIB * MEBI, 16384], "without the copy")
    world.umbra("checkpoint", "delete", "db", "nightly")
    # Another one of the same name is another one.
    world.umbra("checkpoint", "create", "db", "nightly")
    expect(ask() == [VOLUME_MIB * MEBI] * 2, "without the checkpoint")
    expect(bitmaps(second["nbd_uri"]) == ["nightly"], "what has gone is offered")
    expect(changed(second["nbd_uri"], BITMAP + "nightly") == [], "of the new checkpoint")
    holder.stdin.close()
    expect(holder.wait(20) == 0, "the holder failed")


def kill_cowd(world):
    pid = world.cowd_pid()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: world.cowd_pid() not in (None, pid), "the guardian starts a successor")
    wait_until(world.provider_connected, "the successor is registered")
    return True


def chain(world, rounds, point_of, between=lambda number: False):
    """A full backup, then one incremental one after the other, each compared with a full copy."""
    live = start(world)
    load = world.path("load.fio")
    with open(load, "w", encoding="ascii") as file:
        # Scattered writes to an eighth of the volume; now and then one elsewhere.
        file.write(
            f"[global]\nioengine=nbd\nuri={live}\ntime_based\nruntime=600\nrandseed={world.random.randrange(1 << 30)}\n"
            "rw=randwrite\niodepth=4\n"
            "[hot]\noffset=16m\nsize=8m\nbsrange=4k-64k\nrate_iops=400\n"
            "[cold]\nsize=60m\nbs=4k\nrate_iops=2\n"
        )
    backup = world.path("backup")
    full = world.path("full")
    loaded = world.start("fio", load)
    wait_until(lambda: changed_bytes(world) > 0, "the load writes")
    last = copy_of(world)
    run_command("nbdcopy", last["nbd_uri"], backup)
    since = point_of(last)
    for number in range(rounds):
        wait_until(lambda: changed_bytes(world, since) > MEBI, "something changes")
        if between(number):  # NBD clients do not survive the server, and fio waits for ever.
            os.killpg(loaded.pid, signal.SIGKILL)
            loaded.wait()
            loaded = world.start("fio", load)
        now = copy_of(world)
        read = changed(now["nbd_uri"], BITMAP + since, backup)
        run_command("nbdcopy", now["nbd_uri"], full)
        run_command("cmp", backup, full)
        size = sum(length for _, length in read)
        expect(0 < size < VOLUME_MIB * MEBI * 3 // 4, f"round {number}: {size} bytes")
        world.umbra("delete", "shadows", last["snapshot_id"])
        last, since = now, point_of(now)
        print(f"round {number}: {size >> 10} KiB of {VOLUME_MIB} MiB")


def changed_bytes(world, since=None):
    if since is None:
        (volume,) = world.umbra("list", "volumes")["volumes"]
        return 1 if os.stat(volume["origin_path"]).st_blocks > 0 else 0
    text = world.umbra_raw("changed", "--volume", "db", "--since", since, "--raw").stdout
    return sum(int(line.split()[1]) for line in text.splitlines())


def copies_under_load(world):
    """Each backup since the copy of the one before."""
    chain(world, 4, lambda copy: copy["snapshot_id"])


def checkpoints_under_load(world):
    """Each backup since a checkpoint whose copy has gone; umbra-cowd is killed in between."""
    made = []

    def checkpoint(_):
        name = f"night {len(made)}"
        world.umbra("checkpoint", "create", "db", name)
        if made:
            world.umbra("checkpoint", "delete", "db", made[-1])
        made.append(name)
        return name

    chain(world, 4, checkpoint, between=lambda number: number == 2 and kill_cowd(world))


def port_of(world):
    """Of the newest umbra-cowd."""
    found = wait_until(
        lambda: re.findall(r"listening on TCP.* port=(\d+)", world.log_text("umbra-cowd")), "umbra-cowd listens"
    )
    return int(found[-1])


def over_tls(world):
    """The same over TCP from umbra-cowd itself: read-only, and there again after kill -9. What is wrong with TLS keeps no
    volume from being served."""
    require_programs("certtool")
    authority = nbd.Authority(world, "tls")
    live = start(world, "--nbd-tcp", "0", "--nbd-tls-certificates", authority.directory)
    world.expect_logged("umbra-cowd", "no client over TCP can be served")
    authority.issue("server")
    authority.issue("client")

    def remote(name):
        return f"nbds://localhost:{port_of(world)}/{name}?tls-certificates={authority.directory}"

    (export,) = json.loads(run_command("nbdinfo", "--json", remote("db")).stdout)["exports"]
    expect(export["is_read_only"], f"the live volume can be written over TCP: {export}")
    (export,) = json.loads(run_command("nbdinfo", "--json", live).stdout)["exports"]
    expect(not export["is_read_only"], "the live volume cannot be written locally")
    backup, full = world.path("backup"), world.path("full")
    first = copy_of(world)
    run_command("nbdcopy", remote(first["snapshot_id"]), backup)
    write(live, 5 * MEBI, 6 * MEBI)
    second = copy_of(world)
    listened = world.log_text("umbra-cowd").count("listening on TCP")
    kill_cowd(world)
    wait_until(lambda: world.log_text("umbra-cowd").count("listening on TCP") > listened, "it listens again")
    read = changed(remote(second["snapshot_id"]), BITMAP + first["snapshot_id"], backup)
    expect(joined(read) == [(5 * MEBI, 16384), (6 * MEBI, 16384)], f"changed: {read}")
    run_command("nbdcopy", second["nbd_uri"], full)
    run_command("cmp", backup, full)
    refused = run_command(world.binary("umbra-cowd"), "--run-dir", world.run_dir, "--nbd-tcp", "0", check=False)
    expect(refused.returncode == 2 and "without TLS" in refused.stderr, f"TCP without TLS: {refused.stderr}")
    refused = run_command(world.binary("umbra-cowd"), "--nbd-tls-psk", "/nowhere", check=False)
    expect(refused.returncode == 2 and "need --nbd-tcp" in refused.stderr, f"TLS without TCP: {refused.stderr}")


if __name__ == "__main__":
    sys.exit(
        harness.run(
            {
                "since_what_is_offered": since_what_is_offered,
                "what_is_unknown_is_dirty": what_is_unknown_is_dirty,
                "copies_under_load": copies_under_load,
                "checkpoints_under_load": checkpoints_under_load,
                "over_tls": over_tls,
            }
        )
    )
