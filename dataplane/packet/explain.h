// Where one packet would go, and why: it goes through the packet path itself, in a world of its
// own.
//
// That world has empty tables and no counters of anybody's, so nothing changes by it. With
// LiveTables it begins with what a running dataplane remembers of the packet's connection; then
// the answer is that of the daemon, at this moment.
//
// Pure but for what other threads write into the tables meanwhile. Any thread.
#ifndef GUIDEWAY_DATAPLANE_PACKET_EXPLAIN_H_
#define GUIDEWAY_DATAPLANE_PACKET_EXPLAIN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "dataplane/explanation.h"
#include "dataplane/packet/clock.h"
#include "dataplane/packet/flow_table.h"
#include "dataplane/packet/packet_text.h"
#include "maglev/snapshot.h"

namespace guideway {

struct LiveTables {
  struct Worker {
    uint32_t core;
    const FlowTable* flows;
  };
  Nanoseconds now = 0;  // by the workers' clock
  std::vector<Worker> workers;
};

// An entry read at `now`.
FlowEntry EntryOf(const Flow& flow, Nanoseconds now);

// `interfaces`: their names, by index. `live`: null for a packet that meets empty tables.
Explanation ExplainPacket(const Snapshot& snapshot, absl::Span<const std::string> interfaces,
                          const PacketText& packet, const LiveTables* live = nullptr);

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_PACKET_EXPLAIN_H_
