// What a service manager hears, on a socket of the test's own.
#include "lb/service_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/fake_dataplane.h"
#include "tests/support/fake_event_loop.h"

namespace guideway {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::StartsWith;

class ServiceManagerTest : public testing::Test {
 protected:
  ServiceManagerTest() {
    char name[] = "/tmp/guideway-notify-XXXXXX";
    folder_ = mkdtemp(name);
    dataplane_.worker_status = {{.core = 2, .rounds = 1}, {.core = 3, .rounds = 1}};
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
  }
  ~ServiceManagerTest() override {
    if (listening_ >= 0) close(listening_);
    std::filesystem::remove_all(folder_);
  }

  // The manager's end: of a file, or with «@» of an abstract name.
  void Listen(const std::string& name) {
    listening_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
    std::memcpy(address.sun_path, name.data(), name.size());
    if (name[0] == '@') address.sun_path[0] = '\0';
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    ASSERT_EQ(bind(listening_, reinterpret_cast<sockaddr*>(&address), size), 0);
    setenv("NOTIFY_SOCKET", name.c_str(), 1);
  }
  void Listen() { Listen(folder_ + "/notify"); }

  void Watchdog(int64_t microseconds) {
    setenv("WATCHDOG_USEC", absl::StrCat(microseconds).c_str(), 1);
    setenv("WATCHDOG_PID", absl::StrCat(getpid()).c_str(), 1);
  }

  void Start() {
    manager_ =
        std::make_unique<ServiceManager>(io_, &loop_, &dataplane_, [this] { return status_; });
  }

  // What has come since the last call.
  std::vector<std::string> Heard() {
    std::vector<std::string> heard;
    char buffer[4096];
    for (;;) {
      io_.poll();
      io_.restart();
      const ssize_t size = recv(listening_, buffer, sizeof buffer, 0);
      if (size < 0) return heard;
      heard.emplace_back(buffer, size);
    }
  }

  void WorkersMove() {
    for (WorkerStatus& worker : dataplane_.worker_status) ++worker.rounds;
  }

