#include "tools/offline.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "control/compile.h"
#include "control/config/config.h"
#include "control/config/diagnostics.h"
#include "tools/configuration.h"

namespace guideway {
namespace {

constexpr MacAddress kOwnMac = {{2, 0, 0, 0, 0, 0x01}};
constexpr MacAddress kNextHopMac = {{2, 0, 0, 0, 0, 0xfe}};

// «a, b, c and 17 more; did you mean a?»
template <typename Messages>
std::string Names(const std::string& found, const Messages& messages) {
  constexpr int kShown = 20;
  std::vector<std::string> names;
  for (const auto& message : messages) names.push_back(message.name());
  const std::string suggestion = Suggestion(found, names);
  const int more = std::max(0, messages.size() - kShown);
  names.resize(names.size() - static_cast<size_t>(more));
  return absl::StrCat(names.empty() ? "none" : absl::StrJoin(names, ", "),
                      more > 0 ? absl::StrCat(" and ", more, " more") : "", suggestion);
}

absl::Status Find(const config::Config& config, const std::string& name,
                  std::set<std::pair<int, int>>* found) {
  const std::vector<std::string> parts = absl::StrSplit(name, absl::MaxSplits('/', 1));
  if (parts.size() != 2) {
    return absl::OutOfRangeError(absl::StrCat("\"", name, "\" is not SERVICE/BACKEND"));
  }
  const auto& services = config.services();
  for (int s = 0; s < services.size(); ++s) {
    if (services[s].name() != parts[0]) continue;
    for (int b = 0; b < services[s].backends_size(); ++b) {
      if (services[s].backends(b).name() != parts[1]) continue;
      found->insert({s, b});
      return absl::OkStatus();
    }
    return absl::OutOfRangeError(absl::StrCat("service ", parts[0], " has no backend \"", parts[1],
                                              "\"; it has ",
                                              Names(parts[1], services[s].backends())));
  }
  return absl::OutOfRangeError(absl::StrCat("there is no service \"", parts[0], "\"; there are ",
                                            Names(parts[0], services)));
}

std::vector<InterfaceStatus> InterfacesOf(const config::Config& config) {
  std::vector<InterfaceStatus> interfaces;
  for (const config::Interface& interface : config.interfaces()) {
    interfaces.push_back(
        {.name = interface.name(),
         .device = interface.device(),
         .mac = interface.has_mac() ? MacAddress::Parse(interface.mac()).value() : kOwnMac,
         .mtu = static_cast<uint16_t>(interface.mtu())});
  }
  return interfaces;
}

RouteList NextHops(const config::Config& config) {
  const std::vector<InterfaceStatus> interfaces = InterfacesOf(config);
  if (EffectiveRouting(config) == config::Routing::static_) {
    return StaticRoutes(config, interfaces);
  }
  const NextHop hop = {.interface = 0,
                       .mtu = interfaces[0].mtu,
                       .destination = kNextHopMac,
                       .source = interfaces[0].mac};
  return {{Prefix::Parse("0.0.0.0/0").value(), hop}, {Prefix::Parse("::/0").value(), hop}};
}

}  // namespace

absl::StatusOr<Offline> LoadOffline(const std::string& config_file,
                                    const std::vector<std::string>& down) {
  absl::StatusOr<LoadedConfig> loaded = LoadConfiguration(config_file);
  if (!loaded.ok()) return loaded.status();
  const auto shared = std::make_shared<const LoadedConfig>(*std::move(loaded));
  const config::Config& config = shared->config;
  std::set<std::pair<int, int>> is_down;
  for (const std::string& name : down) {
    if (absl::Status s = Find(config, name, &is_down); !s.ok()) return s;
  }

  CompileInput input;
  input.loaded = shared;
  input.routes = NextHops(config);
  input.hash_seed = shared->hash_seed;
  BackendId next_id = 0;
  for (int s = 0; s < config.services_size(); ++s) {
    ServiceFacts& facts = input.services.emplace_back();
    facts.id = static_cast<ServiceId>(s);
    for (int b = 0; b < config.services(s).backends_size(); ++b) {
      const bool drained = config.services(s).backends(b).state() == config::AdminState::drain;
      facts.backends.push_back({.id = next_id++,
                                .state = is_down.contains({s, b}) ? BackendState::kDown
                                         : drained                ? BackendState::kDrain
                                                                  : BackendState::kUp});
    }
  }
  absl::StatusOr<std::shared_ptr<const Snapshot>> snapshot = Compile(input);
  if (!snapshot.ok()) return snapshot.status();
  Offline offline = {.loaded = shared,
                     .snapshot = *std::move(snapshot),
                     .flow_entries = config.dataplane().flows_per_worker()};
  for (const config::Interface& interface : config.interfaces()) {
    offline.interfaces.push_back(interface.name());
  }
  return offline;
}

}  // namespace guideway
