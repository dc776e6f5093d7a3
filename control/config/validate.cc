#include "control/config/validate.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "control/config/config_values.h"
#include "control/config/prefix_set.h"
#include "control/config/scalars.h"
#include "maglev/snapshot.h"

namespace guideway {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// The value of `fleet.hash_seed` that everybody knows, from the schema.
uint64_t DefaultHashSeed() {
  static const uint64_t seed = [] {
    const std::string& text = config::Fleet::descriptor()
                                  ->FindFieldByName("hash_seed")
                                  ->options()
                                  .GetExtension(config::rules)
                                  .default_value();
    return std::stoull(text);
  }();
  return seed;
}

// Ports that a service takes, of one VIP or one nat backend.
struct Claim {
  PortRange ports;
  int service;
  int item;  // which VIP, or which backend
};

// Calls `report(later, earlier)` for claims of different services that overlap, once for each later
// (service, item).
template <typename Report>
void FindOverlaps(std::vector<Claim>* claims, Report report) {
  std::sort(claims->begin(), claims->end(), [](const Claim& a, const Claim& b) {
    return std::tuple(a.ports.first, a.service, a.item) <
           std::tuple(b.ports.first, b.service, b.item);
  });
  const Claim* widest = nullptr;
  for (const Claim& claim : *claims) {
    if (widest != nullptr && claim.ports.first <= widest->ports.last &&
        claim.service != widest->service) {
      const bool in_order = widest->service < claim.service;
      report(in_order ? claim : *widest, in_order ? *widest : claim);
    }
    if (widest == nullptr || claim.ports.last > widest->ports.last) widest = &claim;
  }
}

class Validator {
 public:
  Validator(config::Config* config, const Places& places, Findings* findings)
      : config_(*config), places_(places), findings_(findings) {}

  void Run() {
    CheckFleet();
    CheckInterfaces();
    CheckRoutes();
    CheckAccess();
    CheckAnnounce();
    CheckUnique(config_, "services", "name", places_, findings_);
    uint64_t backends = 0;
    for (config::Service& service : *config_.mutable_services()) {
      backends += static_cast<uint64_t>(service.backends_size());
      if (IsWhole(service)) ValidateService(&service, places_, findings_);
    }
    if (backends > kMaxBackends) {
      Error(config_, "services", -1,
            absl::StrCat("found ", backends,
                         " backends in all services together; allowed: ", kMaxBackends));
    }
    CheckVips();
    CheckTunnelSources();
    CheckBackendAddresses();
    CheckNatBackends();
  }

 private:
  // A service whose own values, and those of its backends, can be relied on.
  bool IsWhole(const config::Service& service) const {
    if (places_.IsBroken(service)) return false;
    if (service.has_forwarding() && places_.IsBroken(service.forwarding())) return false;
    if (service.has_health_check() && places_.IsBroken(service.health_check())) return false;
    for (const config::Backend& backend : service.backends()) {
      if (places_.IsBroken(backend)) return false;
    }
    return true;
  }

  void Error(const Message& message, absl::string_view key, int index, absl::string_view text) {
    findings_->Error(places_.OfValue(message, key, index),
                     absl::StrCat(places_.Path(message, key, index), ": ", text));
  }
  void Warning(const Message& message, absl::string_view key, absl::string_view text) {
    findings_->Add(Severity::kWarning, places_.OfValue(message, key),
                   absl::StrCat(places_.Path(message, key), ": ", text));
  }

  size_t LineOf(const Message& message) const {
    return findings_->source().LineAt(places_.Of(message));
  }

  void CheckFleet() {
    config::Fleet& fleet = *config_.mutable_fleet();
    if (fleet.has_hash_seed_file()) {
      if (places_.Has(fleet, "hash_seed")) {
        findings_->Error(places_.OfKey(fleet, "hash_seed_file"),
                         absl::StrCat(places_.Path(fleet, "hash_seed_file"),
                                      ": found beside hash_seed; only one of them is allowed"));
      } else {
        fleet.clear_hash_seed();
      }
    } else if (fleet.hash_seed() == DefaultHashSeed()) {
      Warning(fleet, "hash_seed",
              "missing, and the default is known to everybody, who can then aim at one backend; "
              "choose a "
              "secret "
              "number, the same on every balancer");
    }
  }

  void CheckInterfaces() {
    CheckUnique(config_, "interfaces", "name", places_, findings_);
    CheckUnique(config_, "interfaces", "device", places_, findings_, [](const std::string& device) {
      return CanonicalDevice(absl::string_view(device)).value();
    });
    CheckUnique(config_, "interfaces", "kernel_interface", places_, findings_);
    // A TAP is made under that name, and these exist or are made too.
    for (const config::Interface& tap : config_.interfaces()) {
      if (places_.IsBroken(tap) || !tap.has_kernel_interface()) continue;
      for (const config::Interface& other : config_.interfaces()) {
        if (places_.IsBroken(other)) continue;
        for (absl::string_view argument : absl::StrSplit(other.device(), ',')) {
          if (argument != absl::StrCat("iface=", tap.kernel_interface())) continue;
          Error(tap, "kernel_interface", -1,
                absl::StrCat("found ", tap.kernel_interface(), ", which is the device of ",
                             places_.Path(other), "; allowed: a name of its own"));
        }
      }
    }
  }

