#include "control/metered_prober.h"

#include <prometheus/histogram.h>

#include <utility>
#include <variant>

#include "absl/time/time.h"

namespace guideway {
namespace {

// Upper bounds of the buckets, in seconds.
const std::vector<double>& DurationBuckets() {
  static const std::vector<double> buckets = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                              0.1,    0.25,  0.5,    1,     2.5,  5,     10};
  return buckets;
}

}  // namespace

absl::string_view ProbeKindName(const ProbeQuestion& question) {
  struct Name {
    absl::string_view operator()(const ProbeQuestion::Tcp&) const { return "tcp"; }
    absl::string_view operator()(const ProbeQuestion::Http& http) const {
      return http.security == ProbeQuestion::Http::Security::kNone ? "http" : "https";
    }
    absl::string_view operator()(const ProbeQuestion::Dns&) const { return "dns"; }
    absl::string_view operator()(const ProbeQuestion::Icmp&) const { return "icmp"; }
    absl::string_view operator()(const ProbeQuestion::Udp&) const { return "udp"; }
  };
  return std::visit(Name(), question.what);
}

struct MeteredProber::Meter {
  std::array<uint64_t, kProbeOutcomes.size()> outcomes = {};
  std::unique_ptr<prometheus::Histogram> duration =
      std::make_unique<prometheus::Histogram>(DurationBuckets());
};

MeteredProber::MeteredProber(Prober* prober, EventLoop* loop)
    : prober_(prober),
      loop_(loop),
      meters_(std::make_shared<std::map<absl::string_view, Meter>>()) {}

MeteredProber::~MeteredProber() = default;

void MeteredProber::Ask(const ProbeQuestion& question, absl::Duration timeout, Done done) {
  // What is answered when the MeteredProber is gone, and perhaps the loop, is not measured.
  prober_->Ask(question, timeout,
               [weak = std::weak_ptr(meters_), loop = loop_, begun = loop_->Now(),
                kind = ProbeKindName(question), done = std::move(done)](ProbeAnswer answer) {
                 if (const auto meters = weak.lock()) {
                   Meter& meter = (*meters)[kind];
                   ++meter.outcomes[static_cast<size_t>(answer.kind)];
                   if (answer.kind != ProbeAnswer::Kind::kNotAsked) {
                     meter.duration->Observe(absl::ToDoubleSeconds(loop->Now() - begun));
                   }
                 }
                 done(std::move(answer));
               });
}

std::vector<ProbeCounts> MeteredProber::Counts() const {
  std::vector<ProbeCounts> all;
  for (const auto& [kind, meter] : *meters_) {
    all.push_back({kind, meter.outcomes, meter.duration->Collect()});
  }
  return all;
}

}  // namespace guideway
