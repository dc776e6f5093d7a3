// The control side of guidewayd in this process: a real Controller and ApiServer on a thread of
// their own, a Unix socket in a temporary directory, and fakes where packets and probes would be.
//
// Thread contract: everything but Do is the test's thread. The fakes belong to the daemon's thread;
// touch them in Do, or before the constructor returns.
#ifndef GUIDEWAY_TESTS_SUPPORT_API_DAEMON_H_
#define GUIDEWAY_TESTS_SUPPORT_API_DAEMON_H_

#include <stdlib.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>

#include "control/api_server.h"
#include "control/controller.h"
#include "control/event_loop.h"
#include "control/history.h"
#include "tests/support/fake_dataplane.h"
#include "tests/support/fake_prober.h"
#include "tests/support/test_config.h"

namespace guideway {

class ApiDaemon {
 public:
  explicit ApiDaemon(const std::string& config_text, HttpLimits limits = {},
                     ControlAccess access = {}) {
    std::string name = std::filesystem::temp_directory_path().string() + "/guideway.XXXXXX";
    directory_ = mkdtemp(name.data());
    socket_ = directory_ + "/run/guideway.sock";
    const std::string file = directory_ + "/guideway.yaml";
    history_ = std::make_unique<History>(directory_ + "/state", file);
    auto loaded = LoadSource(file, config_text, file);
    CHECK(loaded.ok()) << loaded.status().message();
    controller_ = std::make_unique<Controller>(
        loop_.get(), &prober_, &dataplane_,
        Controller::Options{.config_file = file,
                            .version = "test",
                            .history = history_.get(),
                            .can_start = [this](const LoadedConfig&) { return host_; }},
        Beginning(*std::move(loaded)));
    history_->Attach(disk_.get());
    CHECK(controller_->Start().ok());
    auto server = ApiServer::Listen(io_, controller_.get(), socket_, limits, std::move(access));
    CHECK(server.ok()) << server.status().message();
    server_ = *std::move(server);
    thread_ = std::thread([this] { io_.run(); });
  }

  ~ApiDaemon() {
    Do([this] {
      server_.reset();
      controller_.reset();
      history_.reset();
      disk_.reset();
      loop_.reset();
      work_.reset();
      io_.stop();
    });
    thread_.join();
    std::filesystem::remove_all(directory_);
  }

  const std::string& socket() const { return socket_; }
  const std::string& directory() const { return directory_; }

  // Runs `task` on the daemon's thread and waits for it.
  void Do(const std::function<void()>& task) {
    std::promise<void> done;
    boost::asio::post(io_, [&] {
      task();
      done.set_value();
    });
    done.get_future().wait();
  }

  EventLoop& loop() { return *loop_; }
  EventLoop& disk() { return *disk_; }
  Controller& controller() { return *controller_; }
  ApiServer& server() { return *server_; }
  FakeDataplane& dataplane() { return dataplane_; }
  FakeProber& prober() { return prober_; }
  // What the host says of a configuration that guidewayd would be started with.
  absl::Status& host() { return host_; }

 private:
  std::string directory_, socket_;
  boost::asio::io_context io_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_ =
      boost::asio::make_work_guard(io_);
  std::unique_ptr<EventLoop> loop_ = NewEventLoop(io_), disk_ = NewEventLoop(io_);
  FakeProber prober_{loop_.get()};
  FakeDataplane dataplane_;
  absl::Status host_;
  std::unique_ptr<History> history_;
  std::unique_ptr<Controller> controller_;
  std::unique_ptr<ApiServer> server_;
  std::thread thread_;
};

}  // namespace guideway

#endif  // GUIDEWAY_TESTS_SUPPORT_API_DAEMON_H_
