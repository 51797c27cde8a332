// SPDX-License-Identifier: Apache-2.0
// umbra changed OLDER YOUNGER | --volume VOLUME --since CHECKPOINT [--until ID], [--raw]
#include <boost/json/array.hpp>
#include <boost/json/value.hpp>

#include "requester-sdk/cli/commands.h"

namespace umbra::cli {
namespace {

// One object for each part, so that a volume of any size takes little memory here.
void print_json(Output& output, const SnapshotDelta& part) {
  boost::json::array ranges;
  for (const auto& run : part.runs) {
    ranges.push_back(boost::json::object{{"offset", run.first_block * part.block_bytes},
                                         {"size", run.blocks * part.block_bytes}});
  }
  output.object({{"block_bytes", part.block_bytes},
                 {"volume_blocks", part.volume_blocks},
                 {"ranges", std::move(ranges)},
                 {"last", part.next_block >= part.volume_blocks}});
}

// A checkpoint by name or id, else a copy's id.
Result<Guid> begin_of(Service& service, const Changed& arguments) {
  const auto volume = service.resolve(arguments.volume);
  if (!volume) return fail(volume.error());
  const auto checkpoint = find_checkpoint(service, *volume, arguments.since);
  if (checkpoint) return Guid{checkpoint->checkpoint_id};
  const auto copy = Guid::parse(arguments.since);
  if (checkpoint.error().code == Errc::object_not_found && copy) return *copy;
  return fail(checkpoint.error());
}

}  // namespace

ExitCode changed(Service& service, Output& output, const Changed& arguments) {
  std::uint64_t blocks = 0;
  std::uint64_t block_bytes = 0;
  Guid since;
  if (!arguments.since.empty()) {
    const auto begin = begin_of(service, arguments);
    if (!begin) return output.error(begin.error());
    since = *begin;
  }
  for (std::uint64_t next = 0;;) {
    const auto part = arguments.since.empty()
                          ? service.changed(arguments.older, arguments.younger, next)
                          : service.changes(since, arguments.until, next);
    if (!part) return output.error(part.error());
    block_bytes = part->block_bytes;
    print_json(output, *part);
    for (const auto& run : part->runs) {
      blocks += run.blocks;
      output.line(std::to_string(run.first_block * block_bytes) + " " +
                  std::to_string(run.blocks * block_bytes));
    }
    if (part->next_block >= part->volume_blocks) break;
    if (part->next_block <= next) {
      return output.error({Errc::protocol_violation, "the provider repeats a part of the list"});
    }
    next = part->next_block;
  }
  if (!arguments.raw) output.note(bytes_text(blocks * block_bytes) + " changed");
  return ExitCode::done;
}

}  // namespace umbra::cli
