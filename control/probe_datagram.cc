// Probes by a datagram over UDP: DNS, and any payload.
#include <poll.h>
#include <stdlib.h>

#include <boost/asio/error.hpp>
#include <boost/asio/ip/udp.hpp>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "control/dns_message.h"
#include "control/probe.h"

namespace guideway {
namespace {

namespace asio = boost::asio;
using asio::ip::udp;
using boost::system::error_code;

// Datagrams read in one go, before the loop gets to other things.
constexpr int kMaxReadsAtOnce = 16;

// Sends one datagram, and reads what this backend's port sends back until something is an answer.
class DatagramProbe : public Probe {
 public:
  DatagramProbe(Order order, std::string message)
      : Probe(std::move(order)),
        endpoint_(ToAsio(order.question.address), order.question.port),
        message_(std::move(message)),
        socket_(order.io) {}

 protected:
  // Succeeds, fails, or does nothing if it is no answer.
  virtual void Judge(absl::string_view datagram) = 0;

  absl::string_view message() const { return message_; }

 private:
  error_code Ask() final {
    error_code e;
    socket_.open(endpoint_.protocol(), e);
    if (!e) socket_.non_blocking(true, e);
    if (!e) socket_.connect(endpoint_, e);  // from here on nothing else is received, and ICMP is
    if (!e) socket_.send(asio::buffer(message_), 0, e);
    if (!e) Wait();
    return e;
  }

  void Wait() {
    socket_.async_wait(udp::socket::wait_read, [this, self = shared_from_this()](error_code e) {
      if (finished()) return;
      if (e) return Fail(e);
      Read();
    });
  }

  void Read() {
    char datagram[65536];
    for (int i = 0; i < kMaxReadsAtOnce; ++i) {
      error_code e;
      const size_t size = socket_.receive(asio::buffer(datagram), 0, e);
      if (e == asio::error::would_block) break;
      if (e) return Fail(e);
      Judge({datagram, size});
      if (finished()) return;
    }
    Wait();
  }

  void Stop() final {
    error_code ignored;
    socket_.close(ignored);
  }

  bool AnswerWaits() final { return IsReady(socket_.native_handle(), POLLIN); }

  const udp::endpoint endpoint_;
  const std::string message_;
  udp::socket socket_;
};

class DnsProbe final : public DatagramProbe {
 public:
  DnsProbe(Order order, const ProbeQuestion::Dns& what)
      : DatagramProbe(std::move(order), DnsQuery(static_cast<uint16_t>(arc4random()), what.name)) {}

 private:
  void Judge(absl::string_view datagram) override {
    const std::optional<int> code = DnsResponseCode(message(), datagram);
    if (!code.has_value()) return;
    if (*code == 0) return Succeed();
    Fail(absl::StrCat("rcode ", DnsResponseCodeName(*code)));
  }
};

class UdpProbe final : public DatagramProbe {
 public:
  UdpProbe(Order order, const ProbeQuestion::Udp& what)
      : DatagramProbe(std::move(order), what.send), expect_(what.expect) {}

 private:
  void Judge(absl::string_view datagram) override {
    if (absl::StartsWith(datagram, expect_)) return Succeed();
    Fail("unexpected answer");
  }

  const std::string expect_;
};

}  // namespace

std::shared_ptr<Probe> NewDnsProbe(Probe::Order order, const ProbeQuestion::Dns& what) {
  return std::make_shared<DnsProbe>(std::move(order), what);
}

std::shared_ptr<Probe> NewUdpProbe(Probe::Order order, const ProbeQuestion::Udp& what) {
  return std::make_shared<UdpProbe>(std::move(order), what);
}

}  // namespace guideway
