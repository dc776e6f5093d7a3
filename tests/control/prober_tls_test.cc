// HTTPS probes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <fstream>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/support/certificate.h"
#include "tests/support/prober_fixture.h"

namespace guideway::testing {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Security = ProbeQuestion::Http::Security;

// After the handshake and a request it sends `answer`, and closes or does not.
class TlsServer {
 public:
  TlsServer(asio::io_context& io, const Certificate& certificate, std::string answer,
            bool close = true)
      : acceptor_(io, {asio::ip::address_v4::loopback(), 0}) {
    SSL_CTX_use_certificate(context_.native_handle(), certificate.certificate.get());
    SSL_CTX_use_PrivateKey(context_.native_handle(), certificate.key.get());
    acceptor_.async_accept(
        [this, answer = std::move(answer), close](error_code e, tcp::socket socket) {
          if (e) return;
          session_ = std::make_shared<Session>(std::move(socket), context_, answer, close);
          session_->Serve();
        });
  }

  asio::ssl::context& context() { return context_; }
  uint16_t port() const { return acceptor_.local_endpoint().port(); }
  const std::string& received() const { return session_->received; }
  const std::string& server_name() const { return session_->server_name; }

 private:
  // Outlives the server if need be: what is under way in a TLS stream refers to it.
  struct Session : std::enable_shared_from_this<Session> {
    Session(tcp::socket socket, asio::ssl::context& context, std::string answer, bool close)
        : stream(std::move(socket), context), answer(std::move(answer)), close(close) {}

    void Serve() {
      stream.async_handshake(asio::ssl::stream_base::server,
                             [this, self = shared_from_this()](error_code e) {
                               if (!e) Read();
                             });
    }
    void Read() {
      const char* name = SSL_get_servername(stream.native_handle(), TLSEXT_NAMETYPE_host_name);
      server_name = name == nullptr ? "" : name;
      stream.async_read_some(asio::buffer(request),
                             [this, self = shared_from_this()](error_code e, size_t n) {
                               if (e) return;
                               received.assign(request, n);
                               Answer();
                             });
    }
    void Answer() {
      asio::async_write(stream, asio::buffer(answer),
                        [this, self = shared_from_this()](error_code e, size_t) {
                          error_code ignored;
                          if (!e && close)
                            stream.next_layer().shutdown(tcp::socket::shutdown_send, ignored);
                        });
    }

    asio::ssl::stream<tcp::socket> stream;
    const std::string answer;
    const bool close;
    char request[4096];
    std::string received;
    std::string server_name;
  };

  asio::ssl::context context_{asio::ssl::context::tls_server};
  tcp::acceptor acceptor_;
  std::shared_ptr<Session> session_;
};

class TlsProberTest : public ProberFixture {
 protected:
  // The system trusts `authority_` alone.
  TlsProberTest() {
    const std::string file = absl::StrCat(::testing::TempDir(), "/authorities.pem");
    std::ofstream(file) << authority_.Text();
    setenv("SSL_CERT_FILE", file.c_str(), 1);
  }

  ProbeQuestion Https(uint16_t port, Security security = Security::kTls, const char* host = "") {
    ProbeQuestion::Http what = Healthz();
    what.security = security;
    what.host = host;
    return Question(what, port);
  }
  ProbeAnswer AskVerified(const Certificate& certificate, const char* host) {
    TlsServer server(io_, certificate, "HTTP/1.1 200 OK\r\n\r\n");
    return Ask(Https(server.port(), Security::kTlsVerified, host));
  }
  ProbeAnswer AskPlain(Server::Behaviour behaviour, absl::Duration timeout = kLong) {
    Server server(io_, std::move(behaviour));
    return Ask(Https(server.port()), timeout);
  }

