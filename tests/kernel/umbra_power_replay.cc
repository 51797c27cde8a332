// SPDX-License-Identifier: Apache-2.0
//
// umbra-power-replay: cuts the power of a machine that has long ended, as often as asked for.
//
//   umbra-power-replay LOG --origin-bytes N --diff-bytes N --journal FILE
//                      [--subsets 4] [--seed 1] [--states-max 100000]
//
// LOG is what dm-log-writes kept of one device whose first part was a volume's origin and whose
// rest its diff area; FILE is umbra-stamp's journal of the load on the volume. A flush that another
// one overtook in the log is put back before it (flush_order.h): the journal says which, since an
// origin that is a block device is written past the page cache. After each flush of the log, and
// after it with `subsets` random choices of what came before the next one (each write kept, dropped
// or torn in sectors), both are opened by the store as after a power cut, and judged:
//   - marks "flush:BEGIN_NS": writes acknowledged before it are there, with nothing older in front
//   - marks "snapshot:ID:BEGIN_NS:END_NS": from there to "delete:ID" it is listed, not lost, and
//     every sector of it shows a write between the last one acknowledged before the hold and the
//     last one issued before its end; wherever it is listed, before the mark and after, the same
//   - nothing else is listed as created
// States before the mark "attached" are not opened. Exit status: 0; 1 if one state is wrong, which
// is printed; 2 for a wrong call.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <sstream>

#include "engine/platform/prng.h"
#include "provider/cow/volume.h"
#include "tests/kernel/flush_order.h"
#include "tests/kernel/log_writes.h"
#include "tests/support/paged_disk.h"
#include "tests/tools/stamp/history.h"

namespace {

using namespace umbra;
using test::LogEntry;
using test::PagedDisk;

constexpr std::uint64_t kSector = stamp::kSectorBytes;
constexpr std::int64_t kNever = INT64_MAX;

struct Options {
  std::string log;
  std::string journal;
  std::uint64_t origin_bytes = 0;
  std::uint64_t diff_bytes = 0;
  std::uint64_t subsets = 4;
  std::uint64_t seed = 1;
  std::uint64_t states_max = 100'000;
};

struct Hold {
  std::int64_t begin_ns = 0;
  std::int64_t end_ns = 0;
};

// What the marks so far say.
struct Expected {
  bool attached = false;
  std::int64_t flushed_ns = 0;          // Writes acknowledged before are durable.
  std::map<SnapshotId, Hold> required;  // Persistent copies that are confirmed and not deleted.
};

// The words of a mark.
std::istringstream words_of(const LogEntry& entry) {
  std::string text = entry.mark;
  std::replace(text.begin(), text.end(), ':', ' ');
  return std::istringstream(text);
}

class Replay {
 public:
  Replay(const Options& options, const test::WriteLog& log, const stamp::History& history)
      : options_(options),
        log_(log),
        history_(history),
        prng_(options.seed),
        image_(
            std::make_shared<std::vector<std::byte>>(options.origin_bytes + options.diff_bytes)) {}

  bool run() {
    entries_ = log_.entries();
    const std::size_t moved =
        test::order_flushes(entries_, [this](const LogEntry& entry) { return times_of(entry); });
    const auto& entries = entries_;
    for (const LogEntry& entry : entries) note_snapshot(entry);
    std::size_t durable = 0;  // Entries before are in the image.
    for (std::size_t i = 0; i < entries.size() && states_ < options_.states_max; ++i) {
      if (!entries[i].flush && i + 1 < entries.size()) continue;
      // Between the last flush and this one.
      for (std::uint64_t k = 0; k < options_.subsets; ++k) {
        if (!judge(durable, i, true)) return false;
      }
      for (; durable <= i; ++durable) {
        note(entries[durable], now_);
        if (!write(*image_, entries[durable], false)) return false;
      }
      if (!judge(durable, durable, false)) return false;
    }
    std::printf(
        "%zu log entries, %llu flushes, %zu of them put back before others, %llu states opened: "
        "%llu after a flush, %llu with a part "
        "of "
        "what followed; %llu copies read, %zu different ones; right\n",
        entries.size(), static_cast<unsigned long long>(flushes_), moved,
        static_cast<unsigned long long>(states_),
        static_cast<unsigned long long>(states_ - partial_),
        static_cast<unsigned long long>(partial_), static_cast<unsigned long long>(copies_),
        holds_.size());
    return true;
  }

