#include "control/probe.h"

#include <poll.h>

#include <algorithm>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/beast/http/error.hpp>
#include <utility>

#include "absl/strings/str_cat.h"

namespace guideway {
namespace {

namespace asio = boost::asio;
namespace errc = boost::system::errc;
namespace http = boost::beast::http;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;

// Later than this after its deadline, a probe was kept waiting by its own thread.
constexpr auto kOnTime = std::chrono::milliseconds(5);
// What a probe gets whose socket has something to read at its deadline.
constexpr auto kOneMoreRead = std::chrono::milliseconds(10);

// Errors that say something about this process and its host, not about the backend.
bool IsOurs(const error_code& e) {
  return e == errc::too_many_files_open || e == errc::too_many_files_open_in_system ||
         e == errc::no_buffer_space || e == errc::not_enough_memory ||
         e == errc::address_not_available || e == errc::address_family_not_supported ||
         e == errc::operation_not_permitted || e == errc::permission_denied ||
         e == errc::resource_unavailable_try_again;
}

std::string Reason(const error_code& e) {
  if (e == asio::error::connection_refused) return "connection refused";
  if (e == asio::error::connection_reset || e == asio::error::broken_pipe) {
    return "connection reset";
  }
  if (e == asio::error::host_unreachable) return "no route to host";
  if (e == asio::error::network_unreachable) return "network unreachable";
  if (e == asio::error::eof || e == asio::ssl::error::stream_truncated ||
      e == http::error::end_of_stream || e == http::error::partial_message) {
    return "closed without an answer";
  }
  if (e == http::error::header_limit || e == http::error::buffer_overflow) {
    return absl::StrCat("head of the answer over ", kMaxProbeHead, " bytes");
  }
  if (e.category() == http::make_error_code(http::error::bad_version).category()) {
    return "not an HTTP answer";
  }
  if (e.category() == asio::error::get_ssl_category()) return absl::StrCat("TLS: ", e.message());
  return e.message();
}

}  // namespace

Probe::Probe(Order order)
    : io_(order.io), timeout_(order.timeout), done_(std::move(order.done)), timer_(order.io) {}

void Probe::Start() {
  deadline_ = Clock::now() + absl::ToChronoNanoseconds(timeout_);
  if (const error_code e = Ask()) {
    asio::post(io_, [self = shared_from_this(), e] { self->Fail(e); });
    return;
  }
  WaitForDeadline();
}

void Probe::WaitForDeadline() {
  timer_.expires_at(deadline_);
  timer_.async_wait([self = shared_from_this()](error_code) {
    if (!self->finished_ && Clock::now() >= self->deadline_) self->Deadline();
  });
}

void Probe::Deadline() {
  const auto late = Clock::now() - deadline_;
  if (!extended_ && (late > kOnTime || AnswerWaits())) {
    extended_ = true;
    deadline_ = Clock::now() + std::max<Clock::duration>(late, kOneMoreRead);
    return WaitForDeadline();
  }
  Fail(absl::StrCat("timeout after ", absl::FormatDuration(timeout_)));
}

void Probe::Fail(const error_code& e) {
  if (IsOurs(e)) {
    return Finish({ProbeAnswer::Kind::kNotAsked, absl::StrCat("could not ask: ", e.message())});
  }
  Fail(Reason(e));
}

void Probe::Finish(ProbeAnswer answer) {
  finished_ = true;
  timer_.cancel();
  Stop();
  std::exchange(done_, nullptr)(std::move(answer));
}

bool IsReady(int descriptor, short events) {
  pollfd p = {.fd = descriptor, .events = events, .revents = 0};
  return poll(&p, 1, 0) > 0;
}

asio::ip::address ToAsio(const IpAddress& address) {
  if (address.is_v4()) {
    asio::ip::address_v4::bytes_type bytes;
    std::copy_n(address.bytes(), bytes.size(), bytes.begin());
    return asio::ip::address_v4(bytes);
  }
  asio::ip::address_v6::bytes_type bytes;
  std::copy_n(address.bytes(), bytes.size(), bytes.begin());
  return asio::ip::address_v6(bytes);
}

}  // namespace guideway
