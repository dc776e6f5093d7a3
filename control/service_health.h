// What a service makes of the health of its backends: who takes new connections, and when health is
// not believed.
//
// min_healthy: when less than this share of the backends, by weight, is healthy, health is ignored
// and all take connections but those that are drained. Most likely it is the probes that are wrong
// then, and if they are not, a few backends with everybody's load would be the next to fail. It
// ends when the share is clearly above: by ten points, or by half of what is left to 100 % if that
// is less (30 % ends at 40 %, 90 % at 95 %, 100 % at 100 %). Counted are backends with a weight
// that are not drained and whose health is known: one that is new and has not answered yet says
// nothing.
//
// Held backends (flap_damper.h) are healthy and wait. They wait for the sake of the service, so
// never at its cost: where those that do not wait would be less than half of what is healthy, or
// less than min_healthy, nobody waits.
//
// Nor does anybody wait while connections would be dropped for it: where nobody takes connections
// of some client, in its region or in one that stands in, those who are held do, and if there are
// none, those who are being checked, until they have answered. So a change that replaces all
// backends at once drops nothing.
//
// Who is drained is that first, whatever its probes say. One that is down then has its connections
// chosen anew, like any other.
//
// Pure functions over values; no clock.
#ifndef GUIDEWAY_CONTROL_SERVICE_HEALTH_H_
#define GUIDEWAY_CONTROL_SERVICE_HEALTH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "control/config/config.pb.h"
#include "control/health.h"
#include "maglev/snapshot.h"

namespace guideway {

// How a backend stands, whether or not its service goes by that.
enum class Standing : uint8_t { kUp, kDown, kDrain, kChecking, kHeld };

// «up», «down», «drain», «checking», «held».
absl::string_view StandingName(Standing standing);

// What is known of a backend.
struct BackendCondition {
  uint32_t weight = 0;
  Health health = Health::kUp;
  bool drained = false;
  bool held = false;
  bool in_use = false;  // it takes new connections now
  uint16_t region = 0;
};

struct ServiceHealth {
  bool health_ignored = false;
  bool holds_ignored = false;
  // Of the backends that count.
  uint32_t healthy = 0;
  uint32_t counted = 0;
  double healthy_share = 1;  // by weight; 1 where nothing counts
};

// Lists are of the backends, in the order that was given.
struct Judgement {
  ServiceHealth health;
  std::vector<Standing> standings;  // who need not wait any more is not kHeld
  // What the workers are to do with it: one that waits keeps what it has and gets no more.
  std::vector<BackendState> states;
};

// `min_healthy`: 0 to 1, 0 for never. `before`: whether health was ignored until now. `ways`: for
// each region the regions that serve its clients, itself and then those that stand in, in order.
Judgement JudgeService(absl::Span<const BackendCondition> backends, double min_healthy, bool before,
                       absl::Span<const std::vector<uint16_t>> ways);

// What has begun or ended between the two: «service web: 1 of 5 backends healthy (20 % by weight,
// less than 30 %): health is ignored».
std::vector<std::string> WhatChanged(absl::string_view service, double min_healthy,
                                     const ServiceHealth& before, const ServiceHealth& now);

// For each region those that serve its clients, as JudgeService wants them; without regions one.
std::vector<std::vector<uint16_t>> WaysOf(const config::Service& service);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_SERVICE_HEALTH_H_