  void CheckAnnounce() {
    constexpr uint32_t kLocalTable = 255;  // RT_TABLE_LOCAL
    if (!config_.has_announce() || places_.IsBroken(config_.announce())) return;
    if (config_.announce().kernel_table() != kLocalTable) return;
    Error(config_.announce(), "kernel_table", -1,
          "found 255, the table of the host's own addresses, which the kernel keeps; allowed: "
          "another one, best one that nobody else uses, such as 100");
  }

  void CheckRoutes() {
    std::vector<std::string> names;
    for (const config::Interface& interface : config_.interfaces()) {
      names.push_back(interface.name());
    }
    for (const config::Route& route : config_.routes()) {
      if (places_.IsBroken(route)) continue;
      if (!InterfaceIndex(config_, absl::string_view(route.interface())).has_value()) {
        Error(route, "interface", -1,
              absl::StrCat("found ", Quote(absl::string_view(route.interface())),
                           "; allowed: ", names.empty() ? "none" : OneOf(names),
                           Suggestion(absl::string_view(route.interface()), names)));
      }
      if (!routes_.Insert(Prefix::Parse(absl::string_view(route.prefix())).value())) {
        Error(route, "prefix", -1,
              absl::StrCat("found ", route.prefix(), " a second time; allowed: each once"));
      }
    }
  }

  void CheckAccess() {
    if (!config_.has_access() || places_.IsBroken(config_.access())) return;
    config::Access* access = config_.mutable_access();
    if (access->deny_size() + access->deny_files_size() > 0) return;
    for (const char* key : {"allow", "allow_files"}) {
      HasNoEffect(access, key, "without deny or deny_files", places_, findings_);
    }
  }

  // No two services claim the same VIP, protocol and port.
  void CheckVips() {
    struct Claims {
      std::vector<Claim> tcp, udp;
    };
    std::map<Prefix, Claims> claims;
    for (int s = 0; s < config_.services_size(); ++s) {
      const config::Service& service = config_.services(s);
      if (!IsWhole(service)) continue;
      const std::vector<Prefix> vips = VipsOf(service);
      const std::vector<PortRange> ranges = PortRangesOf(service);
      const Protocol protocol = ProtocolOf(service);
      for (int v = 0; v < service.vips_size(); ++v) {
        const Prefix& vip = vips[static_cast<size_t>(v)];
        vips_.Insert(vip);
        Claims& of_vip = claims[vip];
        for (const PortRange& range : ranges) {
          if (protocol != Protocol::kUdp) of_vip.tcp.push_back({range, s, v});
          if (protocol != Protocol::kTcp) of_vip.udp.push_back({range, s, v});
        }
      }
    }
    for (auto& [vip, of_vip] : claims) {
      std::set<std::pair<int, int>> reported;
      const auto report = [&, vip = vip](absl::string_view protocol) {
        return [&, vip, protocol](const Claim& later, const Claim& earlier) {
          if (!reported.insert({later.service, later.item}).second) return;
          const uint32_t port = std::max(later.ports.first, earlier.ports.first);
          const config::Service& other = config_.services(earlier.service);
          Error(config_.services(later.service), "vips", later.item,
                absl::StrCat("found ", vip.ToString(), ", of which ", places_.Path(other),
                             " in line ", LineOf(other), " takes ", protocol, " port ", port,
                             " already; allowed: each VIP, protocol and port in one service"));
        };
      };
      FindOverlaps(&of_vip.tcp, report("tcp"));
      FindOverlaps(&of_vip.udp, report("udp"));
    }
  }

