// A backend that goes down and comes back again and again does harm each time: connections open to
// it and break. So after some failures it is held: when its probes are good again it takes no new
// connections until they have been good for a while, and for longer with each further failure.
//
// The rule, with the keys of `flap_damping`: every time it goes down is counted. One that comes
// back with more than `after` on its count is held for `hold`, with the next failure twice as long,
// and so on up to `max_hold`; a failure while it is held counts too. For every `max_hold` that
// passes without a failure one is forgotten. The count ends where a further failure would not hold
// it any longer, so a backend that has become stable is free again after a time that can be told.
//
// A value; time is passed in and never runs back. Whether the service goes by it is another matter:
// service_health.h.
#ifndef GUIDEWAY_CONTROL_FLAP_DAMPER_H_
#define GUIDEWAY_CONTROL_FLAP_DAMPER_H_

#include <cstdint>

#include "absl/time/time.h"

namespace guideway {

struct FlapDamping {
  uint32_t after = 5;
  absl::Duration hold = absl::Seconds(10);  // zero: nobody is held
  absl::Duration max_hold = absl::Minutes(5);
};

// Of one backend.
class FlapDamper {
 public:
  void WentDown(absl::Duration now, const FlapDamping& damping);
  void CameUp(absl::Duration now, const FlapDamping& damping);

  // While it is up: how much longer it is held; zero if it is not.
  absl::Duration HeldFor(absl::Duration now, const FlapDamping& damping) const;
  // How often it went down, without what is forgotten.
  uint32_t failures(absl::Duration now, const FlapDamping& damping) const;

 private:
  uint32_t failures_ = 0;  // at since_
  absl::Duration since_;   // of the last failure
  absl::Duration held_until_ = -absl::InfiniteDuration();
};

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_FLAP_DAMPER_H_
