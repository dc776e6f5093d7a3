#include "control/flap_damper.h"

#include <algorithm>

namespace guideway {
namespace {

// How long one is held that has so many failures.
absl::Duration HoldAfter(uint32_t failures, const FlapDamping& damping) {
  if (failures <= damping.after) return absl::ZeroDuration();
  absl::Duration hold = damping.hold;
  for (uint32_t n = damping.after + 1; n < failures && hold < damping.max_hold; ++n) hold *= 2;
  return std::min(hold, damping.max_hold);
}

}  // namespace

void FlapDamper::WentDown(absl::Duration now, const FlapDamping& damping) {
  held_until_ = -absl::InfiniteDuration();
  if (damping.hold == absl::ZeroDuration()) return;
  failures_ = failures(now, damping);
  if (HoldAfter(failures_, damping) < damping.max_hold) ++failures_;
  since_ = now;
}

void FlapDamper::CameUp(absl::Duration now, const FlapDamping& damping) {
  held_until_ = now + HoldAfter(failures(now, damping), damping);
}

absl::Duration FlapDamper::HeldFor(absl::Duration now, const FlapDamping& damping) const {
  if (damping.hold == absl::ZeroDuration()) return absl::ZeroDuration();
  return std::max(absl::ZeroDuration(), held_until_ - now);
}

uint32_t FlapDamper::failures(absl::Duration now, const FlapDamping& damping) const {
  if (damping.max_hold <= absl::ZeroDuration()) return failures_;
  absl::Duration rest;
  const int64_t forgotten = absl::IDivDuration(now - since_, damping.max_hold, &rest);
  return forgotten >= failures_ ? 0 : failures_ - static_cast<uint32_t>(forgotten);
}

}  // namespace guideway
