#include "control/slow_start.h"

#include <algorithm>
#include <string>

#include "absl/container/flat_hash_set.h"

namespace guideway {
namespace {

// From the first tenth to the last.
constexpr int kSteps = kFullShare - 1;

// Steps that have been taken `elapsed` after the start.
int64_t StepsAfter(absl::Duration elapsed, absl::Duration over) {
  if (elapsed >= over) return kSteps;
  absl::Duration rest;
  return absl::IDivDuration(elapsed * kSteps, over, &rest);
}

}  // namespace

void SlowStart::SetShares(const config::Service& service, absl::Duration now,
                          ServiceFacts* facts) const {
  absl::flat_hash_set<std::string> served_regions;
  for (int i = 0; i < service.backends_size(); ++i) {
    if (started_.contains(facts->backends[i].id)) {
      served_regions.insert(service.backends(i).region());
    }
  }
  const absl::Duration over = ToDuration(service.slow_start());
  for (int i = 0; i < service.backends_size(); ++i) {
    BackendFacts& backend = facts->backends[i];
    backend.share = kFullShare;
    if (backend.state != BackendState::kUp) continue;
    if (auto it = started_.find(backend.id); it != started_.end()) {
      backend.share = static_cast<Share>(1 + StepsAfter(now - it->second.since, over));
    } else if (served_regions.contains(service.backends(i).region())) {
      backend.share = static_cast<Share>(1 + StepsAfter(absl::ZeroDuration(), over));
    }
  }
}

void SlowStart::Commit(const CompileInput& in_force, absl::Duration now) {
  absl::flat_hash_map<BackendId, Started> before;
  before.swap(started_);
  for (size_t s = 0; s < in_force.services.size(); ++s) {
    const absl::Duration over =
        ToDuration(in_force.loaded->config.services(static_cast<int>(s)).slow_start());
    for (const BackendFacts& backend : in_force.services[s].backends) {
      if (backend.state != BackendState::kUp) continue;
      absl::Duration since = backend.share < kFullShare ? now : -absl::InfiniteDuration();
      if (auto it = before.find(backend.id); it != before.end()) since = it->second.since;
      started_.emplace(backend.id, Started{since, over});
    }
  }
}

absl::Duration SlowStart::NextStep(absl::Duration now) const {
  absl::Duration next = absl::InfiniteDuration();
  for (const auto& [id, started] : started_) {
    const absl::Duration elapsed = now - started.since;
    if (elapsed >= started.over) continue;
    // Rounded up: a step that is asked for a moment too early would be asked for again and again.
    const int64_t step = StepsAfter(elapsed, started.over) + 1;
    const absl::Duration due = started.since + started.over * step / kSteps;
    next = std::min(next, due + absl::Nanoseconds(1));
  }
  return next;
}

}  // namespace guideway
