// DNS and UDP probes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <boost/asio/post.hpp>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "control/dns_message.h"
#include "tests/support/prober_fixture.h"

namespace guideway::testing {
namespace {

namespace asio = boost::asio;
using asio::ip::udp;
using ::testing::HasSubstr;

using Datagrams = std::vector<std::string>;

// An answer to `query` with these flags, and one record as often as `records` says.
std::string DnsAnswer(std::string query, uint16_t flags, int records = 1) {
  query[2] = static_cast<char>(flags >> 8);
  query[3] = static_cast<char>(flags);
  query[7] = static_cast<char>(records);
  for (int i = 0; i < records; ++i) {
    // A pointer to the question's name, A, IN, 60 seconds, 192.0.2.1.
    query += std::string("\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1", 16);
  }
  return query;
}
constexpr uint16_t kNoError = 0x8180, kServFail = 0x8182, kNxDomain = 0x8183, kRefused = 0x8185;
constexpr uint16_t kTruncated = 0x8380;

std::string With(std::string text, size_t at, char value) {
  text[at] = value;
  return text;
}

class DatagramProberTest : public ProberFixture {
 protected:
  ProbeAnswer AskDns(DatagramServer::Answer answer, absl::Duration timeout = kLong) {
    DatagramServer server(io_, std::move(answer));
    return Ask(Question(ProbeQuestion::Dns{"health.example.com"}, server.port()), timeout);
  }
  ProbeAnswer AskUdp(const std::string& send, const std::string& expect,
                     DatagramServer::Answer answer, absl::Duration timeout = kLong) {
    DatagramServer server(io_, std::move(answer));
    return Ask(Question(ProbeQuestion::Udp{send, expect}, server.port()), timeout);
  }
};

TEST(DnsMessage, TheQuery) {
  EXPECT_EQ(DnsQuery(0x1234, "a.Example.com."),
            std::string("\x12\x34\1\0\0\1\0\0\0\0\0\0\1a\7Example\3com\0\0\1\0\1", 31));
  EXPECT_EQ(DnsQuery(0, "a.Example.com"), DnsQuery(0, "a.Example.com."));
}

TEST(DnsMessage, WhatIsAnAnswer) {
  const std::string query = DnsQuery(0x1234, "www.example.com");
  const std::string good = DnsAnswer(query, kNoError);
  EXPECT_EQ(DnsResponseCode(query, good), 0);
  EXPECT_EQ(DnsResponseCode(query, DnsAnswer(query, kNoError, 0)), 0);
  EXPECT_EQ(DnsResponseCode(query, DnsAnswer(query, kNoError, 100)), 0);
  EXPECT_EQ(DnsResponseCode(query, DnsAnswer(query, kTruncated)), 0);
  EXPECT_EQ(DnsResponseCode(query, DnsAnswer(query, kNxDomain, 0)), 3);
  EXPECT_EQ(DnsResponseCode(DnsQuery(7, "WWW.example.com"), With(With(good, 0, 0), 1, 7)), 0)
      << "names have no case";
  // An error may come without the question, and only an error.
  const std::string header = With(query.substr(0, 12), 5, 0);
  EXPECT_EQ(DnsResponseCode(query, With(With(header, 2, '\x81'), 3, '\x81')), 1);
  EXPECT_EQ(DnsResponseCode(query, With(With(header, 2, '\x81'), 3, '\x80')), std::nullopt);

  EXPECT_EQ(DnsResponseCode(query, query), std::nullopt) << "no response";
  EXPECT_EQ(DnsResponseCode(query, DnsAnswer(query, 0xa180)), std::nullopt) << "of another opcode";
  EXPECT_EQ(DnsResponseCode(query, With(good, 0, 0)), std::nullopt) << "another id";
  EXPECT_EQ(DnsResponseCode(query, With(good, 13, 'x')), std::nullopt) << "another name";
  EXPECT_EQ(DnsResponseCode(query, With(good, 30, 28)), std::nullopt) << "another type";
  EXPECT_EQ(DnsResponseCode(query, With(good, 5, 2)), std::nullopt) << "two questions";
  EXPECT_EQ(DnsResponseCode(query, With(good, 33, '\x80')), std::nullopt) << "no kind of label";
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_EQ(DnsResponseCode(query, good.substr(0, size)), std::nullopt) << size << " bytes";
  }
}

TEST(DnsMessage, NamesOfResponseCodes) {
  EXPECT_EQ(DnsResponseCodeName(0), "NOERROR");
  EXPECT_EQ(DnsResponseCodeName(10), "NOTZONE");
  EXPECT_EQ(DnsResponseCodeName(15), "15");
}

TEST_F(DatagramProberTest, DnsIsWellWhenTheAnswerHasNoError) {
  struct {
    uint16_t flags;
    int records;
    const char* reason;
  } rows[] = {
      {kNoError, 1, "ok"},
      {kNoError, 0, "ok"},  // the name is there, it has no address
      {kTruncated, 1, "ok"},
      {kNxDomain, 0, "rcode NXDOMAIN"},
      {kServFail, 0, "rcode SERVFAIL"},
      {kRefused, 0, "rcode REFUSED"},
  };
  for (const auto& row : rows) {
    const ProbeAnswer answer = AskDns([&](const std::string& query) -> Datagrams {
      return {DnsAnswer(query, row.flags, row.records)};
    });
    EXPECT_EQ(answer.reason, row.reason);
    EXPECT_EQ(answer.kind == ProbeAnswer::Kind::kOk, answer.reason == "ok");
  }
}

TEST_F(DatagramProberTest, WhatIsNoDnsAnswerIsPassedOver) {
  const auto junk = [](const std::string& query) -> Datagrams {
    const std::string good = DnsAnswer(query, kNxDomain);
    return {"",
            "garbage",
            query,
            With(good, 0, static_cast<char>(good[0] + 1)),
            good.substr(0, good.size() - 1),
            std::string(60000, '\xff')};
  };
  ExpectFailed(AskDns(junk, kShort), "timeout after 50ms");
  EXPECT_EQ(AskDns([&](const std::string& query) {
              Datagrams all = junk(query);
              for (int i = 0; i < 5; ++i) all.insert(all.end(), {"x", "y", "z", "0"});
              all.push_back(DnsAnswer(query, kNoError));
              return all;
            }).reason,
            "ok");
}

TEST_F(DatagramProberTest, AnswersFromElsewhereAreNotReceived) {
  udp::socket elsewhere(io_, {asio::ip::address_v4::loopback(), 0});
  DatagramServer* server = nullptr;
  DatagramServer silent(io_, [&](const std::string& query) {
    elsewhere.send_to(asio::buffer(DnsAnswer(query, kNoError)), server->client());
    return Datagrams();
  });
  server = &silent;
  ExpectFailed(Ask(Question(ProbeQuestion::Dns{"a.example"}, silent.port()), kShort),
               "timeout after 50ms");
}

TEST_F(DatagramProberTest, IdsAndPortsAreNotToBeGuessed) {
  std::set<std::string> ids;
  std::set<uint16_t> ports;
  DatagramServer* server = nullptr;
  DatagramServer counting(io_, [&](const std::string& query) -> Datagrams {
    ids.insert(query.substr(0, 2));
    ports.insert(server->client().port());
    return {DnsAnswer(query, kNoError)};
  });
  server = &counting;
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(Ask(Question(ProbeQuestion::Dns{"a.example"}, counting.port())).reason, "ok");
  }
  EXPECT_GT(ids.size(), 40u);
  EXPECT_GT(ports.size(), 40u);
}

