// All that one worker counts. It alone writes; anyone may read counts at any time. They only grow,
// but for those of connections that are there now, and start at 0 with the process.
#ifndef GUIDEWAY_DATAPLANE_PACKET_WORKER_COUNTERS_H_
#define GUIDEWAY_DATAPLANE_PACKET_WORKER_COUNTERS_H_

#include <array>
#include <cstdint>

#include "dataplane/counters.h"
#include "maglev/pages.h"
#include "maglev/snapshot.h"

namespace guideway {

class WorkerCounters {
 public:
  // Of packets that matched a service and were not sent to a backend: those that were are counted
  // by the backend alone.
  struct PerService {
    Counter packets, bytes, forwarded, dropped;
  };
  // What was sent to a backend: packets, bytes as sent, bytes as received. Beside it the way there:
  // what a packet of a known connection needs of its backend is this one line of cache.
  struct alignas(64) PerBackend {
    Counter packets, bytes, received_bytes;
    Counter active_flows;
    Adjacency adjacency;  // nobody else reads it
  };
  // What few packets touch, so it lies apart: connections opened; of the active ones, those that
  // are closing.
  struct FlowsOfBackend {
    Counter opened, closing;
  };

  WorkerCounters() = default;
  WorkerCounters(const WorkerCounters&) = delete;
  WorkerCounters& operator=(const WorkerCounters&) = delete;

  // Takes the memory of the counters of so many services and backends now, so that no packet has to
  // wait for it. Any thread may call it at any time; without it they take it when they are touched.
  void Prepare(size_t services, size_t backends) {
    services_.Populate(services);
    backends_.Populate(backends);
    flows_of_backends_.Populate(backends);
  }

  // The worker's side.
  Counter& received() { return received_; }
  Counter& verdict(Verdict v) { return verdicts_[static_cast<size_t>(v)]; }
  Counter& reason(Reason r) { return reasons_[static_cast<size_t>(r)]; }
  Counter& flows() { return flows_; }
  Counter& flows_not_stored() { return flows_not_stored_; }
  Counter& flows_evicted() { return flows_evicted_; }
  // Time in nanoseconds: of rounds of the worker's loop that had packets, and of all others.
  Counter& busy_time() { return busy_time_; }
  Counter& idle_time() { return idle_time_; }
  PerService& service(ServiceId id) { return services_[id]; }
  PerBackend& backend(BackendId id) { return backends_[id]; }
  // With its adjacency as it is now. Of a backend that the Snapshot does not have, none.
  PerBackend& BackendIn(const Snapshot& snapshot, BackendId id) {
    PerBackend& b = backends_[id];
    if (b.adjacency.snapshot != snapshot.serial()) [[unlikely]] {
      b.adjacency = snapshot.TargetOf(id).adjacency;
    }
    return b;
  }
  FlowsOfBackend& flows_of_backend(BackendId id) { return flows_of_backends_[id]; }

  // The readers' side. Each number is exact; numbers read while the worker runs may be of
  // different bursts.
  PacketCounts packet_counts() const {
    PacketCounts counts;
    counts.received = received_.Get();
    for (size_t i = 0; i < kVerdicts; ++i) counts.verdicts[i] = verdicts_[i].Get();
    for (size_t i = 0; i < kReasons; ++i) counts.reasons[i] = reasons_[i].Get();
    return counts;
  }
  uint64_t flow_count() const { return flows_.Get(); }
  uint64_t flows_not_stored_count() const { return flows_not_stored_.Get(); }
  uint64_t flows_evicted_count() const { return flows_evicted_.Get(); }
  uint64_t busy_nanoseconds() const { return busy_time_.Get(); }
  uint64_t idle_nanoseconds() const { return idle_time_.Get(); }
  // Without what its backends got.
  ServiceCounts service_counts(ServiceId id) const {
    const PerService& s = services_[id];
    return {s.packets.Get(), s.bytes.Get(), s.forwarded.Get(), s.dropped.Get()};
  }
  // What the service of a backend got that was sent to the backend.
  ServiceCounts service_counts_of_backend(BackendId id) const {
    const PerBackend& b = backends_[id];
    const uint64_t packets = b.packets.Get();
    return {packets, b.received_bytes.Get(), packets, 0};
  }
  uint64_t active_flows(BackendId id) const { return backends_[id].active_flows.Get(); }
  BackendCounts backend_counts(BackendId id) const {
    const PerBackend& b = backends_[id];
    const FlowsOfBackend& flows = flows_of_backends_[id];
    return {b.packets.Get(), b.bytes.Get(), flows.opened.Get(), b.active_flows.Get(),
            flows.closing.Get()};
  }

 private:
  alignas(64) Counter received_;
  std::array<Counter, kVerdicts> verdicts_;
  std::array<Counter, kReasons> reasons_;
  Counter flows_;
  Counter flows_not_stored_;
  Counter flows_evicted_;
  Counter busy_time_, idle_time_;
  alignas(64) PageArray<PerService> services_{kMaxServices, PageSize::kLazy};
  PageArray<PerBackend> backends_{kMaxBackends, PageSize::kLazy};
  PageArray<FlowsOfBackend> flows_of_backends_{kMaxBackends, PageSize::kLazy};
};

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_PACKET_WORKER_COUNTERS_H_