  const Certificate authority_ = MakeCertificate("", nullptr);
  const Certificate www_ = MakeCertificate("DNS:www.example.com", &authority_);
  const Certificate self_signed_ = MakeCertificate("DNS:www.example.com", nullptr);
};

TEST_F(TlsProberTest, TheStatusDecides) {
  struct {
    const char* answer;
    const char* reason;
  } rows[] = {
      {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok"},
      {"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "status 503"},
      {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", "ok"},
      {"HTTP/1.1 200 OK\r\nX-Cut: of", "closed without an answer"},
      {"SSH-2.0-OpenSSH_9.2\r\n", "not an HTTP answer"},
      {"", "closed without an answer"},
  };
  for (const auto& row : rows) {
    TlsServer server(io_, self_signed_, row.answer);
    EXPECT_EQ(Ask(Https(server.port())).reason, row.reason);
  }
}

TEST_F(TlsProberTest, TheRequestIsWhatTheFileSays) {
  TlsServer named(io_, www_, "HTTP/1.1 200 OK\r\n\r\n");
  EXPECT_EQ(Ask(Https(named.port(), Security::kTls, "www.example.com")).reason, "ok");
  EXPECT_THAT(named.received(), StartsWith("GET /healthz HTTP/1.1\r\nHost: www.example.com\r\n"));
  EXPECT_EQ(named.server_name(), "www.example.com");

  TlsServer plain(io_, www_, "HTTP/1.1 200 OK\r\n\r\n");
  EXPECT_EQ(Ask(Https(plain.port())).reason, "ok");
  EXPECT_THAT(plain.received(),
              HasSubstr(absl::StrCat("\r\nHost: 127.0.0.1:", plain.port(), "\r\n")));
  EXPECT_EQ(plain.server_name(), "") << "an address is no server name (RFC 6066)";

  TlsServer address(io_, www_, "HTTP/1.1 200 OK\r\n\r\n");
  EXPECT_EQ(Ask(Https(address.port(), Security::kTls, "192.0.2.7")).reason, "ok");
  EXPECT_THAT(address.received(), HasSubstr("\r\nHost: 192.0.2.7\r\n"));
  EXPECT_EQ(address.server_name(), "");
}

TEST_F(TlsProberTest, AVerifiedCertificateMustBeValidForTheHost) {
  EXPECT_EQ(AskVerified(www_, "www.example.com").reason, "ok");
  EXPECT_EQ(AskVerified(www_, "WWW.example.com.").reason, "ok");
  EXPECT_EQ(AskVerified(MakeCertificate("DNS:*.example.com", &authority_), "a.example.com").reason,
            "ok");
  EXPECT_EQ(AskVerified(MakeCertificate("IP:127.0.0.1", &authority_), "").reason, "ok");
  EXPECT_EQ(AskVerified(MakeCertificate("IP:192.0.2.7", &authority_), "192.0.2.7").reason, "ok");

  ExpectFailed(AskVerified(www_, "api.example.com"), "certificate: hostname mismatch");
  ExpectFailed(AskVerified(www_, ""), "certificate: IP address mismatch");
  ExpectFailed(AskVerified(MakeCertificate("DNS:127.0.0.1", &authority_), ""),
               "certificate: IP address mismatch");
  ExpectFailed(AskVerified(self_signed_, "www.example.com"),
               "certificate: self-signed certificate");
  ExpectFailed(
      AskVerified(MakeCertificate("DNS:www.example.com", &authority_, 0), "www.example.com"),
      "certificate has expired");
  const Certificate stranger = MakeCertificate("", nullptr);
  EXPECT_THAT(
      AskVerified(MakeCertificate("DNS:www.example.com", &stranger), "www.example.com").reason,
      StartsWith("certificate "));
}

TEST_F(TlsProberTest, WithoutVerifyAnyCertificateWillDo) {
  const Certificate odd = MakeCertificate("DNS:other.example", nullptr, 0);
  for (const char* host : {"", "www.example.com"}) {
    TlsServer server(io_, odd, "HTTP/1.1 200 OK\r\n\r\n");
    EXPECT_EQ(Ask(Https(server.port(), Security::kTls, host)).reason, "ok");
  }
}

TEST_F(TlsProberTest, WhatDoesNotSpeakTls) {
  EXPECT_THAT(AskPlain({"HTTP/1.1 400 Bad Request\r\n\r\n"}).reason, StartsWith("TLS: "));
  EXPECT_THAT(AskPlain({std::string(100000, '\x16')}).reason, StartsWith("TLS: "));
  EXPECT_THAT(AskPlain({.answer = std::string(1000, '\0'), .endless = true}).reason,
              StartsWith("TLS: "));
  ExpectFailed(AskPlain({""}), "closed without an answer");
  ExpectFailed(AskPlain({.answer = "", .close = false}, kShort), "timeout after 50ms");
  // A record that says it has 16 KiB, and never ends.
  ExpectFailed(AskPlain({.answer = std::string("\x16\3\3\x40\0", 5), .close = false}, kShort),
               "timeout after 50ms");
  uint16_t port;
  {
    Server gone(io_, {});
    port = gone.port();
  }
  ExpectFailed(Ask(Https(port)), "connection refused");
}

TEST_F(TlsProberTest, AServerThatWantsACertificateOfOurs) {
  TlsServer server(io_, www_, "HTTP/1.1 200 OK\r\n\r\n");
  server.context().set_verify_mode(asio::ssl::verify_peer | asio::ssl::verify_fail_if_no_peer_cert);
  const ProbeAnswer answer = Ask(Https(server.port()));
  EXPECT_EQ(answer.kind, ProbeAnswer::Kind::kFailed);
  EXPECT_THAT(answer.reason,
              AnyOf(HasSubstr("alert"), "closed without an answer", "connection reset"));
}

TEST_F(TlsProberTest, HugeAndSilentAnswers) {
  TlsServer huge(io_, www_, "HTTP/1.1 200 OK\r\nX: " + std::string(100000, 'x'));
  ExpectFailed(Ask(Https(huge.port())), "head of the answer over 8192 bytes");
  TlsServer silent(io_, www_, "HTTP/1.1 200 OK\r\n", false);
  ExpectFailed(Ask(Https(silent.port()), absl::Milliseconds(200)), "timeout after 200ms");
}

TEST_F(TlsProberTest, AStallOfTheLoopIsNotTheBackendsFault) {
  TlsServer server(io_, www_, "HTTP/1.1 200 OK\r\n\r\n");
  asio::post(io_, [] { std::this_thread::sleep_for(std::chrono::milliseconds(800)); });
  EXPECT_EQ(Ask(Https(server.port()), absl::Milliseconds(400)).reason, "ok");
}

}  // namespace
}  // namespace guideway::testing
