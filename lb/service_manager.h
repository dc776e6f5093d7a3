// What the daemon tells the service manager that has started it, by the protocol of sd_notify(3):
// datagrams to the Unix socket that NOTIFY_SOCKET names, lines of KEY=VALUE.
//
//   Serving      READY=1                          forwards, and takes commands
//   Reloading    RELOADING=1, MONOTONIC_USEC=…    reads its configuration again, until Reloaded:
//   Reloaded     READY=1
//   Stopping     STOPPING=1
//   each second  STATUS=…                         for `systemctl status`, if it has changed
//   each second  WATCHDOG=1                       the control thread and every worker have moved
//
// The watchdog. With WatchdogSec= (WATCHDOG_USEC here) the manager ends and restarts what does not
// report in that time. The report comes from the control thread's own loop, so it fails to come if
// that hangs, and it is held back while any worker has made no round since the last one. It is made
// four times in that time if that is more often than each second.
//
// Not libsystemd: its sd_notify waits while the manager's queue is full, and the control thread
// waits for nobody. Here what cannot be sent at once is sent when there is room, in order; while
// a STATUS or WATCHDOG waits no other is added.
//
// Without NOTIFY_SOCKET all of this does nothing.
//
// Thread contract: all by the control thread, whose loop `loop` and `io` are.
#ifndef GUIDEWAY_LB_SERVICE_MANAGER_H_
#define GUIDEWAY_LB_SERVICE_MANAGER_H_

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/datagram_protocol.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "control/event_loop.h"
#include "dataplane/dataplane.h"

namespace guideway {

class ServiceManager {
 public:
  // Reads the environment. What it cannot make sense of it warns of in the log, and does without.
  // `status`: one line, how things are; called once a second.
  ServiceManager(boost::asio::io_context& io, EventLoop* loop, const Dataplane* dataplane,
                 std::function<std::string()> status);

  void Serving();
  // As many Reloaded as Reloading; the last one counts.
  void Reloading();
  void Reloaded();
  // The last word: nothing is sent after it.
  void Stopping();

 private:
  bool Connect(const std::string& name);
  // `until_sent` is held as long as the message waits.
  void Send(std::string message, std::shared_ptr<void> until_sent = nullptr);
  void Tick();
  bool WorkersMoved();

  boost::asio::local::datagram_protocol::socket socket_;
  EventLoop* const loop_;
  const Dataplane* const dataplane_;
  const std::function<std::string()> status_;
  const std::unique_ptr<Timer> timer_;
  absl::Duration watchdog_;        // what the manager asked for; 0: no watchdog
  absl::Duration interval_;        // of Tick
  int reloads_ = 0;                // under way
  std::weak_ptr<void> last_tick_;  // lives while a message of the last Tick waits
  std::string last_status_;
  std::vector<uint64_t> rounds_;  // of each worker, at the last Tick
  bool moved_ = true;             // what WorkersMoved said last
};

}  // namespace guideway

#endif  // GUIDEWAY_LB_SERVICE_MANAGER_H_
