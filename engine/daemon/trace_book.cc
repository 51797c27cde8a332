// SPDX-License-Identifier: Apache-2.0

#include "engine/daemon/trace_book.h"

#include <algorithm>
#include <boost/json/value.hpp>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

namespace umbra::daemon {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSuffix = ".json";
// A trace with all its spans at their longest, as JSON.
constexpr std::uintmax_t kTraceFileBytesMax = 8U << 20U;

std::string cut(std::string_view text) { return printable(text, kTraceTextMax); }

bool is_older(const rpc::SetTrace& one, const rpc::SetTrace& other) {
  return one.begin_filetime < other.begin_filetime;
}

Result<rpc::SetTrace> load_trace(const fs::path& path) {
  std::error_code error;
  if (fs::file_size(path, error) > kTraceFileBytesMax || error)
    return fail(Errc::io_error, "it is too large, or cannot be read");
  std::ifstream file(path);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto json = rpc::parse(text, 16 * kTraceFileBytesMax);
  if (!json) return fail(json.error());
  auto trace = rpc::decode<rpc::SetTrace>(*json);
  if (!trace) return fail(trace.error());
  if (trace->set_id.to_string() + std::string(kSuffix) != path.filename())
    return fail(Errc::invalid_argument, "it is of another set");
  if (trace->spans.size() > kTraceSpansMax) trace->spans.resize(kTraceSpansMax);
  return trace;
}

// Names are ids, so age is that of the files.
void remove_oldest(const fs::path& directory) {
  std::error_code error;
  std::vector<std::pair<fs::file_time_type, fs::path>> files;
  for (const auto& entry : fs::directory_iterator(directory, error))
    if (entry.path().extension() == kSuffix)
      files.emplace_back(entry.last_write_time(error), entry.path());
  std::sort(files.begin(), files.end());
  for (std::size_t i = 0; i + kTracesMax < files.size(); ++i) fs::remove(files[i].second, error);
}

}  // namespace

TraceBook::Record* TraceBook::record(const SnapshotSetId& set) {
  // The set that is being made is the last one.
  const auto found = std::find_if(records_.rbegin(), records_.rend(),
                                  [&](const Record& one) { return one.trace.set_id == set; });
  return found == records_.rend() ? nullptr : &*found;
}

std::uint64_t TraceBook::since(const Record& record) const {
  const auto past =
      std::chrono::duration_cast<std::chrono::microseconds>(clock_.now() - record.begin);
  return static_cast<std::uint64_t>(std::max<std::int64_t>(past.count(), 0));
}

void TraceBook::add(Record record) {
  if (records_.size() >= kTracesMax) records_.pop_front();
  records_.push_back(std::move(record));
}

void TraceBook::begin(const SnapshotSetId& set, const SessionId& session, std::string requester,
                      std::uint32_t uid) {
  Record record{{}, clock_.now(), true};
  record.trace.set_id = set;
  record.trace.session_id = session;
  record.trace.requester = std::move(requester);
  record.trace.uid = uid;
  record.trace.begin_filetime = clock_.wall_filetime();
  add(std::move(record));
}

std::optional<TraceBook::Key> TraceBook::asked(const SnapshotSetId& set, std::string actor,
                                               std::string what) {
  auto* found = set.is_nil() ? nullptr : record(set);
  if (found == nullptr) return std::nullopt;
  found->changed = true;
  auto& trace = found->trace;
  if (trace.spans.size() >= kTraceSpansMax) {
    ++trace.dropped;
    return std::nullopt;
  }
  trace.spans.push_back({std::move(actor), std::move(what), since(*found), 0, false, Errc::ok, {}});
  return Key{set, trace.spans.size() - 1};
}

void TraceBook::answered(const std::optional<Key>& key, Errc code, std::string_view text) {
  auto* found = key ? record(key->set) : nullptr;
  if (found == nullptr || found->trace.spans[key->span].ended) return;
  auto& span = found->trace.spans[key->span];
  span.ended = true;
  span.end_us = since(*found);
  span.code = code;
  span.text = cut(text);
  found->changed = true;
}

