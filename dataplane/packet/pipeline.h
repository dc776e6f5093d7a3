// The way of a packet through a worker, from the received frame to the frame that leaves:
//
//   Parse ─► Match ─► Choose ─► Encapsulate
//
// One Pipeline a worker: it owns the worker's flow table and writes its counters. Process, Account
// and Sweep are called by the worker's thread alone; the const members by any thread.
//
// A burst is handled as if its packets came one at a time. Nothing here allocates, locks, logs,
// asks for the time or makes a system call.
#ifndef GUIDEWAY_DATAPLANE_PACKET_PIPELINE_H_
#define GUIDEWAY_DATAPLANE_PACKET_PIPELINE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "dataplane/packet/burst.h"
#include "dataplane/packet/flow_table.h"
#include "dataplane/packet/worker_counters.h"
#include "maglev/choice.h"
#include "maglev/snapshot.h"

namespace guideway {

class Pipeline {
 public:
  // `flow_entries`: room for so many connections, rounded up to a power of two; in such pages.
  // `counters`: those of all workers, which outlive it; its own are number `worker`.
  Pipeline(size_t flow_entries, PageSize page_size, std::vector<WorkerCounters*> counters,
           size_t worker);

  // Counts the first `burst.size` packets as received and decides them: verdicts for all, and the
  // frames of those forwarded as they are to leave, with the interface to leave by. The frames'
  // memory is changed in place.
  void Process(const Snapshot& snapshot, Ticks now, Burst& burst);

  // Counts a processed burst. To be called after it was sent: a frame that the interface did not
  // take has been turned into a drop for kTransmitFull by then.
  void Account(const Burst& burst);

  // Goes through the next `lines` lines of the flow table and frees entries that are timed out or
  // whose backend has left the configuration.
  void Sweep(const Snapshot& snapshot, Ticks now, size_t lines);

  // The whole flow table has been swept under Snapshots of this version or later ones.
  uint64_t swept_version() const { return swept_version_.load(std::memory_order_acquire); }

  const FlowTable& flows() const { return flows_; }

 private:
  FlowTable flows_;
  Chooser chooser_;
  WorkerCounters& counters_;
  const std::vector<const WorkerCounters*> all_workers_;
  uint16_t identification_ = 0;  // of the next outer IPv4 header that may be fragmented

  size_t sweep_line_ = 0;
  uint64_t sweep_version_ = 0;  // of the Snapshot when the sweep under way began
  std::atomic<uint64_t> swept_version_ = 0;
};

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_PACKET_PIPELINE_H_