  // Where the outer packets of tunnels come from.
  void CheckTunnelSources() {
    const config::Tunnel& tunnel = config_.tunnel();
    if (config_.has_tunnel() && places_.IsBroken(tunnel)) return;
    if (tunnel.has_source_ipv4()) CheckTunnelSource("source_ipv4", tunnel.source_ipv4());
    if (tunnel.has_source_ipv6()) CheckTunnelSource("source_ipv6", tunnel.source_ipv6());
    if (tunnel.has_spread_ipv4()) CheckSpread("spread_ipv4", tunnel.spread_ipv4());
    if (tunnel.has_spread_ipv6()) CheckSpread("spread_ipv6", tunnel.spread_ipv6());
    bool told_v4 = tunnel.has_source_ipv4();
    bool told_v6 = tunnel.has_source_ipv6();
    for (const config::Service& service : config_.services()) {
      if (told_v4 && told_v6) return;
      if (!IsWhole(service) || !IsTunnelled(service)) continue;
      for (const config::Backend& backend : service.backends()) {
        bool& told = AddressOf(backend).is_v4() ? told_v4 : told_v6;
        const Prefix source = TunnelSource(config_, service, AddressOf(backend));
        if (told || !source.address.is_none()) continue;
        told = true;  // once
        const absl::string_view key = AddressOf(backend).is_v4() ? "source_ipv4" : "source_ipv6";
        findings_->Error(
            places_.Of(config_.has_tunnel() ? static_cast<const Message&>(tunnel) : config_),
            absl::StrCat("tunnel.", key, ": missing, and ", places_.Path(backend), " at ",
                         backend.address(), " is reached by ",
                         ForwardingName(ForwardingOf(service)), "; allowed: a unicast IPv",
                         AddressOf(backend).is_v4() ? "4" : "6", " address of this host"));
      }
    }
  }

  void CheckTunnelSource(absl::string_view key, const std::string& source) {
    const std::optional<Prefix> vip =
        vips_.Longest(IpAddress::Parse(absl::string_view(source)).value());
    if (!vip.has_value()) return;
    if (vip->is_host()) {
      Error(config_.tunnel(), key, -1,
            absl::StrCat("found ", source,
                         ", which is a VIP; allowed: an address of this host's own"));
    } else {
      Warning(config_.tunnel(), key, absl::StrCat("lies in the VIP prefix ", vip->ToString()));
    }
  }

  // Addresses that only outer packets may have: what is somebody's own would be taken for one.
  void CheckSpread(absl::string_view key, const std::string& text) {
    const Prefix spread = Prefix::Parse(absl::string_view(text)).value();
    const auto refuse = [&](absl::string_view why) {
      Error(config_.tunnel(), key, -1,
            absl::StrCat("found ", text, ", which ", why,
                         "; allowed: a prefix of unicast addresses that nobody has"));
    };
    for (const char* nobody : {"0.0.0.0", "127.0.0.1", "224.0.0.0", "::", "::1", "ff00::"}) {
      const IpAddress address = IpAddress::Parse(nobody).value();
      if (spread.Contains(address)) {
        return refuse(absl::StrCat("has ", nobody, ", from which no packet comes"));
      }
    }
    if (spread.address.is_multicast() || spread.address.is_loopback()) {
      return refuse("is not unicast");
    }
    const std::optional<Prefix> around = vips_.Longest(spread.address);
    if (around.has_value() && around->length < spread.length) {
      Warning(config_.tunnel(), key, absl::StrCat("lies in the VIP prefix ", around->ToString()));
    }
    for (const config::Service& service : config_.services()) {
      if (!IsWhole(service)) continue;
      for (const Prefix& vip : VipsOf(service)) {
        if (vip.length < spread.length || !spread.Contains(vip.address)) continue;
        return refuse(absl::StrCat("has the VIP ", vip.ToString(), " of ", places_.Path(service)));
      }
      for (const config::Backend& backend : service.backends()) {
        if (!spread.Contains(AddressOf(backend))) continue;
        return refuse(absl::StrCat("has ", places_.Path(backend), " at ", backend.address()));
      }
    }
  }

  // Backends that are VIPs or this host, and backends that no route leads to.
  void CheckBackendAddresses() {
    const std::vector<IpAddress> sources = TunnelSources(config_);
    for (const config::Service& service : config_.services()) {
      if (!IsWhole(service)) continue;
      int unreachable = 0;
      int behind_gateway = 0;
      const config::Backend* first_unreachable = nullptr;
      const config::Backend* first_behind_gateway = nullptr;
      for (const config::Backend& backend : service.backends()) {
        const IpAddress address = AddressOf(backend);
        const std::optional<Prefix> vip = vips_.Longest(address);
        if (vip.has_value() && vip->is_host()) {
          Error(backend, "address", -1,
                absl::StrCat("found ", backend.address(),
                             ", which is a VIP; allowed: the backend's own address"));
          continue;
        }
        if (std::find(sources.begin(), sources.end(), address) != sources.end()) {
          Error(backend, "address", -1,
                absl::StrCat("found ", backend.address(), ", which is tunnel.source_ipv",
                             address.is_v4() ? "4" : "6", "; allowed: the backend's own address"));
          continue;
        }
        if (vip.has_value()) {
          Warning(backend, "address", absl::StrCat("lies in the VIP prefix ", vip->ToString()));
        }
        if (address.is_loopback()) {
          Warning(backend, "address",
                  "a loopback address: probes reach it, forwarded packets do not");
        }
        const std::optional<Prefix> route = routes_.Longest(address);
        if (!route.has_value() && ++unreachable == 1) first_unreachable = &backend;
        if (route.has_value() && !route->is_host() &&
            ForwardingOf(service) == Forwarding::kDirect && ++behind_gateway == 1) {
          first_behind_gateway = &backend;
        }
      }
      const auto others = [](int count) {
        return count > 1 ? absl::StrCat(" (and ", count - 1, " more of the service)") : "";
      };
      if (unreachable > 0) {
        Warning(*first_unreachable, "address",
                absl::StrCat("no route leads to it", others(unreachable),
                             ": packets for it are dropped (no_next_hop)"));
      }
      if (behind_gateway > 0) {
        Warning(*first_behind_gateway, "address",
                absl::StrCat("direct forwarding sends to the backend's own MAC, and no /32 or /128 "
                             "route says it",
                             others(behind_gateway)));
      }
    }
  }