  std::string folder_;
  int listening_ = -1;
  boost::asio::io_context io_;
  FakeEventLoop loop_;
  FakeDataplane dataplane_;
  std::string status_ = "all is well";
  std::unique_ptr<ServiceManager> manager_;
};

TEST_F(ServiceManagerTest, HearsOfTheLife) {
  Listen();
  Start();
  EXPECT_THAT(Heard(), IsEmpty()) << "not ready yet";
  manager_->Serving();
  EXPECT_THAT(Heard(), ElementsAre("READY=1", "STATUS=all is well"));
  manager_->Reloading();
  EXPECT_THAT(Heard(), ElementsAre(StartsWith("RELOADING=1\nMONOTONIC_USEC=")));
  manager_->Reloaded();
  EXPECT_THAT(Heard(), ElementsAre("READY=1"));
  loop_.Advance(absl::Seconds(10));
  EXPECT_THAT(Heard(), IsEmpty()) << "nobody asked for a watchdog, the status is the same";
  manager_->Stopping();
  status_ = "stopping";
  loop_.Advance(absl::Seconds(10));
  EXPECT_THAT(Heard(), ElementsAre("STOPPING=1"));
}

TEST_F(ServiceManagerTest, AbstractSocket) {
  Listen(absl::StrCat("@guideway-notify-", getpid()));
  Start();
  manager_->Serving();
  EXPECT_THAT(Heard(), ElementsAre("READY=1", "STATUS=all is well"));
}

TEST_F(ServiceManagerTest, ReadyWhenTheLastReloadIsDone) {
  Listen();
  Start();
  manager_->Reloading();
  manager_->Reloading();
  manager_->Reloaded();
  EXPECT_THAT(Heard(), ElementsAre(StartsWith("RELOADING=1"), StartsWith("RELOADING=1")));
  manager_->Reloaded();
  EXPECT_THAT(Heard(), ElementsAre("READY=1"));
}

TEST_F(ServiceManagerTest, StatusOfOneLineWhenItChanges) {
  Listen();
  Start();
  manager_->Serving();
  Heard();
  status_ = "refused:\nWATCHDOG=trigger";
  loop_.Advance(absl::Seconds(5));
  EXPECT_THAT(Heard(), ElementsAre("STATUS=refused:; WATCHDOG=trigger"));
}

TEST_F(ServiceManagerTest, WatchdogFourTimesInItsTime) {
  Listen();
  Watchdog(2'000'000);
  Start();
  manager_->Serving();
  EXPECT_THAT(Heard(), ElementsAre("READY=1", "STATUS=all is well", "WATCHDOG=1"));
  for (int i = 0; i < 4; ++i) {
    WorkersMove();
    loop_.Advance(absl::Milliseconds(500));
    EXPECT_THAT(Heard(), ElementsAre("WATCHDOG=1")) << i;
  }
}

TEST_F(ServiceManagerTest, NoWatchdogForAStuckWorker) {
  Listen();
  Watchdog(10'000'000);
  Start();
  manager_->Serving();
  Heard();
  ++dataplane_.worker_status[0].rounds;  // and not the other one
  loop_.Advance(absl::Seconds(1));
  EXPECT_THAT(Heard(), IsEmpty());
  ++dataplane_.worker_status[1]
        .rounds;  // a round each since they were last looked at, but not at once
  loop_.Advance(absl::Seconds(1));
  EXPECT_THAT(Heard(), IsEmpty());
  WorkersMove();
  loop_.Advance(absl::Seconds(1));
  EXPECT_THAT(Heard(), ElementsAre("WATCHDOG=1"));
}

TEST_F(ServiceManagerTest, WatchdogOfAnotherProcess) {
  Listen();
  Watchdog(10'000'000);
  setenv("WATCHDOG_PID", "1", 1);
  Start();
  manager_->Serving();
  EXPECT_THAT(Heard(), ElementsAre("READY=1", "STATUS=all is well"));
}

TEST_F(ServiceManagerTest, NonsenseIsNoWatchdog) {
  Listen();
  for (const char* time : {"soon", "-5", "0", "99999999999999999999"}) {
    Watchdog(1);
    setenv("WATCHDOG_USEC", time, 1);
    Start();
    manager_->Serving();
    EXPECT_THAT(Heard(), ElementsAre("READY=1", "STATUS=all is well")) << time;
  }
}

// The control thread waits for no manager, and what it has to say is not lost.
TEST_F(ServiceManagerTest, AManagerThatDoesNotListen) {
  Listen();
  Watchdog(4'000'000);
  Start();
  manager_->Serving();
  for (int i = 0; i < 1000; ++i) {
    WorkersMove();
    loop_.Advance(absl::Seconds(1));
    io_.poll();
    io_.restart();
  }
  manager_->Reloading();
  manager_->Reloaded();
  const std::vector<std::string> heard = Heard();
  ASSERT_GE(heard.size(), 4u);
  EXPECT_LT(heard.size(), 1000u) << "what it need not know does not pile up";
  EXPECT_EQ(heard[0], "READY=1");
  EXPECT_THAT(heard[heard.size() - 2], StartsWith("RELOADING=1"));
  EXPECT_EQ(heard.back(), "READY=1");
}

TEST_F(ServiceManagerTest, NobodyToTell) {
  unsetenv("NOTIFY_SOCKET");
  for (const char* name : {"", "/nowhere/notify", "vsock:2:9999", "@guideway-nobody"}) {
    setenv("NOTIFY_SOCKET", name, 1);
    Start();
    manager_->Serving();
    manager_->Reloading();
    manager_->Reloaded();
    loop_.Advance(absl::Seconds(5));
    manager_->Stopping();
    io_.poll();
  }
  setenv("NOTIFY_SOCKET", std::string(200, '/').c_str(), 1);
  Start();
  manager_->Serving();
}

}  // namespace
}  // namespace guideway
