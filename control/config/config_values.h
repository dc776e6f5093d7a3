// Typed answers from a checked configuration, so that nobody parses its text a second time.
//
// For messages out of a LoadedConfig (config.h) alone: there every text has its format, and an
// accessor that meets anything else fails a CHECK. All are pure, and safe from any thread.
//
// Keys without a default in the schema, because it depends on something else:
//   routing                EffectiveRouting() here
//   health_check.….port    ProbePort() here
//   health_check.….host    the backend's address
//   dataplane.workers      the daemon: the highest core the process may use
//   dataplane.idle         the daemon: poll on NICs, backoff on virtual devices
//   interfaces.mac         the daemon: the device's own
#ifndef GUIDEWAY_CONTROL_CONFIG_CONFIG_VALUES_H_
#define GUIDEWAY_CONTROL_CONFIG_CONFIG_VALUES_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "control/config/config.pb.h"
#include "maglev/net.h"
#include "maglev/snapshot.h"

namespace guideway {

// HTTP statuses first to last, both included.
struct StatusRange {
  uint16_t first = 200;
  uint16_t last = 299;

  bool Contains(unsigned status) const { return status >= first && status <= last; }
  friend bool operator==(const StatusRange&, const StatusRange&) = default;
};

// An address and a port to listen on.
struct Endpoint {
  IpAddress address;
  uint16_t port = 0;

  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

// The texts of the file, parsed. InvalidArgument says what is wrong; these take any text.
absl::StatusOr<PortRange> ParsePortRange(absl::string_view text);      // 443, 8000-8100
absl::StatusOr<StatusRange> ParseStatusRange(absl::string_view text);  // 200, 200-299
absl::StatusOr<double> ParsePercent(absl::string_view text);           // 30% is 0.3
absl::StatusOr<Endpoint> ParseEndpoint(absl::string_view text);        // 127.0.0.1:9909, [::1]:1
absl::StatusOr<absl::Duration> ParseConfigDuration(absl::string_view text);  // 500ms, 15m
std::string FormatConfigDuration(absl::Duration duration);  // not negative, whole ms; its inverse

absl::Duration ToDuration(const google::protobuf::Duration& duration);

// Of the whole file.
config::Routing::Value EffectiveRouting(const config::Config& config);
FlowTimeouts FlowTimeoutsOf(const config::Config& config);
// The index in `interfaces` of the one with this name.
std::optional<size_t> InterfaceIndex(const config::Config& config, absl::string_view name);
// The addresses that outer packets come from: `source_ipv4` and `source_ipv6`, those there are.
std::vector<IpAddress> TunnelSources(const config::Config& config);
// The outer source of what `service` sends to a backend at this address: its one address, or with
// ipip and gre the prefix to spread over, if there is one. None without a tunnel and if the file
// does not say.
Prefix TunnelSource(const config::Config& config, const config::Service& service,
                    const IpAddress& backend);

// Of a service.
Protocol ProtocolOf(const config::Service& service);
Forwarding ForwardingOf(const config::Service& service);
bool IsTunnelled(const config::Service& service);
TunnelSettings TunnelSettingsOf(const config::Service& service);
// Whether a lookup table picks the backend: the schedulers maglev and geographic.
bool UsesTable(const config::Service& service);
// 0 for a scheduler without a table.
uint32_t TableSize(const config::Service& service);
Scheduler SchedulerOf(const config::Service& service);
Affinity AffinityOf(const config::Service& service);
// The index in `regions` of the one with this name.
std::optional<uint16_t> RegionIndex(const config::Service& service, absl::string_view name);
// From an address to that index; null without `scheduler: geographic`.
std::shared_ptr<const PrefixMap> RegionsOf(const config::Service& service);
std::vector<Prefix> VipsOf(const config::Service& service);
// In file order; 0-65535 for protocol any.
std::vector<PortRange> PortRangesOf(const config::Service& service);
double MinHealthyOf(const config::Service& service);  // 0 to 1
// The indices of the backends by region, in the order of the regions, and then by name: the order
// of Service::backends in a Snapshot.
std::vector<int> BackendOrder(const config::Service& service);

// Of a backend.
IpAddress AddressOf(const config::Backend& backend);
// The port its probes go to: the probe's own, else the backend's, else the service's first. Nothing
// for icmp and for a service without a health check.
std::optional<uint16_t> ProbePort(const config::Service& service, const config::Backend& backend);
// Whether connections of a backend find their server where it is after a change: at the same
// address, and, since with `nat` they end at its own address and port, by `nat` on both sides or on
// neither, and at the same port. A `port` that says what is so without it counts as the same.
bool IsSameServer(const config::Service& before, const config::Backend& backend_before,
                  const config::Service& after, const config::Backend& backend_after);

// Of a probe: HttpProbe or HttpsProbe.
template <typename Probe>
StatusRange StatusRangeOf(const Probe& probe) {
  return ParseStatusRange(absl::string_view(probe.status())).value();
}

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_CONFIG_CONFIG_VALUES_H_
