#include "control/slow_start.h"

#include <gtest/gtest.h>

#include "tests/support/test_config.h"

namespace guideway {
namespace {

constexpr char kAbc[] =
    "{ name: a, address: 10.0.0.1 }, { name: b, address: 10.0.0.2 }, { name: c, address: 10.0.0.3 "
    "}";
constexpr BackendState kUp = BackendState::kUp;
constexpr BackendState kDrain = BackendState::kDrain;
constexpr BackendState kDown = BackendState::kDown;

// One service whose backends have ids 0, 1, …
class SlowStartTest : public testing::Test {
 protected:
  explicit SlowStartTest(const std::string& more = "slow_start: 9s") { Configure(more); }

  void Configure(const std::string& more, const std::string& backends = kAbc) {
    input_.loaded = std::make_shared<const LoadedConfig>(
        LoadText(ConfigText(ServiceText("s", 1, backends, more))));
  }

  // The shares of a Compile in which the backends have these states, put in force at once.
  std::vector<int> Become(const std::vector<BackendState>& states) {
    input_.services.assign(1, {});
    BackendId id = 0;
    for (BackendState state : states) input_.services[0].backends.push_back({id++, state});
    slow_start_.SetShares(input_.loaded->config.services(0), now_, &input_.services[0]);
    slow_start_.Commit(input_, now_);
    std::vector<int> shares;
    for (const BackendFacts& b : input_.services[0].backends) shares.push_back(b.share);
    return shares;
  }
  using Shares = std::vector<int>;

  SlowStart slow_start_;
  CompileInput input_;
  absl::Duration now_ = absl::Seconds(100);
};

TEST_F(SlowStartTest, WhoComesBackGetsATenthMoreEveryNinth) {
  EXPECT_EQ(Become({kUp, kUp, kUp}), (Shares{10, 10, 10})) << "all at the start";
  EXPECT_EQ(slow_start_.NextStep(), absl::InfiniteDuration());
  Become({kUp, kDown, kUp});
  for (int step = 1; step <= 10; ++step) {
    EXPECT_EQ(Become({kUp, kUp, kUp}), (Shares{10, step, 10}));
    if (step == 10) break;
    EXPECT_EQ(slow_start_.NextStep(), absl::Seconds(100 + step));
    now_ += absl::Milliseconds(500);
    EXPECT_EQ(Become({kUp, kUp, kUp}), (Shares{10, step, 10})) << "between two steps";
    now_ = slow_start_.NextStep();
  }
  EXPECT_EQ(slow_start_.NextStep(), absl::InfiniteDuration());
}

TEST_F(SlowStartTest, EveryWayBackIsSlow) {
  Become({kUp, kUp, kDrain});
  EXPECT_EQ(Become({kUp, kUp, kUp}), (Shares{10, 10, 1})) << "drained before";
  now_ += absl::Seconds(4);
  EXPECT_EQ(Become({kUp, kUp, kDown}), (Shares{10, 10, 10}));
  EXPECT_EQ(Become({kUp, kUp, kUp}), (Shares{10, 10, 1})) << "it starts over";
  now_ += absl::Minutes(1);
  Configure("slow_start: 9s", absl::StrCat(kAbc, ", { name: d, address: 10.0.0.4 }"));
  EXPECT_EQ(Become({kUp, kUp, kUp, kUp}), (Shares{10, 10, 10, 1})) << "new";
}

// Alike, so that the table gives each what its weight says.
TEST_F(SlowStartTest, AfterAFailureOfAllTheyStartAlike) {
  Become({kUp, kUp, kUp});
  Become({kDown, kDown, kDown});
  EXPECT_EQ(Become({kUp, kDown, kDown}), (Shares{1, 10, 10}));
  EXPECT_EQ(Become({kUp, kUp, kUp}), (Shares{1, 1, 1}));
}

TEST_F(SlowStartTest, WithoutItAllAtOnce) {
  Configure("");
  Become({kUp, kDown, kUp});
  EXPECT_EQ(Become({kUp, kUp, kUp}), (Shares{10, 10, 10}));
  EXPECT_EQ(slow_start_.NextStep(), absl::InfiniteDuration());
}

TEST_F(SlowStartTest, AnotherDurationCountsFromTheSameMoment) {
  Become({kUp, kDown, kUp});
  Become({kUp, kUp, kUp});
  now_ += absl::Seconds(5);
  Configure("slow_start: 90s");
  EXPECT_EQ(Become({kUp, kUp, kUp}), (Shares{10, 1, 10}));
  EXPECT_EQ(slow_start_.NextStep(), absl::Seconds(110));
  Configure("slow_start: 3s");
  EXPECT_EQ(Become({kUp, kUp, kUp}), (Shares{10, 10, 10}));
  Configure("slow_start: 24h");
  EXPECT_EQ(Become({kUp, kUp, kUp}), (Shares{10, 10, 10})) << "who has all has arrived";
}

// What is in force may be of a moment before the last step: then that step is still to be taken.
TEST_F(SlowStartTest, AStepDuringACompileIsNotForgotten) {
  Become({kUp, kDown, kUp});
  Become({kUp, kUp, kUp});
  now_ += absl::Milliseconds(8990);
  slow_start_.SetShares(input_.loaded->config.services(0), now_, &input_.services[0]);
  EXPECT_EQ(input_.services[0].backends[1].share, 9);
  now_ += absl::Seconds(1);
  slow_start_.Commit(input_, now_);
  EXPECT_LE(slow_start_.NextStep(), now_);
  EXPECT_EQ(Become({kUp, kUp, kUp}), (Shares{10, 10, 10}));
}

TEST_F(SlowStartTest, StepsOfManyAreTakenTogether) {
  Configure("slow_start: 10s");
  Become({kUp, kDown, kDown});
  Become({kUp, kUp, kDown});
  now_ += absl::Milliseconds(13);
  Become({kUp, kUp, kUp});
  EXPECT_EQ(slow_start_.NextStep(), absl::Milliseconds(101250)) << "both, not at 101.111 and .124";
}

}  // namespace
}  // namespace guideway
