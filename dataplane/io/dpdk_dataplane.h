// The Dataplane of the daemon: interfaces, workers and the Publisher between control and them, set
// up as a Plan says.
//
//   interfaces ◄── queues ── workers, one per core ── Snapshots ◄── Publisher ◄── Publish
//
// Life: the Interfaces are attached first, since the Plan needs to know what they can do; Start
// takes them over, makes the buffers, starts them and lets the workers run. They receive
// nothing before the first Publish. Stop, also done by the destructor, waits for the workers to
// finish their burst and closes the devices; counters and statuses stay readable.
//
// Threads: everything by the control thread, which is EAL's main lcore, but for ReadFlows and
// Explain, which any thread may call between Start and the destructor. The workers run on EAL's
// other lcores, worker i on lcore i + 1, and share with it the Publisher, the flag that ends them,
// and counters. None of the calls but Start and Stop waits for a worker.
//
// Memory: one pool of buffers for each NUMA node that has interfaces, each worker's flow table and
// counters; all of it taken by Start.
#ifndef GUIDEWAY_DATAPLANE_IO_DPDK_DATAPLANE_H_
#define GUIDEWAY_DATAPLANE_IO_DPDK_DATAPLANE_H_

#include <atomic>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "dataplane/dataplane.h"
#include "dataplane/io/eal.h"
#include "dataplane/io/interface.h"
#include "dataplane/io/plan.h"
#include "dataplane/io/publisher.h"
#include "dataplane/io/worker.h"

struct rte_mempool;
struct rte_ring;

namespace guideway {

class DpdkDataplane : public Dataplane {
 public:
  // `interfaces` are those of the Plan, in its order. EAL was started with the Plan's cores and
  // outlives the Dataplane.
  static absl::StatusOr<std::unique_ptr<DpdkDataplane>> Start(
      Eal& eal, const Plan& plan, std::vector<std::unique_ptr<Interface>> interfaces);
  ~DpdkDataplane() override;

  void Stop();

  void Publish(std::shared_ptr<const Snapshot> snapshot) override;
  void Reclaim() override;
  uint64_t SweptVersion() const override;
  std::vector<InterfaceStatus> interfaces() const override;
  std::vector<WorkerStatus> workers() const override;
  ServiceCounts service_counts(ServiceId id) const override;
  BackendCounts backend_counts(BackendId id) const override;
  void ReadFlows(size_t worker, uint64_t first, uint64_t last,
                 std::vector<FlowEntry>* entries) const override;
  absl::StatusOr<Explanation> Explain(const Snapshot& snapshot,
                                      absl::string_view packet) const override;

 private:
  struct FreePool {
    void operator()(rte_mempool* pool) const;
  };
  struct FreeRing {
    void operator()(rte_ring* ring) const;
  };
  using Ring = std::unique_ptr<rte_ring, FreeRing>;
  using Pool = std::unique_ptr<rte_mempool, FreePool>;

  DpdkDataplane(const Plan& plan, std::vector<std::unique_ptr<Interface>> interfaces);

  absl::Status StartInterfaces(Eal& eal);
  absl::Status StartWorkers(Eal& eal);

  const Plan plan_;
  std::vector<Pool> pools_;  // outlive the interfaces, whose queues hold buffers
  std::vector<std::unique_ptr<Interface>> interfaces_;
  Publisher publisher_;
  std::atomic<bool> stop_ = false;
  std::unique_ptr<SharedState> shared_;
  std::vector<Ring> rings_;  // of each worker: fragments that others received
  std::vector<std::unique_ptr<Worker>> workers_;
  size_t running_ = 0;  // so many of them
};

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_IO_DPDK_DATAPLANE_H_
