#include "control/compile.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "control/config/config.h"
#include "glog/logging.h"

namespace guideway {
namespace {

class Compiler {
 public:
  explicit Compiler(const CompileInput& input) : in_(input), config_(input.loaded->config) {}

  absl::StatusOr<std::shared_ptr<const Snapshot>> Run();

 private:
  using Pool = std::vector<Backend>;

  void ReadRoutes();
  NextHop FindNextHop(const IpAddress& address) const;
  void RememberPrevious();
  Service Draft(const config::Service& config, const ServiceFacts& facts) const;
  absl::StatusOr<std::shared_ptr<const Service>> Finish(Service draft, uint32_t table_size);
  absl::StatusOr<std::shared_ptr<const LookupTable>> TableOf(const Pool& pool, uint32_t size);

  const CompileInput& in_;
  const config::Config& config_;
  absl::flat_hash_map<IpAddress, NextHop> host_routes_;
  std::vector<std::pair<Prefix, NextHop>> routes_;  // the longest first
  absl::flat_hash_map<ServiceId, std::shared_ptr<const Service>> previous_;
  absl::flat_hash_map<std::string, std::shared_ptr<const LookupTable>> tables_;
};

// All that a lookup table is made from, but the seed.
std::string TableKey(const std::vector<Backend>& pool, uint32_t size) {
  std::string key = absl::StrCat(size);
  for (const Backend& b : pool) absl::StrAppend(&key, "/", b.name, "=", b.weight);
  return key;
}

// In everything but what is made from it, the table and the assignment.
bool SameSources(const Service& a, const Service& b) {
  return a.id == b.id && a.name == b.name && a.protocol == b.protocol &&
         a.forwarding == b.forwarding && a.vips == b.vips && a.ports == b.ports &&
         a.backends == b.backends;
}

void Compiler::ReadRoutes() {
  for (const config::Route& route : config_.routes()) {
    const std::optional<size_t> index = InterfaceIndex(config_, route.interface());
    if (!index || *index >= in_.interfaces.size()) continue;
    const InterfaceStatus& out = in_.interfaces[*index];
    const Prefix prefix = Prefix::Parse(route.prefix()).value();
    const NextHop hop = {.interface = static_cast<uint16_t>(*index),
                         .mtu = out.mtu,
                         .source = out.mac,
                         .destination = MacAddress::Parse(route.mac()).value()};
    if (prefix.is_host()) {
      host_routes_.emplace(prefix.address, hop);
    } else {
      routes_.emplace_back(prefix, hop);
    }
  }
  std::stable_sort(routes_.begin(), routes_.end(),
                   [](const auto& a, const auto& b) { return a.first.length > b.first.length; });
}

NextHop Compiler::FindNextHop(const IpAddress& address) const {
  if (auto it = host_routes_.find(address); it != host_routes_.end()) return it->second;
  for (const auto& [prefix, hop] : routes_) {
    if (prefix.Contains(address)) return hop;
  }
  return NextHop();
}

void Compiler::RememberPrevious() {
  if (in_.previous == nullptr || in_.previous->hash_seed() != in_.hash_seed) return;
  for (const auto& service : in_.previous->services()) {
    previous_.emplace(service->id, service);
    if (service->table == nullptr) continue;
    tables_.emplace(TableKey(service->backends, service->table->size()), service->table);
  }
}

Service Compiler::Draft(const config::Service& config, const ServiceFacts& facts) const {
  Service draft;
  draft.name = config.name();
  draft.id = facts.id;
  for (const Prefix& vip : VipsOf(config)) draft.vips.push_back(vip.address);
  draft.protocol = ProtocolOf(config);
  draft.ports = PortRangesOf(config);
  draft.forwarding = ForwardingOf(config);
  CHECK_EQ(facts.backends.size(), static_cast<size_t>(config.backends_size()));
  for (int i = 0; i < config.backends_size(); ++i) {
    const config::Backend& backend = config.backends(i);
    const IpAddress address = AddressOf(backend);
    draft.backends.push_back({.name = backend.name(),
                              .id = facts.backends[i].id,
                              .service = facts.id,
                              .weight = backend.weight(),
                              .state = facts.backends[i].state,
                              .address = address,
                              .tunnel_source = TunnelSource(config_, address),
                              .next_hop = FindNextHop(address)});
  }
  std::sort(draft.backends.begin(), draft.backends.end(),
            [](const Backend& a, const Backend& b) { return a.name < b.name; });
  return draft;
}

absl::StatusOr<std::shared_ptr<const LookupTable>> Compiler::TableOf(const Pool& pool,
                                                                     uint32_t size) {
  std::shared_ptr<const LookupTable>& table = tables_[TableKey(pool, size)];
  if (table != nullptr) return table;
  std::vector<PoolMember> members;
  for (const Backend& b : pool) members.push_back({.name = b.name, .weight = b.weight});
  absl::StatusOr<LookupTable> built = LookupTable::Build(members, size, in_.hash_seed);
  if (!built.ok()) return built.status();
  return table = std::make_shared<const LookupTable>(*std::move(built));
}

absl::StatusOr<std::shared_ptr<const Service>> Compiler::Finish(Service draft,
                                                                uint32_t table_size) {
  if (auto it = previous_.find(draft.id); it != previous_.end()) {
    const Service& before = *it->second;
    if (SameSources(draft, before) && before.table->size() == table_size) return it->second;
  }
  absl::StatusOr<std::shared_ptr<const LookupTable>> table = TableOf(draft.backends, table_size);
  if (!table.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("service ", draft.name, ": ", table.status().message()));
  }
  draft.table = *std::move(table);
  std::vector<bool> up;
  for (const Backend& b : draft.backends) up.push_back(b.state == BackendState::kUp);
  draft.assignment = draft.table->Assign(up);
  return std::make_shared<const Service>(std::move(draft));
}

absl::StatusOr<std::shared_ptr<const Snapshot>> Compiler::Run() {
  ReadRoutes();
  RememberPrevious();
  CHECK_EQ(in_.services.size(), static_cast<size_t>(config_.services_size()));
  std::vector<std::shared_ptr<const Service>> services;
  for (int i = 0; i < config_.services_size(); ++i) {
    const config::Service& service = config_.services(i);
    Service draft = Draft(service, in_.services[i]);
    auto finished = Finish(std::move(draft), TableSize(service));
    if (!finished.ok()) return finished.status();
    services.push_back(*std::move(finished));
  }
  return std::make_shared<const Snapshot>(in_.version, in_.hash_seed, FlowTimeoutsOf(config_),
                                          std::move(services));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Snapshot>> Compile(const CompileInput& input) {
  return Compiler(input).Run();
}

}  // namespace guideway
