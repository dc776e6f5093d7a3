// `guideway table` as people call it, and the figures it shows.
#include <gmock/gmock.h>
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "tests/support/program.h"
#include "tests/support/test_config.h"
#include "tools/table_report.h"

namespace guideway {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

using Figures = std::map<std::string, double>;

class TableTest : public testing::Test {
 protected:
  TableTest() {
    std::string name = std::filesystem::temp_directory_path().string() + "/guideway.XXXXXX";
    directory_ = mkdtemp(name.data());
  }
  ~TableTest() override { std::filesystem::remove_all(directory_); }

  std::string WriteFile(const std::string& text) {
    std::string path = directory_ + "/guideway.yaml";
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }

  Result Run(const std::string& arguments) { return RunGuideway(directory_, arguments); }

  // The numbers of `table ARGUMENTS -o json`.
  Figures Table(const std::string& arguments, int exit_status = 0) {
    const Result result = Run(absl::StrCat("table ", arguments, " -o json"));
    EXPECT_EQ(result.exit_status, exit_status) << arguments << "\n" << result.err;
    google::protobuf::Struct object;
    EXPECT_TRUE(google::protobuf::util::JsonStringToMessage(result.out, &object).ok())
        << result.out;
    Figures figures;
    for (const auto& [name, value] : object.fields()) {
      EXPECT_TRUE(value.has_number_value()) << name;
      figures[name] = value.number_value();
    }
    return figures;
  }

