#include "control/flap_damper.h"

#include <gtest/gtest.h>

#include <vector>

namespace guideway {
namespace {

constexpr FlapDamping kDamping = {
    .after = 2, .hold = absl::Seconds(10), .max_hold = absl::Seconds(60)};

class FlapDamperTest : public testing::Test {
 protected:
  // Goes down, and is well again a second later; for how long it is held then.
  absl::Duration Flap(const FlapDamping& damping = kDamping) {
    damper_.WentDown(now_, damping);
    EXPECT_EQ(damper_.HeldFor(now_, damping), absl::ZeroDuration()) << "it is down";
    now_ += absl::Seconds(1);
    damper_.CameUp(now_, damping);
    return damper_.HeldFor(now_, damping);
  }
  std::vector<int> Flaps(int times, const FlapDamping& damping = kDamping) {
    std::vector<int> seconds;
    for (int i = 0; i < times; ++i) {
      seconds.push_back(static_cast<int>(absl::ToInt64Seconds(Flap(damping))));
    }
    return seconds;
  }

  FlapDamper damper_;
  absl::Duration now_ = absl::Seconds(1000);
};

TEST_F(FlapDamperTest, EachFailureTooManyDoublesTheHold) {
  EXPECT_EQ(damper_.HeldFor(now_, kDamping), absl::ZeroDuration());
  EXPECT_EQ(Flaps(8), (std::vector<int>{0, 0, 10, 20, 40, 60, 60, 60}));
}

TEST_F(FlapDamperTest, TheHoldEndsByItself) {
  Flaps(3);
  now_ += absl::Seconds(4);
  EXPECT_EQ(damper_.HeldFor(now_, kDamping), absl::Seconds(6));
  now_ += absl::Seconds(6);
  EXPECT_EQ(damper_.HeldFor(now_, kDamping), absl::ZeroDuration());
}

TEST_F(FlapDamperTest, OneFailureIsForgottenForEachMaxHoldWithoutAnother) {
  Flaps(3);
  now_ += absl::Seconds(58);
  EXPECT_EQ(damper_.failures(now_, kDamping), 3u);
  now_ += absl::Seconds(1);
  EXPECT_EQ(damper_.failures(now_, kDamping), 2u);
  EXPECT_EQ(Flaps(1), std::vector<int>{10});
  now_ += absl::Hours(1);
  EXPECT_EQ(damper_.failures(now_, kDamping), 0u);
  EXPECT_EQ(Flaps(3), (std::vector<int>{0, 0, 10}));
}

TEST_F(FlapDamperTest, ALongOutageIsNoFlap) {
  Flaps(2);
  damper_.WentDown(now_, kDamping);
  now_ += absl::Seconds(61);
  damper_.CameUp(now_, kDamping);
  EXPECT_EQ(damper_.HeldFor(now_, kDamping), absl::ZeroDuration());
}

TEST_F(FlapDamperTest, TheCountEndsWhereTheHoldDoes) {
  Flaps(1000);
  EXPECT_EQ(damper_.failures(now_, kDamping), 6u);
  now_ += absl::Minutes(6);
  EXPECT_EQ(damper_.failures(now_, kDamping), 0u);
}

TEST_F(FlapDamperTest, AHoldOfZeroHoldsNobody) {
  const FlapDamping off = {.after = 2, .hold = absl::ZeroDuration(), .max_hold = absl::Minutes(1)};
  EXPECT_EQ(Flaps(5, off), (std::vector<int>{0, 0, 0, 0, 0}));
  EXPECT_EQ(damper_.failures(now_, off), 0u);
  Flaps(4);
  EXPECT_EQ(damper_.HeldFor(now_, off), absl::ZeroDuration()) << "switched off meanwhile";
}

}  // namespace
}  // namespace guideway
