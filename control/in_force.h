// What is in force: the last Snapshot that was published, and all that it comes from.
#ifndef GUIDEWAY_CONTROL_IN_FORCE_H_
#define GUIDEWAY_CONTROL_IN_FORCE_H_

#include <memory>
#include <vector>

#include "absl/strings/string_view.h"
#include "control/overrides.h"
#include "control/revision.h"
#include "control/service_health.h"
#include "maglev/snapshot.h"

namespace guideway {

// What is known of each backend, by service, in the order of a revision.
using Conditions = std::vector<std::vector<BackendCondition>>;

struct InForce {
  std::shared_ptr<const Revision> revision;
  std::shared_ptr<const Snapshot> snapshot;
  std::vector<ServiceHealth> health;  // in the order of the revision
  Conditions conditions;              // that it comes from
  std::shared_ptr<const Overrides> overrides = std::make_shared<const Overrides>();

  Standing StandingOf(const Revision::Place& place) const {
    return health[place.service].standings[place.backend];
  }
};

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_IN_FORCE_H_
