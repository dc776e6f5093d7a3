// An EventLoop whose time stands still until the test moves it.
//
// Nothing happens by itself: Run does what is due now, Advance moves the time from one timer to the
// next, and work for the helper thread waits until RunHelper, so that a test can let things happen
// while a Compile is «under way». One thread, no sleeping, the same order every time.
#ifndef GUIDEWAY_TESTS_SUPPORT_FAKE_EVENT_LOOP_H_
#define GUIDEWAY_TESTS_SUPPORT_FAKE_EVENT_LOOP_H_

#include <algorithm>
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
    helper_.push_back({std::move(work), std::move(done), 0});
  }
  // Like the helper's, unless a test takes pieces out of their order.
  std::unique_ptr<WorkApart> RunApart(Task work, Task done) override {
    helper_.push_back({std::move(work), std::move(done), ++last_apart_});
    return std::make_unique<FakeWorkApart>(this, last_apart_);
  }
  size_t threads_apart() const override {
    return left_behind_ +
           static_cast<size_t>(std::count_if(helper_.begin(), helper_.end(),
                                             [](const Piece& piece) { return piece.apart > 0; }));
  }
  // Those that nobody waited for have ended at last.
  void EndLeftBehind() { left_behind_ = 0; }

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
    const Piece piece = std::move(helper_.front());
    helper_.pop_front();
    piece.work();
    piece.done();
    Run();
  }

  // The same in two steps, between which the helper has a result that the loop does not know of.
  // Which piece of those that wait: the test knows which threads are to have done it.
  void BeginHelper(size_t which = 0) {
    computed_.push_back(std::move(helper_[which]));
    helper_.erase(helper_.begin() + static_cast<std::ptrdiff_t>(which));
    computed_.back().work();
  }
  void EndHelper(size_t which = 0) {
    const Piece piece = std::move(computed_[which]);
    computed_.erase(computed_.begin() + static_cast<std::ptrdiff_t>(which));
    piece.done();
    Run();
  }
  // The oldest piece's work, for a thread of the test's own, and then EndHelper.
  Task TakeWork() {
    computed_.push_back(std::move(helper_.front()));
    helper_.pop_front();
    return std::move(computed_.back().work);
  }
  // Pieces of work that wait for EndHelper.
  size_t helper_computed() const { return computed_.size(); }
  // Of all pieces that wait for either, those that have a thread of their own, or the helper's.
  size_t pieces(bool apart) const {
    const auto is_its = [apart](const Piece& piece) { return (piece.apart > 0) == apart; };
    return static_cast<size_t>(std::count_if(helper_.begin(), helper_.end(), is_its) +
                               std::count_if(computed_.begin(), computed_.end(), is_its));
  }

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
  struct Piece {
    Task work, done;
    size_t apart;  // 0: the helper's
  };

  class FakeWorkApart final : public WorkApart {
   public:
    FakeWorkApart(FakeEventLoop* loop, size_t number) : loop_(loop), number_(number) {}
    ~FakeWorkApart() override {
      const auto is_it = [this](const Piece& piece) { return piece.apart == number_; };
      loop_->left_behind_ += std::erase_if(loop_->helper_, is_it);
      std::erase_if(loop_->computed_, is_it);
    }

   private:
    FakeEventLoop* const loop_;
    const size_t number_;
  };

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
  std::deque<Piece> helper_;
  std::deque<Piece> computed_;
  size_t last_apart_ = 0, left_behind_ = 0;
  Timers timers_;
};

}  // namespace guideway

#endif  // GUIDEWAY_TESTS_SUPPORT_FAKE_EVENT_LOOP_H_
