// The poll-mode loop of one core, run to completion: receive a burst, decide it, send it, count it.
//
//   RX queue ─► frames ─► Pipeline ─► TX queue of each interface ─► counters ─► «I hold nothing»
//
// A packet is touched by one core from the wire to the wire. Per burst, not per packet: loading the
// Snapshot, reading the clock, sending on each interface, counting. Nothing in the loop allocates,
// locks or logs, and the only system calls are the driver's and the sleep of `backoff`.
//
// The flow table is swept all the time, a slice a millisecond, once through in two seconds, whether
// there is traffic or not: ids of what has left the configuration come free, counts stay true.
//
// Backoff. After a few rounds without packets the worker sleeps, for 20 µs at first and twice as
// long each time, up to 250 µs; a packet ends it. Around the sleep it is offline for the Publisher.
//
// Busy and idle time: the clock is read once a round, and the time since then is the round's that
// has just ended, busy if it received packets. A sleep belongs to the idle round before it.
//
// Frames. A frame is shown to the Pipeline where it lies in its buffer. One that came in several
// buffers (longer than the MTU allows; net_pcap makes such) is brought together in the first if it
// has room, else shown with length 0, which is malformed. So is one without headroom (net_ring
// brings whatever its other end made). A frame that the Pipeline made itself (a
// fragment of one that did not fit, one that was held) is copied into a buffer of its own.
//
// A fragment that another worker owns goes to that one's ring, buffer and all; if it is full the
// fragment is dropped (transmit_full).
//
// Thread contract: Run by the worker's own thread, until `stop` is set. Counters, rounds and flow
// table may be read by any thread. Everything is allocated by the constructor.
#ifndef GUIDEWAY_DATAPLANE_IO_WORKER_H_
#define GUIDEWAY_DATAPLANE_IO_WORKER_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

#include "dataplane/counters.h"
#include "dataplane/io/plan.h"
#include "dataplane/io/publisher.h"
#include "dataplane/packet/burst.h"
#include "dataplane/packet/pipeline.h"
#include "dataplane/packet/shared_state.h"

struct rte_mbuf;
struct rte_mempool;
struct rte_ring;

namespace guideway {

class Worker {
 public:
  // `index` is the worker's place in the Plan. `ports`: DPDK's number of each interface, in the
  // Plan's order. `pool`: buffers for frames of the Pipeline's own. `shared`: of all workers, which
  // outlives it. `rings`: of all workers, for what others leave to them. `start_tsc`: the moment
  // that time counts from, the same for all workers.
  Worker(const Plan& plan, uint16_t index, const std::vector<uint16_t>& ports, rte_mempool* pool,
         SharedState& shared, const std::vector<rte_ring*>& rings, uint64_t start_tsc,
         Publisher& publisher, const std::atomic<bool>& stop);

  void Run();

  uint32_t core() const { return core_; }
  const Pipeline& pipeline() const { return pipeline_; }
  // Of the loop, so far. Grows while the worker lives, a sleep of `backoff` being part of a round.
  uint64_t rounds() const { return rounds_.Get(); }
  // By the clock of all workers; on any thread.
  Nanoseconds Now() const;

 private:
  struct RxQueue {
    uint16_t port;
    uint16_t queue;
    uint16_t interface;
  };
  // What is to leave by one interface.
  struct Outbox {
    uint16_t port;
    uint16_t size = 0;
    std::array<rte_mbuf*, Burst::kSize> buffers;
    std::array<uint8_t, Burst::kSize> packets;  // of which packet of the burst each is
  };

  // Time since `start_tsc`.
  Nanoseconds Now(uint64_t tsc) const {
    return static_cast<Nanoseconds>(static_cast<double>(tsc - start_tsc_) * ns_per_tsc_);
  }
  void AwaitFirstSnapshot();
  uint32_t ServeQueue(const RxQueue& queue, Nanoseconds now);
  uint32_t ServeRing(Nanoseconds now);
  void ServeHeld(Nanoseconds now);
  void ServeBurst(Nanoseconds now);
  void ShowFrame(uint32_t i, uint16_t interface);
  void SendFrames();
  void Push(uint16_t interface, uint8_t packet, rte_mbuf* buffer);
  void Flush(Outbox& out);
  rte_mbuf* Copy(const uint8_t* data, uint32_t length) const;
  void SweepIfDue(uint64_t tsc, Nanoseconds now);
  void Rest(bool idle);

  // Constant after construction.
  const uint32_t core_;
  const uint16_t tx_queue_;
  const bool backoff_;
  const uint64_t start_tsc_;
  const double ns_per_tsc_;
  const uint64_t tsc_per_sweep_;  // between slices
  std::vector<RxQueue> rx_;
  const std::atomic<bool>& stop_;

  // The worker's own.
  Publisher::Reader publication_;
  rte_mempool* const pool_;
  const std::vector<rte_ring*> rings_;  // by worker
  const uint16_t index_;                // its own
  WorkerCounters& counters_;
  Pipeline pipeline_;
  Burst burst_;
  std::array<rte_mbuf*, Burst::kSize> buffers_;  // of the burst's packets; null: not in a buffer
  std::vector<Outbox> outboxes_;                 // by interface
  uint64_t next_sweep_tsc_;
  uint32_t idle_rounds_ = 0;
  Counter rounds_;
};

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_IO_WORKER_H_
