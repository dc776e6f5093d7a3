#include "control/metrics.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "dataplane/counters.h"

namespace guideway {
namespace {

using prometheus::ClientMetric;
using Label = ClientMetric::Label;

constexpr double kNanosecond = 1e-9;

prometheus::MetricType TypeOf(MetricType type) {
  switch (type) {
    case MetricType::kCounter: return prometheus::MetricType::Counter;
    case MetricType::kGauge: return prometheus::MetricType::Gauge;
    case MetricType::kHistogram: return prometheus::MetricType::Histogram;
  }
  return prometheus::MetricType::Untyped;
}

ClientMetric Labelled(std::vector<Label> labels) {
  ClientMetric metric;
  metric.label = std::move(labels);
  return metric;
}

// Writes one family after the other, so that only one of them is in memory besides the text.
class Writer {
 public:
  // `series` are written as they are, and come back.
  void Write(Metric metric, std::vector<ClientMetric>& series) {
    const MetricInfo& info = kMetricInfo[static_cast<size_t>(metric)];
    prometheus::MetricFamily& family = families_.front();
    family.name = std::string(info.name);
    family.help = std::string(info.help);
    family.type = TypeOf(info.type);
    std::swap(family.metric, series);
    serializer_.Serialize(out_, families_);
    std::swap(family.metric, series);
  }

  // The same with values of their own: `value(i)` is that of series[i].
  template <typename Value>
  void Write(Metric metric, std::vector<ClientMetric>& series, const Value& value) {
    for (size_t i = 0; i < series.size(); ++i) {
      // The serializer takes the one that the type says.
      series[i].counter.value = series[i].gauge.value = static_cast<double>(value(i));
    }
    Write(metric, series);
  }

  // One without labels.
  void Write(Metric metric, double value) {
    std::vector<ClientMetric> series(1);
    Write(metric, series, [&](size_t) { return value; });
  }
  void Write(Metric metric, ClientMetric histogram) {
    std::vector<ClientMetric> series = {std::move(histogram)};
    Write(metric, series);
  }

  std::string Text() && { return std::move(out_).str(); }

