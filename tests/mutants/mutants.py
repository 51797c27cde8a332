#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Breaks each guarded line of the store once and expects a test to fail: `guarded_lines.py` has them.

    tests/mutants/mutants.py [--explore | --check] [PART-OF-A-NAME...]
    tests/mutants/mutants.py --cowd FILE PART-OF-A-NAME

Nothing of the tree is changed: the broken file is compiled aside, under the build's own lock, and
linked before the library that has the right one. Needs build/release to be configured (script/build).
Cases run in their short form. --explore runs every case of the program and prints all that fail. A case that does not
end within its limit counts as failed. --cowd makes an umbra-cowd with the one broken line, for tests of whole machines
(tests/kernel). Exit status: 0 if every mutant was found, 1 if one was missed, 2 for a word that
no mutant's name has.
"""

import argparse
import fcntl
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from guarded_lines import MUTANTS  # noqa: E402

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.path.join(TOP, "build", "release")
LOCK = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"umbra-build.{os.getuid()}.lock")
CASE_LIMIT_S = 120
MUTANT_LIMIT_S = 90  # No further seed is begun then.
CUTS = "600"  # Of random loads, with each seed.
AT_A_TIME = 48  # Built under one lock.
SEEDS = tuple(str(seed) for seed in range(1, 41))


def broken(mutant):
    """Its file's text with the line broken. An entry that does not fit ends the run before it has begun."""
    with open(os.path.join(TOP, mutant.file), encoding="utf-8") as source:
        text = source.read()
    count = text.count(mutant.old)
    if count != 1:
        raise SystemExit(f"{mutant.name}: its line is {count} times in {mutant.file}; mend guarded_lines.py")
    return text.replace(mutant.old, mutant.new)


def run(command, cwd, limit=None):
    short = {name: value for name, value in os.environ.items() if name != "UMBRA_LONG"}
    short["UMBRA_CUTS"] = CUTS
    return subprocess.run(command, cwd=cwd, env=short, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", timeout=limit, check=False)  # fmt: skip


def build_right(programs):
    done = run(["cmake", "--build", BUILD, "--target", *programs], TOP)
    if done.returncode != 0:
        raise SystemExit(f"the programs do not build:\n{done.stdout}")


def link_command(program):
    told = run(["ninja", "-C", BUILD, "-t", "commands", "-s", program], TOP)
    command = told.stdout.split("&&")[1]
    return shlex.split(command)


def build(mutant, scratch, target=None):
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
    link = link_command(target or f"tests/{mutant.program}")
    program = source + ".test"
    link[link.index("-o") + 1] = program
    # Before every library: who looks for a symbol of the file finds this one first.
    link.insert(next(i for i, word in enumerate(link) if word.startswith("lib/")), source + ".o")
    for command in (compile_, link):
        done = run(command, BUILD)
        if done.returncode != 0:
            raise SystemExit(f"{mutant.name}: it does not compile\n{done.stdout}")
    return program


def fails(program, case):
    """With which seed; None: it passes with all of them, or with as many as there was time for."""
    end = time.monotonic() + MUTANT_LIMIT_S
    for seed in SEEDS:
        if time.monotonic() > end:
            break
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


def judge(mutant, program, explore):
    """Whether a test has found it."""
    tried = cases(program) if explore else [mutant.case]
    found = [(case, seed) for case in tried if (seed := fails(program, case))]
    for case, seed in found:
        print(f"found   {mutant.name}: {case}, seed {seed}", flush=True)
    if not found:
        print(f"MISSED  {mutant.name}: {mutant.case}", flush=True)
    return bool(found)


def choose(words):
    for word in words:
        if not any(word in mutant.name for mutant in MUTANTS):
            names = "\n  ".join(mutant.name for mutant in MUTANTS)
            print(f"mutants.py: no mutant is called {word!r}. There are:\n  {names}", file=sys.stderr)
            raise SystemExit(2)
    return [m for m in MUTANTS if not words or any(word in m.name for word in words)]


def make_cowd(chosen, path):
    if len(chosen) != 1:
        print(f"mutants.py: --cowd takes one mutant, not {len(chosen)}", file=sys.stderr)
        return 2
    with (
        tempfile.TemporaryDirectory(dir=os.path.join(TOP, "build")) as scratch,
        open(LOCK, "w", encoding="utf-8") as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        build_right({"umbra-cowd"})
        shutil.copy(build(chosen[0], scratch, "bin/umbra-cowd"), path)
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="PART-OF-A-NAME", help="only mutants with it in their names")
    parser.add_argument("--explore", action="store_true", help="run every case of the program")
    parser.add_argument("--check", action="store_true", help="only see whether each fits its code; builds nothing")
    parser.add_argument("--cowd", metavar="FILE", help="make a broken umbra-cowd and leave it there; runs nothing")
    arguments = parser.parse_args()
    chosen = choose(arguments.words)
    for mutant in chosen:
        broken(mutant)
    if arguments.cowd:
        return make_cowd(chosen, arguments.cowd)
    if arguments.check:
        print(f"{len(chosen)} mutants fit the code")
        return 0
    missed = 0
    with tempfile.TemporaryDirectory(dir=os.path.join(TOP, "build")) as scratch:
        for first in range(0, len(chosen), AT_A_TIME):
            some = chosen[first:first + AT_A_TIME]
            with open(LOCK, "w", encoding="utf-8") as lock, ThreadPoolExecutor(2) as workers:
                fcntl.flock(lock, fcntl.LOCK_EX)
                build_right({mutant.program for mutant in some})
                programs = [*workers.map(lambda mutant: build(mutant, scratch), some)]
            for mutant, program in zip(some, programs):
                missed += not judge(mutant, program, arguments.explore)
                os.unlink(program)
    print(f"{len(chosen) - missed} of {len(chosen)} were found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
