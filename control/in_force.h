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

struct InForce {
  std::shared_ptr<const Revision> revision;
  std::shared_ptr<const Snapshot> snapshot;
  // In the order of the revision, of services and of backends. Health comes from the conditions.
  std::vector<ServiceHealth> health;
  std::vector<BackendCondition> conditions;
  std::vector<Standing> standings;
  std::shared_ptr<const Overrides> overrides = std::make_shared<const Overrides>();

  Standing StandingOf(const Revision::Place& place) const {
    return standings[revision->IndexOf(place)];
  }
};

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_IN_FORCE_H_
