// SPDX-License-Identifier: Apache-2.0
// umbra changed OLDER YOUNGER [--raw]
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

}  // namespace

ExitCode changed(Service& service, Output& output, const Changed& arguments) {
  std::uint64_t blocks = 0;
  std::uint64_t block_bytes = 0;
  for (std::uint64_t next = 0;;) {
    const auto part = service.changed(arguments.older, arguments.younger, next);
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
