// What is in force, in the API's words.
//
// Pure functions over what the control thread keeps, for that thread.
#ifndef GUIDEWAY_CONTROL_VIEWS_H_
#define GUIDEWAY_CONTROL_VIEWS_H_

#include <cstdint>
#include <deque>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "control/api/api.pb.h"
#include "control/health.h"
#include "control/in_force.h"
#include "control/named_counts.h"
#include "control/revision.h"
#include "dataplane/dataplane.h"

namespace guideway {

// What is known of a backend at this moment, beside what is in force.
struct BackendNow {
  HealthReport health;
  uint32_t times_down = 0;  // lately, as the flap damper counts
  absl::Duration held_for;  // from now on; 0: it is not
};
using LookAt = absl::FunctionRef<BackendNow(const Revision::Place& place)>;

// Workers, interfaces, and the packets of all workers.
void FillDataplane(const Dataplane& dataplane, api::Status* status);

// All that are in force, with what the file says instead.
void FillOverrides(const InForce& now, api::Status* status);

void FillServices(const InForce& now, const NamedCounts& counts, api::ServiceList* list);

void FillBackends(const InForce& now, const NamedCounts& counts, LookAt look_at,
                  api::BackendList* list);

// Why a backend does not take all the new connections that its table has for it, in words; empty:
// it does, or is not in force. `history`: the revisions, oldest first.
std::string WhyUnused(const InForce& now, const std::deque<api::Revision>& history, LookAt look_at,
                      const std::string& service, const std::string& backend);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_VIEWS_H_
