// The control thread's door to time and to its helper threads.
//
// Everything in control/ that keeps state runs on one thread, this loop's, and asks the loop for
// the time, for a call at a later time, and for long work to be done elsewhere. A test puts a fake
// loop (tests/support/fake_event_loop.h) in its place and moves the time by hand.
//
// Thread contract: construct, call and destroy on the loop's thread, or while the loop does not
// run. Tasks and `done`s run on the loop's thread, one at a time, never from within the call that
// asked for them, and are destroyed there. `work` runs on a helper thread; RunOnHelper's is
// destroyed on the loop's.
#ifndef GUIDEWAY_CONTROL_EVENT_LOOP_H_
#define GUIDEWAY_CONTROL_EVENT_LOOP_H_

#include <cstddef>
#include <functional>
#include <memory>

#include "absl/time/time.h"

namespace boost::asio {
class io_context;
}

namespace guideway {

using Task = std::function<void()>;

// One call in the future at most. Destroying it forgets the call.
class Timer {
 public:
  virtual ~Timer() = default;
  // Calls `task` once, as soon as `when` is reached. Replaces what was set before.
  virtual void Set(absl::Duration when, Task task) = 0;
  virtual void Cancel() = 0;
};

// Work that somebody waits for. Destroying it is to wait no longer.
class WorkApart {
 public:
  virtual ~WorkApart() = default;
};

class EventLoop {
 public:
  virtual ~EventLoop() = default;

  // Since some moment before the loop was made; never runs back.
  virtual absl::Duration Now() const = 0;

  // The timer must not outlive the loop, nor must work that is waited for.
  virtual std::unique_ptr<Timer> NewTimer() = 0;

  // Calls `task` here, soon.
  virtual void Post(Task task) = 0;

  // Runs `work` on the helper thread, after all that was given to it before, then `done` here.
  virtual void RunOnHelper(Task work, Task done) = 0;
  // Runs `work`, which may hang, on a thread of its own (control/may_hang.h), then `done` here,
  // unless what is returned was destroyed before. `work` must own all that it touches, and is
  // destroyed on its thread.
  virtual std::unique_ptr<WorkApart> RunApart(Task work, Task done) = 0;
  // Threads that are at such work, waited for or not.
  virtual size_t threads_apart() const = 0;
};

// The real one: `io` runs the tasks. Its helper thread starts here, with the CPU affinity of the
// caller. The destructor waits for the piece of work that it is at and drops the rest.
std::unique_ptr<EventLoop> NewEventLoop(boost::asio::io_context& io);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_EVENT_LOOP_H_