TEST_F(DatagramProberTest, UdpIsWellWhenTheAnswerBeginsAsExpected) {
  const auto echo = [](const std::string& request) -> Datagrams { return {"re: " + request}; };
  EXPECT_EQ(AskUdp("ping", "re: ping", echo).reason, "ok");
  EXPECT_EQ(AskUdp("ping", "re:", echo).reason, "ok");
  EXPECT_EQ(AskUdp("ping", "", echo).reason, "ok");
  EXPECT_EQ(AskUdp("", "re: ", echo).reason, "ok") << "nothing is sent as an empty datagram";
  EXPECT_EQ(AskUdp("x", "", [](const std::string&) -> Datagrams { return {""}; }).reason, "ok");
  ExpectFailed(AskUdp("ping", "re: pong", echo), "unexpected answer");
  ExpectFailed(AskUdp("ping", "re: ping and more", echo), "unexpected answer");
  EXPECT_EQ(AskUdp("x", std::string(1024, 'e'),
                   [](const std::string&) -> Datagrams { return {std::string(60000, 'e')}; })
                .reason,
            "ok");
  EXPECT_EQ(AskUdp(std::string("\0\xff\n", 3), std::string("re: \0\xff\n", 7), echo).reason, "ok");
}

TEST_F(DatagramProberTest, SilenceAndRefusal) {
  const auto silent = [](const std::string&) { return Datagrams(); };
  ExpectFailed(AskUdp("x", "", silent, kShort), "timeout after 50ms");
  ExpectFailed(AskDns(silent, kShort), "timeout after 50ms");
  uint16_t port;
  {
    DatagramServer gone(io_, silent);
    port = gone.port();
  }
  ExpectFailed(Ask(Question(ProbeQuestion::Udp(), port)), "connection refused");
  ExpectFailed(Ask(Question(ProbeQuestion::Dns{"a.example"}, port)), "connection refused");
}

TEST_F(DatagramProberTest, OverIpv6) {
  const asio::ip::address loopback = asio::ip::address_v6::loopback();
  boost::system::error_code e;
  udp::socket(io_, udp::v6()).bind({loopback, 0}, e);
  if (e) GTEST_SKIP() << "this host has no ::1: " << e.message();
  DatagramServer server(
      io_, [](const std::string& query) -> Datagrams { return {DnsAnswer(query, kNoError)}; },
      loopback);
  EXPECT_EQ(Ask(Question(ProbeQuestion::Dns{"a.example"}, server.port(), "::1")).reason, "ok");
}

// The answer comes between the moment when the loop looks for answers and that when it judges the
// deadline, which is long over: it is read all the same.
TEST_F(DatagramProberTest, AStallOfTheLoopIsNotTheBackendsFault) {
  std::optional<DatagramServer> server;
  server.emplace(io_, [&](const std::string&) -> Datagrams {
    asio::post(io_, [&] { server->socket().send_to(asio::buffer("y", 1), server->client()); });
    return {};
  });
  asio::post(io_, [] { std::this_thread::sleep_for(std::chrono::milliseconds(120)); });
  EXPECT_EQ(Ask(Question(ProbeQuestion::Udp{"x", ""}, server->port()), kShort).reason, "ok");
}

TEST_F(DatagramProberTest, ItsOwnShortageIsNotTheBackendsFault) {
  const ProbeQuestion question = Question(ProbeQuestion::Udp(), 7);
  ASSERT_NE(Ask(question, kShort).kind, ProbeAnswer::Kind::kNotAsked);
  rlimit before;
  getrlimit(RLIMIT_NOFILE, &before);
  rlimit none = before;
  none.rlim_cur = 0;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const ProbeAnswer answer = Ask(question);
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_EQ(answer.kind, ProbeAnswer::Kind::kNotAsked);
  EXPECT_THAT(answer.reason, HasSubstr("could not ask"));
}

}  // namespace
}  // namespace guideway::testing
