# SPDX-License-Identifier: Apache-2.0
"""Our NBD server over a plain file, tried by other people's clients: no daemon, no copy-on-write."""

import json
import os
import re
import socket
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
        self.world = world
        path = world.path("nbd.sock")
        self.uri = f"nbd+unix:///?socket={path}"
        world.start(world.binary("umbra-nbd-file"), path, self.image, *arguments)
        wait_until(lambda: os.path.exists(path), "umbra-nbd-file listens")

    def log(self):
        return self.world.log_text("umbra-nbd-file")

    def port(self):
        return int(wait_until(lambda: re.search(r"listening on TCP.* port=(\d+)", self.log()), "TCP")[1])


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


def qemu_is_a_client(world):
    """qemu-img converts both ways, maps and benches; qemu-storage-daemon serves what it reads from us."""
    require_programs("qemu-img", "qemu-storage-daemon", "nbdcopy", "cmp")
    server = Server(world)
    copied = world.path("copied")
    run_command("qemu-img", "convert", "-f", "raw", "-O", "raw", server.uri, copied)
    same(copied, server.image)
    mapped = json.loads(run_command("qemu-img", "map", "-f", "raw", "--output=json", server.uri).stdout)
    zeroes = sum(part["length"] for part in mapped if part["zero"])
    expect(zeroes == 16 << 20, f"map: {mapped}")
    for arguments in (("-w",), ("-w", "--flush-interval=64"), ()):
        run_command("qemu-img", "bench", "-f", "raw", "-c", 2000, "-d", 32, "-s", "16k", *arguments, server.uri)
    with open(copied, "r+b") as file:
        file.write(os.urandom(8 << 20))
        file.truncate(48 << 20)  # The end becomes zeroes.
        file.truncate(SIZE)
    run_command("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", copied, server.uri)
    same(copied, server.image)
    # As a block device of a virtual machine has it: a node over us, exported again.
    again = world.path("again.sock")
    world.start(
        "qemu-storage-daemon",
        "--blockdev", f"driver=nbd,node-name=ours,server.type=unix,server.path={world.path('nbd.sock')},export=file",
        "--nbd-server", f"addr.type=unix,addr.path={again}",
        "--export", "type=nbd,id=again,node-name=ours,name=again,writable=on",
    )  # fmt: skip
    wait_until(lambda: os.path.exists(again), "qemu-storage-daemon listens")
    run_command("nbdcopy", f"nbd+unix:///again?socket={again}", copied)
    same(copied, server.image)


# --- TCP ------------------------------------------------------------------------------------------


class Authority:
    """Certificates of an authority in a directory, under the names that NBD programs look for."""

    def __init__(self, world, name):
        self.directory = world.path(name)
        os.makedirs(self.directory)
        self._certificate("ca", "cn = umbra test\nca\ncert_signing_key\n")

    def path(self, name):
        return os.path.join(self.directory, name)

    def issue(self, who, uses="tls_www_server\ntls_www_client\n"):
        self._certificate(who, f"cn = {who} of umbra\ndns_name = localhost\nsigning_key\n{uses}")

    def _certificate(self, who, template):
        key = self.path(f"{who}-key.pem")
        with open(self.path("template"), "w", encoding="ascii") as file:
            file.write(template + "expiration_days = 2\n")
        run_command("certtool", "--generate-privkey", "--ecc", "--outfile", key)
        by = ["--generate-self-signed"]
        if who != "ca":
            by = ["--generate-certificate", "--load-ca-certificate", self.path("ca-cert.pem"),
                  "--load-ca-privkey", self.path("ca-key.pem")]  # fmt: skip
        run_command("certtool", *by, "--load-privkey", key, "--template", self.path("template"),
                    "--outfile", self.path(f"{who}-cert.pem"))  # fmt: skip


def tls_server(world, *arguments):
    """By certificates and by a shared key of alice, on a free port of the loopback device."""
    require_programs("certtool", "psktool", "nbdinfo", "nbdcopy", "qemu-img", "cmp")
    authority = Authority(world, "tls")
    authority.issue("server", "tls_www_server\n")
    authority.issue("client", "tls_www_client\n")
    keys = world.path("keys.psk")
    run_command("psktool", "-u", "alice", "-p", keys)
    server = Server(world, "--tcp", 0, "--certificates", authority.directory, "--keys", keys, *arguments)
    return server, authority, keys


def copies_over_tls(world):
    """nbdinfo, nbdcopy and qemu-img by certificate and by shared key; read-only although the export is not."""
    server, authority, keys = tls_server(world)
    port = server.port()
    by_certificate = f"nbds://localhost:{port}/file?tls-certificates={authority.directory}"
    by_key = f"nbds://alice@localhost:{port}/file?tls-psk-file={keys}"
    for uri in (by_certificate, by_key):
        told = json.loads(run_command("nbdinfo", "--json", uri).stdout)
        expect(told["TLS"], f"no TLS: {told}")
        expect(told["exports"][0]["is_read_only"], "writable over TCP")
        copied = world.path("copied")
        run_command("nbdcopy", uri, copied)
        same(copied, server.image)
    expect('who="certificate CN=client of umbra"' in server.log(), "the certificate is not told")
    expect('who="key of alice"' in server.log(), "the user is not told")

    for credentials in (f"tls-creds-x509,id=tls,endpoint=client,dir={authority.directory}",
                        f"tls-creds-psk,id=tls,endpoint=client,username=alice,dir={world.top}"):  # fmt: skip
        run_command(
            "qemu-img", "compare", "--object", credentials, "--image-opts", "-p",
            f"driver=raw,file.driver=file,file.filename={server.image}",
            f"driver=nbd,host=localhost,port={port},export=file,tls-creds=tls,read-only=on",
        )  # fmt: skip


