#include "control/service_health.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace guideway {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// A backend a letter: up, down, checking, held; «U» and «D» the same but drained; «0» down and
// without weight.
std::vector<BackendCondition> Backends(const std::string& letters) {
  std::vector<BackendCondition> backends;
  for (char c : letters) {
    BackendCondition& b = backends.emplace_back(BackendCondition{.weight = 100});
    if (c == 'd' || c == 'D' || c == '0') b.health = Health::kDown;
    if (c == 'c') b.health = Health::kChecking;
    b.held = c == 'h';
    b.drained = c == 'U' || c == 'D';
    if (c == '0') b.weight = 0;
  }
  return backends;
}

// What the workers do with them: + takes connections, - keeps what it has, . is down.
std::string ToBe(const std::string& letters, double min_healthy, bool before = false) {
  const std::vector<BackendCondition> backends = Backends(letters);
  const ServiceHealth service = JudgeService(backends, min_healthy, before);
  std::string text;
  for (size_t i = 0; i < backends.size(); ++i) {
    const BackendState state = StateToBe(backends[i], service.standings[i], service.health_ignored);
    text += state == BackendState::kUp ? '+' : state == BackendState::kDown ? '.' : '-';
  }
  return text;
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
  const ServiceHealth service = JudgeService(backends, 0.6, false);
  EXPECT_FALSE(service.health_ignored);
  EXPECT_DOUBLE_EQ(service.healthy_share, 0.6);
  EXPECT_EQ(service.healthy, 1u);
  EXPECT_EQ(service.counted, 3u);
  EXPECT_TRUE(JudgeService(backends, 0.601, false).health_ignored);
}

TEST(ServiceHealth, StandingsAreWhatTheProbesSay) {
  const ServiceHealth service = JudgeService(Backends("udcUDd"), 0.5, false);
  EXPECT_TRUE(service.health_ignored);
  EXPECT_THAT(service.standings, ElementsAre(Standing::kUp, Standing::kDown, Standing::kChecking,
                                             Standing::kDrain, Standing::kDown, Standing::kDown));
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
  EXPECT_EQ(JudgeService(Backends("uhh"), 0, false).standings[1], Standing::kUp);
  EXPECT_EQ(JudgeService(Backends("uuh"), 0, false).standings[2], Standing::kHeld);
}

TEST(ServiceHealth, WhatChangedIsSaidOnce) {
  const ServiceHealth well = JudgeService(Backends("uuuuu"), 0.3, false);
  const ServiceHealth ill = JudgeService(Backends("udddd"), 0.3, false);
  const ServiceHealth better = JudgeService(Backends("uuddd"), 0.3, true);
  EXPECT_THAT(WhatChanged("web", 0.3, well, ill),
              ElementsAre("service web: 1 of 5 backends healthy (20 % by weight, less than 30 %): "
                          "health is ignored"));
  EXPECT_THAT(WhatChanged("web", 0.3, ill, ill), IsEmpty());
  EXPECT_THAT(WhatChanged("web", 0.3, ill, better),
              ElementsAre("service web: 2 of 5 backends healthy (40 % by weight): health counts "
                          "again"));
  EXPECT_THAT(WhatChanged("web", 0.3, ill, JudgeService(Backends("UU"), 0.3, true)),
              ElementsAre("service web: 0 of 0 backends healthy: health counts again"));
  const ServiceHealth held = JudgeService(Backends("uuh"), 0, false);
  const ServiceHealth released = JudgeService(Backends("udh"), 0, false);
  EXPECT_THAT(WhatChanged("web", 0, held, released), IsEmpty()) << "u is half of u and h";
  const ServiceHealth none_left = JudgeService(Backends("ddh"), 0, false);
  EXPECT_THAT(WhatChanged("web", 0, held, none_left),
              ElementsAre("service web: nobody is held any more, too few would be left"));
  EXPECT_THAT(WhatChanged("web", 0, none_left, held),
              ElementsAre("service web: backends that flap are held again"));
}

}  // namespace
}  // namespace guideway
