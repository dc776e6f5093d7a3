// What the workers of one dataplane know of each other. A worker writes its own counters and its
// own flow table, and reads those of the others where it must: least_connections adds up, and what
// RSS brings to the wrong worker (fragments, ICMP errors) is looked up in every table. The rest is
// written by all: limits that hold for all workers together, and what routers say of paths.
//
// Everything is allocated at construction; it outlives the Pipelines.
#ifndef GUIDEWAY_DATAPLANE_PACKET_SHARED_STATE_H_
#define GUIDEWAY_DATAPLANE_PACKET_SHARED_STATE_H_

#include <cstddef>
#include <memory>
#include <vector>

#include "dataplane/packet/flow_table.h"
#include "dataplane/packet/path_mtu.h"
#include "dataplane/packet/rate_limit.h"
#include "dataplane/packet/worker_counters.h"
#include "maglev/pages.h"
#include "maglev/snapshot.h"

namespace guideway {

class SharedState {
 public:
  // Flow tables have room for `flow_entries` each, rounded up to a power of two, in such pages.
  SharedState(size_t workers, size_t flow_entries, PageSize page_size)
      : new_flows_(kMaxServices, PageSize::kLazy) {
    for (size_t i = 0; i < workers; ++i) {
      counters_.push_back(std::make_unique<WorkerCounters>());
      flows_.push_back(std::make_unique<FlowTable>(flow_entries, page_size));
    }
  }

  // To be called before workers use a Snapshot: the memory that its packets will count in.
  void Prepare(const Snapshot& snapshot) {
    for (const auto& counters : counters_) {
      counters->Prepare(snapshot.service_ids(), snapshot.backend_ids());
    }
  }

  size_t workers() const { return counters_.size(); }
  WorkerCounters& counters(size_t worker) { return *counters_[worker]; }
  const WorkerCounters& counters(size_t worker) const { return *counters_[worker]; }
  FlowTable& flows(size_t worker) { return *flows_[worker]; }
  const FlowTable& flows(size_t worker) const { return *flows_[worker]; }

  // Connections that a backend has, all workers together.
  uint64_t LiveConnections(BackendId id) const {
    uint64_t sum = 0;
    for (const auto& counters : counters_) sum += counters->active_flows(id);
    return sum;
  }

  RateLimit& new_flows(ServiceId id) { return new_flows_[id]; }
  PathMtus& path_mtus() { return path_mtus_; }

 private:
  std::vector<std::unique_ptr<WorkerCounters>> counters_;
  std::vector<std::unique_ptr<FlowTable>> flows_;
  PageArray<RateLimit> new_flows_;  // by ServiceId
  PathMtus path_mtus_;
};

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_PACKET_SHARED_STATE_H_
