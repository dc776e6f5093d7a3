// An EventLoop whose time stands still until the test moves it.
//
// Nothing happens by itself: Run does what is due now, Advance moves the time from one timer to the
// next, and work for the helper thread waits until RunHelper, so that a test can let things happen
// while a Compile is «under way». One thread, no sleeping, the same order every time.
#ifndef GUIDEWAY_TESTS_SUPPORT_FAKE_EVENT_LOOP_H_
#define GUIDEWAY_TESTS_SUPPORT_FAKE_EVENT_LOOP_H_

#include <deque>
#include <map>
#include <memory>
#include <utility>

#include "control/event_loop.h"

namespace guideway {

class FakeEventLoop final : public EventLoop {
 public:
  absl::Duration Now() const override { return now_; }

  std::unique_ptr<Timer> NewTimer() override { return std::make_unique<FakeTimer>(this); }

  void Post(Task task) override { posted_.push_back(std::move(task)); }

  void RunOnHelper(Task work, Task done) override {
    helper_.emplace_back(std::move(work), std::move(done));
  }

  // Pieces of work that wait for RunHelper.
  size_t helper_work() const { return helper_.size(); }

  // What is posted, and timers that are due; not the helper.
  void Run() {
    for (;;) {
      if (!posted_.empty()) {
        Task task = std::move(posted_.front());
        posted_.pop_front();
        task();
      } else if (!timers_.empty() && timers_.begin()->first <= now_) {
        Task task = std::move(timers_.begin()->second.second);
        timers_.begin()->second.first->armed_ = false;
        timers_.erase(timers_.begin());
        task();
      } else {
        return;
      }
    }
  }

  // One piece of the helper's work with its `done`, then Run.
  void RunHelper() {
    auto [work, done] = std::move(helper_.front());
    helper_.pop_front();
    work();
    done();
    Run();
  }

  // The same in two steps, between which the loop has what it computed but does not know it.
  void BeginHelper() {
    auto [work, done] = std::move(helper_.front());
    helper_.pop_front();
    work();
    computed_.push_back(std::move(done));
  }
  void EndHelper() {
    Task done = std::move(computed_.front());
    computed_.pop_front();
    done();
    Run();
  }
  // Pieces of work that wait for EndHelper.
  size_t helper_computed() const { return computed_.size(); }

  // Everything that can be done without the time moving.
  void RunAll() {
    Run();
    while (!helper_.empty()) RunHelper();
  }

  // Timers one after the other, each at its time; the helper's work is done at once.
  void Advance(absl::Duration by) {
    const absl::Duration end = now_ + by;
    RunAll();
    while (!timers_.empty() && timers_.begin()->first <= end) {
      now_ = std::max(now_, timers_.begin()->first);
      RunAll();
    }
    now_ = end;
  }

  // Timers one after the other, each at its time; the helper gets nowhere.
  void AdvanceLoop(absl::Duration by) {
    const absl::Duration end = now_ + by;
    Run();
    while (!timers_.empty() && timers_.begin()->first <= end) {
      now_ = std::max(now_, timers_.begin()->first);
      Run();
    }
    now_ = end;
  }

  // The loop was away for so long: time passes and nothing is done.
  void Stall(absl::Duration by) { now_ += by; }

 private:
  class FakeTimer;
  using Timers = std::multimap<absl::Duration, std::pair<FakeTimer*, Task>>;

  class FakeTimer final : public Timer {
   public:
    explicit FakeTimer(FakeEventLoop* loop) : loop_(loop) {}
    ~FakeTimer() override { Cancel(); }
    void Set(absl::Duration when, Task task) override {
      Cancel();
      place_ = loop_->timers_.emplace(when, std::make_pair(this, std::move(task)));
      armed_ = true;
    }
    void Cancel() override {
      if (std::exchange(armed_, false)) loop_->timers_.erase(place_);
    }

   private:
    friend class FakeEventLoop;
    FakeEventLoop* const loop_;
    Timers::iterator place_;
    bool armed_ = false;
  };

  absl::Duration now_ = absl::Seconds(1000);
  std::deque<Task> posted_;
  std::deque<std::pair<Task, Task>> helper_;
  std::deque<Task> computed_;
  Timers timers_;
};

}  // namespace guideway

#endif  // GUIDEWAY_TESTS_SUPPORT_FAKE_EVENT_LOOP_H_
