// Servers on loopback ports and a prober, all on one io_context: what the tests of every kind of
// probe share.
#ifndef GUIDEWAY_TESTS_SUPPORT_PROBER_FIXTURE_H_
#define GUIDEWAY_TESTS_SUPPORT_PROBER_FIXTURE_H_

#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/write.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "control/prober.h"

namespace guideway::testing {

inline constexpr absl::Duration kLong = absl::Seconds(60);
inline constexpr absl::Duration kShort = absl::Milliseconds(50);

// TCP: after the first bytes of a request it sends what the test says, and closes or does not.
class Server {
 public:
  struct Behaviour {
    std::string answer;
    bool close = true;  // after the answer
    bool wait_for_request = true;
    bool endless = false;  // sends `answer` again and again
  };

  Server(boost::asio::io_context& io, Behaviour behaviour,
         boost::asio::ip::address address = boost::asio::ip::address_v4::loopback())
      : behaviour_(std::move(behaviour)),
        acceptor_(io, boost::asio::ip::tcp::endpoint(address, 0)) {
    acceptor_.async_accept(
        [this](boost::system::error_code e, boost::asio::ip::tcp::socket socket) {
          if (e) return;
          socket_.emplace(std::move(socket));
          if (!behaviour_.wait_for_request) return Send();
          socket_->async_read_some(boost::asio::buffer(request_),
                                   [this](boost::system::error_code e, size_t n) {
                                     received.assign(request_, n);
                                     if (!e) Send();
                                   });
        });
  }

  uint16_t port() const { return acceptor_.local_endpoint().port(); }

  std::string received;

 private:
  void Send() {
    boost::asio::async_write(*socket_, boost::asio::buffer(behaviour_.answer),
                             [this](boost::system::error_code e, size_t) {
                               if (e) return;
                               if (behaviour_.endless) return Send();
                               if (behaviour_.close) {
                                 boost::system::error_code ignored;
                                 socket_->shutdown(boost::asio::ip::tcp::socket::shutdown_send,
                                                   ignored);
                               }
                             });
  }

  const Behaviour behaviour_;
  boost::asio::ip::tcp::acceptor acceptor_;
  std::optional<boost::asio::ip::tcp::socket> socket_;
  char request_[4096];
};

// UDP: answers each datagram with those that `answer` makes of it.
class DatagramServer {
 public:
  using Answer = std::function<std::vector<std::string>(const std::string& request)>;

  DatagramServer(boost::asio::io_context& io, Answer answer,
                 boost::asio::ip::address address = boost::asio::ip::address_v4::loopback())
      : answer_(std::move(answer)), socket_(io, {address, 0}) {
    Receive();
  }

  uint16_t port() const { return socket_.local_endpoint().port(); }
  boost::asio::ip::udp::socket& socket() { return socket_; }
  const boost::asio::ip::udp::endpoint& client() const { return client_; }

 private:
  void Receive() {
    socket_.async_receive_from(
        boost::asio::buffer(request_), client_, [this](boost::system::error_code e, size_t size) {
          if (e) return;
          for (const std::string& answer : answer_(std::string(request_, size))) {
            socket_.send_to(boost::asio::buffer(answer), client_);
          }
          Receive();
        });
  }

  const Answer answer_;
  boost::asio::ip::udp::socket socket_;
  boost::asio::ip::udp::endpoint client_;
  char request_[4096];
};

class ProberFixture : public ::testing::Test {
 protected:
  static ProbeQuestion Question(decltype(ProbeQuestion::what) what, uint16_t port,
                                const char* address = "127.0.0.1") {
    ProbeQuestion q;
    q.address = IpAddress::Parse(absl::string_view(address)).value();
    q.port = port;
    q.what = std::move(what);
    return q;
  }
  static ProbeQuestion::Http Healthz() {
    ProbeQuestion::Http http;
    http.path = "/healthz";
    return http;
  }

  ProbeAnswer Ask(const ProbeQuestion& question, absl::Duration timeout = kLong) {
    std::optional<ProbeAnswer> answer;
    prober_->Ask(question, timeout, [&](ProbeAnswer a) {
      EXPECT_FALSE(answer.has_value()) << "answered twice";
      answer = std::move(a);
      io_.stop();
    });
    EXPECT_FALSE(answer.has_value()) << "answered from within the call";
    io_.restart();
    io_.run();
    return answer.value_or(ProbeAnswer{ProbeAnswer::Kind::kNotAsked, "no answer"});
  }

  boost::asio::io_context io_;
  std::unique_ptr<Prober> prober_ = NewProber(io_);
};

inline void ExpectFailed(const ProbeAnswer& answer, const std::string& reason) {
  EXPECT_EQ(answer.kind, ProbeAnswer::Kind::kFailed);
  EXPECT_EQ(answer.reason, reason);
}

}  // namespace guideway::testing

#endif  // GUIDEWAY_TESTS_SUPPORT_PROBER_FIXTURE_H_
