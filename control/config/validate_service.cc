#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "control/config/config_values.h"
#include "control/config/validate.h"
#include "maglev/lookup_table.h"

namespace guideway {
namespace {

using google::protobuf::Message;

class ServiceValidator {
 public:
  ServiceValidator(config::Service* service, const Places& places, Findings* findings)
      : service_(*service), places_(places), findings_(findings) {}

  void Run() {
    CheckVips();
    CheckPorts();
    CheckScheduler();
    CheckRegions();
    CheckHealth();
    CheckQuic();
    CheckUnique(service_, "backends", "name", places_, findings_);
    CheckNat();
    CheckShares();
    if (service_.backends_size() == 0) {
      Warning(service_, "backends", "none, so that every packet to the service is dropped");
    }
  }

 private:
  void Error(const Message& message, absl::string_view key, int index, absl::string_view text) {
    findings_->Error(places_.OfValue(message, key, index),
                     absl::StrCat(places_.Path(message, key, index), ": ", text));
  }
  void Missing(const Message& message, absl::string_view key, absl::string_view text) {
    findings_->Error(places_.Of(message),
                     absl::StrCat(places_.Path(message, key), ": missing", text));
  }
  void Warning(const Message& message, absl::string_view key, absl::string_view text) {
    findings_->Add(Severity::kWarning, places_.OfValue(message, key),
                   absl::StrCat(places_.Path(message, key), ": ", text));
  }
  void NoEffect(Message* message, absl::string_view key, absl::string_view why) {
    HasNoEffect(message, key, why, places_, findings_);
  }
  const std::string& SchedulerName() const {
    return config::Scheduler::Value_Name(service_.scheduler());
  }

  void CheckVips() {
    absl::flat_hash_set<Prefix> seen;
    const std::vector<Prefix> vips = VipsOf(service_);
    for (size_t i = 0; i < vips.size(); ++i) {
      if (!seen.insert(vips[i]).second) {
        Error(service_, "vips", static_cast<int>(i),
              absl::StrCat("found ", vips[i].ToString(), " a second time; allowed: each once"));
      }
    }
  }

  void CheckPorts() {
    if (service_.protocol() == config::TransportProtocol::any) {
      NoEffect(&service_, "ports", "with protocol: any, which is every port");
      return;
    }
    if (service_.ports().empty()) {
      const bool given = places_.Has(service_, "ports");
      const std::string text = "allowed: ports such as 443 or ranges such as 8000-8100";
      if (given) {
        Error(service_, "ports", -1, absl::StrCat("found none; ", text));
      } else {
        Missing(service_, "ports", absl::StrCat("; ", text));
      }
      return;
    }
    const std::vector<PortRange> ranges = PortRangesOf(service_);
    std::vector<size_t> order(ranges.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return std::pair(ranges[a].first, a) < std::pair(ranges[b].first, b);
    });
    size_t widest = order[0];
    for (size_t k = 1; k < order.size(); ++k) {
      const size_t i = order[k];
      if (ranges[i].first <= ranges[widest].last) {
        const int later = static_cast<int>(std::max(i, widest));
        Error(service_, "ports", later,
              absl::StrCat("found ", service_.ports(later), ", which overlaps ",
                           service_.ports(static_cast<int>(std::min(i, widest))),
                           "; allowed: each port once"));
      }
      if (ranges[i].last > ranges[widest].last) widest = i;
    }
  }

  void CheckScheduler() {
    if (!UsesTable(service_)) {
      NoEffect(&service_, "table_size",
               absl::StrCat("with scheduler: ", SchedulerName(), ", which does not go by a table"));
      if (service_.affinity() != config::Affinity::connection) {
        NoEffect(&service_, "affinity",
                 absl::StrCat("with scheduler: ", SchedulerName(), ", which is no hash"));
        return;
      }
    }
    if (service_.affinity() != config::Affinity::client_prefix) {
      NoEffect(&service_, "client_prefix", "without affinity: client_prefix");
    }
  }

