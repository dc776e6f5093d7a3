// What the dataplane has counted for services and backends, by the names that they have now. It
// counts by ids, which never begin anew and are given to other names later.
//
// Thread contract: the control thread's. The Dataplane must outlive it.
#ifndef GUIDEWAY_CONTROL_NAMED_COUNTS_H_
#define GUIDEWAY_CONTROL_NAMED_COUNTS_H_

#include <cstdint>

#include "absl/container/flat_hash_map.h"
#include "control/revision.h"
#include "dataplane/dataplane.h"
#include "maglev/snapshot.h"

namespace guideway {

class NamedCounts {
 public:
  explicit NamedCounts(const Dataplane* dataplane) : dataplane_(dataplane) {}

  // The id has a name from now on, and begins at 0.
  void BeginService(ServiceId id) { Begin(id, dataplane_->service_counts(id), services_); }
  void BeginBackend(BackendId id) { Begin(id, dataplane_->backend_counts(id), backends_); }

  // `after` is in force instead of `before` (null: nothing was): a service's count of connections
  // goes on where it was, whichever backends leave or come back.
  void Change(const Revision* before, const Revision& after);

  ServiceCounts OfService(ServiceId id) const;
  BackendCounts OfBackend(BackendId id) const;
  // Connections opened. Of a service in force.
  uint64_t NewFlows(const Revision::Service& service) const {
    const auto carried = carried_new_flows_.find(service.id);
    return SumNewFlows(service) + (carried == carried_new_flows_.end() ? 0 : carried->second);
  }

 private:
  template <typename Id, typename Counts>
  static void Begin(Id id, const Counts& counts, absl::flat_hash_map<Id, Counts>& begins) {
    if (counts != Counts()) begins[id] = counts;  // they never go back to 0
  }
  uint64_t SumNewFlows(const Revision::Service& service) const;

  const Dataplane* const dataplane_;
  // When the id was given to its name. Of most that was nothing, and they are not there.
  absl::flat_hash_map<ServiceId, ServiceCounts> services_;
  absl::flat_hash_map<BackendId, BackendCounts> backends_;
  // Of each service in force: connections opened, less those to the backends that it has now. May
  // wrap below 0. Not there: none.
  absl::flat_hash_map<ServiceId, uint64_t> carried_new_flows_;
};

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_NAMED_COUNTS_H_
