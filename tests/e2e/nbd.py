# SPDX-License-Identifier: Apache-2.0
"""Our NBD server over a plain file, tried by other people's clients: no daemon, no copy-on-write."""

import json
import os
import sys

import harness
from harness import expect, require_programs, run_command, wait_until

SIZE = 64 << 20


class Server:
    """umbra-nbd-file over an image of random bytes with a hole in the middle."""

    def __init__(self, world, *arguments):
        self.image = world.path("image")
        with open(self.image, "wb") as file:
            file.write(os.urandom(24 << 20))
            file.seek(40 << 20)
            file.write(os.urandom(24 << 20))
        socket = world.path("nbd.sock")
        self.uri = f"nbd+unix:///?socket={socket}"
        world.start(world.binary("umbra-nbd-file"), socket, self.image, *arguments)
        wait_until(lambda: os.path.exists(socket), "umbra-nbd-file listens")


def same(one, other):
    run_command("cmp", one, other)


def clients_copy_and_agree(world):
    """nbdcopy both ways, qemu-img compare and nbdkit's checkwrite filter."""
    require_programs("nbdcopy", "nbdkit", "qemu-img", "cmp")
    server = Server(world)
    copied = world.path("copied")
    run_command("nbdcopy", server.uri, copied)
    same(copied, server.image)
    run_command("qemu-img", "compare", "-f", "raw", "-F", "raw", copied, server.uri)
    run_command(
        "nbdkit", "-U", "-", "--filter=checkwrite", "nbd", f"uri={server.uri}", "--run",
        f'nbdcopy "{copied}" "$uri"',
    )  # fmt: skip
    other = world.path("other")
    with open(other, "wb") as file:
        file.write(os.urandom(SIZE))
    run_command("nbdcopy", "--connections=4", other, server.uri)
    same(other, server.image)


def what_is_offered_is_told(world):
    """nbdinfo sees the flags, the block sizes and the hole."""
    require_programs("nbdinfo")
    server = Server(world)
    (export,) = json.loads(run_command("nbdinfo", "--json", server.uri).stdout)["exports"]
    expect(export["export-size"] == SIZE, f"size: {export}")
    for flag in ("can_flush", "can_fua", "can_trim", "can_zero", "can_df", "can_multi_conn"):
        expect(export[flag], f"{flag} is not offered")
    expect(not export["is_read_only"], "read-only")
    expect(export["block_size_minimum"] == 512, f"minimum block: {export}")
    expect("base:allocation" in export["contexts"], f"contexts: {export['contexts']}")
    extents = json.loads(run_command("nbdinfo", "--json", "--map", server.uri).stdout)
    holes = sum(extent["length"] for extent in extents if extent["type"] == 3)
    expect(holes == 16 << 20, f"holes: {extents}")
    # The default export, without and with its name.
    listed = run_command("nbdinfo", "--list", "--json", server.uri).stdout
    expect([e["export-name"] for e in json.loads(listed)["exports"]] == ["file"], listed)


def read_only_means_it(world):
    """A client that opens read-write is refused."""
    require_programs("nbdinfo", "qemu-io", "nbdcopy")
    server = Server(world, "--read-only")
    (export,) = json.loads(run_command("nbdinfo", "--json", server.uri).stdout)["exports"]
    expect(export["is_read_only"], "not read-only")
    refused = run_command("qemu-io", "-f", "raw", "-c", "write 0 4k", server.uri, check=False)
    expect(refused.returncode != 0, "a write was accepted")
    run_command("qemu-io", "-r", "-f", "raw", "-c", "read 0 1M", server.uri)


def load_is_verified(world):
    """fio writes every block size and reads back what it wrote; then zeroes and trims from qemu."""
    require_programs("fio", "qemu-io")
    server = Server(world)
    run_command(
        "fio", "--name=load", "--ioengine=nbd", f"--uri={server.uri}", "--rw=randwrite",
        "--bsrange=512-256k", "--blockalign=512", "--iodepth=32", "--size=64M",
        "--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--verify_state_save=0",
    )  # fmt: skip
    run_command(
        "qemu-io", "-f", "raw", "-c", "write -z 512 50M", "-c", "discard 0 1M", "-c", "flush",
        "-c", "read -P 0 512 50M", server.uri,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(
        harness.run(
            {
                "clients_copy_and_agree": clients_copy_and_agree,
                "what_is_offered_is_told": what_is_offered_is_told,
                "read_only_means_it": read_only_means_it,
                "load_is_verified": load_is_verified,
            }
        )
    )