  std::string directory_;
};

TEST(TableReport, ASpreadIsOfThoseThatAreLive) {
  const std::vector<PoolMember> pool = {{"a", 100}, {"b", 300}, {"idle", 0}, {"down", 100}};
  const std::vector<Share> shares = {kFullShare, kFullShare, kFullShare, kDown};
  const std::vector<LookupTable::Member> slots = {0, 0, 1, 1, 1, 1, 1, 1};
  Spread spread = SpreadOf(pool, shares, slots);
  EXPECT_EQ(spread.live, 2u);
  EXPECT_EQ(spread.slots_min, 2u);
  EXPECT_EQ(spread.slots_max, 6u);
  EXPECT_DOUBLE_EQ(spread.over_provision, 0);
  spread = SpreadOf(pool, shares, std::vector<LookupTable::Member>{0, 0, 0, 1, 1, 1, 1, 1});
  EXPECT_DOUBLE_EQ(spread.over_provision, 0.5) << "a has 3 and its share is 2";

  const std::vector<LookupTable::Member> nobody(8, LookupTable::kNoMember);
  spread = SpreadOf(pool, std::vector<Share>(4, kDown), nobody);
  EXPECT_EQ(spread.live, 0u);
  EXPECT_EQ(spread.slots_min, 0u);
  EXPECT_EQ(spread.over_provision, 0);
}

// What the table never does has to be counted all the same.
TEST(TableReport, AMoveWithoutNeedIsCollateral) {
  constexpr LookupTable::Member kNobody = LookupTable::kNoMember;
  const std::vector<Share> all = {kFullShare, kFullShare, kFullShare};
  const std::vector<Share> without_0 = {kDown, kFullShare, kFullShare};
  const std::vector<LookupTable::Member> before = {0, 0, 1, 1, 2, 2}, after = {1, 2, 1, 2, 1, 2};
  const Moves failure = MovesBetween({all, before}, {without_0, after});
  EXPECT_EQ(failure.necessary, 2u);
  EXPECT_EQ(failure.collateral, 2u);
  const Moves back = MovesBetween({without_0, after}, {all, before});
  EXPECT_EQ(back.necessary, 2u);
  EXPECT_EQ(back.collateral, 2u);
  const std::vector<LookupTable::Member> none(6, kNobody);
  const std::vector<Share> all_down(3, kDown);
  EXPECT_EQ(MovesBetween({all, before}, {all_down, none}).necessary, 6u);
  EXPECT_EQ(MovesBetween({all_down, none}, {all, before}).necessary, 6u);
  EXPECT_EQ(MovesBetween({all_down, none}, {all, before}).collateral, 0u);
}

TEST_F(TableTest, TheObjectHasTheFieldsThatArePromised) {
  const Figures figures = Table("--backends 10 --size 1021 --was-down 1 --down 3");
  std::vector<std::string> names;
  for (const auto& [name, value] : figures) names.push_back(name);
  EXPECT_THAT(names, ElementsAre("backends", "build_us", "down", "drained", "live", "moved",
                                 "moved_collateral", "moved_necessary", "over_provision",
                                 "repair_us", "size", "slots_max", "slots_min"));
  EXPECT_THAT(Run("table --backends 10 --size 1021 -o yaml").out,
              AllOf(StartsWith("size: 1021\nbackends: 10\n"), HasSubstr("\nslots_min: 102\n")));
}

// Changes only on purpose: who is down is the same on every machine.
TEST_F(TableTest, AMadeUpPoolIsFixed) {
  const std::string pool = "--backends 10 --size 1021 --weights 3 --down 3";
  const auto slots = [&](const std::string& arguments) {
    Figures figures = Table(arguments);
    return std::vector<double>{figures["slots_min"], figures["slots_max"], figures["moved"]};
  };
  EXPECT_THAT(slots(pool), ElementsAre(71, 220, 269));
  EXPECT_EQ(slots(pool + " --seed 11400714819323198485"), slots(pool)) << "the schema's default";
  EXPECT_NE(slots(pool + " --seed 2"), slots(pool));
}

TEST_F(TableTest, EvennessHolds) {
  struct {
    int down;
    double over_provision;
  } rows[] = {{0, 0.01}, {1, 0.05}, {10, 0.08}, {50, 0.14}};
  for (const auto& row : rows) {
    Figures figures = Table(absl::StrCat("--backends 1000 --size 65537 --down ", row.down));
    EXPECT_EQ(figures["size"], 65537);
    EXPECT_EQ(figures["backends"], 1000);
    EXPECT_EQ(figures["down"], row.down);
    EXPECT_EQ(figures["live"], 1000 - row.down);
    EXPECT_LE(figures["over_provision"], row.over_provision) << row.down << " down";
    EXPECT_NEAR(figures["over_provision"], figures["slots_max"] * (1000 - row.down) / 65537 - 1,
                1e-6);
    EXPECT_GE(figures["moved"], 65 * row.down);
    EXPECT_LE(figures["moved"], 66 * row.down);
    EXPECT_EQ(figures["moved_collateral"], 0);
    if (row.down == 0) {
      EXPECT_EQ(figures["slots_min"], 65);
      EXPECT_EQ(figures["slots_max"], 66);
    }
  }
}

TEST_F(TableTest, WeightsInTurn) {
  Figures figures = Table("--backends 100 --size 65537 --weights 4");
  // 25 each of the weights 1 to 4.
  EXPECT_EQ(figures["slots_min"], 262);
  EXPECT_EQ(figures["slots_max"], 1049);
  EXPECT_LT(figures["over_provision"], 1.0 / 262);
  figures = Table("--backends 100 --size 65537 --weights 1");
  EXPECT_EQ(figures["slots_min"], 655);
  EXPECT_EQ(figures["slots_max"], 656);
}

// The first J of the choice were down, the first K are: what differs is what moves.
TEST_F(TableTest, MadeUpSequences) {
  std::mt19937 random(1);
  for (int round = 0; round < 20; ++round) {
    const int n = 2 + static_cast<int>(random() % 60);
    const int was = static_cast<int>(random() % (n + 1)), is = static_cast<int>(random() % n);
    const std::string arguments =
        absl::StrFormat("--backends %d --size 4093 --weights %d --seed %d --was-down %d --down %d",
                        n, 1 + random() % 9, random() % 1000, was, is);
    Figures figures = Table(arguments);
    EXPECT_EQ(figures["moved_collateral"], 0) << arguments;
    EXPECT_EQ(figures["moved_necessary"], figures["moved"]) << arguments;
    EXPECT_EQ(figures["moved"] == 0, was == is) << arguments;
  }
  // There and back.
  EXPECT_EQ(Table("--backends 100 --size 4093 --down 7")["moved"],
            Table("--backends 100 --size 4093 --was-down 7")["moved"]);
}

TEST_F(TableTest, NobodyIsUp) {
  Figures figures = Table("--backends 5 --size 7 --was-down 2 --down 5", 1);
  EXPECT_EQ(figures["live"], 0);
  EXPECT_EQ(figures["slots_min"], 0);
  EXPECT_EQ(figures["slots_max"], 0);
  EXPECT_EQ(figures["over_provision"], 0);
  EXPECT_EQ(figures["moved_necessary"], 7);
  EXPECT_EQ(Run("table --backends 5 --size 7 --down 5").err,
            "nobody takes new connections of a made-up pool: of 5 backends 5 down, 0 drained, none "
            "of the others with a weight\n");
  EXPECT_EQ(Table("--backends 5 --size 7 --was-down 5")["moved_necessary"], 7) << "all come back";
}

TEST_F(TableTest, ForPeople) {
  const Result result = Run("table --backends 1000 --size 65537 --was-down 2 --down 1");
  EXPECT_EQ(result.exit_status, 0);
  EXPECT_THAT(result.err, IsEmpty());
  EXPECT_THAT(result.out, StartsWith("a made-up pool: 65537 slots for 1000 backends, 65 for each"));
  EXPECT_THAT(result.out, HasSubstr("\nbefore: 2 down               998 "));
  EXPECT_THAT(result.out, HasSubstr("\nnow: 1 down                  999 "));
  EXPECT_THAT(result.out,
              HasSubstr(" of 65537 slots (<0.1%) move, all of them because they had to"));
  EXPECT_THAT(Run("table --backends 3 --size 7").out,
              AllOf(HasSubstr("\nno slots move\n"), Not(HasSubstr("now: "))));
}

// --- a service of a file -------------------------------------------------------------------------

// Weights differ; c is drained, e has none.
constexpr char kBackends[] =
    "{ name: b, address: 10.0.0.2, weight: 7 }, { name: a, address: 10.0.0.1, weight: 3 }, "
    "{ name: c, address: 10.0.0.3, state: drain, weight: 4 }, "
    "{ name: d, address: 10.0.0.4, weight: 1 }, { name: e, address: 10.0.0.5, weight: 0 }";
const std::vector<PoolMember> kPool = {{"a", 3}, {"b", 7}, {"c", 4}, {"d", 1}, {"e", 0}};
constexpr size_t kDrained = 2;

std::string Named(const std::string& option, const std::set<size_t>& members) {
  std::string text;
  for (size_t i : members) absl::StrAppend(&text, " --", option, " ", kPool[i].name);
  return text;
}

std::vector<Share> SharesWithout(const std::set<size_t>& members) {
  std::vector<Share> shares(kPool.size(), kFullShare);
  shares[kDrained] = kDown;
  for (size_t i : members) shares[i] = kDown;
  return shares;
}

// Against the table itself, made here from the pool as the daemon makes it, and plain counting.
TEST_F(TableTest, AServiceOfAFile) {
  const std::string file = WriteFile(ConfigText(ServiceText("web", 1, kBackends)));
  const auto table = LookupTable::Build(kPool, 1009, 7);
  ASSERT_TRUE(table.ok());
  std::mt19937 random(2);
  for (int round = 0; round < 30; ++round) {
    std::set<size_t> was_down, down;
    for (size_t i = 0; i < kPool.size(); ++i) {
      if (random() % 3 == 0) was_down.insert(i);
      if (random() % 3 == 0) down.insert(i);
    }
    const std::vector<Share> before_shares = SharesWithout(was_down), shares = SharesWithout(down);
    const auto before = *table->Assign(before_shares), now = *table->Assign(shares);
    std::map<size_t, double> slots;
    double weights = 0, moved = 0;
    for (size_t i : {0, 1, 3}) {
      if (shares[i] != kDown) slots[i] = 0, weights += kPool[i].weight;
    }
    for (size_t slot = 0; slot < now.size(); ++slot) {
      if (now[slot] != LookupTable::kNoMember) ++slots.at(now[slot]);
      moved += now[slot] != before[slot];
    }
    double fewest = slots.empty() ? 0 : 1009, most = 0, busiest = slots.empty() ? 1 : 0;
    for (const auto& [i, n] : slots) {
      fewest = std::min(fewest, n);
      most = std::max(most, n);
      busiest = std::max(busiest, n / 1009 * weights / kPool[i].weight);
    }

    const std::string arguments = absl::StrCat("--config ", file, " --service web",
                                               Named("was-down", was_down), Named("down", down));
    SCOPED_TRACE(arguments);
    Figures figures = Table(arguments, slots.empty() ? 1 : 0);
    EXPECT_EQ(figures["size"], 1009);
    EXPECT_EQ(figures["backends"], 5);
    EXPECT_EQ(figures["down"], down.size());
    EXPECT_EQ(figures["drained"], down.contains(kDrained) ? 0 : 1);
    EXPECT_EQ(figures["live"], slots.size());
    EXPECT_EQ(figures["slots_min"], fewest);
    EXPECT_EQ(figures["slots_max"], most);
    EXPECT_NEAR(figures["over_provision"], busiest - 1, 1e-6);
    EXPECT_EQ(figures["moved"], moved);
    EXPECT_EQ(figures["moved_necessary"], moved);
    EXPECT_EQ(figures["moved_collateral"], 0);
  }
}

TEST_F(TableTest, ANameTwiceIsHarmless) {
  const std::string web =
      absl::StrCat("--config ", WriteFile(ConfigText(ServiceText("web", 1, kBackends))),
                   " --service web --down a --down b --down a");
  EXPECT_EQ(Table(web)["down"], 2);
}

TEST_F(TableTest, DrainedBackendsTakeNothing) {
  const std::string file = WriteFile(ConfigText(ServiceText("web", 1, kBackends)));
  const std::string web = absl::StrCat("--config ", file, " --service web");
  EXPECT_EQ(Table(web)["live"], 3);
  EXPECT_EQ(Table(web)["down"], 0);
  EXPECT_EQ(Table(web)["drained"], 1);
  EXPECT_EQ(Table(web + " --down c")["moved"], 0) << "it had no new connections before either";
  EXPECT_EQ(Table(web + " --was-down c")["moved"], 0);
  EXPECT_EQ(Table(web + " --down e")["moved"], 0);
  const Result nobody = Run("table " + web + " --down a --down b --down d");
  EXPECT_EQ(nobody.exit_status, 1);
  EXPECT_EQ(nobody.err,
            "nobody takes new connections of service web: of 5 backends 3 down, 1 drained, none of "
            "the others with a weight\n");
}

TEST_F(TableTest, EmptyPool) {
  const std::string file = WriteFile(ConfigText(ServiceText("web", 1, "")));
  Figures figures = Table(absl::StrCat("--config ", file, " --service web"), 1);
  EXPECT_EQ(figures["backends"], 0);
  EXPECT_EQ(figures["moved"], 0);
}

constexpr char kRegions[] =
    "scheduler: geographic, regions: [{ name: eu, prefixes: [192.0.2.0/25] }, "
    "{ name: us, prefixes: [192.0.2.128/25] }, { name: none, prefixes: [203.0.113.0/24], "
    "fallback: [eu] }], default_region: eu";

TEST_F(TableTest, ATableForEachRegion) {
  const std::string file = WriteFile(
      ConfigText(ServiceText("cdn", 1,
                             "{ name: eu-1, address: 10.0.0.1, region: eu }, "
                             "{ name: us-1, address: 10.0.1.1, region: us }, "
                             "{ name: eu-2, address: 10.0.0.2, region: eu }",
                             kRegions) +
                 ServiceText("one", 2, "{ name: eu-1, address: 10.0.0.1, region: eu }", kRegions)));
  const std::string cdn = absl::StrCat("--config ", file, " --service cdn");
  Figures figures = Table(cdn + " --region eu --down eu-1");
  EXPECT_EQ(figures["backends"], 2);
  EXPECT_EQ(figures["slots_max"], 1009);
  EXPECT_EQ(Table(cdn + " --region us")["backends"], 1);
  EXPECT_EQ(Table(cdn + " --region none", 1)["backends"], 0);
  EXPECT_EQ(Table(absl::StrCat("--config ", file, " --service one"))["backends"], 1)
      << "there is one region with backends";

  Result result = Run("table " + cdn);
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.err, AllOf(HasSubstr("--region"), HasSubstr("eu, us, none")));
  result = Run("table " + cdn + " --region asia");
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.err, AllOf(HasSubstr("\"asia\""), HasSubstr("eu, us, none")));
  result = Run("table " + cdn + " --region eu --down us-1");
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.err, AllOf(HasSubstr("service cdn, region eu has no backend \"us-1\""),
                                HasSubstr("eu-1, eu-2;")));
}

