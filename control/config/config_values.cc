#include "control/config/config_values.h"

#include <glog/logging.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "control/config/files.h"

namespace guideway {
namespace {

absl::string_view View(const std::string& text) { return absl::string_view(text); }

absl::Status Bad(absl::string_view text, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("\"", absl::CHexEscape(text), "\" is not ", what));
}

// Decimal digits without a sign or a leading zero, at most `max`.
std::optional<uint32_t> Number(absl::string_view text, uint32_t max) {
  const bool digits = !text.empty() && text.size() <= 9 && (text.size() == 1 || text[0] != '0') &&
                      std::all_of(text.begin(), text.end(), [](char c) {
                        return absl::ascii_isdigit(static_cast<unsigned char>(c));
                      });
  uint32_t number;
  if (!digits || !absl::SimpleAtoi(text, &number) || number > max) return std::nullopt;
  return number;
}

// «n» or «first-last», both from `min` to `max` and in order.
std::optional<std::pair<uint16_t, uint16_t>> Range(absl::string_view text, uint32_t min,
                                                   uint32_t max) {
  const size_t dash = text.find('-');
  const absl::string_view second = dash == absl::string_view::npos ? text : text.substr(dash + 1);
  const std::optional<uint32_t> first = Number(text.substr(0, dash), max);
  const std::optional<uint32_t> last = Number(second, max);
  if (!first || !last || *first < min || *first > *last) return std::nullopt;
  return std::pair(static_cast<uint16_t>(*first), static_cast<uint16_t>(*last));
}

// From the longest down.
constexpr std::pair<absl::string_view, int64_t> kUnits[] = {
    {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};

}  // namespace

absl::StatusOr<PortRange> ParsePortRange(absl::string_view text) {
  const auto range = Range(text, 1, 65535);
  if (!range) return Bad(text, "a port or a range of ports");
  return PortRange{range->first, range->second};
}

absl::StatusOr<StatusRange> ParseStatusRange(absl::string_view text) {
  const auto range = Range(text, 100, 599);
  if (!range) return Bad(text, "an HTTP status or a range of them");
  return StatusRange{range->first, range->second};
}

absl::StatusOr<double> ParsePercent(absl::string_view text) {
  constexpr absl::string_view kWhat = "a percentage from 0% to 100%";
  if (!absl::EndsWith(text, "%")) return Bad(text, kWhat);
  const absl::string_view number = text.substr(0, text.size() - 1);
  const size_t point = number.find('.');
  const absl::string_view decimals =
      point == absl::string_view::npos ? "0" : number.substr(point + 1);
  const bool ok = Number(number.substr(0, point), 100) && !decimals.empty() &&
                  decimals.size() <= 3 && std::all_of(decimals.begin(), decimals.end(), [](char c) {
                    return absl::ascii_isdigit(static_cast<unsigned char>(c));
                  });
  double percent;
  if (!ok || !absl::SimpleAtod(number, &percent) || percent > 100) return Bad(text, kWhat);
  return percent / 100;
}

absl::StatusOr<Endpoint> ParseEndpoint(absl::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == absl::string_view::npos) return Bad(text, "ADDRESS:PORT");
  absl::string_view host = text.substr(0, colon);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  const absl::StatusOr<IpAddress> address = IpAddress::Parse(host);
  const std::optional<uint32_t> port = Number(text.substr(colon + 1), 65535);
  if (!address.ok() || !port || *port == 0 || address->is_v6() != bracketed ||
      address->is_multicast()) {
    return Bad(text, "ADDRESS:PORT");
  }
  return Endpoint{*address, static_cast<uint16_t>(*port)};
}

absl::StatusOr<absl::Duration> ParseConfigDuration(absl::string_view text) {
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const std::optional<uint32_t> number = Number(text.substr(0, digits), 999999999);
  for (const auto& [unit, milliseconds] : kUnits) {
    if (number && text.substr(digits) == unit) return absl::Milliseconds(*number * milliseconds);
  }
  return Bad(text, "a duration such as 500ms, 10s, 15m or 1h");
}

std::string FormatConfigDuration(absl::Duration duration) {
  const int64_t milliseconds = absl::ToInt64Milliseconds(duration);
  if (milliseconds == 0) return "0s";
  for (const auto& [unit, size] : kUnits) {
    if (milliseconds % size == 0) return absl::StrCat(milliseconds / size, unit);
  }
  return absl::StrCat(milliseconds, "ms");
}

