#include "maglev/choice.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <set>

#include "absl/strings/str_cat.h"

namespace guideway {
namespace {

constexpr uint64_t kSeed = 42;
constexpr FlowHash kAnyHash = {};
const IpAddress kAnyClient;

IpAddress Address(const std::string& text) { return IpAddress::Parse(text).value(); }

struct Load {
  uint32_t weight = 100;
  Share share = kFullShare;
};

// A service without its tables: backends 0, 1, … with ids 1000, 1001, … as Compile would make it.
Service MakeService(Scheduler scheduler, const std::vector<Load>& loads) {
  Service service;
  service.scheduler = scheduler;
  std::vector<uint32_t> weights;
  for (const Load& load : loads) {
    Backend& backend = service.backends.emplace_back();
    backend.name = absl::StrCat("b", service.backends.size() - 1);
    backend.id = static_cast<BackendId>(1000 + service.backends.size() - 1);
    backend.weight = load.weight;
    backend.share = load.share;
    weights.push_back(load.weight * load.share);
  }
  if (scheduler == Scheduler::kRoundRobin) {
    service.turns = TurnsByWeight(weights);
  } else {
    service.picks = WeightedPicks(weights);
  }
  return service;
}

// Appends a pool with a table of its own; only those in `up` are.
void AddPool(Service& service, const std::vector<std::string>& names,
             const std::set<std::string>& up, uint32_t size = 1021) {
  Pool pool;
  pool.first = static_cast<uint32_t>(service.backends.size());
  pool.stand_in = static_cast<uint16_t>(service.pools.size());
  std::vector<PoolMember> members;
  std::vector<Share> shares;
  for (const std::string& name : names) {
    service.backends.push_back({.name = name});
    members.push_back({name, 100});
    shares.push_back(up.contains(name) ? kFullShare : kDown);
  }
  pool.table =
      std::make_shared<const LookupTable>(LookupTable::Build(members, size, kSeed).value());
  pool.assignment = pool.table->Assign(shares);
  service.pools.push_back(std::move(pool));
}

// Chooses for a connection of which nothing matters but that it opens. -1: nobody.
int Next(
    Chooser& chooser, const Service& service,
    LiveConnections live = [](BackendId) { return uint64_t{0}; }) {
  const Backend* backend = chooser.Choose(service, kAnyClient, kAnyHash, kSeed, live);
  return backend == nullptr ? -1 : static_cast<int>(backend - service.backends.data());
}

std::vector<int> Take(Chooser& chooser, const Service& service, int n) {
  std::vector<int> result;
  for (; n > 0; --n) result.push_back(Next(chooser, service));
  return result;
}

TEST(RoundRobin, VisitsByWeightInOrder) {
  const Service equal = MakeService(Scheduler::kRoundRobin, {{}, {}, {}});
  Chooser chooser(0);
  EXPECT_EQ(Take(chooser, equal, 7), (std::vector{0, 1, 2, 0, 1, 2, 0}));
  const Service mixed = MakeService(Scheduler::kRoundRobin, {{100}, {200}, {0}, {100, kDown}});
  Chooser other(0);
  EXPECT_EQ(Take(other, mixed, 6), (std::vector{1, 0, 1, 1, 0, 1}));
  const Service in_part = MakeService(Scheduler::kRoundRobin, {{100, 5}, {100, 10}});
  Chooser third(0);
  EXPECT_EQ(Take(third, in_part, 6), (std::vector{1, 0, 1, 1, 0, 1}))
      << "half a share, half a turn";
}

TEST(RoundRobin, StartsElsewhereWithAnotherSeed) {
  const Service service = MakeService(Scheduler::kRoundRobin, std::vector<Load>(10));
  std::set<int> first;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    Chooser chooser(seed), same(seed);
    const std::vector<int> turns = Take(chooser, service, 20);
    first.insert(turns[0]);
    for (int i = 1; i < 20; ++i) ASSERT_EQ(turns[i], (turns[i - 1] + 1) % 10);
    EXPECT_EQ(Take(same, service, 20), turns);
  }
  EXPECT_EQ(first.size(), 10u) << "workers with seeds in a row start at turns in a row";
}

TEST(RoundRobin, SurvivesAnotherNumberOfTurns) {
  Service service = MakeService(Scheduler::kRoundRobin, std::vector<Load>(7));
  Chooser chooser(3);
  Take(chooser, service, 100);
  for (size_t n : {1u, 3u, 20u, 2u}) {
    service = MakeService(Scheduler::kRoundRobin, std::vector<Load>(n));
    std::vector<int> turns = Take(chooser, service, static_cast<int>(n));
    std::sort(turns.begin(), turns.end());
    for (size_t i = 0; i < n; ++i) ASSERT_EQ(turns[i], static_cast<int>(i)) << n;
  }
  service = MakeService(Scheduler::kRoundRobin, {{0}});
  EXPECT_EQ(Next(chooser, service), -1);
}

TEST(RoundRobin, HasTurnsOfItsOwnForEachService) {
  Service a = MakeService(Scheduler::kRoundRobin, std::vector<Load>(5)), b = a;
  b.id = kMaxServices - 1;
  Chooser chooser(0);
  for (int i = 0; i < 12; ++i) {
    EXPECT_EQ(Next(chooser, a), i % 5);
    if (i % 2 == 0) {
      EXPECT_EQ(Next(chooser, b), i / 2 % 5);
    }
  }
}

TEST(Random, IsByWeightAndTheSameBySeed) {
  const Service service =
      MakeService(Scheduler::kRandom, {{100}, {300}, {0}, {100, 5}, {100, kDown}});
  Chooser chooser(7), same(7), other(8);
  const std::vector<int> chosen = Take(chooser, service, 45000);
  EXPECT_EQ(Take(same, service, 45000), chosen);
  EXPECT_NE(Take(other, service, 45000), chosen);
  const auto count = [&](int i) { return std::ranges::count(chosen, i); };
  EXPECT_NEAR(count(0), 10000, 500);
  EXPECT_NEAR(count(1), 30000, 500);
  EXPECT_NEAR(count(3), 5000, 400);
  EXPECT_EQ(count(2) + count(4) + count(-1), 0);
  int repeats = 0;  // of independent ones: 1/4.5² + (3/4.5)² + (0.5/4.5)² = 0.506
  for (size_t i = 1; i < chosen.size(); ++i) repeats += chosen[i] == chosen[i - 1];
  EXPECT_NEAR(repeats, 0.506 * 45000, 600);
}

// How many of `n` connections backend 0 gets while the counts stay as they are.
int ShareOfFirst(const Service& service, const std::vector<uint64_t>& live, int n) {
  Chooser chooser(1);
  int first = 0;
  for (int i = 0; i < n; ++i) {
    first += Next(chooser, service, [&](BackendId id) { return live[id - 1000]; }) == 0;
  }
  return first;
}

TEST(LeastConnections, PrefersTheLessLoadedByWeight) {
  const auto service = [](const std::vector<Load>& loads) {
    return MakeService(Scheduler::kLeastConnections, loads);
  };
  // Of two, both are nearly always compared: eight picks miss one with a chance of 2^-7.
  EXPECT_LT(ShareOfFirst(service({{}, {}}), {1000, 0}, 10000), 100);
  EXPECT_GT(ShareOfFirst(service({{}, {}}), {0, 1000}, 10000), 9900);
  EXPECT_LT(ShareOfFirst(service({{}, {}}), {11, 10}, 10000), 100);
  // For their weight: 11/1 against 21/3 and 41/3.
  EXPECT_LT(ShareOfFirst(service({{1}, {3}}), {10, 20}, 10000), 100);
  EXPECT_GT(ShareOfFirst(service({{1}, {3}}), {10, 40}, 10000), 8000);
  // The connection that opens counts: 1/1 against 1/10.
  EXPECT_LT(ShareOfFirst(service({{1}, {10}}), {0, 0}, 10000), 10);
  // Half a share is half the weight: 11/5 against 21/10 and 23/10.
  EXPECT_LT(ShareOfFirst(service({{1, 5}, {1, 10}}), {10, 20}, 10000), 400);
  EXPECT_GT(ShareOfFirst(service({{1, 5}, {1, 10}}), {10, 22}, 10000), 9000);
  // All alike: by chance.
  EXPECT_NEAR(ShareOfFirst(service({{}, {}}), {5, 5}, 10000), 5000, 250);
}

TEST(LeastConnections, PicksAgainUntilThereAreTwoToCompare) {
  const Service service = MakeService(Scheduler::kLeastConnections, {{1}, {1}, {1}, {1}});
  // Backend 0 is loaded. With 8 tries it is chosen only if it is picked 8 times: 4^-8. With one
  // it would be 1/16 of the time.
  EXPECT_LT(ShareOfFirst(service, {1000, 0, 0, 0}, 10000), 10);
}

TEST(LeastConnections, DoesNotHerd) {
  constexpr int kBackends = 100, kStale = 1000, kRefreshes = 100;
  const Service service = MakeService(Scheduler::kLeastConnections, std::vector<Load>(kBackends));
  std::vector<uint64_t> open(kBackends), known(kBackends);
  Chooser chooser(5);
  for (int refresh = 0; refresh < kRefreshes; ++refresh) {
    const std::vector<uint64_t> before = known = open;
    for (int i = 0; i < kStale; ++i) {
      ++open[Next(chooser, service, [&](BackendId id) { return known[id - 1000]; })];
    }
    // 10 each on average. Who sends all to the lowest sends it 1000.
    for (int b = 0; b < kBackends; ++b) ASSERT_LE(open[b] - before[b], 50u);
  }
  // 1000 each on average. By chance alone, the busiest has 80 to 100 more.
  EXPECT_LE(*std::ranges::max_element(open), 1040u);
  EXPECT_GE(*std::ranges::min_element(open), 960u);
}

TEST(LeastConnections, IsInProportionToTheWeights) {
  const Service service = MakeService(Scheduler::kLeastConnections, {{100}, {300}, {600, 5}, {0}});
  std::vector<uint64_t> open(4);
  Chooser chooser(6);
  for (int i = 0; i < 70000; ++i) {
    ++open[Next(chooser, service, [&](BackendId id) { return open[id - 1000]; })];
  }
  EXPECT_NEAR(open[0], 10000, 20);
  EXPECT_NEAR(open[1], 30000, 20);
  EXPECT_NEAR(open[2], 30000, 20);
  EXPECT_EQ(open[3], 0u);
}

TEST(Chooser, HasOneOrNobodyToChoose) {
  for (Scheduler s : {Scheduler::kRoundRobin, Scheduler::kLeastConnections, Scheduler::kRandom}) {
    Chooser chooser(9);
    const Service one = MakeService(s, {{0}, {5}, {5, kDown}});
    EXPECT_EQ(Take(chooser, one, 20), std::vector<int>(20, 1));
    EXPECT_EQ(Next(chooser, MakeService(s, {{0}, {5, kDown}})), -1);
    EXPECT_EQ(Next(chooser, MakeService(s, {})), -1);
  }
  Service none;
  AddPool(none, {"a", "b"}, {});
  Chooser chooser(9);
  for (Scheduler s : {Scheduler::kMaglev, Scheduler::kGeographic}) {
    none.scheduler = s;
    EXPECT_EQ(Next(chooser, none), -1);
  }
}

FlowHash HashOf(const IpAddress& client, uint16_t port) {
  FlowKey key = {};
  std::memcpy(key.source, client.bytes(), 16);
  key.source_port = port;
  key.protocol = 6;
  key.version = client.is_v4() ? 4 : 6;
  return FlowHasher(kSeed).Hash(key);
}

TEST(Hash, IsTheAssignmentsMemberAtTheSlot) {
  Service service;
  AddPool(service, {"a", "b", "c", "d"}, {"a", "c", "d"});
  std::set<std::string> seen;
  Chooser chooser(1);
  for (uint16_t port = 0; port < 1000; ++port) {
    const IpAddress client = Address("192.0.2.1");
    const FlowHash hash = HashOf(client, port);
    const TableSlot found = FindSlot(service, client, hash, kSeed);
    ASSERT_EQ(found.pool, &service.pools[0]);
    ASSERT_EQ(found.slot, SlotOf(hash.slot, 1021));
    const Backend* backend = ChooseByHash(service, client, hash, kSeed);
    ASSERT_EQ(backend, &service.backends[(*service.pools[0].assignment)[found.slot]]);
    ASSERT_EQ(backend,
              chooser.Choose(service, client, hash, kSeed, [](BackendId) { return uint64_t{0}; }));
    seen.insert(backend->name);
  }
  EXPECT_EQ(seen, (std::set<std::string>{"a", "c", "d"}));
}

TEST(Geographic, TakesTheLongestPrefixThenTheDefault) {
  Service service;
  service.scheduler = Scheduler::kGeographic;
  AddPool(service, {"eu-1", "eu-2"}, {"eu-1", "eu-2"});
  AddPool(service, {"us-1", "us-2", "us-3"}, {"us-1", "us-2", "us-3"}, 31);
  AddPool(service, {"else"}, {"else"}, 7);
  const auto prefix = [](const char* text) { return Prefix::Parse(text).value(); };
  service.regions =
      std::make_shared<const PrefixMap>(PrefixMap::Build({{{prefix("10.0.0.0/8"), 0},
                                                           {prefix("10.1.0.0/16"), 1},
                                                           {prefix("10.1.2.0/24"), 0},
                                                           {prefix("2001:db8::/32"), 1}}})
                                            .value());
  service.default_region = 2;
  Chooser chooser(1);
  const auto region = [&](const std::string& client) {
    std::set<std::string> regions;
    for (uint16_t port = 0; port < 100; ++port) {
      const IpAddress from = Address(client);
      const FlowHash hash = HashOf(from, port);
      const Backend* by_hash = ChooseByHash(service, from, hash, kSeed);
      const Backend* chosen =
          chooser.Choose(service, from, hash, kSeed, [](BackendId) { return uint64_t{0}; });
      EXPECT_EQ(by_hash, chosen);
      regions.insert(by_hash == nullptr ? "nobody" : by_hash->name.substr(0, 2));
    }
    EXPECT_EQ(regions.size(), 1u) << client;
    return *regions.begin();
  };
  EXPECT_EQ(region("10.9.9.9"), "eu");
  EXPECT_EQ(region("10.1.9.9"), "us");
  EXPECT_EQ(region("10.1.2.9"), "eu");
  EXPECT_EQ(region("2001:db8::1"), "us");
  EXPECT_EQ(region("2001:db9::1"), "el");
  EXPECT_EQ(region("11.0.0.1"), "el");
  // When eu is down, us serves its clients; whoever stands in for nobody is not looked at.
  service.pools[0].stand_in = 1;
  service.pools[0].assignment = service.pools[0].table->Assign({kDown, kDown});
  EXPECT_EQ(region("10.9.9.9"), "us");
  EXPECT_EQ(region("10.1.2.9"), "us");
  EXPECT_EQ(region("11.0.0.1"), "el");
  service.default_region = 0;
  EXPECT_EQ(region("11.0.0.1"), "us") << "the default's stand-in";
  service.pools[0].stand_in = 0;
  EXPECT_EQ(region("11.0.0.1"), "nobody");
  service.regions = nullptr;
  service.pools[0].stand_in = 2;
  EXPECT_EQ(region("10.1.9.9"), "el") << "without regions, the first pool";
}

// The backends that a client's connections are spread over.
std::set<const Backend*> BackendsOf(const Service& service, const std::string& client) {
  std::set<const Backend*> result;
  for (uint16_t port = 0; port < 50; ++port) {
    const IpAddress from = Address(client);
    result.insert(ChooseByHash(service, from, HashOf(from, port), kSeed));
  }
  return result;
}

Service ServiceWithAffinity(const Affinity& affinity) {
  Service service;
  std::vector<std::string> names;
  for (int i = 0; i < 50; ++i) names.push_back(absl::StrCat("b", i));
  AddPool(service, names, {names.begin(), names.end()});
  service.affinity = affinity;
  return service;
}

TEST(Affinity, ToTheConnectionSpreadsAClientsPorts) {
  const Service service = ServiceWithAffinity({});
  EXPECT_GT(BackendsOf(service, "192.0.2.1").size(), 20u);
  EXPECT_GT(BackendsOf(service, "2001:db8::1").size(), 20u);
}

TEST(Affinity, ToTheClientIsOneBackendForAllPorts) {
  const Service service = ServiceWithAffinity({.to_client = true});
  std::set<const Backend*> of_all;
  for (int i = 0; i < 100; ++i) {
    for (const std::string& client : {absl::StrCat("192.0.2.", i), absl::StrCat("2001:db8::", i)}) {
      const auto backends = BackendsOf(service, client);
      ASSERT_EQ(backends.size(), 1u) << client;
      of_all.insert(*backends.begin());
    }
  }
  EXPECT_GT(of_all.size(), 35u) << "clients are spread";
}

TEST(Affinity, ToThePrefixIsOneBackendForAllOfIt) {
  const Service service =
      ServiceWithAffinity({.to_client = true, .ipv4_bits = 24, .ipv6_bits = 56});
  std::set<const Backend*> v4, v6;
  for (int net = 0; net < 60; ++net) {
    const auto first = BackendsOf(service, absl::StrCat("10.0.", net, ".0"));
    EXPECT_EQ(first.size(), 1u);
    EXPECT_EQ(BackendsOf(service, absl::StrCat("10.0.", net, ".255")), first);
    EXPECT_EQ(BackendsOf(service, absl::StrCat("10.0.", net, ".77")), first);
    v4.insert(*first.begin());
    const std::string prefix = absl::StrCat("2001:db8:", net, ":12");
    const auto first6 = BackendsOf(service, prefix + "00::");
    EXPECT_EQ(first6.size(), 1u);
    EXPECT_EQ(BackendsOf(service, prefix + "ff:ffff:ffff:ffff:ffff"), first6);
    v6.insert(*first6.begin());
  }
  EXPECT_GT(v4.size(), 25u);
  EXPECT_GT(v6.size(), 25u);
  // The last bit of the prefix counts.
  int moved = 0;
  for (int net = 0; net < 20; ++net) {
    moved += BackendsOf(service, absl::StrCat("10.0.", 2 * net, ".0")) !=
             BackendsOf(service, absl::StrCat("10.0.", 2 * net + 1, ".0"));
    moved += BackendsOf(service, absl::StrCat("2001:db8:", net, ":1200::")) !=
             BackendsOf(service, absl::StrCat("2001:db8:", net, ":1300::"));
  }
  EXPECT_GT(moved, 35);
}

TEST(Affinity, FamiliesAreApart) {
  const Service service =
      ServiceWithAffinity({.to_client = true, .ipv4_bits = 24, .ipv6_bits = 24});
  int same = 0;
  for (int i = 0; i < 200; ++i) {
    // The same bytes: 32.1.i.0 and 2001:i00::.
    uint8_t bytes[16] = {0x20, 0x01, static_cast<uint8_t>(i)};
    const auto slot = [&](const IpAddress& client) {
      return FindSlot(service, client, kAnyHash, kSeed).slot;
    };
    same += slot(IpAddress::V4(bytes)) == slot(IpAddress::V6(bytes));
  }
  EXPECT_LE(same, 3) << "of 200, for a table of 1021";
}

TEST(Affinity, DependsOnTheSeed) {
  const Service service = ServiceWithAffinity({.to_client = true});
  int same = 0;
  for (int i = 0; i < 200; ++i) {
    const IpAddress client = Address(absl::StrCat("192.0.2.", i));
    same +=
        FindSlot(service, client, kAnyHash, 1).slot == FindSlot(service, client, kAnyHash, 2).slot;
  }
  EXPECT_LE(same, 3);
}

TEST(HashClient, CountsTheLength) {
  const IpAddress zero = Address("10.0.0.0");
  EXPECT_NE(HashClient(Prefix::Of(zero, 8), kSeed), HashClient(Prefix::Of(zero, 24), kSeed));
}

}  // namespace
}  // namespace guideway