  void CheckRegions() {
    if (service_.scheduler() != config::Scheduler::geographic) {
      const std::string why = "without scheduler: geographic";
      NoEffect(&service_, "regions", why);
      NoEffect(&service_, "default_region", why);
      for (config::Backend& backend : *service_.mutable_backends()) {
        NoEffect(&backend, "region", why);
      }
      return;
    }
    if (service_.regions().empty()) {
      Missing(service_, "regions",
              ", and scheduler: geographic needs them; allowed: a list of regions");
      return;
    }
    CheckUnique(service_, "regions", "name", places_, findings_);
    std::vector<std::string> names;
    absl::flat_hash_set<std::string> known;
    absl::flat_hash_map<Prefix, const config::Region*> prefixes;
    for (const config::Region& region : service_.regions()) {
      names.push_back(region.name());
      known.insert(region.name());
      if (places_.IsBroken(region)) continue;
      for (int i = 0; i < region.prefixes_size(); ++i) {
        const Prefix prefix = Prefix::Parse(absl::string_view(region.prefixes(i))).value();
        const auto [first, is_first] = prefixes.try_emplace(prefix, &region);
        if (is_first) continue;
        Error(region, "prefixes", i,
              absl::StrCat("found ", prefix.ToString(), ", which is in region ",
                           first->second->name(), " already; allowed: each once"));
      }
    }
    const auto refer = [&](const Message& message, absl::string_view key, int index,
                           const std::string& name) {
      if (known.contains(name)) return;
      Error(message, key, index,
            absl::StrCat("found ", Quote(absl::string_view(name)), "; allowed: ", OneOf(names),
                         Suggestion(absl::string_view(name), names)));
    };
    for (const config::Region& region : service_.regions()) {
      for (int i = 0; i < region.fallback_size(); ++i) {
        refer(region, "fallback", i, region.fallback(i));
        if (region.fallback(i) == region.name()) {
          Error(region, "fallback", i, "found the region itself; allowed: other regions");
        }
      }
    }
    if (service_.has_default_region()) {
      refer(service_, "default_region", -1, service_.default_region());
    } else {
      Missing(service_, "default_region", absl::StrCat("; allowed: ", OneOf(names)));
    }
    absl::flat_hash_set<std::string> served;
    for (const config::Backend& backend : service_.backends()) {
      if (backend.has_region()) {
        refer(backend, "region", -1, backend.region());
        served.insert(backend.region());
      } else {
        Missing(backend, "region", absl::StrCat("; allowed: ", OneOf(names)));
      }
    }
    for (config::Region& region : *service_.mutable_regions()) {
      if (places_.Has(region, "fallback")) continue;
      for (const std::string& other : names) {
        if (other != region.name()) region.add_fallback(other);
      }
    }
    for (const config::Region& region : service_.regions()) {
      if (!served.contains(region.name())) Warning(region, "name", "no backend is in this region");
    }
  }

  void CheckHealth() {
    if (!service_.has_health_check()) {
      if (MinHealthyOf(service_) > 0) NoEffect(&service_, "min_healthy", "without health_check");
      return;
    }
    config::HealthCheck& check = *service_.mutable_health_check();
    const absl::Duration interval = ToDuration(check.interval());
    if (!check.has_timeout()) {
      const absl::Duration timeout = std::min(absl::Milliseconds(500), interval);
      check.mutable_timeout()->set_seconds(absl::ToInt64Seconds(timeout));
      check.mutable_timeout()->set_nanos(
          static_cast<int32_t>(absl::ToInt64Nanoseconds(timeout % absl::Seconds(1))));
    } else if (ToDuration(check.timeout()) > interval) {
      Warning(check, "timeout",
              absl::StrCat(FormatConfigDuration(ToDuration(check.timeout())),
                           " is longer than the interval of ", FormatConfigDuration(interval),
                           ": a probe without an answer delays the next one"));
    }
    const config::FlapDamping& damping = check.flap_damping();
    if (ToDuration(damping.hold()) == absl::ZeroDuration()) {
      for (const char* key : {"after", "max_hold"}) {
        HasNoEffect(check.mutable_flap_damping(), key, "with hold: 0s", places_, findings_);
      }
    } else if (ToDuration(damping.max_hold()) < ToDuration(damping.hold())) {
      Error(damping, places_.Has(damping, "max_hold") ? "max_hold" : "hold", -1,
            absl::StrCat("max_hold is ", FormatConfigDuration(ToDuration(damping.max_hold())),
                         ", less than hold, ", FormatConfigDuration(ToDuration(damping.hold())),
                         "; allowed: max_hold at least as long as hold"));
    }
    // With protocol any there is no port to probe but the probe's own.
    const google::protobuf::Reflection* reflection = check.GetReflection();
    const google::protobuf::FieldDescriptor* kind =
        reflection->GetOneofFieldDescriptor(check, check.GetDescriptor()->FindOneofByName("kind"));
    if (service_.protocol() != config::TransportProtocol::any || kind == nullptr) return;
    const Message& probe = reflection->GetMessage(check, kind);
    const google::protobuf::FieldDescriptor* port = probe.GetDescriptor()->FindFieldByName("port");
    if (port != nullptr && !places_.IsBroken(probe) &&
        !probe.GetReflection()->HasField(probe, port)) {
      Missing(probe, "port", ", and with protocol: any the service has none; allowed: a port");
    }
  }

