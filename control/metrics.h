// What Prometheus scrapes: one list of metrics, plain copies of what they tell, and the text.
//
// Names and units are Prometheus' (https://prometheus.io/docs/practices/naming/): base units,
// counters end in _total. Labels by verdict and reason have the names of dataplane/counters.h.
//
// A scrape has two steps. Controller::GetMetrics copies what changes, on the control thread, a few
// milliseconds for ten thousand backends. MetricsText makes the text of that, on any thread: names,
// tables and states it takes from the Snapshot and Revision that the copy holds, which never
// change.
#ifndef GUIDEWAY_CONTROL_METRICS_H_
#define GUIDEWAY_CONTROL_METRICS_H_

#include <prometheus/client_metric.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "control/metered_prober.h"
#include "control/revision.h"
#include "dataplane/dataplane.h"
#include "maglev/snapshot.h"

namespace guideway {

// Enumerator, name, type, labels, help. docs/operations.md has the same as a table; a test holds it
// to that.
// clang-format off
#define GUIDEWAY_METRICS(X) \
  X(kBuildInfo, "guideway_build_info", kGauge, "version", \
    "1; the label is what matters") \
  X(kStartTime, "guideway_start_time_seconds", kGauge, "", \
    "when the daemon started, Unix time") \
  X(kConfigRevision, "guideway_config_revision", kGauge, "", \
    "number of the last revision: configurations and overrides, over all starts") \
  X(kConfigOk, "guideway_config_last_change_successful", kGauge, "", \
    "1; 0 while the last reload or apply is one that was refused") \
  X(kHistoryKept, "guideway_history_kept", kGauge, "", \
    "1; 0 while the last revision could not be kept on disk, or the disk does not answer, so that " \
    "a restart would not find it") \
  X(kSnapshotVersion, "guideway_snapshot_version", kGauge, "", \
    "changes of any kind put in force since the start: configuration, health, drain") \
  X(kTableBuilds, "guideway_table_builds_total", kCounter, "", \
    "lookup tables built anew; a backend that only fails or returns builds none") \
  X(kCompileDuration, "guideway_compile_duration_seconds", kHistogram, "", \
    "how long it took to compile what was then put in force, or refused") \
  X(kPackets, "guideway_packets_total", kCounter, "worker, verdict", \
    "packets received, by what became of them; a worker is named by its core") \
  X(kDrops, "guideway_dropped_packets_total", kCounter, "worker, reason", \
    "packets dropped, by reason") \
  X(kFlows, "guideway_flow_table_entries", kGauge, "worker", \
    "connections in the worker's flow table") \
  X(kFlowCapacity, "guideway_flow_table_capacity", kGauge, "worker", \
    "connections that it has room for") \
  X(kFlowsNotStored, "guideway_flow_table_not_stored_total", kCounter, "worker", \
    "connections opened while it had no place for them") \
  X(kFlowsEvicted, "guideway_flow_table_evictions_total", kCounter, "worker", \
    "connections that were pushed out of it before they were confirmed: by a flood, most likely") \
  X(kBusy, "guideway_worker_busy_seconds_total", kCounter, "worker", \
    "time of rounds of the worker's loop that had packets") \
  X(kIdle, "guideway_worker_idle_seconds_total", kCounter, "worker", \
    "time of rounds that had none, sleep included") \
  X(kReceived, "guideway_interface_received_packets_total", kCounter, "interface", \
    "packets received, as the device counts them") \
  X(kTransmitted, "guideway_interface_transmitted_packets_total", kCounter, "interface", \
    "packets sent, as the device counts them") \
  X(kMissed, "guideway_interface_missed_packets_total", kCounter, "interface", \
    "packets that arrived at the device and were lost before a worker read them") \
  X(kLinkUp, "guideway_interface_link_up", kGauge, "interface", \
    "1 while the link is up") \
  X(kServicePackets, "guideway_service_packets_total", kCounter, "service", \
    "packets to the service, whatever became of them") \
  X(kServiceBytes, "guideway_service_bytes_total", kCounter, "service", \
    "bytes of these, of layer 2, as received") \
  X(kServiceForwarded, "guideway_service_forwarded_packets_total", kCounter, "service", \
    "of these, packets sent to a backend") \
  X(kServiceDropped, "guideway_service_dropped_packets_total", kCounter, "service", \
    "of these, packets dropped") \
  X(kServiceNew, "guideway_service_new_connections_total", kCounter, "service", \
    "connections opened") \
  X(kServiceActive, "guideway_service_active_connections", kGauge, "service", \
    "connections in the flow tables, those that are closing included") \
  X(kServiceBackends, "guideway_service_backends", kGauge, "service", \
    "backends configured") \
  X(kServiceBackendsUp, "guideway_service_backends_up", kGauge, "service", \
    "of these, the ones that take new connections") \
  X(kServiceHealthIgnored, "guideway_service_health_ignored", kGauge, "service", \
    "1 while less than min_healthy of it is healthy, and all take new connections") \
  X(kTableDigest, "guideway_service_table_digest", kGauge, "service, table", \
    "a number of the table's content: as configured (table=configured) and with those that are up " \
    "(table=effective); equal on all balancers that agree") \
  X(kBackendPackets, "guideway_backend_packets_total", kCounter, "service, backend", \
    "packets sent to the backend") \
  X(kBackendBytes, "guideway_backend_bytes_total", kCounter, "service, backend", \
    "bytes of these, of layer 2, as sent") \
  X(kBackendNew, "guideway_backend_new_connections_total", kCounter, "service, backend", \
    "connections opened") \
  X(kBackendActive, "guideway_backend_active_connections", kGauge, "service, backend", \
    "connections in the flow tables, those that are closing included") \
  X(kBackendUp, "guideway_backend_up", kGauge, "service, backend", \
    "1 while it takes new connections") \
  X(kBackendWeight, "guideway_backend_weight", kGauge, "service, backend", \
    "in force: the configuration's, or one set by hand") \
  X(kBackendShare, "guideway_backend_share_ratio", kGauge, "service, backend", \
    "of new connections, 0 to 1; with regions, of those of its region") \
  X(kBackendState, "guideway_backend_state", kGauge, "service, backend, state", \
    "1 for the state it is in: up, down, drain (down or not), checking or held; the others are not " \
    "there") \
  X(kProbes, "guideway_probes_total", kCounter, "kind, outcome", \
    "probes answered, by kind (tcp, http, …) and outcome: ok, failed, or not_asked for want of " \
    "something of the balancer's own") \
  X(kProbeDuration, "guideway_probe_duration_seconds", kHistogram, "kind", \
    "how long probes took, of those that were asked") \
  X(kProbeLateness, "guideway_probe_lateness_seconds", kHistogram, "", \
    "how long after their time probes were started")
// clang-format on

enum class MetricType : uint8_t { kCounter, kGauge, kHistogram };

#define GUIDEWAY_ENUMERATOR(id, name, type, labels, help) id,
enum class Metric : uint8_t { GUIDEWAY_METRICS(GUIDEWAY_ENUMERATOR) };
#undef GUIDEWAY_ENUMERATOR

// Indexed by Metric.
struct MetricInfo {
  absl::string_view name;
  MetricType type;
  absl::string_view labels;  // separated by «, »
  absl::string_view help;
};
#define GUIDEWAY_INFO(id, name, type, labels, help) \
  MetricInfo{name, MetricType::type, labels, help},
inline constexpr std::array kMetricInfo = {GUIDEWAY_METRICS(GUIDEWAY_INFO)};
#undef GUIDEWAY_INFO

// Plain copies of one moment.
struct MetricsFacts {
  std::string version;
  absl::Time start;
  uint64_t config_revision = 0;
  bool last_change_successful = true;
  bool history_kept = true;
  std::shared_ptr<const Revision> revision;
  std::shared_ptr<const Snapshot> snapshot;  // of this revision
  std::vector<WorkerStatus> workers;
  std::vector<InterfaceStatus> interfaces;
  // In the order of the configuration; of backends, all of one service after all of the other.
  struct Service {
    ServiceCounts counts;
    uint64_t new_flows = 0;  // those to backends that have left the configuration included
    bool health_ignored = false;
  };
  std::vector<Service> services;
  struct Backend {
    BackendCounts counts;
    absl::string_view state;  // «up», «down», «drain», «checking», «held»
  };
  std::vector<Backend> backends;
  uint64_t tables_built = 0;
  prometheus::ClientMetric compile_duration;
  std::vector<ProbeCounts> probes;
  prometheus::ClientMetric probe_lateness;
};

// In Prometheus' text format, version 0.0.4; every metric of the list is in it.
std::string MetricsText(const MetricsFacts& facts);
inline constexpr absl::string_view kMetricsContentType = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_METRICS_H_
