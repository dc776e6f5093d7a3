#include "control/health.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "tests/support/fake_event_loop.h"
#include "tests/support/fake_prober.h"

namespace guideway {
namespace {

// Answers as text, + good and - bad; after each, what is believed: ? checking, U up, D down.
std::string Believed(const std::string& answers, uint32_t rise, uint32_t fall,
                     Health presumed = Health::kChecking) {
  HealthState state(presumed);
  std::string out;
  for (char c : answers) {
    const Health before = state.health();
    const bool changed = state.Record(c == '+', rise, fall);
    EXPECT_EQ(changed, state.health() != before);
    out += state.health() == Health::kUp ? 'U' : state.health() == Health::kDown ? 'D' : '?';
  }
  return out;
}

TEST(HealthState, RiseAndFall) {
  struct {
    const char* what;
    const char* answers;
    uint32_t rise, fall;
    const char* believed;
  } rows[] = {
      {"the first answer decides at once", "+", 5, 5, "U"},
      {"a bad one too", "-", 5, 5, "D"},
      {"fall in a row", "+---", 2, 3, "UUUD"},
      {"rise in a row", "-++", 2, 3, "DDU"},
      {"one good answer starts the count anew", "+--+---", 2, 3, "UUUUUUD"},
      {"one bad answer starts the count anew", "-+-++", 2, 3, "DDDDU"},
      {"a flap at every answer changes nothing", "+-+-+-+-", 2, 2, "UUUUUUUU"},
      {"rise and fall of 1 follow every answer", "+-+-", 1, 1, "UDUD"},
  };
  for (const auto& row : rows) {
    EXPECT_EQ(Believed(row.answers, row.rise, row.fall), row.believed) << row.what;
  }
}

TEST(HealthState, WhatIsPresumedTakesRiseAndFallToChange) {
  EXPECT_EQ(HealthState(Health::kUp).health(), Health::kUp);
  EXPECT_EQ(Believed("---", 5, 3, Health::kUp), "UUD");
  EXPECT_EQ(Believed("--+---", 5, 3, Health::kUp), "UUUUUD");
  EXPECT_EQ(Believed("++", 2, 5, Health::kDown), "DU");
}

class HealthCheckerTest : public testing::Test {
 protected:
  static HealthTarget Target(const std::string& address) {
    HealthTarget target;
    target.question.address = IpAddress::Parse(absl::string_view(address)).value();
    target.question.port = 80;
    target.interval = absl::Seconds(1);
    target.timeout = absl::Milliseconds(500);
    target.rise = 2;
    target.fall = 3;
    return target;
  }

  Health HealthOf(const HealthTarget& target) { return checker_.Report(target)->health; }

