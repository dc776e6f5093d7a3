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
  burst.snapshot = &snapshot;
  if (snapshot.match_digest() != match_digest_) {
    match_digest_ = snapshot.match_digest();
    matched_since_ = TicksOf(now);
  }
  Parse(snapshot, flows_, burst);
  HandOver(snapshot, worker_, shared_.workers(), burst);
  Recall(snapshot, flows_, counters_, burst);
  Match(snapshot, burst);
  Choose(snapshot, now, matched_since_, shared_, flows_, chooser_, counters_, burst);
  Follow(snapshot, now, fragments_, counters_, burst);
  Rewrite(snapshot, now, shared_.path_mtus(), rewrite_, burst);
}

namespace {

bool IsSentToBackend(const Packet& p) {
  return p.verdict == Verdict::kForward && p.direction == Direction::kToBackend;
}

}  // namespace

void Pipeline::Account(const Burst& burst) {
  PacketCounts counts;
  uint64_t sent_to_backends = 0;
  for (const Packet& p : burst.all()) {
    if (p.opened) counters_.flows_of_backend(p.backend).opened.Add(1);
    const uint64_t received_bytes = p.parsed.ip_offset + p.parsed.ip_length;
    if (IsSentToBackend(p)) [[likely]] {
      ++sent_to_backends;
      p.per_backend->packets.Add(1);
      p.per_backend->bytes.Add(p.frame.length);
      p.per_backend->received_bytes.Add(received_bytes);
      continue;
    }
    if (!p.IsDecided()) continue;
    ++counts.verdicts[static_cast<size_t>(p.verdict)];
    if (p.verdict == Verdict::kDrop) ++counts.reasons[static_cast<size_t>(p.reason)];
    const Service* service = burst.ServiceOf(p);
    if (service == nullptr) continue;
    WorkerCounters::PerService& s = counters_.service(service->id);
    s.packets.Add(1);
    s.bytes.Add(received_bytes);
    if (p.verdict == Verdict::kForward) s.forwarded.Add(1);
    if (p.verdict == Verdict::kDrop) s.dropped.Add(1);
  }
  for (const ExtraFrame& extra : burst.extras) {
    const Packet& p = burst.packets[extra.packet];
    if (IsSentToBackend(p)) p.per_backend->bytes.Add(extra.length);
  }
  counts.verdicts[static_cast<size_t>(Verdict::kForward)] += sent_to_backends;
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
    if (flow.state == FlowState::kTcpClosing)
      counters_.flows_of_backend(flow.backend).closing.Sub(1);
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
