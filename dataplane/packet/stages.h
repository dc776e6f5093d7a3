// The stages of the pipeline: free functions over a burst. Each looks at the packets that are still
// undecided, and each says what it reads, what it writes and which verdicts it can give.
#ifndef GUIDEWAY_DATAPLANE_PACKET_STAGES_H_
#define GUIDEWAY_DATAPLANE_PACKET_STAGES_H_

#include "dataplane/packet/burst.h"
#include "dataplane/packet/clock.h"
#include "dataplane/packet/flow_table.h"
#include "dataplane/packet/fragments.h"
#include "dataplane/packet/path_mtu.h"
#include "dataplane/packet/rewrite.h"
#include "dataplane/packet/shared_state.h"
#include "dataplane/packet/worker_counters.h"
#include "maglev/choice.h"
#include "maglev/snapshot.h"

namespace guideway {

// Starts a burst over: finds the headers of its packets and judges them.
//   Reads: frame. Writes: the whole Decision, parsed, key, has_fragments, extras; of what names its
//   connection hash and entry, for which it prefetches the flow table; cuts off padding behind the
//   IP packet. Verdicts: kDrop/kMalformed; kPunt for what is neither IPv4 nor IPv6.
void Parse(const Snapshot& snapshot, FlowTable& flows, Burst& burst);

// Leaves fragments to the worker that owns them, by a hash of what they have in common: RSS knows
// no ports of theirs, so that a sender's fragments all come to one worker.
//   Reads: parsed, key. Writes: owner. Verdicts: none.
void HandOver(const Snapshot& snapshot, uint16_t worker, size_t workers, Burst& burst);

// Looks connections up in the flow table, but for the second place of one that opens: that is left
// to Choose. Most that are there need no Match: the packet before had it.
//   Reads: parsed, key, hash, entry. Writes: entry, all_known, per_backend. Prefetches what is
//   known of the backend that an entry names; for connections not in their first line the other
//   one, and the VIP. Verdicts: none.
void Recall(const Snapshot& snapshot, FlowTable& flows, WorkerCounters& counters, Burst& burst);

// Finds out what a packet that has no entry has to do with us: the service that it is for, or the
// nat backend that it comes from.
//   Reads: parsed, key, entry. Writes: direction, service, to_choose, quote; the hash of
//   ICMP, of errors the key, too; backend and lookup of kFromBackend. Verdicts: kPunt for what is
//   neither; to a VIP, in this order: kDrop/kMalformed for what comes from the VIP itself, and for
//   ICMP with a wrong checksum or a mutilated quote; kAccessDenied; kPortNotServed.
void Match(const Snapshot& snapshot, Burst& burst);

// Finds the backend of each packet from a client: the one that its QUIC connection id names, else
// the one its connection has, else the one the service's scheduler chooses. Later fragments are
// left to Follow.
//   Reads: parsed, key, service, hash, entry, to_choose, quote; flow tables and live connections of
//   all workers. Writes: backend, per_backend, lookup, opened, by_hash; the flow table, the
//   chooser's turns, the counters; of packets with an entry what Match writes. Verdicts:
//   kDrop/kNoBackend, kRateLimited; of packets with an entry those of Match.
//
// A connection keeps its backend through drain, and is chosen anew if its backend is down or has
// left the service. A client that starts over (SYN) keeps a backend that takes new connections; a
// SYN on a connection that was closing is another connection. Where the table has no place for one,
// and for packets in the middle of one it does not know, the hash decides, whatever the scheduler:
// it is what all balancers, and this one after a restart, agree on. An ICMP error follows its
// connection and changes nothing about it.
//
// A connection with an entry is matched again only if something about it changes, or may have: if
// its entry was last touched by `matched_since`, the last moment at which Match changed its mind.
void Choose(const Snapshot& snapshot, Nanoseconds now, Ticks matched_since, SharedState& shared,
            FlowTable& flows, Chooser& chooser, WorkerCounters& counters, Burst& burst);

// Sends later fragments where their first one went.
//   Reads: parsed, key, the verdict of first fragments. Writes: backend, per_backend, service,
//   hash, lookup of kFromBackend; holds later fragments whose first did not come yet. Verdicts:
//   those that the first fragment had so far; kDrop/kFragmentUnknown, to a VIP; kPunt else.
void Follow(const Snapshot& snapshot, Nanoseconds now, Fragments& fragments,
            WorkerCounters& counters, Burst& burst);

// Makes the packets what they leave as: tunnelled, translated, addressed to the next hop, in
// fragments if they do not fit; or answers them (rewrite.h).
//   Reads: parsed, key, direction, service, hash, quote, backend, per_backend. Writes: frame,
//   extras; what `path_mtus` knows. Verdicts: kForward; kReply; kPunt for what told of a path MTU;
//   kDrop/kNoNextHop, kTooBig, kRateLimited (answers), kTransmitFull (no room for fragments).
void Rewrite(const Snapshot& snapshot, Nanoseconds now, PathMtus& path_mtus, RewriteState& state,
             Burst& burst);

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_PACKET_STAGES_H_
