#include "control/service_health.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace guideway {
namespace {

// Shares in thousandths of a percent, the finest that the configuration can say, so that 1 of 5 is
// not less than 20 % by a rounding error.
constexpr uint64_t kWhole = 100'000;
constexpr uint64_t kMargin = 10'000;

bool LessThan(uint64_t part, uint64_t whole, uint64_t share) {
  return part * kWhole < whole * share;
}

Standing StandingOf(const BackendCondition& backend) {
  if (backend.health == Health::kDown) return Standing::kDown;
  if (backend.drained) return Standing::kDrain;
  if (backend.health == Health::kChecking) return Standing::kChecking;
  return backend.held ? Standing::kHeld : Standing::kUp;
}

std::string Percent(double share) { return absl::StrFormat("%.4g %%", share * 100); }

}  // namespace

absl::string_view StandingName(Standing standing) {
  switch (standing) {
    case Standing::kUp: return "up";
    case Standing::kDown: return "down";
    case Standing::kDrain: return "drain";
    case Standing::kChecking: return "checking";
    case Standing::kHeld: return "held";
  }
  return "";
}

ServiceHealth JudgeService(absl::Span<const BackendCondition> backends, double min_healthy,
                           bool before) {
  ServiceHealth service;
  uint64_t all = 0, healthy = 0, held = 0;  // weights
  for (const BackendCondition& backend : backends) {
    service.standings.push_back(StandingOf(backend));
    if (backend.weight == 0 || backend.drained || backend.health == Health::kChecking) continue;
    ++service.counted;
    all += backend.weight;
    if (backend.health != Health::kUp) continue;
    ++service.healthy;
    healthy += backend.weight;
    if (backend.held) held += backend.weight;
  }
  if (all > 0) service.healthy_share = static_cast<double>(healthy) / static_cast<double>(all);

  const uint64_t threshold = static_cast<uint64_t>(std::llround(min_healthy * kWhole));
  const uint64_t end = threshold + std::min(kMargin, (kWhole - threshold) / 2);
  service.health_ignored =
      threshold > 0 && all > 0 && LessThan(healthy, all, before ? end : threshold);
  service.holds_ignored =
      held > 0 && !service.health_ignored &&
      ((healthy - held) * 2 < healthy || LessThan(healthy - held, all, threshold));
  if (service.holds_ignored) {
    std::replace(service.standings.begin(), service.standings.end(), Standing::kHeld,
                 Standing::kUp);
  }
  return service;
}

BackendState StateToBe(const BackendCondition& backend, Standing standing, bool health_ignored) {
  if (health_ignored) return backend.drained ? BackendState::kDrain : BackendState::kUp;
  switch (standing) {
    case Standing::kUp: return BackendState::kUp;
    case Standing::kDown: return BackendState::kDown;
    case Standing::kDrain:
    case Standing::kChecking:
    case Standing::kHeld: return BackendState::kDrain;
  }
  return BackendState::kDown;
}

std::vector<std::string> WhatChanged(absl::string_view service, double min_healthy,
                                     const ServiceHealth& before, const ServiceHealth& now) {
  std::vector<std::string> events;
  if (before.health_ignored != now.health_ignored) {
    const std::string healthy = absl::StrCat("service ", service, ": ", now.healthy, " of ",
                                             now.counted, " backends healthy");
    if (now.health_ignored) {
      events.push_back(absl::StrCat(healthy, " (", Percent(now.healthy_share),
                                    " by weight, less than ", Percent(min_healthy),
                                    "): health is ignored"));
    } else {
      events.push_back(absl::StrCat(
          healthy,
          now.counted == 0 ? "" : absl::StrCat(" (", Percent(now.healthy_share), " by weight)"),
          ": health counts again"));
    }
  }
  if (before.holds_ignored != now.holds_ignored) {
    events.push_back(absl::StrCat("service ", service, ": ",
                                  now.holds_ignored
                                      ? "nobody is held any more, too few would be left"
                                      : "backends that flap are held again"));
  }
  return events;
}

}  // namespace guideway
