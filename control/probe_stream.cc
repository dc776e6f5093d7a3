// Probes over TCP: does it connect, does it speak HTTP, over TLS or not.
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/buffers_to_string.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "control/probe.h"

namespace guideway {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;

class TcpProbe : public Probe {
 public:
  explicit TcpProbe(Order order)
      : Probe(std::move(order)),
        endpoint_(ToAsio(order.question.address), order.question.port),
        socket_(order.io) {}

 protected:
  virtual void Connected() { Succeed(); }

  tcp::socket& socket() { return socket_; }

 private:
  error_code Ask() final {
    error_code e;
    socket_.open(endpoint_.protocol(), e);
    if (e) return e;
    socket_.async_connect(endpoint_, [this, self = shared_from_this()](error_code e) {
      if (finished()) return;
      connected_ = true;
      if (e) return Fail(e);
      Connected();
    });
    return e;
  }

  // By a reset: thousands of probes a second would fill the host with sockets in TIME_WAIT.
  void Stop() final {
    error_code ignored;
    if (connected_) socket_.set_option(asio::socket_base::linger(true, 0), ignored);
    socket_.close(ignored);
  }

  bool AnswerWaits() final {
    return IsReady(socket_.native_handle(), connected_ ? POLLIN : POLLOUT);
  }

  const tcp::endpoint endpoint_;
  tcp::socket socket_;
  bool connected_ = false;
};

// Over the socket alone, or over a TLS stream on it.
class HttpProbe : public TcpProbe {
 public:
  HttpProbe(Order order, const ProbeQuestion::Http& what)
      : TcpProbe(std::move(order)),
        request_(RequestText(order.question, what)),
        status_low_(what.status_low),
        status_high_(what.status_high) {}

 protected:
  void Connected() override { SendRequest(socket()); }

  template <typename Stream>
  void SendRequest(Stream& stream) {
    asio::async_write(stream, asio::buffer(request_),
                      [this, &stream, self = shared_from_this()](error_code e, size_t) {
                        if (finished()) return;
                        if (e) return Fail(e);
                        ReadHead(stream);
                      });
  }

 private:
  static std::string RequestText(const ProbeQuestion& q, const ProbeQuestion::Http& what) {
    std::string host = what.host;
    if (host.empty()) {
      const int usual = what.security == ProbeQuestion::Http::Security::kNone ? 80 : 443;
      host =
          q.address.is_v6() ? absl::StrCat("[", q.address.ToString(), "]") : q.address.ToString();
      if (q.port != usual) absl::StrAppend(&host, ":", q.port);
    }
    return absl::StrCat("GET ", what.path, " HTTP/1.1\r\nHost: ", host,
                        "\r\nUser-Agent: guideway\r\nAccept: */*\r\nConnection: close\r\n\r\n");
  }

  template <typename Stream>
  void ReadHead(Stream& stream) {
    parser_.emplace();
    parser_->header_limit(static_cast<uint32_t>(head_left_));
    parser_->body_limit(std::numeric_limits<uint64_t>::max());  // none of it is read
    http::async_read_header(stream, buffer_, *parser_,
                            [this, &stream, self = shared_from_this()](error_code e, size_t size) {
                              if (finished()) return;
                              if (e && MendStatusLine()) return ReadHead(stream);
                              if (e) return Fail(e);
                              const unsigned status = parser_->get().result_int();
                              if (status >= 200) return Judge(status);
                              // Interim: the answer is still to come.
                              head_left_ -= size;
                              ReadHead(stream);
                            });
  }

  // The space before the reason phrase is required where there is none, too (RFC 9112, section 4),
  // and yet some servers leave it out: «HTTP/1.1 200», and the end of the line. If that is what the
  // parser stumbled over, puts it in.
  bool MendStatusLine() {
    constexpr absl::string_view kLike = "HTTP/1.1 200\r";
    std::string head = beast::buffers_to_string(buffer_.data());
    if (head.size() < kLike.size() || head.size() >= kMaxProbeHead) return false;
    for (size_t i = 0; i < kLike.size(); ++i) {
      const auto is_digit = [](char c) {
        return absl::ascii_isdigit(static_cast<unsigned char>(c));
      };
      const bool may_differ = i >= 7 && is_digit(kLike[i]) && is_digit(head[i]);
      if (head[i] != kLike[i] && !may_differ) return false;
    }
    head.insert(kLike.size() - 1, " ");
    buffer_.clear();
    buffer_.commit(asio::buffer_copy(buffer_.prepare(head.size()), asio::buffer(head)));
    return true;
  }

  void Judge(unsigned status) {
    if (status >= status_low_ && status <= status_high_) return Succeed();
    Fail(absl::StrCat("status ", status));
  }

  const std::string request_;
  const uint16_t status_low_;
  const uint16_t status_high_;
  size_t head_left_ = kMaxProbeHead;  // bytes that the answer's head may still have
  beast::flat_buffer buffer_{kMaxProbeHead};
  std::optional<http::response_parser<http::empty_body>> parser_;
};

class HttpsProbe final : public HttpProbe {
 public:
  HttpsProbe(Order order, const ProbeQuestion::Http& what, asio::ssl::context& tls)
      : HttpProbe(std::move(order), what), stream_(socket(), tls) {
    SSL* ssl = stream_.native_handle();
    // A name may end in the root's dot, in a certificate and in SNI (RFC 6066) it does not.
    const bool is_address = IpAddress::Parse(absl::string_view(what.host)).ok();
    const std::string name(absl::StripSuffix(what.host, "."));
    if (!name.empty() && !is_address) SSL_set_tlsext_host_name(ssl, name.c_str());
    if (what.security != ProbeQuestion::Http::Security::kTlsVerified) return;
    SSL_set_verify(ssl, SSL_VERIFY_PEER, nullptr);
    if (name.empty() || is_address) {
      const std::string address = name.empty() ? order.question.address.ToString() : what.host;
      X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), address.c_str());
    } else {
      SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
      SSL_set1_host(ssl, name.c_str());
    }
  }

 private:
  void Connected() override {
    stream_.async_handshake(asio::ssl::stream_base::client,
                            [this, self = shared_from_this()](error_code e) {
                              if (finished()) return;
                              if (e) return HandshakeFailed(e);
                              SendRequest(stream_);
                            });
  }

  void HandshakeFailed(const error_code& e) {
    SSL* ssl = stream_.native_handle();
    const long verified = SSL_get_verify_result(ssl);
    if (SSL_get_verify_mode(ssl) == SSL_VERIFY_NONE || verified == X509_V_OK) return Fail(e);
    const char* why = X509_verify_cert_error_string(verified);
    Fail(absl::StartsWith(why, "certificate ") ? why : absl::StrCat("certificate: ", why));
  }

  asio::ssl::stream<tcp::socket&> stream_;
};

}  // namespace

std::shared_ptr<Probe> NewTcpProbe(Probe::Order order) {
  return std::make_shared<TcpProbe>(std::move(order));
}

std::shared_ptr<Probe> NewHttpProbe(Probe::Order order, const ProbeQuestion::Http& what) {
  return std::make_shared<HttpProbe>(std::move(order), what);
}

std::shared_ptr<Probe> NewHttpsProbe(Probe::Order order, const ProbeQuestion::Http& what,
                                     asio::ssl::context& tls) {
  return std::make_shared<HttpsProbe>(std::move(order), what, tls);
}

}  // namespace guideway
