// ICMP probes. Needs root, for raw sockets and, where backends are hostile, a network namespace in
// which the kernel answers no echo request: a raw socket of the test does.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/ip_icmp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <boost/asio/ip/icmp.hpp>
#include <boost/asio/post.hpp>
#include <cstring>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "maglev/headers.h"
#include "tests/support/prober_fixture.h"

namespace guideway::testing {
namespace {

namespace asio = boost::asio;
using asio::ip::icmp;
using boost::system::error_code;
using ::testing::HasSubstr;

class IcmpProberTest : public ProberFixture {
 protected:
  void SetUp() override {
    error_code e;
    icmp::socket(io_).open(icmp::v4(), e);
    if (e) GTEST_SKIP() << "no raw sockets: " << e.message();
  }
  static ProbeQuestion Echo(const char* address) {
    return Question(ProbeQuestion::Icmp(), 0, address);
  }
};

TEST_F(IcmpProberTest, LoopbackAnswers) {
  EXPECT_EQ(Ask(Echo("127.0.0.1")).reason, "ok");
  EXPECT_EQ(Ask(Echo("127.0.0.2")).reason, "ok");
}

TEST_F(IcmpProberTest, OverIpv6) {
  error_code e;
  asio::ip::udp::socket(io_, asio::ip::udp::v6()).bind({asio::ip::address_v6::loopback(), 0}, e);
  if (e) GTEST_SKIP() << "this host has no ::1: " << e.message();
  EXPECT_EQ(Ask(Echo("::1")).reason, "ok");
}

TEST_F(IcmpProberTest, ManyAtOnce) {
  constexpr int kMany = 3000;
  int well = 0, left = kMany;
  for (int i = 0; i < kMany; ++i) {
    prober_->Ask(Echo("127.0.0.1"), kLong, [&](const ProbeAnswer& a) {
      well += a.kind == ProbeAnswer::Kind::kOk;
      if (--left == 0) io_.stop();
    });
  }
  io_.run();
  EXPECT_EQ(well, kMany);
}

// More replies than are read in one go: the deadlines of those that are left wait for theirs.
TEST_F(IcmpProberTest, AStallOfTheLoopIsNotTheBackendsFault) {
  constexpr int kMany = 1000;
  int well = 0, left = kMany;
  for (int i = 0; i < kMany; ++i) {
    prober_->Ask(Echo("127.0.0.1"), kShort, [&](const ProbeAnswer& a) {
      well += a.kind == ProbeAnswer::Kind::kOk;
      if (--left == 0) io_.stop();
    });
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(120));
  io_.run();
  EXPECT_EQ(well, kMany);
}

TEST_F(IcmpProberTest, ProbesAndProberMayEndBeforeTheAnswer) {
  prober_->Ask(Echo("127.0.0.1"), kLong, [](const ProbeAnswer&) { FAIL() << "answered"; });
  prober_.reset();  // and io_ with the probe after it
}

TEST_F(IcmpProberTest, WithoutThePrivilegeNothingIsSaidOfTheBackend) {
  if (geteuid() != 0) GTEST_SKIP() << "not root";
  ASSERT_EQ(seteuid(65534), 0);
  const ProbeAnswer answer = Ask(Echo("127.0.0.1"));
  ASSERT_EQ(seteuid(0), 0);
  EXPECT_EQ(answer.kind, ProbeAnswer::Kind::kNotAsked);
  EXPECT_EQ(answer.reason, "could not ask: Operation not permitted");
  EXPECT_EQ(Ask(Echo("127.0.0.1")).reason, "ok") << "once it has it";
}

// In a namespace where the test answers.
class HostileEchoTest : public IcmpProberTest {
 protected:
  // What is sent for a request (from its ICMP header on), and from which address.
  struct Reply {
    std::string message;
    const char* source = "127.0.0.1";
  };
  using Answer = std::function<std::vector<Reply>(const std::string& request)>;

  void SetUp() override {
    IcmpProberTest::SetUp();
    if (IsSkipped()) return;
    before_ = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (unshare(CLONE_NEWNET) != 0) GTEST_SKIP() << "no network namespaces";
    inside_ = true;
    const int any = socket(AF_INET, SOCK_DGRAM, 0);
    ifreq lo = {};
    std::strcpy(lo.ifr_name, "lo");
    lo.ifr_flags = IFF_UP;
    ASSERT_EQ(ioctl(any, SIOCSIFFLAGS, &lo), 0);
    close(any);
    std::ofstream sysctl("/proc/sys/net/ipv4/icmp_echo_ignore_all");
    sysctl << "1" << std::flush;
    if (!sysctl) GTEST_SKIP() << "sysctls cannot be set";
    responder_.emplace(io_, icmp::v4());
    for (const char* source : {"127.0.0.1", "127.0.0.2"}) {
      senders_.emplace_back(io_, icmp::endpoint(asio::ip::make_address(source), 0));
    }
    Receive();
  }
  void TearDown() override {
    if (inside_) {
      ASSERT_EQ(setns(before_, CLONE_NEWNET), 0);
    }
    if (before_ >= 0) close(before_);
  }