  FakeEventLoop loop_;
  FakeProber prober_{&loop_};
  std::vector<std::string> changes_;
  HealthChecker checker_{&loop_, &prober_, 1, [this](const HealthTarget& t, const HealthReport& r) {
                           changes_.push_back(t.question.address.ToString() +
                                              (r.health == Health::kUp ? " up: " : " down: ") +
                                              r.reason);
                         }};
};

TEST_F(HealthCheckerTest, TellsChangesWithTheirReason) {
  const HealthTarget a = Target("10.0.0.1"), b = Target("10.0.0.2");
  prober_.Fail("10.0.0.2", "status 503");
  checker_.SetTargets({{a}, {b}});
  EXPECT_EQ(HealthOf(a), Health::kChecking);
  loop_.Advance(absl::Milliseconds(1));
  EXPECT_EQ(changes_.size(), 2u);
  EXPECT_EQ(HealthOf(a), Health::kUp);
  EXPECT_EQ(checker_.Report(b), (HealthReport{Health::kDown, "status 503"}));

  changes_.clear();
  prober_.Fail("10.0.0.1", "connection refused");
  loop_.Advance(absl::Seconds(2));
  EXPECT_EQ(HealthOf(a), Health::kUp) << "twice is not three times";
  loop_.Advance(absl::Seconds(2));
  EXPECT_EQ(changes_, std::vector<std::string>{"10.0.0.1 down: connection refused"});

  changes_.clear();
  prober_.Heal("10.0.0.1");
  loop_.Advance(absl::Seconds(3));
  EXPECT_EQ(changes_, std::vector<std::string>{"10.0.0.1 up: ok"});
}

TEST_F(HealthCheckerTest, AsksAtTheIntervalWithJitter) {
  checker_.SetTargets({{Target("10.0.0.1")}});
  loop_.Advance(absl::Seconds(1000));
  EXPECT_NEAR(prober_.Count("10.0.0.1"), 1000, 20);
  bool jittered = false;
  for (size_t i = 1; i < prober_.asked.size(); ++i) {
    const absl::Duration gap = prober_.asked[i].at - prober_.asked[i - 1].at;
    EXPECT_GE(gap, absl::Milliseconds(900));
    EXPECT_LE(gap, absl::Milliseconds(1100));
    jittered |= gap != absl::Seconds(1);
  }
  EXPECT_TRUE(jittered);
}

TEST_F(HealthCheckerTest, EqualTargetsAreOneAndOthersAreNot) {
  HealthTarget other_path = Target("10.0.0.1");
  other_path.question.what = ProbeQuestion::Http{.path = "/other"};
  checker_.SetTargets({{Target("10.0.0.1")}, {Target("10.0.0.1")}, {other_path}});
  EXPECT_EQ(checker_.size(), 2u);
  loop_.Advance(absl::Milliseconds(1));
  EXPECT_EQ(prober_.Count("10.0.0.1"), 2);
}

TEST_F(HealthCheckerTest, OneQuestionOfATargetIsUnderWayAtATime) {
  prober_.silent = true;
  checker_.SetTargets({{Target("10.0.0.1")}});
  loop_.Advance(absl::Seconds(10));
  ASSERT_EQ(prober_.asked.size(), 1u) << "the first is not answered";
  prober_.asked[0].done({});
  loop_.Advance(absl::Milliseconds(1));
  EXPECT_EQ(prober_.asked.size(), 2u) << "the next was due long ago";
}

TEST_F(HealthCheckerTest, AfterAStallATargetIsAskedOnce) {
  checker_.SetTargets({{Target("10.0.0.1")}, {Target("10.0.0.2")}});
  loop_.Advance(absl::Milliseconds(1));
  ASSERT_EQ(prober_.asked.size(), 2u);
  loop_.Stall(absl::Seconds(60));
  // What was missed is not made up for: each is asked now, and again when its interval is over.
  loop_.RunAll();
  const int after_stall = prober_.Count("10.0.0.1");
  EXPECT_LE(after_stall, 3);
  loop_.Advance(absl::Seconds(10));
  EXPECT_NEAR(prober_.Count("10.0.0.1") - after_stall, 10, 2);
  EXPECT_EQ(HealthOf(Target("10.0.0.1")), Health::kUp);
}

TEST_F(HealthCheckerTest, ManyTargetsDoNotStartAtOneMoment) {
  std::vector<HealthChecker::Wanted> wanted;
  for (int i = 0; i < 10000; ++i) {
    HealthTarget t = Target("10.0.0.1");
    t.question.port = static_cast<uint16_t>(i);
    wanted.emplace_back().target = t;
  }
  checker_.SetTargets(wanted);
  loop_.Advance(absl::Milliseconds(100));
  EXPECT_NEAR(static_cast<double>(prober_.asked.size()), 1000, 200);
  loop_.Advance(absl::Milliseconds(900));
  std::set<uint16_t> ports;
  for (const FakeProber::Asked& asked : prober_.asked) ports.insert(asked.question.port);
  EXPECT_EQ(ports.size(), 10000u) << "every one within its interval";
}

TEST_F(HealthCheckerTest, StateIsKeptOverChangesOfTheSet) {
  const HealthTarget a = Target("10.0.0.1");
  prober_.Fail("10.0.0.1", "timeout after 500ms");
  checker_.SetTargets({{a}});
  loop_.Advance(absl::Milliseconds(1));
  ASSERT_EQ(HealthOf(a), Health::kDown);
  const size_t asked = prober_.asked.size();
  checker_.SetTargets({{a}, {Target("10.0.0.2")}});
  EXPECT_EQ(HealthOf(a), Health::kDown);
  loop_.Advance(absl::Milliseconds(1));
  EXPECT_EQ(prober_.asked.size(), asked + 1) << "a goes on at its own pace";

  HealthTarget slower = a;
  slower.interval = absl::Seconds(5);
  EXPECT_EQ(checker_.Report(slower)->health, Health::kDown) << "the same question";
  checker_.SetTargets({{slower}});
  EXPECT_EQ(checker_.Report(slower), (HealthReport{Health::kDown, "timeout after 500ms"}));
}

TEST_F(HealthCheckerTest, ATargetThatIsGoneIsNotAskedAndItsLateAnswerIsNotHeard) {
  prober_.silent = true;
  checker_.SetTargets({{Target("10.0.0.1")}});
  loop_.Advance(absl::Milliseconds(1));
  checker_.SetTargets({});
  prober_.asked.at(0).done({ProbeAnswer::Kind::kFailed, "late"});
  loop_.Advance(absl::Seconds(10));
  EXPECT_EQ(prober_.asked.size(), 1u);
  EXPECT_TRUE(changes_.empty());
  EXPECT_FALSE(checker_.Report(Target("10.0.0.1")).has_value());
}

TEST_F(HealthCheckerTest, WhatCouldNotBeAskedSaysNothingAboutTheBackend) {
  checker_.SetTargets({{Target("10.0.0.1")}});
  loop_.Advance(absl::Milliseconds(1));
  prober_.answers["10.0.0.1"] = {ProbeAnswer::Kind::kNotAsked, "could not ask: no files left"};
  loop_.Advance(absl::Seconds(10));
  EXPECT_EQ(checker_.Report(Target("10.0.0.1")),
            (HealthReport{Health::kUp, "could not ask: no files left"}));
}

}  // namespace
}  // namespace guideway
