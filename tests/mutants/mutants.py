#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Breaks each guarded line of the store once and expects a test to fail: `guarded_lines.py` has them.

    tests/mutants/mutants.py [--explore] [PART-OF-A-NAME...]

Nothing of the tree is changed: the broken file is compiled aside, under the build's own lock, and
linked before the library that has the right one. Needs build/release to be configured (script/build).
Cases run in their short form. --explore runs every case of the program and prints all that fail. A case that does not
end within its limit counts as failed. Exit status: 0 if every mutant was found.
"""

import fcntl
import json
import os
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from guarded_lines import MUTANTS  # noqa: E402

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.path.join(TOP, "build", "release")
LOCK = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"umbra-build.{os.getuid()}.lock")
CASE_LIMIT_S = 120
AT_A_TIME = 48  # Built under one lock.
SEEDS = ("1", "2", "3", "4")


def broken(mutant):
    with open(os.path.join(TOP, mutant.file), encoding="utf-8") as source:
        text = source.read()
    count = text.count(mutant.old)
    if count != 1:
        raise SystemExit(f"{mutant.name}: its line is {count} times in {mutant.file}; mend guarded_lines.py")
    return text.replace(mutant.old, mutant.new)


def run(command, cwd, limit=None):
    short = {name: value for name, value in os.environ.items() if name != "UMBRA_LONG"}
    return subprocess.run(command, cwd=cwd, env=short, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", timeout=limit, check=False)  # fmt: skip


def build_right(programs):
    done = run(["cmake", "--build", BUILD, "--target", *programs], TOP)
    if done.returncode != 0:
        raise SystemExit(f"the programs do not build:\n{done.stdout}")


def link_command(program):
    told = run(["ninja", "-C", BUILD, "-t", "commands", "-s", f"tests/{program}"], TOP)
    command = told.stdout.split("&&")[1]
    return shlex.split(command)


def build(mutant, scratch):
    """The path of the program with the broken line; an error ends the run: that is no failed test."""
    with open(os.path.join(BUILD, "compile_commands.json"), encoding="utf-8") as commands:
        wanted = os.path.join(TOP, mutant.file)
        compile_ = next(shlex.split(entry["command"]) for entry in json.load(commands)
                        if entry["file"] == wanted and "umbra_cow_sched" not in entry["command"])
    source = os.path.join(scratch, f"{MUTANTS.index(mutant)}.cc")
    with open(source, "w", encoding="utf-8") as out:
        out.write(broken(mutant))
    compile_[compile_.index("-o") + 1] = source + ".o"
    compile_[compile_.index("-c") + 1] = source
    compile_ += ["-Wno-error", "-w", "-g0", "-O1"]
    link = link_command(mutant.program)
    program = source + ".test"
    link[link.index("-o") + 1] = program
    link.insert(link.index("lib/libumbra_cow.a"), source + ".o")
    for command in (compile_, link):
        done = run(command, BUILD)
        if done.returncode != 0:
            raise SystemExit(f"{mutant.name}: it does not compile\n{done.stdout}")
    return program


def fails(program, case):
    """With which seed; None: it passes with all of them."""
    for seed in SEEDS:
        try:
            done = run([program, case.replace(",", "\\,"), "--seed", seed], TOP, CASE_LIMIT_S)
        except subprocess.TimeoutExpired:
            return seed + " (does not end)"
        if "No tests ran" in done.stdout or "No test cases matched" in done.stdout:
            raise SystemExit(f"there is no test called {case}")
        if done.returncode != 0:
            return seed
    return None


def cases(program):
    told = run([program, "--list-test-names-only"], TOP)
    return [line.strip() for line in told.stdout.splitlines() if line.strip()]


def judge(mutant, program):
    """Whether a test has found it."""
    tried = cases(program) if "--explore" in sys.argv else [mutant.case]
    found = [(case, seed) for case in tried if (seed := fails(program, case))]
    for case, seed in found:
        print(f"found   {mutant.name}: {case}, seed {seed}", flush=True)
    if not found:
        print(f"MISSED  {mutant.name}: {mutant.case}", flush=True)
    return bool(found)


def main():
    words = [word for word in sys.argv[1:] if word != "--explore"]
    chosen = [m for m in MUTANTS if not words or any(word in m.name for word in words)]
    missed = 0
    with tempfile.TemporaryDirectory(dir=os.path.join(TOP, "build")) as scratch:
        for first in range(0, len(chosen), AT_A_TIME):
            some = chosen[first:first + AT_A_TIME]
            with open(LOCK, "w", encoding="utf-8") as lock, ThreadPoolExecutor(2) as workers:
                fcntl.flock(lock, fcntl.LOCK_EX)
                build_right({mutant.program for mutant in some})
                programs = [*workers.map(lambda mutant: build(mutant, scratch), some)]
            for mutant, program in zip(some, programs):
                missed += not judge(mutant, program)
                os.unlink(program)
    print(f"{len(chosen) - missed} of {len(chosen)} were found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