  ProbeAnswer AskWith(Answer answer, absl::Duration timeout) {
    answer_ = std::move(answer);
    return Ask(Echo("127.0.0.1"), timeout);
  }

  static std::string WithChecksum(std::string message) {
    message[2] = message[3] = 0;
    const uint16_t checksum = InternetChecksum(message.data(), message.size());
    std::memcpy(&message[2], &checksum, 2);
    return message;
  }
  static std::string Good(std::string request) {
    request[0] = ICMP_ECHOREPLY;
    return WithChecksum(request);
  }
  // The good reply with another byte, and a checksum for it.
  static std::string Changed(const std::string& request, size_t at) {
    std::string reply = Good(request);
    reply[at] = static_cast<char>(reply[at] + 1);
    return WithChecksum(reply);
  }

 private:
  void Receive() {
    responder_->async_receive(asio::buffer(packet_), [this](error_code e, size_t size) {
      if (e) return;
      const size_t header = (packet_[0] & 0xf) * 4u;
      if (size > header && packet_[header] == ICMP_ECHO) {
        for (const Reply& reply : answer_(std::string(packet_ + header, size - header))) {
          icmp::socket& sender = senders_[std::strcmp(reply.source, "127.0.0.1") == 0 ? 0 : 1];
          sender.send_to(asio::buffer(reply.message), {asio::ip::make_address("127.0.0.1"), 0});
        }
      }
      Receive();
    });
  }

  int before_ = -1;
  bool inside_ = false;
  Answer answer_;
  std::optional<icmp::socket> responder_;
  std::vector<icmp::socket> senders_;
  char packet_[65536];
};

TEST_F(HostileEchoTest, OnlyItsOwnReplyCounts) {
  using Replies = std::vector<Reply>;
  const auto good = [](const std::string& r) -> Replies { return {{Good(r)}}; };
  EXPECT_EQ(AskWith(good, kLong).reason, "ok");

  const auto silent = [](const std::string&) { return Replies(); };
  ExpectFailed(AskWith(silent, kShort), "timeout after 50ms");

  const std::vector<std::pair<const char*, Answer>> rows = {
      {"the request itself", [](const std::string& r) -> Replies { return {{WithChecksum(r)}}; }},
      {"a wrong checksum",
       [](const std::string& r) -> Replies {
         std::string reply = Good(r);
         reply[2] = static_cast<char>(reply[2] + 1);
         return {{reply}};
       }},
      {"another code", [](const std::string& r) -> Replies { return {{Changed(r, 1)}}; }},
      {"another id", [](const std::string& r) -> Replies { return {{Changed(r, 4)}}; }},
      {"another sequence", [](const std::string& r) -> Replies { return {{Changed(r, 6)}}; }},
      {"another nonce", [](const std::string& r) -> Replies { return {{Changed(r, 15)}}; }},
      {"from another address",
       [](const std::string& r) -> Replies {
         return {{Good(r), "127.0.0.2"}};
       }},
      {"cut short",
       [](const std::string& r) -> Replies {
         return {{WithChecksum(Good(r).substr(0, 15))}, {WithChecksum(Good(r).substr(0, 4))}};
       }},
      {"too long",
       [](const std::string& r) -> Replies {
         return {{WithChecksum(Good(r) + "x")}, {WithChecksum(Good(r) + std::string(60000, 'x'))}};
       }},
  };
  for (const auto& [what, answer] : rows) {
    SCOPED_TRACE(what);
    ExpectFailed(AskWith(answer, kShort), "timeout after 50ms");
    // And none of them is in the way of the right one.
    EXPECT_EQ(AskWith(
                  [&answer = answer](const std::string& r) {
                    Replies replies = answer(r);
                    replies.push_back({Good(r)});
                    return replies;
                  },
                  kLong)
                  .reason,
              "ok");
  }
}

TEST_F(HostileEchoTest, AReplyThatComesTooLateIsNotTheNextOnes) {
  std::string first;
  ExpectFailed(AskWith(
                   [&](const std::string& r) {
                     first = r;
                     return std::vector<Reply>();
                   },
                   kShort),
               "timeout after 50ms");
  ExpectFailed(
      AskWith([&](const std::string&) { return std::vector<Reply>{{Good(first)}}; }, kShort),
      "timeout after 50ms");
}

TEST_F(HostileEchoTest, NoRoute) { ExpectFailed(Ask(Echo("192.0.2.1")), "network unreachable"); }

}  // namespace
}  // namespace guideway::testing
