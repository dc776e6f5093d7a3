#include "dataplane/io/dpdk_dataplane.h"

#include <glog/logging.h>
#include <rte_cycles.h>
#include <rte_errno.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_ring.h>

#include <algorithm>
#include <new>

#include "absl/strings/str_cat.h"
#include "dataplane/packet/explain.h"
#include "dataplane/packet/packet_text.h"

namespace guideway {
namespace {

unsigned LcoreOf(size_t worker) { return static_cast<unsigned>(worker) + 1; }

}  // namespace

void DpdkDataplane::FreePool::operator()(rte_mempool* pool) const { rte_mempool_free(pool); }

// With the buffers that nobody took out.
void DpdkDataplane::FreeRing::operator()(rte_ring* ring) const {
  void* buffer;
  while (rte_ring_dequeue(ring, &buffer) == 0) rte_pktmbuf_free(static_cast<rte_mbuf*>(buffer));
  rte_ring_free(ring);
}

absl::StatusOr<std::unique_ptr<DpdkDataplane>> DpdkDataplane::Start(
    Eal& eal, const Plan& plan, std::vector<std::unique_ptr<Interface>> interfaces) {
  CHECK_EQ(interfaces.size(), plan.interfaces.size());
  std::unique_ptr<DpdkDataplane> dataplane(new DpdkDataplane(plan, std::move(interfaces)));
  if (absl::Status s = dataplane->StartInterfaces(eal); !s.ok()) return s;
  if (absl::Status s = dataplane->StartWorkers(eal); !s.ok()) return s;
  return dataplane;
}

DpdkDataplane::DpdkDataplane(const Plan& plan, std::vector<std::unique_ptr<Interface>> interfaces)
    : plan_(plan),
      interfaces_(std::move(interfaces)),
      publisher_(static_cast<uint32_t>(plan.workers.size())) {}

DpdkDataplane::~DpdkDataplane() { Stop(); }

absl::Status DpdkDataplane::StartInterfaces(Eal& eal) {
  const std::vector<PoolPlan> pool_plans = PlanPools(plan_);
  for (const PoolPlan& pool_plan : pool_plans) {
    const std::string name = absl::StrCat("buffers_", pools_.size());
    constexpr unsigned kCache = 256;
    Pool pool(rte_pktmbuf_pool_create(name.c_str(), pool_plan.buffers, kCache, 0,
                                      static_cast<uint16_t>(pool_plan.room), pool_plan.numa_node));
    if (pool == nullptr) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "no memory for ", pool_plan.buffers, " packet buffers of ", pool_plan.room,
          " bytes: ", rte_strerror(rte_errno), "; reserve more huge pages",
          pool_plan.numa_node < 0 ? "" : absl::StrCat(" on NUMA node ", pool_plan.numa_node),
          eal.TakeComplaints()));
    }
    pools_.push_back(std::move(pool));
  }
  for (size_t i = 0; i < interfaces_.size(); ++i) {
    const auto pool = std::find_if(pool_plans.begin(), pool_plans.end(), [&](const PoolPlan& p) {
      return p.numa_node == plan_.interfaces[i].numa_node;
    });
    absl::Status s = interfaces_[i]->Start(
        plan_.interfaces[i], pools_[pool - pool_plans.begin()].get(), pools_.size() == 1);
    if (!s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::Status DpdkDataplane::StartWorkers(Eal& eal) {
  std::vector<uint16_t> ports;
  for (const auto& interface : interfaces_) ports.push_back(interface->port());
  std::vector<rte_ring*> rings;
  for (size_t i = 0; i < plan_.workers.size(); ++i) {
    constexpr unsigned kRingSize = 1024;
    const std::string name = absl::StrCat("fragments_", i);
    rings_.emplace_back(rte_ring_create(name.c_str(), kRingSize, SOCKET_ID_ANY, RING_F_SC_DEQ));
    if (rings_.back() == nullptr) {
      return absl::ResourceExhaustedError(
          absl::StrCat("no memory for a ring between workers: ", rte_strerror(rte_errno)));
    }
    rings.push_back(rings_.back().get());
  }
  const uint64_t start_tsc = rte_rdtsc();
  try {
    shared_ = std::make_unique<SharedState>(
        plan_.workers.size(), plan_.flows_per_worker,
        plan_.hugepages ? PageSize::kHuge : PageSize::kTransparentHuge);
    for (uint16_t i = 0; i < plan_.workers.size(); ++i) {
      workers_.push_back(std::make_unique<Worker>(plan_, i, ports, pools_.front().get(), *shared_,
                                                  rings, start_tsc, publisher_, stop_));
    }
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for the flow tables: `flows_per_worker: ", plan_.flows_per_worker,
                     "` is too much for ", plan_.workers.size(), " workers on this machine"));
  }
  for (const auto& worker : workers_) {
    if (plan_.hugepages && !worker->pipeline().flows().uses_huge_pages()) {
      LOG(WARNING) << "the flow table of the worker on core " << worker->core()
                   << " is not in huge pages, there are too few: lookups will be slower; reserve "
                      "more in /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    }
  }
  for (size_t i = 0; i < workers_.size(); ++i) {
    const int error = rte_eal_remote_launch(
        [](void* worker) {
          static_cast<Worker*>(worker)->Run();
          return 0;
        },
        workers_[i].get(), LcoreOf(i));
    if (error != 0) {
      return absl::InternalError(absl::StrCat("worker on core ", workers_[i]->core(),
                                              " does not start: ", rte_strerror(-error),
                                              eal.TakeComplaints()));
    }
    ++running_;
  }
  return absl::OkStatus();
}

void DpdkDataplane::Stop() {
  stop_.store(true, std::memory_order_relaxed);
  for (; running_ > 0; --running_) rte_eal_wait_lcore(LcoreOf(running_ - 1));
  for (const auto& interface : interfaces_) interface->Stop();
}

void DpdkDataplane::Publish(std::shared_ptr<const Snapshot> snapshot) {
  shared_->Prepare(*snapshot);
  publisher_.Publish(std::move(snapshot));
}

void DpdkDataplane::Reclaim() { publisher_.Reclaim(); }

uint64_t DpdkDataplane::SweptVersion() const {
  uint64_t version = UINT64_MAX;
  for (const auto& worker : workers_) {
    version = std::min(version, worker->pipeline().swept_version());
  }
  return version;
}

std::vector<InterfaceStatus> DpdkDataplane::interfaces() const {
  std::vector<InterfaceStatus> result;
  for (const auto& interface : interfaces_) result.push_back(interface->status());
  return result;
}

std::vector<WorkerStatus> DpdkDataplane::workers() const {
  std::vector<WorkerStatus> result;
  for (size_t i = 0; i < workers_.size(); ++i) {
    const WorkerCounters& counters = shared_->counters(i);
    result.push_back({.core = workers_[i]->core(),
                      .packets = counters.packet_counts(),
                      .flows = counters.flow_count(),
                      .flow_capacity = shared_->flows(i).capacity(),
                      .flows_not_stored = counters.flows_not_stored_count(),
                      .flows_evicted = counters.flows_evicted_count(),
                      .busy_ns = counters.busy_nanoseconds(),
                      .idle_ns = counters.idle_nanoseconds(),
                      .rounds = workers_[i]->rounds()});
  }
  return result;
}

ServiceCounts DpdkDataplane::service_counts(ServiceId id) const {
  return shared_->service_counts(id);
}

BackendCounts DpdkDataplane::backend_counts(BackendId id) const {
  return shared_->backend_counts(id);
}

void DpdkDataplane::ReadFlows(size_t worker, uint64_t first, uint64_t last,
                              std::vector<FlowEntry>* entries) const {
  const Nanoseconds now = workers_[worker]->Now();
  shared_->flows(worker).ReadPlaces(
      first, last, [&](const Flow& flow) { entries->push_back(EntryOf(flow, now)); });
}

absl::StatusOr<Explanation> DpdkDataplane::Explain(const Snapshot& snapshot,
                                                   absl::string_view packet) const {
  const absl::StatusOr<PacketText> text = PacketText::Parse(packet);
  if (!text.ok()) return text.status();
  std::vector<std::string> interfaces;
  for (const InterfacePlan& interface : plan_.interfaces) interfaces.push_back(interface.name);
  LiveTables live = {.now = workers_.front()->Now(), .workers = {}};
  for (size_t i = 0; i < workers_.size(); ++i) {
    live.workers.push_back({workers_[i]->core(), &shared_->flows(i)});
  }
  return ExplainPacket(snapshot, interfaces, *text, &live);
}

}  // namespace guideway
