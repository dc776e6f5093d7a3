#include "control/slow_start.h"

#include <algorithm>

namespace guideway {
namespace {

constexpr absl::Duration kGrid = absl::Milliseconds(250);

// Steps from the first tenth to the last.
constexpr int kSteps = kFullShare - 1;

// What one has that started `elapsed` ago.
Share ShareAfter(absl::Duration elapsed, absl::Duration over) {
  if (elapsed >= over) return kFullShare;
  absl::Duration rest;
  return static_cast<Share>(1 + absl::IDivDuration(elapsed * kSteps, over, &rest));
}

}  // namespace

void SlowStart::SetShares(const config::Service& service, absl::Duration now,
                          ServiceFacts* facts) const {
  const absl::Duration over = ToDuration(service.slow_start());
  for (BackendFacts& backend : facts->backends) {
    backend.share = kFullShare;
    if (backend.state != BackendState::kUp || is_first_) continue;
    if (backend.id >= takes_.size() || !takes_[backend.id]) {
      backend.share = ShareAfter(absl::ZeroDuration(), over);
    } else if (const auto it = started_.find(backend.id); it != started_.end()) {
      backend.share = ShareAfter(now - it->second.since, over);
    }
  }
}

void SlowStart::Commit(const CompileInput& in_force, absl::Duration now) {
  absl::flat_hash_map<BackendId, Started> before;
  before.swap(started_);
  takes_.assign(takes_.size(), false);
  is_first_ = false;
  for (size_t s = 0; s < in_force.services.size(); ++s) {
    const absl::Duration over =
        ToDuration(in_force.loaded->config.services(static_cast<int>(s)).slow_start());
    for (const BackendFacts& backend : in_force.services[s].backends) {
      if (backend.state != BackendState::kUp) continue;
      if (backend.id >= takes_.size()) takes_.resize(backend.id + 1);
      takes_[backend.id] = true;
      if (backend.share >= kFullShare) continue;
      const auto it = before.find(backend.id);
      const absl::Duration since = it != before.end() ? it->second.since : now;
      started_.emplace(backend.id, Started{since, over, backend.share});
    }
  }
}

absl::Duration SlowStart::NextStep() const {
  absl::Duration next = absl::InfiniteDuration();
  for (const auto& [id, started] : started_) {
    next = std::min(next, started.since + started.over * started.share / kSteps);
  }
  // Rounded up to the grid, so never a moment before the step is due.
  return next == absl::InfiniteDuration() ? next : absl::Ceil(next, kGrid);
}

}  // namespace guideway
