// SPDX-License-Identifier: Apache-2.0 OR MIT
#include "requester-sdk/src/operations.h"

namespace umbra::requester {
namespace {

using namespace std::chrono_literals;

// How long umbrad keeps one operation.wait: the time that a cancel() or a progress report may take.
constexpr std::chrono::milliseconds kWaitSlice = 200ms;
// A reply to it that is this much later means that umbrad hangs.
constexpr std::chrono::milliseconds kWaitGrace = 30s;

Error in_call(std::string_view call, Error error) {
  return std::move(fail(std::move(error), call).value());
}

}  // namespace

Result<rpc::OperationStatus> Operations::wait(std::string_view call, std::uint32_t operation,
                                              std::chrono::milliseconds limit,
                                              const OnProgress& progress,
                                              const OnFailure& on_failure) {
  const TimePoint begin = link_.now();
  TimePoint deadline = begin + limit;
  std::string why_cancelled;
  const rpc::WaitOperation slice{operation, static_cast<std::uint32_t>(kWaitSlice.count())};
  while (true) {
    auto status =
        link_.call<rpc::OperationStatus>("operation.wait", slice, kWaitSlice + kWaitGrace);
    if (!status) return fail(in_call(call, status.error()));
    if (status->status == Errc::async_finished) return status;
    if (status->status != Errc::async_pending) {
      std::string context = status->context;
      if (!why_cancelled.empty()) context = why_cancelled + ": " + context;
      const Errc code = status->status;
      if (on_failure) on_failure(std::move(*status));
      return fail(code, std::string(call) + ": " + context);
    }
    const TimePoint now = link_.now();
    if (progress) {
      progress({call, status->phase,
                std::chrono::duration_cast<std::chrono::milliseconds>(now - begin)});
    }
    if (why_cancelled.empty()) {
      const bool asked = take_cancel();
      if (!asked && now < deadline) continue;
      why_cancelled = asked ? "cancelled by the caller"
                            : "not finished in " + std::to_string(limit.count()) + " ms";
      deadline = now + kUndoLimit;
      const auto sent = link_.call<rpc::OperationStatus>("operation.cancel", slice);
      // It may just have finished: the next wait tells.
      if (!sent && !link_.is_open()) return fail(in_call(call, sent.error()));
    } else if (now >= deadline) {
      return fail(Errc::coordinator_lost,
                  std::string(call) + ": " + why_cancelled + ", and umbrad does not end it");
    }
  }
}

}  // namespace umbra::requester
