#include "control/event_loop.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <memory>
#include <mutex>
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

class AsioWorkApart final : public WorkApart {
 public:
  // What the loop and the thread know of each other.
  struct Shared {
    Shared(asio::io_context* io, Task done)
        : io(io), done(std::move(done)), keep_running(asio::make_work_guard(*io)) {}

    // On the loop.
    Task Leave() {
      const std::lock_guard<std::mutex> lock(mutex);
      io = nullptr;
      keep_running.reset();
      return std::exchange(done, nullptr);
    }
    void End() {
      if (const Task task = Leave()) task();
    }

    std::mutex mutex;
    asio::io_context* io;  // null: nobody waits for it any longer
    Task done;
    asio::executor_work_guard<asio::io_context::executor_type> keep_running;
  };

  explicit AsioWorkApart(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}
  ~AsioWorkApart() override { shared_->Leave(); }

 private:
  const std::shared_ptr<Shared> shared_;
};

class AsioEventLoop final : public EventLoop {
 public:
  explicit AsioEventLoop(asio::io_context& io) : io_(io), helper_(1) {}

  ~AsioEventLoop() override {
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

  std::unique_ptr<WorkApart> RunApart(Task work, Task done) override {
    auto shared = std::make_shared<AsioWorkApart::Shared>(&io_, std::move(done));
    RunDetached([shared, work = std::move(work)]() mutable {
      work();
      work = nullptr;
      const std::lock_guard<std::mutex> lock(shared->mutex);
      if (shared->io == nullptr) return;
      asio::post(*shared->io, [shared] { shared->End(); });
    });
    return std::make_unique<AsioWorkApart>(std::move(shared));
  }
  size_t threads_apart() const override { return DetachedThreads(); }

 private:
  asio::io_context& io_;
  const Clock::time_point start_ = Clock::now();
  asio::thread_pool helper_;
};

}  // namespace

std::unique_ptr<EventLoop> NewEventLoop(asio::io_context& io) {
  return std::make_unique<AsioEventLoop>(io);
}

}  // namespace guideway
