#include "control/may_hang.h"

#include <future>
#include <memory>
#include <thread>
#include <utility>

namespace guideway {
namespace {

std::atomic<size_t> threads{0};

}  // namespace

void RunDetached(std::function<void()> work) {
  ++threads;
  std::thread([work = std::move(work)]() mutable {
    work();
    work = nullptr;
    --threads;
  }).detach();
}

bool RunWithin(absl::Duration limit, std::function<void(Steps& steps)> work) {
  struct Shared {
    std::promise<void> ended;
    Steps steps{0};
  };
  const auto shared = std::make_shared<Shared>();
  const std::future<void> end = shared->ended.get_future();
  RunDetached([shared, work = std::move(work)] {
    work(shared->steps);
    shared->ended.set_value();
  });
  for (;;) {
    const uint64_t before = shared->steps;
    if (end.wait_for(absl::ToChronoNanoseconds(limit)) == std::future_status::ready) return true;
    if (shared->steps == before && (before & kComputes) == 0) return false;
  }
}

size_t DetachedThreads() { return threads; }

}  // namespace guideway