  void CheckQuic() {
    if (!service_.has_quic()) {
      for (config::Backend& backend : *service_.mutable_backends()) {
        NoEffect(&backend, "quic_server_id", "without quic");
      }
      return;
    }
    if (service_.protocol() != config::TransportProtocol::udp) {
      NoEffect(&service_, "quic",
               absl::StrCat(
                   "with protocol: ", config::TransportProtocol::Value_Name(service_.protocol()),
                   ", since QUIC runs over udp"));
      return;
    }
    if (places_.IsBroken(service_.quic())) return;
    absl::flat_hash_set<uint32_t> ids;
    for (const config::QuicConfig& quic : service_.quic().configs()) {
      if (places_.IsBroken(quic)) return;
      if (!ids.insert(quic.id()).second) {
        Error(quic, "id", -1,
              absl::StrCat("found ", quic.id(), " a second time; allowed: each once"));
      }
      const config::QuicConfig& first = service_.quic().configs(0);
      if (quic.server_id_length() != first.server_id_length()) {
        Error(quic, "server_id_length", -1,
              absl::StrCat("found ", quic.server_id_length(), ", and config ", first.id(), " has ",
                           first.server_id_length(),
                           "; allowed: the same in every config, since a backend has one id"));
        return;
      }
      const uint32_t most = 19 - quic.server_id_length();
      if (quic.nonce_length() > most) {
        Error(quic, "nonce_length", -1,
              absl::StrCat("found ", quic.nonce_length(), " beside a server id of ",
                           quic.server_id_length(), " bytes; allowed: at most 19 together"));
      }
    }
    CheckServerIds();
  }

  void CheckServerIds() {
    absl::flat_hash_set<std::string> seen;
    for (const config::Backend& backend : service_.backends()) {
      if (!backend.has_quic_server_id()) {
        Warning(backend, "quic_server_id",
                "missing: connections to this backend are not found by their connection id");
        continue;
      }
      const std::string& id = backend.quic_server_id();
      for (const config::QuicConfig& quic : service_.quic().configs()) {
        if (id.size() == 2 * quic.server_id_length()) continue;
        Error(backend, "quic_server_id", -1,
              absl::StrCat("found ", Quote(absl::string_view(id)), ", ", id.size() / 2,
                           " bytes; allowed: ", quic.server_id_length(),
                           " bytes, as server_id_length of config ", quic.id(), " says"));
        break;
      }
      if (!seen.insert(absl::AsciiStrToLower(absl::string_view(id))).second) {
        Error(backend, "quic_server_id", -1,
              absl::StrCat("found ", Quote(absl::string_view(id)),
                           " a second time; allowed: each backend its own"));
      }
    }
  }

