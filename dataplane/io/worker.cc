#include "dataplane/io/worker.h"

#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_pause.h>
#include <rte_ring.h>
#include <sys/prctl.h>
#include <time.h>

#include <algorithm>
#include <cstring>

namespace guideway {
namespace {

constexpr uint32_t kSweepSlicesPerSecond = 1000;
constexpr uint32_t kSweepSeconds = 2;

// Rounds without packets before the first sleep, and how long it and the longest are.
constexpr uint32_t kRoundsBeforeSleep = 64;
constexpr uint32_t kFirstSleep_us = 20;
constexpr uint32_t kLongestSleep_us = 250;

static_assert(RTE_PKTMBUF_HEADROOM >= Frame::kHeadroom);

void Sleep(uint32_t microseconds) {
  const timespec time = {0, static_cast<long>(microseconds) * 1000};
  nanosleep(&time, nullptr);  // a signal may end it early: so much the better
}

}  // namespace

Worker::Worker(const Plan& plan, uint16_t index, const std::vector<uint16_t>& ports,
               rte_mempool* pool, SharedState& shared, const std::vector<rte_ring*>& rings,
               uint64_t start_tsc, Publisher& publisher, const std::atomic<bool>& stop)
    : core_(plan.workers[index].core),
      tx_queue_(index),
      backoff_(plan.idle == Idle::kBackoff),
      start_tsc_(start_tsc),
      ns_per_tsc_(static_cast<double>(kSecond) / static_cast<double>(rte_get_tsc_hz())),
      tsc_per_sweep_(rte_get_tsc_hz() / kSweepSlicesPerSecond),
      stop_(stop),
      publication_(publisher.reader(index)),
      pool_(pool),
      rings_(rings),
      index_(index),
      counters_(shared.counters(index)),
      pipeline_(shared, index),
      next_sweep_tsc_(start_tsc) {
  for (const WorkerPlan::RxQueue& rx : plan.workers[index].rx) {
    rx_.push_back({ports[rx.interface], rx.queue, rx.interface});
  }
  for (uint16_t port : ports) outboxes_.emplace_back().port = port;
}

Nanoseconds Worker::Now() const { return Now(rte_rdtsc()); }

void Worker::Run() {
  prctl(PR_SET_TIMERSLACK, 1);  // in ns: a sleep takes what it says
  AwaitFirstSnapshot();
  publication_.Online();
  Nanoseconds before = Now(rte_rdtsc());
  uint32_t received = 0;
  while (!stop_.load(std::memory_order_relaxed)) {
    const uint64_t tsc = rte_rdtsc();
    const Nanoseconds now = Now(tsc);
    // The round that has just ended.
    (received > 0 ? counters_.busy_time() : counters_.idle_time()).Add(now - before);
    before = now;
    received = 0;
    for (const RxQueue& queue : rx_) received += ServeQueue(queue, now);
    received += ServeRing(now);
    ServeHeld(now);
    SweepIfDue(tsc, now);
    publication_.Quiescent();
    rounds_.Add(1);
    Rest(received == 0);
  }
  publication_.Offline();
}

[[gnu::always_inline]] inline void Worker::ShowFrame(uint32_t i, uint16_t interface) {
  rte_mbuf* buffer = buffers_[i];
  const bool whole = (buffer->nb_segs == 1 || rte_pktmbuf_linearize(buffer) == 0) &&
                     buffer->data_off >= Frame::kHeadroom;
  burst_.packets[i].frame = {.data = rte_pktmbuf_mtod(buffer, uint8_t*),
                             .length = whole ? buffer->data_len : 0u,
                             .interface = interface,
                             .ip_checksum_good = (buffer->ol_flags & RTE_MBUF_F_RX_IP_CKSUM_MASK) ==
                                                 RTE_MBUF_F_RX_IP_CKSUM_GOOD};
}

uint32_t Worker::ServeQueue(const RxQueue& queue, Nanoseconds now) {
  const uint16_t count = rte_eth_rx_burst(queue.port, queue.queue, buffers_.data(), Burst::kSize);
  if (count == 0) return 0;
  burst_.size = count;
  for (uint32_t i = 0; i < count; ++i) ShowFrame(i, queue.interface);
  ServeBurst(now);
  return count;
}

uint32_t Worker::ServeRing(Nanoseconds now) {
  const unsigned count = rte_ring_sc_dequeue_burst(
      rings_[index_], reinterpret_cast<void**>(buffers_.data()), Burst::kSize, nullptr);
  if (count == 0) return 0;
  burst_.size = count;
  for (uint32_t i = 0; i < count; ++i) {
    ShowFrame(i, buffers_[i]->port);
    burst_.packets[i].frame.was_handed_over = true;
  }
  ServeBurst(now);
  return count;
}

void Worker::ServeHeld(Nanoseconds now) {
  while (pipeline_.TakeHeld(now, false, burst_)) {
    buffers_.fill(nullptr);
    ServeBurst(now);
  }
}

void Worker::ServeBurst(Nanoseconds now) {
  pipeline_.Process(*publication_.Load(), now, burst_);
  SendFrames();
  pipeline_.Account(burst_);
}

// A packet is lost if one of its frames is: the other end has no use for the rest.
[[gnu::always_inline]] inline void Worker::Push(uint16_t interface, uint8_t packet,
                                                rte_mbuf* buffer) {
  if (buffer == nullptr) {
    burst_.packets[packet].Drop(Reason::kTransmitFull);
    return;
  }
  Outbox& out = outboxes_[interface];
  if (out.size == out.buffers.size()) Flush(out);
  out.packets[out.size] = packet;
  out.buffers[out.size++] = buffer;
}

void Worker::SendFrames() {
  std::array<rte_mbuf*, Burst::kSize> done;  // buffers that go nowhere
  uint32_t done_count = 0;
  auto extra = burst_.extras.begin();
  for (uint8_t i = 0; i < burst_.size; ++i) {
    rte_mbuf* buffer = buffers_[i];
    Packet& p = burst_.packets[i];
    const Frame& frame = p.frame;
    if (!p.IsSent()) {
      if (p.owner != Packet::kNobody) {
        buffer->port = frame.interface;  // on the ring it means ours
        if (rte_ring_mp_enqueue(rings_[p.owner], buffer) == 0) continue;
        p.Drop(Reason::kTransmitFull);
      }
      if (buffer != nullptr) done[done_count++] = buffer;
      continue;
    }
    if (buffer == nullptr) {
      buffer = Copy(frame.data, frame.length);
    } else {
      buffer->data_off =
          static_cast<uint16_t>(frame.data - static_cast<uint8_t*>(buffer->buf_addr));
      buffer->data_len = static_cast<uint16_t>(frame.length);
      buffer->pkt_len = frame.length;
    }
    Push(frame.interface, i, buffer);
    for (; extra != burst_.extras.end() && extra->packet == i; ++extra) {
      Push(frame.interface, i, Copy(extra->data, extra->length));
    }
  }
  for (Outbox& out : outboxes_) Flush(out);
  rte_pktmbuf_free_bulk(done.data(), done_count);
}

void Worker::Flush(Outbox& out) {
  if (out.size == 0) return;
  const uint16_t sent = rte_eth_tx_burst(out.port, tx_queue_, out.buffers.data(), out.size);
  for (uint16_t n = sent; n < out.size; ++n) {
    burst_.packets[out.packets[n]].Drop(Reason::kTransmitFull);
    rte_pktmbuf_free(out.buffers[n]);
  }
  out.size = 0;
}

// Null if there is no buffer, or none so large.
rte_mbuf* Worker::Copy(const uint8_t* data, uint32_t length) const {
  rte_mbuf* buffer = rte_pktmbuf_alloc(pool_);
  if (buffer == nullptr) return nullptr;
  if (length > rte_pktmbuf_tailroom(buffer)) {
    rte_pktmbuf_free(buffer);
    return nullptr;
  }
  std::memcpy(rte_pktmbuf_mtod(buffer, uint8_t*), data, length);
  buffer->data_len = static_cast<uint16_t>(length);
  buffer->pkt_len = length;
  return buffer;
}

void Worker::SweepIfDue(uint64_t tsc, Nanoseconds now) {
  if (tsc < next_sweep_tsc_) return;
  // As many slices as are due, but never so many that packets would have to wait long.
  const uint64_t slices = std::min<uint64_t>(1 + (tsc - next_sweep_tsc_) / tsc_per_sweep_, 4);
  next_sweep_tsc_ = tsc + tsc_per_sweep_;
  const size_t lines = pipeline_.flows().lines();
  pipeline_.Sweep(*publication_.Load(), now,
                  slices * (lines / (kSweepSlicesPerSecond * kSweepSeconds) + 1));
}

void Worker::Rest(bool idle) {
  if (!idle) {
    idle_rounds_ = 0;
    return;
  }
  if (!backoff_ || ++idle_rounds_ < kRoundsBeforeSleep) {
    rte_pause();
    return;
  }
  const uint32_t doublings = std::min(idle_rounds_ - kRoundsBeforeSleep, 4u);
  publication_.Offline();
  Sleep(std::min(kFirstSleep_us << doublings, kLongestSleep_us));
  publication_.Online();
}

void Worker::AwaitFirstSnapshot() {
  publication_.Online();
  while (publication_.Load() == nullptr && !stop_.load(std::memory_order_relaxed)) {
    publication_.Quiescent();
    Sleep(1000);
  }
  publication_.Offline();
}

}  // namespace guideway