  // The way back of nat: an answer's source address and port tell its service.
  void CheckNatBackends() {
    struct Claims {
      std::vector<Claim> tcp, udp;
    };
    std::map<IpAddress, Claims> claims;
    for (int s = 0; s < config_.services_size(); ++s) {
      const config::Service& service = config_.services(s);
      if (!IsWhole(service) || ForwardingOf(service) != Forwarding::kNat) continue;
      const std::vector<PortRange> ranges = PortRangesOf(service);
      const Protocol protocol = ProtocolOf(service);
      for (int b = 0; b < service.backends_size(); ++b) {
        const config::Backend& backend = service.backends(b);
        Claims& of_address = claims[AddressOf(backend)];
        for (PortRange range : ranges) {
          if (backend.has_port()) {
            range.first = range.last = static_cast<uint16_t>(backend.port());
          }
          if (protocol != Protocol::kUdp) of_address.tcp.push_back({range, s, b});
          if (protocol != Protocol::kTcp) of_address.udp.push_back({range, s, b});
        }
      }
    }
    for (auto& [address, of_address] : claims) {
      std::set<std::pair<int, int>> reported;
      const auto report = [&](const Claim& later, const Claim& earlier) {
        if (!reported.insert({later.service, later.item}).second) return;
        const config::Backend& backend = config_.services(later.service).backends(later.item);
        const config::Backend& other = config_.services(earlier.service).backends(earlier.item);
        Error(backend, "address", -1,
              absl::StrCat("found ", backend.address(), ", whose port ",
                           std::max(later.ports.first, earlier.ports.first), " also serves ",
                           places_.Path(other), " in line ", LineOf(other),
                           "; allowed: each address and port in one nat service, since answers "
                           "are told apart by it"));
      };
      FindOverlaps(&of_address.tcp, report);
      FindOverlaps(&of_address.udp, report);
    }
  }

  config::Config& config_;
  const Places& places_;
  Findings* findings_;
  PrefixSet routes_;
  PrefixSet vips_;
};

}  // namespace

void HasNoEffect(Message* message, absl::string_view key, absl::string_view why,
                 const Places& places, Findings* findings) {
  const google::protobuf::Reflection* reflection = message->GetReflection();
  const FieldDescriptor* field = message->GetDescriptor()->FindFieldByName(std::string(key));
  const bool has_value = field->is_repeated() ? reflection->FieldSize(*message, field) > 0
                                              : reflection->HasField(*message, field);
  if (!has_value) return;
  if (places.Has(*message, key)) {
    findings->Error(
        places.OfKey(*message, key),
        absl::StrCat(places.Path(*message, key), ": has no effect ", why, "; leave it out"));
  }
  reflection->ClearField(message, field);
}

void CheckUnique(const Message& parent, const char* list, const char* key, const Places& places,
                 Findings* findings, std::string (*normal)(const std::string&)) {
  const FieldDescriptor* items = parent.GetDescriptor()->FindFieldByName(list);
  const FieldDescriptor* field = items->message_type()->FindFieldByName(key);
  absl::flat_hash_map<std::string, const Message*> seen;
  for (int i = 0; i < parent.GetReflection()->FieldSize(parent, items); ++i) {
    const Message& item = parent.GetReflection()->GetRepeatedMessage(parent, items, i);
    std::string text = item.GetReflection()->GetString(item, field);
    if (text.empty()) continue;
    if (normal != nullptr) text = normal(text);
    const auto [first, is_first] = seen.try_emplace(text, &item);
    if (is_first) continue;
    findings->Error(
        places.OfValue(item, key),
        absl::StrCat(places.Path(item, key), ": found ", Quote(absl::string_view(text)),
                     ", as in line ", findings->source().LineAt(places.Of(*first->second)),
                     "; allowed: a ", key, " of its own"));
  }
}

void ValidateConfig(config::Config* config, const Places& places, Findings* findings) {
  Validator(config, places, findings).Run();
}

}  // namespace guideway
