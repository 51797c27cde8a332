// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "engine/rpc/operation_table.h"

#include <algorithm>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "umbra/caller.h"

namespace umbra::rpc {

struct OperationTable::Watch::State {
  std::mutex mutex;  // Held while `ended` runs.
  Ended ended;       // Null once the Watch has gone.
};

class OperationTable::Impl {
 public:
  Impl(const Clock& clock, Log& log) : clock_(clock), log_(log, "operations") {}

  ~Impl() {
    std::deque<EntryPtr> entries;
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
      for (const auto& entry : entries_) entry->info.cancelling = true;
      entries = entries_;
    }
    for (const auto& entry : entries) {
      if (entry->thread.joinable()) entry->thread.join();
    }
  }

  Result<OperationId> start(std::string kind, std::string subject, Work work) {
    std::vector<EntryPtr> forgotten;  // Joined with nothing locked.
    const std::lock_guard starting(starting_);
    auto entry = std::make_shared<Entry>();
    {
      const std::lock_guard lock(mutex_);
      if (ending_) return fail(Errc::bad_state, "the provider is stopping");
      const auto running = std::count_if(entries_.begin(), entries_.end(),
                                         [](const EntryPtr& one) { return is_running(*one); });
      if (static_cast<std::size_t>(running) >= kOperationsRunningMax) {
        return fail(Errc::limit_reached, std::to_string(kOperationsRunningMax) +
                                             " operations are running; wait for one to end");
      }
      forget_oldest(forgotten);
      entry->info.operation_id = OperationId::random();
      entry->info.kind = std::move(kind);
      entry->info.subject = std::move(subject);
      entry->info.begun_filetime = clock_.wall_filetime();
      entries_.push_back(entry);
    }
    for (const auto& one : forgotten) one->thread.join();
    try {
      entry->thread = std::thread([this, entry, work = std::move(work), caller = current_caller()] {
        const CallerScope scope(caller);
        run(entry, work);
      });
    } catch (const std::system_error&) {
      const std::lock_guard lock(mutex_);
      std::erase(entries_, entry);
      return fail(Errc::out_of_memory, "no thread for another operation");
    }
    return entry->info.operation_id;  // Constant from here on.
  }

  Result<OperationInfo> query(const OperationId& id) const {
    const std::lock_guard lock(mutex_);
    const EntryPtr entry = find(id);
    if (entry == nullptr) return not_found(id);
    return entry->info;
  }

  std::vector<OperationInfo> list() const {
    const std::lock_guard lock(mutex_);
    std::vector<OperationInfo> all;
    for (const auto& entry : entries_) all.push_back(entry->info);
    return all;
  }

  Result<OperationInfo> cancel(const OperationId& id) {
    const std::lock_guard lock(mutex_);
    const EntryPtr entry = find(id);
    if (entry == nullptr) return not_found(id);
    if (!is_running(*entry)) return entry->info;
    if (!entry->instead.empty()) {
      return fail(Errc::bad_state,
                  "operation " + id.to_string() + " cannot be cancelled: " + entry->instead);
    }
    entry->info.cancelling = true;
    return entry->info;
  }

  void add(std::weak_ptr<Watch::State> watch) {
    const std::lock_guard lock(mutex_);
    std::erase_if(watches_, [](const auto& one) { return one.expired(); });
    watches_.push_back(std::move(watch));
  }

 private:
  struct Entry {
    OperationInfo info;
    std::string instead;  // Of cancelling it, past its point of no return; empty before.
    std::thread thread;   // Set by start(), joined by whoever takes the entry out.
  };
  using EntryPtr = std::shared_ptr<Entry>;  // The table's and the running thread's.

  class Monitor final : public OperationMonitor {
   public:
    Monitor(Impl& impl, Entry& entry) : impl_(impl), entry_(entry) {}
    bool progress(std::uint64_t done, std::uint64_t total) override {
      const std::lock_guard lock(impl_.mutex_);
      entry_.info.done = done;
      entry_.info.total = total;
      return !entry_.info.cancelling;
    }
    void say(std::string text) override {
      const std::lock_guard lock(impl_.mutex_);
      entry_.info.text = std::move(text);
    }
    void fact(std::string name, std::string value) override {
      const std::lock_guard lock(impl_.mutex_);
      if (entry_.info.facts.size() >= kOperationFactsMax) return;
      entry_.info.facts.push_back({std::move(name), std::move(value)});
    }
    bool point_of_no_return(const std::string& instead) override {
      const std::lock_guard lock(impl_.mutex_);
      if (entry_.info.cancelling) return false;
      entry_.instead = instead;
      return true;
    }

