// SPDX-License-Identifier: Apache-2.0

#include "engine/daemon/lun_import.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "engine/daemon/server.h"
#include "engine/rpc/hardware_messages.h"

namespace umbra::daemon {
namespace {

// A disk takes seconds to appear; a bus is not to be asked all the time.
constexpr coord::milliseconds kLookAgain{500};

bool is_there(const TransportedSnapshot& snapshot, const std::vector<LunInformation>& seen) {
  return std::all_of(snapshot.luns.begin(), snapshot.luns.end(), [&](const LunMapping& lun) {
    return std::any_of(seen.begin(), seen.end(), [&](const LunInformation& one) {
      return is_same_description(one, lun.target);
    });
  });
}

}  // namespace

LunImport::LunImport(Server& server, ImportedSet wanted, Done done)
    : server_(server), wanted_(std::move(wanted)), done_(std::move(done)) {
  for (const auto& one : wanted_.snapshots)
    if (std::find(providers_.begin(), providers_.end(), one.provider_id) == providers_.end())
      providers_.push_back(one.provider_id);
}

void LunImport::start() {
  const auto keep = shared_from_this();  // It may end at once, and its owner lets go then.
  begin_provider();
}

std::vector<TransportedSnapshot> LunImport::of_provider() const {
  std::vector<TransportedSnapshot> own;
  std::copy_if(wanted_.snapshots.begin(), wanted_.snapshots.end(), std::back_inserter(own),
               [&](const auto& one) { return one.provider_id == providers_[at_]; });
  return own;
}

void LunImport::begin_provider() {
  if (done_ == nullptr) return;
  if (at_ == providers_.size()) return finish();
  link_ = server_.provider(providers_[at_]);
  if (!link_) return failed("provider " + providers_[at_].to_string() + " is not connected");
  rpc::LunList targets;
  for (const auto& snapshot : of_provider())
    for (const auto& lun : snapshot.luns) targets.luns.push_back(lun.target);
  link_->call_in<rpc::Nothing>("hardware", "locate_luns", targets, server_.limits().provider_admin,
                               [self = shared_from_this()](const Result<rpc::Nothing>& located) {
                                 if (self->done_ == nullptr) return;
                                 if (!located) return self->failed(located.error().to_string());
                                 self->until_ =
                                     self->server_.now() + self->server_.limits().lun_arrival;
                                 self->look();
                               });
}

void LunImport::look() {
  link_->call_in<rpc::LunList>("hardware", "fill_in_lun_info", rpc::Nothing{},
                               server_.limits().provider_query,
                               [self = shared_from_this()](const Result<rpc::LunList>& seen) {
                                 if (self->done_ == nullptr) return;
                                 if (!seen) return self->failed(seen.error().to_string());
                                 self->look_at(seen->luns);
                               });
}

void LunImport::look_at(const std::vector<LunInformation>& seen) {
  auto arrived = of_provider();
  const auto absent = std::stable_partition(arrived.begin(), arrived.end(),
                                            [&](const auto& one) { return is_there(one, seen); });
  if (absent != arrived.end() && server_.now() < until_) {
    look_again_ = std::min(server_.now() + kLookAgain, until_);
    return server_.touch();
  }
  for (auto it = absent; it != arrived.end(); ++it)
    trouble_ +=
        (trouble_.empty() ? "" : "; ") + ("the LUNs of volume '" + printable(it->volume_name) +
                                          "' did not arrive as they were described");
  arrived.erase(absent, arrived.end());
  if (arrived.empty()) return next_provider();
  take_in(std::move(arrived));
}

void LunImport::tick(TimePoint now) {
  if (!look_again_ || *look_again_ > now) return;
  look_again_.reset();
  look();
}

void LunImport::take_in(std::vector<TransportedSnapshot> arrived) {
  const auto count = arrived.size();
  const ImportedSet request{wanted_.set_id, wanted_.session_id, std::move(arrived)};
  link_->call_in<rpc::Nothing>(
      "hardware", "import_snapshots", request, server_.limits().provider_admin,
      [self = shared_from_this(), count](const Result<rpc::Nothing>& taken) {
        if (self->done_ == nullptr) return;
        if (!taken) return self->failed(taken.error().to_string());
        self->imported_ += count;
        self->next_provider();
      });
}

void LunImport::failed(const std::string& why) {
  provider_failed_ = true;
  trouble_ += (trouble_.empty() ? "" : "; ") + why;
  next_provider();
}

void LunImport::next_provider() {
  ++at_;
  begin_provider();
}

void LunImport::finish() {
  auto code = Errc::async_finished;
  if (imported_ == 0)
    code = Errc::no_snapshots_imported;
  else if (imported_ < wanted_.snapshots.size())
    code = provider_failed_ ? Errc::error_some_snapshots_not_imported
                            : Errc::some_snapshots_not_imported;
  std::exchange(done_, nullptr)(code, trouble_);
}

}  // namespace umbra::daemon
