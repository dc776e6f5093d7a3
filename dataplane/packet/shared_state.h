// What the workers of one dataplane know of each other. A worker writes its own counters and its
// own flow table, and reads those of the others where it must: least_connections adds up, and what
// RSS brings to the wrong worker (fragments, ICMP errors) is looked up in every table. All write
// the limits that hold for all workers together, and what routers say of paths. Which service has
// which backends is the business of the one thread that prepares and asks for counts.
//
// All that packets touch is allocated at construction; it outlives the Pipelines.
#ifndef GUIDEWAY_DATAPLANE_PACKET_SHARED_STATE_H_
#define GUIDEWAY_DATAPLANE_PACKET_SHARED_STATE_H_

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
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

  // To be called before workers use a Snapshot: the memory that its packets will count in, and
  // whose they are. By the thread that asks for counts.
  void Prepare(const Snapshot& snapshot) {
    for (const auto& counters : counters_) {
      counters->Prepare(snapshot.service_ids(), snapshot.backend_ids());
    }
    if (firsts_.size() < snapshot.service_ids()) firsts_.resize(snapshot.service_ids(), kNoBackend);
    if (members_.size() < snapshot.backend_ids()) members_.resize(snapshot.backend_ids());
    // Most services are those of the Snapshot before.
    std::vector<std::shared_ptr<const Service>> services(snapshot.service_ids());
    for (const auto& service : snapshot.services()) {
      const ServiceId id = service->id;
      services[id] = service;
      if (id < services_.size() && services_[id] == service) continue;
      for (const Backend& backend : service->backends) GiveTo(id, backend.id);
    }
    services_ = std::move(services);
  }

  size_t workers() const { return counters_.size(); }
  WorkerCounters& counters(size_t worker) { return *counters_[worker]; }
  const WorkerCounters& counters(size_t worker) const { return *counters_[worker]; }
  FlowTable& flows(size_t worker) { return *flows_[worker]; }
  const FlowTable& flows(size_t worker) const { return *flows_[worker]; }

  // Of all workers together. They count what a service's backends got by backend, so a service's is
  // the sum: over those that it has, and those that have left it and whose ids nobody else got yet.
  ServiceCounts service_counts(ServiceId id) const {
    ServiceCounts sum;
    if (const auto past = past_.find(id); past != past_.end()) sum = past->second;
    for (BackendId b = id < firsts_.size() ? firsts_[id] : kNoBackend; b != kNoBackend;
         b = members_[b].next) {
      sum += ServiceCountsOfBackend(b);
    }
    for (const auto& counters : counters_) sum += counters->service_counts(id);
    return sum;
  }
  BackendCounts backend_counts(BackendId id) const {
    BackendCounts sum;
    for (const auto& counters : counters_) sum += counters->backend_counts(id);
    return sum;
  }

  // Connections that a backend has, all workers together.
  uint64_t LiveConnections(BackendId id) const {
    uint64_t sum = 0;
    for (const auto& counters : counters_) sum += counters->active_flows(id);
    return sum;
  }

  RateLimit& new_flows(ServiceId id) { return new_flows_[id]; }
  PathMtus& path_mtus() { return path_mtus_; }

 private:
  // A backend, in a list of all that its service has.
  struct Member {
    ServiceId service = kNoService;
    BackendId previous = kNoBackend, next = kNoBackend;
  };

  ServiceCounts ServiceCountsOfBackend(BackendId id) const {
    ServiceCounts sum;
    for (const auto& counters : counters_) sum += counters->service_counts_of_backend(id);
    return sum;
  }
  // An id whose service is another one now: nobody counts for the one before any more (Snapshot,
  // «Identity»).
  void GiveTo(ServiceId service, BackendId backend) {
    Member& member = members_[backend];
    if (member.service == service) return;
    const ServiceCounts counted = ServiceCountsOfBackend(backend);
    const bool has_counted = counted != ServiceCounts();
    if (member.service != kNoService) {
      if (has_counted) past_[member.service] += counted;
      BackendId& before =
          member.previous == kNoBackend ? firsts_[member.service] : members_[member.previous].next;
      before = member.next;
      if (member.next != kNoBackend) members_[member.next].previous = member.previous;
    }
    if (has_counted) past_[service] -= counted;
    const BackendId second = std::exchange(firsts_[service], backend);
    if (second != kNoBackend) members_[second].previous = backend;
    member = {.service = service, .previous = kNoBackend, .next = second};
  }

  std::vector<std::unique_ptr<WorkerCounters>> counters_;
  std::vector<std::unique_ptr<FlowTable>> flows_;
  std::vector<std::shared_ptr<const Service>> services_;  // of the last Snapshot, by ServiceId
  std::vector<BackendId> firsts_;                         // of the lists, by ServiceId
  std::vector<Member> members_;                           // by BackendId
  // Of services with ids that somebody else has now, or had before: what those counted for it, less
  // what its own had counted before they were its own. Not there: nothing.
  absl::flat_hash_map<ServiceId, ServiceCounts> past_;
  PageArray<RateLimit> new_flows_;  // by ServiceId
  PathMtus path_mtus_;
};

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_PACKET_SHARED_STATE_H_
