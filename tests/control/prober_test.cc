// TCP and HTTP, and what holds for every kind of probe.
#include "control/prober.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <boost/asio/post.hpp>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "tests/support/prober_fixture.h"

namespace guideway::testing {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using ::testing::HasSubstr;

class ProberTest : public ProberFixture {
 protected:
  static ProbeQuestion Http(uint16_t port) { return Question(Healthz(), port); }
  ProbeAnswer AskHttp(Server::Behaviour behaviour, absl::Duration timeout) {
    Server server(io_, std::move(behaviour));
    return Ask(Http(server.port()), timeout);
  }
};

TEST(ProbeQuestion, IsAValue) {
  using Http = ProbeQuestion::Http;
  const auto http = [](Http::Security security, const char* host, const char* path) {
    Http what;
    what.security = security;
    what.host = host;
    what.path = path;
    return what;
  };
  const std::vector<decltype(ProbeQuestion::what)> kinds = {
      ProbeQuestion::Tcp(),
      http(Http::Security::kNone, "a", "/"),
      http(Http::Security::kTls, "a", "/"),
      http(Http::Security::kTlsVerified, "a", "/"),
      http(Http::Security::kTls, "b", "/"),
      http(Http::Security::kTls, "a", "/b"),
      ProbeQuestion::Dns{"a"},
      ProbeQuestion::Dns{"b"},
      ProbeQuestion::Icmp(),
      ProbeQuestion::Udp{"a", ""},
      ProbeQuestion::Udp{"", "a"},
  };
  std::vector<ProbeQuestion> questions;
  for (const auto& what : kinds) {
    for (uint16_t port : {80, 81}) {
      ProbeQuestion& q = questions.emplace_back();
      q.address = IpAddress::Parse("192.0.2.1").value();
      q.port = port;
      q.what = what;
    }
  }
  std::set<size_t> hashes;
  for (size_t i = 0; i < questions.size(); ++i) {
    for (size_t j = 0; j < questions.size(); ++j) {
      EXPECT_EQ(questions[i] == questions[j], i == j) << i << " and " << j;
    }
    EXPECT_EQ(absl::Hash<ProbeQuestion>()(questions[i]),
              absl::Hash<ProbeQuestion>()(ProbeQuestion(questions[i])));
    hashes.insert(absl::Hash<ProbeQuestion>()(questions[i]));
  }
  EXPECT_EQ(hashes.size(), questions.size());
}

TEST_F(ProberTest, TcpIsWellWhenItConnects) {
  Server server(io_, {});
  const ProbeAnswer answer = Ask(Question(ProbeQuestion::Tcp(), server.port()), kLong);
  EXPECT_EQ(answer.kind, ProbeAnswer::Kind::kOk);
  EXPECT_EQ(answer.reason, "ok");
}

TEST_F(ProberTest, OverIpv6) {
  const asio::ip::address loopback = asio::ip::address_v6::loopback();
  error_code e;
  tcp::acceptor acceptor(io_);
  acceptor.open(tcp::v6(), e);
  if (!e) acceptor.bind({loopback, 0}, e);
  if (e) GTEST_SKIP() << "this host has no ::1: " << e.message();
  const auto over_v6 = [](ProbeQuestion question) {
    question.address = IpAddress::Parse("::1").value();
    return question;
  };
  Server web(io_, {.answer = "HTTP/1.1 204 No Content\r\n\r\n"}, loopback);
  EXPECT_EQ(Ask(over_v6(Http(web.port())), kLong).kind, ProbeAnswer::Kind::kOk);
  EXPECT_THAT(web.received, HasSubstr(absl::StrCat("\r\nHost: [::1]:", web.port(), "\r\n")));

  Server any(io_, {}, loopback);
  EXPECT_EQ(Ask(over_v6(Question(ProbeQuestion::Tcp(), any.port())), kLong).kind,
            ProbeAnswer::Kind::kOk);

  // Bound, and nobody listens.
  const uint16_t port = acceptor.local_endpoint().port();
  ExpectFailed(Ask(over_v6(Question(ProbeQuestion::Tcp(), port)), kLong), "connection refused");
}

TEST_F(ProberTest, Refused) {
  uint16_t port;
  {
    Server gone(io_, {});
    port = gone.port();
  }
  ExpectFailed(Ask(Question(ProbeQuestion::Tcp(), port), kLong), "connection refused");
  ExpectFailed(Ask(Http(port), kLong), "connection refused");
}

TEST_F(ProberTest, HttpStatusIsInTheRangeOrNot) {
  struct {
    const char* answer;
    const char* reason;
  } rows[] = {
      {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok"},
      {"HTTP/1.0 204 No Content\r\n\r\n", "ok"},
      {"HTTP/1.1 299 Odd\r\n\r\n", "ok"},
      {"HTTP/1.1 300 Choices\r\nContent-Length: 0\r\n\r\n", "status 300"},
      {"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "status 503"},
      // The head decides; the body need not come.
      {"HTTP/1.1 200 OK\r\nContent-Length: 8388609\r\n\r\nsome", "ok"},
      // Interim answers are not the answer.
      {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "ok"},
      {"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 103 More\r\n\r\n"
       "HTTP/1.1 503 Busy\r\n\r\n",
       "status 503"},
      {"HTTP/1.1 100 Continue\r\n\r\n", "closed without an answer"},
      // Nothing where the reason phrase would be, and no space before it.
      {"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "ok"},
      {"HTTP/1.0 503\r\n\r\n", "status 503"},
      {"HTTP/1.1 100\r\n\r\nHTTP/1.1 200\r\n\r\n", "ok"},
      {"HTTP/1.1 20\r\n\r\n", "not an HTTP answer"},
      {"HTTP/1.1 2000\r\n\r\n", "not an HTTP answer"},
  };
  for (const auto& row : rows) EXPECT_EQ(AskHttp({row.answer}, kLong).reason, row.reason);
}

TEST_F(ProberTest, TheRequestIsWhatTheFileSays) {
  Server server(io_, {"HTTP/1.1 200 OK\r\n\r\n"});
  ProbeQuestion question = Http(server.port());
  std::get<ProbeQuestion::Http>(question.what).host = "www.example.com";
  Ask(question, kLong);
  EXPECT_THAT(server.received, ::testing::StartsWith("GET /healthz HTTP/1.1\r\n"));
  EXPECT_THAT(server.received, HasSubstr("\r\nHost: www.example.com\r\n"));
  EXPECT_THAT(server.received, HasSubstr("\r\nConnection: close\r\n"));
  EXPECT_THAT(server.received, ::testing::EndsWith("\r\n\r\n"));

  Server other(io_, {"HTTP/1.1 200 OK\r\n\r\n"});
  Ask(Http(other.port()), kLong);
  EXPECT_THAT(other.received,
              HasSubstr("\r\nHost: 127.0.0.1:" + std::to_string(other.port()) + "\r\n"));
}

TEST_F(ProberTest, WhatIsNoHttpAnswer) {
  ExpectFailed(AskHttp({"SSH-2.0-OpenSSH_9.2\r\n"}, kLong), "not an HTTP answer");
  ExpectFailed(AskHttp({std::string("\0\xff\x01garbage\r\n\r\n", 13)}, kLong),
               "not an HTTP answer");
  ExpectFailed(AskHttp({""}, kLong), "closed without an answer");
  ExpectFailed(AskHttp({"HTTP/1.1 200 OK\r\nX-Cut: of"}, kLong), "closed without an answer");
}

TEST_F(ProberTest, AnEndlessHeadIsCutOff) {
  ExpectFailed(AskHttp({.answer = "HTTP/1.1 200 OK\r\nX: " + std::string(100000, 'x')}, kLong),
               "head of the answer over 8192 bytes");
  // Line by line, for ever: the first is no status line, so it starts with one that is.
  EXPECT_EQ(AskHttp({.answer = "HTTP/1.1 200 OK\r\n", .endless = true}, kLong).kind,
            ProbeAnswer::Kind::kFailed);
  // Interim answers count together.
  ExpectFailed(AskHttp({.answer = "HTTP/1.1 103 Early Hints\r\n\r\n", .endless = true}, kLong),
               "head of the answer over 8192 bytes");
}

TEST_F(ProberTest, SilenceTimesOut) {
  ExpectFailed(AskHttp({.answer = "", .close = false}, kShort), "timeout after 50ms");
  ExpectFailed(AskHttp({.answer = "HTTP/1.1 200 OK\r\n", .close = false}, kShort),
               "timeout after 50ms");
}

// An answer that waits to be read is read before the deadline is judged, though it is long over.
TEST_F(ProberTest, AStallOfTheLoopIsNotTheBackendsFault) {
  Server server(io_, {"HTTP/1.1 200 OK\r\n\r\n"});
  asio::post(io_, [] { std::this_thread::sleep_for(std::chrono::milliseconds(120)); });
  EXPECT_EQ(Ask(Http(server.port()), kShort).reason, "ok");
}

TEST_F(ProberTest, ItsOwnShortageIsNotTheBackendsFault) {
  Server server(io_, {});
  // A process that may open no more files.
  rlimit before;
  getrlimit(RLIMIT_NOFILE, &before);
  rlimit none = before;
  none.rlim_cur = 0;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const ProbeAnswer answer = Ask(Http(server.port()), kLong);
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_EQ(answer.kind, ProbeAnswer::Kind::kNotAsked);
  EXPECT_THAT(answer.reason, HasSubstr("could not ask"));
}

TEST_F(ProberTest, ManyAtOnceAreToldApart) {
  Server good(io_, {"HTTP/1.1 200 OK\r\n\r\n"}), bad(io_, {"HTTP/1.1 500 Oops\r\n\r\n"});
  std::string good_reason, bad_reason;
  int left = 2;
  const auto done = [&](std::string* into) {
    return [&left, into, this](ProbeAnswer a) {
      *into = a.reason;
      if (--left == 0) io_.stop();
    };
  };
  prober_->Ask(Http(good.port()), kLong, done(&good_reason));
  prober_->Ask(Http(bad.port()), kLong, done(&bad_reason));
  io_.run();
  EXPECT_EQ(good_reason, "ok");
  EXPECT_EQ(bad_reason, "status 500");
}

}  // namespace
}  // namespace guideway::testing
