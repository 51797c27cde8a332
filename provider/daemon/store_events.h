// SPDX-License-Identifier: Apache-2.0
//
// What the stores tell, as events of the provider; and copies that the store gave up by itself are
// taken away from whoever was shown them.

#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "provider/cow/events.h"
#include "umbra/provider_events.h"

namespace umbra::cowd {

/// A store's event in VSS's and Windows' words. Pure.
[[nodiscard]] ProviderEvent provider_event(const cow::Event& event, const std::string& volume);

/// Threads: any. Outlives the stores.
class StoreEvents final : public cow::EventSink {
 public:
  using Tell = std::function<void(ProviderEvent event)>;
  using Gone = std::function<void(const SnapshotId& snapshot)>;

  /// `tell` is called from the stores' threads and returns quickly.
  explicit StoreEvents(Tell tell);
  ~StoreEvents() override;
  StoreEvents(const StoreEvents&) = delete;
  StoreEvents& operator=(const StoreEvents&) = delete;

  void name(const VolumeId& volume, const std::string& name);
  /// From now on, told of each copy that is gone, on a thread of its own: it may wait for those who
  /// read the copy, and the store must not wait for them. Null: nobody any more; returns when a
  /// call that runs has ended.
  void when_gone(Gone gone);

  void on_event(const cow::Event& event) noexcept override;

 private:
  void run();

  const Tell tell_;
  std::mutex mutex_;  // Guards the rest.
  std::condition_variable changed_;
  std::map<VolumeId, std::string> names_;
  Gone gone_;
  std::deque<SnapshotId> queue_;
  bool calling_ = false;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace umbra::cowd
