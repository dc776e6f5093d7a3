#include "control/compile.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "control/config/config.h"
#include "glog/logging.h"
#include "maglev/table_digest.h"

namespace guideway {
namespace {

class Compiler {
 public:
  explicit Compiler(const CompileInput& input) : in_(input), config_(input.loaded->config) {}

  absl::StatusOr<std::shared_ptr<const Snapshot>> Run();
  const CompileStats& stats() const { return stats_; }

 private:
  void ReadRoutes();
  void RememberPrevious();
  Service Draft(int index) const;
  std::vector<Pool> DraftPools(const config::Service& config) const;
  absl::StatusOr<std::shared_ptr<const Service>> Finish(Service draft, uint32_t table_size);
  absl::Status FinishPool(absl::Span<const Backend> backends, uint32_t table_size, Pool& pool);
  uint64_t DigestOf(absl::Span<const Backend> pool, absl::Span<const LookupTable::Member> slots);
  const std::vector<uint32_t>& SlotsByMember(const LookupTable::Assignment& slots, size_t members);
  std::vector<double> ConnectionShares(const Service& service, absl::Span<const uint32_t> weights);

  const CompileInput& in_;
  const config::Config& config_;
  std::shared_ptr<const Routes> routes_;
  absl::flat_hash_map<ServiceId, std::shared_ptr<const Service>> previous_;
  // By all that they are made from, but the seed.
  absl::flat_hash_map<std::string, std::shared_ptr<const LookupTable>> tables_;
  absl::flat_hash_map<std::pair<const LookupTable*, std::vector<Share>>,
                      std::shared_ptr<const LookupTable::Assignment>>
      assignments_;
  // By the first slot: services that share an assignment share these.
  absl::flat_hash_map<const LookupTable::Member*, uint64_t> digests_;
  absl::flat_hash_map<const LookupTable::Member*, std::vector<uint32_t>> slots_by_member_;
  CompileStats stats_;
};

std::string TableKey(absl::Span<const Backend> pool, uint32_t size) {
  std::string key = absl::StrCat(size);
  for (const Backend& b : pool) absl::StrAppend(&key, "/", b.name, "=", b.weight);
  return key;
}

// How much of its slots a backend takes; new connections are what a table gives away.
Share ShareOf(const Backend& backend) {
  return backend.state == BackendState::kUp ? backend.share : kDown;
}

std::vector<Share> SharesOf(absl::Span<const Backend> pool) {
  std::vector<Share> shares;
  for (const Backend& b : pool) shares.push_back(ShareOf(b));
  return shares;
}

absl::Span<const Backend> BackendsOf(const Service& service, size_t pool) {
  const uint32_t first = service.pools[pool].first;
  const size_t end =
      pool + 1 < service.pools.size() ? service.pools[pool + 1].first : service.backends.size();
  return absl::MakeConstSpan(service.backends).subspan(first, end - first);
}

bool SameSources(const Pool& a, const Pool& b) {
  return a.region == b.region && a.first == b.first && a.fallback == b.fallback;
}

// In everything but what is made from it: tables, assignments, turns.
bool SameSources(const Service& a, const Service& b) {
  return a.id == b.id && a.name == b.name && a.protocol == b.protocol &&
         a.forwarding == b.forwarding && a.tunnel == b.tunnel &&
         a.new_flows_per_second == b.new_flows_per_second && a.scheduler == b.scheduler &&
         a.affinity == b.affinity && a.vips == b.vips && a.ports == b.ports &&
         a.regions == b.regions && a.default_region == b.default_region && a.quic == b.quic &&
         a.backends == b.backends &&
         std::equal(a.pools.begin(), a.pools.end(), b.pools.begin(), b.pools.end(),
                    [](const Pool& x, const Pool& y) { return SameSources(x, y); });
}

// Of the table that a scheduler without `table_size` falls back to: a hundred slots a backend or
// more. In coarse steps, since another size is another table.
uint32_t FallbackTableSize(size_t backends) {
  uint32_t size = 1024;
  while (size < 100 * backends) size *= 4;
  return size < LookupTable::kMaxSize ? NextPrime(size) : LookupTable::kMaxSize;
}

void Compiler::ReadRoutes() {
  routes_ = std::make_shared<const Routes>(in_.routes);
  if (in_.previous != nullptr && *in_.previous->shared_routes() == *routes_) {
    routes_ = in_.previous->shared_routes();
  }
}

void Compiler::RememberPrevious() {
  if (in_.previous == nullptr || in_.previous->hash_seed() != in_.hash_seed) return;
  for (const auto& service : in_.previous->services()) {
    previous_.emplace(service->id, service);
    for (size_t i = 0; i < service->pools.size(); ++i) {
      const Pool& pool = service->pools[i];
      const absl::Span<const Backend> backends = BackendsOf(*service, i);
      tables_.emplace(TableKey(backends, pool.table->size()), pool.table);
      assignments_.emplace(std::pair(pool.table.get(), SharesOf(backends)), pool.assignment);
      digests_.emplace(pool.table->homes().data(), pool.table_digest);
      digests_.emplace(pool.assignment->data(), pool.assignment_digest);
    }
  }
}

// One with all backends, or one a region, in the order of the file.
std::vector<Pool> Compiler::DraftPools(const config::Service& config) const {
  if (SchedulerOf(config) != Scheduler::kGeographic) return {Pool()};
  std::vector<Pool> pools;
  for (const config::Region& region : config.regions()) {
    Pool& pool = pools.emplace_back();
    pool.region = region.name();
    for (const std::string& name : region.fallback()) {
      pool.fallback.push_back(RegionIndex(config, name).value());
    }
  }
  return pools;
}

Service Compiler::Draft(int index) const {
  const config::Service& config = config_.services(index);
  const ServiceFacts& facts = in_.services[index];
  Service draft;
  draft.name = config.name();
  draft.id = facts.id;
  draft.vips = VipsOf(config);
  draft.protocol = ProtocolOf(config);
  draft.ports = PortRangesOf(config);
  draft.forwarding = ForwardingOf(config);
  draft.tunnel = TunnelSettingsOf(config);
  draft.new_flows_per_second = config.limits().new_flows_per_second();
  draft.scheduler = SchedulerOf(config);
  draft.affinity = AffinityOf(config);
  draft.regions = in_.loaded->regions[index];
  draft.default_region = RegionIndex(config, config.default_region()).value_or(0);
  draft.quic = in_.loaded->quic[index];
  draft.pools = DraftPools(config);

  CHECK_EQ(facts.backends.size(), static_cast<size_t>(config.backends_size()));
  draft.backends.reserve(facts.backends.size());
  size_t begun = 0;  // pools
  for (const int i : BackendOrder(config)) {
    const config::Backend& backend = config.backends(i);
    const size_t pool = RegionIndex(config, backend.region()).value_or(0);
    while (begun <= pool) draft.pools[begun++].first = static_cast<uint32_t>(draft.backends.size());
    const IpAddress address = AddressOf(backend);
    draft.backends.push_back(Backend{.id = facts.backends[i].id,
                                     .service = facts.id,
                                     .state = facts.backends[i].state,
                                     .share = facts.backends[i].share,
                                     .port = static_cast<uint16_t>(backend.port()),
                                     .address = address,
                                     .tunnel_source = TunnelSource(config_, config, address),
                                     .next_hop = routes_->Find(address),
                                     .weight = facts.backends[i].weight.value_or(backend.weight()),
                                     .name = backend.name()});
  }
  while (begun < draft.pools.size()) {
    draft.pools[begun++].first = static_cast<uint32_t>(draft.backends.size());
  }
  return draft;
}

absl::Status Compiler::FinishPool(absl::Span<const Backend> backends, uint32_t table_size,
                                  Pool& pool) {
  std::shared_ptr<const LookupTable>& table = tables_[TableKey(backends, table_size)];
  if (table == nullptr) {
    std::vector<PoolMember> members;
    for (const Backend& b : backends) members.push_back({.name = b.name, .weight = b.weight});
    absl::StatusOr<LookupTable> built = LookupTable::Build(members, table_size, in_.hash_seed);
    if (!built.ok()) return built.status();
    table = std::make_shared<const LookupTable>(*std::move(built));
    ++stats_.tables_built;
  }
  std::vector<Share> shares = SharesOf(backends);
  auto& assignment = assignments_[std::pair(table.get(), shares)];
  if (assignment == nullptr) assignment = table->Assign(shares);
  pool.table = table;
  pool.assignment = assignment;
  pool.table_digest = DigestOf(backends, table->homes());
  pool.assignment_digest = DigestOf(backends, *assignment);
  return absl::OkStatus();
}

uint64_t Compiler::DigestOf(absl::Span<const Backend> pool,
                            absl::Span<const LookupTable::Member> slots) {
  const auto [it, is_new] = digests_.emplace(slots.data(), 0);
  if (is_new) {
    std::vector<absl::string_view> names;
    for (const Backend& b : pool) names.push_back(b.name);
    it->second = PoolDigest(names, slots);
  }
  return it->second;
}

// How many slots each member has.
const std::vector<uint32_t>& Compiler::SlotsByMember(const LookupTable::Assignment& slots,
                                                     size_t members) {
  const auto [it, is_new] = slots_by_member_.try_emplace(slots.data());
  std::vector<uint32_t>& counts = it->second;
  if (is_new) {
    counts.resize(members);
    for (LookupTable::Member m : slots) {
      if (m != LookupTable::kNoMember) ++counts[m];
    }
  }
  return counts;
}

std::vector<double> Compiler::ConnectionShares(const Service& service,
                                               absl::Span<const uint32_t> weights) {
  std::vector<double> shares(service.backends.size());
  switch (service.scheduler) {
    case Scheduler::kMaglev:
    case Scheduler::kGeographic:
      for (size_t i = 0; i < service.pools.size(); ++i) {
        const Pool& pool = service.pools[i];
        const std::vector<uint32_t>& slots =
            SlotsByMember(*pool.assignment, BackendsOf(service, i).size());
        for (size_t m = 0; m < slots.size(); ++m) {
          shares[pool.first + m] = slots[m] / static_cast<double>(pool.table->size());
        }
      }
      break;
    case Scheduler::kRoundRobin:
      for (uint16_t turn : service.turns) ++shares[turn];
      for (double& share : shares) share /= std::max<size_t>(1, service.turns.size());
      break;
    case Scheduler::kRandom:
    case Scheduler::kLeastConnections: {
      const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
      for (size_t i = 0; i < shares.size(); ++i) shares[i] = weights[i] / std::max(1.0, sum);
      break;
    }
  }
  return shares;
}

absl::StatusOr<std::shared_ptr<const Service>> Compiler::Finish(Service draft,
                                                                uint32_t table_size) {
  if (auto it = previous_.find(draft.id); it != previous_.end()) {
    const Service& before = *it->second;
    if (SameSources(draft, before) && before.pools[0].table->size() == table_size) {
      return it->second;
    }
  }
  for (size_t i = 0; i < draft.pools.size(); ++i) {
    const absl::Status status = FinishPool(BackendsOf(draft, i), table_size, draft.pools[i]);
    if (!status.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("service ", draft.name, ": ", status.message()));
    }
  }
  const auto serves = [&](uint16_t pool) {
    return draft.pools[pool].assignment->front() != LookupTable::kNoMember;
  };
  for (uint16_t i = 0; i < draft.pools.size(); ++i) {
    Pool& pool = draft.pools[i];
    pool.stand_in = i;
    for (uint16_t other : pool.fallback) {
      if (serves(pool.stand_in)) break;
      pool.stand_in = other;
    }
  }
  std::vector<uint32_t> weights;
  for (const Backend& b : draft.backends) weights.push_back(b.weight * ShareOf(b));
  if (draft.scheduler == Scheduler::kRoundRobin) draft.turns = TurnsByWeight(weights);
  if (draft.scheduler == Scheduler::kRandom || draft.scheduler == Scheduler::kLeastConnections) {
    draft.picks = WeightedPicks(weights);
  }
  draft.connection_shares = ConnectionShares(draft, weights);
  std::vector<std::pair<absl::string_view, uint64_t>> configured, effective;
  for (const Pool& pool : draft.pools) {
    configured.emplace_back(pool.region, pool.table_digest);
    effective.emplace_back(pool.region, draft.pools[pool.stand_in].assignment_digest);
  }
  draft.configured_digest = TableDigest(configured);
  draft.effective_digest = TableDigest(effective);
  return std::make_shared<const Service>(std::move(draft));
}

absl::StatusOr<std::shared_ptr<const Snapshot>> Compiler::Run() {
  ReadRoutes();
  RememberPrevious();
  CHECK_EQ(in_.services.size(), static_cast<size_t>(config_.services_size()));
  std::vector<std::shared_ptr<const Service>> services;
  services.reserve(in_.services.size());
  for (int i = 0; i < config_.services_size(); ++i) {
    const config::Service& service = config_.services(i);
    const uint32_t table_size =
        UsesTable(service) ? TableSize(service) : FallbackTableSize(service.backends_size());
    auto finished = Finish(Draft(i), table_size);
    if (!finished.ok()) return finished.status();
    services.push_back(*std::move(finished));
  }
  std::vector<IpAddress> own_addresses = in_.own_addresses;
  for (const IpAddress& source : TunnelSources(config_)) own_addresses.push_back(source);
  return std::make_shared<const Snapshot>(
      SnapshotParts{.version = in_.version,
                    .hash_seed = in_.hash_seed,
                    .timeouts = FlowTimeoutsOf(config_),
                    .replies_per_second = config_.dataplane().replies_per_second(),
                    .services = std::move(services),
                    .routes = std::move(routes_),
                    .access = in_.loaded->access,
                    .own_addresses = std::move(own_addresses)});
}

}  // namespace

RouteList StaticRoutes(const config::Config& config, absl::Span<const InterfaceStatus> interfaces) {
  RouteList routes;
  for (const config::Route& route : config.routes()) {
    const std::optional<size_t> index = InterfaceIndex(config, route.interface());
    if (!index || *index >= interfaces.size()) continue;
    const InterfaceStatus& out = interfaces[*index];
    routes.emplace_back(Prefix::Parse(route.prefix()).value(),
                        NextHop{.interface = static_cast<uint16_t>(*index),
                                .mtu = out.mtu,
                                .destination = MacAddress::Parse(route.mac()).value(),
                                .source = out.mac});
  }
  return routes;
}

absl::StatusOr<std::shared_ptr<const Snapshot>> Compile(const CompileInput& input,
                                                        CompileStats* stats) {
  Compiler compiler(input);
  auto snapshot = compiler.Run();
  if (stats != nullptr) *stats = compiler.stats();
  return snapshot;
}

}  // namespace guideway
