// In a process of the test's own for each: what is dropped does not come back.
#include "lb/privileges.h"

#include <gtest/gtest.h>
#include <linux/capability.h>
#include <semaphore.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

namespace guideway {
namespace {

constexpr Capabilities kRaw = Capabilities{1} << CAP_NET_RAW;
constexpr Capabilities kAdmin = Capabilities{1} << CAP_NET_ADMIN;

TEST(NeededWhileRunning, ByDevice) {
  EXPECT_EQ(NeededWhileRunning({}), kRaw);
  EXPECT_EQ(NeededWhileRunning({"net_af_packet0,iface=eth1"}), kRaw);
  EXPECT_EQ(NeededWhileRunning({"net_null0", "net_pcap0,rx_pcap=a"}), kRaw);
  EXPECT_EQ(NeededWhileRunning({"net_tap0,iface=gw"}), kRaw);
  EXPECT_EQ(NeededWhileRunning({"net_af_xdp0,iface=eth1"}), kRaw | kAdmin);
  EXPECT_EQ(NeededWhileRunning({"0000:3b:00.0"}), kRaw | kAdmin);
  EXPECT_EQ(NeededWhileRunning({"net_tap0", "0000:3b:00.0"}), kRaw | kAdmin);
}

// A set of a thread, as /proc says it.
Capabilities Held(const std::string& task, const std::string& set) {
  std::ifstream status(task + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(set, 0) == 0) return std::strtoull(line.c_str() + set.size(), nullptr, 16);
  }
  return ~Capabilities{0};
}

// In a child: 0 if all is as it should be, else which step is not.
int DropAndLook() {
  const Capabilities before = Held("/proc/self", "CapPrm:\t");
  sem_t never;
  sem_init(&never, 0, 0);
  for (int i = 0; i < 3; ++i) {
    std::thread([&] {
      while (sem_wait(&never) != 0) {
      }
    }).detach();
  }
  if (!DropCapabilities(kRaw).ok()) return 1;
  int threads = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) {
    ++threads;
    const std::string task = entry.path().string();
    const bool own = entry.path().filename() == std::to_string(gettid());
    const Capabilities expected = own ? before & kRaw : 0;
    for (const char* set : {"CapPrm:\t", "CapEff:\t"}) {
      if (Held(task, set) != expected) return own ? 2 : 3;
    }
    if (Held(task, "CapInh:\t") != 0 || Held(task, "NoNewPrivs:\t") != 1) return 4;
  }
  if (threads != 4) return 5;
  // A program that root executes gets no more: the last digits of its set, without the zeros
  // before.
  const Capabilities kept = before & kRaw;
  const std::string expected = kept == 0 ? "" : "2000";
  const std::string look =
      "test \"$(sed -n 's/^CapPrm:.0*//p' /proc/self/status)\" = '" + expected + "'";
  return std::system(look.c_str()) == 0 ? 0 : 6;
}

TEST(DropCapabilities, InEveryThreadForGood) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(std::_Exit(DropAndLook()), testing::ExitedWithCode(0), "");
}

int DropWithADeafThread() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  sem_t never;
  sem_init(&never, 0, 0);
  std::thread([&] { sem_wait(&never); }).detach();
  return DropCapabilities(kRaw).ok() ? 1 : 0;
}

// It does not pretend.
TEST(DropCapabilities, AThreadThatLetsNoSignalThrough) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(std::_Exit(DropWithADeafThread()), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace guideway
