#include "control/service_health.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "control/config/config_values.h"

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
  if (backend.drained) return Standing::kDrain;
  if (backend.health == Health::kDown) return Standing::kDown;
  if (backend.health == Health::kChecking) return Standing::kChecking;
  return backend.held ? Standing::kHeld : Standing::kUp;
}

BackendState StateOf(const BackendCondition& backend, Standing standing, bool health_ignored) {
  if (backend.health == Health::kDown && !health_ignored) return BackendState::kDown;
  if (backend.drained) return BackendState::kDrain;
  if (health_ignored || standing == Standing::kUp) return BackendState::kUp;
  // One that has begun goes on until it has answered: then nobody has to take all that it got.
  return standing == Standing::kChecking && backend.in_use ? BackendState::kUp
                                                           : BackendState::kDrain;
}

// Puts those to work who wait while nobody would serve some region's clients.
void FillGaps(absl::Span<const BackendCondition> backends,
              absl::Span<const std::vector<uint16_t>> ways, Judgement* service) {
  std::vector<bool> serves(ways.size());  // by region
  for (size_t i = 0; i < backends.size(); ++i) {
    if (backends[i].weight > 0 && service->states[i] == BackendState::kUp) {
      serves[backends[i].region] = true;
    }
  }
  const std::vector<Standing> standings = service->standings;  // before anybody is put to work
  const auto put_to_work = [&](uint16_t region, Standing who) {
    bool any = false;
    for (size_t i = 0; i < backends.size(); ++i) {
      if (backends[i].region != region || backends[i].weight == 0) continue;
      if (standings[i] != who) continue;
      if (who == Standing::kHeld) service->standings[i] = Standing::kUp;
      service->states[i] = BackendState::kUp;
      any = true;
    }
    return any;
  };
  const auto put_first_to_work = [&](absl::Span<const uint16_t> way, Standing who) {
    return std::any_of(way.begin(), way.end(),
                       [&](uint16_t region) { return put_to_work(region, who); });
  };
  for (const std::vector<uint16_t>& way : ways) {
    if (std::any_of(way.begin(), way.end(), [&](uint16_t region) { return serves[region]; })) {
      continue;
    }
    if (!put_first_to_work(way, Standing::kHeld)) put_first_to_work(way, Standing::kChecking);
  }
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

Judgement JudgeService(absl::Span<const BackendCondition> backends, double min_healthy, bool before,
                       absl::Span<const std::vector<uint16_t>> ways) {
  Judgement judgement;
  ServiceHealth& service = judgement.health;
  judgement.standings.reserve(backends.size());
  uint64_t all = 0, healthy = 0, held = 0;  // weights
  for (const BackendCondition& backend : backends) {
    judgement.standings.push_back(StandingOf(backend));
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
    std::replace(judgement.standings.begin(), judgement.standings.end(), Standing::kHeld,
                 Standing::kUp);
  }
  for (size_t i = 0; i < backends.size(); ++i) {
    judgement.states.push_back(
        StateOf(backends[i], judgement.standings[i], service.health_ignored));
  }
  FillGaps(backends, ways, &judgement);
  return judgement;
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

std::vector<std::vector<uint16_t>> WaysOf(const config::Service& service) {
  if (service.regions().empty()) return {{0}};
  std::vector<std::vector<uint16_t>> ways;
  for (const config::Region& region : service.regions()) {
    std::vector<uint16_t>& way = ways.emplace_back();
    way.push_back(static_cast<uint16_t>(ways.size() - 1));
    for (const std::string& other : region.fallback()) {
      way.push_back(RegionIndex(service, other).value());
    }
  }
  return ways;
}

}  // namespace guideway
