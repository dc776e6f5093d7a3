#include "dataplane/packet/pipeline.h"

#include <utility>

#include "dataplane/packet/stages.h"

namespace guideway {

Pipeline::Pipeline(SharedState& shared, size_t worker)
    : shared_(shared),
      flows_(shared.flows(worker)),
      counters_(shared.counters(worker)),
      worker_(static_cast<uint16_t>(worker)),
      chooser_(worker),
      rewrite_(worker, shared.workers()) {}

void Pipeline::Process(const Snapshot& snapshot, Nanoseconds now, Burst& burst) {
  Parse(snapshot, burst);
  HandOver(snapshot, worker_, shared_.workers(), burst);
  Match(snapshot, flows_, burst);
  Choose(snapshot, now, shared_, flows_, chooser_, counters_, burst);
  Follow(snapshot, now, fragments_, burst);
  Rewrite(snapshot, now, shared_.path_mtus(), rewrite_, burst);
}

namespace {

// Adds up what one service gets, for as long as packets of it follow each other.
class ServiceTotals {
 public:
  explicit ServiceTotals(WorkerCounters& counters) : counters_(counters) {}
  ~ServiceTotals() { Flush(); }

  void Add(ServiceId service, uint64_t bytes, Verdict verdict) {
    if (service != service_) {
      Flush();
      service_ = service;
    }
    bytes_ += bytes;
    if (verdict == Verdict::kForward) {
      ++forwarded_;
    } else {
      ++others_;
      dropped_ += verdict == Verdict::kDrop;
    }
  }

 private:
  void Flush() {
    const uint64_t packets = forwarded_ + std::exchange(others_, 0);
    if (packets == 0) return;
    WorkerCounters::PerService& s = counters_.service(service_);
    s.packets.Add(packets);
    s.bytes.Add(std::exchange(bytes_, 0));
    s.forwarded.Add(std::exchange(forwarded_, 0));
    s.dropped.Add(std::exchange(dropped_, 0));
  }

  WorkerCounters& counters_;
  ServiceId service_ = 0;
  uint64_t bytes_ = 0, forwarded_ = 0, others_ = 0, dropped_ = 0;
};

bool IsSentToBackend(const Packet& p) {
  return p.verdict == Verdict::kForward && p.direction == Direction::kToBackend;
}

}  // namespace

void Pipeline::Account(const Burst& burst) {
  PacketCounts counts;
  ServiceTotals services(counters_);
  uint64_t forwarded = 0;
  for (const Packet& p : burst.all()) {
    if (p.verdict == Verdict::kForward) {
      ++forwarded;
    } else {
      if (!p.IsDecided()) continue;
      ++counts.verdicts[static_cast<size_t>(p.verdict)];
      if (p.verdict == Verdict::kDrop) ++counts.reasons[static_cast<size_t>(p.reason)];
    }
    if (p.service != nullptr) {
      services.Add(p.service_id, p.parsed.ip_offset + p.parsed.ip_length, p.verdict);
    }
    if (p.target != nullptr) {
      WorkerCounters::PerBackend& b = counters_.backend(p.target->id);
      if (p.opened) b.new_flows.Add(1);
      if (IsSentToBackend(p)) {
        b.packets.Add(1);
        b.bytes.Add(p.frame.length);
      }
    }
  }
  for (const ExtraFrame& extra : burst.extras) {
    const Packet& p = burst.packets[extra.packet];
    if (IsSentToBackend(p)) counters_.backend(p.target->id).bytes.Add(extra.length);
  }
  counts.verdicts[static_cast<size_t>(Verdict::kForward)] = forwarded;
  for (size_t v = 0; v < kVerdicts; ++v) {
    counts.received += counts.verdicts[v];
    counters_.verdict(Verdict(v)).Add(counts.verdicts[v]);
  }
  counters_.received().Add(counts.received);
  if (counts.of(Verdict::kDrop) == 0) return;
  for (size_t r = 0; r < kReasons; ++r) counters_.reason(Reason(r)).Add(counts.reasons[r]);
}

void Pipeline::Sweep(const Snapshot& snapshot, Nanoseconds now, size_t lines) {
  const FlowClock clock(TicksOf(now), snapshot.timeouts());
  const auto keep = [&](const Flow& flow) {
    return !flow.IsTimedOut(clock) && snapshot.HasBackend(flow.backend);
  };
  const auto freed = [&](const Flow& flow) {
    counters_.backend(flow.backend).active_flows.Sub(1);
    if (flow.state == FlowState::kTcpClosing) counters_.closing_flows(flow.backend).Sub(1);
    counters_.flows().Sub(1);
  };
  for (size_t n = 0; n < lines; ++n) {
    if (sweep_line_ == 0) {
      sweep_version_ = snapshot.version();
      fragments_.Sweep(snapshot);
      shared_.path_mtus().Forget(now);
    }
    flows_.SweepLine(sweep_line_, keep, freed);
    if (++sweep_line_ == flows_.lines()) {
      sweep_line_ = 0;
      swept_version_.store(sweep_version_, std::memory_order_release);
    }
  }
}

}  // namespace guideway
