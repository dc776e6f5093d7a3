// The seam between control and the packets: control hands down Snapshots and reads counters, and
// that is all it knows of workers, queues and DPDK.
//
// All of it is called by the control thread alone, and none of it waits for a worker. What looks
// into the flow tables may be called by any thread: it reads while the workers write, and changes
// nothing.
#ifndef GUIDEWAY_DATAPLANE_DATAPLANE_H_
#define GUIDEWAY_DATAPLANE_DATAPLANE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "dataplane/counters.h"
#include "dataplane/explanation.h"
#include "dataplane/flow_entry.h"
#include "maglev/net.h"
#include "maglev/snapshot.h"

namespace guideway {

// An interface as it is now. `interfaces()` lists them in the configuration's order.
struct InterfaceStatus {
  std::string name;
  std::string device;
  MacAddress mac;
  uint16_t mtu = 0;  // largest IP packet, in bytes
  bool link_up = false;
  uint64_t received_packets = 0;
  uint64_t sent_packets = 0;
  uint64_t missed_packets = 0;  // arrived at the device, lost before a worker read them
};

struct WorkerStatus {
  uint32_t core = 0;
  PacketCounts packets;
  uint64_t flows = 0;  // entries in the flow table, up to `flow_capacity`
  uint64_t flow_capacity = 0;
  uint64_t flows_not_stored = 0;  // opened while the table had no place for them
  uint64_t flows_evicted = 0;     // entries that had to make room before they timed out
  // Time since the first Snapshot: of rounds of the loop that had packets, and of all others.
  uint64_t busy_ns = 0;
  uint64_t idle_ns = 0;
  uint64_t rounds = 0;  // of its loop, with packets or without: it grows while it lives
};

class Dataplane {
 public:
  virtual ~Dataplane() = default;

  // From its next burst on every worker works by this Snapshot. The one before is released once
  // no worker can be reading it, at a later call of Publish or Reclaim. Versions only grow.
  virtual void Publish(std::shared_ptr<const Snapshot> snapshot) = 0;

  // Releases Snapshots that no worker reads any more. To be called now and then.
  virtual void Reclaim() = 0;

  // Every worker has gone through its whole flow table under a Snapshot of this version or a later
  // one: ids of services and backends that were gone from it may be given to others.
  virtual uint64_t SweptVersion() const = 0;

  virtual std::vector<InterfaceStatus> interfaces() const = 0;
  virtual std::vector<WorkerStatus> workers() const = 0;

  // Of all workers together, since the start of the process; ids that were never used count 0.
  virtual ServiceCounts service_counts(ServiceId id) const = 0;
  virtual BackendCounts backend_counts(BackendId id) const = 0;

  // Appends the entries at the places [first, last) of the flow table of one worker, by its place
  // in `workers()`; there are `flow_capacity` places. Entries that are timed out are there until
  // they are swept. One that is moved meanwhile may be told twice, or not at all.
  virtual void ReadFlows(size_t worker, uint64_t first, uint64_t last,
                         std::vector<FlowEntry>* entries) const = 0;

  // Where this packet would go now by `snapshot` and the flow tables, and what they know of its
  // connection. `packet` is as people write it (dataplane/packet/packet_text.h); an InvalidArgument
  // says what is wrong with it.
  virtual absl::StatusOr<Explanation> Explain(const Snapshot& snapshot,
                                              absl::string_view packet) const = 0;
};

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_DATAPLANE_H_