absl::Duration ToDuration(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

config::Routing::Value EffectiveRouting(const config::Config& config) {
  if (config.has_routing()) return config.routing();
  for (const config::Interface& interface : config.interfaces()) {
    if (interface.has_kernel_interface()) return config::Routing::kernel;
  }
  return config::Routing::static_;
}

FlowTimeouts FlowTimeoutsOf(const config::Config& config) {
  const config::FlowTimeouts& timeouts = config.dataplane().flow_timeouts();
  const auto seconds = [](const google::protobuf::Duration& duration) {
    return static_cast<uint32_t>(duration.seconds());
  };
  return {seconds(timeouts.tcp_handshake()), seconds(timeouts.tcp_established()),
          seconds(timeouts.tcp_closing()), seconds(timeouts.udp())};
}

std::optional<size_t> InterfaceIndex(const config::Config& config, absl::string_view name) {
  for (int i = 0; i < config.interfaces_size(); ++i) {
    if (View(config.interfaces(i).name()) == name) return static_cast<size_t>(i);
  }
  return std::nullopt;
}

std::vector<IpAddress> TunnelSources(const config::Config& config) {
  std::vector<IpAddress> sources;
  for (const std::string* text : {&config.tunnel().source_ipv4(), &config.tunnel().source_ipv6()}) {
    if (!text->empty()) sources.push_back(IpAddress::Parse(View(*text)).value());
  }
  return sources;
}

Prefix TunnelSource(const config::Config& config, const config::Service& service,
                    const IpAddress& backend) {
  if (!IsTunnelled(service)) return Prefix();
  const config::Tunnel& tunnel = config.tunnel();
  const bool v4 = backend.is_v4();
  const Forwarding forwarding = ForwardingOf(service);
  if (forwarding == Forwarding::kIpip || forwarding == Forwarding::kGre) {
    const std::string& spread = v4 ? tunnel.spread_ipv4() : tunnel.spread_ipv6();
    if (!spread.empty()) return Prefix::Parse(View(spread)).value();
  }
  const std::string& source = v4 ? tunnel.source_ipv4() : tunnel.source_ipv6();
  return source.empty() ? Prefix() : Prefix::Parse(View(source)).value();
}

Protocol ProtocolOf(const config::Service& service) {
  switch (service.protocol()) {
    case config::TransportProtocol::tcp: return Protocol::kTcp;
    case config::TransportProtocol::udp: return Protocol::kUdp;
    default: return Protocol::kAny;
  }
}

Forwarding ForwardingOf(const config::Service& service) {
  switch (service.forwarding().kind_case()) {
    case config::Forwarding::kIpip: return Forwarding::kIpip;
    case config::Forwarding::kGre: return Forwarding::kGre;
    case config::Forwarding::kGue: return Forwarding::kGue;
    case config::Forwarding::kVxlan: return Forwarding::kVxlan;
    case config::Forwarding::kDirect: return Forwarding::kDirect;
    case config::Forwarding::kNat: return Forwarding::kNat;
    case config::Forwarding::KIND_NOT_SET: break;
  }
  LOG(FATAL) << "service " << service.name() << " was not loaded: it has no forwarding";
  return Forwarding::kIpip;
}

bool IsTunnelled(const config::Service& service) { return IsTunnel(ForwardingOf(service)); }

TunnelSettings TunnelSettingsOf(const config::Service& service) {
  const config::Forwarding& forwarding = service.forwarding();
  if (forwarding.has_gue()) return {.port = static_cast<uint16_t>(forwarding.gue().port())};
  if (!forwarding.has_vxlan()) return {};
  const config::VxlanSettings& vxlan = forwarding.vxlan();
  return {.port = static_cast<uint16_t>(vxlan.port()),
          .vni = vxlan.vni(),
          .inner_mac = MacAddress::Parse(View(vxlan.inner_mac())).value()};
}

bool UsesTable(const config::Service& service) {
  return service.scheduler() == config::Scheduler::maglev ||
         service.scheduler() == config::Scheduler::geographic;
}

uint32_t TableSize(const config::Service& service) {
  return UsesTable(service) ? service.table_size() : 0;
}

Scheduler SchedulerOf(const config::Service& service) {
  switch (service.scheduler()) {
    case config::Scheduler::round_robin: return Scheduler::kRoundRobin;
    case config::Scheduler::least_connections: return Scheduler::kLeastConnections;
    case config::Scheduler::random: return Scheduler::kRandom;
    case config::Scheduler::geographic: return Scheduler::kGeographic;
    default: return Scheduler::kMaglev;
  }
}

Affinity AffinityOf(const config::Service& service) {
  switch (service.affinity()) {
    case config::Affinity::client: return {.to_client = true};
    case config::Affinity::client_prefix:
      return {.to_client = true,
              .ipv4_bits = static_cast<uint8_t>(service.client_prefix().ipv4()),
              .ipv6_bits = static_cast<uint8_t>(service.client_prefix().ipv6())};
    default: return {};
  }
}

std::optional<uint16_t> RegionIndex(const config::Service& service, absl::string_view name) {
  for (int i = 0; i < service.regions_size(); ++i) {
    if (View(service.regions(i).name()) == name) return static_cast<uint16_t>(i);
  }
  return std::nullopt;
}

std::shared_ptr<const PrefixMap> RegionsOf(const config::Service& service) {
  if (SchedulerOf(service) != Scheduler::kGeographic) return nullptr;
  std::vector<std::pair<Prefix, uint32_t>> prefixes;
  for (int i = 0; i < service.regions_size(); ++i) {
    for (const std::string& prefix : service.regions(i).prefixes()) {
      prefixes.emplace_back(Prefix::Parse(View(prefix)).value(), static_cast<uint32_t>(i));
    }
  }
  absl::StatusOr<PrefixMap> map = PrefixMap::Build(prefixes);
  CHECK(map.ok()) << map.status();  // validation refuses a prefix that comes twice
  return std::make_shared<const PrefixMap>(*std::move(map));
}

std::vector<Prefix> VipsOf(const config::Service& service) {
  std::vector<Prefix> vips;
  for (const std::string& vip : service.vips()) vips.push_back(Prefix::Parse(View(vip)).value());
  return vips;
}

std::vector<PortRange> PortRangesOf(const config::Service& service) {
  if (service.protocol() == config::TransportProtocol::any) return {{0, 65535}};
  std::vector<PortRange> ranges;
  for (const std::string& text : service.ports()) {
    ranges.push_back(ParsePortRange(View(text)).value());
  }
  return ranges;
}

double MinHealthyOf(const config::Service& service) {
  return service.min_healthy().empty() ? 0 : ParsePercent(View(service.min_healthy())).value();
}

std::vector<int> BackendOrder(const config::Service& service) {
  std::vector<std::tuple<uint16_t, absl::string_view, int>> keys;
  for (int i = 0; i < service.backends_size(); ++i) {
    const config::Backend& backend = service.backends(i);
    keys.emplace_back(RegionIndex(service, View(backend.region())).value_or(0),
                      View(backend.name()), i);
  }
  std::sort(keys.begin(), keys.end());
  std::vector<int> order;
  for (const auto& key : keys) order.push_back(std::get<int>(key));
  return order;
}

IpAddress AddressOf(const config::Backend& backend) {
  return IpAddress::Parse(View(backend.address())).value();
}

std::optional<uint16_t> ProbePort(const config::Service& service, const config::Backend& backend) {
  const config::HealthCheck& check = service.health_check();
  uint32_t port = 0;
  switch (check.kind_case()) {
    case config::HealthCheck::kTcp: port = check.tcp().port(); break;
    case config::HealthCheck::kHttp: port = check.http().port(); break;
    case config::HealthCheck::kHttps: port = check.https().port(); break;
    case config::HealthCheck::kDns: port = check.dns().port(); break;
    case config::HealthCheck::kUdp: port = check.udp().port(); break;
    case config::HealthCheck::kIcmp:
    case config::HealthCheck::KIND_NOT_SET: return std::nullopt;
  }
  if (port == 0) port = backend.port();
  if (port == 0) port = PortRangesOf(service).front().first;
  return static_cast<uint16_t>(port);
}

bool IsSameServer(const config::Service& before, const config::Backend& backend_before,
                  const config::Service& after, const config::Backend& backend_after) {
  if (AddressOf(backend_before) != AddressOf(backend_after)) return false;
  const bool is_nat = ForwardingOf(before) == Forwarding::kNat;
  if (is_nat != (ForwardingOf(after) == Forwarding::kNat)) return false;
  if (!is_nat || backend_before.port() == backend_after.port()) return true;
  if (backend_before.port() != 0 && backend_after.port() != 0) return false;
  const uint32_t port = std::max(backend_before.port(), backend_after.port());
  const auto serves = [port](const config::Service& service) {
    const std::vector<PortRange> ranges = PortRangesOf(service);
    return std::any_of(ranges.begin(), ranges.end(), [port](const PortRange& range) {
      return range.first <= port && port <= range.last;
    });
  };
  return serves(before) && serves(after);
}

}  // namespace guideway
