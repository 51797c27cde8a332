# SPDX-License-Identifier: Apache-2.0
"""The guarded lines of the store: each entry breaks one, and names a test that must fail then.

Orders that docs/formats/diff-area.md and the store's own comments promise. `old` has to be found
exactly once in its file: an entry that no longer fits its code says so instead of passing.
"""

from collections import namedtuple

Mutant = namedtuple("Mutant", "name file old new program case")

CRASH = "cow_crash_test"
CUT = "a power cut at any disk operation costs no flushed write and no persistent snapshot"
KILL = "kill -9 at any disk operation costs nothing that had completed"
RANDOM = "power cuts and kills of random loads cost nothing that was promised"

COW = "provider/cow/"
MUTANTS = [
    # --- a preserve ---
    Mutant("preserve: a flush before the origin write", COW + "preserve.cc",
           "  if (!batch.durable) {\n    publish(batch);", "  if (true) {\n    publish(batch);",
           CRASH, CUT),
    Mutant("preserve: all copies before the origin write", COW + "preserve.cc",
           "    if (copy == nullptr) copy = claim(chunk);",
           "    if (copy == nullptr) {\n      copy = claim(chunk);\n      set_done(chunk);\n    }",
           CRASH, CUT),
    Mutant("preserve: any persistent snapshot needs the flush", COW + "preserve.cc",
           "batch.durable = batch.durable || needs_flush(batch.chunks[i]);",
           "batch.durable = snapshots_.rbegin()->second->slot.persistent;", CRASH, CUT),
    Mutant("preserve: all of the data is written", COW + "preserve.cc",
           "  batch.write_data.next = &batch.write_index[0];",
           "  if (stored > 0) batch.write_data.size_bytes = layout_.chunk_bytes;\n"
           "  batch.write_data.next = &batch.write_index[0];", CRASH, CUT),
    Mutant("preserve: only what had completed before a flush is durable", COW + "preserve.cc",
           "std::max(impl.durable_sequence_, owner.durable_after_flush)",
           "impl.next_sequence_ - 1", CRASH, RANDOM),
    Mutant("preserve: groups are vouched for without a gap", COW + "preserve.cc",
           "completed_ahead_[used] == completed_sequence_ + 1",
           "completed_ahead_[used] > completed_sequence_", CRASH, KILL),
    # --- a snapshot ---
    Mutant("post_commit: a flush of the origin", COW + "control.cc",
           "  if (slot.persistent) {\n    if (Status flushed = flush_origin()",
           "  if (false) {\n    if (Status flushed = flush_origin()", CRASH, CUT),
]