TEST_F(TableTest, TheSeedIsTheFiles) {
  std::string text = ConfigText(ServiceText("web", 1, kBackends));
  const std::string web = absl::StrCat("--config ", WriteFile(text), " --service web --down a");
  const Figures inlined = Table(web);
  text.replace(text.find("hash_seed: 7"), 12, "hash_seed_file: seed");
  WriteFile(text);
  std::ofstream(directory_ + "/seed") << "7\n";
  Figures from_file = Table(web);
  EXPECT_EQ(from_file["slots_max"], inlined.at("slots_max"));
  EXPECT_EQ(from_file["slots_min"], inlined.at("slots_min"));
  std::ofstream(directory_ + "/seed") << "8\n";
  from_file = Table(web);
  EXPECT_NE(std::pair(from_file["slots_min"], from_file["slots_max"]),
            std::pair(inlined.at("slots_min"), inlined.at("slots_max")));
  std::filesystem::remove(directory_ + "/seed");
  const Result result = Run("table " + web);
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_THAT(result.err, HasSubstr("hash_seed_file"));
}

TEST_F(TableTest, AFileThatIsNotValid) {
  const std::string file = WriteFile("services: 3\nnonsense: 1\n");
  const Result table = Run(absl::StrCat("table --config ", file, " --service web"));
  EXPECT_EQ(table.exit_status, 1);
  EXPECT_THAT(table.out, IsEmpty());
  EXPECT_EQ(table.err, Run("check " + file).err);
  const Result missing = Run("table --config /nowhere/at/all.yaml --service web");
  EXPECT_EQ(missing.exit_status, 1);
  EXPECT_EQ(missing.err, Run("check /nowhere/at/all.yaml").err);
}