  // What would make the way back of nat ambiguous.
  void CheckNat() {
    const Forwarding forwarding = ForwardingOf(service_);
    if (forwarding != Forwarding::kNat) {
      const std::string why = absl::StrCat("with forwarding: ", ForwardingName(forwarding),
                                           ", which leaves the destination port as it is");
      for (config::Backend& backend : *service_.mutable_backends()) {
        NoEffect(&backend, "port", why);
      }
      return;
    }
    const std::vector<Prefix> vips = VipsOf(service_);
    if (vips.size() > 1) {
      Error(service_, "vips", 1,
            "found several VIPs with forwarding: nat; allowed: one, since an answer does not say "
            "which it was");
    } else if (!vips[0].is_host()) {
      Error(service_, "vips", 0,
            absl::StrCat("found ", vips[0].ToString(),
                         " with forwarding: nat; allowed: one address, since an answer does not "
                         "say which it was"));
    }
    const std::vector<PortRange> ranges = PortRangesOf(service_);
    const bool one_port = ranges.size() == 1 && ranges[0].first == ranges[0].last;
    for (const config::Backend& backend : service_.backends()) {
      if (backend.has_port() && !one_port) {
        Error(backend, "port", -1,
              absl::StrCat("found ", backend.port(),
                           ", and the service has several ports; allowed: with forwarding: nat a "
                           "port of its own only where the service has one, since an answer does "
                           "not say which it was"));
      }
      if (AddressOf(backend).is_v4() != vips[0].address.is_v4()) {
        Error(backend, "address", -1,
              absl::StrCat("found ", backend.address(), " behind the VIP ", vips[0].ToString(),
                           "; allowed: with forwarding: nat an address of the VIP's family"));
      }
    }
  }

  // Backends that share new connections: each region's by themselves.
  struct Pool {
    const config::Backend* first = nullptr;
    uint64_t weight = 0;
    const config::Backend* lightest = nullptr;  // of those that have a weight
  };

  std::vector<Pool> Pools() const {
    std::vector<Pool> pools;
    absl::flat_hash_map<std::string, size_t> by_region;
    for (const config::Backend& backend : service_.backends()) {
      const size_t index = by_region.try_emplace(backend.region(), pools.size()).first->second;
      if (index == pools.size()) pools.push_back({.first = &backend});
      Pool& pool = pools[index];
      pool.weight += backend.weight();
      if (backend.weight() > 0 &&
          (pool.lightest == nullptr || backend.weight() < pool.lightest->weight())) {
        pool.lightest = &backend;
      }
    }
    return pools;
  }

  void CheckShares() {
    const uint32_t size = service_.table_size();
    if (UsesTable(service_)) {
      const uint32_t least = std::max(2u, static_cast<uint32_t>(service_.backends_size()));
      if (!IsPrime(size) || size < least) {
        Error(service_, "table_size", -1,
              absl::StrCat("found ", size, "; allowed: a prime from the number of backends, ",
                           service_.backends_size(), ", to ", LookupTable::kMaxSize,
                           "; the next one is ", NextPrime(std::max(size, least))));
        return;
      }
    }
    for (const Pool& pool : Pools()) {
      if (pool.lightest == nullptr) {
        const std::string& region = pool.first->region();
        Warning(*pool.first, "weight",
                region.empty() ? "0 for every backend of the service, so that no connection finds "
                                 "one (no_backend)"
                               : absl::StrCat("0 for every backend of region ", region,
                                              ", so that its clients go to its fallback"));
      } else if (UsesTable(service_)) {
        CheckSlots(size, pool);
      }
    }
  }

  // Whether the backend with the fewest slots has enough for an even spread.
  void CheckSlots(uint64_t size, const Pool& pool) {
    constexpr uint64_t kEnough = 100;
    const uint64_t lightest = pool.lightest->weight();
    const uint64_t slots = size * lightest / pool.weight;
    if (slots >= kEnough) return;
    const uint64_t wanted = (kEnough * pool.weight + lightest - 1) / lightest;
    const std::string advice =
        wanted <= LookupTable::kMaxSize
            ? absl::StrCat("; a table_size of ", NextPrime(static_cast<uint32_t>(wanted)),
                           " gives it at least ", kEnough)
            : "";
    Warning(*pool.lightest, "weight",
            slots == 0 ? absl::StrCat("its share is less than one of ", size,
                                      " slots, so it may get no connections", advice)
                       : absl::StrCat("its share is only ", slots, " of ", size,
                                      " slots, which makes for an uneven spread", advice));
  }

  config::Service& service_;
  const Places& places_;
  Findings* findings_;
};

}  // namespace

void ValidateService(config::Service* service, const Places& places, Findings* findings) {
  ServiceValidator(service, places, findings).Run();
}

}  // namespace guideway