 private:
  // Of a write of the load that was not split, whose every sector is stamped with it.
  std::optional<test::WriteTimes> times_of(const LogEntry& entry) const {
    if (entry.discard || entry.size_bytes < kSector ||
        entry.offset_bytes >= options_.origin_bytes) {
      return std::nullopt;
    }
    const auto data = log_.data_of(entry);
    if (!data) return std::nullopt;
    const auto times = history_.times_of(std::span<const std::byte, kSector>(data->data(), kSector),
                                         entry.offset_bytes / kSector);
    if (!times) return std::nullopt;
    return test::WriteTimes{times->issued_ns, times->acknowledged_ns};
  }

  // Of all of the log: a copy may be listed before its mark.
  void note_snapshot(const LogEntry& entry) {
    flushes_ += entry.flush ? 1U : 0U;
    std::istringstream words = words_of(entry);
    std::string word;
    std::string id;
    Hold hold;
    if (words >> word >> id >> hold.begin_ns >> hold.end_ns && word == "snapshot") {
      if (const auto parsed = SnapshotId::parse(id)) holds_[*parsed] = hold;
    }
  }

  void note(const LogEntry& entry, Expected& expected) const {
    if (entry.mark.empty()) return;
    std::istringstream words = words_of(entry);
    std::string word;
    std::string id;
    words >> word;
    if (word == "attached") expected.attached = true;
    if (word == "flush") words >> expected.flushed_ns;
    if ((word != "snapshot" && word != "delete") || !(words >> id)) return;
    const auto parsed = SnapshotId::parse(id);
    if (!parsed) return;
    if (word == "snapshot") expected.required[*parsed] = holds_.at(*parsed);
    if (word == "delete") expected.required.erase(*parsed);
  }

  // Whole, or as a power cut leaves a write that was not flushed.
  bool write(std::vector<std::byte>& image, const LogEntry& entry, bool cut) {
    if (entry.size_bytes == 0) return true;
    const auto data = log_.data_of(entry);
    if (!data) {
      std::fprintf(stderr, "umbra-power-replay: %s\n", data.error().to_string().c_str());
      return false;
    }
    const std::uint64_t kind = cut && !entry.fua ? prng_.below(3) : 1;  // Dropped, kept, torn.
    for (std::uint64_t at = 0; at < data->size(); at += kSector) {
      if (kind == 0 || (kind == 2 && prng_.chance(1, 2))) continue;
      const std::uint64_t to = entry.offset_bytes + at;
      if (to + kSector > image.size()) continue;
      // What is written over is remembered, to be put back.
      if (cut)
        undo_.emplace_back(to, std::vector<std::byte>(image.begin() + place(to),
                                                      image.begin() + place(to + kSector)));
      std::copy_n(data->begin() + place(at), kSector, image.begin() + place(to));
    }
    return true;
  }
  static std::ptrdiff_t place(std::uint64_t offset) { return static_cast<std::ptrdiff_t>(offset); }

  // The state in which entries before `durable` are there, and some of [durable, end).
  bool judge(std::size_t durable, std::size_t end, bool partial) {
    Expected expected = now_;
    const auto& entries = entries_;
    // The power may go anywhere in between; what is marked before is owed.
    const std::size_t cut = partial ? durable + prng_.below(end - durable + 1) : end;
    for (std::size_t i = durable; i < cut; ++i) note(entries[i], expected);
    if (!expected.attached) return true;
    for (std::size_t i = durable; i < cut; ++i) {
      if (!write(*image_, entries[i], true)) return false;
    }
    ++states_;
    partial_ += partial ? 1U : 0U;
    const std::string wrong = open_and_look(expected);
    for (auto it = undo_.rbegin(); it != undo_.rend(); ++it) {
      std::copy(it->second.begin(), it->second.end(), image_->begin() + place(it->first));
    }
    undo_.clear();
    if (wrong.empty()) return true;
    std::printf("wrong after entry %zu%s (%zu of %zu): %s\n", durable,
                partial ? " and a part of what followed" : "", cut, entries.size(), wrong.c_str());
    return false;
  }

