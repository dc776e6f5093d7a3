#include "control/service_health.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace guideway {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const std::vector<std::vector<uint16_t>> kOneRegion = {{0}};

// A backend a letter: up, down, checking, held; «i» is being checked and in use; «U», «D» and «C»
// are drained; «0» is down and without weight, «w» up and without.
std::vector<BackendCondition> Backends(const std::string& letters) {
  std::vector<BackendCondition> backends;
  for (char c : letters) {
    BackendCondition& b = backends.emplace_back(BackendCondition{.weight = 100});
    if (c == 'd' || c == 'D' || c == '0') b.health = Health::kDown;
    if (c == 'c' || c == 'C' || c == 'i') b.health = Health::kChecking;
    b.held = c == 'h';
    b.in_use = c == 'i';
    b.drained = c == 'U' || c == 'D' || c == 'C';
    if (c == '0' || c == 'w') b.weight = 0;
  }
  return backends;
}

Judgement Judge(const std::string& letters, double min_healthy, bool before) {
  return JudgeService(Backends(letters), min_healthy, before, kOneRegion);
}

// What the workers do with them: + takes connections, - keeps what it has, . is down.
std::string Text(const std::vector<BackendState>& states) {
  std::string text;
  for (const BackendState state : states) {
    text += state == BackendState::kUp ? '+' : state == BackendState::kDown ? '.' : '-';
  }
  return text;
}
std::string ToBe(const std::string& letters, double min_healthy, bool before = false) {
  return Text(Judge(letters, min_healthy, before).states);
}

TEST(ServiceHealth, BelowTheThresholdHealthIsIgnored) {
  const struct {
    const char* backends;
    double min_healthy;
    bool before;
    const char* to_be;
    const char* why;
  } rows[] = {
      {"udddd", 0, false, "+....", "off"},
      {"ddddd", 0, false, ".....", "off, and nobody is left"},
      {"udddd", 0.3, false, "+++++", "20 % is less than 30 %"},
      {"ddddd", 0.3, false, "+++++", "so is none"},
      {"uuddd", 0.3, false, "++...", "40 % is not"},
      {"udddd", 0.2, false, "+....", "20 % is not less than 20 %"},
      {"uuudddddddd", 0.273, false, "+++++++++++", "27.27 % is less than 27.3 %"},
      {"uuddd", 0.4, true, "+++++", "it ends at 50 %, not at 40 %"},
      {"uuuddd", 0.4, true, "+++...", "and at 50 % it ends"},
      {"uddd", 0.2, true, "++++", "25 % is less than 30 %"},
      {"uuuud", 0.9, false, "+++++", "80 % is less than 90 %"},
      {"uuuuuuuuuuuuuuuuuuud", 0.9, true, "+++++++++++++++++++.", "it ends at 95 %"},
      {"uuuuuuuuuuuuuuuuuudd", 0.9, true, "++++++++++++++++++++", "90 % is less"},
      {"uuuu", 1, false, "++++", ""},
      {"uuud", 1, false, "++++", "100 %: whenever one is down"},
      {"uuuu", 1, true, "++++", "and then until all are up"},
      {"UUDd", 0.3, false, "---+", "who is drained does not count and gets nothing"},
      {"uDDD", 0.3, false, "+...", "1 of 1"},
      {"UU", 0.3, false, "--", "nobody counts"},
      {"", 0.3, false, "", "nobody is there"},
      {"", 0.3, true, "", "any more"},
      {"u0", 0.9, false, "+.", "without weight one does not count"},
      {"ud0", 0.9, false, "+++", "but health is ignored for all"},
      {"uccc", 0.5, false, "+---", "who has not answered yet says nothing"},
      {"uddc", 0.5, false, "++++", "but is no better than who is down"},
      {"hhddd", 0.3, false, "++...", "who is held is healthy"},
  };
  for (const auto& row : rows) {
    EXPECT_EQ(ToBe(row.backends, row.min_healthy, row.before), row.to_be)
        << row.backends << " " << row.min_healthy << ": " << row.why;
  }
}

TEST(ServiceHealth, CountsByWeight) {
  std::vector<BackendCondition> backends = Backends("udd");
  backends[0].weight = 300;
  const ServiceHealth service = JudgeService(backends, 0.6, false, kOneRegion).health;
  EXPECT_FALSE(service.health_ignored);
  EXPECT_DOUBLE_EQ(service.healthy_share, 0.6);
  EXPECT_EQ(service.healthy, 1u);
  EXPECT_EQ(service.counted, 3u);
  EXPECT_TRUE(JudgeService(backends, 0.601, false, kOneRegion).health.health_ignored);
}

TEST(ServiceHealth, StandingsAreWhatTheProbesSay) {
  const Judgement service = Judge("udcUDd", 0.5, false);
  EXPECT_TRUE(service.health.health_ignored);
  EXPECT_THAT(service.standings, ElementsAre(Standing::kUp, Standing::kDown, Standing::kChecking,
                                             Standing::kDrain, Standing::kDrain, Standing::kDown))
      << "who is drained is that first";
}

