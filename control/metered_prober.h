// Counts probes and times them, in front of the Prober that asks.
//
// By kind of question, not by service or backend: a question that several services ask is asked
// once, and ten thousand histograms would help nobody.
//
// Thread contract: as of Prober.
#ifndef GUIDEWAY_CONTROL_METERED_PROBER_H_
#define GUIDEWAY_CONTROL_METERED_PROBER_H_

#include <prometheus/client_metric.h>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/strings/string_view.h"
#include "control/event_loop.h"
#include "control/prober.h"

namespace guideway {

// Outcomes of probes, indexed by ProbeAnswer::Kind, as metrics name them.
inline constexpr std::array<absl::string_view, 3> kProbeOutcomes = {"ok", "failed", "not_asked"};

// What a question's kind is called, as in the configuration: «tcp», «http», «https», …
absl::string_view ProbeKindName(const ProbeQuestion& question);

// Of one kind, since the start.
struct ProbeCounts {
  absl::string_view kind;
  std::array<uint64_t, kProbeOutcomes.size()> outcomes = {};
  prometheus::ClientMetric duration;  // a histogram, in seconds, of probes that were asked
};

class MeteredProber final : public Prober {
 public:
  // Both must outlive it; answers that come when it is gone are passed on unmeasured.
  MeteredProber(Prober* prober, EventLoop* loop);
  ~MeteredProber() override;

  void Ask(const ProbeQuestion& question, absl::Duration timeout, Done done) override;

  // Of every kind that was asked.
  std::vector<ProbeCounts> Counts() const;

 private:
  struct Meter;

  Prober* const prober_;
  EventLoop* const loop_;
  const std::shared_ptr<std::map<absl::string_view, Meter>>
      meters_;  // by kind; answers may outlive us
};

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_METERED_PROBER_H_
