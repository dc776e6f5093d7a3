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
  EXPECT_EQ(slow_start_.NextStep(now_), absl::InfiniteDuration());
  Become({kUp, kDown, kUp});
  for (int step = 1; step <= 10; ++step) {
    EXPECT_EQ(Become({kUp, kUp, kUp}), (Shares{10, step, 10}));
    if (step == 10) break;
    const absl::Duration next = slow_start_.NextStep(now_);
    EXPECT_LE(next - now_, absl::Seconds(1) + absl::Microseconds(1));
    now_ += absl::Milliseconds(500);
    EXPECT_EQ(Become({kUp, kUp, kUp}), (Shares{10, step, 10})) << "between two steps";
    now_ = next;
  }
  EXPECT_EQ(slow_start_.NextStep(now_), absl::InfiniteDuration());
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

TEST_F(SlowStartTest, WhereNobodyServesThereIsNobodyToWaitFor) {
  Become({kUp, kUp, kUp});
  Become({kDown, kDown, kDown});
  EXPECT_EQ(Become({kUp, kDown, kDown}), (Shares{10, 10, 10}));
  EXPECT_EQ(Become({kUp, kUp, kDown}), (Shares{10, 1, 10}));
}

TEST_F(SlowStartTest, WithoutItAllAtOnce) {
  Configure("");
  Become({kUp, kDown, kUp});
  EXPECT_EQ(Become({kUp, kUp, kUp}), (Shares{10, 10, 10}));
  EXPECT_EQ(slow_start_.NextStep(now_), absl::InfiniteDuration());
}

TEST_F(SlowStartTest, AnotherDurationCountsFromTheSameMoment) {
  Become({kUp, kDown, kUp});
  Become({kUp, kUp, kUp});
  now_ += absl::Seconds(5);
  Configure("slow_start: 90s");
  EXPECT_EQ(Become({kUp, kUp, kUp}), (Shares{10, 1, 10}));
  Configure("");
  EXPECT_EQ(Become({kUp, kUp, kUp}), (Shares{10, 10, 10}));
  Configure("slow_start: 90s");
  EXPECT_EQ(Become({kUp, kUp, kUp}), (Shares{10, 1, 10}));
}

TEST_F(SlowStartTest, ARegionIsByItself) {
  Configure(
      "slow_start: 9s, scheduler: geographic, default_region: eu, regions: [{ name: eu, prefixes: "
      "[] }, { name: us, prefixes: [10.0.0.0/8] }]",
      "{ name: a, address: 10.0.0.1, region: eu }, { name: b, address: 10.0.0.2, region: us }, "
      "{ name: c, address: 10.0.0.3, region: us }");
  Become({kUp, kDown, kDown});
  EXPECT_EQ(Become({kUp, kUp, kDown}), (Shares{10, 10, 10})) << "the first of its region";
  EXPECT_EQ(Become({kUp, kUp, kUp}), (Shares{10, 10, 1}));
}

}  // namespace
}  // namespace guideway
