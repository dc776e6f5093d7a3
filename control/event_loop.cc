#include "control/event_loop.h"

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "control/may_hang.h"

namespace guideway {
namespace {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

class AsioTimer final : public Timer {
 public:
  AsioTimer(asio::io_context& io, Clock::time_point start) : start_(start), timer_(io) {}

  void Set(absl::Duration when, Task task) override {
    timer_.expires_at(start_ + absl::ToChronoNanoseconds(when));
    // A call that is on its way when the timer is set anew or destroyed is told apart by `latest`.
    latest_ = std::make_shared<Task>(std::move(task));
    timer_.async_wait([weak = std::weak_ptr<Task>(latest_)](boost::system::error_code) {
      if (std::shared_ptr<Task> mine = weak.lock()) {
        const Task once = std::exchange(*mine, nullptr);
        if (once) once();
      }
    });
  }

  void Cancel() override {
    latest_.reset();
    timer_.cancel();
  }

 private:
  const Clock::time_point start_;
  asio::steady_timer timer_;
  std::shared_ptr<Task> latest_;
};

class AsioEventLoop final : public EventLoop {
 public:
  explicit AsioEventLoop(asio::io_context& io) : io_(io), helper_(1) {}

  ~AsioEventLoop() override {
    LeaveReader();
    helper_.stop();
    helper_.join();
  }

  absl::Duration Now() const override { return absl::FromChrono(Clock::now() - start_); }

  std::unique_ptr<Timer> NewTimer() override { return std::make_unique<AsioTimer>(io_, start_); }

  void Post(Task task) override { asio::post(io_, std::move(task)); }

  void RunOnHelper(Task work, Task done) override {
    asio::post(helper_, [this, keep_running = asio::make_work_guard(io_), work = std::move(work),
                         done = std::move(done)]() mutable {
      work();
      // What `work` holds comes back too: it may be the last to hold something of the loop's.
      asio::post(io_, [work = std::move(work), done = std::move(done)] { done(); });
    });
  }

  void RunOnReader(Task work, Task done) override {
    to_read_.emplace_back(std::move(work), std::move(done));
    if (reading_ == nullptr) Read();
  }

  void AbandonReader() override {
    const Task done = std::move(done_reading_);
    LeaveReader();
    Read();
  }
  size_t abandoned_readers() const override { return *abandoned_; }

 private:
  using WorkGuard = asio::executor_work_guard<asio::io_context::executor_type>;

  // What the loop and a thread that reads know of each other.
  struct Reading {
    explicit Reading(asio::io_context* io) : io(io) {}
    std::mutex mutex;
    asio::io_context* io;  // null: nobody waits for it any longer
    bool has_ended = false;
  };

  // Begins with what comes next.
  void Read() {
    reading_.reset();
    if (to_read_.empty()) return keep_running_.reset();
    reading_ = std::make_shared<Reading>(&io_);
    if (!keep_running_) keep_running_.emplace(asio::make_work_guard(io_));
    done_reading_ = std::move(to_read_.front().second);
    RunDetached([this, reading = reading_, abandoned = abandoned_,
                 work = std::move(to_read_.front().first)]() mutable {
      work();
      work = nullptr;
      const std::lock_guard<std::mutex> lock(reading->mutex);
      reading->has_ended = true;
      if (reading->io == nullptr) {
        --*abandoned;
        return;
      }
      asio::post(*reading->io, [this, reading] {
        {
          // The thread has left `io` alone by then.
          const std::lock_guard<std::mutex> lock(reading->mutex);
          if (reading->io == nullptr) return;
        }
        const Task done = std::move(done_reading_);
        Read();
        done();
      });
    });
    to_read_.pop_front();
  }

  void LeaveReader() {
    if (reading_ == nullptr) return;
    const std::lock_guard<std::mutex> lock(reading_->mutex);
    reading_->io = nullptr;
    if (!reading_->has_ended) ++*abandoned_;
  }

  asio::io_context& io_;
  const Clock::time_point start_ = Clock::now();
  asio::thread_pool helper_;
  std::deque<std::pair<Task, Task>> to_read_;  // work and done
  std::shared_ptr<Reading> reading_;           // null: nothing is read
  Task done_reading_;                          // of reading_
  std::optional<WorkGuard> keep_running_;      // while something is read
  const std::shared_ptr<std::atomic<size_t>> abandoned_ = std::make_shared<std::atomic<size_t>>(0);
};

}  // namespace

std::unique_ptr<EventLoop> NewEventLoop(asio::io_context& io) {
  return std::make_unique<AsioEventLoop>(io);
}

}  // namespace guideway