  // Empty: right.
  std::string open_and_look(const Expected& expected) {
    PagedDisk origin(image_, 0, options_.origin_bytes);
    PagedDisk diff(image_, options_.origin_bytes, options_.diff_bytes);
    cow::OpenOptions open;
    open.boot_id = Guid::random();  // Another start of the machine.
    const auto volume = cow::Volume::open(origin, diff, open);
    if (!volume) return "it does not open: " + volume.error().to_string();
    if (auto wrong = look((*volume)->live(), expected.flushed_ns, kNever); !wrong.empty()) {
      return "the live volume: " + wrong;
    }
    std::map<SnapshotId, bool> listed;
    for (const cow::SnapshotRecord& record : (*volume)->list()) {
      if (record.stage != cow::Stage::created) continue;
      const std::string name = "copy " + record.id.to_string();
      const auto hold = holds_.find(record.id);
      if (hold == holds_.end()) return name + " comes from nowhere";
      if (record.lost) return name + " is lost";
      listed[record.id] = true;
      const auto device = (*volume)->open_snapshot(record.id);
      if (!device) return name + ": " + device.error().to_string();
      ++copies_;
      const auto wrong = look(**device, hold->second.begin_ns, hold->second.end_ns);
      if (!wrong.empty()) return name + ": " + wrong;
    }
    for (const auto& [id, hold] : expected.required) {
      if (!listed.contains(id)) return "copy " + id.to_string() + " is gone";
    }
    return {};
  }

  std::string look(block::Device& device, std::int64_t begin_ns, std::int64_t end_ns) {
    const auto read = [&](std::uint64_t first, std::span<std::byte> buffer) {
      block::Request request;
      request.offset_bytes = first * kSector;
      request.size_bytes = buffer.size();
      request.buffer = buffer.data();
      return block::run(device, request) == 0;
    };
    return history_.verify(read, begin_ns, end_ns).first_wrong;
  }

  const Options& options_;
  const test::WriteLog& log_;
  const stamp::History& history_;
  std::vector<LogEntry> entries_;  // The log's, in the order in which they happened.
  Prng prng_;
  std::shared_ptr<std::vector<std::byte>> image_;
  std::vector<std::pair<std::uint64_t, std::vector<std::byte>>> undo_;
  std::map<SnapshotId, Hold> holds_;
  Expected now_;
  std::uint64_t flushes_ = 0;
  std::uint64_t states_ = 0;
  std::uint64_t partial_ = 0;
  std::uint64_t copies_ = 0;
};

int run(const Options& options) {
  const auto log = test::WriteLog::open(options.log);
  if (!log) {
    std::fprintf(stderr, "umbra-power-replay: %s\n", log.error().to_string().c_str());
    return 2;
  }
  std::ifstream in(options.journal);
  const auto history = stamp::History::read_journal(in);
  if (!history || history->sector_count() * kSector != options.origin_bytes) {
    std::fprintf(stderr, "umbra-power-replay: %s is no journal of a load on %llu bytes\n",
                 options.journal.c_str(), static_cast<unsigned long long>(options.origin_bytes));
    return 2;
  }
  return Replay(options, *log, *history).run() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Judges what power cuts leave of a volume, from a log of its writes.",
               "umbra-power-replay");
  Options options;
  app.add_option("log", options.log)->required();
  app.add_option("--origin-bytes", options.origin_bytes)->required();
  app.add_option("--diff-bytes", options.diff_bytes)->required();
  app.add_option("--journal", options.journal)->required();
  app.add_option("--subsets", options.subsets);
  app.add_option("--seed", options.seed);
  app.add_option("--states-max", options.states_max);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return run(options);
}
