#include "control/prober.h"

#include <poll.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <chrono>
#include <limits>
#include <optional>

#include "absl/strings/str_cat.h"

namespace guideway {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;

// Later than this after its deadline, a probe was kept waiting by its own thread.
constexpr auto kOnTime = std::chrono::milliseconds(5);
// What a probe gets whose socket has something to read at its deadline.
constexpr auto kOneMoreRead = std::chrono::milliseconds(10);

tcp::endpoint EndpointOf(const IpAddress& address, uint16_t port) {
  if (address.is_v4()) {
    asio::ip::address_v4::bytes_type bytes;
    std::copy_n(address.bytes(), bytes.size(), bytes.begin());
    return {asio::ip::address_v4(bytes), port};
  }
  asio::ip::address_v6::bytes_type bytes;
  std::copy_n(address.bytes(), bytes.size(), bytes.begin());
  return {asio::ip::address_v6(bytes), port};
}

std::string RequestText(const ProbeQuestion& q) {
  std::string host = q.host;
  if (host.empty()) {
    host = q.address.is_v6() ? absl::StrCat("[", q.address.ToString(), "]") : q.address.ToString();
    if (q.port != 80) absl::StrAppend(&host, ":", q.port);
  }
  return absl::StrCat("GET ", q.path.empty() ? "/" : q.path, " HTTP/1.1\r\nHost: ", host,
                      "\r\nUser-Agent: guideway\r\nAccept: */*\r\nConnection: close\r\n\r\n");
}

// Errors that say something about this process, not about the backend.
bool IsOurs(const error_code& e) {
  return e == boost::system::errc::too_many_files_open ||
         e == boost::system::errc::too_many_files_open_in_system ||
         e == boost::system::errc::no_buffer_space || e == boost::system::errc::not_enough_memory ||
         e == boost::system::errc::address_not_available;
}

std::string Reason(const error_code& e) {
  if (e == asio::error::connection_refused) return "connection refused";
  if (e == asio::error::connection_reset || e == asio::error::broken_pipe) {
    return "connection reset";
  }
  if (e == asio::error::host_unreachable) return "no route to host";
  if (e == asio::error::network_unreachable) return "network unreachable";
  if (e == asio::error::eof || e == http::error::end_of_stream ||
      e == http::error::partial_message) {
    return "closed without an answer";
  }
  if (e == http::error::header_limit || e == http::error::buffer_overflow) {
    return absl::StrCat("head of the answer over ", kMaxProbeHead, " bytes");
  }
  if (e.category() == http::make_error_code(http::error::bad_version).category()) {
    return "not an HTTP answer";
  }
  return absl::StrCat(e.message());
}

// One question under way. Keeps itself alive through the handlers it has waiting.
class Probe : public std::enable_shared_from_this<Probe> {
 public:
  Probe(asio::io_context& io, const ProbeQuestion& question, absl::Duration timeout,
        Prober::Done done)
      : io_(io),
        question_(question),
        timeout_(timeout),
        done_(std::move(done)),
        socket_(io),
        timer_(io) {}

  void Start() {
    const tcp::endpoint endpoint = EndpointOf(question_.address, question_.port);
    error_code e;
    socket_.open(endpoint.protocol(), e);
    if (e) {
      asio::post(io_, [self = shared_from_this(), e] { self->Fail(e); });
      return;
    }
    deadline_ = Clock::now() + absl::ToChronoNanoseconds(timeout_);
    WaitForDeadline();
    socket_.async_connect(endpoint, [self = shared_from_this()](error_code e) {
      if (self->finished_) return;
      self->connected_ = true;
      if (e) return self->Fail(e);
      if (self->question_.kind == ProbeQuestion::Kind::kTcp) return self->Finish({});
      self->SendRequest();
    });
  }

 private:
  void SendRequest() {
    request_ = RequestText(question_);
    asio::async_write(socket_, asio::buffer(request_),
                      [self = shared_from_this()](error_code e, size_t) {
                        if (self->finished_) return;
                        if (e) return self->Fail(e);
                        self->ReadHead();
                      });
  }

  void ReadHead() {
    parser_.emplace();
    parser_->header_limit(static_cast<uint32_t>(head_left_));
    parser_->body_limit(std::numeric_limits<uint64_t>::max());  // none of it is read
    http::async_read_header(socket_, buffer_, *parser_,
                            [self = shared_from_this()](error_code e, size_t size) {
                              if (self->finished_) return;
                              if (e) return self->Fail(e);
                              const unsigned status = self->parser_->get().result_int();
                              if (status >= 200) return self->Judge(status);
                              // Interim: the answer is still to come.
                              self->head_left_ -= size;
                              self->ReadHead();
                            });
  }

  void Judge(unsigned status) {
    if (status >= question_.status_low && status <= question_.status_high) return Finish({});
    Finish({ProbeAnswer::Kind::kFailed, absl::StrCat("status ", status)});
  }

  void WaitForDeadline() {
    timer_.expires_at(deadline_);
    timer_.async_wait([self = shared_from_this()](error_code) {
      if (!self->finished_ && Clock::now() >= self->deadline_) self->Deadline();
    });
  }

  void Deadline() {
    const auto late = Clock::now() - deadline_;
    if (!extended_ && (late > kOnTime || SocketIsReady())) {
      extended_ = true;
      deadline_ = Clock::now() + std::max<Clock::duration>(late, kOneMoreRead);
      return WaitForDeadline();
    }
    Finish({ProbeAnswer::Kind::kFailed,
            absl::StrCat("timeout after ", absl::FormatDuration(timeout_))});
  }

  bool SocketIsReady() {
    const short events = connected_ ? POLLIN : POLLOUT;
    pollfd p = {.fd = socket_.native_handle(), .events = events, .revents = 0};
    return poll(&p, 1, 0) > 0;
  }

  void Fail(const error_code& e) {
    if (IsOurs(e)) {
      return Finish({ProbeAnswer::Kind::kNotAsked, absl::StrCat("could not ask: ", e.message())});
    }
    Finish({ProbeAnswer::Kind::kFailed, Reason(e)});
  }

  void Finish(ProbeAnswer answer) {
    finished_ = true;
    timer_.cancel();
    error_code ignored;
    socket_.close(ignored);
    std::exchange(done_, nullptr)(std::move(answer));
  }

  asio::io_context& io_;
  const ProbeQuestion question_;
  const absl::Duration timeout_;
  Prober::Done done_;
  tcp::socket socket_;
  asio::steady_timer timer_;
  Clock::time_point deadline_;
  bool connected_ = false;
  bool extended_ = false;  // past the first deadline, to the second and last
  bool finished_ = false;
  std::string request_;
  size_t head_left_ = kMaxProbeHead;  // bytes that the answer's head may still have
  beast::flat_buffer buffer_{kMaxProbeHead};
  std::optional<http::response_parser<http::empty_body>> parser_;
};

class NetworkProber final : public Prober {
 public:
  explicit NetworkProber(asio::io_context& io) : io_(io) {}

  void Ask(const ProbeQuestion& question, absl::Duration timeout, Done done) override {
    std::make_shared<Probe>(io_, question, timeout, std::move(done))->Start();
  }

 private:
  asio::io_context& io_;
};

}  // namespace

std::unique_ptr<Prober> NewProber(asio::io_context& io) {
  return std::make_unique<NetworkProber>(io);
}

}  // namespace guideway
