// The way of a packet through a worker, from the received frame to the frames that leave:
//
//                          connections that are known
//                         ┌───────────────┐
//   Parse ─► HandOver ─► Recall ─► Match ─► Choose ─► Follow ─► Rewrite
//                │                                     ▲  │
//                ▼ fragments of others                 └──┘ fragments that wait for their first one
//
// One Pipeline a worker: it uses the worker's part of the SharedState. All of it is called by the
// worker's thread alone, but for swept_version and flows.
//
// A burst is handled as if its packets came one at a time. Nothing here allocates, locks, logs,
// asks for the time or makes a system call.
#ifndef GUIDEWAY_DATAPLANE_PACKET_PIPELINE_H_
#define GUIDEWAY_DATAPLANE_PACKET_PIPELINE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "dataplane/packet/burst.h"
#include "dataplane/packet/clock.h"
#include "dataplane/packet/fragments.h"
#include "dataplane/packet/rewrite.h"
#include "dataplane/packet/shared_state.h"
#include "maglev/choice.h"
#include "maglev/snapshot.h"

namespace guideway {

class Pipeline {
 public:
  Pipeline(SharedState& shared, size_t worker);

  // Decides the first `burst.size` packets: a verdict for each, but for fragments that are held or
  // another worker's, and the frames of those sent as they are to leave, with the interface to
  // leave by. The frames' memory is changed in place.
  void Process(const Snapshot& snapshot, Nanoseconds now, Burst& burst);

  // Counts a processed burst: as received, too, all that has its verdict. To be called after it was
  // sent: a packet of which the interface did not take every frame, or the other worker not all,
  // has been turned into a drop for kTransmitFull by then.
  void Account(const Burst& burst);

  // Fills the burst with held fragments that wait no longer, to be processed, sent and accounted as
  // if they had just come; their frames are the pipeline's memory until then. With `all`, none
  // waits any longer. False if there is none.
  bool TakeHeld(Nanoseconds now, bool all, Burst& burst) {
    return fragments_.Take(now, all, burst);
  }

  // Goes through the next `lines` lines of the flow table and frees entries that are timed out or
  // whose backend has left the configuration; with a new round, what else is out of date, too.
  void Sweep(const Snapshot& snapshot, Nanoseconds now, size_t lines);

  // All of it has been swept under Snapshots of this version or later ones.
  uint64_t swept_version() const { return swept_version_.load(std::memory_order_acquire); }

  const FlowTable& flows() const { return flows_; }

 private:
  SharedState& shared_;
  FlowTable& flows_;
  WorkerCounters& counters_;
  const uint16_t worker_;
  Chooser chooser_;
  Fragments fragments_;
  RewriteState rewrite_;

  // How the packets of the burst before were matched, and since when like that.
  uint64_t match_digest_ = 0;
  Ticks matched_since_ = 0;

  size_t sweep_line_ = 0;
  uint64_t sweep_version_ = 0;  // of the Snapshot when the sweep under way began
  std::atomic<uint64_t> swept_version_ = 0;
};

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_PACKET_PIPELINE_H_