def load_over_tls(world):
    """Written over TLS by several connections, if that was asked for; the local socket reads it."""
    server, authority, _ = tls_server(world, "--writable")
    uri = f"nbds://localhost:{server.port()}/file?tls-certificates={authority.directory}"
    other = world.path("other")
    with open(other, "wb") as file:
        file.write(os.urandom(SIZE))
    run_command("nbdcopy", "--connections=4", "--requests=64", other, uri)
    same(other, server.image)
    copied = world.path("copied")
    run_command("nbdcopy", "--connections=4", "--request-size=2097152", uri, copied)
    same(copied, other)
    run_command("qemu-img", "compare", "-f", "raw", "-F", "raw", copied, server.uri)


def strangers_are_turned_away(world):
    """No TLS, a foreign authority, a server's certificate, a wrong key, an unknown user, no certificate; each is
    logged, and nobody else notices."""
    server, authority, keys = tls_server(world)
    port = server.port()

    def refused(uri, reason):
        before = server.log().count("turned away")
        done = run_command("nbdinfo", uri, check=False)
        expect(done.returncode != 0, f"{uri} was served: {done.stdout}")
        wait_until(lambda: server.log().count("turned away") > before, f"{uri} is logged")
        line = [line for line in server.log().splitlines() if "turned away" in line][-1]
        expect(re.search(reason, line) and "peer=127.0.0.1:" in line, f"{uri}: {line}")

    refused(f"nbd://localhost:{port}/file", "did not ask for TLS")
    foreign = Authority(world, "foreign")
    foreign.issue("client")
    with open(foreign.path("ca-cert.pem"), "wb") as file:  # It trusts us; we do not trust it.
        file.write(open(authority.path("ca-cert.pem"), "rb").read())
    refused(f"nbds://localhost:{port}/file?tls-certificates={foreign.directory}", "issuer is unknown")
    other = world.path("other.psk")
    run_command("psktool", "-u", "alice", "-p", other)
    refused(f"nbds://alice@localhost:{port}/file?tls-psk-file={other}", "reason=")
    run_command("psktool", "-u", "mallory", "-p", other)
    refused(f"nbds://mallory@localhost:{port}/file?tls-psk-file={other}", "reason=")
    # One that was revoked, as soon as that is known.
    revoked = authority.path("ca-crl.pem")
    with open(authority.path("template"), "w", encoding="ascii") as file:
        file.write("crl_next_update = 2\ncrl_number = 1\n")
    run_command("certtool", "--generate-crl", "--load-ca-privkey", authority.path("ca-key.pem"),
                "--load-ca-certificate", authority.path("ca-cert.pem"), "--load-certificate",
                authority.path("client-cert.pem"), "--template", authority.path("template"),
                "--outfile", revoked)  # fmt: skip
    refused(f"nbds://localhost:{port}/file?tls-certificates={authority.directory}", "revoked")
    os.unlink(revoked)
    # What was issued for a server does not make a client.
    authority.issue("client", "tls_www_server\n")
    refused(f"nbds://localhost:{port}/file?tls-certificates={authority.directory}", "purpose")
    os.unlink(authority.path("client-cert.pem"))
    os.unlink(authority.path("client-key.pem"))
    refused(f"nbds://localhost:{port}/file?tls-certificates={authority.directory}", "ertificate")
    # Who asks for TLS on the local socket goes on without it, or does not.
    expect(run_command("nbdinfo", server.uri.replace("nbd+unix", "nbds+unix"), check=False).returncode != 0, "TLS")
    run_command("nbdinfo", f"nbds://alice@localhost:{port}/file?tls-psk-file={keys}")


def secrets_are_kept(world):
    """Keys that others may read are not used, and that is said; renewed files count at once."""
    server, authority, keys = tls_server(world)
    uri = f"nbds://localhost:{server.port()}/file?tls-certificates={authority.directory}"
    os.chmod(keys, 0o644)
    expect(run_command("nbdinfo", uri, check=False).returncode != 0, "served with an open secret")
    wait_until(lambda: f"{keys} is a secret" in server.log(), "it is said")
    os.chmod(keys, 0o600)
    run_command("nbdinfo", uri)
    authority.issue("server")
    run_command("nbdinfo", uri)


def strangers_have_a_limit(world):
    """Those who say nothing take no place but those of strangers, and are gone in time."""
    server, authority, _ = tls_server(world)
    port = server.port()
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
    wait_until(lambda: "too many NBD connections" in server.log(), "some are refused")
    run_command("nbdinfo", server.uri)  # The local socket does not care.
    for one in idle:
        one.settimeout(60)
        try:
            while one.recv(64):
                pass
        except ConnectionResetError:
            pass
        one.close()
    run_command("nbdinfo", f"nbds://localhost:{port}/file?tls-certificates={authority.directory}")


if __name__ == "__main__":
    sys.exit(
        harness.run(
            {
                "clients_copy_and_agree": clients_copy_and_agree,
                "what_is_offered_is_told": what_is_offered_is_told,
                "read_only_means_it": read_only_means_it,
                "load_is_verified": load_is_verified,
                "qemu_is_a_client": qemu_is_a_client,
                "copies_over_tls": copies_over_tls,
                "load_over_tls": load_over_tls,
                "strangers_are_turned_away": strangers_are_turned_away,
                "secrets_are_kept": secrets_are_kept,
                "strangers_have_a_limit": strangers_have_a_limit,
            }
        )
    )
