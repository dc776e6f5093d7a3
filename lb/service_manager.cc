#include "lb/service_manager.h"

#include <glog/logging.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <cstdlib>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace guideway {
namespace {

using boost::asio::local::datagram_protocol;

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// How often the manager wants to hear of this process; 0: never.
absl::Duration WatchdogTime() {
  const std::string time = Environment("WATCHDOG_USEC"), pid = Environment("WATCHDOG_PID");
  if (time.empty() || (!pid.empty() && pid != absl::StrCat(getpid()))) return absl::ZeroDuration();
  int64_t microseconds;
  if (absl::SimpleAtoi(time, &microseconds) && microseconds > 0) {
    return absl::Microseconds(microseconds);
  }
  LOG(WARNING) << "WATCHDOG_USEC=" << time << " is no time: no watchdog";
  return absl::ZeroDuration();
}

uint64_t MonotonicMicroseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return uint64_t{1'000'000} * now.tv_sec + now.tv_nsec / 1000;
}

}  // namespace

ServiceManager::ServiceManager(boost::asio::io_context& io, EventLoop* loop,
                               const Dataplane* dataplane, std::function<std::string()> status)
    : socket_(io),
      loop_(loop),
      dataplane_(dataplane),
      status_(std::move(status)),
      timer_(loop->NewTimer()) {
  const std::string name = Environment("NOTIFY_SOCKET");
  if (name.empty() || !Connect(name)) return;
  watchdog_ = WatchdogTime();
  interval_ = absl::Seconds(1);
  if (watchdog_ > absl::ZeroDuration()) interval_ = std::min(interval_, watchdog_ / 4);
}

bool ServiceManager::Connect(const std::string& name) {
  boost::system::error_code error = boost::asio::error::invalid_argument;
  if (name[0] == '/' || name[0] == '@') {
    std::string path = name;
    if (path[0] == '@') path[0] = '\0';  // not a file but a name, see unix(7)
    try {
      socket_.connect(datagram_protocol::endpoint(path));
      return true;
    } catch (const boost::system::system_error& e) {  // the endpoint's own errors, too
      error = e.code();
    }
  }
  boost::system::error_code ignored;
  socket_.close(ignored);
  LOG(WARNING) << "NOTIFY_SOCKET=" << name << ": " << error.message()
               << "; the service manager will not be told anything";
  return false;
}

void ServiceManager::Serving() {
  Send("READY=1");
  Tick();
}

void ServiceManager::Reloading() {
  ++reloads_;
  Send(absl::StrCat("RELOADING=1\nMONOTONIC_USEC=", MonotonicMicroseconds()));
}

void ServiceManager::Reloaded() {
  if (--reloads_ == 0) Send("READY=1");
}

void ServiceManager::Stopping() {
  timer_->Cancel();
  Send("STOPPING=1");
}

void ServiceManager::Send(std::string message, std::shared_ptr<void> until_sent) {
  if (!socket_.is_open()) return;
  auto text = std::make_shared<const std::string>(std::move(message));
  // What the manager refuses is the manager's loss.
  socket_.async_send(boost::asio::buffer(*text),
                     [text, until_sent = std::move(until_sent)](const auto&, size_t) {});
}

void ServiceManager::Tick() {
  if (!socket_.is_open()) return;
  timer_->Set(loop_->Now() + interval_, [this] { Tick(); });
  const bool moved = WorkersMoved();
  if (!last_tick_.expired()) return;
  auto unsent = std::make_shared<char>();
  last_tick_ = unsent;
  std::string status = absl::StrReplaceAll(status_(), {{"\n", "; "}});
  if (status != last_status_) {
    Send("STATUS=" + status, unsent);
    last_status_ = std::move(status);
  }
  if (watchdog_ > absl::ZeroDuration() && moved) Send("WATCHDOG=1", unsent);
}

bool ServiceManager::WorkersMoved() {
  std::vector<uint64_t> rounds;
  std::string stuck;
  for (const WorkerStatus& worker : dataplane_->workers()) {
    const size_t i = rounds.size();
    if (i < rounds_.size() && rounds_[i] == worker.rounds) {
      absl::StrAppend(&stuck, stuck.empty() ? "" : ", ", worker.core);
    }
    rounds.push_back(worker.rounds);
  }
  rounds_ = std::move(rounds);
  const bool moved = stuck.empty();
  if (!moved && moved_) LOG(WARNING) << "no progress of the worker on core " << stuck;
  if (moved && !moved_) LOG(WARNING) << "all workers move again";
  moved_ = moved;
  return moved;
}

}  // namespace guideway