TEST_F(TableTest, AWrongCallIsTwo) {
  const std::string file = WriteFile(ConfigText(
      ServiceText("web", 1, kBackends) +
      "  - { name: turns, vips: [198.51.100.2], protocol: tcp, ports: [80], forwarding: ipip, "
      "scheduler: round_robin, backends: [] }\n"));
  struct {
    const char* arguments;
    const char* says;
  } rows[] = {
      {"", "--config FILE --service NAME, or --backends N --size M"},
      {"--seed 1", "--config FILE --service NAME, or --backends N --size M"},
      {"web", "\"web\""},
      {"--service web", "--config"},
      {"--region eu", "--config"},
      {"--config FILE", "--service"},
      {"--config FILE --service dns", "has no service \"dns\"; it has web, turns;"},
      {"--config FILE --service turns", "round_robin, which goes by no table"},
      {"--config FILE --service web --region eu", "no regions"},
      {"--config FILE --service web --down x", "no backend \"x\"; it has a, b, c, d, e;"},
      {"--config FILE --service web --was-down 1", "--was-down: service web has no backend \"1\""},
      {"--config FILE --service web --service web", "--service cannot be given more than once"},
      {"--config FILE --service web --size 7", "--size"},
      {"--config FILE --service web --backends 7", "--backends"},
      {"--config FILE --service web --weights 7", "--weights"},
      {"--config FILE --service web --seed 7", "--seed"},
      {"--service web --backends 7 --size 7", "--backends"},
      {"--backends 10", "--size"},
      {"--size 7", "--backends"},
      {"--backends 10 --size 65536",
       "--size 65536: allowed is a prime from the number of backends, 10, to 16777213; the next "
       "one is 65537;"},
      {"--backends 10 --size 7", "; the next one is 11;"},
      {"--backends 1 --size 1", "; the next one is 2;"},
      {"--backends 10 --size 0", "; the next one is 11;"},
      {"--backends 10 --size 16777259", "to 16777213;"},
      {"--backends 10 --size 4294967296", "to 16777213;"},
      {"--backends 10 --size many", "--size many"},
      {"--backends 10 --size -7", "--size"},
      {"--backends 0 --size 7", "--backends 0: allowed is a number from 1 to 65535"},
      {"--backends 65536 --size 131071", "--backends 65536: allowed is a number from 1 to 65535"},
      {"--backends 5 --size 7 --down 6", "--down 6: allowed is a number from 0 to 5"},
      {"--backends 5 --size 7 --was-down 6", "--was-down 6: allowed is a number from 0 to 5"},
      {"--backends 5 --size 7 --down 1 --down 2", "--down 1 2: allowed is a number"},
      {"--backends 5 --size 7 --down web-1", "--down web-1: allowed is a number"},
      {"--backends 5 --size 7 --down 1.5", "--down 1.5"},
      {"--backends 5 --size 7 --weights 0", "--weights 0: allowed is a number from 1 to 65535"},
      {"--backends 5 --size 7 --weights 65536", "--weights 65536"},
      {"--backends 5 --size 7 --seed 18446744073709551616", "to 18446744073709551615"},
      {"--backends 5 --size 7 --size 7", "--size cannot be given more than once"},
      {"--backends 5 --size 7 --nonsense", "--nonsense"},
      {"--backends 5 --size 7 -o xml", "\"xml\""},
  };
  for (const auto& row : rows) {
    std::string arguments = row.arguments;
    if (const size_t at = arguments.find("FILE"); at != std::string::npos) {
      arguments.replace(at, 4, file);
    }
    const Result result = Run("table " + arguments);
    EXPECT_EQ(result.exit_status, 2) << row.arguments;
    EXPECT_THAT(result.err, AllOf(StartsWith("guideway: "), HasSubstr(row.says))) << row.arguments;
    EXPECT_THAT(result.out, IsEmpty()) << row.arguments;
  }
}

TEST_F(TableTest, TheLargestPools) {
  Figures figures = Table("--backends 65535 --size 65537");
  EXPECT_EQ(figures["slots_min"], 1);
  EXPECT_EQ(figures["slots_max"], 2);
  figures = Table("--backends 2 --size 2 --down 1");
  EXPECT_EQ(figures["slots_max"], 2);
  EXPECT_EQ(figures["moved"], 1);
}

TEST_F(TableTest, HelpListsItsOptions) {
  const Result help = Run("table --help");
  EXPECT_EQ(help.exit_status, 0);
  for (const char* option : {"--config FILE", "--service NAME", "--region NAME", "--backends N",
                             "--size M", "--weights W", "--was-down BACKEND|J", "--down BACKEND|K",
                             "--seed S", "--output table|json|yaml"}) {
    EXPECT_THAT(help.out, HasSubstr(option));
  }
  EXPECT_THAT(Run("check --help").out, Not(HasSubstr("--size")));
}

}  // namespace
}  // namespace guideway
