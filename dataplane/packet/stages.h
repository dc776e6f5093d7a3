// The stages of the pipeline: free functions over a burst. Each looks at the packets that are still
// undecided, and each says what it reads, what it writes and which verdicts it can give.
#ifndef GUIDEWAY_DATAPLANE_PACKET_STAGES_H_
#define GUIDEWAY_DATAPLANE_PACKET_STAGES_H_

#include <cstdint>
#include <span>

#include "dataplane/packet/burst.h"
#include "dataplane/packet/flow_table.h"
#include "dataplane/packet/worker_counters.h"
#include "maglev/choice.h"
#include "maglev/snapshot.h"

namespace guideway {

// Finds the headers and judges them.
//   Reads: the frames. Writes: packets, keys; cuts off padding behind the IP packet.
//   Verdicts: kDrop/kMalformed; kPunt for what is not IPv4.
void Parse(Burst& burst);

// Finds the service that a packet is for, and hashes its connection.
//   Reads: packets, keys. Writes: services, hashes; prefetches the flow table.
//   Verdicts: kPunt for what is not to a VIP; kDrop/kMalformed for what comes from the VIP itself,
//   and for ICMP with a wrong checksum; kDrop/kFragmentUnknown, kPortNotServed.
void Match(const Snapshot& snapshot, const FlowTable& flows, Burst& burst);

// Finds the backend of each packet: the one its connection has, else the one the service's
// scheduler chooses.
//   Reads: packets, services, hashes; the live connections of `all_workers`. Writes: backends,
//   opened; the flow table, the chooser's turns, the counters.
//   Verdicts: kDrop/kNoBackend.
//
// A connection keeps its backend through drain, and is chosen anew if its backend is down or has
// left the service. A client that starts over (SYN) keeps a backend that takes new connections; a
// SYN on a connection that was closing is another connection. Where the table has no place for one,
// and for packets in the middle of one it does not know, the hash decides, whatever the scheduler:
// it is what all balancers, and this one after a restart, agree on.
void Choose(const Snapshot& snapshot, Ticks now, FlowTable& flows, Chooser& chooser,
            WorkerCounters& counters, std::span<const WorkerCounters* const> all_workers,
            Burst& burst);

// Puts an outer IPv4 header (RFC 2003) in front of the packet and addresses the frame to the next
// hop. The inner packet is untouched. Outer TTL 64; DSCP and ECN copied (RFC 6040, normal mode); DF
// copied; identification 0 with DF, else counted up from `identification`.
//   Reads: packets, backends. Writes: the frames, and their interface.
//   Verdicts: kForward; kDrop/kNoNextHop; kDrop/kTooBig if the outer packet exceeds the MTU.
void Encapsulate(uint16_t& identification, Burst& burst);

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_PACKET_STAGES_H_
