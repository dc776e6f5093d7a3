#include "control/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <memory>
#include <string>

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
  explicit Side(const std::string& text, const std::string& down = "")
      : loaded(std::make_shared<const LoadedConfig>(LoadText(text))) {
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

  std::shared_ptr<const LoadedConfig> loaded;
  std::shared_ptr<const Snapshot> snapshot;
};

api::Plan PlanOf(const Side& before, const Side& after,
                 const std::map<BackendId, uint64_t>& open = {}) {
  return MakePlan({&before.loaded->config, before.snapshot.get()},
                  {&after.loaded->config, after.snapshot.get()}, [&](BackendId id) {
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

}  // namespace
}  // namespace guideway