void TraceBook::note(const SnapshotSetId& set, std::string actor, std::string what,
                     std::string_view text) {
  answered(asked(set, std::move(actor), std::move(what)), Errc::ok, text);
}

void TraceBook::ended(const SnapshotSetId& set, Errc code, std::string_view context) {
  auto* found = record(set);
  if (found == nullptr || found->trace.ended) return;
  found->trace.ended = true;
  found->trace.code = code;
  found->trace.context = printable(context, 2 * kTraceTextMax);
  found->changed = true;
}

const rpc::SetTrace* TraceBook::find(const SnapshotSetId& set) const {
  for (auto it = records_.rbegin(); it != records_.rend(); ++it)
    if (set.is_nil() || it->trace.set_id == set) return &it->trace;
  return nullptr;
}

std::vector<const rpc::SetTrace*> TraceBook::all() const {
  std::vector<const rpc::SetTrace*> list;
  for (const auto& one : records_) list.push_back(&one.trace);
  return list;
}

std::vector<rpc::SetTrace> TraceBook::take_changed() {
  std::vector<rpc::SetTrace> list;
  for (auto& one : records_)
    if (std::exchange(one.changed, false)) list.push_back(one.trace);
  return list;
}

void TraceBook::restore(rpc::SetTrace trace) {
  const std::chrono::duration<std::int64_t, std::ratio<1, 10'000'000>> age{clock_.wall_filetime() -
                                                                           trace.begin_filetime};
  add({std::move(trace), clock_.now() - age, false});
}

std::optional<SnapshotSetId> set_in(const rpc::Json& params) {
  if (!params.is_object()) return std::nullopt;
  const auto& object = params.get_object();
  const auto* id = object.if_contains("set_id");
  if (id == nullptr) id = object.if_contains("id");  // snapshot.delete: a set's or a copy's.
  if (id == nullptr || !id->is_string()) return std::nullopt;
  const auto& text = id->get_string();
  const auto set = SnapshotSetId::parse({text.data(), text.size()});
  return set ? std::optional<SnapshotSetId>(*set) : std::nullopt;
}

std::vector<rpc::SetTrace> load_traces(const std::string& directory, const Logger& log) {
  std::vector<rpc::SetTrace> list;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    if (entry.path().extension() != kSuffix) continue;
    auto trace = load_trace(entry.path());
    if (trace) {
      list.push_back(std::move(*trace));
    } else {
      log.warning("a kept trace is not read",
                  {{"file", printable(entry.path().string())}, {"why", trace.error().to_string()}});
    }
  }
  std::sort(list.begin(), list.end(), is_older);
  if (list.size() > kTracesMax)
    list.erase(list.begin(), list.end() - static_cast<std::ptrdiff_t>(kTracesMax));
  return list;
}

Status save_trace(const std::string& directory, const rpc::SetTrace& trace) {
  std::error_code error;
  fs::create_directories(directory, error);
  // What writers and providers said is nobody else's business.
  fs::permissions(directory, fs::perms::owner_all, error);
  if (error) return fail(Errc::io_error, directory + ": " + error.message());
  const auto path = fs::path(directory) / (trace.set_id.to_string() + std::string(kSuffix));
  const auto draft = path.string() + ".new";
  {
    std::ofstream file(draft, std::ios::trunc);
    file << rpc::serialize(rpc::encode(trace)) << '\n';
    file.flush();
    if (!file) return fail(Errc::io_error, draft + " cannot be written");
  }
  fs::permissions(draft, fs::perms::owner_read | fs::perms::owner_write, error);
  if (!error) fs::rename(draft, path, error);
  if (error) return fail(Errc::io_error, path.string() + ": " + error.message());
  remove_oldest(directory);
  return {};
}

}  // namespace umbra::daemon
