#include "control/event_loop.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <optional>
#include <utility>

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
    helper_.stop();
    helper_.join();
    if (reader_) {
      reader_->stop();
      reader_->join();
    }
  }

  absl::Duration Now() const override { return absl::FromChrono(Clock::now() - start_); }

  std::unique_ptr<Timer> NewTimer() override { return std::make_unique<AsioTimer>(io_, start_); }

  void Post(Task task) override { asio::post(io_, std::move(task)); }

  void RunOnHelper(Task work, Task done) override {
    RunOn(helper_, std::move(work), std::move(done));
  }

  void RunOnReader(Task work, Task done) override {
    if (!reader_) reader_.emplace(1);
    RunOn(*reader_, std::move(work), std::move(done));
  }

 private:
  void RunOn(asio::thread_pool& thread, Task work, Task done) {
    asio::post(thread, [this, keep_running = asio::make_work_guard(io_), work = std::move(work),
                        done = std::move(done)]() mutable {
      work();
      // What `work` holds comes back too: it may be the last to hold something of the loop's.
      asio::post(io_, [work = std::move(work), done = std::move(done)] { done(); });
    });
  }

  asio::io_context& io_;
  const Clock::time_point start_ = Clock::now();
  asio::thread_pool helper_;
  std::optional<asio::thread_pool> reader_;
};

}  // namespace

std::unique_ptr<EventLoop> NewEventLoop(asio::io_context& io) {
  return std::make_unique<AsioEventLoop>(io);
}

}  // namespace guideway