 private:
  prometheus::TextSerializer serializer_;
  std::ostringstream out_;
  std::vector<prometheus::MetricFamily> families_{1};
};

void WriteDaemon(const MetricsFacts& facts, Writer& out) {
  std::vector<ClientMetric> build = {Labelled({{"version", facts.version}})};
  out.Write(Metric::kBuildInfo, build, [](size_t) { return 1; });
  out.Write(Metric::kStartTime, absl::ToDoubleSeconds(facts.start - absl::UnixEpoch()));
  out.Write(Metric::kConfigRevision, static_cast<double>(facts.config_revision));
  out.Write(Metric::kConfigOk, facts.last_change_successful ? 1.0 : 0.0);
  out.Write(Metric::kHistoryKept, facts.history_kept ? 1.0 : 0.0);
  out.Write(Metric::kSnapshotVersion, static_cast<double>(facts.snapshot->version()));
  out.Write(Metric::kTableBuilds, static_cast<double>(facts.tables_built));
  out.Write(Metric::kCompileDuration, facts.compile_duration);
}

// One series for each worker and entry of `infos`.
template <typename Infos, typename Value>
void WriteByWorker(Metric metric, const MetricsFacts& facts, const char* label, const Infos& infos,
                   const Value& value, Writer& out) {
  std::vector<ClientMetric> series;
  for (const WorkerStatus& worker : facts.workers) {
    for (const CounterInfo& info : infos) {
      series.push_back(
          Labelled({{"worker", absl::StrCat(worker.core)}, {label, std::string(info.name)}}));
    }
  }
  out.Write(metric, series, [&](size_t i) {
    return value(facts.workers[i / infos.size()].packets)[i % infos.size()];
  });
}

void WriteWorkers(const MetricsFacts& facts, Writer& out) {
  WriteByWorker(
      Metric::kPackets, facts, "verdict", kVerdictInfo,
      [](const PacketCounts& c) -> const auto& { return c.verdicts; }, out);
  WriteByWorker(
      Metric::kDrops, facts, "reason", kReasonInfo,
      [](const PacketCounts& c) -> const auto& { return c.reasons; }, out);
  std::vector<ClientMetric> series;
  for (const WorkerStatus& w : facts.workers) {
    series.push_back(Labelled({{"worker", absl::StrCat(w.core)}}));
  }
  const std::vector<WorkerStatus>& workers = facts.workers;
  out.Write(Metric::kFlows, series, [&](size_t i) { return workers[i].flows; });
  out.Write(Metric::kFlowCapacity, series, [&](size_t i) { return workers[i].flow_capacity; });
  out.Write(Metric::kFlowsNotStored, series, [&](size_t i) { return workers[i].flows_not_stored; });
  out.Write(Metric::kFlowsEvicted, series, [&](size_t i) { return workers[i].flows_evicted; });
  const auto seconds = [](uint64_t ns) { return static_cast<double>(ns) * kNanosecond; };
  out.Write(Metric::kBusy, series, [&](size_t i) { return seconds(workers[i].busy_ns); });
  out.Write(Metric::kIdle, series, [&](size_t i) { return seconds(workers[i].idle_ns); });
}

void WriteInterfaces(const MetricsFacts& facts, Writer& out) {
  const std::vector<InterfaceStatus>& interfaces = facts.interfaces;
  std::vector<ClientMetric> series;
  for (const InterfaceStatus& i : interfaces) series.push_back(Labelled({{"interface", i.name}}));
  out.Write(Metric::kReceived, series, [&](size_t i) { return interfaces[i].received_packets; });
  out.Write(Metric::kTransmitted, series, [&](size_t i) { return interfaces[i].sent_packets; });
  out.Write(Metric::kMissed, series, [&](size_t i) { return interfaces[i].missed_packets; });
  out.Write(Metric::kLinkUp, series, [&](size_t i) { return interfaces[i].link_up; });
}

void WriteServices(const MetricsFacts& facts, Writer& out) {
  const auto& services = facts.snapshot->services();
  std::vector<ClientMetric> series, digests;
  std::vector<uint64_t> active;
  auto backend = facts.backends.begin();
  for (const auto& service : services) {
    series.push_back(Labelled({{"service", service->name}}));
    for (const char* table : {"configured", "effective"}) {
      digests.push_back(Labelled({{"service", service->name}, {"table", table}}));
    }
    uint64_t& sum = active.emplace_back(0);
    for (size_t b = 0; b < service->backends.size(); ++b) {
      sum += (backend++)->counts.active_flows;
    }
  }
  const std::vector<MetricsFacts::Service>& of = facts.services;
  out.Write(Metric::kServicePackets, series, [&](size_t i) { return of[i].counts.packets; });
  out.Write(Metric::kServiceBytes, series, [&](size_t i) { return of[i].counts.bytes; });
  out.Write(Metric::kServiceForwarded, series, [&](size_t i) { return of[i].counts.forwarded; });
  out.Write(Metric::kServiceDropped, series, [&](size_t i) { return of[i].counts.dropped; });
  out.Write(Metric::kServiceNew, series, [&](size_t i) { return of[i].new_flows; });
  out.Write(Metric::kServiceActive, series, [&](size_t i) { return active[i]; });
  out.Write(Metric::kServiceBackends, series,
            [&](size_t i) { return services[i]->backends.size(); });
  out.Write(Metric::kServiceBackendsUp, series, [&](size_t i) {
    const std::vector<Backend>& backends = services[i]->backends;
    return std::count_if(backends.begin(), backends.end(), [](const Backend& b) {
      return b.state == BackendState::kUp && b.weight > 0;
    });
  });
  out.Write(Metric::kServiceHealthIgnored, series, [&](size_t i) { return of[i].health_ignored; });
  out.Write(Metric::kTableDigest, digests, [&](size_t i) {
    const Service& service = *services[i / 2];
    return i % 2 == 0 ? service.configured_digest : service.effective_digest;
  });
}

void WriteBackends(const MetricsFacts& facts, Writer& out) {
  struct Place {
    const Service* service;
    const Backend* backend;
  };
  std::vector<Place> places;
  std::vector<ClientMetric> series;
  for (size_t s = 0; s < facts.revision->services.size(); ++s) {
    const Service& service = *facts.snapshot->services()[s];
    for (const Revision::Backend& planned : facts.revision->services[s].backends) {
      const Backend* backend = facts.snapshot->FindBackend(planned.id);
      places.push_back({&service, backend});
      series.push_back(Labelled({{"service", service.name}, {"backend", backend->name}}));
    }
  }
  const std::vector<MetricsFacts::Backend>& of = facts.backends;
  out.Write(Metric::kBackendPackets, series, [&](size_t i) { return of[i].counts.packets; });
  out.Write(Metric::kBackendBytes, series, [&](size_t i) { return of[i].counts.bytes; });
  out.Write(Metric::kBackendNew, series, [&](size_t i) { return of[i].counts.new_flows; });
  out.Write(Metric::kBackendActive, series, [&](size_t i) { return of[i].counts.active_flows; });
  out.Write(Metric::kBackendUp, series,
            [&](size_t i) { return places[i].backend->state == BackendState::kUp; });
  out.Write(Metric::kBackendWeight, series, [&](size_t i) { return places[i].backend->weight; });
  out.Write(Metric::kBackendShare, series, [&](size_t i) {
    const Service& service = *places[i].service;
    return service.connection_shares[places[i].backend - service.backends.data()];
  });
  for (size_t i = 0; i < series.size(); ++i) {
    series[i].label.push_back({"state", std::string(of[i].state)});
  }
  out.Write(Metric::kBackendState, series, [](size_t) { return 1; });
}

void WriteProbes(const MetricsFacts& facts, Writer& out) {
  std::vector<ClientMetric> outcomes, durations;
  for (const ProbeCounts& probe : facts.probes) {
    const std::string kind(probe.kind);
    for (absl::string_view outcome : kProbeOutcomes) {
      outcomes.push_back(Labelled({{"kind", kind}, {"outcome", std::string(outcome)}}));
    }
    durations.push_back(probe.duration);
    durations.back().label = {{"kind", kind}};
  }
  out.Write(Metric::kProbes, outcomes, [&](size_t i) {
    return facts.probes[i / kProbeOutcomes.size()].outcomes[i % kProbeOutcomes.size()];
  });
  out.Write(Metric::kProbeDuration, durations);
  out.Write(Metric::kProbeLateness, facts.probe_lateness);
}

}  // namespace

std::string MetricsText(const MetricsFacts& facts) {
  Writer out;
  WriteDaemon(facts, out);
  WriteWorkers(facts, out);
  WriteInterfaces(facts, out);
  WriteServices(facts, out);
  WriteBackends(facts, out);
  WriteProbes(facts, out);
  return std::move(out).Text();
}

}  // namespace guideway
