#include "control/event_loop.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "control/may_hang.h"

namespace guideway {
namespace {

class EventLoopTest : public testing::Test {
 protected:
  boost::asio::io_context io_;
  std::unique_ptr<EventLoop> loop_ = NewEventLoop(io_);
};

TEST_F(EventLoopTest, TimersFireOnceInOrder) {
  std::string order;
  const absl::Duration now = loop_->Now();
  auto a = loop_->NewTimer(), b = loop_->NewTimer(), c = loop_->NewTimer();
  a->Set(now + absl::Milliseconds(3), [&] { order += 'a'; });
  b->Set(now - absl::Seconds(1), [&] { order += 'b'; });
  c->Set(now + absl::Milliseconds(1), [&] { order += 'c'; });
  io_.run();
  EXPECT_EQ(order, "bca");
  EXPECT_GE(loop_->Now(), now + absl::Milliseconds(3));
}

TEST_F(EventLoopTest, ATimerThatIsSetAnewOrCancelledOrGoneForgets) {
  std::string order;
  auto again = loop_->NewTimer(), cancelled = loop_->NewTimer(), gone = loop_->NewTimer();
  for (auto* timer : {&again, &cancelled, &gone}) (*timer)->Set({}, [&] { order += '!'; });
  again->Set({}, [&] { order += 'a'; });
  cancelled->Cancel();
  gone.reset();
  io_.run();
  EXPECT_EQ(order, "a");
}

TEST_F(EventLoopTest, ATimerMaySetOrDestroyItself) {
  auto timer = loop_->NewTimer();
  int n = 0;
  std::function<void()> tick = [&] {
    if (++n < 3) {
      timer->Set({}, tick);
    } else {
      timer.reset();
    }
  };
  timer->Set({}, tick);
  io_.run();
  EXPECT_EQ(n, 3);
}

TEST_F(EventLoopTest, WhatWorkHoldsIsReleasedOnTheLoop) {
  std::thread::id released_on;
  std::shared_ptr<int> held(new int, [&](int* p) {
    released_on = std::this_thread::get_id();
    delete p;
  });
  loop_->RunOnHelper([held = std::move(held)] {}, [] {});
  io_.run();
  EXPECT_EQ(released_on, std::this_thread::get_id());
}

TEST_F(EventLoopTest, PostRunsAfterTheCaller) {
  std::string order;
  loop_->Post([&] {
    loop_->Post([&] { order += '2'; });
    order += '1';
  });
  io_.run();
  EXPECT_EQ(order, "12");
}

TEST_F(EventLoopTest, TheHelperWorksElsewhereInOrderAndReportsHere) {
  const std::thread::id here = std::this_thread::get_id();
  std::vector<int> worked, done;
  for (int i = 0; i < 100; ++i) {
    loop_->RunOnHelper(
        [&, i] {
          EXPECT_NE(std::this_thread::get_id(), here);
          worked.push_back(i);
        },
        [&, i] {
          EXPECT_EQ(std::this_thread::get_id(), here);
          done.push_back(i);
        });
  }
  io_.run();  // does not return before the helper is done
  ASSERT_EQ(done.size(), 100u);
  EXPECT_EQ(worked, done);
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
}

TEST_F(EventLoopTest, TheHelperDoesNotWaitForWorkApart) {
  std::promise<void> helped;
  bool done = false;
  // Ends at last where they are one thread, so that it fails and does not hang.
  const auto work = loop_->RunApart(
      [&] {
        EXPECT_EQ(helped.get_future().wait_for(std::chrono::seconds(20)),
                  std::future_status::ready);
      },
      [&] { done = true; });
  loop_->RunOnHelper([&] { helped.set_value(); }, [] {});
  io_.run();
  EXPECT_TRUE(done);
}

// Work that hangs until the test is over, or somebody lets it go on.
class Hanging {
 public:
  ~Hanging() {
    GoOn();
    while (DetachedThreads() > 0) std::this_thread::yield();
  }
  Task work() {
    return [waits = waits_] { waits.wait(); };
  }
  void GoOn() {
    if (!std::exchange(goes_on_, true)) go_.set_value();
  }

 private:
  std::promise<void> go_;
  const std::shared_future<void> waits_ = go_.get_future().share();
  bool goes_on_ = false;
};

TEST_F(EventLoopTest, WorkApartThatHangsIsLeftBehind) {
  Hanging hanging;
  auto held = std::make_shared<int>(1);
  std::string order;
  auto hangs = loop_->RunApart(hanging.work(), [held] { ADD_FAILURE() << "nobody waits for it"; });
  const auto next = loop_->RunApart([&] { order += "work "; }, [&] { order += "done"; });
  hangs.reset();
  EXPECT_EQ(held.use_count(), 1);
  io_.run();
  EXPECT_EQ(order, "work done");
  EXPECT_GE(loop_->threads_apart(), 1u);
  hanging.GoOn();
  while (loop_->threads_apart() > 0) std::this_thread::yield();
}

TEST_F(EventLoopTest, NobodyHearsOfWorkApartThatEndedJustBefore) {
  auto work = loop_->RunApart([] {}, [] { ADD_FAILURE() << "nobody waits for it"; });
  while (DetachedThreads() > 0) std::this_thread::yield();
  work.reset();
  io_.run();
}

TEST_F(EventLoopTest, WorkApartMayHangWhenTheLoopEnds) {
  Hanging hanging;
  auto work = loop_->RunApart(hanging.work(), [] { ADD_FAILURE() << "nobody waits for it"; });
  work.reset();
  loop_.reset();
  EXPECT_EQ(DetachedThreads(), 1u);
}

TEST(MayHang, IsWaitedForSoLong) {
  Hanging hanging;
  EXPECT_TRUE(RunWithin(absl::Minutes(1), [](Steps&) {}));
  EXPECT_FALSE(RunWithin(absl::Milliseconds(1), [work = hanging.work()](Steps& steps) {
    ++steps;
    work();
  }));
}

TEST_F(EventLoopTest, CanBeDestroyedWithWorkUnderWay) {
  auto kept = std::make_shared<int>(1);
  for (int i = 0; i < 10; ++i) {
    loop_->RunOnHelper([kept] {}, [kept] { ADD_FAILURE() << "nobody runs the loop"; });
    loop_->RunApart([kept] {}, [kept] { ADD_FAILURE() << "nobody waits for it"; });
  }
  loop_.reset();
}

}  // namespace
}  // namespace guideway
