#include "control/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "control/api/api.pb.h"
#include "control/compile.h"
#include "maglev/flow_hash.h"
#include "tests/support/test_config.h"

namespace guideway {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A configuration in force, its backends numbered from 0 in the order of the file.
struct Side {
  explicit Side(const std::string& text, const std::string& down = "",
                std::map<std::string, std::string> named = {})
      : loaded(std::make_shared<const LoadedConfig>(LoadText(text, named))),
        files(std::move(named)) {
    CompileInput input;
    input.loaded = loaded;
    input.hash_seed = loaded->config.fleet().hash_seed();
    BackendId id = 0;
    for (const config::Service& service : loaded->config.services()) {
      ServiceFacts& facts = input.services.emplace_back();
      facts.id = static_cast<ServiceId>(input.services.size() - 1);
      for (const config::Backend& backend : service.backends()) {
        facts.backends.push_back(
            {id++, backend.name() == down ? BackendState::kDown : BackendState::kUp});
      }
    }
    snapshot = Compile(input).value();
  }

  PlanSide side() const { return {&loaded->config, snapshot.get(), &files, "test.yaml"}; }

  std::shared_ptr<const LoadedConfig> loaded;
  std::map<std::string, std::string> files;
  std::shared_ptr<const Snapshot> snapshot;
};

api::Plan PlanOf(const Side& before, const Side& after,
                 const std::map<BackendId, uint64_t>& open = {}) {
  return MakePlan(before.side(), after.side(), [&](BackendId id) {
    const auto found = open.find(id);
    return found == open.end() ? uint64_t{0} : found->second;
  });
}

std::string Web(const std::string& backends, const std::string& more = "") {
  return ConfigText(ServiceText("web", 1, backends, more));
}

constexpr char kA[] = "{ name: a, address: 10.0.0.1 }";
constexpr char kAb[] = "{ name: a, address: 10.0.0.1 }, { name: b, address: 10.0.0.2 }";
constexpr char kAbc[] =
    "{ name: a, address: 10.0.0.1 }, { name: b, address: 10.0.0.2 }, { name: c, address: 10.0.0.3 "
    "}";

TEST(Plan, OfTheSameFileChangesNothing) {
  const api::Plan plan = PlanOf(Side(Web(kAb)), Side(Web(kAb)));
  EXPECT_FALSE(plan.changes());
  EXPECT_EQ(plan.settings_size(), 0);
  ASSERT_EQ(plan.services_size(), 1);
  EXPECT_EQ(plan.services(0).change(), "unchanged");
  EXPECT_EQ(plan.services(0).moved(), 0);
}

// Home slots stay in the table while their backend takes no connections, so its weight counts
// there.
TEST(Plan, TheWeightOfWhoTakesNothingMovesOthers) {
  const auto with = [](int weight, const char* down) {
    return Side(Web(absl::StrCat(kAb, ", { name: c, address: 10.0.0.3, weight: ", weight, " }")),
                down);
  };
  const api::Plan plan = PlanOf(with(100, "c"), with(50, "c"));
  EXPECT_GT(plan.moved(), 0.02);
  ASSERT_EQ(plan.services(0).notes_size(), 1);
  EXPECT_THAT(plan.services(0).notes(0), HasSubstr("c takes no new connections, but its weight"));
  EXPECT_EQ(PlanOf(with(100, ""), with(50, "")).services(0).notes_size(), 0);
}

// A backend of three that goes takes its third along and moves nobody else; one that comes takes
// from the others what it is due.
TEST(Plan, MovesWhatHasToMove) {
  const api::Plan gone = PlanOf(Side(Web(kAbc)), Side(Web(kAb)), {{2, 17}});
  const api::ServicePlan& web = gone.services(0);
  EXPECT_TRUE(gone.changes());
  EXPECT_EQ(web.change(), "changed");
  ASSERT_EQ(web.backends_size(), 1);
  EXPECT_EQ(web.backends(0).name(), "c");
  EXPECT_EQ(web.backends(0).change(), "removed");
  EXPECT_EQ(web.backends(0).open_connections(), 17u);
  EXPECT_EQ(gone.open_connections(), 17u);
  EXPECT_NEAR(web.moved_necessary(), 1.0 / 3, 0.01);
  EXPECT_GE(web.moved(), web.moved_necessary());
  EXPECT_LT(web.moved(), 0.5);

  const api::Plan back = PlanOf(Side(Web(kAb)), Side(Web(kAbc)));
  EXPECT_EQ(back.services(0).backends(0).change(), "added");
  EXPECT_NEAR(back.services(0).moved_necessary(), 1.0 / 3, 0.01);
  EXPECT_EQ(back.moved(), back.services(0).moved());
  EXPECT_EQ(back.open_connections(), 0u);
}

// Against a count over many hashes, one at a time, for tables of different sizes.
TEST(Plan, CountsWhatMovesAsPacketsDo) {
  for (const auto& [size, backends] :
       {std::pair("1009", kAbc), {"1009", kAb}, {"4001", kAb}, {"101", kAbc}, {"4001", kA}}) {
    const Side before(Web(kAbc));
    const Side after(absl::StrReplaceAll(
        Web(backends), {{"table_size: 1009", absl::StrCat("table_size: ", size)}}));
    const double told = PlanOf(before, after).services(0).moved();
    const auto chosen = [](const Side& side, uint64_t hash) {
      const Pool& pool = side.snapshot->services()[0]->pools[0];
      const uint32_t slot = SlotOf(hash, pool.table->size());
      return side.snapshot->services()[0]->backends[(*pool.assignment)[slot]].name;
    };
    constexpr uint64_t kHashes = 200000;
    uint64_t moved = 0;
    for (uint64_t i = 0; i < kHashes; ++i) {
      const uint64_t hash = (~uint64_t{0} / kHashes) * i;
      moved += chosen(before, hash) != chosen(after, hash);
    }
    EXPECT_NEAR(told, static_cast<double>(moved) / kHashes, 0.002) << size << " " << backends;
  }
}

TEST(Plan, SaysWhenAboutEverythingMoves) {
  const std::string seed = absl::StrReplaceAll(Web(kAb), {{"hash_seed: 7", "hash_seed: 8"}});
  const api::Plan other = PlanOf(Side(Web(kAb)), Side(seed));
  EXPECT_TRUE(other.changes());
  EXPECT_NEAR(other.services(0).moved(), 0.5, 0.01) << "of two, half stay by chance";
  EXPECT_NEAR(other.services(0).moved_necessary(), 0, 0.01);
  EXPECT_THAT(other.notes(), ElementsAre(HasSubstr("another hash seed: about everything moves")));
  EXPECT_THAT(other.needs_restart(), ElementsAre("fleet.hash_seed"));

  const std::string size =
      absl::StrReplaceAll(Web(kAb), {{"table_size: 1009", "table_size: 2003"}});
  EXPECT_THAT(PlanOf(Side(Web(kAb)), Side(size)).services(0).notes(),
              ElementsAre(HasSubstr("another table size (1009, now 2003): about everything")));
  EXPECT_THAT(PlanOf(Side(Web(kAb)), Side(Web(kAb, "affinity: client"))).services(0).notes(),
              ElementsAre(HasSubstr("another affinity")));
}

TEST(Plan, AnotherAddressIsAnotherBackend) {
  const api::Plan plan =
      PlanOf(Side(Web(kAb)),
             Side(Web("{ name: a, address: 10.0.0.1 }, { name: b, address: 10.0.0.9 }")), {{1, 5}});
  const api::BackendPlan& b = plan.services(0).backends(0);
  EXPECT_EQ(b.change(), "changed");
  ASSERT_EQ(b.settings_size(), 1);
  EXPECT_EQ(b.settings(0).key(), "address");
  EXPECT_EQ(b.settings(0).from(), "10.0.0.2");
  EXPECT_EQ(b.settings(0).to(), "10.0.0.9");
  EXPECT_EQ(b.open_connections(), 5u);
  EXPECT_NEAR(plan.moved(), 0.5, 0.01);
}

TEST(Plan, ServicesComeAndGo) {
  const std::string one = ServiceText("web", 1, kAb), two = ServiceText("mail", 2, kA);
  const api::Plan plan = PlanOf(Side(ConfigText(one)), Side(ConfigText(two)), {{0, 3}, {1, 4}});
  ASSERT_EQ(plan.services_size(), 2);
  EXPECT_EQ(plan.services(0).name(), "mail");
  EXPECT_EQ(plan.services(0).change(), "added");
  EXPECT_EQ(plan.services(1).name(), "web");
  EXPECT_EQ(plan.services(1).change(), "removed");
  EXPECT_EQ(plan.services(1).open_connections(), 7u);
}

TEST(Plan, SettingsAreToldAsTheFileHasThem) {
  const api::Plan plan =
      PlanOf(Side(Web(kA, "health_check: { tcp: {}, interval: 1s }")),
             Side(Web("{ name: a, address: 10.0.0.1, weight: 50 }",
                      "slow_start: 20s, health_check: { http: { path: /x }, interval: 1500ms }")));
  std::map<std::string, std::pair<std::string, std::string>> settings;
  for (const api::Change& c : plan.services(0).settings()) settings[c.key()] = {c.from(), c.to()};
  EXPECT_EQ(settings["health_check.interval"], std::pair(std::string("1s"), std::string("1500ms")));
  EXPECT_EQ(settings["health_check.http.path"].second, "/x");
  EXPECT_EQ(settings["slow_start"], std::pair(std::string("0s"), std::string("20s")));
  EXPECT_EQ(plan.services(0).backends(0).settings(0).key(), "weight");
  EXPECT_EQ(plan.services(0).moved(), 0) << "alone it has everything, whatever its weight";
}

TEST(Plan, SchedulersThatAreNoHashMoveByShare) {
  const std::string weights =
      "{ name: a, address: 10.0.0.1, weight: 300 }, { name: b, address: 10.0.0.2 }";
  const auto service = [](const std::string& backends) {
    return ConfigText(
        "  - { name: web, vips: [198.51.100.1], protocol: tcp, ports: [80], "
        "forwarding: ipip, scheduler: round_robin, backends: [" +
        backends + "] }\n");
  };
  const api::Plan plan = PlanOf(Side(service(kAb)), Side(service(weights)));
  EXPECT_NEAR(plan.services(0).moved(), 0.25, 1e-9);
  EXPECT_NEAR(plan.services(0).moved_necessary(), 0.25, 1e-9);
}

// What was served by nobody moves nowhere.
TEST(Plan, WhoHasNobodyDoesNotMove) {
  EXPECT_EQ(PlanOf(Side(Web(kA), "a"), Side(Web(kAb))).moved(), 0);
  EXPECT_EQ(PlanOf(Side(Web(kA)), Side(Web(kA), "a")).moved(), 1);
}

TEST(Plan, WhatIsTakenOutOfAServiceThatStaysMoves) {
  const auto side = [](const std::string& vips, const std::string& ports,
                       const std::string& protocol = "tcp") {
    return Side(absl::StrReplaceAll(
        Web(kA), {{"[198.51.100.1]", vips},
                  {"protocol: tcp, ports: [80]", absl::StrCat("protocol: ", protocol, ports)}}));
  };
  const Side before = side("[198.51.100.1, 198.51.100.64/28]", ", ports: [80, 8000-8009]");
  const struct {
    Side after;
    double moved;
  } rows[] = {
      {side("[198.51.100.1, 198.51.100.64/28]", ", ports: [80, 8000-8009]"), 0},
      {side("[198.51.100.64/28, 198.51.100.0/26]", ", ports: [1-9999]"), 0},
      {side("[198.51.100.1, 198.51.100.64/28]", "", "any"), 0},
      {side("[198.51.100.1]", ", ports: [80, 8000-8009]"), 0.5},
      {side("[198.51.100.1, 198.51.100.64/29]", ", ports: [80, 8000-8009]"), 0.25},
      {side("[198.51.100.1, 198.51.100.64/28]", ", ports: [80, 8000-8004]"), 0.25},
      {side("[198.51.100.1]", ", ports: [80]"), 0.75},
      {side("[198.51.100.1, 198.51.100.64/28]", ", ports: [80, 8000-8009]", "udp"), 1},
      {side("[198.51.100.99]", ", ports: [80]"), 1},
  };
  for (const auto& row : rows) {
    const api::Plan plan = PlanOf(before, row.after);
    const api::ServicePlan& web = plan.services(0);
    EXPECT_NEAR(web.moved(), row.moved, 1e-9) << &row - rows;
    EXPECT_NEAR(web.moved_necessary(), row.moved, 1e-9) << &row - rows;
    EXPECT_NEAR(web.not_served(), row.moved, 1e-9) << &row - rows;
    EXPECT_EQ(web.notes_size(), row.moved > 0 ? 1 : 0) << &row - rows;
  }
  // With backends that go: half of what is left.
  const Side two(Web("{ name: a, address: 10.0.0.1 }, { name: b, address: 10.0.0.2 }"));
  const Side less(absl::StrReplaceAll(Web(kA), {{"ports: [80]", "ports: [81]"}}));
  EXPECT_EQ(PlanOf(two, less).moved(), 1);
}

// --- Other servers -------------------------------------------------------------------------------

std::string Nat(const std::string& ports, const std::string& backends) {
  return ConfigText(absl::StrCat("  - { name: web, vips: [198.51.100.1], protocol: tcp, ports: [",
                                 ports, "], forwarding: nat, table_size: 1009, backends: [",
                                 backends, "] }\n"));
}

TEST(Plan, WithNatAnotherPortIsAnotherServer) {
  const std::string b = ", { name: b, address: 10.0.0.2 }";
  const struct {
    const char *ports_before, *before, *ports_after, *after;
    bool is_another;
  } rows[] = {
      {"80", ", port: 8080", "80", ", port: 8081", true},
      {"80", ", port: 8080", "80", ", port: 8080, weight: 100", false},
      {"80", "", "80", ", port: 80", false},  // it was that already
      {"80", ", port: 80", "80", "", false},
      {"80", "", "80, 443", "", false},
      {"80", "", "80", ", port: 8080", true},
      {"80", ", port: 8080", "80", "", true},
  };
  for (const auto& row : rows) {
    const auto backends = [&](const char* port) {
      return absl::StrCat("{ name: a, address: 10.0.0.1", port, " }", b);
    };
    const api::Plan plan = PlanOf(Side(Nat(row.ports_before, backends(row.before))),
                                  Side(Nat(row.ports_after, backends(row.after))), {{0, 5}});
    EXPECT_NEAR(plan.moved(), row.is_another ? 0.5 : 0, 0.01) << &row - rows;
    EXPECT_NEAR(plan.services(0).moved_necessary(), row.is_another ? 0.5 : 0, 0.01) << &row - rows;
    EXPECT_EQ(plan.open_connections(), row.is_another ? 5u : 0u) << &row - rows;
  }
}

// A tunnel brings packets to the VIP, nat to the backend's own address: no connection goes on.
TEST(Plan, ToNatAndFromItNoConnectionGoesOn) {
  const std::string other = "{ name: a, address: 10.0.0.1 }, { name: b, address: 10.0.0.2 }";
  const Side nat(Nat("80", other));
  const std::map<BackendId, uint64_t> open = {{0, 5}, {1, 6}};
  for (const auto& plan :
       {PlanOf(Side(Web(other)), nat, open), PlanOf(nat, Side(Web(other)), open)}) {
    EXPECT_EQ(plan.moved(), 1);
    EXPECT_EQ(plan.open_connections(), 11u);
    EXPECT_EQ(plan.services(0).backends_size(), 2);
  }
  const Side gre(absl::StrReplaceAll(Web(other), {{"forwarding: ipip", "forwarding: gre"}}));
  EXPECT_EQ(PlanOf(Side(Web(other)), gre, open).moved(), 0) << "from tunnel to tunnel all do";
  EXPECT_EQ(PlanOf(Side(Web(other)), gre, open).open_connections(), 0u);
}

// --- VIPs ----------------------------------------------------------------------------------------

TEST(Plan, WhatIsTakenOutCutsOpenConnections) {
  const Side before(Web(kAb));
  const auto with = [](const char* from, const char* to) {
    return Side(absl::StrReplaceAll(Web(kAb), {{from, to}}));
  };
  const std::map<BackendId, uint64_t> open = {{0, 5}, {1, 6}};
  const api::Plan all = PlanOf(before, with("ports: [80]", "ports: [81]"), open);
  EXPECT_EQ(all.moved(), 1);
  EXPECT_EQ(all.open_connections(), 11u);
  const Side two = with("ports: [80]", "ports: [80, 81]");
  const api::Plan half = PlanOf(two, before, open);
  EXPECT_NEAR(half.moved(), 0.5, 1e-9);
  EXPECT_EQ(half.open_connections(), 0u);
  EXPECT_THAT(half.services(0).notes(),
              ElementsAre(HasSubstr("of its 11 open connections those to them are cut, how many "
                                    "cannot be told")));
}

// The longest prefix wins: a new service takes from another, in whose part of the file nothing is
// changed.
TEST(Plan, ALongerPrefixOfAnotherServiceTakesFromThisOne) {
  const std::string wide =
      absl::StrReplaceAll(ServiceText("wide", 1, kA), {{"[198.51.100.1]", "[198.51.100.0/28]"}});
  const std::string nested =
      absl::StrReplaceAll(ServiceText("nested", 1, kA), {{"[198.51.100.1]", "[198.51.100.4/30]"}});
  const api::Plan comes = PlanOf(Side(ConfigText(wide)), Side(ConfigText(wide + nested)), {{0, 7}});
  EXPECT_EQ(comes.services(0).change(), "changed");
  EXPECT_NEAR(comes.services(0).moved(), 0.25, 1e-9);
  EXPECT_THAT(comes.services(0).notes(), ElementsAre(HasSubstr("of its 7 open connections")));
  const api::Plan goes = PlanOf(Side(ConfigText(wide + nested)), Side(ConfigText(wide)));
  EXPECT_EQ(goes.services(0).change(), "unchanged") << "it has what it had, and more";
  const std::string port = absl::StrReplaceAll(nested, {{"[80]", "[8080]"}});
  EXPECT_NEAR(PlanOf(Side(ConfigText(wide)), Side(ConfigText(wide + port))).moved(), 0.25, 1e-9)
      << "what only a shorter prefix serves is not served";
}

// --- Regions -------------------------------------------------------------------------------------

std::string Geo(const std::string& default_region, const std::string& eu, const std::string& us,
                const std::string& backends =
                    "{ name: a, address: 10.0.0.1, region: eu }, "
                    "{ name: b, address: 10.0.0.2, region: us }") {
  return Web(backends, absl::StrCat("scheduler: geographic, default_region: ", default_region,
                                    ", regions: [{ name: eu, prefixes: [", eu,
                                    "] }, { name: us, prefixes: [", us, "] }]"));
}

TEST(Plan, ClientsWhoChangeTheirRegionMove) {
  const Side before(Geo("eu", "192.0.2.0/25", "192.0.2.128/25"));
  EXPECT_FALSE(PlanOf(before, Side(Geo("eu", "192.0.2.0/25", "192.0.2.128/25"))).changes());
  const api::Plan same =
      PlanOf(before, Side(Geo("eu", "192.0.2.0/26, 192.0.2.64/26", "192.0.2.128/25")));
  EXPECT_TRUE(same.changes());
  EXPECT_EQ(same.services(0).moved_at_most(), 0) << "written in another way";

  for (const Side& after : {Side(Geo("us", "192.0.2.0/25", "192.0.2.128/25")),
                            Side(Geo("eu", "192.0.2.0/25", "192.0.2.128/25, 192.0.2.7")),
                            Side(Geo("eu", "192.0.2.0/25", "192.0.2.128/25, 203.0.113.0/24"))}) {
    const api::ServicePlan geo = PlanOf(before, after).services(0);
    EXPECT_NEAR(geo.moved(), 1.0 / 3, 1e-9) << "from eu to us; of those who are in both, none";
    EXPECT_EQ(geo.moved_at_most(), 1);
    EXPECT_THAT(geo.notes(), ElementsAre(HasSubstr("from eu to us"), HasSubstr("cannot be told")));
  }
  // Nobody is outside of these: the default is nobody's.
  const char *low = "0.0.0.0/1, \"::/1\"", *high = "128.0.0.0/1, \"8000::/1\"";
  EXPECT_EQ(
      PlanOf(Side(Geo("eu", low, high)), Side(Geo("us", low, high))).services(0).moved_at_most(),
      0);
}

TEST(Plan, OfRegionsTheWorstIsWhatMayMove) {
  const std::string three =
      "{ name: a, address: 10.0.0.1, region: eu }, "
      "{ name: b, address: 10.0.0.2, region: us }, "
      "{ name: c, address: 10.0.0.3, region: us }";
  const api::ServicePlan geo = PlanOf(Side(Geo("eu", "192.0.2.0/25", "192.0.2.128/25")),
                                      Side(Geo("eu", "192.0.2.0/25", "192.0.2.128/25", three)))
                                   .services(0);
  EXPECT_NEAR(geo.moved_at_most(), 0.5, 0.01);
  EXPECT_NEAR(geo.moved(), 0.25, 0.01);
  const api::ServicePlan web = PlanOf(Side(Web(kAbc)), Side(Web(kAb))).services(0);
  EXPECT_EQ(web.moved_at_most(), web.moved());
}

// --- Files that are named ------------------------------------------------------------------------

std::string WithAccess(const std::string& access) {
  return absl::StrCat(Web(kA), "access: { ", access, " }\n");
}

TEST(Plan, ListsOfPrefixesCountByWhatTheyMean) {
  const std::string text = WithAccess("deny_files: [deny.txt], allow_files: [allow.txt]");
  const auto side = [&](const std::string& deny, const std::string& allow) {
    return Side(text, "", {{"deny.txt", deny}, {"allow.txt", allow}});
  };
  const Side before = side("192.0.2.0/24\n198.18.0.0/15\n", "198.18.7.7\n");
  EXPECT_FALSE(
      PlanOf(before, side("# none\n198.18.0.0/15\n192.0.2.0/24", "198.18.7.7/32")).changes())
      << "another order, and a comment";

  const api::Plan more = PlanOf(before, side("10.0.0.0/8\n2001:db8::/32\n198.18.0.0/15\n", ""));
  EXPECT_TRUE(more.changes());
  ASSERT_EQ(more.settings_size(), 2);
  EXPECT_EQ(more.settings(0).key(), "access.allow_files[allow.txt]");
  EXPECT_EQ(more.settings(0).contents(), "1 prefix removed");
  EXPECT_EQ(more.settings(1).key(), "access.deny_files[deny.txt]");
  EXPECT_EQ(more.settings(1).contents(), "2 prefixes added, 1 removed");
  EXPECT_EQ(more.settings(1).prefixes_added(), 2u);
  EXPECT_EQ(more.settings(1).prefixes_removed(), 1u);
  // 10/8, and the address that was allowed.
  EXPECT_NEAR(more.newly_denied_ipv4(), std::ldexp(1, -8) + std::ldexp(1, -32), 1e-15);
  EXPECT_NEAR(more.newly_denied_ipv6(), std::ldexp(1, -32), 1e-20);
  EXPECT_THAT(more.notes(),
              ElementsAre(HasSubstr("16777217 of all IPv4 addresses are denied that were not"),
                          HasSubstr("256 of all IPv4 addresses are not denied any longer"),
                          HasSubstr("of all IPv6 addresses are denied that were not")));

  const api::Plan covered =
      PlanOf(before, side("192.0.2.0/24\n198.18.0.0/15\n192.0.2.1\n", "198.18.7.7\n"));
  EXPECT_TRUE(covered.changes());
  EXPECT_EQ(covered.newly_denied_ipv4(), 0) << "it was denied already";
}

TEST(Plan, AccessInTheFileItselfAndFilesThatComeAndGo) {
  const api::Plan all = PlanOf(Side(Web(kA)), Side(WithAccess("deny: [0.0.0.0/0]")));
  EXPECT_EQ(all.newly_denied_ipv4(), 1);
  EXPECT_EQ(all.newly_denied_ipv6(), 0);
  const api::Plan comes = PlanOf(
      Side(Web(kA)), Side(WithAccess("deny_files: [d.txt]"), "", {{"d.txt", "0.0.0.0/1\n"}}));
  EXPECT_NEAR(comes.newly_denied_ipv4(), 0.5, 1e-12);
  std::vector<std::string> told;
  for (const api::Change& c : comes.settings()) told.push_back(c.key() + ": " + c.contents());
  EXPECT_THAT(told, testing::Contains("access.deny_files[d.txt]: 1 prefix added"));
  // From a file into the other: nobody is told anything but the files.
  const api::Plan other =
      PlanOf(Side(WithAccess("deny_files: [d.txt]"), "", {{"d.txt", "10.0.0.0/8"}}),
             Side(WithAccess("deny: [10.0.0.0/8]")));
  EXPECT_TRUE(other.changes());
  EXPECT_EQ(other.newly_denied_ipv4(), 0);
  EXPECT_EQ(other.notes_size(), 0);
}

TEST(Plan, OfKeysOnlyThatTheyAreOthers) {
  const std::string text = ConfigText(
      "  - { name: h3, vips: [198.51.100.1], protocol: udp, ports: [443], forwarding: ipip, "
      "table_size: 1009, quic: { configs: [{ id: 0, server_id_length: 2, nonce_length: 6, "
      "key_file: k }] }, backends: [{ name: a, address: 10.0.0.1, quic_server_id: \"0001\" }] }\n");
  const auto side = [&](const std::string& key) { return Side(text, "", {{"k", key}}); };
  const std::string key = "0123456789abcdef0123456789abcdef";
  EXPECT_FALSE(PlanOf(side(key), side("0123456789ABCDEF0123456789ABCDEF\n")).changes());
  const api::Plan plan = PlanOf(side(key), side("f123456789abcdef0123456789abcdef"));
  EXPECT_TRUE(plan.changes());
  ASSERT_EQ(plan.services(0).settings_size(), 1);
  EXPECT_EQ(plan.services(0).settings(0).key(), "quic.configs[1].key_file");
  EXPECT_EQ(plan.services(0).settings(0).contents(), "another key");
  EXPECT_THAT(plan.services(0).notes(), ElementsAre(HasSubstr("another QUIC key")));
  EXPECT_THAT(plan.DebugString(), testing::Not(HasSubstr("123456789")));
}

TEST(Plan, ASeedIsNotBlamedOnAnybodysHand) {
  const std::string text =
      Web(kAb) + absl::StrReplaceAll(ServiceText("turns", 2, kAb),
                                     {{"table_size: 1009", "scheduler: round_robin"}});
  const api::Plan plan =
      PlanOf(Side(text), Side(absl::StrReplaceAll(text, {{"hash_seed: 7", "hash_seed: 8"}})));
  EXPECT_THAT(plan.services(0).notes(), ElementsAre(HasSubstr("another hash seed")));
  EXPECT_EQ(plan.services(1).change(), "unchanged");
  EXPECT_EQ(plan.services(1).notes_size(), 0);
}

}  // namespace
}  // namespace guideway
