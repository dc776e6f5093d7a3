#include "dataplane/packet/pipeline.h"

#include "dataplane/packet/stages.h"

namespace guideway {

Pipeline::Pipeline(size_t flow_entries, PageSize page_size, std::vector<WorkerCounters*> counters,
                   size_t worker)
    : flows_(flow_entries, page_size),
      chooser_(worker),
      counters_(*counters[worker]),
      all_workers_(counters.begin(), counters.end()) {}

void Pipeline::Process(const Snapshot& snapshot, Ticks now, Burst& burst) {
  burst.Begin();
  counters_.received().Add(burst.size);
  Parse(burst);
  Match(snapshot, flows_, burst);
  Choose(snapshot, now, flows_, chooser_, counters_, all_workers_, burst);
  Encapsulate(identification_, burst);
}

void Pipeline::Account(const Burst& burst) {
  PacketCounts counts;
  for (uint32_t i = 0; i < burst.size; ++i) {
    const Verdict verdict = burst.verdicts[i];
    const uint32_t length = burst.frames[i].length;
    ++counts.verdicts[static_cast<size_t>(verdict)];
    if (verdict == Verdict::kDrop) ++counts.reasons[static_cast<size_t>(burst.reasons[i])];

    if (const Service* service = burst.services[i]) {
      WorkerCounters::PerService& s = counters_.service(service->id);
      s.packets.Add(1);
      s.bytes.Add(burst.packets[i].ip_offset + burst.packets[i].ip_length);
      (verdict == Verdict::kForward ? s.forwarded : s.dropped).Add(1);
    }
    if (const Backend* backend = burst.backends[i]) {
      WorkerCounters::PerBackend& b = counters_.backend(backend->id);
      if (burst.opened[i]) b.new_flows.Add(1);
      if (verdict == Verdict::kForward) {
        b.packets.Add(1);
        b.bytes.Add(length);
      }
    }
  }
  for (size_t v = 0; v < kVerdicts; ++v) counters_.verdict(Verdict(v)).Add(counts.verdicts[v]);
  for (size_t r = 0; r < kReasons; ++r) counters_.reason(Reason(r)).Add(counts.reasons[r]);
}

void Pipeline::Sweep(const Snapshot& snapshot, Ticks now, size_t lines) {
  const FlowClock clock(now, snapshot.timeouts());
  const auto keep = [&](const Flow& flow) {
    return !flow.IsTimedOut(clock) && snapshot.FindBackend(flow.backend) != nullptr;
  };
  const auto freed = [&](const Flow& flow) {
    counters_.backend(flow.backend).active_flows.Sub(1);
    counters_.flows().Sub(1);
  };
  for (size_t n = 0; n < lines; ++n) {
    if (sweep_line_ == 0) sweep_version_ = snapshot.version();
    flows_.SweepLine(sweep_line_, keep, freed);
    if (++sweep_line_ == flows_.lines()) {
      sweep_line_ = 0;
      swept_version_.store(sweep_version_, std::memory_order_release);
    }
  }
}

}  // namespace guideway