   private:
    Impl& impl_;
    Entry& entry_;
  };

  static bool is_running(const Entry& entry) { return entry.info.status == Errc::async_pending; }

  static tl::unexpected<Error> not_found(const OperationId& id) {
    return fail(Errc::object_not_found, "no operation " + id.to_string() + "; it ended long ago, " +
                                            "or its provider was started anew");
  }

  EntryPtr find(const OperationId& id) const {
    for (const auto& entry : entries_) {
      if (entry->info.operation_id == id) return entry;
    }
    return nullptr;
  }

  // Takes out ended ones until there is room for one more.
  void forget_oldest(std::vector<EntryPtr>& forgotten) {
    for (auto it = entries_.begin();
         entries_.size() >= kOperationsKeptMax && it != entries_.end();) {
      if (is_running(**it)) {
        ++it;
        continue;
      }
      forgotten.push_back(*it);
      it = entries_.erase(it);
    }
  }

  void run(const EntryPtr& entry, const Work& work) {
    const std::string id = entry->info.operation_id.to_string();
    log_.info("operation begins",
              {{"operation", id}, {"kind", entry->info.kind}, {"subject", entry->info.subject}});
    Monitor monitor(*this, *entry);
    const Status status = work(monitor);
    OperationInfo ended;
    std::vector<std::weak_ptr<Watch::State>> watches;
    {
      const std::lock_guard lock(mutex_);
      OperationInfo& info = entry->info;
      info.status = status ? Errc::async_finished : status.error().code;
      if (info.status == Errc::async_pending) info.status = Errc::unexpected;  // It has ended.
      if (!status) info.context = status.error().context;
      info.cancelling = false;
      info.ended_filetime = clock_.wall_filetime();
      ended = info;
      watches = watches_;
    }
    log_.info("operation ended", {{"operation", id},
                                  {"kind", ended.kind},
                                  {"subject", ended.subject},
                                  {"outcome", code_name(ended.status)},
                                  {"why", ended.context}});
    for (const auto& one : watches) {
      const auto watch = one.lock();
      if (watch == nullptr) continue;
      const std::lock_guard lock(watch->mutex);
      if (watch->ended) watch->ended(ended.operation_id);
    }
  }

  const Clock& clock_;
  Logger log_;
  std::mutex starting_;       // One start() at a time; taken before mutex_.
  mutable std::mutex mutex_;  // Guards what follows, and every entry but its thread.
  std::deque<EntryPtr> entries_;
  std::vector<std::weak_ptr<Watch::State>> watches_;
  bool ending_ = false;
};

OperationTable::Watch::Watch(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}
OperationTable::Watch::Watch(Watch&&) noexcept = default;
OperationTable::Watch::~Watch() {
  if (state_ == nullptr) return;
  const std::lock_guard lock(state_->mutex);
  state_->ended = nullptr;
}

OperationTable::OperationTable(const Clock& clock, Log& log)
    : impl_(std::make_unique<Impl>(clock, log)) {}
OperationTable::~OperationTable() = default;

Result<OperationId> OperationTable::start(std::string kind, std::string subject, Work work) {
  return impl_->start(std::move(kind), std::move(subject), std::move(work));
}
Result<OperationInfo> OperationTable::query(const OperationId& id) const {
  return impl_->query(id);
}
std::vector<OperationInfo> OperationTable::list() const { return impl_->list(); }
Result<OperationInfo> OperationTable::cancel(const OperationId& id) { return impl_->cancel(id); }
OperationTable::Watch OperationTable::watch(Ended ended) {
  auto state = std::make_shared<Watch::State>();
  state->ended = std::move(ended);
  impl_->add(state);
  return Watch(std::move(state));
}

}  // namespace umbra::rpc