TEST(ServiceHealth, HoldsAreNeverAtTheServicesCost) {
  const struct {
    const char* backends;
    double min_healthy;
    const char* to_be;
    const char* why;
  } rows[] = {
      {"uh", 0, "+-", "half of what is healthy is left"},
      {"uhh", 0, "+++", "less than half would be"},
      {"h", 0, "+", "the last one"},
      {"hd", 0, "+.", "the last one that is healthy"},
      {"hdU", 0, "+.-", "the last one that may"},
      {"uuuuhddddd", 0.4, "++++-.....", "40 % are left"},
      {"uuuhdddddd", 0.35, "++++......", "30 % would be left"},
      {"hc", 0, "+-", "who has not answered is no help"},
  };
  for (const auto& row : rows) {
    EXPECT_EQ(ToBe(row.backends, row.min_healthy), row.to_be) << row.backends << ": " << row.why;
  }
  EXPECT_EQ(Judge("uhh", 0, false).standings[1], Standing::kUp);
  EXPECT_EQ(Judge("uuh", 0, false).standings[2], Standing::kHeld);
}

TEST(ServiceHealth, WhoIsBeingCheckedTakesConnectionsWhereNobodyElseWould) {
  const struct {
    const char* backends;
    const char* to_be;
    const char* why;
  } rows[] = {
      {"c", "+", "nobody else is there"},
      {"ccc", "+++", "all alike"},
      {"uc", "+-", "somebody is up"},
      {"dc", ".+", "who is down takes nothing"},
      {"Uc", "-+", "nor does who is drained"},
      {"wc", "++", "nor who has no weight"},
      {"hc", "+-", "who is held has answered"},
      {"C", "-", "who is drained stays so"},
      {"CD", "-.", ""},
      {"uii", "+++", "who has begun goes on until it answers"},
      {"dii", ".++", ""},
      {"dic", ".+-", "somebody is there"},
  };
  for (const auto& row : rows) {
    EXPECT_EQ(ToBe(row.backends, 0), row.to_be) << row.backends << ": " << row.why;
  }
  EXPECT_THAT(Judge("cc", 0, false).standings,
              ElementsAre(Standing::kChecking, Standing::kChecking))
      << "and it shows";
}

// By region, where those that stand in are as good as its own.
TEST(ServiceHealth, NobodyWaitsWhereARegionWouldBeWithoutAnybody) {
  const std::vector<std::vector<uint16_t>> alone = {{0}, {1}};
  const std::vector<std::vector<uint16_t>> each_other = {{0, 1}, {1, 0}};
  const std::vector<std::vector<uint16_t>> first_has_second = {{0, 1}, {1}};
  const struct {
    const char* first;  // region
    const char* second;
    const std::vector<std::vector<uint16_t>>& ways;
    const char* to_be;
  } rows[] = {
      {"u", "cc", alone, "+++"},          {"u", "dh", alone, "+.+"},
      {"u", "cc", each_other, "+--"},     {"cc", "cc", each_other, "++++"},
      {"dd", "cc", each_other, "..++"},   {"cc", "dh", each_other, "--.+"},
      {"u", "c", first_has_second, "++"}, {"c", "u", first_has_second, "-+"},
      {"", "c", first_has_second, "+"},   {"d", "d", first_has_second, ".."},
  };
  for (const auto& row : rows) {
    std::vector<BackendCondition> backends = Backends(row.first);
    for (BackendCondition backend : Backends(row.second)) {
      backend.region = 1;
      backends.push_back(backend);
    }
    // A third region, well, so that the service as a whole could do without whoever is held.
    for (const BackendCondition& backend : Backends("uuu")) backends.push_back(backend);
    for (size_t i = backends.size() - 3; i < backends.size(); ++i) backends[i].region = 2;
    std::vector<std::vector<uint16_t>> ways = row.ways;
    ways.push_back({2});
    EXPECT_EQ(Text(JudgeService(backends, 0, false, ways).states), std::string(row.to_be) + "+++")
        << row.first << " " << row.second;
  }
  std::vector<BackendCondition> backends = Backends("uuuh");
  backends[3].region = 1;
  EXPECT_EQ(JudgeService(backends, 0, false, alone).standings[3], Standing::kUp)
      << "not held any longer";
}

TEST(ServiceHealth, WhoIsDrainedAndDownLosesItsConnectionsUnlessHealthIsIgnored) {
  EXPECT_EQ(ToBe("uD", 0), "+.");
  EXPECT_EQ(ToBe("dD", 0.5), "+-");
}

TEST(ServiceHealth, WhatChangedIsSaidOnce) {
  const ServiceHealth well = Judge("uuuuu", 0.3, false).health;
  const ServiceHealth ill = Judge("udddd", 0.3, false).health;
  const ServiceHealth better = Judge("uuddd", 0.3, true).health;
  EXPECT_THAT(WhatChanged("web", 0.3, well, ill),
              ElementsAre("service web: 1 of 5 backends healthy (20 % by weight, less than 30 %): "
                          "health is ignored"));
  EXPECT_THAT(WhatChanged("web", 0.3, ill, ill), IsEmpty());
  EXPECT_THAT(WhatChanged("web", 0.3, ill, better),
              ElementsAre("service web: 2 of 5 backends healthy (40 % by weight): health counts "
                          "again"));
  EXPECT_THAT(WhatChanged("web", 0.3, ill, Judge("UU", 0.3, true).health),
              ElementsAre("service web: 0 of 0 backends healthy: health counts again"));
  const ServiceHealth held = Judge("uuh", 0, false).health;
  const ServiceHealth released = Judge("udh", 0, false).health;
  EXPECT_THAT(WhatChanged("web", 0, held, released), IsEmpty()) << "u is half of u and h";
  const ServiceHealth none_left = Judge("ddh", 0, false).health;
  EXPECT_THAT(WhatChanged("web", 0, held, none_left),
              ElementsAre("service web: nobody is held any more, too few would be left"));
  EXPECT_THAT(WhatChanged("web", 0, none_left, held),
              ElementsAre("service web: backends that flap are held again"));
}

}  // namespace
}  // namespace guideway
