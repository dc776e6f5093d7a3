#ifndef GUIDEWAY_TESTS_SUPPORT_HANGING_H_
#define GUIDEWAY_TESTS_SUPPORT_HANGING_H_

#include <future>
#include <thread>
#include <utility>

#include "control/event_loop.h"
#include "control/may_hang.h"

namespace guideway {

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

}  // namespace guideway

#endif  // GUIDEWAY_TESTS_SUPPORT_HANGING_H_
